//! Records in the words of others: OCSF and CEF, for those who gather events of many systems.
//!
//! An export is a copy. The chain is in the JSON files; a line of an export names the record it is of by number and hash.
//!
//! OCSF: the classes of schema 1.3.0 (<https://schema.ocsf.io/1.3.0/>), one JSON object a line. CEF: version 0, one line
//! each, as ArcSight's "Common Event Format" guide describes it.

use std::fmt::Write as _;
use std::str::FromStr;

use serde_json::{Map, Value, json};

use super::chain::{Read, read};
use super::event::{AuditEvent, Outcome};
use super::record::{AuditRecord, LOGGER};
use super::safe_json::{is_control, to_safe_json};

const SCHEMA: &str = "1.3.0";
const VENDOR: &str = "TaskIQ-Flow";
const PRODUCT: &str = "taskiq-flow";
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// In whose words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExportFormat {
    /// Open Cybersecurity Schema Framework.
    Ocsf,
    /// Common Event Format.
    Cef,
}

/// A text that names no format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected ocsf or cef")]
pub struct UnknownFormat;

impl ExportFormat {
    /// How configuration names it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ocsf => "ocsf",
            Self::Cef => "cef",
        }
    }

    /// Lines of the log as lines of the export; what is no sound record is left out.
    pub(crate) fn convert(self, lines: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(lines.len() * 2);
        for line in lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            if let Read::Sound(record, _) = read(line) {
                out.extend_from_slice(self.line(&record).as_bytes());
                out.push(b'\n');
            }
        }
        out
    }

    /// One record as one line, without its end.
    pub fn line(self, record: &AuditRecord) -> String {
        match self {
            // Values always have a JSON form.
            Self::Ocsf => to_safe_json(&ocsf(record)).unwrap_or_default(),
            Self::Cef => cef(record),
        }
    }
}

impl FromStr for ExportFormat {
    type Err = UnknownFormat;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "ocsf" => Ok(Self::Ocsf),
            "cef" => Ok(Self::Cef),
            _ => Err(UnknownFormat),
        }
    }
}

/// The classes in use: category times 1000 and class.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    Authentication = 3002,
    EntityManagement = 3004,
    ApplicationLifecycle = 6002,
    ApiActivity = 6003,
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
        AuditEvent::PipelineExecute => (1, "Create"),
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

/// OCSF severity: 1 informational, 2 low, 3 medium, 4 high.
fn severity_of(record: &AuditRecord) -> (u32, &'static str) {
    match (record.event, record.outcome) {
        (AuditEvent::AuditGap, _) => (4, "High"),
        (AuditEvent::AuthenticationFailure, _) | (_, Outcome::Denied) => (3, "Medium"),
        (AuditEvent::SecurityConfigChange, _) | (_, Outcome::Failure | Outcome::Throttled) => (2, "Low"),
        (_, Outcome::Success) => (1, "Informational"),
    }
}

fn ocsf(record: &AuditRecord) -> Value {
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

fn cef(record: &AuditRecord) -> String {
    let severity = match severity_of(record).0 {
        1 => 1,
        2 => 4,
        3 => 6,
        _ => 8,
    };
    let mut line = format!("CEF:0|{VENDOR}|{PRODUCT}|{VERSION}|");
    let event = record.event.as_str();
    for field in [event, &format!("{event} {}", record.outcome.as_str())] {
        escape(&mut line, field, '|');
        line.push('|');
    }
    // Writing to a String cannot fail.
    _ = write!(line, "{severity}|rt={} externalId={}", record.time.as_millisecond(), record.seq);
    let ip = record.ip.map(|ip| ip.to_string());
    let status = record.status.map(|status| status.to_string());
    let principal = record.principal.as_ref();
    let roles = principal.map(|principal| principal.roles.join(","));
    let version6 = record.ip.is_some_and(|ip| ip.is_ipv6());
    let fields = [
        ("outcome", Some(record.outcome.as_str())),
        (if version6 { "c6a2" } else { "src" }, ip.as_deref()),
        ("c6a2Label", ip.as_deref().filter(|_| version6).map(|_| "Source IPv6 Address")),
        ("suser", principal.map(|principal| principal.id.as_str())),
        ("sntdom", principal.and_then(|principal| principal.issuer.as_deref())),
        ("spriv", roles.as_deref()),
        ("act", record.action.as_deref()),
        ("requestMethod", record.method.as_deref()),
        ("request", record.path.as_deref()),
        ("msg", record.detail.as_deref()),
        ("cs1", record.pipeline_id.as_deref()),
        ("cs1Label", record.pipeline_id.as_deref().map(|_| "pipelineId")),
        ("cs2", record.run_id.as_deref()),
        ("cs2Label", record.run_id.as_deref().map(|_| "runId")),
        ("cs3", record.request_id.as_deref()),
        ("cs3Label", record.request_id.as_deref().map(|_| "requestId")),
        ("cs4", principal.map(|principal| principal.kind.as_str())),
        ("cs4Label", principal.map(|_| "principalType")),
        ("cs5", Some(record.hash.as_str())),
        ("cs5Label", Some("hash")),
        ("cn1", status.as_deref()),
        ("cn1Label", status.as_deref().map(|_| "status")),
    ];
    for (name, value) in fields {
        if let Some(value) = value {
            _ = write!(line, " {name}=");
            escape(&mut line, value, '=');
        }
    }
    line
}

/// Backslash and `special` with a backslash, line ends by name, other control characters by number.
fn escape(line: &mut String, text: &str, special: char) {
    for c in text.chars() {
        match c {
            '\\' => line.push_str("\\\\"),
            '\n' => line.push_str("\\n"),
            '\r' => line.push_str("\\r"),
            c if c == special => line.extend(['\\', c]),
            c if is_control(c) => _ = write!(line, "\\\\u{:04x}", u32::from(c)),
            c => line.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::super::chain::{Checkpoint, seal};
    use super::super::entry::AuditEntry;
    use super::super::record::AuditPrincipal;
    use super::*;

    const HOSTILE: &str = "a|b=c\\d\r\n{\"x\":1}\u{1b}[2J\u{202e}\u{85} é";

    fn records() -> Vec<AuditRecord> {
        let full = |event: AuditEvent| {
            let outcome = if event == AuditEvent::PipelineRead { Outcome::Success } else { Outcome::Denied };
            let principal = AuditPrincipal {
                id: HOSTILE.into(),
                kind: "jwt".into(),
                issuer: Some(HOSTILE.into()),
                roles: vec!["a".into(), HOSTILE.into()],
            };
            AuditEntry::new(event, outcome)
                .principal(principal)
                .action(HOSTILE)
                .pipeline_id(HOSTILE)
                .run_id(HOSTILE)
                .ip([192, 0, 2, 1].into())
                .request(HOSTILE, "POST", HOSTILE)
                .status(403)
                .detail(HOSTILE)
        };
        let bare = |event: AuditEvent| AuditEntry::new(event, Outcome::Success);
        let all = AuditEvent::ALL.into_iter().flat_map(|event| [full(event), bare(event)]);
        let record = |entry: AuditEntry| {
            let line = seal(&entry, Timestamp::from_second(1_000).unwrap(), Checkpoint::GENESIS).unwrap();
            match read(&line.bytes) {
                Read::Sound(record, _) => *record,
                other => panic!("{other:?}"),
            }
        };
        all.map(record).collect()
    }

    /// The attributes that the schema (1.3.0) requires of every class, of these four, and of the objects in them.
    #[test]
    fn ocsf_has_what_the_schema_requires() {
        let any_of = |value: &Value, names: &[&str]| names.iter().any(|name| !value[name].is_null());
        for record in records() {
            let line = ExportFormat::Ocsf.line(&record);
            assert!(line.chars().all(|c| !is_control(c)), "{line}");
            let event: Value = serde_json::from_str(&line).unwrap();
            for name in
                ["activity_id", "category_uid", "class_uid", "severity_id", "time", "type_uid", "status_id"]
            {
                assert!(event[name].is_u64(), "{name} in {event}");
            }
            assert_eq!(event["metadata"]["version"], "1.3.0");
            assert!(event["metadata"]["product"]["vendor_name"].is_string());
            assert_eq!(event["time"], 1_000_000);
            let class = event["class_uid"].as_u64().unwrap();
            assert_eq!(event["category_uid"], class / 1000);
            assert_eq!(event["type_uid"], class * 100 + event["activity_id"].as_u64().unwrap());
            let most = match class {
                3002 => {
                    assert!(any_of(&event["user"], &["name", "uid", "account"]));
                    assert!(any_of(&event["service"], &["name", "uid"]));
                    5
                }
                3004 => {
                    assert!(any_of(&event["entity"], &["name", "uid"]));
                    assert!(any_of(&event["actor"], &["user", "process"]));
                    4
                }
                6002 => {
                    assert!(event["app"]["vendor_name"].is_string());
                    4
                }
                6003 => {
                    assert!(any_of(&event["actor"]["user"], &["name", "uid"]));
                    assert!(event["api"]["operation"].is_string());
                    assert!(any_of(&event["src_endpoint"], &["ip", "name"]));
                    4
                }
                other => panic!("{other}"),
            };
            let activity = event["activity_id"].as_u64().unwrap();
            assert!((1..=most).contains(&activity) || activity == 99, "{event}");
            assert_eq!(event["metadata"]["uid"], record.hash.as_str());
            assert!(!line.contains(":null"), "{line}");
        }
    }

    #[test]
    fn cef_is_one_line_that_nothing_breaks_out_of() {
        for record in records() {
            let line = ExportFormat::Cef.line(&record);
            assert!(line.chars().all(|c| !is_control(c)), "{line}");
            // As a reader takes it apart: unescaped bars part the header, the rest is `name=value`.
            let mut header = vec![String::new()];
            let mut chars = line.chars();
            while header.len() < 8 {
                match chars.next().unwrap() {
                    '\\' => header.last_mut().unwrap().push(chars.next().unwrap()),
                    '|' => header.push(String::new()),
                    c => header.last_mut().unwrap().push(c),
                }
            }
            assert_eq!((header[0].as_str(), header[4].as_str()), ("CEF:0", record.event.as_str()));
            assert!((0..=10).contains(&header[6].parse::<u8>().unwrap()));
            let rest = header.pop().unwrap() + chars.as_str();
            let mut names = Vec::new();
            let mut before = ' ';
            let bytes: Vec<char> = rest.chars().collect();
            for (at, c) in bytes.iter().enumerate() {
                if *c == '=' && before != '\\' {
                    let start = bytes[..at].iter().rposition(|c| *c == ' ').map_or(0, |at| at + 1);
                    names.push(bytes[start..at].iter().collect::<String>());
                }
                before = if before == '\\' && *c == '\\' { ' ' } else { *c };
            }
            let known = [
                "rt",
                "externalId",
                "outcome",
                "src",
                "suser",
                "sntdom",
                "spriv",
                "act",
                "requestMethod",
                "request",
                "msg",
                "cs1",
                "cs1Label",
                "cs2",
                "cs2Label",
                "cs3",
                "cs3Label",
                "cs4",
                "cs4Label",
                "cs5",
                "cs5Label",
                "cn1",
                "cn1Label",
            ];
            assert!(names.iter().all(|name| known.contains(&name.as_str())), "{names:?} in {line}");
            let unique: std::collections::BTreeSet<_> = names.iter().collect();
            assert_eq!(unique.len(), names.len(), "a value made a field of its own: {line}");
        }
    }

    #[test]
    fn values_are_escaped_as_the_format_says() {
        let mut text = String::new();
        escape(&mut text, "a=b|c\\d\r\n\u{1b}é", '=');
        assert_eq!(text, "a\\=b|c\\\\d\\r\\n\\\\u001bé");
        let mut text = String::new();
        escape(&mut text, "a=b|c", '|');
        assert_eq!(text, "a=b\\|c");
        assert_eq!("cef".parse(), Ok(ExportFormat::Cef));
        assert!("leef".parse::<ExportFormat>().is_err());
    }

    #[test]
    fn only_sound_records_are_exported() {
        let line = seal(
            &AuditEntry::new(AuditEvent::AuditStart, Outcome::Success),
            Timestamp::UNIX_EPOCH,
            Checkpoint::GENESIS,
        );
        let line = line.unwrap().bytes;
        let mut both = line.clone();
        both.extend_from_slice(b"garbage\n");
        both.extend_from_slice(&line);
        let exported = String::from_utf8(ExportFormat::Cef.convert(&both)).unwrap();
        assert_eq!(exported.lines().count(), 2);
        assert!(exported.ends_with('\n'));
    }
}
