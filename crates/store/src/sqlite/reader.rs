//! Reads, on connections of their own, each in a snapshot of what has been committed.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::Mutex;
use rusqlite::{Connection, OptionalExtension, Row, params};
use taskiq_flow_core::id::{PipelineId, RunId};
use taskiq_flow_core::run::{Event, RunStatus};
use taskiq_flow_core::time::Timestamp;
use tokio::sync::Semaphore;

use super::codec::{self, from_json, integer, status_code};
use super::fault::Fault;
use super::log;
use super::lookup;
use super::places::{self, MOST_EVENTS, place};
use super::recent;
use crate::error::StoreError;
use crate::records::{PipelineRecord, RunFilter, RunRow, ScheduleRecord, SecurityRecord, StepLog};
use crate::rules::id_range;

/// Connections that only read. There are as many reads at a time; others wait.
#[derive(Debug)]
pub(super) struct Readers {
    path: PathBuf,
    idle: Arc<Mutex<Vec<Connection>>>,
    /// A permit for each idle connection.
    free: Arc<Semaphore>,
}

/// Gives the connection back, also after a panic.
struct Borrowed {
    connection: Option<Connection>,
    idle: Arc<Mutex<Vec<Connection>>>,
    free: Arc<Semaphore>,
}

impl Readers {
    pub(super) fn new(path: PathBuf, connections: Vec<Connection>) -> Self {
        let free = Arc::new(Semaphore::new(connections.len()));
        Self { path, idle: Arc::new(Mutex::new(connections)), free }
    }

    /// Reads in one snapshot, on a thread that may block.
    pub(super) async fn read<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, Fault> + Send + 'static,
    {
        let permit = Arc::clone(&self.free).acquire_owned().await.map_err(|_| StoreError::Closed)?;
        let (idle, free) = (Arc::clone(&self.idle), Arc::clone(&self.free));
        let reading = tokio::task::spawn_blocking(move || {
            let connection = idle.lock().pop();
            let borrowed = Borrowed { connection, idle, free };
            // The guard puts the permit back, after the connection.
            permit.forget();
            let Some(connection) = &borrowed.connection else { return Ok(None) };
            let snapshot = connection.unchecked_transaction()?;
            let value = work(&snapshot)?;
            snapshot.rollback()?;
            Ok(Some(value))
        });
        match reading.await {
            Ok(Ok(Some(value))) => Ok(value),
            Ok(Ok(None)) => Err(StoreError::Closed),
            Ok(Err(fault)) => Err(Fault::at(fault, &self.path)),
            Err(_) => Err(Fault::Panic.at(&self.path)),
        }
    }

    /// Refuses further reads and closes the connections; those under way are closed when they are done.
    pub(super) fn close(&self) {
        self.free.close();
        self.idle.lock().clear();
    }
}

impl Drop for Borrowed {
    fn drop(&mut self) {
        if self.free.is_closed() {
            return;
        }
        self.idle.lock().extend(self.connection.take());
        self.free.add_permits(1);
    }
}

/// Runs that pass the filter, newest first.
pub(super) fn runs(connection: &Connection, filter: &RunFilter) -> Result<Vec<RunRow>, Fault> {
    runs_with(connection, &recent::rows(connection)?, filter)
}

fn runs_with(
    connection: &Connection,
    recent: &[recent::Row],
    filter: &RunFilter,
) -> Result<Vec<RunRow>, Fault> {
    let ids = newest(connection, recent, filter)?;
    ids.into_iter().filter_map(|id| row(connection, RunId::from_bytes(id)).transpose()).collect()
}

fn row(connection: &Connection, id: RunId) -> Result<Option<RunRow>, Fault> {
    lookup::in_either(connection, codec::ROW, id, |row| codec::read_row(id, row))
}

/// Ids of the newest runs that pass the filter.
fn newest(
    connection: &Connection,
    recent: &[recent::Row],
    filter: &RunFilter,
) -> Result<Vec<[u8; 16]>, Fault> {
    let (since, end) = id_range(filter);
    let mut list = Newest {
        connection,
        // 17 bytes of 255 come after every id.
        end: end.map_or_else(|| vec![u8::MAX; 17], |id| id.as_bytes().to_vec()),
        since: *since.as_bytes(),
        limit: filter.limit,
        ids: Vec::new(),
    };
    let pipelines: Option<BTreeSet<&str>> =
        filter.pipelines.as_ref().map(|pipelines| pipelines.iter().map(PipelineId::as_str).collect());
    list.add_recent(recent, |run| {
        filter.status.is_none_or(|status| run.status == status)
            && pipelines.as_ref().is_none_or(|pipelines| pipelines.contains(&*run.pipeline))
    });
    match (pipelines, filter.status) {
        (None, status) => list.add(None, status)?,
        (Some(pipelines), status) => {
            let statuses = status.map_or_else(|| RunStatus::ALL.to_vec(), |status| vec![status]);
            for pipeline in pipelines {
                for status in &statuses {
                    list.add(Some(pipeline), Some(*status))?;
                }
            }
        }
    }
    Ok(list.ids)
}

/// The newest ids out of several lists.
struct Newest<'a> {
    connection: &'a Connection,
    /// Ids are wanted before this one, and from that one on.
    end: Vec<u8>,
    since: [u8; 16],
    limit: usize,
    ids: Vec<[u8; 16]>,
}

impl Newest<'_> {
    /// Adds those of one pipeline in one state, or of all.
    fn add(&mut self, pipeline: Option<&str>, status: Option<RunStatus>) -> Result<(), Fault> {
        let limit = integer(self.limit as u64);
        let mut select = self.connection.prepare_cached(newest_sql(pipeline.is_some(), status))?;
        let mut rows = match (pipeline, status.map(status_code)) {
            (Some(pipeline), status) => {
                select.query(params![self.end, self.since, limit, status, pipeline])?
            }
            (None, Some(status)) => select.query(params![self.end, self.since, limit, status])?,
            (None, None) => select.query(params![self.end, self.since, limit])?,
        };
        while let Some(row) = rows.next()? {
            self.ids.push(row.get(0)?);
        }
        self.cut();
        Ok(())
    }

    /// Adds those that pass, out of the runs that no index leads to.
    fn add_recent(&mut self, recent: &[recent::Row], passes: impl Fn(&recent::Row) -> bool) {
        let within = recent.iter().filter(|run| run.id[..] < self.end[..] && run.id >= self.since);
        self.ids.extend(within.filter(|run| passes(run)).map(|run| run.id));
        self.cut();
    }

    fn cut(&mut self) {
        self.ids.sort_unstable_by(|a, b| b.cmp(a));
        self.ids.truncate(self.limit);
        // What is older than a full list is not wanted of the next ones.
        if let Some(oldest) = self.ids.get(self.limit.wrapping_sub(1)) {
            self.since = *oldest;
        }
    }
}

/// Each has an index that leads to what it wants and to nothing else, however many runs there are; only for the runs
/// under way of all pipelines those in other states are looked at too.
pub(super) fn newest_sql(pipeline: bool, status: Option<RunStatus>) -> &'static str {
    match (pipeline, status.map(RunStatus::is_terminal)) {
        (false, None) => "SELECT id FROM runs WHERE id < ?1 AND id >= ?2 ORDER BY id DESC LIMIT ?3",
        (false, Some(false)) => {
            "SELECT id FROM runs INDEXED BY runs_live
             WHERE status < 3 AND status = ?4 AND id < ?1 AND id >= ?2 ORDER BY id DESC LIMIT ?3"
        }
        (false, Some(true)) => {
            "SELECT id FROM runs INDEXED BY runs_ended_by_status
             WHERE status >= 3 AND status = ?4 AND id < ?1 AND id >= ?2 ORDER BY id DESC LIMIT ?3"
        }
        (true, Some(false)) => {
            "SELECT id FROM runs INDEXED BY runs_live
             WHERE status < 3 AND status = ?4 AND pipeline = ?5 AND id < ?1 AND id >= ?2 ORDER BY id DESC LIMIT ?3"
        }
        (true, _) => {
            "SELECT id FROM runs INDEXED BY runs_ended
             WHERE status >= 3 AND status = ?4 AND pipeline = ?5 AND id < ?1 AND id >= ?2 ORDER BY id DESC LIMIT ?3"
        }
    }
}

/// The newest run of each of these pipelines that has one.
pub(super) fn last_runs(connection: &Connection, pipelines: &[PipelineId]) -> Result<Vec<RunRow>, Fault> {
    let recent = recent::rows(connection)?;
    let mut rows = Vec::new();
    for pipeline in pipelines {
        let filter = RunFilter { pipelines: Some(vec![pipeline.clone()]), limit: 1, ..RunFilter::default() };
        rows.extend(runs_with(connection, &recent, &filter)?);
    }
    Ok(rows)
}

/// Rows of a log between two places.
pub(super) const EVENTS: &str = "SELECT body FROM run_log WHERE place > ?1 AND place <= ?2 ORDER BY place";

/// Events of a run with a number above `after_seq`.
pub(super) fn events(
    connection: &Connection,
    id: RunId,
    after_seq: u64,
    limit: usize,
) -> Result<Vec<Event>, Fault> {
    let Some(number) = places::number_of(connection, id)? else { return Ok(Vec::new()) };
    let mut select = connection.prepare_cached(EVENTS)?;
    let mut rows = select.query([place(number, after_seq), place(number, MOST_EVENTS)])?;
    let mut events = Vec::new();
    while events.len() < limit
        && let Some(row) = rows.next()?
    {
        log::read(id, codec::blob(row, 0)?, after_seq, limit, &mut events)?;
    }
    Ok(events)
}

/// What the attempts of a run printed.
pub(super) fn logs(connection: &Connection, id: RunId) -> Result<Vec<StepLog>, Fault> {
    let mut select = connection.prepare_cached("SELECT body FROM logs WHERE run = ?1 ORDER BY place")?;
    let mut rows = select.query([id.as_bytes()])?;
    let mut logs = Vec::new();
    while let Some(row) = rows.next()? {
        let body: Vec<StepLog> = from_json(codec::blob(row, 0)?, &|| format!("what run {id} printed"))?;
        logs.extend(body);
    }
    Ok(logs)
}

const DEFINITION: &str = "SELECT d.pipeline, d.version, d.origin, d.created_at, d.source FROM definitions d";

/// The newest version of every pipeline that has not been deleted.
pub(super) fn pipelines(connection: &Connection) -> Result<Vec<PipelineRecord>, Fault> {
    let sql = format!(
        "{DEFINITION} JOIN pipelines p ON p.id = d.pipeline AND p.newest = d.version WHERE p.deleted = 0 ORDER BY p.id"
    );
    let mut select = connection.prepare_cached(&sql)?;
    let mut rows = select.query([])?;
    let mut records = Vec::new();
    while let Some(row) = rows.next()? {
        records.push(definition(row)?);
    }
    Ok(records)
}

/// One version of a pipeline.
pub(super) fn pipeline(
    connection: &Connection,
    id: &PipelineId,
    version: u32,
) -> Result<Option<PipelineRecord>, Fault> {
    let mut select =
        connection.prepare_cached(&format!("{DEFINITION} WHERE d.pipeline = ?1 AND d.version = ?2"))?;
    let mut rows = select.query(params![id.as_str(), version])?;
    rows.next()?.map(definition).transpose()
}

fn definition(row: &Row<'_>) -> Result<PipelineRecord, Fault> {
    let id = codec::pipeline_id(row, 0)?;
    let source = from_json(codec::blob(row, 4)?, &|| format!("the definition of pipeline `{id}`"))?;
    Ok(PipelineRecord {
        version: row.get(1)?,
        origin: codec::origin_of(row.get(2)?)?,
        created_at: Timestamp::from_millis(row.get(3)?),
        source,
        id,
    })
}

/// All schedules, by id.
pub(super) fn schedules(connection: &Connection) -> Result<Vec<ScheduleRecord>, Fault> {
    let mut select = connection.prepare_cached("SELECT id, document FROM schedules ORDER BY id")?;
    let mut rows = select.query([])?;
    let mut records = Vec::new();
    while let Some(row) = rows.next()? {
        let id: String = row.get(0)?;
        records.push(from_json(codec::blob(row, 1)?, &|| format!("the schedule `{id}`"))?);
    }
    Ok(records)
}

/// All security records, by kind and id.
pub(super) fn security_records(connection: &Connection) -> Result<Vec<SecurityRecord>, Fault> {
    let mut select =
        connection.prepare_cached("SELECT kind, id, updated_at, body FROM security ORDER BY kind, id")?;
    let mut rows = select.query([])?;
    let mut records = Vec::new();
    while let Some(row) = rows.next()? {
        let (kind, id): (String, String) = (row.get(0)?, row.get(1)?);
        let body = from_json(codec::blob(row, 3)?, &|| format!("the security record {kind} `{id}`"))?;
        records.push(SecurityRecord { kind, id, body, updated_at: Timestamp::from_millis(row.get(2)?) });
    }
    Ok(records)
}

/// Reads something that is there in every file of ours.
pub(super) fn check(connection: &Connection) -> Result<(), Fault> {
    connection.prepare_cached("SELECT 1 FROM runs LIMIT 1")?.query_row([], |_| Ok(())).optional()?;
    Ok(())
}
