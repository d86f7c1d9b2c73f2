//! Where the rows of runs and their logs stand, and that they are found wherever that is.

use rusqlite::Connection;
use serde_json::json;
use taskiq_flow_core::run::RunStatus;

use super::*;
use crate::Append;
use crate::conformance::{append, ending, record};

/// Bytes of a page in the write-ahead log.
const FRAME: u64 = 4096 + 24;

pub(super) fn more(append: Append) -> RunWrite {
    RunWrite::Append(Box::new(append))
}

pub(super) async fn written(store: &SqliteStore, writes: Vec<RunWrite>) {
    let answers = store.write(writes).await.unwrap();
    assert!(answers.iter().all(Result::is_ok), "{answers:?}");
}

/// Writes a new run with its first event.
pub(super) async fn begun(store: &SqliteStore, owner: Uuid) -> (RunId, Fence) {
    let run = record("p", 0);
    let (id, fence) = (run.run_id, Fence { owner, token: 1 });
    let create = RunWrite::Create { run: Box::new(run), owner, firing: None, replays: None };
    written(store, vec![create, more(append(id, fence, [1]))]).await;
    (id, fence)
}

/// How many runs are in either table.
pub(super) fn counts(path: &Path) -> (i64, i64) {
    let connection = Connection::open(path).unwrap();
    let count = "SELECT (SELECT count(*) FROM recent_runs), (SELECT count(*) FROM runs)";
    connection.query_row(count, [], |row| Ok((row.get(0)?, row.get(1)?))).unwrap()
}

/// Each page more would be some microseconds of a commit that somebody waits for.
#[tokio::test]
async fn a_run_writes_few_pages() {
    let directory = TempDir::new().unwrap();
    let store = relaxed(&directory);
    let log = paths::with_end(&store.path, "-wal");
    let length = || std::fs::metadata(&log).unwrap().len();
    let owner = Uuid::now_v7();
    let (mut begins, mut goes_on, mut ends) = (0, 0, 0);
    for _ in 0..128 {
        let mut before = length();
        let mut pages = || {
            let since = std::mem::replace(&mut before, length());
            (before - since) / FRAME
        };
        let (id, fence) = begun(&store, owner).await;
        begins += pages();
        written(&store, vec![more(append(id, fence, [2, 3]))]).await;
        goes_on += pages();
        written(&store, vec![more(ending(id, fence, 4, RunStatus::Completed))]).await;
        ends += pages();
    }
    let at_most = |pages: u64, limit: u64| assert!(pages <= 128 * limit / 10, "{pages} pages");
    at_most(begins, 25);
    at_most(goes_on, 12);
    at_most(ends, 32);
}

#[tokio::test]
async fn runs_that_have_ended_move_together_and_those_under_way_when_there_are_many() {
    let directory = TempDir::new().unwrap();
    let store = relaxed(&directory);
    let owner = Uuid::now_v7();
    let mut runs = Vec::new();
    for _ in 0..40 {
        runs.push(begun(&store, owner).await);
    }
    for (id, fence) in &runs[..31] {
        written(&store, vec![more(ending(*id, *fence, 2, RunStatus::Failed))]).await;
    }
    assert_eq!(counts(&store.path), (40, 0));
    let (id, fence) = runs[31];
    written(&store, vec![more(ending(id, fence, 2, RunStatus::Failed))]).await;
    assert_eq!(counts(&store.path), (8, 32), "those that have ended");
    // A caller leaves it to the thread that writes to move so many.
    while (1..=257).contains(&counts(&store.path).0) {
        runs.push(begun(&store, owner).await);
    }
    assert_eq!(counts(&store.path).0, 0, "all, when there are more than lists should look at");
    // They are found where they are now, and end there.
    for (id, fence) in runs.split_off(32) {
        written(&store, vec![more(append(id, fence, [2])), more(ending(id, fence, 3, RunStatus::Completed))])
            .await;
        let run = store.run(id).await.unwrap().unwrap();
        assert_eq!((run.summary.status, run.last_seq), (RunStatus::Completed, 3));
        assert_eq!(store.events(id, 1, 9).await.unwrap().len(), 2);
    }
    assert_eq!(counts(&store.path).0, 0);
    let (id, fence) = begun(&store, owner).await;
    // What comes after the end finds the row, which moves before the next one does.
    written(&store, vec![more(ending(id, fence, 2, RunStatus::Failed))]).await;
    written(&store, vec![more(Append { logs: Vec::new(), ..ending(id, fence, 3, RunStatus::Failed) })]).await;
    let other = Fence { owner, token: 9 };
    let refused = store.write(vec![more(ending(id, other, 4, RunStatus::Completed))]).await.unwrap();
    assert_eq!(refused[0].as_ref().unwrap_err(), &WriteError::Fenced { run_id: id });
    store.prune(Retention::keep(1000), 1).await.unwrap();
    assert_eq!(counts(&store.path).0, 0, "before it is looked which runs go");
    written(&store, vec![more(ending(id, fence, 4, RunStatus::Cancelled))]).await;
    assert_eq!(store.run(id).await.unwrap().unwrap().summary.status, RunStatus::Cancelled);
}

/// A process that did not come to its end leaves runs where no index leads to them.
#[tokio::test]
async fn what_a_crash_has_left_is_counted_and_found() {
    let directory = TempDir::new().unwrap();
    let store = relaxed(&directory);
    let owner = Uuid::now_v7();
    for place in 0..5 {
        let (id, fence) = begun(&store, owner).await;
        if place < 3 {
            written(&store, vec![more(ending(id, fence, 2, RunStatus::Completed))]).await;
        }
    }
    let left = directory.path().join("left.db");
    for end in ["", "-wal"] {
        std::fs::copy(paths::with_end(&store.path, end), paths::with_end(&left, end)).unwrap();
    }
    let file = SqliteFile::open(&left).unwrap();
    assert_eq!(file.count_to_go(&Retention::keep(1)).unwrap(), 2);
    drop(file);
    assert_eq!(counts(&left), (5, 0), "counting moves nothing");
    let found = open(&left, Durability::Relaxed);
    assert_eq!(counts(&left), (0, 5));
    assert_eq!(found.claim(owner, Timestamp::now(), Timestamp::MAX, 9).await.unwrap().len(), 2);
}

#[test]
fn runs_that_would_go_are_counted_in_files_of_earlier_programs() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("t.db");
    std::fs::write(&path, old::FILE).unwrap();
    assert_eq!(SqliteFile::open(&path).unwrap().count_to_go(&Retention::keep(0)).unwrap(), 3);
}

#[tokio::test]
async fn numbers_of_runs_begin_anew_with_those_that_are_free() {
    let directory = TempDir::new().unwrap();
    let store = relaxed(&directory);
    let owner = Uuid::now_v7();
    let mut runs = vec![begun(&store, owner).await, begun(&store, owner).await];
    let last = |batch: &mut Batch<'_>| {
        batch.memory.last_number = Some(places::LAST_NUMBER - 1);
        Ok(())
    };
    store.writer.carry_out(last).await.unwrap();
    runs.push(begun(&store, owner).await);
    runs.push(begun(&store, owner).await);
    for (id, fence) in &runs {
        written(&store, vec![more(append(*id, *fence, [2, 3])), more(append(*id, *fence, [4]))]).await;
    }
    let number = |id| store.readers.read(move |connection| places::number_of(connection, id));
    assert_eq!(number(runs[2].0).await.unwrap(), Some(places::LAST_NUMBER));
    assert_eq!(number(runs[3].0).await.unwrap(), Some(3), "1 and 2 are taken");
    for (id, fence) in &runs {
        written(&store, vec![more(ending(*id, *fence, 5, RunStatus::Completed))]).await;
        assert_eq!(store.events(*id, 0, 99).await.unwrap().len(), 5);
        assert_eq!(json!(store.run(*id).await.unwrap().unwrap().parameters), json!({"path": "README.md"}));
    }
    assert_eq!(store.prune(Retention::keep(1), 9).await.unwrap(), 3);
    let (id, _) = runs[3];
    assert_eq!(store.events(id, 4, 99).await.unwrap().len(), 1);
}

/// Who has used up the events of a run can still end it.
#[tokio::test]
async fn a_log_has_an_end_and_room_for_that_of_the_run() {
    let directory = TempDir::new().unwrap();
    let store = relaxed(&directory);
    let (id, fence) = begun(&store, Uuid::now_v7()).await;
    let most = (1 << 26) - 1;
    let near = move |batch: &mut Batch<'_>| {
        batch.connection.execute(
            "UPDATE run_log SET place = place + ?1 WHERE place & 67108863 > 0",
            [codec::integer(most - 1002)],
        )?;
        batch.forget_head(id);
        Ok(())
    };
    store.writer.carry_out(near).await.unwrap();
    let next = most - 1000;
    let answers = store
        .write(vec![more(append(id, fence, [next])), more(append(id, fence, [next + 1]))])
        .await
        .unwrap();
    assert!(answers[0].is_ok(), "{answers:?}");
    let too_large = |limit: u64| WriteError::TooLarge { run_id: id, unit: "events", limit: limit as usize };
    assert_eq!(answers[1].as_ref().unwrap_err(), &too_large(next));
    written(&store, vec![more(ending(id, fence, next + 1, RunStatus::Failed))]).await;
    let rest = Append {
        summary: ending(id, fence, 1, RunStatus::Failed).summary,
        ..append(id, fence, next + 2..=most)
    };
    written(&store, vec![more(rest), more(append(id, fence, []))]).await;
    let beyond = store.write(vec![more(ending(id, fence, most + 1, RunStatus::Failed))]).await.unwrap();
    assert_eq!(beyond[0].as_ref().unwrap_err(), &too_large(most));
    assert_eq!(store.run(id).await.unwrap().unwrap().last_seq, most);
    assert_eq!(store.events(id, most - 1, 9).await.unwrap().len(), 1);
    assert!(store.events(id, u64::MAX, 9).await.unwrap().is_empty());
}
