//! Writes that have a record on the disk and are not committed yet.

use std::collections::BTreeMap;

use rusqlite::Connection;
use taskiq_flow_core::run::RunStatus;

use super::*;
use crate::Append;
use crate::conformance::{append, ending, record};
use crate::sqlite::desk::Desk;

/// A file whose writes are recorded, and committed when a test says so.
struct Recorded {
    directory: TempDir,
    desk: Desk,
    _lock: open::Lock,
}

impl Recorded {
    fn new() -> Self {
        let directory = TempDir::new().unwrap();
        let opened = open::open(&SqliteOptions::new(directory.path().join("t.db"))).unwrap();
        let redo = redo_log(&opened.path, &opened.writer);
        assert!(redo.is_some());
        let desk = Desk::new(opened.path, opened.writer, None, redo).unwrap();
        Self { directory, desk, _lock: opened.lock }
    }

    fn record(&mut self, writes: Vec<RunWrite>) -> Vec<Result<Written, WriteError>> {
        let prepared: Vec<_> = writes.into_iter().map(|write| Prepared::new(write).unwrap()).collect();
        self.desk.record(&prepared).unwrap()
    }

    fn begin(&mut self) -> (RunId, Fence) {
        let (run, fence) = (record("p", 0), Fence { owner: Uuid::now_v7(), token: 1 });
        let id = run.run_id;
        let answers = self.record(vec![create(run, fence), more(append(id, fence, [1, 2]))]);
        assert!(answers.iter().all(Result::is_ok), "{answers:?}");
        (id, fence)
    }

    /// The folder, when the file has been closed as it should.
    fn close(self) -> TempDir {
        self.desk.close();
        self.directory
    }

    /// The files as a power cut would leave them now, in a folder of their own.
    fn after_a_power_cut(&self) -> TempDir {
        let copy = TempDir::new().unwrap();
        for name in ["t.db", "t.db-wal", "t.db-redo"] {
            std::fs::copy(self.directory.path().join(name), copy.path().join(name)).unwrap();
        }
        copy
    }
}

fn create(run: RunRecord, fence: Fence) -> RunWrite {
    RunWrite::Create { run: Box::new(run), owner: fence.owner, firing: None, replays: None }
}

fn more(append: Append) -> RunWrite {
    RunWrite::Append(Box::new(append))
}

/// How many events each run of a file has that nobody has open.
async fn runs_in(directory: &TempDir) -> BTreeMap<RunId, u64> {
    let store = open(&directory.path().join("t.db"), Durability::Strict);
    let rows = store.runs(RunFilter { limit: usize::MAX, ..RunFilter::default() }).await.unwrap();
    let mut runs = BTreeMap::new();
    for row in rows {
        let run = store.run(row.run_id).await.unwrap().unwrap();
        assert_eq!(store.events(row.run_id, 0, 999).await.unwrap().len() as u64, run.last_seq);
        runs.insert(run.run_id, run.last_seq);
    }
    store.close().await;
    assert!(!directory.path().join("t.db-redo").exists(), "nothing is left to be done again");
    runs
}

#[tokio::test]
async fn what_has_a_record_outlives_a_power_cut() {
    let mut file = Recorded::new();
    let (first, fence) = file.begin();
    let (second, other) = file.begin();
    file.record(vec![more(append(first, fence, [3, 4, 5]))]);
    let refused = file.record(vec![more(append(second, fence, [3])), more(append(first, fence, [6]))]);
    assert!(matches!(refused[..], [Err(WriteError::Fenced { .. }), Ok(Written::Appended)]), "{refused:?}");
    let cut = file.after_a_power_cut();
    assert_eq!(runs_in(&cut).await, BTreeMap::from([(first, 6), (second, 2)]));
    // The file alone has none of it.
    let without = file.after_a_power_cut();
    std::fs::remove_file(without.path().join("t.db-redo")).unwrap();
    assert_eq!(runs_in(&without).await, BTreeMap::new());
    // What has been committed is not carried out again, which would be refused: its events are there.
    file.desk.settle().unwrap();
    assert_eq!(runs_in(&file.after_a_power_cut()).await, BTreeMap::from([(first, 6), (second, 2)]));
    file.record(vec![more(ending(second, other, 3, RunStatus::Completed))]);
    assert_eq!(runs_in(&file.after_a_power_cut()).await, BTreeMap::from([(first, 6), (second, 3)]));
    // A commit of something else takes it along.
    file.desk.commit(|_| Ok(())).unwrap();
    assert_eq!(runs_in(&file.after_a_power_cut()).await, BTreeMap::from([(first, 6), (second, 3)]));
    assert_eq!(runs_in(&file.close()).await.len(), 2);
}

/// A power cut in the middle of a record, wherever.
#[tokio::test]
async fn a_record_that_is_not_whole_never_happened() {
    let mut file = Recorded::new();
    let (first, fence) = file.begin();
    let before = std::fs::read(file.directory.path().join("t.db-redo")).unwrap();
    let mut run = record("p", 0);
    run.parameters = Arc::new([("x".to_owned(), "x".repeat(9000).into())].into_iter().collect());
    let second = run.run_id;
    file.record(vec![create(run, fence)]);
    let after = std::fs::read(file.directory.path().join("t.db-redo")).unwrap();
    let changed = before.iter().zip(&after).rposition(|(before, after)| before != after).unwrap() + 1;
    assert!((2 * 4096..5 * 4096).contains(&changed), "some blocks: {changed}");
    for written in [4096, 4100, 4127, 5000, 8192, changed - 1, changed] {
        let cut = file.after_a_power_cut();
        let mut bytes = before.clone();
        bytes[..written].copy_from_slice(&after[..written]);
        std::fs::write(cut.path().join("t.db-redo"), bytes).unwrap();
        let mut expected = BTreeMap::from([(first, 2)]);
        expected.extend((written == changed).then_some((second, 0)));
        assert_eq!(runs_in(&cut).await, expected, "{written} of {changed}");
    }
}

#[tokio::test]
async fn what_has_a_record_outlives_a_write_that_fails() {
    let mut file = Recorded::new();
    let (first, fence) = file.begin();
    let fail = |panics: bool| -> Result<(), Fault> {
        assert!(!panics, "on purpose");
        Err(Fault::Refused("on purpose".to_owned()))
    };
    let mut seq = 2;
    for panics in [false, true] {
        file.desk
            .commit(|batch| {
                batch.connection.execute("DELETE FROM run_log", [])?;
                fail(panics)
            })
            .unwrap_err();
        let unseen = file.desk.unseen();
        assert!(unseen.load(std::sync::atomic::Ordering::SeqCst), "it is owed to who reads");
        assert_eq!(runs_in(&file.after_a_power_cut()).await, BTreeMap::from([(first, seq)]));
        // It goes on where it was.
        seq += 1;
        let answers = file.record(vec![more(append(first, fence, [seq]))]);
        assert!(answers[0].is_ok(), "{answers:?}");
        assert_eq!(runs_in(&file.after_a_power_cut()).await, BTreeMap::from([(first, seq)]));
    }
    file.desk.commit(|_| Err(Fault::Refused("on purpose".to_owned()))).unwrap_err();
    assert_eq!(runs_in(&file.close()).await, BTreeMap::from([(first, seq)]));
}

/// When the room for records is used up, what they say is committed.
#[tokio::test]
async fn there_is_room_for_some_records() {
    let mut file = Recorded::new();
    let (run, fence) = file.begin();
    let mut seq = 2;
    while file.desk.can_record() {
        seq += 1;
        assert!(file.record(vec![more(append(run, fence, [seq]))])[0].is_ok());
    }
    assert!((200..300).contains(&seq), "{seq}");
    assert_eq!(runs_in(&file.after_a_power_cut()).await, BTreeMap::from([(run, seq)]));
    file.desk.commit(|_| Ok(())).unwrap();
    assert!(file.desk.can_record());
    // What is too long for a record is committed at once.
    let mut long = append(run, fence, [seq + 1]);
    long.summary.result = Some(Arc::new("x".repeat(100_000).into()));
    assert!(file.record(vec![more(long)])[0].is_ok());
    let alone = file.after_a_power_cut();
    std::fs::remove_file(alone.path().join("t.db-redo")).unwrap();
    assert_eq!(runs_in(&alone).await, BTreeMap::from([(run, seq + 1)]));
}

/// Who puts a copy in the place of a store need not think of its redo log: records fit the state that they were written to, and
/// no other.
#[tokio::test]
async fn a_copy_does_not_take_what_came_later() {
    let mut file = Recorded::new();
    let (run, fence) = file.begin();
    file.desk.settle().unwrap();
    let path = file.desk.path.clone();
    let copying = Copying::default();
    copy::copy_open(&path, &file.directory.path().join("copy.db"), false, &copying.begin().unwrap()).unwrap();
    let restored = |file: &Recorded| {
        let restored = file.after_a_power_cut();
        std::fs::remove_file(restored.path().join("t.db-wal")).unwrap();
        std::fs::copy(file.directory.path().join("copy.db"), restored.path().join("t.db")).unwrap();
        restored
    };
    file.record(vec![more(append(run, fence, [3]))]);
    assert_eq!(
        runs_in(&restored(&file)).await,
        BTreeMap::from([(run, 3)]),
        "it was the next thing that happened"
    );
    file.desk.commit(|_| Ok(())).unwrap();
    file.begin();
    assert_eq!(runs_in(&restored(&file)).await, BTreeMap::from([(run, 2)]));
}

/// A commit that failed may be found after a crash all the same: what its records said is there once, and there are no more
/// of them before another commit.
#[tokio::test]
async fn there_are_no_records_after_a_commit_that_failed() {
    let mut file = Recorded::new();
    let (run, fence) = file.begin();
    file.desk.connection().commit_hook(Some(|| true)).unwrap();
    for _ in 0..2 {
        file.desk.settle().unwrap_err();
        assert!(!file.desk.can_record());
        assert_eq!(runs_in(&file.after_a_power_cut()).await, BTreeMap::from([(run, 2)]));
    }
    file.desk.connection().commit_hook(None::<fn() -> bool>).unwrap();
    file.desk.commit(|_| Ok(())).unwrap();
    assert!(file.desk.can_record());
    assert!(file.record(vec![more(append(run, fence, [3]))])[0].is_ok());
    assert_eq!(runs_in(&file.after_a_power_cut()).await, BTreeMap::from([(run, 3)]));
}

/// Whoever asks a server every second whether it is ready has it write nothing.
#[test]
fn what_changes_nothing_writes_nothing() {
    let mut file = Recorded::new();
    file.begin();
    file.desk.settle().unwrap();
    let log = file.directory.path().join("t.db-wal");
    let log = || std::fs::read(&log).unwrap();
    let before = log();
    file.desk.commit(|_| Ok(())).unwrap();
    assert!(log() == before);
}

/// What cannot be recorded is committed, and what may be left of its record is none.
#[tokio::test]
async fn a_record_that_cannot_be_written_is_made_up_for() {
    let mut file = Recorded::new();
    let (run, fence) = file.begin();
    file.desk.redo().break_off().unwrap();
    assert!(file.record(vec![more(append(run, fence, [3]))])[0].is_ok());
    assert!(!file.desk.can_record(), "the log is used no more");
    assert_eq!(runs_in(&file.after_a_power_cut()).await, BTreeMap::from([(run, 3)]));
    assert!(!file.desk.unseen().load(std::sync::atomic::Ordering::SeqCst));
    assert_eq!(runs_in(&file.close()).await, BTreeMap::from([(run, 3)]));
}

/// What is owed does not depend on what others have done to the log meanwhile.
#[tokio::test]
async fn what_has_a_record_is_not_lost_with_the_log() {
    let mut file = Recorded::new();
    let (run, _) = file.begin();
    std::fs::remove_file(file.directory.path().join("t.db-redo")).unwrap();
    file.desk.commit(|_| Err(Fault::Refused("on purpose".to_owned()))).unwrap_err();
    file.desk.commit(|_| Ok(())).unwrap();
    assert_eq!(runs_in(&file.close()).await, BTreeMap::from([(run, 2)]));
}

#[tokio::test]
async fn a_relaxed_store_takes_over_what_has_records() {
    let mut file = Recorded::new();
    let (run, _) = file.begin();
    let cut = file.after_a_power_cut();
    let store = open(&cut.path().join("t.db"), Durability::Relaxed);
    assert!(!cut.path().join("t.db-redo").exists());
    assert_eq!(store.run(run).await.unwrap().unwrap().last_seq, 2);
    let level: i64 = store
        .writer
        .carry_out(|batch| Ok(batch.connection.pragma_query_value(None, "synchronous", |row| row.get(0))?))
        .await
        .unwrap();
    assert_eq!(level, 1, "NORMAL again");
}

/// A write that ends before it is on the disk would be lost in a power cut, which no copy of the files shows.
#[test]
fn records_wait_for_the_disk() {
    let mut file = Recorded::new();
    assert!(file.desk.redo().waits_for_the_disk());
    let level: i64 =
        file.desk.connection().pragma_query_value(None, "synchronous", |row| row.get(0)).unwrap();
    assert_eq!(level, 2, "FULL");
}

/// A file and a redo log that were put together by hand are refused, and left alone.
#[tokio::test]
async fn records_that_do_not_fit_are_told_of() {
    let mut file = Recorded::new();
    let early = file.after_a_power_cut();
    let (run, owner) = (record("p", 0), Uuid::now_v7());
    let (id, fence) = (run.run_id, Fence { owner, token: 1 });
    let created = [Prepared::new(create(run, fence)).unwrap()];
    file.desk.commit(|batch| batch.write(&created).map(drop)).unwrap();
    file.record(vec![more(append(id, fence, [1]))]);
    std::fs::copy(file.directory.path().join("t.db-redo"), early.path().join("t.db-redo")).unwrap();
    let path = early.path().join("t.db");
    let epoch: [u8; 16] =
        file.desk.connection().query_row("SELECT epoch FROM redo", [], |row| row.get(0)).unwrap();
    Connection::open(&path).unwrap().execute("UPDATE redo SET epoch = ?1", [epoch]).unwrap();
    for _ in 0..2 {
        let errors =
            [SqliteStore::open(SqliteOptions::new(&path)).unwrap_err(), SqliteFile::open(&path).unwrap_err()];
        for error in errors {
            let StoreError::Corrupt { what, .. } = &error else { panic!("{error:?}") };
            assert!(what.contains("t.db-redo") && what.contains(&id.to_string()), "{what}");
            assert!(what.contains("Move the log away"), "{what}");
        }
    }
}

/// Those who look after a file that no process has open see what was told as done.
#[tokio::test]
async fn a_file_at_rest_has_what_its_records_say() {
    let mut file = Recorded::new();
    file.begin();
    let cut = file.after_a_power_cut();
    let checked = SqliteFile::open(cut.path().join("t.db")).unwrap().check().unwrap();
    assert_eq!(checked.problems, Vec::<String>::new());
    assert!(checked.rows.contains(&("runs".to_owned(), 1)), "{:?}", checked.rows);
}

/// A file says whether the process that had it was cut off, so that a log that has gone can be missed.
#[tokio::test]
async fn a_log_that_has_gone_is_missed() {
    let in_use = |directory: &TempDir| {
        let file = Connection::open(directory.path().join("t.db")).unwrap();
        file.query_row("SELECT in_use FROM redo", [], |row| row.get::<_, bool>(0)).unwrap()
    };
    let mut file = Recorded::new();
    file.begin();
    let [opened, looked_at, relaxed] = [(); 3].map(|()| file.after_a_power_cut());
    assert!(in_use(&opened));
    runs_in(&opened).await;
    assert!(!in_use(&opened), "it was closed as it should");
    drop(SqliteFile::open(looked_at.path().join("t.db")).unwrap());
    assert!(!in_use(&looked_at) && !looked_at.path().join("t.db-redo").exists());
    let store = open(&relaxed.path().join("t.db"), Durability::Relaxed);
    assert!(!in_use(&relaxed));
    drop(store);
    assert!(!in_use(&file.close()));
}

/// Nobody has to do anything for it to be committed.
#[tokio::test]
async fn what_has_a_record_is_committed_soon() {
    let directory = TempDir::new().unwrap();
    let store = open(&directory.path().join("t.db"), Durability::Strict);
    let (run, fence) = (record("p", 0), Fence { owner: Uuid::now_v7(), token: 1 });
    let id = run.run_id;
    assert!(store.write(vec![create(run, fence)]).await.unwrap()[0].is_ok());
    let other = Connection::open(&store.path).unwrap();
    let is_there = || {
        let count = "SELECT count(*) FROM recent_runs WHERE id = ?1";
        other.query_row(count, [id.as_bytes()], |row| row.get::<_, bool>(0)).unwrap()
    };
    let begun = std::time::Instant::now();
    while !is_there() {
        assert!(begun.elapsed().as_secs() < 20, "it is committed by nobody");
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}

/// Whatever else has the name of the log is left alone, and is no reason not to start.
#[tokio::test]
async fn without_a_redo_log_writes_are_committed() {
    let make: [fn(&Path); 4] = [
        |log| std::fs::create_dir(log).unwrap(),
        |log| std::fs::write(log, "notes").unwrap(),
        |log| std::os::unix::fs::symlink("t.db", log).unwrap(),
        |log| {
            std::fs::write(log.with_file_name("other"), "").unwrap();
            std::fs::hard_link(log.with_file_name("other"), log).unwrap();
        },
    ];
    for make in make {
        let directory = TempDir::new().unwrap();
        let log = directory.path().join("t.db-redo");
        make(&log);
        let before = std::fs::symlink_metadata(&log).unwrap().len();
        for runs in 1..=3 {
            let store = open(&directory.path().join("t.db"), Durability::Strict);
            let (run, fence) = (record("p", 0), Fence { owner: Uuid::now_v7(), token: 1 });
            assert!(store.write(vec![create(run, fence)]).await.unwrap()[0].is_ok());
            let other = Connection::open(&store.path).unwrap();
            let count = "SELECT (SELECT count(*) FROM recent_runs) + (SELECT count(*) FROM runs)";
            assert_eq!(other.query_row(count, [], |row| row.get::<_, i64>(0)), Ok(runs));
        }
        drop(relaxed(&directory));
        assert_eq!(std::fs::symlink_metadata(&log).unwrap().len(), before);
    }
}

/// A file that is damaged is looked at as it is.
#[tokio::test]
async fn a_damaged_file_is_not_written_to() {
    let mut file = Recorded::new();
    for _ in 0..50 {
        file.begin();
    }
    file.desk.settle().unwrap();
    file.desk.fold();
    file.begin();
    let cut = file.after_a_power_cut();
    let path = cut.path().join("t.db");
    let mut bytes = std::fs::read(&path).unwrap();
    let damaged = bytes.len() - 2 * 4096;
    bytes[damaged..].fill(0xa5);
    std::fs::write(&path, &bytes).unwrap();
    std::fs::remove_file(cut.path().join("t.db-wal")).unwrap();
    assert!(matches!(SqliteStore::open(SqliteOptions::new(&path)), Err(StoreError::Corrupt { .. })));
    let problems = SqliteFile::open(&path).unwrap().check().unwrap().problems;
    assert!(problems.len() > 1 && problems.iter().any(|what| what.contains("redo log")), "{problems:?}");
    assert_eq!(std::fs::read(&path).unwrap(), bytes);
}

#[cfg(unix)]
#[test]
fn only_the_owner_can_read_it() {
    use std::os::unix::fs::PermissionsExt;

    let file = Recorded::new();
    let log = std::fs::metadata(file.directory.path().join("t.db-redo")).unwrap();
    assert_eq!(log.permissions().mode() & 0o777, 0o600);
}
