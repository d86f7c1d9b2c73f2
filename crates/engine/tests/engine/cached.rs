//! Values that are kept for later runs, and one that makes what several want.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, Ordering};
use std::time::Duration;

use serde_json::{Map, Value, json};
use taskiq_flow_broker::{Broker, InMemoryBroker, TaskError};
use taskiq_flow_core::id::RunId;
use taskiq_flow_core::load::load_json;
use taskiq_flow_core::run::{Fact, RunStatus, RunView, StepStatus};
use taskiq_flow_core::time::Timestamp;
use taskiq_flow_engine::{Clock, EngineOptions, Fork};
use taskiq_flow_store::{MemoryStore, Origin, Store};
use tokio::sync::Semaphore;

use crate::faulty::FaultyStore;
use crate::support::{Fixture, SOON, request, start, start_at};

/// A task `work` that counts how often it is carried out, and what it is to do.
#[derive(Debug, Clone)]
struct Work {
    count: Arc<AtomicU32>,
    /// One permit lets one attempt go on; closed, all may.
    gate: Arc<Semaphore>,
    fails: Arc<AtomicBool>,
}

impl Work {
    fn new() -> Self {
        let gate = Arc::new(Semaphore::new(0));
        gate.close();
        Self { count: Arc::default(), gate, fails: Arc::default() }
    }

    /// Each attempt waits until it is let go on.
    fn held() -> Self {
        Self { gate: Arc::new(Semaphore::new(0)), ..Self::new() }
    }

    /// `work` comes to ten times its input `x`; where that is a text, to that many bytes.
    fn broker(&self) -> InMemoryBroker {
        let broker = InMemoryBroker::new();
        let work = self.clone();
        broker.registry().register("work", move |call| {
            let work = work.clone();
            async move {
                work.count.fetch_add(1, Ordering::SeqCst);
                // Closed, it says so, and that is as good.
                let _ = work.gate.acquire().await.map(|permit| permit.forget());
                if work.fails.load(Ordering::SeqCst) {
                    return Err(TaskError::new("it fails"));
                }
                match call.inputs.get("x").map(|x| Value::clone(x)) {
                    Some(Value::Number(x)) => Ok(json!(x.as_i64().unwrap_or_default() * 10)),
                    Some(Value::String(text)) => Ok(json!("x".repeat(text.parse().unwrap()))),
                    other => Ok(json!({ "x": other })),
                }
            }
        });
        broker
    }

    fn count(&self) -> u32 {
        self.count.load(Ordering::SeqCst)
    }

    /// Waits until so many attempts have begun.
    async fn begun(&self, count: u32) {
        let begun = async {
            while self.count() < count {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        tokio::time::timeout(SOON, begun).await.unwrap_or_else(|_| panic!("{} have begun", self.count()));
    }
}

fn definition(cache: &Value) -> Value {
    json!({"id": "p", "tasks": [{"name": "a", "task": "work", "inputs": ["x"], "cache": cache}]})
}

async fn engine(work: &Work, definition: Value) -> Fixture {
    let options = EngineOptions { shards: 2, ..EngineOptions::default() };
    start(Arc::new(MemoryStore::new()), work.broker(), definition, options).await
}

fn state(view: &RunView) -> StepStatus {
    view.steps[0].state.status
}

async fn replaced(fixture: &Fixture, definition: Value) {
    for pipeline in load_json(definition).unwrap() {
        fixture.engine.register(pipeline, Origin::Api).await.unwrap();
    }
}

/// Runs whose step waits for what another makes. That they have asked is certain: whoever is shown has.
async fn followers<const N: usize>(fixture: &Fixture, parameters: &Value) -> [RunId; N] {
    let mut runs = [RunId::new(); N];
    for run in &mut runs {
        *run = fixture.submit("p", parameters.clone()).await;
        let view = fixture.until(*run, |view| view.status == RunStatus::Running).await;
        assert_eq!(state(&view), StepStatus::Queued);
    }
    runs
}

#[tokio::test]
async fn a_value_is_made_once_for_the_same_inputs() {
    let work = Work::new();
    let fixture = engine(&work, definition(&json!({"ttl": "1h"}))).await;
    let first = fixture.run("p", json!({"x": 4})).await;
    let second = fixture.run("p", json!({"x": 4})).await;
    assert_eq!((state(&first), state(&second)), (StepStatus::Completed, StepStatus::Cached));
    assert_eq!((**second.result.as_ref().unwrap()).clone(), json!({"a": 40}));
    assert_eq!(work.count(), 1);
    let other = fixture.run("p", json!({"x": 5})).await;
    assert_eq!((state(&other), work.count()), (StepStatus::Completed, 2));
    let events = fixture.engine.events(first.run_id, 0, 100).await.unwrap();
    let missed = events.iter().any(|view| matches!(&view.event.fact, Fact::StepStart { cache: Some(_), .. }));
    assert!(missed, "its log says that nothing was kept");
    let id = "p".parse().unwrap();
    let stats = fixture.engine.cache_stats(&id).await.unwrap();
    assert_eq!((stats[0].task.as_str(), stats[0].entries, stats[0].bytes), ("a", 2, 4));

    assert_eq!(fixture.engine.drop_cached(&id, Some("b")).await.unwrap(), 0);
    assert_eq!(fixture.engine.drop_cached(&id, Some("a")).await.unwrap(), 2);
    assert_eq!(state(&fixture.run("p", json!({"x": 4})).await), StepStatus::Completed);
}

/// A clock that goes when it is told to.
#[derive(Debug)]
struct Told(AtomicI64);

impl Clock for Told {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.0.load(Ordering::SeqCst))
    }
}

#[tokio::test]
async fn a_value_is_good_for_its_time_and_no_longer_than_runs_are_kept() {
    let (work, clock) = (Work::new(), Arc::new(Told(AtomicI64::new(1_750_000_000_000))));
    let store = Arc::new(MemoryStore::new());
    let options = || EngineOptions { retention: Some(Duration::from_secs(7200)), ..EngineOptions::default() };
    let broker = work.broker();
    let fixture =
        start_at(store.clone(), broker, definition(&json!({"ttl": "1h"})), options(), clock.clone()).await;
    let later = |minutes: i64| {
        clock.0.fetch_add(minutes * 60_000, Ordering::SeqCst);
    };
    let run = || async { state(&fixture.run("p", json!({"x": 1})).await) };
    assert_eq!(run().await, StepStatus::Completed);
    later(59);
    assert_eq!(run().await, StepStatus::Cached);
    later(1);
    assert_eq!(run().await, StepStatus::Completed, "an hour is over");
    later(30);
    assert_eq!(run().await, StepStatus::Cached);
    replaced(&fixture, definition(&json!({"ttl": "10m"}))).await;
    assert_eq!(run().await, StepStatus::Completed, "a shorter time holds for what is there already");
    replaced(&fixture, definition(&json!({}))).await;
    assert_eq!(run().await, StepStatus::Cached);
    later(11);
    assert_eq!(run().await, StepStatus::Completed, "what was kept for ten minutes is gone after ten");
    later(119);
    assert_eq!(run().await, StepStatus::Cached, "without a time it is good as long as it is kept");
    later(1);
    assert_eq!(run().await, StepStatus::Completed, "and nothing outlives the runs");

    later(121);
    drop(fixture);
    let id = "p".parse().unwrap();
    let entries = async || store.cache_stats(&id).await.unwrap().len();
    assert_eq!(entries().await, 1);
    let again =
        start_at(store.clone(), work.broker(), definition(&json!({})), options(), clock.clone()).await;
    let pruned = async {
        while entries().await > 0 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(SOON, pruned).await.expect("what has expired is removed");
    again.engine.shutdown().await;
}

#[tokio::test]
async fn items_of_a_map_are_kept_one_by_one_and_made_once_within_a_run() {
    let work = Work::new();
    let fixture = engine(
        &work,
        json!({"id": "p", "tasks": [
            {"name": "m", "map": {"over": "list", "as": "x", "task": "work"}, "cache": {"ttl": "1h"}},
        ]}),
    )
    .await;
    let first = fixture.run("p", json!({"list": [1, 2, 1, 1]})).await;
    assert_eq!(**first.result.as_ref().unwrap(), json!({"m": [10, 20, 10, 10]}));
    assert_eq!(work.count(), 2, "the same item is made once");
    let second = fixture.run("p", json!({"list": [3, 2, 1]})).await;
    assert_eq!(**second.result.as_ref().unwrap(), json!({"m": [30, 20, 10]}));
    assert_eq!(work.count(), 3, "of another list only what is new");
    let counts = &second.steps[0].item_counts;
    assert_eq!(counts, &[("cached", 2), ("completed", 1)].into_iter().collect());
}

#[tokio::test]
async fn errors_are_not_kept_and_neither_are_long_values() {
    let work = Work::new();
    let fixture = engine(&work, definition(&json!({"ttl": "1h"}))).await;
    work.fails.store(true, Ordering::SeqCst);
    for count in 1..=2 {
        assert_eq!(fixture.run("p", json!({"x": 1})).await.status, RunStatus::Failed);
        assert_eq!(work.count(), count);
    }
    work.fails.store(false, Ordering::SeqCst);
    assert_eq!(state(&fixture.run("p", json!({"x": 1})).await), StepStatus::Completed);
    assert_eq!(state(&fixture.run("p", json!({"x": 1})).await), StepStatus::Cached);
    // With its quotes the longest that is kept, and one byte more.
    for (length, expected) in [((1 << 20) - 2, StepStatus::Cached), ((1 << 20) - 1, StepStatus::Completed)] {
        let parameters = json!({"x": format!("{length}")});
        fixture.run("p", parameters.clone()).await;
        let view = fixture.run("p", parameters).await;
        assert_eq!((view.status, state(&view)), (RunStatus::Completed, expected), "{length}");
    }
}

#[tokio::test]
async fn another_definition_version_or_pipeline_has_values_of_its_own() {
    let work = Work::new();
    let fixture = engine(&work, definition(&json!({"ttl": "1h"}))).await;
    let run = |pipeline: &'static str| {
        let fixture = &fixture;
        async move { state(&fixture.run(pipeline, json!({"x": 1})).await) }
    };
    assert_eq!(run("p").await, StepStatus::Completed);
    let mut changed = definition(&json!({"ttl": "1h"}));
    changed["tasks"][0]["description"] = json!("the same");
    changed["tasks"][0]["timeout"] = json!("1m");
    replaced(&fixture, changed.clone()).await;
    assert_eq!(run("p").await, StepStatus::Cached, "what does not change the value");
    changed["tasks"][0]["with"] = json!({"y": 1});
    replaced(&fixture, changed.clone()).await;
    assert_eq!(run("p").await, StepStatus::Completed, "what may");
    changed["tasks"][0]["cache"] = json!({"ttl": "1h", "version": "2"});
    replaced(&fixture, changed.clone()).await;
    assert_eq!((run("p").await, run("p").await), (StepStatus::Completed, StepStatus::Cached));
    changed["id"] = json!("q");
    replaced(&fixture, changed).await;
    assert_eq!(run("q").await, StepStatus::Completed, "the same task of another pipeline");
    // Of a pipeline that was deleted nothing is left.
    fixture.engine.unregister(&"q".parse().unwrap()).await.unwrap();
    assert!(fixture.engine.cache_stats(&"q".parse().unwrap()).await.unwrap().is_empty());
    assert_eq!(fixture.engine.cache_stats(&"p".parse().unwrap()).await.unwrap()[0].entries, 3);
}

#[tokio::test]
async fn a_key_decides_and_one_that_fails_fails_the_step() {
    let work = Work::new();
    let fixture = engine(&work, definition(&json!({"key": "x.id"}))).await;
    let first = fixture.run("p", json!({"x": {"id": 1, "at": 5}})).await;
    let second = fixture.run("p", json!({"x": {"id": 1, "at": 6}})).await;
    assert_eq!(state(&second), StepStatus::Cached);
    assert_eq!(second.result, first.result);
    let failed = fixture.run("p", json!({"x": {}})).await;
    assert_eq!((failed.status, work.count()), (RunStatus::Failed, 1));
    assert!(failed.error.unwrap().message.starts_with("`cache.key: x.id`: "));
}

#[tokio::test]
async fn one_makes_what_several_want() {
    let work = Work::held();
    let fixture = engine(&work, definition(&json!({}))).await;
    let leader = fixture.submit("p", json!({"x": 1})).await;
    work.begun(1).await;
    let others = followers::<8>(&fixture, &json!({"x": 1})).await;
    work.gate.add_permits(1);
    assert_eq!(state(&fixture.ended(leader).await), StepStatus::Completed);
    for run in others {
        let view = fixture.ended(run).await;
        assert_eq!((state(&view), &**view.result.as_ref().unwrap()), (StepStatus::Cached, &json!({"a": 10})));
    }
    assert_eq!(work.count(), 1);
}

#[tokio::test]
async fn who_waited_for_an_attempt_that_fails_goes_on_by_itself() {
    let work = Work::held();
    let mut retried = definition(&json!({}));
    retried["tasks"][0]["retry"] =
        json!({"max_attempts": 2, "delay": "1h", "jitter": false, "max_delay": "1h"});
    let fixture = engine(&work, retried).await;
    let leader = fixture.submit("p", json!({"x": 1})).await;
    work.begun(1).await;
    let [a, b] = followers(&fixture, &json!({"x": 1})).await;
    work.fails.store(true, Ordering::SeqCst);
    work.gate.add_permits(1);
    work.begun(3).await;
    assert_eq!(state(&fixture.engine.run(leader).await.unwrap()), StepStatus::Retrying, "for an hour");
    work.fails.store(false, Ordering::SeqCst);
    work.gate.add_permits(2);
    for run in [a, b] {
        assert_eq!(state(&fixture.ended(run).await), StepStatus::Completed);
    }
    assert_eq!(state(&fixture.run("p", json!({"x": 1})).await), StepStatus::Cached);
}

#[tokio::test]
async fn the_next_one_makes_it_where_the_first_is_stopped() {
    let work = Work::held();
    let fixture = engine(
        &work,
        json!({"id": "p", "tasks": [
            {"name": "a", "task": "work", "inputs": ["x"], "cache": {}},
            {"name": "b", "wait": {"signal": "fail"}},
            {"name": "c", "expression": "b.c.d", "inputs": ["b"]},
        ]}),
    )
    .await;
    // One is cancelled, one is stopped since another step of its run fails, one waits in vain and is cancelled.
    let first = fixture.submit("p", json!({"x": 1})).await;
    work.begun(1).await;
    let [second, third, fourth, fifth] = followers(&fixture, &json!({"x": 1})).await;
    fixture.engine.cancel(first, "enough").await.unwrap();
    work.begun(2).await;
    assert_eq!(state(&fixture.engine.run(second).await.unwrap()), StepStatus::Running, "the oldest run");
    fixture.engine.cancel(third, "enough").await.unwrap();
    fixture.engine.signal(second, "fail", json!(1), None).await.unwrap();
    work.begun(3).await;
    assert_eq!(fixture.ended(second).await.status, RunStatus::Failed);
    assert_eq!(state(&fixture.engine.run(fourth).await.unwrap()), StepStatus::Running);
    work.gate.add_permits(1);
    let view = fixture.until(fifth, |view| state(view).is_terminal()).await;
    assert_eq!((state(&view), work.count()), (StepStatus::Cached, 3));
}

#[tokio::test]
async fn a_run_that_is_paused_before_it_begins_lets_another_make_it() {
    let (work, store) = (Work::new(), Arc::new(FaultyStore::default()));
    let fixture = start(store.clone(), work.broker(), definition(&json!({})), EngineOptions::default()).await;
    let held = store.looks.lock().await;
    let paused = fixture.submit("p", json!({"x": 1})).await;
    fixture.until(paused, |view| view.status == RunStatus::Running).await;
    let [other] = followers(&fixture, &json!({"x": 1})).await;
    fixture.engine.pause(paused).await.unwrap();
    drop(held);
    assert_eq!(state(&fixture.ended(other).await), StepStatus::Completed);
    assert_eq!(state(&fixture.engine.run(paused).await.unwrap()), StepStatus::Queued);
    fixture.engine.resume(paused).await.unwrap();
    assert_eq!((state(&fixture.ended(paused).await), work.count()), (StepStatus::Cached, 1));
}

#[tokio::test]
async fn a_run_that_is_paused_while_it_makes_it_makes_it_for_all() {
    let work = Work::held();
    let fixture = engine(&work, definition(&json!({}))).await;
    let paused = fixture.submit("p", json!({"x": 1})).await;
    work.begun(1).await;
    let [other] = followers(&fixture, &json!({"x": 1})).await;
    fixture.engine.pause(paused).await.unwrap();
    work.gate.add_permits(1);
    assert_eq!((state(&fixture.ended(other).await), work.count()), (StepStatus::Cached, 1));
}

#[tokio::test]
async fn a_crash_loses_no_run_that_makes_or_waits_and_what_is_made_after_it_is_kept() {
    let (store, held, free) = (Arc::new(MemoryStore::new()), Work::held(), Work::new());
    let options =
        || EngineOptions { drain: Duration::from_millis(10), shards: 2, ..EngineOptions::default() };
    let first = start(store.clone(), held.broker(), definition(&json!({})), options()).await;
    let leader = first.submit("p", json!({"x": 1})).await;
    held.begun(1).await;
    let others = followers::<3>(&first, &json!({"x": 1})).await;
    drop(first);
    store.void_leases();

    let second = start(store.clone(), free.broker(), definition(&json!({})), options()).await;
    let view = second.ended(leader).await;
    assert_eq!((state(&view), view.steps[0].state.attempt), (StepStatus::Completed, 2));
    for run in others {
        assert_eq!(second.ended(run).await.status, RunStatus::Completed);
    }
    let count = free.count();
    assert_eq!(state(&second.run("p", json!({"x": 1})).await), StepStatus::Cached);
    assert_eq!(free.count(), count);
}

#[tokio::test]
async fn a_store_that_cannot_be_asked_costs_an_attempt_and_no_run() {
    let (work, store) = (Work::new(), Arc::new(FaultyStore::default()));
    let fixture = start(store.clone(), work.broker(), definition(&json!({})), EngineOptions::default()).await;
    fixture.run("p", json!({"x": 1})).await;
    store.blind.store(true, Ordering::SeqCst);
    assert_eq!(state(&fixture.run("p", json!({"x": 1})).await), StepStatus::Completed);
    store.blind.store(false, Ordering::SeqCst);
    assert_eq!(state(&fixture.run("p", json!({"x": 1})).await), StepStatus::Cached);
}

#[tokio::test]
async fn a_fork_from_a_step_makes_its_value_anew_and_keeps_that() {
    let work = Work::new();
    let fixture = engine(
        &work,
        json!({"id": "p", "tasks": [
            {"name": "a", "task": "work", "inputs": ["x"], "cache": {}},
            {"name": "b", "task": "work", "inputs": {"x": "a"}, "cache": {}},
        ]}),
    )
    .await;
    let first = fixture.run("p", json!({"x": 1})).await;
    assert_eq!(work.count(), 2);
    let fork = |from: Option<&str>| Fork { from: from.map(str::to_owned), parameters: Map::new() };
    let forked = fixture.engine.fork(first.run_id, fork(Some("a")), "ops", None).await.unwrap();
    let view = fixture.ended(forked.run_id).await;
    let states: Vec<_> = view.steps.iter().map(|step| step.state.status).collect();
    assert_eq!(states, [StepStatus::Completed, StepStatus::Cached], "what needs it is looked for as ever");
    assert_eq!(work.count(), 3);
    assert_eq!(fixture.engine.cache_stats(&"p".parse().unwrap()).await.unwrap()[0].entries, 1);

    // A retry looks for what it does again, too: another run may have made it meanwhile.
    work.fails.store(true, Ordering::SeqCst);
    let failed = fixture.run("p", json!({"x": 2})).await;
    assert_eq!(failed.status, RunStatus::Failed);
    work.fails.store(false, Ordering::SeqCst);
    fixture.run("p", json!({"x": 2})).await;
    let count = work.count();
    let retried = fixture.engine.retry(failed.run_id, "ops", None).await.unwrap();
    let view = fixture.ended(retried.run_id).await;
    assert_eq!((view.status, work.count()), (RunStatus::Completed, count));
}

#[tokio::test]
async fn a_step_that_runs_another_pipeline_is_kept_like_any_other() {
    let work = Work::new();
    let fixture = engine(
        &work,
        json!([
            {"id": "inner", "tasks": [{"name": "a", "task": "work", "inputs": ["x"]}]},
            {"id": "p", "tasks": [{"name": "sub", "pipeline": "inner", "inputs": ["x"], "cache": {}}]},
        ]),
    )
    .await;
    fixture.run("p", json!({"x": 1})).await;
    let view = fixture.run("p", json!({"x": 1})).await;
    assert_eq!((state(&view), work.count()), (StepStatus::Cached, 1));
    assert_eq!(**view.result.as_ref().unwrap(), json!({"sub": {"a": 10}}));
}

#[tokio::test]
async fn an_expression_is_kept_where_it_says_so() {
    let work = Work::new();
    let fixture = engine(
        &work,
        json!({"id": "p", "tasks": [
            {"name": "a", "expression": "x + 1", "inputs": ["x"], "cache": {}},
        ]}),
    )
    .await;
    fixture.run("p", json!({"x": 1})).await;
    let view = fixture.run("p", json!({"x": 1})).await;
    assert_eq!((state(&view), &**view.result.as_ref().unwrap()), (StepStatus::Cached, &json!({"a": 2})));
}

#[tokio::test]
async fn the_oldest_values_go_while_further_ones_come() {
    let definition = json!({"id": "p", "tasks": [{"name": "a", "inputs": ["x"], "expression": "x", "cache": {}, "output": "y"}]});
    let id = "p".parse().unwrap();
    for (values, bytes, length, runs, most) in [(20, u64::MAX, 3, 110, 30), (9999, 300_000, 120_000, 12, 5)] {
        let options =
            EngineOptions { max_cached_values: values, max_cached_bytes: bytes, ..EngineOptions::default() };
        let store = Arc::new(MemoryStore::new());
        let fixture = start(store.clone(), InMemoryBroker::new(), definition.clone(), options).await;
        for place in 0..runs {
            fixture.run("p", json!({"x": format!("{place}{}", "x".repeat(length))})).await;
        }
        let begun = std::time::Instant::now();
        while store.cache_stats(&id).await.unwrap()[0].entries > most {
            assert!(begun.elapsed() < SOON, "{:?}", store.cache_stats(&id).await);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

#[tokio::test]
async fn a_map_whose_keys_take_long_holds_up_no_other_run() {
    let map = json!({"over": "list", "as": "x", "expression": "x"});
    // All of its keys together take minutes.
    let slow =
        json!({"name": "rows", "map": map, "inputs": ["list"], "cache": {"key": "[x, range(100000) | sum]"}});
    let definition = json!([
        {"id": "slow", "tasks": [slow]},
        {"id": "quick", "tasks": [{"name": "a", "expression": "1"}]},
    ]);
    let options = EngineOptions { shards: 1, drain: Duration::from_millis(10), ..EngineOptions::default() };
    let fixture = start(Arc::new(MemoryStore::new()), InMemoryBroker::new(), definition, options).await;
    let list: Vec<u32> = (0..20_000).collect();
    let engine = fixture.engine.clone();
    let slow = tokio::spawn(async move { engine.submit(request("slow", json!({"list": list}))).await });
    let slow = tokio::time::timeout(SOON * 3, slow).await.expect("it is accepted").unwrap().unwrap().run_id;
    assert_eq!(fixture.run("quick", json!({})).await.status, RunStatus::Completed);
    fixture.engine.cancel(slow, "enough").await.unwrap();
    assert_eq!(fixture.ended(slow).await.status, RunStatus::Cancelled);
    fixture.engine.shutdown().await;
}
