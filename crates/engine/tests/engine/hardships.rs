//! Crashes, shutdowns and stores that fail at the worst moment; timers of many runs; schedules that change.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use serde_json::json;
use taskiq_flow_broker::{Broker, InMemoryBroker};
use taskiq_flow_core::definition::{ScheduleRules, Timing};
use taskiq_flow_core::load::load_json;
use taskiq_flow_core::run::{ItemFilter, RunStatus, StepStatus};
use taskiq_flow_core::time::Timestamp;
use taskiq_flow_engine::{EngineOptions, ScheduleRequest, Submission, SubmitError};
use taskiq_flow_store::{MemoryStore, Origin, RunFilter, Store, Trigger};

use crate::faulty::FaultyStore;
use crate::support::{Fixture, RuntimeClock, engine, request, start, start_at};

fn one_shard() -> EngineOptions {
    EngineOptions { shards: 1, drain: Duration::from_millis(50), ..EngineOptions::default() }
}

async fn runs_of(store: &dyn Store) -> usize {
    store.runs(RunFilter { limit: 10, ..Default::default() }).await.unwrap().len()
}

async fn eventually(what: &str, mut test: impl AsyncFnMut() -> bool) {
    let started = Instant::now();
    while !test().await {
        assert!(started.elapsed() < Duration::from_secs(5), "never: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn an_attempt_of_a_run_that_another_driver_took_is_stopped() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pid");
    let script = format!("echo $$ > {0}.new; mv {0}.new {0}; exec sleep 60", file.display());
    let definition = json!({"id": "p", "tasks": [
        {"name": "long", "command": ["sh", "-c", script]},
        {"name": "ask", "wait": {"signal": "go"}},
    ]});
    let store = Arc::new(FaultyStore::default());
    let fixture =
        start(Arc::clone(&store) as Arc<dyn Store>, InMemoryBroker::new(), definition, one_shard()).await;
    let run_id = fixture.submit("p", json!({})).await;
    eventually("the process starts", async || file.exists()).await;
    let pid: u32 = std::fs::read_to_string(&file).unwrap().trim().parse().unwrap();
    let process = std::path::PathBuf::from(format!("/proc/{pid}"));
    assert!(process.exists());
    store.fenced.store(true, Ordering::SeqCst);
    let _ = fixture.engine.signal(run_id, "go", json!(1), None).await;
    eventually("the process ends", async || !process.exists()).await;
}

#[tokio::test]
async fn who_waits_for_a_run_is_shown_its_end_without_a_look_into_its_log() {
    let definition = json!({"id": "p", "tasks": [{"name": "ask", "wait": {"signal": "go"}}]});
    let store = Arc::new(FaultyStore::default());
    let fixture =
        start(Arc::clone(&store) as Arc<dyn Store>, InMemoryBroker::new(), definition, one_shard()).await;
    let run_id = fixture.submit("p", json!({})).await;
    let waits = || {
        let engine = fixture.engine.clone();
        tokio::spawn(async move { engine.wait(run_id, Duration::from_secs(10)).await.unwrap().unwrap() })
    };
    let (first, second, given_up) = (waits(), waits(), waits());
    fixture.until(run_id, |view| view.status == RunStatus::Running).await;
    given_up.abort();
    fixture.engine.signal(run_id, "go", json!({"ok": true}), None).await.unwrap();
    let (first, second) = (first.await.unwrap(), second.await.unwrap());
    assert_eq!(store.reads.load(Ordering::SeqCst), 0, "nobody read the log");
    let shown = |view| serde_json::to_value(view).unwrap();
    let kept = fixture.engine.run(run_id).await.unwrap();
    assert!(store.reads.load(Ordering::SeqCst) > 0, "a run that has ended is made of its log");
    assert_eq!(kept.status, RunStatus::Completed);
    assert_eq!((shown(first), shown(second)), (shown(kept.clone()), shown(kept)));
}

#[tokio::test]
async fn a_run_whose_first_write_was_made_without_an_answer_is_accepted() {
    let definition = json!({"id": "p", "tasks": [{"name": "a", "expression": "1"}]});
    let store = Arc::new(FaultyStore::default());
    let shared: Arc<dyn Store> = store.clone();
    let fixture = start(shared, InMemoryBroker::new(), definition, one_shard()).await;
    store.lost.store(true, Ordering::SeqCst);
    let run_id = fixture.engine.submit(request("p", json!({}))).await.unwrap().run_id;
    assert_eq!(fixture.ended(run_id).await.status, RunStatus::Completed);
    assert_eq!(runs_of(store.as_ref()).await, 1);
}

#[tokio::test]
async fn a_run_that_may_have_been_written_is_not_forgotten_while_the_store_does_not_say() {
    let definition = json!({"id": "p", "tasks": [{"name": "a", "wait": {"duration": "20ms"}}]});
    let store = Arc::new(FaultyStore::default());
    let fixture = start(store.clone(), InMemoryBroker::new(), definition, one_shard()).await;
    store.lost.store(true, Ordering::SeqCst);
    store.unreadable.store(true, Ordering::SeqCst);
    let engine = fixture.engine.clone();
    let submitted = tokio::spawn(async move { engine.submit(request("p", json!({}))).await });
    eventually("it is written", async || runs_of(store.as_ref()).await == 1).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    store.unreadable.store(false, Ordering::SeqCst);
    let run_id = submitted.await.unwrap().unwrap().run_id;
    assert_eq!(fixture.ended(run_id).await.status, RunStatus::Completed);
}

#[tokio::test(start_paused = true)]
async fn whoever_asked_for_a_run_is_answered_although_the_store_says_nothing() {
    let definition = json!({"id": "p", "tasks": [{"name": "a", "wait": {"duration": "20ms"}}]});
    let store = Arc::new(FaultyStore::default());
    let fixture = {
        // What waits by the runtime's time and is woken by the system's would be woken in vain.
        let clock = Arc::new(RuntimeClock::new());
        start_at(store.clone(), InMemoryBroker::new(), definition, one_shard(), clock).await
    };
    store.lost.store(true, Ordering::SeqCst);
    store.unreadable.store(true, Ordering::SeqCst);
    let answer = fixture.engine.submit(request("p", json!({}))).await;
    assert!(matches!(answer, Err(SubmitError::Store(_))), "{answer:?}");
    store.unreadable.store(false, Ordering::SeqCst);
    // It was written, so it goes on.
    let run_id = store.runs(RunFilter { limit: 1, ..Default::default() }).await.unwrap()[0].run_id;
    assert_eq!(fixture.ended(run_id).await.status, RunStatus::Completed);
}

#[tokio::test]
async fn a_run_that_is_given_up_while_the_store_is_down_fails_when_it_is_back() {
    let definition = json!({"id": "p", "tasks": [{"name": "ask", "wait": {"signal": "go"}}]});
    let store = Arc::new(FaultyStore::default());
    let fixture = start(store.clone(), InMemoryBroker::new(), definition, one_shard()).await;
    let run_id = fixture.submit("p", json!({})).await;
    fixture.until(run_id, |view| view.status == RunStatus::Running).await;
    store.too_large.store(true, Ordering::SeqCst);
    let held = store.gate.lock().await;
    let engine = fixture.engine.clone();
    let signal = tokio::spawn(async move { engine.signal(run_id, "go", json!(1), None).await });
    tokio::time::sleep(Duration::from_millis(50)).await;
    store.unreadable.store(true, Ordering::SeqCst);
    drop(held);
    eventually("it is given up", async || !store.too_large.load(Ordering::SeqCst)).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    store.unreadable.store(false, Ordering::SeqCst);
    let _ = signal.await.unwrap();
    assert_eq!(fixture.ended(run_id).await.status, RunStatus::Failed);
}

#[tokio::test(start_paused = true)]
async fn pages_of_an_ended_run_read_its_log_once() {
    let map = json!({"over": "list", "as": "x", "expression": "x"});
    let definition = json!({"id": "p", "tasks": [{"name": "rows", "map": map, "inputs": ["list"]}]});
    let store = Arc::new(FaultyStore::default());
    let shared: Arc<dyn Store> = store.clone();
    let fixture = start(shared, InMemoryBroker::new(), definition, one_shard()).await;
    let run_id = fixture.run("p", json!({"list": [1, 2, 3]})).await.run_id;
    let reads = || store.reads.load(Ordering::SeqCst);
    let page = async |after| {
        let filter = ItemFilter { after, limit: 1, ..ItemFilter::default() };
        fixture.engine.items(run_id, "rows", filter).await.unwrap()
    };
    let first = page(None).await;
    let before = reads();
    assert!(before > 0);
    let second = page(first.next).await;
    assert_eq!(second.items[0].result.as_deref(), Some(&json!(2)));
    fixture.engine.run(run_id).await.unwrap();
    assert_eq!(reads(), before);
    tokio::time::sleep(Duration::from_secs(120)).await;
    page(None).await;
    assert!(reads() > before, "it is let go of when nobody looks");
}

#[tokio::test]
async fn registering_that_broke_off_is_completed_by_the_same_call() {
    let version = |schedules: serde_json::Value, value: &str| {
        let tasks = json!([{"name": "a", "expression": value}]);
        load_json(json!([{"id": "p", "tasks": tasks, "schedule": schedules}])).unwrap().remove(0)
    };
    let nightly = || json!([{"id": "nightly", "cron": "0 2 * * *"}]);
    for life in 0..6 {
        let store = Arc::new(FaultyStore::default());
        let shared: Arc<dyn Store> = store.clone();
        let other = json!({"id": "other", "tasks": [{"name": "a", "expression": "1"}]});
        let fixture = start(shared, InMemoryBroker::new(), other, one_shard()).await;
        let register = |pipeline| fixture.engine.register(pipeline, Origin::Api);
        register(version(nightly(), "1")).await.unwrap();
        *store.life.lock() = Some(life);
        let broken_off =
            tokio::time::timeout(Duration::from_millis(50), register(version(json!([]), "2"))).await;
        *store.life.lock() = None;
        register(version(json!([]), "2")).await.unwrap();
        assert!(fixture.engine.schedules().is_empty(), "after {life} moments: {broken_off:?}");
        assert!(store.schedules().await.unwrap().is_empty(), "after {life} moments: {broken_off:?}");
        // One that somebody makes of that name stays.
        let timing = Timing::Interval(Duration::from_secs(3600));
        let own = ScheduleRequest {
            id: Some("p.nightly".into()),
            pipeline_id: "p".parse().unwrap(),
            timing,
            timezone: "UTC".into(),
            parameters: serde_json::Map::new(),
            enabled: true,
            rules: ScheduleRules::default(),
        };
        tokio::time::sleep(Duration::from_millis(2)).await;
        fixture.engine.create_schedule(own).await.unwrap();
        register(version(json!([]), "2")).await.unwrap();
        assert_eq!(fixture.engine.schedules().len(), 1);
    }
}

#[tokio::test]
async fn queued_runs_that_are_cancelled_or_were_there_before_leave_their_place_to_others() {
    let definition = json!({"id": "p", "tasks": [{"name": "ask", "wait": {"signal": "go"}}]});
    let options = EngineOptions { max_concurrent_runs: 1, max_queued_runs: 3, ..one_shard() };
    let fixture = start(Arc::new(MemoryStore::new()), InMemoryBroker::new(), definition, options).await;
    let first = fixture.submit("p", json!({})).await;
    for _ in 0..3 {
        let mut again = request("p", json!({}));
        again.idempotency_key = Some("once".into());
        fixture.engine.submit(again).await.unwrap();
    }
    for _ in 0..3 {
        let queued = fixture.submit("p", json!({})).await;
        fixture.engine.cancel(queued, "not needed").await.unwrap();
    }
    fixture.engine.signal(first, "go", json!(1), None).await.unwrap();
    assert_eq!(fixture.ended(first).await.status, RunStatus::Completed);
}

#[tokio::test]
async fn the_end_of_a_run_leaves_the_timers_of_others_alone() {
    let definition = json!([
        {"id": "first", "tasks": [
            {"name": "brief", "wait": {"duration": "50ms"}},
            {"name": "long", "wait": {"signal": "never"}, "inputs": ["brief"]},
        ]},
        {"id": "second", "tasks": [{"name": "brief", "wait": {"duration": "300ms"}}]},
    ]);
    let fixture = start(Arc::new(MemoryStore::new()), InMemoryBroker::new(), definition, one_shard()).await;
    let first = fixture.submit("first", json!({})).await;
    fixture.until(first, |view| view.steps[0].state.status == StepStatus::Completed).await;
    let second = fixture.submit("second", json!({})).await;
    fixture.until(second, |view| view.status == RunStatus::Running).await;
    fixture.engine.cancel(first, "enough").await.unwrap();
    let ended = fixture.engine.wait(second, Duration::from_secs(2)).await.unwrap();
    assert_eq!(ended.expect("its timer rang").status, RunStatus::Completed);
}

#[tokio::test]
async fn a_run_that_got_a_signal_before_it_started_starts_after_a_crash() {
    let store = Arc::new(MemoryStore::new());
    let definition = json!({"id": "p", "tasks": [{"name": "ask", "wait": {"signal": "go"}}]});
    let options = EngineOptions { max_concurrent_runs: 1, ..one_shard() };
    let first = start(store.clone(), InMemoryBroker::new(), definition.clone(), options.clone()).await;
    let running = first.submit("p", json!({})).await;
    let queued = first.submit("p", json!({})).await;
    first.engine.signal(queued, "go", json!(1), None).await.unwrap();
    assert_eq!(first.engine.run(queued).await.unwrap().status, RunStatus::Queued);
    drop(first);
    store.void_leases();
    let second = start(store, InMemoryBroker::new(), definition, options).await;
    second.engine.cancel(running, "make room").await.unwrap();
    let ended = second.engine.wait(queued, Duration::from_secs(2)).await.unwrap();
    assert_eq!(**ended.expect("it was started").result.as_ref().unwrap(), json!({"ask": 1}));
}

#[tokio::test]
async fn a_run_that_another_engine_drives_is_waited_for_to_its_end() {
    let store = Arc::new(MemoryStore::new());
    let definition = json!({"id": "p", "tasks": [{"name": "ask", "wait": {"signal": "go"}}]});
    let one = start(store.clone(), InMemoryBroker::new(), definition.clone(), one_shard()).await;
    let run_id = one.submit("p", json!({})).await;
    one.until(run_id, |view| view.status == RunStatus::Running).await;
    let other = start(store, InMemoryBroker::new(), definition, one_shard()).await;
    let early = other.engine.wait(run_id, Duration::from_millis(100)).await.unwrap();
    assert!(early.is_none(), "a run under way has not ended: {early:?}");
    one.engine.signal(run_id, "go", json!(1), None).await.unwrap();
    assert_eq!(other.ended(run_id).await.status, RunStatus::Completed);
}

#[tokio::test]
async fn a_shutdown_fails_no_run_whose_inner_run_comes_too_late() {
    let store = Arc::new(FaultyStore::default());
    let definition = json!([
        {"id": "inner", "tasks": [{"name": "a", "expression": "gate", "inputs": ["gate"]}]},
        {"id": "outer", "tasks": [
            {"name": "gate", "wait": {"signal": "go"}}, {"name": "b", "pipeline": "inner", "when": "gate == 1", "inputs": ["gate"]},
        ]},
    ]);
    let options = EngineOptions { drain: Duration::from_millis(500), ..one_shard() };
    let first = start(store.clone(), InMemoryBroker::new(), definition, options).await;
    let run_id = first.submit("outer", json!({})).await;
    first.until(run_id, |view| view.status == RunStatus::Running).await;
    // The step is decided while the store is busy, and dispatched when the shutdown has begun.
    let held = store.gate.lock().await;
    let engine = first.engine.clone();
    tokio::spawn(async move { engine.signal(run_id, "go", json!(1), None).await });
    tokio::time::sleep(Duration::from_millis(20)).await;
    let engine = first.engine.clone();
    let shutdown = tokio::spawn(async move { engine.shutdown().await });
    tokio::time::sleep(Duration::from_millis(20)).await;
    drop(held);
    shutdown.await.unwrap();
    let record = store.run(run_id).await.unwrap().unwrap();
    assert_eq!(record.summary.status, RunStatus::Running, "{:?}", record.summary.error);
}

#[tokio::test]
async fn an_inner_run_waits_for_a_store_that_does_not_answer() {
    let store = Arc::new(FaultyStore::default());
    let definition = json!([
        {"id": "inner", "tasks": [{"name": "a", "expression": "gate", "inputs": ["gate"]}]},
        {"id": "outer", "tasks": [
            {"name": "gate", "wait": {"signal": "go"}},
            {"name": "b", "pipeline": "inner", "inputs": ["gate"]},
        ]},
    ]);
    let fixture = start(store.clone(), InMemoryBroker::new(), definition, one_shard()).await;
    let run_id = fixture.submit("outer", json!({})).await;
    fixture.until(run_id, |view| view.status == RunStatus::Running).await;
    store.full.store(true, Ordering::SeqCst);
    fixture.engine.signal(run_id, "go", json!(1), None).await.unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    store.full.store(false, Ordering::SeqCst);
    let view = fixture.ended(run_id).await;
    assert_eq!(view.status, RunStatus::Completed, "{:?}", view.error);
}

#[tokio::test]
async fn a_shutdown_ends_although_the_store_takes_no_writes() {
    let store = Arc::new(FaultyStore::default());
    let broker = InMemoryBroker::new();
    broker.registry().register("brief", |_| async { Ok(json!(1)) });
    let definition = json!({"id": "p", "tasks": [
        {"name": "gate", "wait": {"signal": "go"}}, {"name": "a", "task": "brief", "inputs": ["gate"]},
    ]});
    let fixture = start(store.clone(), broker, definition, one_shard()).await;
    let run_id = fixture.submit("p", json!({})).await;
    fixture.until(run_id, |view| view.status == RunStatus::Running).await;
    store.set_down(true);
    let engine = fixture.engine.clone();
    let signal = tokio::spawn(async move { engine.signal(run_id, "go", json!(1), None).await });
    tokio::time::sleep(Duration::from_millis(50)).await;
    let shut = tokio::time::timeout(Duration::from_secs(4), fixture.engine.shutdown()).await;
    assert!(shut.is_ok(), "it hung");
    assert!(signal.await.unwrap().is_err(), "what is not durable is not acknowledged");
}

#[tokio::test]
async fn attempts_and_inner_runs_do_not_keep_an_engine_alive() {
    let store = Arc::new(MemoryStore::new());
    let broker = InMemoryBroker::new();
    broker.registry().register("hang", |_| std::future::pending());
    let definition = json!([
        {"id": "inner", "tasks": [{"name": "a", "wait": {"signal": "never"}}]},
        {"id": "outer", "tasks": [{"name": "b", "pipeline": "inner"}, {"name": "c", "task": "hang"}]},
    ]);
    let fixture = start(store.clone(), broker, definition, one_shard()).await;
    fixture.submit("outer", json!({})).await;
    eventually("both are under way", async || {
        runs_of(&*store).await == 2 && fixture.engine.attempts_under_way() == 2
    })
    .await;
    drop(fixture);
    eventually("the engine is gone", async || Arc::strong_count(&store) == 1).await;
}

#[tokio::test]
async fn an_inner_run_whose_outer_one_ended_before_a_crash_is_cancelled() {
    let store = Arc::new(MemoryStore::new());
    let definition = json!({"id": "p", "tasks": [{"name": "ask", "wait": {"signal": "go"}}]});
    let first = start(store.clone(), InMemoryBroker::new(), definition.clone(), one_shard()).await;
    let outer = first.submit("p", json!({})).await;
    first.engine.cancel(outer, "enough").await.unwrap();
    let inner = |outer| {
        let trigger = Trigger::Step { run_id: outer, step_run: 0 };
        Submission { trigger, ..request("p", json!({})) }
    };
    let orphan = first.engine.submit(inner(outer)).await.unwrap().run_id;
    let running = first.submit("p", json!({})).await;
    let wanted = first.engine.submit(inner(running)).await.unwrap().run_id;
    drop(first);
    store.void_leases();
    let second = start(store, InMemoryBroker::new(), definition, one_shard()).await;
    assert_eq!(second.ended(orphan).await.status, RunStatus::Cancelled);
    assert_eq!(second.engine.run(wanted).await.unwrap().status, RunStatus::Running);
}

#[tokio::test]
async fn many_timers_that_ring_together_are_written_together() {
    let store = Arc::new(FaultyStore::default());
    let tasks: Vec<_> =
        (0..200).map(|n| json!({"name": format!("w{n}"), "wait": {"duration": "100ms"}})).collect();
    let definition = json!({"id": "p", "tasks": tasks});
    let fixture = start(store.clone(), InMemoryBroker::new(), definition, one_shard()).await;
    let run_id = fixture.submit("p", json!({})).await;
    assert_eq!(fixture.ended(run_id).await.status, RunStatus::Completed);
    let writes = store.writes.load(Ordering::SeqCst);
    assert!(writes < 50, "{writes} writes");
}

fn schedule(timing: Timing) -> ScheduleRequest {
    ScheduleRequest {
        id: Some("s".to_owned()),
        pipeline_id: "p".parse().unwrap(),
        timing,
        timezone: "UTC".to_owned(),
        parameters: serde_json::Map::new(),
        enabled: true,
        rules: ScheduleRules::default(),
    }
}

fn soon() -> Timing {
    Timing::At(Timestamp::now().plus(Duration::from_millis(50)))
}

async fn scheduled(store: &Arc<FaultyStore>) -> Fixture {
    let definition = json!({"id": "p", "tasks": [{"name": "a", "expression": "1"}]});
    start(store.clone(), InMemoryBroker::new(), definition, one_shard()).await
}

#[tokio::test]
async fn a_schedule_that_is_due_while_the_store_is_down_fires_when_it_is_back() {
    let store = Arc::new(FaultyStore::default());
    let fixture = scheduled(&store).await;
    fixture.engine.create_schedule(schedule(soon())).await.unwrap();
    store.set_down(true);
    tokio::time::sleep(Duration::from_millis(150)).await;
    store.set_down(false);
    eventually("it fires", async || runs_of(&*store).await == 1).await;
}

#[tokio::test]
async fn a_schedule_that_is_removed_while_it_fires_stays_removed() {
    let store = Arc::new(FaultyStore::default());
    let fixture = scheduled(&store).await;
    let held = store.gate.lock().await;
    fixture.engine.create_schedule(schedule(soon())).await.unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    fixture.engine.delete_schedule("s").await.unwrap();
    drop(held);
    eventually("it has fired", async || runs_of(&*store).await == 1).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(store.schedules().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_schedule_that_a_definition_no_longer_has_is_removed_and_a_change_of_it_stays() {
    let with = |expression: &str, schedules: serde_json::Value| json!({"id": "p", "tasks": [{"name": "a", "expression": expression}], "schedule": schedules});
    let hourly = |id: &str| json!({"id": id, "interval": "1h"});
    let fixture = engine(with("1", json!([hourly("kept"), hourly("dropped")]))).await;
    let own = ScheduleRequest { id: Some("p.own".to_owned()), ..schedule(soon()) };
    fixture.engine.create_schedule(ScheduleRequest { enabled: false, ..own }).await.unwrap();
    let slower = Timing::Interval(Duration::from_secs(7200));
    let change = taskiq_flow_engine::ScheduleChange { timing: Some(slower.clone()), ..Default::default() };
    fixture.engine.change_schedule("p.kept", change).await.unwrap();
    let next = load_json(with("2", json!([hourly("kept")]))).unwrap().remove(0);
    fixture.engine.register(next, Origin::Api).await.unwrap();
    let ids: Vec<_> = fixture.engine.schedules().into_iter().map(|record| record.id).collect();
    assert_eq!(ids, ["p.kept", "p.own"]);
    assert_eq!(
        fixture.engine.schedule("p.kept").unwrap().timing,
        slower,
        "the definition says nothing new of it"
    );
    let next = load_json(with("2", json!([{"id": "kept", "interval": "3h"}]))).unwrap().remove(0);
    fixture.engine.register(next, Origin::Api).await.unwrap();
    let now = Timing::Interval(Duration::from_secs(10800));
    assert_eq!(fixture.engine.schedule("p.kept").unwrap().timing, now, "and now it does");
}
