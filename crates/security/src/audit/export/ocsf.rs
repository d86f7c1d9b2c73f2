//! OCSF: the classes of schema 1.3.0 (<https://schema.ocsf.io/1.3.0/>), one JSON object a line.

use serde_json::{Map, Value, json};

use super::{PRODUCT, VENDOR, VERSION, severity_of};
use crate::audit::event::{AuditEvent, Outcome};
use crate::audit::record::{AuditRecord, LOGGER};

const SCHEMA: &str = "1.3.0";

/// The classes in use: category times 1000 and class.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    Authentication = 3002,
    EntityManagement = 3004,
    ApplicationLifecycle = 6002,
    ApiActivity = 6003,
}

/// The record as an event of its class.
pub(super) fn event(record: &AuditRecord) -> Value {
    let class = class_of(record.event);
    let class_uid = class as u32;
    let (activity_id, activity) = activity_of(record);
    let (severity_id, severity) = severity_of(record);
    let succeeded = record.outcome == Outcome::Success;
    let product = json!({ "vendor_name": VENDOR, "name": PRODUCT, "version": VERSION });
    let mut event = json!({
        "class_uid": class_uid,
        "category_uid": class_uid / 1000,
        "activity_id": activity_id,
        "activity_name": activity,
        "type_uid": u64::from(class_uid) * 100 + u64::from(activity_id),
        "time": record.time.as_millisecond(),
        "severity_id": severity_id,
        "severity": severity,
        "status_id": if succeeded { 1 } else { 2 },
        "status": if succeeded { "Success" } else { "Failure" },
        "status_code": record.status.map(|status| status.to_string()),
        "status_detail": record.detail,
        "message": format!("{} {}", record.event.as_str(), record.outcome.as_str()),
        "metadata": {
            "version": SCHEMA,
            "product": product,
            "log_name": LOGGER,
            "uid": record.hash,
            "sequence": record.seq,
            "correlation_uid": record.request_id,
            "event_code": record.event.as_str(),
            "original_time": format!("{:.6}", record.time),
        },
        "unmapped": {
            "outcome": record.outcome.as_str(),
            "action": record.action,
            "pipeline_id": record.pipeline_id,
            "run_id": record.run_id,
            "prev_hash": record.prev_hash,
        },
    });
    let user = user(record);
    let source = match record.ip {
        Some(ip) => json!({ "ip": ip.to_string() }),
        None => json!({ "name": "unknown" }),
    };
    let request = record.method.as_ref().map(
        |method| json!({ "http_method": method, "url": { "path": record.path }, "uid": record.request_id }),
    );
    let object = match event.as_object_mut() {
        Some(object) => object,
        None => return event,
    };
    let mut set = |name: &str, value: Value| object.insert(name.to_owned(), value);
    match class {
        Class::Authentication => {
            set("user", user);
            set("service", json!({ "name": PRODUCT }));
            set("is_remote", Value::Bool(true));
            if record.ip.is_some() {
                set("src_endpoint", source);
            }
            set("http_request", json!(request));
        }
        Class::ApiActivity => {
            set("actor", json!({ "user": user }));
            set(
                "api",
                json!({
                    "operation": record.action.as_deref().unwrap_or(record.event.as_str()),
                    "service": { "name": PRODUCT },
                    "request": record.request_id.as_ref().map(|id| json!({ "uid": id })),
                    "response": record.status.map(|status| json!({ "code": status })),
                }),
            );
            set("src_endpoint", source);
            set("http_request", json!(request));
            set("http_response", json!(record.status.map(|status| json!({ "code": status }))));
            set("resources", resources(record));
        }
        Class::EntityManagement => {
            set("actor", json!({ "user": user }));
            let (kind, name) = match record.event {
                AuditEvent::PipelineRegister => ("pipeline", record.pipeline_id.as_deref()),
                AuditEvent::ScheduleChange => ("schedule", record.pipeline_id.as_deref()),
                _ => ("security configuration", record.action.as_deref()),
            };
            set("entity", json!({ "type": kind, "name": name.unwrap_or(kind) }));
        }
        Class::ApplicationLifecycle => {
            set("app", json!({ "vendor_name": VENDOR, "name": PRODUCT, "version": VERSION }));
        }
    }
    without_nulls(&mut event);
    event
}

const fn class_of(event: AuditEvent) -> Class {
    match event {
        AuditEvent::AuthenticationSuccess | AuditEvent::AuthenticationFailure => Class::Authentication,
        AuditEvent::PipelineRegister | AuditEvent::ScheduleChange | AuditEvent::SecurityConfigChange => {
            Class::EntityManagement
        }
        AuditEvent::AuditStart | AuditEvent::AuditStop | AuditEvent::AuditGap => Class::ApplicationLifecycle,
        AuditEvent::AuthorizationDenied
        | AuditEvent::RateLimitExceeded
        | AuditEvent::PipelineRead
        | AuditEvent::PipelineExecute
        | AuditEvent::RunControl
        | AuditEvent::StoreBackup
        | AuditEvent::WebsocketConnect
        | AuditEvent::WebsocketSubscribe
        | AuditEvent::WebsocketDenied
        | AuditEvent::WebsocketClose => Class::ApiActivity,
    }
}

/// The activity by its number in the class, and its caption.
fn activity_of(record: &AuditRecord) -> (u32, &'static str) {
    match record.event {
        AuditEvent::AuthenticationSuccess | AuditEvent::AuthenticationFailure => (1, "Logon"),
        AuditEvent::AuditStart => (3, "Start"),
        AuditEvent::AuditStop => (4, "Stop"),
        AuditEvent::AuditGap => (99, "Audit gap"),
        AuditEvent::PipelineExecute | AuditEvent::StoreBackup => (1, "Create"),
        AuditEvent::RunControl | AuditEvent::SecurityConfigChange => by_method(record, (3, "Update")),
        AuditEvent::PipelineRegister | AuditEvent::ScheduleChange => by_method(record, (3, "Update")),
        AuditEvent::PipelineRead
        | AuditEvent::WebsocketConnect
        | AuditEvent::WebsocketSubscribe
        | AuditEvent::WebsocketDenied => (2, "Read"),
        AuditEvent::AuthorizationDenied | AuditEvent::RateLimitExceeded => by_method(record, (99, "Refused")),
        AuditEvent::WebsocketClose => (99, "Close"),
    }
}

fn by_method(record: &AuditRecord, otherwise: (u32, &'static str)) -> (u32, &'static str) {
    match record.method.as_deref() {
        Some("GET" | "HEAD") => (2, "Read"),
        Some("POST") if record.event == AuditEvent::RunControl => (3, "Update"),
        Some("POST") => (1, "Create"),
        Some("PUT" | "PATCH") => (3, "Update"),
        Some("DELETE") => (4, "Delete"),
        _ => otherwise,
    }
}

fn user(record: &AuditRecord) -> Value {
    match &record.principal {
        Some(principal) => json!({
            "name": principal.id,
            "uid": principal.id,
            "type": principal.kind,
            "type_id": 99,
            "domain": principal.issuer,
            "groups": principal.roles.iter().map(|role| json!({ "name": role })).collect::<Vec<_>>(),
        }),
        None => json!({ "name": "unknown", "type_id": 0 }),
    }
}

fn resources(record: &AuditRecord) -> Value {
    let resource = |kind: &str, id: &Option<String>| id.as_ref().map(|id| json!({ "type": kind, "uid": id }));
    let found: Vec<Value> = [resource("pipeline", &record.pipeline_id), resource("run", &record.run_id)]
        .into_iter()
        .flatten()
        .collect();
    if found.is_empty() { Value::Null } else { Value::Array(found) }
}

/// OCSF leaves out what is not known.
fn without_nulls(value: &mut Value) {
    if let Value::Object(object) = value {
        let kept: Map<String, Value> =
            std::mem::take(object).into_iter().filter(|(_, value)| !value.is_null()).collect();
        *object = kept;
        object.values_mut().for_each(without_nulls);
    }
}
