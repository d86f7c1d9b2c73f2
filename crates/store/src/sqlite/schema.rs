//! The tables, and how an older file comes to have them.

use rusqlite::{Connection, OptionalExtension, TransactionBehavior};
use taskiq_flow_core::id::RunId;

use super::codec::integer;
use super::fault::Fault;
use super::places::MOST_EVENTS;

/// Marks the file as ours: "TQFl" in ASCII, in SQLite's `application_id`.
pub(super) const APPLICATION_ID: i32 = 0x5451_466c;

/// What leads from each version of the schema to the next one; the first leads from an empty file to version 1. A
/// released entry is never changed.
pub(super) const MIGRATIONS: [&str; 8] =
    [VERSION_1, VERSION_2, VERSION_3, VERSION_4, VERSION_5, VERSION_6, VERSION_7, VERSION_8];

/// The newest version of the schema that this program knows.
pub(super) const NEWEST: u32 = MIGRATIONS.len() as u32;

/// The first version that has `recent_runs`.
pub(super) const WITH_RECENT_RUNS: u32 = 7;
/// The first version that has `redo`.
pub(super) const WITH_REDO: u32 = 8;

// - Ids of runs are the 16 bytes of their UUID, whose order is that of creation. Times are milliseconds since 1970.
// - `runs` has only what is small or comes last, because each change writes the whole row anew. The parameters stand in
//   `run_inputs`, and the number of the last event is read off `events`: an event in the middle of a run touches
//   `events` alone.
// - `events` and `logs` have a row for each write. They grow at their end, so that a transaction writes few pages
//   however many runs it is about; the index leads to the rows of one run.
// - A status of 3 and above is terminal. `owner` is null when nobody holds the run.
pub(super) const VERSION_1: &str = "
    CREATE TABLE pipelines (
        id TEXT PRIMARY KEY,
        newest INTEGER NOT NULL,
        deleted INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;

    CREATE TABLE definitions (
        pipeline TEXT NOT NULL,
        version INTEGER NOT NULL,
        origin INTEGER NOT NULL,
        created_at INTEGER NOT NULL,
        source BLOB NOT NULL,
        PRIMARY KEY (pipeline, version)
    ) STRICT;

    CREATE TABLE runs (
        id BLOB PRIMARY KEY,
        pipeline TEXT NOT NULL,
        version INTEGER NOT NULL,
        idempotency_key TEXT,
        created_at INTEGER NOT NULL,
        owner BLOB,
        token INTEGER NOT NULL,
        status INTEGER NOT NULL,
        started_at INTEGER,
        finished_at INTEGER,
        outcome BLOB
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX runs_by_pipeline ON runs (pipeline, id, version);
    CREATE INDEX runs_by_status ON runs (status, id);
    CREATE INDEX runs_by_pipeline_and_status ON runs (pipeline, status, id);
    CREATE INDEX runs_by_end ON runs (finished_at) WHERE finished_at IS NOT NULL;
    CREATE INDEX runs_unheld ON runs (id) WHERE owner IS NULL AND status < 3;
    CREATE UNIQUE INDEX runs_by_key ON runs (pipeline, idempotency_key) WHERE idempotency_key IS NOT NULL;

    CREATE TABLE run_inputs (
        run BLOB PRIMARY KEY,
        document BLOB NOT NULL
    ) STRICT, WITHOUT ROWID;

    CREATE TABLE events (
        place INTEGER PRIMARY KEY,
        run BLOB NOT NULL,
        last INTEGER NOT NULL,
        body BLOB NOT NULL
    ) STRICT;
    CREATE UNIQUE INDEX events_by_run ON events (run, last);

    CREATE TABLE logs (
        place INTEGER PRIMARY KEY,
        run BLOB NOT NULL,
        body BLOB NOT NULL
    ) STRICT;
    CREATE INDEX logs_by_run ON logs (run);

    CREATE TABLE durations (
        pipeline TEXT NOT NULL,
        task TEXT NOT NULL,
        millis BLOB NOT NULL,
        PRIMARY KEY (pipeline, task)
    ) STRICT, WITHOUT ROWID;

    CREATE TABLE schedules (
        id TEXT PRIMARY KEY,
        document BLOB NOT NULL
    ) STRICT;
";

// Keys, access lists and revocations that were made while the server ran.
const VERSION_2: &str = "
    CREATE TABLE security (
        kind TEXT NOT NULL,
        id TEXT NOT NULL,
        updated_at INTEGER NOT NULL,
        body BLOB NOT NULL,
        PRIMARY KEY (kind, id)
    ) STRICT, WITHOUT ROWID;
";

// - `place` grows with each row: it is the order in which rows are listed, newest first, and what pages go by.
// - A firing without a run started none. What is stored in `run` and `replayed_by` is not said in the document again.
// - `owners` says until when a driver of runs is taken to be alive without another word.
const VERSION_3: &str = "
    CREATE TABLE firings (
        place INTEGER PRIMARY KEY,
        schedule TEXT NOT NULL,
        due INTEGER NOT NULL,
        run BLOB,
        document BLOB NOT NULL
    ) STRICT;
    CREATE UNIQUE INDEX firings_by_due ON firings (schedule, due);
    CREATE INDEX firings_by_schedule ON firings (schedule);

    CREATE TABLE dead_letters (
        place INTEGER PRIMARY KEY,
        run BLOB NOT NULL,
        step_run INTEGER NOT NULL,
        pipeline TEXT NOT NULL,
        replayed_by BLOB,
        document BLOB NOT NULL
    ) STRICT;
    CREATE UNIQUE INDEX dead_letters_by_run ON dead_letters (run, step_run);
    CREATE INDEX dead_letters_by_pipeline ON dead_letters (pipeline);

    CREATE TABLE cache (
        place INTEGER PRIMARY KEY,
        key BLOB NOT NULL,
        pipeline TEXT NOT NULL,
        task TEXT NOT NULL,
        created_at INTEGER NOT NULL,
        expires_at INTEGER,
        value BLOB NOT NULL
    ) STRICT;
    CREATE UNIQUE INDEX cache_by_key ON cache (key);
    CREATE INDEX cache_by_task ON cache (pipeline, task);
    CREATE INDEX cache_by_end ON cache (expires_at) WHERE expires_at IS NOT NULL;

    CREATE TABLE snapshots (
        run BLOB PRIMARY KEY,
        seq INTEGER NOT NULL,
        body BLOB NOT NULL
    ) STRICT;

    CREATE TABLE deliveries (
        id BLOB PRIMARY KEY,
        hook TEXT NOT NULL,
        next_at INTEGER NOT NULL,
        dead INTEGER NOT NULL,
        document BLOB NOT NULL
    ) STRICT;
    CREATE INDEX deliveries_waiting ON deliveries (hook, next_at, id) WHERE dead = 0;
    CREATE INDEX deliveries_dead ON deliveries (hook, id) WHERE dead = 1;

    CREATE TABLE owners (
        owner BLOB PRIMARY KEY,
        lease_until INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
";

// What lists show of a run stands in columns of its own, before its result: `trigger` is no part of the document in
// `run_inputs` any more, and `error` and `result` take the place of `outcome`. Rows of earlier versions keep theirs.
// Runs under way have an index of their own, which stays small, so that a run that changes its state changes little.
const VERSION_4: &str = "
    ALTER TABLE runs ADD COLUMN trigger BLOB;
    ALTER TABLE runs ADD COLUMN error BLOB;
    ALTER TABLE runs ADD COLUMN result BLOB;
    DROP INDEX runs_by_pipeline;
    DROP INDEX runs_by_status;
    DROP INDEX runs_by_pipeline_and_status;
    CREATE INDEX runs_live ON runs (pipeline, status, id, version) WHERE status < 3;
    CREATE INDEX runs_ended ON runs (pipeline, status, id, version) WHERE status >= 3;
    CREATE INDEX runs_ended_by_status ON runs (status, id) WHERE status >= 3;
";

// The index of runs that have ended also has their times, so that what they came to is read off it. Nothing was ever kept in
// `snapshots`: a run is rebuilt from its log alone.
const VERSION_5: &str = "
    DROP TABLE IF EXISTS snapshots;
    DROP INDEX runs_ended;
    CREATE INDEX runs_ended ON runs (pipeline, status, id, version, started_at, finished_at) WHERE status >= 3;
";

// A delivery says which pipeline it tells of and about how long it is, so that what each has is read off an index. Earlier
// rows are told by their documents.
const VERSION_6: &str = "
    ALTER TABLE deliveries ADD COLUMN pipeline TEXT NOT NULL DEFAULT '';
    ALTER TABLE deliveries ADD COLUMN bytes INTEGER NOT NULL DEFAULT 0;
    UPDATE deliveries SET
        pipeline = CASE WHEN json_valid(CAST(document AS TEXT))
            THEN coalesce(json_extract(CAST(document AS TEXT), '$.body.pipeline_id'), '') ELSE '' END,
        bytes = length(document);
    CREATE INDEX deliveries_by_pipeline ON deliveries (hook, dead, pipeline, id, bytes);
";

// A run that goes on writes one page, and one that begins or ends two: docs/adr/0012 has the figures.
// - `run_log` has all rows of a run beside each other, at places that are made of the run's number and the number of the
//   row's last event: no index leads to them. What went into the run is at 0.
// - `recent_runs` has the columns of `runs`, to which its rows move together, and the number of each before what may be long.
// - `run_numbers` has the numbers of those in `runs`. In a column of that table they would stand behind the result of a run,
//   whose pages had to be walked to find its log, and to add it would write every row anew.
const VERSION_7: &str = "
    CREATE TABLE run_log (
        place INTEGER PRIMARY KEY,
        body BLOB NOT NULL
    ) STRICT;
    CREATE TABLE run_numbers (
        run BLOB PRIMARY KEY,
        number INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    INSERT INTO run_numbers (run, number) SELECT id, row_number() OVER (ORDER BY id) FROM runs;
    INSERT INTO run_log (place, body)
        SELECT n.number << 26 | e.last, e.body
        FROM run_numbers n CROSS JOIN events e INDEXED BY events_by_run ON e.run = n.run ORDER BY n.run, e.last;
    INSERT INTO run_log (place, body)
        SELECT n.number << 26, i.document
        FROM run_numbers n CROSS JOIN run_inputs i ON i.run = n.run ORDER BY n.run;
    DROP TABLE events;
    DROP TABLE run_inputs;

    CREATE TABLE recent_runs (
        id BLOB PRIMARY KEY,
        pipeline TEXT NOT NULL,
        version INTEGER NOT NULL,
        idempotency_key TEXT,
        created_at INTEGER NOT NULL,
        owner BLOB,
        token INTEGER NOT NULL,
        status INTEGER NOT NULL,
        started_at INTEGER,
        finished_at INTEGER,
        number INTEGER NOT NULL,
        outcome BLOB,
        trigger BLOB,
        error BLOB,
        result BLOB
    ) STRICT, WITHOUT ROWID;
    CREATE UNIQUE INDEX recent_runs_by_key ON recent_runs (pipeline, idempotency_key)
        WHERE idempotency_key IS NOT NULL;
";

// Which records of the redo log are of what has not been committed, and whether a process had such a log that has not come to
// its end: docs/adr/0014. A program that does not know of them must not open the file.
const VERSION_8: &str = "
    CREATE TABLE redo (epoch BLOB NOT NULL, in_use INTEGER NOT NULL) STRICT;
    INSERT INTO redo (epoch, in_use) VALUES (randomblob(16), 0);
";

/// What a file says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    /// Nothing is in it.
    Empty,
    /// It is ours, with this version of the schema.
    Ours(u32),
    /// It is another program's.
    Foreign,
}

/// Looks at a file without changing it.
pub(super) fn look(connection: &Connection) -> Result<Found, Fault> {
    let tables: i64 = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    let application: i32 = connection.pragma_query_value(None, "application_id", |row| row.get(0))?;
    let version: i32 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    Ok(match (application, u32::try_from(version)) {
        (APPLICATION_ID, Ok(version)) if version > 0 => Found::Ours(version),
        (0, Ok(0)) if tables == 0 => Found::Empty,
        _ => Found::Foreign,
    })
}

/// Whether each event of a run has a place beside the others of that run.
fn check_logs(connection: &Connection) -> Result<(), Fault> {
    let mut find =
        connection.prepare("SELECT run, last FROM events WHERE last NOT BETWEEN 1 AND ?1 LIMIT 1")?;
    let found: Option<([u8; 16], i64)> =
        find.query_row([integer(MOST_EVENTS)], |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
    match found {
        Some((run, last)) if last > 0 => Err(Fault::Refused(format!(
            "the run {} has {last} events, and this version keeps {MOST_EVENTS} of a run at most; remove it with the program \
             that wrote the file",
            RunId::from_bytes(run)
        ))),
        Some((run, _)) => {
            let run = RunId::from_bytes(run);
            Err(Fault::Corrupt(format!("the events of run {run} are not numbered from 1 on")))
        }
        None => Ok(()),
    }
}

/// Brings the file from version `found` (0: empty) to the newest, wholly or not at all.
pub(super) fn migrate(connection: &mut Connection, found: u32) -> Result<(), Fault> {
    if found >= NEWEST {
        return Ok(());
    }
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    for (before, migration) in (0..).zip(MIGRATIONS).skip(found as usize) {
        if before + 1 == WITH_RECENT_RUNS {
            check_logs(&transaction)?;
        }
        transaction.execute_batch(migration)?;
    }
    transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    transaction.pragma_update(None, "user_version", NEWEST)?;
    Ok(transaction.commit()?)
}
