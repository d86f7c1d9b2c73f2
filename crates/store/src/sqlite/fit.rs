//! Whether the tables of runs fit together, which no constraint sees to.

use rusqlite::types::ValueRef;
use rusqlite::{Connection, ErrorCode, Row};
use taskiq_flow_core::id::RunId;

use super::fault::Fault;

/// The numbers of all runs.
macro_rules! numbers {
    ($select:literal) => {
        concat!(
            "WITH numbers (id, number) AS
                 (SELECT run, number FROM run_numbers UNION ALL SELECT id, number FROM recent_runs) ",
            $select
        )
    };
}

/// Queries for runs, or numbers of runs, and what is wrong with those that are found. None of them reads a long column.
type Query = (&'static str, fn(&str) -> String);

/// What would be in the way of rows that move.
const IN_THE_WAY: [Query; 3] = [
    ("SELECT id FROM recent_runs WHERE id IN (SELECT id FROM runs)", |run| {
        format!("the run {run} is in both tables of runs")
    }),
    (
        "SELECT r.id FROM recent_runs r CROSS JOIN runs o ON o.pipeline = r.pipeline
             AND o.idempotency_key = r.idempotency_key AND o.idempotency_key IS NOT NULL
         WHERE o.id <> r.id",
        |run| format!("the idempotency key of run {run} is also that of another run of its pipeline"),
    ),
    ("SELECT id FROM recent_runs WHERE id IN (SELECT run FROM run_numbers)", |run| {
        format!("the run {run} has two numbers")
    }),
];

const OTHERS: [Query; 5] = [
    ("SELECT id FROM runs WHERE id NOT IN (SELECT run FROM run_numbers)", |run| {
        format!("the run {run} has no number that leads to its log")
    }),
    (
        "SELECT run FROM run_numbers
         WHERE run NOT IN (SELECT id FROM runs) AND run NOT IN (SELECT id FROM recent_runs)",
        |run| format!("the run {run} has a number, and is not there"),
    ),
    (numbers!("SELECT number FROM numbers GROUP BY number HAVING count(DISTINCT id) > 1"), |number| {
        format!("several runs have the number {number}, and one log")
    }),
    (
        numbers!(
            "SELECT DISTINCT place >> 26 FROM run_log WHERE place >> 26 NOT IN (SELECT number FROM numbers)"
        ),
        |number| format!("the log of number {number} is that of no run"),
    ),
    (numbers!("SELECT id FROM numbers WHERE number << 26 NOT IN (SELECT place FROM run_log)"), |run| {
        format!("what went into run {run} is missing")
    }),
];

/// At most so many things that do not fit.
pub(super) fn misfits(connection: &Connection, most: usize) -> Result<Vec<String>, Fault> {
    let mut told = Vec::new();
    for (sql, tell) in IN_THE_WAY.into_iter().chain(OTHERS) {
        let mut select = connection.prepare(sql)?;
        let mut rows = select.query([])?;
        while told.len() < most
            && let Some(row) = rows.next()?
        {
            told.push(tell(&named(row)?));
        }
    }
    Ok(told)
}

/// What to say of rows that could not be moved: where one was in the way, which.
pub(super) fn not_moved(connection: &Connection, fault: Fault) -> Fault {
    let Fault::Sqlite(error) = &fault else { return fault };
    if error.sqlite_error_code() != Some(ErrorCode::ConstraintViolation) {
        return fault;
    }
    let first = |(sql, tell): Query| {
        let named = connection.query_row(sql, [], |row| Ok(named(row))).ok()?;
        named.ok().map(|named| tell(&named))
    };
    IN_THE_WAY.into_iter().find_map(first).map_or(fault, Fault::Corrupt)
}

fn named(row: &Row<'_>) -> Result<String, Fault> {
    Ok(match row.get_ref(0)? {
        ValueRef::Integer(number) => number.to_string(),
        ValueRef::Blob(id) => match id.try_into() {
            Ok(id) => RunId::from_bytes(id).to_string(),
            Err(_) => "(an id of another length)".to_owned(),
        },
        _ => "(an id that is none)".to_owned(),
    })
}
