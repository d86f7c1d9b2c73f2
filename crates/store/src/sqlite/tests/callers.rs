//! Callers that write by themselves, and those that do not.

use std::thread::ThreadId;
use std::time::Duration;

use rusqlite::Connection;
use serde_json::{Map, json};

use super::*;
use crate::conformance::record;

/// Asks until it is this thread that writes: others of the machine may have made the commits before slow.
async fn until_written_here(store: &SqliteStore) {
    let mut tries = 0;
    while written_in(store).await != std::thread::current().id() {
        tries += 1;
        assert!(tries < 10_000, "commits are quick again");
    }
}

/// In which thread something is written.
async fn written_in(store: &SqliteStore) -> ThreadId {
    store.writer.carry_out_here(|_| Ok(std::thread::current().id())).await.unwrap()
}

fn create() -> RunWrite {
    RunWrite::Create { run: Box::new(record("p", 0)), owner: Uuid::now_v7(), firing: None, replays: None }
}

#[tokio::test]
async fn a_caller_writes_by_itself_where_nobody_waits() {
    let directory = TempDir::new().unwrap();
    let store = relaxed(&directory);
    let here = std::thread::current().id();
    assert_eq!(written_in(&store).await, here);
    let asked = store.writer.carry_out(|_| Ok(std::thread::current().id()));
    assert_ne!(asked.await.unwrap(), here, "what may take long is the thread's");
    until_written_here(&store).await;
}

#[tokio::test]
async fn who_comes_later_is_not_before_those_who_wait() {
    let directory = TempDir::new().unwrap();
    let store = relaxed(&directory);
    let (open_gate, gate) = std::sync::mpsc::channel::<()>();
    let blocked = store.writer.carry_out(move |_| {
        gate.recv().unwrap();
        Ok(())
    });
    // Polled in this order: the second asks while the first waits for the gate.
    let (first, second, ()) =
        tokio::join!(blocked, written_in(&store), async { open_gate.send(()).unwrap() });
    first.unwrap();
    assert_ne!(second, std::thread::current().id());
}

#[tokio::test]
async fn slow_commits_are_the_threads() {
    let directory = TempDir::new().unwrap();
    let store = relaxed(&directory);
    let here = std::thread::current().id();
    let slow = |_: &mut Batch<'_>| {
        std::thread::sleep(Duration::from_millis(20));
        Ok(())
    };
    store.writer.carry_out(slow).await.unwrap();
    assert_ne!(written_in(&store).await, here);
    until_written_here(&store).await;
}

#[tokio::test]
async fn a_lock_of_another_program_holds_up_no_thread_but_the_writers() {
    let directory = TempDir::new().unwrap();
    let store = relaxed(&directory);
    store.write(vec![create()]).await.unwrap();
    let other = Connection::open(&store.path).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    // All of this is one thread: did the write wait in it, the lock would never be let go of.
    let (written, ()) = tokio::join!(store.write(vec![create()]), async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        other.execute_batch("ROLLBACK").unwrap();
    });
    assert!(written.unwrap()[0].is_ok());
}

#[tokio::test]
async fn the_log_is_folded_into_the_file() {
    let directory = TempDir::new().unwrap();
    let store = relaxed(&directory);
    let parameters = Arc::new(Map::from_iter([("x".to_owned(), json!("x".repeat(50 << 10)))]));
    let mut longest = 0;
    for _ in 0..1000 {
        let mut run = record("p", 0);
        run.parameters = Arc::clone(&parameters);
        let create =
            RunWrite::Create { run: Box::new(run), owner: Uuid::now_v7(), firing: None, replays: None };
        assert!(store.write(vec![create]).await.unwrap()[0].is_ok());
        let log = paths::with_end(&store.path, "-wal");
        longest = longest.max(std::fs::metadata(log).unwrap().len());
    }
    assert!(longest < 24 << 20, "{longest} bytes of log for 50 MiB of runs");
}

#[test]
fn a_transaction_that_was_left_open_is_in_the_way_of_none() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("t.db");
    let connection = Connection::open(&path).unwrap();
    connection
        .execute_batch("PRAGMA journal_mode = WAL; CREATE TABLE t (a); BEGIN; INSERT INTO t VALUES (1)")
        .unwrap();
    let mut desk = desk::Desk::new(path, connection, None, None).unwrap();
    let mut found = None;
    let count = |batch: &mut Batch<'_>| {
        found = Some(batch.connection.query_row("SELECT count(*) FROM t", [], |row| row.get::<_, i64>(0))?);
        Ok(())
    };
    desk.commit(count).unwrap();
    assert_eq!(found, Some(0));
}
