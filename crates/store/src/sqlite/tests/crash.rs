//! A process that is killed in the middle of writing, and a log that is cut off.

use std::collections::{BTreeMap, HashMap};
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::sync::Arc;

use taskiq_flow_core::run::RunStatus;

use super::*;
use crate::conformance::{append, ending, record};

/// Tells the test, when it is started by itself, to be the one that is killed.
const ROLE: &str = "TASKIQ_FLOW_STORE_CRASH_PATH";

/// Writes until it is killed; prints `ack <run> <seq>` after each acknowledgement.
async fn write_for_ever(path: PathBuf, durability: Durability, at_once: usize) {
    let store = Arc::new(open(&path, durability));
    let mut writers = tokio::task::JoinSet::new();
    for _ in 0..at_once {
        let store = Arc::clone(&store);
        writers.spawn(async move {
            loop {
                let (run, owner) = (record("p", 0), Uuid::now_v7());
                let (id, fence) = (run.run_id, Fence { owner, token: 1 });
                let first = RunWrite::Append(Box::new(append(id, fence, [1, 2])));
                let calls = [
                    (
                        2,
                        vec![
                            RunWrite::Create { run: Box::new(run), owner, firing: None, replays: None },
                            first,
                        ],
                    ),
                    (5, vec![RunWrite::Append(Box::new(append(id, fence, [3, 4, 5])))]),
                    (6, vec![RunWrite::Append(Box::new(ending(id, fence, 6, RunStatus::Completed)))]),
                ];
                for (seq, writes) in calls {
                    assert!(store.write(writes).await.unwrap().iter().all(Result::is_ok));
                    let line = format!("ack {id} {seq}\n");
                    std::io::stdout().lock().write_all(line.as_bytes()).unwrap();
                }
            }
        });
    }
    writers.join_next().await;
}

fn durability_of(name: &str) -> Durability {
    if name == "strict" { Durability::Strict } else { Durability::Relaxed }
}

#[tokio::test]
async fn nothing_acknowledged_is_lost_when_the_process_is_killed() {
    if let Some(role) = std::env::var_os(ROLE) {
        let role = role.into_string().unwrap();
        let [durability, at_once, path] = role.splitn(3, ':').collect::<Vec<_>>().try_into().unwrap();
        return write_for_ever(path.into(), durability_of(durability), at_once.parse().unwrap()).await;
    }
    // Who writes alone leaves records, several at once commit together.
    for (durability, at_once) in [("strict", 1), ("strict", 4), ("relaxed", 4)] {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("t.db");
        let mut acknowledged: HashMap<RunId, u64> = HashMap::new();
        for kill_after in [1, 40, 150] {
            for line in killed_after(kill_after, &path, durability, at_once) {
                let mut words = line.split(' ').skip(1);
                let id = words.next().unwrap().parse().unwrap();
                acknowledged.insert(id, words.next().unwrap().parse().unwrap());
            }
            let store = open(&path, durability_of(durability));
            check(&store, &acknowledged).await;
            go_on(&store).await;
        }
        assert!(acknowledged.len() > 40);
    }
}

/// Starts this test as another process and kills it once it has acknowledged so many writes. All that it acknowledged.
fn killed_after(count: usize, path: &Path, durability: &str, at_once: usize) -> Vec<String> {
    let name = "sqlite::tests::crash::nothing_acknowledged_is_lost_when_the_process_is_killed";
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([name, "--exact", "--nocapture"])
        .env(ROLE, format!("{durability}:{at_once}:{}", path.display()))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    let mut acknowledged = Vec::new();
    while acknowledged.len() < count {
        let line = lines.next().expect("the writing process ended by itself");
        acknowledged.extend(line.starts_with("ack ").then_some(line));
    }
    let second = SqliteStore::open(SqliteOptions::new(path)).unwrap_err();
    assert!(matches!(second, StoreError::Locked { .. }), "another process has it: {second}");
    child.kill().unwrap();
    child.wait().unwrap();
    acknowledged.extend(lines.filter(|line| line.starts_with("ack ")));
    acknowledged
}

/// Everything acknowledged is there, and what else is there is whole.
async fn check(store: &SqliteStore, acknowledged: &HashMap<RunId, u64>) {
    let rows = store.runs(RunFilter { limit: usize::MAX, ..RunFilter::default() }).await.unwrap();
    let mut runs = Vec::with_capacity(rows.len());
    for row in rows {
        let run = store.run(row.run_id).await.unwrap().unwrap();
        assert_eq!(row, RunRow::from(&run));
        runs.push(run);
    }
    let found: BTreeMap<RunId, u64> = runs.iter().map(|run| (run.run_id, run.last_seq)).collect();
    for (id, seq) in acknowledged {
        let found = found.get(id).unwrap_or_else(|| panic!("the run {id} is lost"));
        assert!(found >= seq, "of run {id} {seq} events were acknowledged, and {found} are there");
    }
    for run in runs {
        let given_up = u64::from(run.summary.status == RunStatus::Failed);
        let written = run.last_seq - given_up;
        assert!([2, 5, 6].contains(&written), "a write is there wholly or not at all: {written}");
        assert_eq!(run.summary.status == RunStatus::Completed, written == 6);
        let events = store.events(run.run_id, 0, 100).await.unwrap();
        let seqs: Vec<_> = events.iter().map(|event| event.seq).collect();
        assert_eq!(seqs, (1..=run.last_seq).collect::<Vec<_>>());
    }
}

/// Ends the runs that were under way, each under a new fence.
async fn go_on(store: &SqliteStore) {
    let owner = Uuid::now_v7();
    let claimed = store.claim(owner, Timestamp::now(), Timestamp::MAX, usize::MAX).await.unwrap();
    for (run, fence) in claimed {
        assert!(fence.owner == owner && fence.token > 1 && run.last_seq < 6);
        let late = Fence { owner, token: fence.token - 1 };
        let with = |fence| {
            RunWrite::Append(Box::new(ending(run.run_id, fence, run.last_seq + 1, RunStatus::Failed)))
        };
        let answers = store.write(vec![with(late), with(fence)]).await.unwrap();
        assert!(
            matches!(answers[..], [Err(WriteError::Fenced { .. }), Ok(Written::Appended)]),
            "{answers:?}"
        );
    }
    for status in RunStatus::ALL.into_iter().filter(|status| !status.is_terminal()) {
        let open = RunFilter { status: Some(status), limit: 1, ..RunFilter::default() };
        assert!(store.runs(open).await.unwrap().is_empty(), "all of them were claimed");
    }
}

/// As after a power cut, which leaves some first part of the write-ahead log.
#[tokio::test]
async fn a_log_that_is_cut_off_leaves_whole_writes() {
    let directory = TempDir::new().unwrap();
    let store = relaxed(&directory);
    for _ in 0..5 {
        let (run, owner) = (record("p", 0), Uuid::now_v7());
        let (id, fence) = (run.run_id, Fence { owner, token: 1 });
        let more = |append| vec![RunWrite::Append(Box::new(append))];
        let mut first = more(append(id, fence, [1, 2]));
        first.insert(0, RunWrite::Create { run: Box::new(run), owner, firing: None, replays: None });
        for writes in
            [first, more(append(id, fence, [3, 4, 5])), more(ending(id, fence, 6, RunStatus::Completed))]
        {
            assert!(store.write(writes).await.unwrap().iter().all(Result::is_ok));
        }
    }
    let wal = std::fs::read(directory.path().join("t.db-wal")).unwrap();
    let base = std::fs::read(&store.path).unwrap();
    let mut counts = Vec::new();
    for part in 0..=16 {
        let copy = TempDir::new().unwrap();
        let path = copy.path().join("t.db");
        std::fs::write(&path, &base).unwrap();
        std::fs::write(copy.path().join("t.db-wal"), &wal[..wal.len() * part / 16]).unwrap();
        let cut = open(&path, Durability::Strict);
        check(&cut, &HashMap::new()).await;
        counts.push(cut.runs(RunFilter { limit: 99, ..RunFilter::default() }).await.unwrap().len());
    }
    assert!(counts.is_sorted(), "{counts:?}");
    assert_eq!((counts[0], counts[16]), (0, 5));
}
