//! The rows of runs. A run that is new stands in `recent_runs`, which is small and has no indexes to speak of, and moves to
//! `runs` together with others. To enter it in the indexes of `runs` by itself would write a page of each of them, once
//! when it begins and once when it ends; together they share those pages.

use rusqlite::{Connection, params};
use taskiq_flow_core::id::RunId;
use taskiq_flow_core::run::RunStatus;
use taskiq_flow_core::time::Timestamp;

use super::batch::{Batch, Change};
use super::codec::{self, Outline, integer, natural, status_code};
use super::fault::Fault;

/// Runs that have ended and move together. More would share pages still better, and hold up the write that moves them.
const MOVED_TOGETHER: u64 = 32;
/// Most rows, which each list of runs reads all of: runs under way move too when there are more.
const MOST: u64 = 256;

/// The columns of both tables, in the order of neither.
macro_rules! columns {
    () => {
        "id, pipeline, version, idempotency_key, created_at, owner, token, status, started_at, finished_at, outcome, \
         trigger, error, result, number"
    };
}

/// The values of a new row.
macro_rules! new {
    () => {
        "?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, NULL, ?11, ?12, ?13, ?14"
    };
}

/// How many rows `recent_runs` has.
#[derive(Debug, Clone, Copy)]
pub(super) struct Counts {
    rows: u64,
    ended: u64,
}

/// A row as lists look at it.
pub(super) struct Row {
    pub(super) id: [u8; 16],
    pub(super) pipeline: String,
    pub(super) status: RunStatus,
    /// From the start to the end, in milliseconds.
    pub(super) took: Option<i64>,
}

impl Batch<'_> {
    /// Writes the rows of runs that have changed, and moves some.
    pub(super) fn write_rows(&mut self) -> Result<(), Fault> {
        if self.touched.is_empty() {
            return Ok(());
        }
        let mut counts = self.counts()?;
        let is_ended =
            |id: &RunId| self.memory.heads.get(id).is_some_and(|head| head.outline.status.is_terminal());
        let ending = self.touched.iter().filter(|id| is_ended(id)).count() as u64;
        let moves = counts.ended + ending >= MOVED_TOGETHER;
        for id in self.touched.drain(..) {
            let Some(head) = self.memory.heads.get_mut(&id) else { continue };
            let Outline { status, started_at, finished_at, error, result } = &head.outline;
            let has_ended = status.is_terminal();
            let (started_at, finished_at) =
                (started_at.map(Timestamp::as_millis), finished_at.map(Timestamp::as_millis));
            match std::mem::replace(&mut head.change, Change::None) {
                Change::None => {}
                Change::Changed => {
                    let mut update = self.connection.prepare_cached(if head.is_recent {
                        "UPDATE recent_runs SET status = ?2, started_at = ?3, finished_at = ?4, error = ?5, result = ?6
                         WHERE id = ?1"
                    } else {
                        "UPDATE runs SET status = ?2, started_at = ?3, finished_at = ?4, outcome = NULL, error = ?5,
                                         result = ?6
                         WHERE id = ?1"
                    })?;
                    let values =
                        params![id.as_bytes(), status_code(*status), started_at, finished_at, error, result];
                    if update.execute(values)? == 0 {
                        return Err(Fault::Corrupt(format!("the row of run {id} is not where it was")));
                    }
                    counts.ended += u64::from(head.is_recent && has_ended);
                }
                Change::New(start) => {
                    // It would be moved at once.
                    head.is_recent = !(has_ended && moves);
                    let mut insert = self.connection.prepare_cached(if head.is_recent {
                        concat!("INSERT INTO recent_runs (", columns!(), ") VALUES (", new!(), ")")
                    } else {
                        concat!("INSERT INTO runs (", columns!(), ") VALUES (", new!(), ")")
                    })?;
                    insert.execute(params![
                        id.as_bytes(),
                        head.pipeline.as_str(),
                        start.version,
                        start.key,
                        start.created_at.as_millis(),
                        head.fence.map(|fence| fence.owner.into_bytes()),
                        head.fence.map_or(0, |fence| integer(fence.token)),
                        status_code(*status),
                        started_at,
                        finished_at,
                        start.trigger,
                        error,
                        result,
                        head.number,
                    ])?;
                    counts.rows += u64::from(head.is_recent);
                    counts.ended += u64::from(head.is_recent && has_ended);
                }
            }
            if has_ended {
                self.memory.heads.remove(&id);
            }
        }
        self.memory.recent = Some(counts);
        if counts.rows > MOST + counts.ended {
            self.move_all()
        } else if moves {
            self.move_ended()
        } else {
            Ok(())
        }
    }

    /// Moves the runs that have ended, so that the indexes of `runs` lead to all of them. To be called when all rows
    /// have been written.
    pub(super) fn move_ended(&mut self) -> Result<(), Fault> {
        let counts = self.counts()?;
        if counts.ended == 0 {
            return Ok(());
        }
        let copy = concat!(
            "INSERT INTO runs (",
            columns!(),
            ") SELECT ",
            columns!(),
            " FROM recent_runs WHERE status >= 3 ORDER BY id"
        );
        self.connection.prepare_cached(copy)?.execute([])?;
        let gone = self.connection.prepare_cached("DELETE FROM recent_runs WHERE status >= 3")?.execute([])?;
        let rows = counts.rows.saturating_sub(gone as u64);
        self.memory.recent = Some(Counts { rows, ended: 0 });
        Ok(())
    }

    /// Moves all of them. To be called when all rows have been written.
    pub(super) fn move_all(&mut self) -> Result<(), Fault> {
        if self.counts()?.rows == 0 {
            return Ok(());
        }
        move_all(self.connection)?;
        self.memory.heads.values_mut().for_each(|head| head.is_recent = false);
        self.memory.recent = Some(Counts { rows: 0, ended: 0 });
        Ok(())
    }

    fn counts(&mut self) -> Result<Counts, Fault> {
        if let Some(counts) = self.memory.recent {
            return Ok(counts);
        }
        let mut count = self
            .connection
            .prepare_cached("SELECT count(*), coalesce(sum(status >= 3), 0) FROM recent_runs")?;
        let counts = count
            .query_row([], |row| Ok(Counts { rows: natural(row.get(0)?), ended: natural(row.get(1)?) }))?;
        self.memory.recent = Some(counts);
        Ok(counts)
    }
}

/// Moves all runs to the table that has the indexes.
pub(super) fn move_all(connection: &Connection) -> Result<(), Fault> {
    let copy =
        concat!("INSERT INTO runs (", columns!(), ") SELECT ", columns!(), " FROM recent_runs ORDER BY id");
    connection.prepare_cached(copy)?.execute([])?;
    connection.prepare_cached("DELETE FROM recent_runs")?.execute([])?;
    Ok(())
}

/// All of them, newest first.
pub(super) fn rows(connection: &Connection) -> Result<Vec<Row>, Fault> {
    let mut select = connection.prepare_cached(
        "SELECT id, pipeline, status, finished_at - started_at FROM recent_runs ORDER BY id DESC",
    )?;
    let mut rows = select.query([])?;
    let mut recent = Vec::new();
    while let Some(row) = rows.next()? {
        recent.push(Row {
            id: row.get(0)?,
            pipeline: row.get(1)?,
            status: codec::status_of(row.get(2)?)?,
            took: row.get(3)?,
        });
    }
    Ok(recent)
}
