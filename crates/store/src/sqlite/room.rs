//! Which runs make room, and how the file becomes smaller when they have.

use std::collections::BTreeSet;
use std::path::Path;

use rusqlite::{Connection, OpenFlags, OptionalExtension, params};
use taskiq_flow_core::id::RunId;

use super::batch::Batch;
use super::codec::{integer, natural};
use super::fault::Fault;
use super::{open, recent, schema};
use crate::records::Retention;

/// The end and the id of the last run that goes, where runs are in the order of their ends.
pub(super) type LastToGo = (i64, [u8; 16]);

/// Free pages that a file keeps, beside a fraction of it: what is written next takes them. 4 MiB.
const KEPT_PAGES: u64 = 1024;
const KEPT_FRACTION: u64 = 8;
/// Pages given back in one transaction: some milliseconds, since each that moves is written anew.
const GIVEN_TOGETHER: u64 = 128;
/// `auto_vacuum` of a file whose free pages can be given back.
const INCREMENTAL: i64 = 2;

/// Looks at as many runs as are kept, and at no row of them.
pub(super) const LAST_BEYOND: &str = "SELECT finished_at, id FROM runs INDEXED BY runs_by_end
    WHERE finished_at IS NOT NULL ORDER BY finished_at DESC, id DESC LIMIT 1 OFFSET ?1";

/// Those that go, with what leads to their logs.
pub(super) const TO_GO: &str =
    "SELECT id, pipeline, version, (SELECT number FROM run_numbers WHERE run = id) FROM runs
     WHERE finished_at IS NOT NULL AND (finished_at, id) <= (?1, ?2) AND status >= 3
     ORDER BY finished_at, id LIMIT ?3";

/// The last run that goes; none: all stay.
pub(super) fn last_to_go(connection: &Connection, retention: &Retention) -> Result<Option<LastToGo>, Fault> {
    let by_age = retention.ended_before.map(|before| (before.as_millis().saturating_sub(1), [u8::MAX; 16]));
    let by_count = match retention.keep {
        None => None,
        Some(keep) => {
            let mut find = connection.prepare_cached(LAST_BEYOND)?;
            find.query_row([integer(keep as u64)], |row| Ok((row.get(0)?, row.get(1)?))).optional()?
        }
    };
    Ok(by_age.max(by_count))
}

/// How many runs would go. The file stays as it is.
pub(super) fn count_to_go(connection: &Connection, schema: u32, retention: &Retention) -> Result<u64, Fault> {
    let connection = connection.unchecked_transaction()?;
    if schema >= schema::WITH_RECENT_RUNS {
        // As they would be, and only until this transaction is rolled back.
        recent::move_all(&connection)?;
    }
    let connection = &*connection;
    let Some((ended, id)) = last_to_go(connection, retention)? else { return Ok(0) };
    let mut count = connection.prepare(
        "SELECT count(*) FROM runs WHERE finished_at IS NOT NULL AND (finished_at, id) <= (?1, ?2) AND status >= 3",
    )?;
    Ok(count.query_row(params![ended, &id[..]], |row| row.get(0).map(natural))?)
}

impl Batch<'_> {
    /// Deletes runs up to the last one that goes, by their end.
    pub(super) fn prune(&mut self, last: &LastToGo, limit: usize) -> Result<usize, Fault> {
        self.move_ended()?;
        let mut ended = self.connection.prepare_cached(TO_GO)?;
        let mut rows = ended.query(params![last.0, &last.1[..], integer(limit as u64)])?;
        let (mut ids, mut followed) = (Vec::<[u8; 16]>::new(), BTreeSet::new());
        while let Some(row) = rows.next()? {
            ids.push(row.get(0)?);
            if let Some(number) = row.get(3)? {
                self.delete_log(number)?;
            }
            followed.insert((row.get::<_, String>(1)?, row.get::<_, u32>(2)?));
        }
        for sql in [
            "DELETE FROM logs WHERE run = ?1",
            "DELETE FROM dead_letters WHERE run = ?1",
            "DELETE FROM run_numbers WHERE run = ?1",
            "DELETE FROM runs WHERE id = ?1",
        ] {
            let mut delete = self.connection.prepare_cached(sql)?;
            for id in &ids {
                delete.execute([id])?;
            }
        }
        for id in &ids {
            self.forget_head(RunId::from_bytes(*id));
        }
        // A version that was superseded or deleted goes with the last run that followed it.
        let mut let_go = self.connection.prepare_cached(
            "DELETE FROM definitions WHERE pipeline = ?1 AND version = ?2
             AND EXISTS (SELECT 1 FROM pipelines WHERE id = ?1 AND (deleted <> 0 OR newest > ?2))
             AND NOT EXISTS (SELECT 1 FROM runs INDEXED BY runs_live
                             WHERE pipeline = ?1 AND version = ?2 AND status < 3)
             AND NOT EXISTS (SELECT 1 FROM runs INDEXED BY runs_ended
                             WHERE pipeline = ?1 AND version = ?2 AND status >= 3)
             AND NOT EXISTS (SELECT 1 FROM recent_runs WHERE pipeline = ?1 AND version = ?2)",
        )?;
        for (pipeline, version) in followed {
            let_go.execute(params![pipeline, version])?;
        }
        Ok(ids.len())
    }
}

/// Lets a file that has nothing in it yet give room back later on.
pub(super) fn shrinks(connection: &Connection) -> Result<(), Fault> {
    Ok(connection.pragma_update(None, "auto_vacuum", INCREMENTAL)?)
}

/// Gives some of the free pages back, unless few are free. Whether it did. A file of an earlier program cannot, until it is
/// compacted.
pub(super) fn give_back(connection: &Connection) -> Result<bool, Fault> {
    let number = |name| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    if number("auto_vacuum")? != INCREMENTAL {
        return Ok(false);
    }
    let (free, all) = (natural(number("freelist_count")?), natural(number("page_count")?));
    let spare = free.saturating_sub(KEPT_PAGES.max(all / KEPT_FRACTION)).min(GIVEN_TOGETHER);
    if spare == 0 {
        return Ok(false);
    }
    let mut give = connection.prepare(&format!("PRAGMA incremental_vacuum({spare})"))?;
    let mut rows = give.query([])?;
    // Each step gives back one page.
    while rows.next()?.is_some() {}
    Ok(true)
}

/// Folds as much of the log into the file as can be, by a connection of its own.
pub(super) fn fold(path: &Path) -> Result<(), Fault> {
    let connection = open::connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    Ok(connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))?)
}
