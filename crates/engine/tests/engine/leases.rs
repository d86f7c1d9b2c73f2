//! Several processes on one store. The runtime's clock stands still while something is under way.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use taskiq_flow_broker::{Broker, InMemoryBroker};
use taskiq_flow_core::run::RunStatus;
use taskiq_flow_engine::EngineOptions;
use taskiq_flow_store::MemoryStore;

use crate::faulty::FaultyStore;
use crate::support::{Fixture, RuntimeClock, start_at};

const LEASE: Duration = Duration::from_secs(30);

/// A process, and what it sees of the store.
struct Process {
    fixture: Fixture,
    store: Arc<FaultyStore>,
    /// Attempts of its that are under way.
    busy: Arc<AtomicUsize>,
}

/// Counts as long as it is there.
struct Busy(Arc<AtomicUsize>);

impl Busy {
    fn new(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(Arc::clone(count))
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Starts a process whose task `work` takes that long and says which attempt it was.
async fn process(
    shared: &Arc<MemoryStore>,
    clock: &Arc<RuntimeClock>,
    takes: Duration,
    definitions: Value,
) -> Process {
    let (inner, shared) = (Arc::clone(shared), true.into());
    let store = Arc::new(FaultyStore { inner, shared, ..FaultyStore::default() });
    let (broker, busy) = (InMemoryBroker::new(), Arc::new(AtomicUsize::new(0)));
    let count = Arc::clone(&busy);
    broker.registry().register("work", move |call| {
        let busy = Busy::new(&count);
        async move {
            tokio::time::sleep(takes).await;
            drop(busy);
            Ok(json!(call.context.attempt))
        }
    });
    let options =
        EngineOptions { lease: LEASE, drain: Duration::from_millis(10), ..EngineOptions::default() };
    let fixture = start_at(store.clone(), broker, definitions, options, clock.clone()).await;
    Process { fixture, store, busy }
}

fn definitions() -> Value {
    json!([
        {"id": "p", "tasks": [{"name": "a", "task": "work", "output": "x"}]},
        {"id": "outer", "tasks": [{"name": "inner", "pipeline": "p", "output": "y"}]},
    ])
}

fn other() -> Value {
    json!({"id": "other", "tasks": [{"name": "a", "expression": "1"}]})
}

/// One process whose attempts take that long, and one whose attempts take no time.
async fn both(takes: Duration) -> (Process, Process) {
    let (shared, clock) = (Arc::new(MemoryStore::new()), Arc::new(RuntimeClock::new()));
    let first = process(&shared, &clock, takes, definitions()).await;
    // It finds the definitions in the store.
    let second = process(&shared, &clock, Duration::ZERO, other()).await;
    (first, second)
}

#[tokio::test(start_paused = true)]
async fn a_process_that_renews_its_lease_keeps_its_runs() {
    let (first, second) = both(LEASE * 10).await;
    let run_id = first.fixture.submit("p", json!({})).await;
    tokio::time::sleep(LEASE * 9).await;
    assert_eq!(second.fixture.engine.run(run_id).await.unwrap().status, RunStatus::Running);
    let view = second.fixture.engine.wait(run_id, LEASE * 2).await.unwrap().unwrap();
    assert_eq!((view.status, &**view.result.as_ref().unwrap()), (RunStatus::Completed, &json!({"x": 1})));
}

#[tokio::test(start_paused = true)]
async fn a_run_that_cannot_be_taken_up_keeps_no_other_from_it_and_is_tried_again() {
    let (first, second) = both(LEASE * 100).await;
    let bad = first.fixture.submit("p", json!({})).await;
    let good = first.fixture.submit("p", json!({})).await;
    *second.store.without_log.lock() = Some(bad);
    first.store.set_down(true);
    assert_eq!(
        second.fixture.engine.wait(good, LEASE * 3).await.unwrap().unwrap().status,
        RunStatus::Completed
    );
    *second.store.without_log.lock() = None;
    assert_eq!(
        second.fixture.engine.wait(bad, LEASE * 3).await.unwrap().unwrap().status,
        RunStatus::Completed
    );
}

#[tokio::test(start_paused = true)]
async fn a_process_that_cannot_renew_stops_its_attempts_before_others_make_them_again() {
    let (first, second) = both(LEASE * 100).await;
    let run_id = first.fixture.submit("p", json!({})).await;
    let outer = first.fixture.submit("outer", json!({})).await;
    tokio::time::sleep(LEASE).await;
    assert_eq!(first.busy.load(Ordering::SeqCst), 2);
    first.store.set_down(true);
    let mut stopped_at = None;
    let cut_off = tokio::time::Instant::now();
    while second.fixture.engine.run(run_id).await.unwrap().status != RunStatus::Completed {
        tokio::time::sleep(Duration::from_millis(100)).await;
        if first.busy.load(Ordering::SeqCst) == 0 && stopped_at.is_none() {
            stopped_at = Some(cut_off.elapsed());
            let seen = second.fixture.engine.run(run_id).await.unwrap();
            assert_eq!(seen.steps[0].state.attempt, 1, "nobody has begun it again yet");
        }
        assert!(cut_off.elapsed() < LEASE * 3, "nobody took it over");
    }
    assert!(stopped_at.is_some_and(|at| at < LEASE), "{stopped_at:?}");
    let view = second.fixture.engine.wait(run_id, LEASE).await.unwrap().unwrap();
    assert_eq!(**view.result.as_ref().unwrap(), json!({"x": 2}), "the second attempt");
    // The inner run was not cancelled by who lost it: it went on, and the outer one with it.
    let view = second.fixture.engine.wait(outer, LEASE * 2).await.unwrap().unwrap();
    assert_eq!(view.status, RunStatus::Completed, "{view:?}");
    // Back again, it drives what is new, and knows what became of the rest.
    first.store.set_down(false);
    assert_eq!(first.fixture.engine.wait(run_id, LEASE).await.unwrap().unwrap().status, RunStatus::Completed);
    tokio::time::sleep(LEASE).await;
    let new = first.fixture.submit("p", json!({})).await;
    tokio::time::sleep(LEASE * 5).await;
    assert_eq!(first.busy.load(Ordering::SeqCst), 1);
    assert_eq!(second.fixture.engine.run(new).await.unwrap().status, RunStatus::Running);
}

#[tokio::test(start_paused = true)]
async fn a_process_that_was_taken_for_dead_begins_anew() {
    let (shared, clock) = (Arc::new(MemoryStore::new()), Arc::new(RuntimeClock::new()));
    let only = process(&shared, &clock, LEASE * 100, definitions()).await;
    let run_id = only.fixture.submit("p", json!({})).await;
    tokio::time::sleep(LEASE).await;
    // As if it had been asleep: nothing tells it so.
    shared.void_leases();
    let late = only.fixture.submit("p", json!({})).await;
    tokio::time::sleep(LEASE).await;
    for run_id in [run_id, late] {
        let view = only.fixture.engine.run(run_id).await.unwrap();
        assert_eq!((view.status, view.steps[0].state.attempt), (RunStatus::Running, 2));
    }
    assert_eq!(only.busy.load(Ordering::SeqCst), 2, "the first attempts were stopped");
}

#[tokio::test(start_paused = true)]
async fn a_process_that_shuts_down_makes_nobody_wait_for_its_runs() {
    let (first, second) = both(LEASE * 100).await;
    let run_id = first.fixture.submit("p", json!({})).await;
    tokio::time::sleep(LEASE).await;
    let begun = tokio::time::Instant::now();
    first.fixture.engine.shutdown().await;
    let view = second.fixture.engine.wait(run_id, LEASE * 3).await.unwrap().unwrap();
    assert_eq!(view.status, RunStatus::Completed);
    assert!(begun.elapsed() < LEASE / 2, "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_store_of_one_process_is_not_asked_while_nothing_happens() {
    let (shared, clock) = (Arc::new(MemoryStore::new()), Arc::new(RuntimeClock::new()));
    let store = Arc::new(FaultyStore { inner: shared, ..FaultyStore::default() });
    let options = EngineOptions { lease: LEASE, ..EngineOptions::default() };
    let fixture = start_at(store.clone(), InMemoryBroker::new(), other(), options, clock).await;
    let at_start = store.asked_for_leases.load(Ordering::SeqCst);
    tokio::time::sleep(LEASE * 1000).await;
    assert_eq!(store.asked_for_leases.load(Ordering::SeqCst), at_start);
    fixture.engine.shutdown().await;
    assert_eq!(store.asked_for_leases.load(Ordering::SeqCst), at_start);
}
