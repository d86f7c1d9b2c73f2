//! What a check of a file finds of tables that do not fit together.

use rusqlite::Connection;
use taskiq_flow_core::run::RunStatus;

use super::recent::{begun, more, written};
use super::*;
use crate::conformance::{ending, record};

/// A file with three runs in `runs`, one of which has an idempotency key.
async fn file(directory: &TempDir) -> (PathBuf, Vec<RunId>) {
    let store = relaxed(directory);
    let owner = Uuid::now_v7();
    let mut ids = Vec::new();
    for _ in 0..2 {
        let (id, fence) = begun(&store, owner).await;
        written(&store, vec![more(ending(id, fence, 2, RunStatus::Completed))]).await;
        ids.push(id);
    }
    let mut run = record("p", 0);
    run.idempotency_key = Some("once".to_owned());
    ids.push(run.run_id);
    written(&store, vec![RunWrite::Create { run: Box::new(run), owner, firing: None, replays: None }]).await;
    let path = store.path.clone();
    store.close().await;
    (path, ids)
}

const AS_RECENT: &str =
    "INSERT INTO recent_runs (id, pipeline, version, idempotency_key, created_at, token, status, number)
    SELECT ?1, pipeline, version, idempotency_key, created_at, token, status, ?3 FROM runs WHERE id = ?2";

/// What is done to a file, the runs that this is about (none: one that is not there), a number, and what is told of it.
type Case = (&'static str, [Option<usize>; 2], Option<i64>, &'static [&'static str]);

#[tokio::test]
async fn what_does_not_fit_is_found() {
    let other = RunId::new();
    let cases: [Case; 7] = [
        (AS_RECENT, [Some(0), Some(0)], Some(1), &["is in both tables", "has two numbers"]),
        (AS_RECENT, [None, Some(2)], Some(9), &["the idempotency key of run", "what went into run"]),
        ("DELETE FROM run_numbers WHERE run = ?1", [Some(0), None], None, &["has no number", "of no run"]),
        ("DELETE FROM runs WHERE id = ?1", [Some(0), None], None, &["has a number, and is not there"]),
        (
            "UPDATE run_numbers SET number = 2 WHERE run = ?1",
            [Some(0), None],
            None,
            &["several runs have the number 2", "the log of number 1 is that of no run"],
        ),
        (
            "INSERT INTO run_log (place, body) SELECT 77 << 26 | 1, ?1",
            [Some(0), None],
            None,
            &["the log of number 77 is that of no run"],
        ),
        (
            "DELETE FROM run_log WHERE place = 1 << 26 AND ?1 <> x''",
            [Some(0), None],
            None,
            &["what went into run"],
        ),
    ];
    for (sql, runs, number, expected) in cases {
        let directory = TempDir::new().unwrap();
        let (path, ids) = file(&directory).await;
        assert_eq!(SqliteFile::open(&path).unwrap().check().unwrap().problems, Vec::<String>::new());
        let [first, second] = runs.map(|run| run.map_or(other, |run| ids[run]));
        let raw = Connection::open(&path).unwrap();
        let mut change = raw.prepare(sql).unwrap();
        for (place, value) in (1..).zip([&first, &second]).take(change.parameter_count()) {
            change.raw_bind_parameter(place, value.as_bytes()).unwrap();
        }
        if let Some(number) = number {
            change.raw_bind_parameter(3, number).unwrap();
        }
        assert!(change.raw_execute().unwrap() > 0, "{sql}");
        drop(change);
        drop(raw);
        let problems = SqliteFile::open(&path).unwrap().check().unwrap().problems;
        assert_eq!(problems.len(), expected.len(), "{sql}: {problems:?}");
        for (problem, expected) in problems.iter().zip(expected) {
            assert!(problem.contains(expected), "{sql}: {problems:?}");
        }
        if sql == AS_RECENT {
            let error = SqliteStore::open(SqliteOptions::new(&path)).unwrap_err();
            assert!(matches!(&error, StoreError::Corrupt { what, .. } if *what == problems[0]), "{error:?}");
            assert!(problems[0].contains(&first.to_string()), "{problems:?}");
        }
    }
}

/// Of many things that are wrong so many are told.
#[tokio::test]
async fn what_is_told_is_bounded() {
    let directory = TempDir::new().unwrap();
    let (path, _) = file(&directory).await;
    let raw = Connection::open(&path).unwrap();
    raw.execute_batch(
        "WITH RECURSIVE n (n) AS (SELECT 50 UNION ALL SELECT n + 1 FROM n WHERE n < 400)
         INSERT INTO run_log (place, body) SELECT n << 26, x'00' FROM n",
    )
    .unwrap();
    drop(raw);
    assert_eq!(SqliteFile::open(&path).unwrap().check().unwrap().problems.len(), 100);
}
