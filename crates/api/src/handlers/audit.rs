//! `/security/audit`: the audit log, read and verified.

use std::fs::File;
use std::io::BufReader;
use std::path::PathBuf;

use axum::extract::State;
use axum::{Extension, Json};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use taskiq_flow_security::audit::{
    AuditEvent, AuditFilter, AuditPage, CheckpointStatus, Outcome, ReadError, TargetStatus, VerifyError,
    read_records, verify,
};
use utoipa::openapi::Schema;
use utoipa::{IntoParams, ToSchema};

use super::Allowed;
use crate::input::{Params, field, limit, one_of};
use crate::problem::Problem;
use crate::state::AppState;

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct AuditQuery {
    /// Only this event, such as `authentication.failure`.
    #[param(schema_with = events)]
    event: Option<String>,
    /// Only this outcome: `success`, `failure`, `denied` or `throttled`.
    #[param(schema_with = outcomes)]
    outcome: Option<String>,
    /// Only this principal, by its id.
    principal: Option<String>,
    /// Only this pipeline.
    pipeline_id: Option<String>,
    /// Only this run.
    run_id: Option<String>,
    /// Only this client, by its address.
    ip: Option<String>,
    /// Not before this time.
    #[param(value_type = Option<String>, format = DateTime)]
    since: Option<String>,
    /// Before this time.
    #[param(value_type = Option<String>, format = DateTime)]
    until: Option<String>,
    /// At most so many; 100 unless said.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 500)]
    limit: Option<String>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

fn events() -> Schema {
    one_of("Only this event.", AuditEvent::ALL.iter().map(|event| event.as_str()))
}

fn outcomes() -> Schema {
    one_of("Only this outcome.", ["success", "failure", "denied", "throttled"])
}

/// What a check of the audit log found.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AuditVerification {
    /// Whether every record is as it was written, and none is missing between the first and the last.
    valid: bool,
    /// The number of records, when all are sound.
    records: Option<u64>,
    /// The number of the last record, when all are sound.
    last_seq: Option<u64>,
    /// The number and hash of the last record: kept elsewhere, it shows later whether the end was cut.
    checkpoint: Option<String>,
    /// The line of the first bad record.
    line: Option<u64>,
    /// The number of the first bad record, where it is known.
    seq: Option<u64>,
    /// What is wrong with it.
    fault: Option<String>,
    /// How the signed checkpoints do, if any are made.
    checkpoints: Option<Checkpoints>,
}

/// How the signed checkpoints of the audit log do.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Checkpoints {
    /// The log's name in them.
    origin: String,
    /// The public key that signs, in base64 as C2SP signed notes write it.
    key: String,
    /// The newest one since the start, as it was sent.
    #[schema(value_type = Option<Object>)]
    last: Option<Value>,
    /// Why none is signed any more.
    error: Option<String>,
    /// Where they go.
    targets: Vec<CheckpointTarget>,
}

/// One place that signed checkpoints go to.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct CheckpointTarget {
    /// The file, or the server.
    target: String,
    /// How many wait for it.
    waiting: usize,
    /// Why it did not take the last one.
    error: Option<String>,
}

/// Audit records, newest first.
#[utoipa::path(get, path = "/security/audit", tag = "security", params(AuditQuery), responses((status = 200, body = Object)))]
pub(crate) async fn get_audit_records(
    State(state): State<AppState>,
    Extension(_permit): Allowed,
    Params(query): Params<AuditQuery>,
) -> Result<Json<AuditPage>, Problem> {
    let time = |text: &str| {
        let expected = "expected a time such as 2027-01-31T09:00:00Z";
        text.parse::<jiff::Timestamp>().map_err(|_| expected)
    };
    let outcome = |text: &str| match text {
        "success" => Ok(Outcome::Success),
        "failure" => Ok(Outcome::Failure),
        "denied" => Ok(Outcome::Denied),
        "throttled" => Ok(Outcome::Throttled),
        _ => Err("expected success, failure, denied or throttled"),
    };
    let filter = AuditFilter {
        event: field("event", query.event.as_deref(), |text| text.parse::<AuditEvent>())?,
        outcome: field("outcome", query.outcome.as_deref(), outcome)?,
        principal: query.principal,
        pipeline_id: query.pipeline_id,
        run_id: query.run_id,
        ip: field("ip", query.ip.as_deref(), |text| {
            text.parse::<std::net::IpAddr>().map_err(|_| "expected an IP address such as 192.0.2.7")
        })?,
        since: field("since", query.since.as_deref(), time)?,
        until: field("until", query.until.as_deref(), time)?,
        limit: limit(query.limit.as_deref())?,
        cursor: query.cursor,
    };
    let file = audit_file(&state)?;
    let read = tokio::task::spawn_blocking(move || read_records(file, &filter)).await;
    match read.map_err(Problem::internal)? {
        Ok(page) => Ok(Json(page)),
        Err(ReadError::Cursor) => Err(Problem::invalid_field("cursor", ReadError::Cursor.to_string())),
        Err(ReadError::NoFile) => Err(no_file()),
        Err(error) => Err(Problem::internal(error)),
    }
}

/// Checks the chain of the audit log from its first record.
#[utoipa::path(get, path = "/security/audit/verify", tag = "security", responses((status = 200, body = AuditVerification)))]
pub(crate) async fn verify_audit(
    State(state): State<AppState>,
    Extension(_permit): Allowed,
) -> Result<Json<AuditVerification>, Problem> {
    let file = audit_file(&state)?;
    let checkpoints = state.guard().audit().checkpoints().map(Checkpoints::of);
    let check = move || -> Result<_, VerifyError> {
        // Opening a pipe would wait for its writer, and a device may never end.
        if !std::fs::metadata(&file)?.is_file() {
            return Ok(None);
        }
        verify(BufReader::new(File::open(&file)?)).map(Some)
    };
    match tokio::task::spawn_blocking(check).await.map_err(Problem::internal)? {
        Ok(None) => Err(no_file()),
        Ok(Some(report)) => Ok(Json(AuditVerification {
            valid: true,
            records: Some(report.records),
            last_seq: report.last.map(|last| last.seq),
            checkpoint: report.last.map(|last| last.to_string()),
            line: None,
            seq: None,
            fault: None,
            checkpoints,
        })),
        Err(VerifyError::Bad { line, seq, fault, .. }) => Ok(Json(AuditVerification {
            valid: false,
            records: None,
            last_seq: None,
            checkpoint: None,
            line: Some(line),
            seq,
            fault: Some(fault.to_string()),
            checkpoints,
        })),
        Err(error) => Err(Problem::internal(error)),
    }
}

impl Checkpoints {
    fn of(status: CheckpointStatus) -> Self {
        let CheckpointStatus { origin, key, last, error, targets } = status;
        let target = |TargetStatus { target, waiting, error }| CheckpointTarget { target, waiting, error };
        Self {
            origin,
            key: key.to_string(),
            // It was written as JSON to be sent.
            last: last.and_then(|last| serde_json::from_str(&last.to_json()).ok()),
            error,
            targets: targets.into_iter().map(target).collect(),
        }
    }
}

fn audit_file(state: &AppState) -> Result<PathBuf, Problem> {
    state.guard().audit().first_file().map(ToOwned::to_owned).ok_or_else(no_file)
}

fn no_file() -> Problem {
    Problem::conflict("The audit log is not kept in a file here: `audit_log` names none.")
}
