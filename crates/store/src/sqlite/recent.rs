//! The rows of runs. A run that is new stands in `recent_runs`, which is small and has no indexes to speak of, and moves to
//! `runs` together with others. To enter it in the indexes of `runs` by itself would write a page of each of them, once
//! when it begins and once when it ends; together they share those pages.

use rusqlite::{Connection, params};
use taskiq_flow_core::id::RunId;
use taskiq_flow_core::run::RunStatus;
use taskiq_flow_core::time::Timestamp;

use super::batch::{Batch, Change, Head, Memory, Start};
use super::codec::{self, Outline, integer, natural, status_code};
use super::fault::Fault;
use super::fit;

/// Runs that have ended and move together. More would share pages still better, and hold up the write that moves them.
const MOVED_TOGETHER: u64 = 32;
/// Most rows, which each list of runs reads all of: runs under way move too when there are more.
const MOST: u64 = 256;

/// Bytes beyond which a row moves by itself when it is written: of its error, its result and what asked for the run. What
/// moves together is copied within one commit, and must not hold that up.
const LITTLE_ROW: u64 = 4 << 10;
/// Most bytes that move in a commit of a thread that others want back.
const MOVED_IN_PASSING: u64 = 16 << 10;

/// The columns of both tables, in the order of neither.
macro_rules! columns {
    () => {
        "id, pipeline, version, idempotency_key, created_at, owner, token, status, started_at, finished_at, outcome, \
         trigger, error, result"
    };
}

/// The values of a new row.
macro_rules! new {
    () => {
        "?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, NULL, ?11, ?12, ?13"
    };
}

/// What copies rows to `runs`, and their numbers to where those of its rows are.
macro_rules! copy {
    ($which:literal) => {
        [
            concat!(
                "INSERT INTO runs (",
                columns!(),
                ") SELECT ",
                columns!(),
                " FROM recent_runs",
                $which,
                " ORDER BY id"
            ),
            concat!(
                "INSERT INTO run_numbers (run, number) SELECT id, number FROM recent_runs",
                $which,
                " ORDER BY id"
            ),
        ]
    };
}

/// How many rows `recent_runs` has.
#[derive(Debug, Clone, Copy)]
pub(super) struct Counts {
    rows: u64,
    ended: u64,
    /// Of those that have ended, or more.
    bytes: u64,
}

/// Which rows are to move.
#[derive(Debug, Clone, Copy)]
enum Due {
    None,
    Ended,
    All,
}

/// A row as lists look at it.
pub(super) struct Row {
    pub(super) id: [u8; 16],
    pub(super) pipeline: String,
    pub(super) status: RunStatus,
    /// From the start to the end, in milliseconds.
    pub(super) took: Option<i64>,
}

impl Counts {
    fn due(self) -> Due {
        if self.rows > MOST + self.ended {
            Due::All
        } else if self.ended >= MOVED_TOGETHER {
            Due::Ended
        } else {
            Due::None
        }
    }

    /// Whether it would take longer than a thread may that others want back.
    fn is_much(self, due: Due) -> bool {
        match due {
            Due::None => false,
            Due::Ended => self.bytes > MOVED_IN_PASSING,
            Due::All => true,
        }
    }
}

impl Memory {
    /// Whether so many rows are to move that the next commit takes long.
    pub(super) fn owes_much(&self) -> bool {
        self.recent.is_some_and(|counts| counts.is_much(counts.due()))
    }
}

impl Head {
    /// What its row has beside columns that are always short.
    fn bytes(&self) -> u64 {
        self.outline.bytes() as u64 + self.trigger
    }

    fn is_large(&self) -> bool {
        self.bytes() > LITTLE_ROW
    }

    fn has_ended(&self) -> bool {
        self.outline.status.is_terminal()
    }

    /// Whether its row is, or will be, one more that has ended and waits for others.
    fn is_to_wait(&self) -> bool {
        let is_written = matches!(self.change, Change::None);
        self.is_recent && self.has_ended() && !self.had_ended && !is_written && !self.is_large()
    }
}

impl Batch<'_> {
    /// Writes the rows of runs that have changed, and moves some.
    pub(super) fn write_rows(&mut self) -> Result<(), Fault> {
        if self.pending.touched.is_empty() {
            return Ok(());
        }
        let mut counts = self.counts()?;
        let waits = |id: &&RunId| self.memory.heads.get(id).is_some_and(Head::is_to_wait);
        let ending = self.pending.touched.iter().filter(waits).count() as u64;
        let moves = counts.ended + ending >= MOVED_TOGETHER;
        for id in self.pending.touched.drain(..) {
            let Some(head) = self.memory.heads.get_mut(&id) else { continue };
            let has_ended = head.has_ended();
            match std::mem::replace(&mut head.change, Change::None) {
                Change::None => {}
                Change::Changed => {
                    let waited = head.is_recent && head.had_ended;
                    if head.is_recent && head.is_large() {
                        move_changed(self.connection, id, head)?;
                        head.is_recent = false;
                        counts.rows = counts.rows.saturating_sub(1);
                    } else {
                        update(self.connection, id, head)?;
                    }
                    counts.ended = (counts.ended + u64::from(head.is_recent && has_ended))
                        .saturating_sub(u64::from(waited));
                }
                Change::New(start) => {
                    // It would be moved at once.
                    head.is_recent = !(has_ended && moves || head.is_large());
                    insert(self.connection, id, head, &start)?;
                    counts.rows += u64::from(head.is_recent);
                    counts.ended += u64::from(head.is_recent && has_ended);
                }
            }
            head.had_ended = has_ended;
            if has_ended {
                if head.is_recent {
                    counts.bytes += head.bytes();
                }
                self.memory.heads.remove(&id);
            }
        }
        self.memory.recent = Some(counts);
        let due = match counts.due() {
            Due::None if moves => Due::Ended,
            due => due,
        };
        match due {
            // The next commit is made by the thread that writes.
            _ if self.in_passing && counts.is_much(due) => Ok(()),
            Due::None => Ok(()),
            Due::Ended => self.move_ended_rows(),
            Due::All => self.move_all_rows(),
        }
    }

    /// Moves the runs that have ended, so that the indexes of `runs` lead to all of them.
    pub(super) fn move_ended(&mut self) -> Result<(), Fault> {
        self.flush()?;
        self.move_ended_rows()
    }

    /// Moves all of them.
    pub(super) fn move_all(&mut self) -> Result<(), Fault> {
        self.flush()?;
        self.move_all_rows()
    }

    /// As [`Self::move_ended`], when all rows have been written.
    fn move_ended_rows(&mut self) -> Result<(), Fault> {
        let counts = self.counts()?;
        if counts.ended == 0 {
            return Ok(());
        }
        const COPY: [&str; 2] = copy!(" WHERE status >= 3");
        copy_rows(self.connection, COPY)?;
        let mut delete =
            self.connection.prepare_cached("DELETE FROM recent_runs WHERE status >= 3 RETURNING id")?;
        let mut gone = delete.query([])?;
        let mut rows = counts.rows;
        while let Some(row) = gone.next()? {
            rows = rows.saturating_sub(1);
            if let Some(head) = self.memory.heads.get_mut(&RunId::from_bytes(row.get(0)?)) {
                head.is_recent = false;
            }
        }
        self.memory.recent = Some(Counts { rows, ended: 0, bytes: 0 });
        Ok(())
    }

    /// As [`Self::move_all`], when all rows have been written.
    fn move_all_rows(&mut self) -> Result<(), Fault> {
        if self.counts()?.rows == 0 {
            return Ok(());
        }
        move_all(self.connection)?;
        self.memory.heads.values_mut().for_each(|head| head.is_recent = false);
        self.memory.recent = Some(Counts { rows: 0, ended: 0, bytes: 0 });
        Ok(())
    }

    fn counts(&mut self) -> Result<Counts, Fault> {
        if let Some(counts) = self.memory.recent {
            return Ok(counts);
        }
        let mut count = self.connection.prepare_cached(
            "SELECT count(*), coalesce(sum(status >= 3), 0),
                    coalesce(sum(CASE WHEN status >= 3 THEN coalesce(length(trigger), 0) + coalesce(length(error), 0)
                                                            + coalesce(length(result), 0) END), 0)
             FROM recent_runs",
        )?;
        let counts = count.query_row([], |row| {
            let [rows, ended, bytes] = [row.get(0)?, row.get(1)?, row.get(2)?].map(natural);
            Ok(Counts { rows, ended, bytes })
        })?;
        self.memory.recent = Some(counts);
        Ok(counts)
    }
}

/// The start and the end of a run, as they are stored.
fn times(outline: &Outline) -> (Option<i64>, Option<i64>) {
    (outline.started_at.map(Timestamp::as_millis), outline.finished_at.map(Timestamp::as_millis))
}

fn insert(connection: &Connection, id: RunId, head: &Head, start: &Start) -> Result<(), Fault> {
    let (started_at, finished_at) = times(&head.outline);
    let values = params![
        id.as_bytes(),
        head.pipeline.as_str(),
        start.version,
        start.key,
        start.created_at.as_millis(),
        head.fence.map(|fence| fence.owner.into_bytes()),
        head.fence.map_or(0, |fence| integer(fence.token)),
        status_code(head.outline.status),
        started_at,
        finished_at,
        start.trigger,
        head.outline.error,
        head.outline.result,
        head.number,
    ];
    if head.is_recent {
        let insert = concat!("INSERT INTO recent_runs (", columns!(), ", number) VALUES (", new!(), ", ?14)");
        connection.prepare_cached(insert)?.execute(values)?;
        return Ok(());
    }
    let insert = concat!("INSERT INTO runs (", columns!(), ") VALUES (", new!(), ")");
    connection.prepare_cached(insert)?.execute(&values[..values.len() - 1])?;
    note_number(connection, id, head)
}

/// Enters the number of a run whose row is in `runs`.
fn note_number(connection: &Connection, id: RunId, head: &Head) -> Result<(), Fault> {
    let mut insert = connection.prepare_cached("INSERT INTO run_numbers (run, number) VALUES (?1, ?2)")?;
    insert.execute(params![id.as_bytes(), head.number])?;
    Ok(())
}

/// Writes what has changed of a row where it is.
fn update(connection: &Connection, id: RunId, head: &Head) -> Result<(), Fault> {
    let update = if head.is_recent {
        "UPDATE recent_runs SET status = ?2, started_at = ?3, finished_at = ?4, error = ?5, result = ?6 WHERE id = ?1"
    } else {
        "UPDATE runs SET status = ?2, started_at = ?3, finished_at = ?4, outcome = NULL, error = ?5, result = ?6
         WHERE id = ?1"
    };
    change(connection, update, id, &head.outline)
}

/// Writes what has changed of a row where it stays: that is one copy of it, and not two in two tables.
fn move_changed(connection: &Connection, id: RunId, head: &Head) -> Result<(), Fault> {
    let copy = concat!(
        "INSERT INTO runs (",
        columns!(),
        ") SELECT id, pipeline, version, idempotency_key, created_at, owner, token, ?2, ?3, ?4, NULL, trigger, ?5, ?6
           FROM recent_runs WHERE id = ?1"
    );
    change(connection, copy, id, &head.outline)?;
    note_number(connection, id, head)?;
    connection.prepare_cached("DELETE FROM recent_runs WHERE id = ?1")?.execute([id.as_bytes()])?;
    Ok(())
}

fn change(connection: &Connection, sql: &str, id: RunId, outline: &Outline) -> Result<(), Fault> {
    let (started_at, finished_at) = times(outline);
    let Outline { status, error, result, .. } = outline;
    let values = params![id.as_bytes(), status_code(*status), started_at, finished_at, error, result];
    if connection.prepare_cached(sql)?.execute(values)? == 0 {
        return Err(Fault::Corrupt(format!("the row of run {id} is not where it was")));
    }
    Ok(())
}

/// Moves all runs to the table that has the indexes.
pub(super) fn move_all(connection: &Connection) -> Result<(), Fault> {
    const COPY: [&str; 2] = copy!("");
    copy_rows(connection, COPY)?;
    connection.prepare_cached("DELETE FROM recent_runs")?.execute([])?;
    Ok(())
}

fn copy_rows(connection: &Connection, copy: [&str; 2]) -> Result<(), Fault> {
    let copied = copy.into_iter().try_for_each(|sql| {
        connection.prepare_cached(sql)?.execute([])?;
        Ok(())
    });
    copied.map_err(|fault| fit::not_moved(connection, fault))
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
