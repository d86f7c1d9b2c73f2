//! Where the log of a run stands in `run_log`: its rows follow each other, so that a run that goes on writes the page that it
//! wrote last and no index beside it.

use rusqlite::{Connection, OptionalExtension, params};
use taskiq_flow_core::id::RunId;

use super::batch::Batch;
use super::codec::{integer, natural};
use super::fault::Fault;

/// A place is a run's number times 2 to this power, and the number of the last event of the row. At 0 is what went in.
/// What SQL says of it here and elsewhere is this, too.
const SHIFT: u32 = 26;
/// Most events of a run. As many take some gigabytes.
pub(super) const MOST_EVENTS: u64 = (1 << SHIFT) - 1;
/// Most of a run that has not ended: what is written when it ends, because it has so many, has room behind them.
pub(super) const MOST_BEFORE_END: u64 = MOST_EVENTS - 1000;
/// The largest number of a run. Who has made so many runs begins anew with those that are free.
pub(super) const LAST_NUMBER: i64 = (1 << (63 - SHIFT)) - 1;

/// The last place of a run.
pub(super) const LAST: &str =
    "SELECT place FROM run_log WHERE place BETWEEN ?1 AND ?2 ORDER BY place DESC LIMIT 1";
/// The number of a run.
pub(super) const NUMBER: &str =
    "SELECT number FROM run_numbers WHERE run = ?1 UNION ALL SELECT number FROM recent_runs WHERE id = ?1";

/// Where the row stands whose last event has that number; an event beyond all takes the last place.
pub(super) fn place(number: i64, last: u64) -> i64 {
    (number << SHIFT) | integer(last.min(MOST_EVENTS))
}

impl Batch<'_> {
    /// Writes what goes into a new run. The number that it gets.
    pub(super) fn begin_log(&mut self, inputs: &[u8]) -> Result<i64, Fault> {
        let mut insert = self.connection.prepare_cached(
            "INSERT INTO run_log (place, body) VALUES (?1, ?2) ON CONFLICT (place) DO NOTHING",
        )?;
        let mut number = match self.memory.last_number {
            Some(number) => number,
            None => {
                let mut find = self
                    .connection
                    .prepare_cached("SELECT place FROM run_log ORDER BY place DESC LIMIT 1")?;
                find.query_row([], |row| row.get(0)).optional()?.unwrap_or(0_i64) >> SHIFT
            }
        };
        loop {
            number = if number < LAST_NUMBER { number + 1 } else { 1 };
            if insert.execute(params![place(number, 0), inputs])? > 0 {
                self.memory.last_number = Some(number);
                return Ok(number);
            }
        }
    }

    /// Deletes the log of a run, and what went in.
    pub(super) fn delete_log(&self, number: i64) -> Result<(), Fault> {
        let mut delete =
            self.connection.prepare_cached("DELETE FROM run_log WHERE place BETWEEN ?1 AND ?2")?;
        delete.execute([place(number, 0), place(number, MOST_EVENTS)])?;
        Ok(())
    }
}

/// The number of the last event of a run; 0: none.
pub(super) fn last_event(connection: &Connection, number: i64) -> Result<u64, Fault> {
    let mut find = connection.prepare_cached(LAST)?;
    let found: Option<i64> =
        find.query_row([place(number, 0), place(number, MOST_EVENTS)], |row| row.get(0)).optional()?;
    Ok(found.map_or(0, |found| natural(found) & MOST_EVENTS))
}

/// The number of a run; none: there is no such run.
pub(super) fn number_of(connection: &Connection, id: RunId) -> Result<Option<i64>, Fault> {
    let mut find = connection.prepare_cached(NUMBER)?;
    Ok(find.query_row([id.as_bytes()], |row| row.get(0)).optional()?)
}
