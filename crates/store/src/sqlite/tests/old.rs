//! Files of earlier programs, as those wrote them, with what they read of them.
//!
//! `schema-2` is of the last program that kept events as JSON: five runs of an engine, one of which has a row of 271
//! events.

use serde_json::Value;

use super::*;

pub(super) const FILE: &[u8] = include_bytes!("old/schema-2.db");
const EXPECTED: &str = include_str!("old/schema-2.json");

/// Whether all that the earlier program read is there; what it did not know may have been added since.
fn has(found: &Value, expected: &Value) -> bool {
    match (found, expected) {
        (Value::Object(found), Value::Object(expected)) => {
            expected.iter().all(|(name, value)| found.get(name).is_some_and(|found| has(found, value)))
        }
        (Value::Array(found), Value::Array(expected)) => {
            found.len() == expected.len()
                && found.iter().zip(expected).all(|(found, value)| has(found, value))
        }
        _ => found == expected,
    }
}

fn assert_same(found: impl serde::Serialize, expected: &Value, what: &str) {
    let found = serde_json::to_value(found).unwrap();
    assert!(has(&found, expected), "{what}: {found:#} lacks something of {expected:#}");
}

#[tokio::test]
async fn all_that_was_kept_is_read_back() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("t.db");
    std::fs::write(&path, FILE).unwrap();
    let expected: Value = serde_json::from_str(EXPECTED).unwrap();
    let store = open(&path, Durability::Strict);
    for run in expected["runs"].as_array().unwrap() {
        let id: RunId = run["record"]["run_id"].as_str().unwrap().parse().unwrap();
        assert_same(store.run(id).await.unwrap(), &run["record"], "a run");
        assert_same(store.logs(id).await.unwrap(), &run["logs"], "its logs");
        let events = run["events"].as_array().unwrap();
        assert_same(store.events(id, 0, 10_000).await.unwrap(), &run["events"], "its events");
        for after in (0..=events.len()).step_by(50) {
            let page = &events[after..events.len().min(after + 7)];
            assert_same(store.events(id, after as u64, 7).await.unwrap(), &Value::from(page), "a page");
        }
    }
    let rows = store.runs(RunFilter { limit: 10, ..RunFilter::default() }).await.unwrap();
    assert_eq!(rows.len(), 5);
    for row in rows {
        assert_eq!(row, RunRow::from(&store.run(row.run_id).await.unwrap().unwrap()), "as a list shows it");
    }
    assert_same(store.schedules().await.unwrap(), &expected["schedules"], "schedules");
    assert_same(store.security_records().await.unwrap(), &expected["security"], "security records");
    assert_same(store.pipelines().await.unwrap(), &expected["pipelines"], "definitions");
    let durations = store.durations(&"sums".parse().unwrap(), 50).await.unwrap();
    assert_same(durations, &expected["durations"], "durations");
}

/// A log that was begun by one program and continued by another.
#[tokio::test]
async fn runs_under_way_go_on() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("t.db");
    std::fs::write(&path, FILE).unwrap();
    let store = open(&path, Durability::Strict);
    let claimed = store.claim(Uuid::now_v7(), Timestamp::now(), Timestamp::MAX, 10).await.unwrap();
    assert_eq!(claimed.len(), 2);
    for (run, fence) in claimed {
        let before = store.events(run.run_id, 0, 1000).await.unwrap();
        let more = crate::conformance::append(run.run_id, fence, run.last_seq + 1..=run.last_seq + 3);
        let answers = store.write(vec![RunWrite::Append(Box::new(more))]).await.unwrap();
        assert!(answers[0].is_ok(), "{answers:?}");
        let after = store.events(run.run_id, 0, 1000).await.unwrap();
        assert_same(&after[..before.len()], &serde_json::to_value(&before).unwrap(), "what was there");
        assert_eq!(after.len(), before.len() + 3);
        assert_eq!(store.events(run.run_id, run.last_seq - 1, 2).await.unwrap().len(), 2, "across both");
    }
}

/// The last schema that had the log of a run among those of others, and what went in beside it.
#[tokio::test]
async fn logs_that_stand_among_others_are_brought_together() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("t.db");
    let old = rusqlite::Connection::open(&path).unwrap();
    for migration in &schema::MIGRATIONS[..6] {
        old.execute_batch(migration).unwrap();
    }
    let owner = Uuid::now_v7();
    let runs: Vec<_> = (0..20).map(|millis| crate::conformance::record("p", millis)).collect();
    for (place, run) in runs.iter().enumerate() {
        let (status, end) = if place % 2 == 0 { (3, Some(9)) } else { (1, None) };
        old.execute(
            "INSERT INTO runs (id, pipeline, version, created_at, owner, token, status, started_at, finished_at, trigger)
             VALUES (?1, 'p', 1, ?2, ?3, 1, ?4, 5, ?5, ?6)",
            params![
                run.run_id.as_bytes(),
                run.created_at.as_millis(),
                owner.as_bytes(),
                status,
                end,
                codec::to_json(&run.trigger).unwrap()
            ],
        )
        .unwrap();
        let inputs = codec::to_json(&serde_json::json!({"parameters": {"place": place}})).unwrap();
        old.execute("INSERT INTO run_inputs VALUES (?1, ?2)", params![run.run_id.as_bytes(), inputs])
            .unwrap();
    }
    let fence = crate::Fence { owner, token: 1 };
    for first in [1, 3, 5] {
        // A run in three has no event.
        for run in runs.iter().enumerate().filter(|(place, _)| place % 3 > 0).map(|(_, run)| run) {
            let events = crate::conformance::append(run.run_id, fence, [first, first + 1]).events;
            let row = log::rows(run.run_id, &events).unwrap().unwrap().remove(0);
            old.execute(
                "INSERT INTO events (run, last, body) VALUES (?1, ?2, ?3)",
                params![run.run_id.as_bytes(), codec::integer(row.last), row.body],
            )
            .unwrap();
        }
    }
    old.pragma_update(None, "application_id", schema::APPLICATION_ID).unwrap();
    old.pragma_update(None, "user_version", 6).unwrap();
    drop(old);
    let store = open(&path, Durability::Strict);
    let found = store.runs(RunFilter { limit: 99, ..RunFilter::default() }).await.unwrap();
    assert_eq!(found.len(), runs.len());
    let claimed = store.claim(owner, Timestamp::now(), Timestamp::MAX, 99).await.unwrap();
    assert_eq!(claimed.len(), 10);
    for (place, run) in runs.iter().enumerate() {
        let events = if place % 3 > 0 { 6 } else { 0 };
        let now = store.run(run.run_id).await.unwrap().unwrap();
        assert_eq!((now.parameters["place"].as_u64(), now.last_seq), (Some(place as u64), events));
        let seqs: Vec<_> =
            store.events(run.run_id, 1, 99).await.unwrap().iter().map(|event| event.seq).collect();
        assert_eq!(seqs, (2..=events).collect::<Vec<_>>());
    }
    for (run, fence) in claimed {
        let next = crate::conformance::ending(
            run.run_id,
            fence,
            run.last_seq + 1,
            taskiq_flow_core::run::RunStatus::Failed,
        );
        assert!(store.write(vec![RunWrite::Append(Box::new(next))]).await.unwrap()[0].is_ok());
    }
    assert_eq!(store.prune(Retention::keep(0), 99).await.unwrap(), 20);
    store.close().await;
    let checked = SqliteFile::open(&path).unwrap().check().unwrap();
    assert_eq!(checked.problems, Vec::<String>::new());
    assert!(checked.rows.contains(&("run_log".to_owned(), 0)), "{:?}", checked.rows);
}

/// A file of the last schema that had logs of runs among each other, with runs that have ended and results of so many bytes.
fn with_results(path: &Path, runs: i64, bytes: usize) -> Vec<RunId> {
    let old = rusqlite::Connection::open(path).unwrap();
    for migration in &schema::MIGRATIONS[..6] {
        old.execute_batch(migration).unwrap();
    }
    old.execute_batch("BEGIN").unwrap();
    let result = format!("\"{}\"", "x".repeat(bytes)).into_bytes();
    let mut ids = Vec::new();
    for place in 0..runs {
        let run = crate::conformance::record("p", place);
        let id = run.run_id;
        let trigger = codec::to_json(&run.trigger).unwrap();
        let insert = "INSERT INTO runs (id, pipeline, version, created_at, token, status, started_at, finished_at, trigger, result)
                      VALUES (?1, 'p', 1, 5, 1, 3, 5, 9, ?2, ?3)";
        old.execute(insert, params![id.as_bytes(), trigger, result]).unwrap();
        let inputs = b"{\"parameters\":{}}".to_vec();
        old.execute("INSERT INTO run_inputs VALUES (?1, ?2)", params![id.as_bytes(), inputs]).unwrap();
        let fence = crate::Fence { owner: Uuid::now_v7(), token: 1 };
        let events = crate::conformance::append(id, fence, [1, 2]).events;
        let row = log::rows(id, &events).unwrap().unwrap().remove(0);
        old.execute(
            "INSERT INTO events (run, last, body) VALUES (?1, 2, ?2)",
            params![id.as_bytes(), row.body],
        )
        .unwrap();
        ids.push(id);
    }
    old.execute_batch("COMMIT").unwrap();
    old.pragma_update(None, "application_id", schema::APPLICATION_ID).unwrap();
    old.pragma_update(None, "user_version", 6).unwrap();
    ids
}

/// Only the logs are written anew, which may be little of a file.
#[tokio::test]
async fn results_are_not_written_anew() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("t.db");
    let ids = with_results(&path, 30, 300 << 10);
    let store = open(&path, Durability::Strict);
    let log = std::fs::metadata(paths::with_end(&path, "-wal")).unwrap().len();
    assert!(log < 1 << 20, "{log} bytes");
    for id in ids {
        let run = store.run(id).await.unwrap().unwrap();
        assert_eq!(run.summary.result.unwrap().as_str().unwrap().len(), 300 << 10);
        assert_eq!((run.last_seq, store.events(id, 0, 9).await.unwrap().len()), (2, 2));
    }
}

/// What leads to a log stands before what may be long: columns behind that are reached page by page.
#[test]
fn numbers_of_runs_are_behind_nothing_long() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("t.db");
    with_results(&path, 1, 1);
    drop(open(&path, Durability::Strict));
    let file = rusqlite::Connection::open(&path).unwrap();
    for table in ["runs", "recent_runs", "run_numbers"] {
        let mut columns = file.prepare("SELECT name, type FROM pragma_table_info(?1) ORDER BY cid").unwrap();
        let columns = columns.query_map([table], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
        let columns: Vec<(String, String)> = columns.map(Result::unwrap).collect();
        let long = ["outcome", "trigger", "error", "result"];
        let first = columns.iter().position(|(name, _)| long.contains(&&**name)).unwrap_or(columns.len());
        let number = columns.iter().position(|(name, _)| name == "number");
        assert!(number.is_none_or(|number| number < first), "{table}: {columns:?}");
    }
}

/// Nothing is misfiled among the events of another run.
#[test]
fn a_log_that_is_too_long_is_refused() {
    for (last, told) in [(1_i64 << 26, "has 67108864 events"), (0, "not numbered from 1 on")] {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("t.db");
        let ids = with_results(&path, 2, 1);
        let old = rusqlite::Connection::open(&path).unwrap();
        old.execute("UPDATE events SET last = ?1 WHERE run = ?2", params![last, ids[0].as_bytes()]).unwrap();
        drop(old);
        let error = SqliteStore::open(SqliteOptions::new(&path)).unwrap_err().to_string();
        assert!(error.contains(told) && error.contains(&ids[0].to_string()), "{error}");
        assert_eq!(SqliteFile::open(&path).unwrap().check().unwrap().schema, 6, "it is as it was");
    }
}
