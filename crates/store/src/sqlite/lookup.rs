//! What both the writer and the readers look up.

use std::collections::VecDeque;

use rusqlite::{Connection, OptionalExtension, Row};
use taskiq_flow_core::id::{PipelineId, RunId};

use super::codec;
use super::fault::Fault;
use crate::records::RunRecord;

/// The durations of each task of a pipeline, by name.
pub(super) fn durations(
    connection: &Connection,
    pipeline: &PipelineId,
) -> Result<Vec<(String, VecDeque<u64>)>, Fault> {
    let mut select =
        connection.prepare_cached("SELECT task, millis FROM durations WHERE pipeline = ?1 ORDER BY task")?;
    let mut rows = select.query([pipeline.as_str()])?;
    let mut durations = Vec::new();
    while let Some(row) = rows.next()? {
        durations.push((row.get(0)?, codec::durations_of(codec::blob(row, 1)?)?));
    }
    Ok(durations)
}

/// The run of that id.
pub(super) fn record(connection: &Connection, id: RunId) -> Result<Option<RunRecord>, Fault> {
    in_either(connection, codec::RECORD, id, |row| codec::read_record(id, row))
}

/// What is read of the run of that id, in whichever of the tables of runs it is: `selects` has a statement for each.
pub(super) fn in_either<T>(
    connection: &Connection,
    selects: [&str; 2],
    id: RunId,
    read: impl Fn(&Row<'_>) -> Result<T, Fault>,
) -> Result<Option<T>, Fault> {
    for sql in selects {
        let mut select = connection.prepare_cached(sql)?;
        let mut rows = select.query([id.as_bytes()])?;
        if let Some(row) = rows.next()? {
            return read(row).map(Some);
        }
    }
    Ok(None)
}

/// The id of the run of that pipeline with that idempotency key.
pub(super) fn run_of_key(
    connection: &Connection,
    pipeline: &PipelineId,
    key: &str,
) -> Result<Option<RunId>, Fault> {
    let mut find = connection.prepare_cached(RUN_OF_KEY)?;
    let found: Option<[u8; 16]> = find.query_row([pipeline.as_str(), key], |row| row.get(0)).optional()?;
    Ok(found.map(RunId::from_bytes))
}

pub(super) const RUN_OF_KEY: &str =
    "SELECT id FROM runs WHERE pipeline = ?1 AND idempotency_key = ?2 AND idempotency_key IS NOT NULL
     UNION ALL
     SELECT id FROM recent_runs WHERE pipeline = ?1 AND idempotency_key = ?2 AND idempotency_key IS NOT NULL";

/// The number of the newest version of a pipeline; 0: none.
pub(super) fn newest_version(connection: &Connection, id: &PipelineId) -> Result<u32, Fault> {
    let mut select = connection.prepare_cached("SELECT newest FROM pipelines WHERE id = ?1")?;
    Ok(select.query_row([id.as_str()], |row| row.get(0)).optional()?.unwrap_or(0))
}
