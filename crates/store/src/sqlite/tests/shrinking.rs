//! Files that become smaller.

use std::fs;

use rusqlite::Connection;
use serde_json::json;
use taskiq_flow_core::run::RunStatus;

use super::*;
use crate::RunSummary;
use crate::conformance::{append, ending, record};

/// Writes runs with a log of some 20 KiB each, and ends them.
async fn write_large(store: &SqliteStore, count: usize) -> Vec<RunId> {
    let owner = Uuid::now_v7();
    let fence = Fence { owner, token: 1 };
    let mut ids = Vec::new();
    for _ in 0..count {
        let run = record("p", 0);
        let id = run.run_id;
        let mut more = append(id, fence, [1]);
        more.logs = vec![StepLog {
            step_run: 0,
            step: "a".into(),
            attempt: 1,
            at: Timestamp::from_millis(1),
            text: "x".repeat(20_000),
        }];
        let mut end = ending(id, fence, 2, RunStatus::Completed);
        end.summary = RunSummary { result: Some(Arc::new(json!(1))), ..end.summary };
        let create = RunWrite::Create { run: Box::new(run), owner, firing: None, replays: None };
        let writes = vec![create, RunWrite::Append(Box::new(more)), RunWrite::Append(Box::new(end))];
        assert!(store.write(writes).await.unwrap().iter().all(Result::is_ok));
        ids.push(id);
    }
    ids
}

fn length(path: &Path) -> u64 {
    fs::metadata(path).unwrap().len()
}

#[tokio::test]
async fn a_file_gives_back_what_old_runs_took_while_it_is_open() {
    let directory = TempDir::new().unwrap();
    let store = relaxed(&directory);
    write_large(&store, 1500).await;
    room::fold(&store.path).unwrap();
    let full = length(&store.path);
    assert!(full > 30 << 20, "{full}");
    assert_eq!(store.prune(Retention::keep(100), 1000).await.unwrap(), 1000);
    assert_eq!(length(&store.path), full, "more are to go: nothing is moved about for that");
    assert_eq!(store.prune(Retention::keep(100), 1000).await.unwrap(), 400);
    let left = length(&store.path);
    assert!(left < full / 3, "{full} to {left}");
    let ids = write_large(&store, 10).await;
    store.close().await;
    let file = SqliteFile::open(&store.path).unwrap();
    let checked = file.check().unwrap();
    assert_eq!(checked.problems, Vec::<String>::new());
    assert!(checked.free_bytes > 0, "some room is kept for what comes");
    drop(file);
    let store = open(&store.path, Durability::Strict);
    assert_eq!(store.runs(RunFilter { limit: 1000, ..RunFilter::default() }).await.unwrap().len(), 110);
    assert_eq!(store.logs(ids[0]).await.unwrap()[0].text.len(), 20_000);
}

#[tokio::test]
async fn a_file_of_an_earlier_program_gives_room_back_once_it_is_compacted() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("t.db");
    // Earlier programs made files like this.
    Connection::open(&path)
        .unwrap()
        .execute_batch("PRAGMA auto_vacuum = NONE; PRAGMA journal_mode = WAL; VACUUM")
        .unwrap();
    let store = open(&path, Durability::Relaxed);
    let ids = write_large(&store, 1000).await;
    assert_eq!(store.prune(Retention::keep(10), 10_000).await.unwrap(), 990);
    store.close().await;
    let before = length(&path);
    assert!(before > 20 << 20, "it stays as long as it was: {before}");
    #[cfg(unix)]
    fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o640)).unwrap();
    let compacted = SqliteFile::open(&path).unwrap().compact().unwrap();
    assert_eq!((compacted.before, compacted.after), (before, length(&path)));
    assert!(compacted.after < 1 << 20, "{compacted:?}");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640, "as it was");
    }
    let file = SqliteFile::open(&path).unwrap();
    assert_eq!(file.check().unwrap().problems, Vec::<String>::new());
    drop(file);
    let store = open(&path, Durability::Relaxed);
    assert_eq!(store.run(ids[999]).await.unwrap().unwrap().summary.status, RunStatus::Completed);
    write_large(&store, 1000).await;
    assert_eq!(store.prune(Retention::keep(10), 10_000).await.unwrap(), 1000);
    room::fold(&path).unwrap();
    assert!(length(&path) < 12 << 20, "now it gives back by itself: {}", length(&path));
}

#[tokio::test]
async fn a_file_that_somebody_reads_is_not_compacted() {
    let directory = TempDir::new().unwrap();
    let store = relaxed(&directory);
    write_large(&store, 3).await;
    store.close().await;
    let other = Connection::open(&store.path).unwrap();
    other.execute_batch("BEGIN; SELECT count(*) FROM runs").unwrap();
    let writing = Connection::open(&store.path).unwrap();
    writing.execute_batch("DELETE FROM logs").unwrap();
    let error = SqliteFile::open(&store.path).unwrap().compact().unwrap_err();
    assert!(matches!(error, StoreError::Unavailable { .. }), "{error}");
}

#[tokio::test]
async fn what_would_go_is_counted_and_stays() {
    let directory = TempDir::new().unwrap();
    let store = relaxed(&directory);
    write_large(&store, 10).await;
    store.close().await;
    let file = SqliteFile::open(&store.path).unwrap();
    assert_eq!(file.count_to_go(&Retention::default()).unwrap(), 0);
    assert_eq!(file.count_to_go(&Retention::keep(4)).unwrap(), 6);
    assert_eq!(file.count_to_go(&Retention::before(Timestamp::now())).unwrap(), 10);
    assert_eq!(file.check().unwrap().rows.iter().find(|(name, _)| name == "runs").unwrap().1, 10);
}
