//! The writer under load and in trouble.

use std::sync::Arc;

use serde_json::{Map, Value, json};
use taskiq_flow_core::run::RunStatus;

use super::*;
use crate::codec::MAX_DEPTH;
use crate::conformance::{append, ending, record};
use crate::records::Append;

fn create(run: RunRecord, owner: Uuid) -> RunWrite {
    RunWrite::Create { run: Box::new(run), owner, firing: None, replays: None }
}

fn more(append: Append) -> RunWrite {
    RunWrite::Append(Box::new(append))
}

#[tokio::test]
async fn what_waits_is_committed_together() {
    let directory = TempDir::new().unwrap();
    let store = Arc::new(relaxed(&directory));
    let (open_gate, gate) = std::sync::mpsc::channel::<()>();
    let (begin, has_begun) = tokio::sync::oneshot::channel();
    let blocked = tokio::spawn({
        let store = Arc::clone(&store);
        async move {
            let mut begin = Some(begin);
            let wait = move |_: &mut batch::Batch<'_>| {
                begin.take().unwrap().send(()).unwrap();
                gate.recv().unwrap();
                Ok(())
            };
            store.writer.carry_out(wait).await
        }
    });
    // Only now is its transaction closed to what comes later.
    has_begun.await.unwrap();
    let mut writes = Vec::new();
    for _ in 0..50 {
        let store = Arc::clone(&store);
        writes.push(tokio::spawn(
            async move { store.write(vec![create(record("p", 0), Uuid::now_v7())]).await },
        ));
        tokio::task::yield_now().await;
    }
    let path = store.path.clone();
    let looking = tokio::spawn({
        let store = Arc::clone(&store);
        async move {
            let count = "SELECT count(*) FROM recent_runs";
            let look = move |batch: &mut batch::Batch<'_>| {
                batch.flush()?;
                let outside = rusqlite::Connection::open(&path)?;
                let outside: i64 = outside.query_row(count, [], |row| row.get(0))?;
                let inside: i64 = batch.connection.query_row(count, [], |row| row.get(0))?;
                Ok((outside, inside))
            };
            store.writer.carry_out(look).await
        }
    });
    tokio::task::yield_now().await;
    open_gate.send(()).unwrap();
    blocked.await.unwrap().unwrap();
    assert_eq!(
        looking.await.unwrap().unwrap(),
        (0, 50),
        "one transaction, seen by nobody before it is committed"
    );
    for write in writes {
        assert!(matches!(write.await.unwrap().unwrap()[0], Ok(Written::Created(_))));
    }
}

#[tokio::test]
async fn a_full_disk_refuses_and_recovers() {
    let directory = TempDir::new().unwrap();
    let store = relaxed(&directory);
    let owner = Uuid::now_v7();
    let small = record("p", 0);
    let small_id = small.run_id;
    store.write(vec![create(small, owner)]).await.unwrap();
    let pages = |count: i64| {
        move |batch: &mut batch::Batch<'_>| {
            Ok(batch.connection.pragma_update(None, "max_page_count", count)?)
        }
    };
    store.writer.carry_out(pages(1)).await.unwrap();
    let mut large = record("p", 0);
    large.parameters = Arc::new(Map::from_iter([("x".to_owned(), json!("x".repeat(1 << 20)))]));
    let large_id = large.run_id;
    let fence = Fence { owner, token: 1 };
    for _ in 0..2 {
        let writes = vec![more(append(small_id, fence, [1])), create(large.clone(), owner)];
        let error = store.write(writes).await.unwrap_err();
        assert!(
            matches!(&error, StoreError::Io { reason, .. } if reason.contains("disk is full")),
            "{error}"
        );
        assert!(store.run(large_id).await.unwrap().is_none());
        assert_eq!(
            store.run(small_id).await.unwrap().unwrap().last_seq,
            0,
            "nothing of a refused call is kept"
        );
    }
    store.writer.carry_out(pages(1 << 20)).await.unwrap();
    let answers = store.write(vec![more(append(small_id, fence, [1])), create(large, owner)]).await.unwrap();
    assert!(answers.iter().all(Result::is_ok), "{answers:?}");
    assert!(store.run(large_id).await.unwrap().is_some());
}

#[tokio::test]
async fn a_panic_reaches_its_caller_alone() {
    let directory = TempDir::new().unwrap();
    let store = relaxed(&directory);
    let owner = Uuid::now_v7();
    let run = record("p", 0);
    let id = run.run_id;
    let second = record("p", 0);
    let fence = Fence { owner, token: 1 };
    // All three are let in before the writer can take the second one.
    let half_done = |batch: &mut batch::Batch<'_>| -> Result<(), fault::Fault> {
        batch.connection.execute("DELETE FROM recent_runs", [])?;
        panic!("on purpose");
    };
    let (first, panicked, other) = tokio::join!(
        store.write(vec![create(run, owner), more(append(id, fence, [1]))]),
        store.writer.carry_out(half_done),
        store.write(vec![create(second, owner)]),
    );
    assert!(matches!(panicked.unwrap_err(), StoreError::Unavailable { .. }));
    assert!(first.unwrap().iter().all(Result::is_ok));
    assert!(other.unwrap()[0].is_ok());
    assert_eq!(store.run(id).await.unwrap().unwrap().last_seq, 1, "the deletion was rolled back");
    let later = store.write(vec![more(append(id, fence, [2]))]).await.unwrap();
    assert!(matches!(later[0], Ok(Written::Appended)));
}

#[tokio::test]
async fn a_panic_in_a_read_gives_the_connection_back() {
    let directory = TempDir::new().unwrap();
    let store = relaxed(&directory);
    for _ in 0..5 {
        let read = store.readers.read(|_| -> Result<(), fault::Fault> { panic!("on purpose") }).await;
        assert!(matches!(read.unwrap_err(), StoreError::Unavailable { .. }));
    }
    store.check().await.unwrap();
    assert!(store.schedules().await.unwrap().is_empty());
}

#[tokio::test]
async fn closing_finishes_what_is_under_way() {
    let directory = TempDir::new().unwrap();
    let store = relaxed(&directory);
    let (run, owner) = (record("p", 0), Uuid::now_v7());
    let id = run.run_id;
    let (written, ()) = tokio::join!(store.write(vec![create(run, owner)]), store.close());
    assert!(written.unwrap()[0].is_ok());
    drop(store);
    let left: Vec<_> =
        std::fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left.len(), 2, "the file and its lock: {left:?}");
    assert!(relaxed(&directory).run(id).await.unwrap().is_some());
}

#[tokio::test]
async fn values_too_deep_to_be_read_back_are_refused_alone() {
    let directory = TempDir::new().unwrap();
    let store = relaxed(&directory);
    let (run, owner) = (record("p", 0), Uuid::now_v7());
    let id = run.run_id;
    let fence = Fence { owner, token: 1 };
    let nested = |levels| (0..levels).fold(json!(1), |value, _| json!([value]));
    let with = |value: Value, seq| {
        let mut append = ending(id, fence, seq, RunStatus::Completed);
        append.summary.result = Some(Arc::new(value));
        more(append)
    };
    let deepest = nested(MAX_DEPTH);
    let writes = vec![create(run, owner), with(nested(MAX_DEPTH + 1), 1), with(deepest.clone(), 1)];
    let answers = store.write(writes).await.unwrap();
    let refused = answers[1].as_ref().unwrap_err();
    assert_eq!(*refused, WriteError::TooLarge { run_id: id, unit: "levels", limit: MAX_DEPTH });
    assert!(answers[2].is_ok());
    let result = store.run(id).await.unwrap().unwrap().summary.result.unwrap();
    assert_eq!(*result, deepest);

    let definition = |version, source| PipelineRecord {
        id: "p".parse().unwrap(),
        version,
        source: Arc::new(source),
        origin: crate::Origin::Api,
        created_at: Timestamp::now(),
    };
    let error = store.put_pipeline(definition(1, nested(MAX_DEPTH + 1))).await.unwrap_err();
    assert!(matches!(&error, StoreError::TooLarge { what, .. } if what == "pipeline `p`"), "{error}");
    store.put_pipeline(definition(1, nested(MAX_DEPTH))).await.unwrap();
    assert_eq!(store.pipelines().await.unwrap().len(), 1);
}

/// Lists, claims and removal must not read more than they give, however many runs there are.
#[tokio::test]
async fn queries_follow_an_index() {
    let directory = TempDir::new().unwrap();
    let store = relaxed(&directory);
    let statuses: Vec<_> = RunStatus::ALL.into_iter().map(Some).chain([None]).collect();
    let lists = [true, false].into_iter().flat_map(|pipeline| {
        statuses.clone().into_iter().map(move |status| reader::newest_sql(pipeline, status).to_owned())
    });
    let others = [
        codec::RECORD[0],
        codec::RECORD[1],
        codec::ROW[0],
        codec::ROW[1],
        lookup::RUN_OF_KEY,
        reader::EVENTS,
        places::LAST,
        places::NUMBER,
        "UPDATE runs INDEXED BY runs_live SET owner = NULL WHERE status < 3 AND owner IS NOT NULL",
        "SELECT id FROM runs WHERE owner IS NULL AND status < 3 ORDER BY id LIMIT ?1",
        room::TO_GO,
        room::LAST_BEYOND,
        statistics::ENDED,
        statistics::LIVE,
        "SELECT body FROM logs WHERE run = ?1 ORDER BY place",
        "SELECT place, run, document FROM firings INDEXED BY firings_by_schedule
         WHERE schedule = ? AND place < ? AND due >= ? ORDER BY place DESC LIMIT ?",
        "SELECT run FROM firings WHERE schedule = ?1 AND due = ?2",
        "SELECT place, replayed_by, document FROM dead_letters WHERE pipeline = ? AND place < ? ORDER BY place DESC LIMIT ?",
        "SELECT document FROM deliveries WHERE dead = 0 AND TRUE AND hook = ? ORDER BY next_at, id LIMIT ?",
        "SELECT document FROM deliveries WHERE dead = 0 AND TRUE AND hook = ? AND (next_at, id) > (?, ?) ORDER BY next_at, id LIMIT ?",
        "SELECT document FROM deliveries WHERE dead = 1 AND TRUE AND hook = ? AND id < ? ORDER BY id DESC LIMIT ?",
        "SELECT task, count(*), sum(length(value)) FROM cache WHERE pipeline = ?1 GROUP BY task ORDER BY task",
        "DELETE FROM cache WHERE expires_at <= ?1",
    ];
    for sql in lists.chain(others.map(str::to_owned)) {
        let is_of_live_runs = sql.contains("runs_live") && !sql.contains("pipeline = ");
        let plan: Vec<String> = store
            .readers
            .read(move |connection| {
                let mut explain = connection.prepare(&format!("EXPLAIN QUERY PLAN {sql}"))?;
                let lines: Result<_, _> = explain.raw_query().mapped(|row| row.get("detail")).collect();
                Ok(lines?)
            })
            .await
            .unwrap();
        let ordered = plan.iter().all(|line| !line.contains("TEMP B-TREE"));
        // An index of unheld runs has nothing in it but what is looked for, and that of runs under way little else.
        let sought = plan.iter().all(|line| {
            !line.starts_with("SCAN") || line.contains("runs_unheld") || line.contains("runs_live")
        });
        assert!((ordered || is_of_live_runs) && sought, "{plan:#?}");
    }
}

/// A relaxed commit is acknowledged before it is on the disk, and is brought there without another one.
#[tokio::test]
async fn relaxed_commits_reach_the_disk_by_themselves() {
    let directory = TempDir::new().unwrap();
    let options = SqliteOptions {
        durability: Durability::Relaxed,
        ..SqliteOptions::new(directory.path().join("t.db"))
    };
    let (done, synced) = std::sync::mpsc::channel();
    let (let_go, held) = std::sync::mpsc::channel::<()>();
    let opened = open::open(&options).unwrap();
    let mut log = syncing::sync_log(&opened.path);
    let sync = move || {
        held.recv().unwrap();
        log()?;
        done.send(()).unwrap();
        Ok(())
    };
    let store = SqliteStore::start(opened, Durability::Relaxed, sync).unwrap();
    for _ in 0..50 {
        let answers = store.write(vec![create(record("p", 0), Uuid::now_v7())]).await.unwrap();
        assert!(answers[0].is_ok(), "while the disk does not answer");
    }
    assert!(synced.try_recv().is_err());
    (0..3).for_each(|_| let_go.send(()).unwrap());
    let soon = std::time::Duration::from_secs(20);
    synced.recv_timeout(soon).unwrap();
    let rest = synced.recv_timeout(std::time::Duration::from_millis(200));
    assert!(synced.try_recv().is_err(), "50 commits in two at most: {rest:?}");
    store.write(vec![create(record("p", 0), Uuid::now_v7())]).await.unwrap();
    synced.recv_timeout(soon).unwrap();
    let_go.send(()).unwrap();
    store.close().await;
}

#[tokio::test]
async fn durability_decides_whether_a_commit_waits_for_the_disk() {
    for (durability, expected) in [(Durability::Strict, 2), (Durability::Relaxed, 1)] {
        let directory = TempDir::new().unwrap();
        let store = open(&directory.path().join("t.db"), durability);
        let read = |batch: &mut batch::Batch<'_>| {
            Ok(batch.connection.pragma_query_value(None, "synchronous", |row| row.get::<_, i64>(0))?)
        };
        assert_eq!(store.writer.carry_out(read).await.unwrap(), expected);
    }
}

#[tokio::test]
async fn what_many_attempts_printed_is_kept_in_rows_and_never_refused() {
    let directory = TempDir::new().unwrap();
    let store = relaxed(&directory);
    let owner = Uuid::now_v7();
    let run = record("p", 0);
    let (id, fence) = (run.run_id, crate::records::Fence { owner, token: 1 });
    let log = |step_run: u32, text: String| StepLog {
        step_run,
        step: "a".into(),
        attempt: 1,
        at: Timestamp::from_millis(1),
        text,
    };
    let printed: Vec<_> = (0..24).map(|place| log(place, "\u{1}".repeat(64 << 10))).collect();
    let first = Append { logs: printed.clone(), ..append(id, fence, [1]) };
    // More than a row may have.
    let last =
        Append { logs: vec![log(24, format!("{}the end", "é".repeat(17 << 20)))], ..append(id, fence, [2]) };
    let answers = store.write(vec![create(run, owner), more(first), more(last)]).await.unwrap();
    assert!(answers.iter().all(Result::is_ok), "{answers:?}");
    let logs = store.logs(id).await.unwrap();
    assert_eq!((logs.len(), &logs[..24]), (25, &printed[..]));
    let cut = &logs[24].text;
    assert!(cut.starts_with('[') && cut.ends_with("éthe end") && cut.len() < 33 << 20, "{}", cut.len());
    let count = "SELECT count(*), max(length(body)) FROM logs WHERE length(body) < 33554432";
    let (rows, longest): (i64, i64) = rusqlite::Connection::open(&store.path)
        .unwrap()
        .query_row(count, [], |row| Ok((row.get(0)?, row.get(1)?)))
        .unwrap();
    assert!(rows > 6 && longest < 2 << 20, "{rows} rows of up to {longest} bytes");
}

#[tokio::test]
async fn others_write_while_what_is_cached_is_removed() {
    let directory = TempDir::new().unwrap();
    let store = relaxed(&directory);
    let owner = Uuid::now_v7();
    let run = record("p", 0);
    let (id, fence) = (run.run_id, crate::records::Fence { owner, token: 1 });
    let entry = |place: u32| CacheEntry {
        key: place.to_be_bytes().to_vec(),
        pipeline_id: "p".parse().unwrap(),
        task: "t".into(),
        value: Arc::new(json!(1)),
        bytes: 1,
        created_at: Timestamp::from_millis(0),
        expires_at: Some(Timestamp::from_millis(9)),
    };
    let definition = PipelineRecord {
        id: "p".parse().unwrap(),
        version: 1,
        origin: crate::Origin::Api,
        created_at: Timestamp::from_millis(0),
        source: Arc::new(json!({})),
    };
    store.put_pipeline(definition).await.unwrap();
    store.write(vec![create(run, owner)]).await.unwrap();
    let (pipeline, all) = ("p".parse().unwrap(), CacheRoom { values: 0, bytes: 0 });
    let now = Timestamp::from_millis(1);
    type Removing<'a> = std::pin::Pin<Box<dyn Future<Output = Result<u64, StoreError>> + Send + 'a>>;
    let ways: [Removing<'_>; 5] = [
        store.drop_cached(&pipeline, None),
        store.drop_cached(&pipeline, Some("t")),
        store.prune_cache(now, all),
        store.prune_cache(Timestamp::from_millis(9), CacheRoom { values: 9999, bytes: 9999 }),
        Box::pin(async { store.delete_pipeline(&pipeline).await.map(u64::from) }),
    ];
    for (turn, mut remove) in ways.into_iter().enumerate() {
        let first = turn as u64 * 2 + 1;
        let beside = crate::Beside { cache: (0..2000).map(entry).collect(), ..crate::Beside::default() };
        store.write(vec![more(Append { beside, ..append(id, fence, [first]) })]).await.unwrap();
        // It asks for what it wants, and is told what came of it only when it is looked at again.
        for _ in 0..50 {
            let looked = std::future::poll_fn(|cx| std::task::Poll::Ready(remove.as_mut().poll(cx)));
            assert!(looked.await.is_pending(), "{turn}");
            store.write(vec![more(append(id, fence, []))]).await.unwrap();
            if store.cache_stats(&pipeline).await.unwrap()[0].entries < 2000 {
                break;
            }
        }
        let left = store.cache_stats(&pipeline).await.unwrap()[0].entries;
        // On a busy machine more than one group may have gone until the write has had its turn.
        assert!((1..2000).contains(&left), "{turn}: {left}");
        store.write(vec![more(append(id, fence, [first + 1]))]).await.unwrap();
        assert!([1, 2000].contains(&remove.await.unwrap()), "{turn}");
        assert!(store.cache_stats(&pipeline).await.unwrap().is_empty(), "{turn}");
    }
}
