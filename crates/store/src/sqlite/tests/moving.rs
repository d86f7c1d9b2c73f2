//! How rows of runs move from one table to the other.

use serde_json::json;
use taskiq_flow_core::run::RunStatus;

use super::recent::{begun, counts, more, written};
use super::*;
use crate::Append;
use crate::conformance::{ending, record};

/// The end of a run with a result of so many bytes.
fn end_with(id: RunId, fence: Fence, seq: u64, bytes: usize) -> Append {
    let mut end = ending(id, fence, seq, RunStatus::Completed);
    end.summary.result = Some(Arc::new(json!("x".repeat(bytes))));
    end
}

#[tokio::test]
async fn the_end_of_a_small_run_does_not_move_large_ones() {
    let directory = TempDir::new().unwrap();
    let store = relaxed(&directory);
    let owner = Uuid::now_v7();
    let mut large = Vec::new();
    for _ in 0..31 {
        let (id, fence) = begun(&store, owner).await;
        written(&store, vec![more(end_with(id, fence, 2, 64 << 10))]).await;
        large.push(id);
    }
    let (id, fence) = begun(&store, owner).await;
    let log = paths::with_end(&store.path, "-wal");
    let before = std::fs::metadata(&log).unwrap().len();
    written(&store, vec![more(ending(id, fence, 2, RunStatus::Completed))]).await;
    let since = std::fs::metadata(&log).unwrap().len() - before;
    assert!(since < 256 << 10, "{since} bytes");
    assert_eq!(counts(&store.path), (1, 31), "large ones went where they stay when they ended");
    for id in large {
        let run = store.run(id).await.unwrap().unwrap();
        assert_eq!(run.summary.result.unwrap().as_str().unwrap().len(), 64 << 10);
        assert_eq!((run.last_seq, store.events(id, 0, 9).await.unwrap().len()), (2, 2));
    }
}

#[tokio::test]
async fn what_is_not_written_yet_is_written_before_rows_move() {
    let directory = TempDir::new().unwrap();
    let store = relaxed(&directory);
    let (id, fence) = begun(&store, Uuid::now_v7()).await;
    written(&store, vec![more(ending(id, fence, 2, RunStatus::Failed))]).await;
    for (seq, status, all) in [(3, RunStatus::Cancelled, false), (4, RunStatus::TimedOut, true)] {
        let again = [Prepared::new(more(ending(id, fence, seq, status))).unwrap()];
        let both = move |batch: &mut Batch<'_>| {
            let answers = batch.write(&again)?;
            if all { batch.move_all() } else { batch.move_ended() }.map(|()| answers)
        };
        let answers = store.writer.carry_out(both).await.unwrap();
        assert!(answers[0].is_ok(), "{answers:?}");
        let run = store.run(id).await.unwrap().unwrap();
        assert_eq!((run.summary.status, run.last_seq), (status, seq));
    }
    assert_eq!(counts(&store.path), (0, 1));
}

#[tokio::test]
async fn runs_that_had_ended_before_are_not_counted_again() {
    let directory = TempDir::new().unwrap();
    let store = relaxed(&directory);
    let owner = Uuid::now_v7();
    for _ in 0..16 {
        let (id, fence) = begun(&store, owner).await;
        written(&store, vec![more(ending(id, fence, 2, RunStatus::Failed))]).await;
        for seq in 3..6 {
            written(&store, vec![more(end_with(id, fence, seq, 1))]).await;
        }
    }
    assert_eq!(counts(&store.path), (16, 0));
    for _ in 0..16 {
        assert_eq!(counts(&store.path).1, 0);
        let (id, fence) = begun(&store, owner).await;
        written(&store, vec![more(ending(id, fence, 2, RunStatus::Failed))]).await;
    }
    assert_eq!(counts(&store.path), (0, 32));
}

/// Rows that cannot move when the store is closed take nothing else with them.
#[tokio::test]
async fn what_was_measured_is_kept_when_rows_cannot_move() {
    let directory = TempDir::new().unwrap();
    let store = relaxed(&directory);
    let owner = Uuid::now_v7();
    let measured = |name: &str| vec![(Arc::<str>::from(name), 7)];
    // The first is written at once, the second with others or at the end.
    for name in ["first", "second"] {
        let (id, fence) = begun(&store, owner).await;
        let end = Append { durations: measured(name), ..ending(id, fence, 2, RunStatus::Completed) };
        written(&store, vec![more(end)]).await;
    }
    let stray = "INSERT INTO runs (id, pipeline, version, created_at, token, status)
                 SELECT id, pipeline, version, created_at, token, status FROM recent_runs";
    store.writer.carry_out(|batch| Ok(batch.connection.execute(stray, [])?)).await.unwrap();
    let path = store.path.clone();
    store.close().await;
    let file = rusqlite::Connection::open(&path).unwrap();
    let tasks: i64 = file.query_row("SELECT count(*) FROM durations", [], |row| row.get(0)).unwrap();
    assert_eq!(tasks, 2);
}

/// What takes long is left to the thread that writes.
#[test]
fn who_writes_in_passing_moves_little() {
    let write = |desk: &mut desk::Desk, in_passing: bool, writes: Vec<RunWrite>| {
        let writes: Vec<_> = writes.into_iter().map(|write| Prepared::new(write).unwrap()).collect();
        let work = |batch: &mut Batch<'_>| batch.write(&writes).map(|answers| assert!(answers[0].is_ok()));
        if in_passing { desk.commit_in_passing(work) } else { desk.commit(work) }.unwrap();
    };
    let begin = |desk: &mut desk::Desk, in_passing: bool| {
        let (run, owner) = (record("p", 0), Uuid::now_v7());
        let (id, fence) = (run.run_id, Fence { owner, token: 1 });
        let create = RunWrite::Create { run: Box::new(run), owner, firing: None, replays: None };
        write(desk, in_passing, vec![create]);
        (id, fence)
    };
    for (bytes, waits) in [(10, false), (3000, true)] {
        let directory = TempDir::new().unwrap();
        let opened = open::open(&SqliteOptions::new(directory.path().join("t.db"))).unwrap();
        let path = opened.path.clone();
        let mut desk = desk::Desk::new(opened.path, opened.writer, None, None).unwrap();
        for place in 0..32 {
            let (id, fence) = begin(&mut desk, true);
            assert_eq!(counts(&path), (place + 1, 0));
            write(&mut desk, true, vec![more(end_with(id, fence, 1, bytes))]);
        }
        assert_eq!(counts(&path), if waits { (32, 0) } else { (0, 32) });
        assert!(!(waits && desk.is_quick()), "it is the turn of the thread that writes");
        begin(&mut desk, false);
        assert_eq!(counts(&path), (1, 32));
        for _ in 0..256 {
            begin(&mut desk, true);
        }
        assert_eq!(counts(&path), (257, 32), "those under way are many");
        assert!(!desk.is_quick());
        begin(&mut desk, false);
        assert_eq!(counts(&path), (0, 290));
    }
}
