//! How records become columns, and columns records.

use std::collections::VecDeque;
use std::sync::Arc;

use rusqlite::Row;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};
use taskiq_flow_core::definition::Priority;
use taskiq_flow_core::id::{PipelineId, RunId};
use taskiq_flow_core::run::{RunError, RunStatus};
use taskiq_flow_core::time::Timestamp;

use super::beside::{PreparedBeside, PreparedFiring};
use super::fault::Fault;
use super::log::{self, LogRow};
use super::logs;
use crate::codec::{MAX_BYTES, excess};
use crate::error::WriteError;
use crate::records::{Append, Fence, Firing, Origin, RunRecord, RunRow, RunSummary, RunWrite, Trigger};
use crate::rules::Span;

/// Most durations, and most bytes, of a write that is [little](Prepared::is_little).
const LITTLE: (usize, usize) = (32, 16 << 10);

macro_rules! record {
    ($tables:literal, $number:literal) => {
        concat!(
            "SELECT r.pipeline, r.version, r.idempotency_key, r.created_at, r.status, r.started_at, r.finished_at,
                    r.outcome, r.error, r.result, r.trigger,
                    (SELECT body FROM run_log WHERE place = ",
            $number,
            " << 26),
                    (SELECT place & 67108863 FROM run_log WHERE place BETWEEN ",
            $number,
            " << 26 AND ",
            $number,
            " << 26 | 67108863 ORDER BY place DESC LIMIT 1)
             FROM ",
            $tables,
            " WHERE r.id = ?1"
        )
    };
}

macro_rules! row {
    ($table:literal, $number:literal) => {
        concat!(
            "SELECT pipeline, version, created_at, status, started_at, finished_at, trigger, error, outcome,
                    CASE WHEN trigger IS NULL THEN (SELECT body FROM run_log WHERE place = ",
            $number,
            " << 26) END
             FROM ",
            $table,
            " WHERE id = ?1"
        )
    };
}

/// A write with everything that is slow already done, outside the writer.
pub(super) enum Prepared {
    Create(NewRun),
    Append(More),
}

/// A run that is to be created.
pub(super) struct NewRun {
    pub(super) run_id: RunId,
    pub(super) pipeline: PipelineId,
    pub(super) version: u32,
    pub(super) key: Option<String>,
    pub(super) created_at: Timestamp,
    pub(super) outline: Outline,
    pub(super) trigger: Vec<u8>,
    pub(super) inputs: Vec<u8>,
    pub(super) fence: Fence,
    pub(super) firing: Option<PreparedFiring>,
    pub(super) replays: Option<(RunId, u32)>,
}

/// An addition to a run.
pub(super) struct More {
    pub(super) run_id: RunId,
    pub(super) fence: Fence,
    pub(super) span: Option<Span>,
    pub(super) events: Vec<LogRow>,
    /// Rows of what was printed.
    pub(super) logs: Vec<Vec<u8>>,
    pub(super) outline: Outline,
    pub(super) durations: Vec<(Arc<str>, u64)>,
    pub(super) beside: Option<PreparedBeside>,
}

/// A run's summary as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Outline {
    pub(super) status: RunStatus,
    pub(super) started_at: Option<Timestamp>,
    pub(super) finished_at: Option<Timestamp>,
    pub(super) error: Option<Vec<u8>>,
    pub(super) result: Option<Vec<u8>>,
}

#[derive(Serialize)]
struct InputsRef<'a> {
    parameters: &'a Map<String, Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    priority: Option<Priority>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    reuse: &'a [(u32, Arc<Value>)],
}

#[derive(Deserialize)]
struct Inputs {
    parameters: Arc<Map<String, Value>>,
    #[serde(default)]
    priority: Option<Priority>,
    #[serde(default)]
    reuse: Vec<(u32, Arc<Value>)>,
}

/// What a row has in documents that has columns of its own from schema 4 on.
#[derive(Deserialize)]
struct OldInputs {
    trigger: Trigger,
}

#[derive(Default, Deserialize)]
struct OldOutcome {
    #[serde(default)]
    error: Option<RunError>,
    // `null` is a result like any other; only a missing field is none.
    #[serde(default, deserialize_with = "present")]
    result: Option<Arc<Value>>,
}

#[derive(Deserialize)]
struct OldError {
    #[serde(default)]
    error: Option<RunError>,
}

fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Arc<Value>>, D::Error> {
    Value::deserialize(deserializer).map(|value| Some(Arc::new(value)))
}

impl Prepared {
    /// Does what can be done before the writer has its turn. The inner error refuses this write alone.
    pub(super) fn new(write: RunWrite) -> Result<Result<Self, WriteError>, Fault> {
        match write {
            RunWrite::Create { run, owner, firing, replays } => Self::create(&run, owner, firing, replays),
            RunWrite::Append(append) => Self::append(*append),
        }
    }

    fn create(
        run: &RunRecord,
        owner: uuid::Uuid,
        firing: Option<Box<Firing>>,
        replays: Option<(RunId, u32)>,
    ) -> Result<Result<Self, WriteError>, Fault> {
        let run_id = run.run_id;
        let inputs = InputsRef { parameters: &run.parameters, priority: run.priority, reuse: &run.reuse };
        let inputs = to_json(&inputs)?;
        let outline = Outline::of(&run.summary)?;
        if let Err(error) = check_size(run_id, &inputs).and_then(|()| outline.check_size(run_id)) {
            return Ok(Err(error));
        }
        Ok(Ok(Self::Create(NewRun {
            run_id,
            pipeline: run.pipeline_id.clone(),
            version: run.version,
            key: run.idempotency_key.clone(),
            created_at: run.created_at,
            outline,
            trigger: to_json(&run.trigger)?,
            inputs,
            fence: Fence { owner, token: crate::rules::FIRST_TOKEN },
            firing: firing.map(|firing| firing_document(*firing)).transpose()?,
            replays,
        })))
    }

    /// Whether it is soon written: a few short rows, and nothing that has to be looked up or put in its place beside them.
    pub(super) fn is_little(&self) -> bool {
        let bytes = match self {
            Self::Create(run) => {
                if run.key.is_some() || run.firing.is_some() || run.replays.is_some() {
                    return false;
                }
                run.inputs.len() + run.trigger.len() + run.outline.bytes()
            }
            Self::Append(more) => {
                if more.beside.is_some() || more.durations.len() > LITTLE.0 {
                    return false;
                }
                let rows = more.events.iter().map(|row| row.body.len()).sum::<usize>();
                let logs = more.logs.iter().map(Vec::len).sum::<usize>();
                rows + more.outline.bytes() + logs
            }
        };
        bytes <= LITTLE.1
    }

    fn append(append: Append) -> Result<Result<Self, WriteError>, Fault> {
        let Append { run_id, fence, events, logs, summary, durations, beside } = append;
        let span = Span::of(&events);
        let events = match log::rows(run_id, &events)? {
            Ok(rows) => rows,
            Err(error) => return Ok(Err(error)),
        };
        let logs = logs::rows(logs)?;
        let outline = Outline::of(&summary)?;
        if let Err(error) = outline.check_size(run_id) {
            return Ok(Err(error));
        }
        let beside = if beside.is_empty() { None } else { Some(PreparedBeside::new(run_id, beside)?) };
        let more =
            |beside| Self::Append(More { run_id, fence, span, events, logs, outline, durations, beside });
        Ok(beside.transpose().map(more))
    }
}

impl Outline {
    fn of(summary: &RunSummary) -> Result<Self, Fault> {
        let RunSummary { status, started_at, finished_at, error, result } = summary;
        let error = error.as_ref().map(to_json).transpose()?;
        let result = result.as_ref().map(to_json).transpose()?;
        Ok(Self { status: *status, started_at: *started_at, finished_at: *finished_at, error, result })
    }

    /// Of its error and its result.
    pub(super) fn bytes(&self) -> usize {
        [&self.error, &self.result].into_iter().flatten().map(Vec::len).sum()
    }

    fn check_size(&self, run_id: RunId) -> Result<(), WriteError> {
        [&self.error, &self.result].into_iter().flatten().try_for_each(|json| check_size(run_id, json))
    }

    /// Reads six columns from `first` on: status, started_at, finished_at, outcome, error, result.
    pub(super) fn read(row: &Row<'_>, first: usize) -> Result<Self, Fault> {
        let (error, result) = match optional_blob(row, first + 3)? {
            None => (row.get(first + 4)?, row.get(first + 5)?),
            Some(outcome) => {
                let OldOutcome { error, result } = from_json(outcome, &|| "the outcome of a run".to_owned())?;
                (error.as_ref().map(to_json).transpose()?, result.as_ref().map(to_json).transpose()?)
            }
        };
        Ok(Self {
            status: status_of(row.get(first)?)?,
            started_at: time(row, first + 1)?,
            finished_at: time(row, first + 2)?,
            error,
            result,
        })
    }
}

/// A firing as it is stored.
pub(super) fn firing_document(firing: Firing) -> Result<PreparedFiring, Fault> {
    let document = to_json(&Firing { run_id: None, ..firing.clone() })?;
    Ok(PreparedFiring { schedule: firing.schedule, due: firing.due, document })
}

/// What [`read_record`] wants, out of either table of runs; `?1` is the id. 26 and 67,108,863 are of a
/// [place](super::places).
pub(super) const RECORD: [&str; 2] = [
    record!("runs r LEFT JOIN run_numbers n ON n.run = r.id", "n.number"),
    record!("recent_runs r", "r.number"),
];

/// Makes a record of a row of [`RECORD`].
pub(super) fn read_record(run_id: RunId, row: &Row<'_>) -> Result<RunRecord, Fault> {
    let what = || format!("the run {run_id}");
    let OldOutcome { error, result } = match optional_blob(row, 7)? {
        Some(outcome) => from_json(outcome, &what)?,
        None => OldOutcome {
            error: optional_blob(row, 8)?.map(|error| from_json(error, &what)).transpose()?,
            result: optional_blob(row, 9)?.map(|result| from_json(result, &what)).transpose()?,
        },
    };
    let document = blob(row, 11)?;
    let Inputs { parameters, priority, reuse } = from_json(document, &what)?;
    let summary = RunSummary {
        status: status_of(row.get(4)?)?,
        started_at: time(row, 5)?,
        finished_at: time(row, 6)?,
        error,
        result,
    };
    Ok(RunRecord {
        run_id,
        pipeline_id: pipeline_id(row, 0)?,
        version: row.get(1)?,
        parameters,
        idempotency_key: row.get(2)?,
        priority,
        trigger: trigger(optional_blob(row, 10)?, || Ok(document), &what)?,
        reuse,
        created_at: Timestamp::from_millis(row.get(3)?),
        summary,
        last_seq: row.get::<_, Option<i64>>(12)?.map_or(0, natural),
    })
}

/// What [`read_row`] wants, out of either table of runs; `?1` is the id.
pub(super) const ROW: [&str; 2] =
    [row!("runs", "(SELECT number FROM run_numbers WHERE run = ?1)"), row!("recent_runs", "number")];

/// Makes a row of a list of a row of [`ROW`].
pub(super) fn read_row(run_id: RunId, row: &Row<'_>) -> Result<RunRow, Fault> {
    let what = || format!("the run {run_id}");
    let error = match (optional_blob(row, 7)?, optional_blob(row, 8)?) {
        (Some(error), _) => Some(from_json(error, &what)?),
        (None, Some(outcome)) => from_json::<OldError>(outcome, &what)?.error,
        (None, None) => None,
    };
    Ok(RunRow {
        run_id,
        pipeline_id: pipeline_id(row, 0)?,
        version: row.get(1)?,
        trigger: trigger(optional_blob(row, 6)?, || blob(row, 9), &what)?,
        created_at: Timestamp::from_millis(row.get(2)?),
        status: status_of(row.get(3)?)?,
        started_at: time(row, 4)?,
        finished_at: time(row, 5)?,
        error,
    })
}

/// What asked for a run: by a column of its own, or by the document of an earlier version.
fn trigger<'row>(
    column: Option<&[u8]>,
    document: impl FnOnce() -> Result<&'row [u8], Fault>,
    what: &dyn Fn() -> String,
) -> Result<Trigger, Fault> {
    match column {
        Some(trigger) => from_json(trigger, what),
        None => from_json::<OldInputs>(document()?, what).map(|old| old.trigger),
    }
}

fn time(row: &Row<'_>, column: usize) -> Result<Option<Timestamp>, Fault> {
    Ok(row.get::<_, Option<i64>>(column)?.map(Timestamp::from_millis))
}

/// The bytes of a blob column that may be null, without a copy.
fn optional_blob<'row>(row: &'row Row<'_>, column: usize) -> Result<Option<&'row [u8]>, Fault> {
    let value = row.get_ref(column)?;
    value.as_blob_or_null().map_err(|_| Fault::Corrupt(format!("column {column} of a row is not a blob")))
}

/// The bytes of a blob column, without a copy.
pub(super) fn blob<'row>(row: &'row Row<'_>, column: usize) -> Result<&'row [u8], Fault> {
    let value = row.get_ref(column)?;
    value.as_blob().map_err(|_| Fault::Corrupt(format!("column {column} of a row is not a blob")))
}

/// The pipeline id in a column.
pub(super) fn pipeline_id(row: &Row<'_>, column: usize) -> Result<PipelineId, Fault> {
    let text: String = row.get(column)?;
    text.parse().map_err(|error: taskiq_flow_core::id::IdError| Fault::Corrupt(error.to_string()))
}

/// The number that a status is stored as.
pub(super) fn status_code(status: RunStatus) -> i64 {
    match status {
        RunStatus::Queued => 0,
        RunStatus::Running => 1,
        RunStatus::Paused => 2,
        RunStatus::Completed => 3,
        RunStatus::Failed => 4,
        RunStatus::Cancelled => 5,
        RunStatus::TimedOut => 6,
    }
}

/// The status stored as that number.
pub(super) fn status_of(code: i64) -> Result<RunStatus, Fault> {
    let status = RunStatus::ALL.into_iter().find(|status| status_code(*status) == code);
    status.ok_or_else(|| Fault::Corrupt(format!("{code} is not the code of a run status")))
}

/// The number that an origin is stored as.
pub(super) fn origin_code(origin: Origin) -> i64 {
    match origin {
        Origin::Program => 0,
        Origin::Api => 1,
    }
}

/// The origin stored as that number.
pub(super) fn origin_of(code: i64) -> Result<Origin, Fault> {
    match code {
        0 => Ok(Origin::Program),
        1 => Ok(Origin::Api),
        _ => Err(Fault::Corrupt(format!("{code} is not the code of an origin"))),
    }
}

/// Durations as a blob: 8 bytes each, little end first.
pub(super) fn durations_to_blob(durations: &VecDeque<u64>) -> Vec<u8> {
    durations.iter().flat_map(|millis| millis.to_le_bytes()).collect()
}

/// Durations out of a blob.
pub(super) fn durations_of(blob: &[u8]) -> Result<VecDeque<u64>, Fault> {
    let (chunks, rest) = blob.as_chunks::<8>();
    if rest.is_empty() {
        Ok(chunks.iter().map(|bytes| u64::from_le_bytes(*bytes)).collect())
    } else {
        Err(Fault::Corrupt("the durations of a task are cut off".to_owned()))
    }
}

/// A number as SQLite has it. None of ours comes near the end of the range; a bound beyond it means all.
pub(super) fn integer(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// A count out of SQLite.
pub(super) fn natural(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

/// Writes a value as JSON.
pub(super) fn to_json<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, Fault> {
    crate::codec::to_json(value).map_err(Fault::Json)
}

/// Reads what [`to_json`] wrote. `what` names it should it be damaged.
pub(super) fn from_json<T: DeserializeOwned>(json: &[u8], what: &dyn Fn() -> String) -> Result<T, Fault> {
    Ok(crate::codec::from_json(json, what)?)
}

/// Refuses a write whose document is larger or deeper than what can be read back.
pub(super) fn check_size(run_id: RunId, json: &[u8]) -> Result<(), WriteError> {
    excess(json).map_or(Ok(()), |(unit, limit)| Err(WriteError::TooLarge { run_id, unit, limit }))
}

/// Refuses a write of which a row is larger than what can be kept.
pub(super) fn check_bytes(run_id: RunId, row: &[u8]) -> Result<(), WriteError> {
    let large = row.len() > MAX_BYTES;
    if large { Err(WriteError::TooLarge { run_id, unit: "bytes", limit: MAX_BYTES }) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_read_back() {
        for status in RunStatus::ALL {
            assert_eq!(status_of(status_code(status)).unwrap(), status);
            assert_eq!(status_code(status) >= 3, status.is_terminal(), "the schema counts on it");
        }
        assert!(status_of(7).is_err());
        for origin in [Origin::Program, Origin::Api] {
            assert_eq!(origin_of(origin_code(origin)).unwrap(), origin);
        }
        assert!(origin_of(9).is_err());
    }

    #[test]
    fn durations_are_read_back() {
        let durations = VecDeque::from([0, 1, u64::MAX]);
        let mut blob = durations_to_blob(&durations);
        assert_eq!(durations_of(&blob).unwrap(), durations);
        blob.pop();
        assert!(durations_of(&blob).is_err());
    }
}
