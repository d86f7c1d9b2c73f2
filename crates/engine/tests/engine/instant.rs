//! Rust tasks that are over in an instant, which a shard carries out itself: once it is known that they are, with a store
//! that outlives the process after their start is durable, with one in memory within one turn.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use taskiq_flow_broker::{Broker, InMemoryBroker, TaskError};
use taskiq_flow_core::run::{RunStatus, StepStatus};
use taskiq_flow_engine::EngineOptions;
use taskiq_flow_store::{MemoryStore, Store};
use tokio::sync::Notify;

use crate::faulty::FaultyStore;
use crate::support::{Fixture, SOON, request, start};

/// After so many runs the tasks are known.
const KNOWN: usize = 50;

/// What a task does that is called when it is known to be quick.
#[derive(Default)]
struct Switch {
    turned: AtomicBool,
    go_on: Notify,
    calls: AtomicUsize,
    at_once: AtomicUsize,
}

fn chain() -> Value {
    json!({"id": "p", "tasks": [
        {"name": "a", "task": "quick"},
        {"name": "b", "task": "quick", "inputs": ["a"]},
        {"name": "c", "task": "quick", "inputs": ["b"], "retry": {"max_attempts": 2, "delay": "1ms"}},
    ]})
}

/// An engine whose task `quick` is known to end at once, and does `otherwise` once the switch is turned.
async fn known<F>(
    store: Arc<dyn Store>,
    options: EngineOptions,
    otherwise: impl Fn(Arc<Switch>) -> F + Clone + Send + Sync + 'static,
) -> (Fixture, Arc<Switch>)
where
    F: Future<Output = Result<Value, TaskError>> + Send + 'static,
{
    let (broker, switch) = (InMemoryBroker::new(), Arc::new(Switch::default()));
    let shared = Arc::clone(&switch);
    broker.registry().register("quick", move |_| {
        let (switch, otherwise) = (Arc::clone(&shared), otherwise.clone());
        async move {
            switch.calls.fetch_add(1, Ordering::SeqCst);
            match switch.turned.load(Ordering::SeqCst) {
                true => otherwise(switch).await,
                false => Ok(json!(1)),
            }
        }
    });
    let fixture = start(store, broker, chain(), options).await;
    for _ in 0..KNOWN {
        assert_eq!(fixture.run("p", json!({})).await.status, RunStatus::Completed);
    }
    switch.turned.store(true, Ordering::SeqCst);
    switch.calls.store(0, Ordering::SeqCst);
    (fixture, switch)
}

fn stores() -> [Arc<dyn Store>; 2] {
    [Arc::new(MemoryStore::new()), Arc::new(FaultyStore::default())]
}

/// A busy machine may take its time for a task that does nothing.
fn one_shard() -> EngineOptions {
    EngineOptions { shards: 1, instant: Duration::from_secs(1), ..EngineOptions::default() }
}

#[tokio::test]
async fn a_chain_is_one_write_in_memory_and_four_where_it_must_be_durable() {
    for (outlives, expected) in [(false, 1), (true, 4)] {
        let store = Arc::new(FaultyStore { is_in_memory: !outlives, ..FaultyStore::default() });
        let (fixture, _) = known(store.clone(), one_shard(), |_| async { Ok(json!(2)) }).await;
        let before = store.writes.load(Ordering::SeqCst);
        let view = fixture.run("p", json!({})).await;
        assert_eq!(**view.result.as_ref().unwrap(), json!({"c": 2}));
        assert_eq!(store.writes.load(Ordering::SeqCst) - before, expected);
        let events = store.events(view.run_id, 0, 100).await.unwrap();
        let types: Vec<_> = events.iter().map(|event| event.fact.type_name()).collect();
        let step = ["StepStartEvent", "StepCompleteEvent"];
        assert_eq!(
            types,
            [&["PipelineStartEvent"][..], &step, &step, &step, &["PipelineCompleteEvent"]].concat()
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_waits_after_all_goes_on_by_itself_and_can_be_cancelled() {
    for store in stores() {
        let wait = |switch: Arc<Switch>| async move {
            switch.go_on.notified().await;
            Ok(json!(3))
        };
        let (fixture, switch) = known(store, one_shard(), wait).await;
        let (first, second) = (fixture.submit("p", json!({})).await, fixture.submit("p", json!({})).await);
        while switch.calls.load(Ordering::SeqCst) < 2 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(fixture.engine.attempts_under_way(), 2);
        fixture.engine.cancel(first, "enough").await.unwrap();
        assert_eq!(fixture.ended(first).await.status, RunStatus::Cancelled);
        switch.turned.store(false, Ordering::SeqCst);
        switch.go_on.notify_waiters();
        let view = fixture.ended(second).await;
        assert_eq!((view.status, view.steps[0].state.attempt), (RunStatus::Completed, 1));
        assert_eq!(fixture.engine.attempts_under_way(), 0, "the cancelled one has let go");
    }
}

#[tokio::test]
async fn one_that_fails_or_panics_is_repeated_as_any_other() {
    for store in stores() {
        let fail = |switch: Arc<Switch>| async move {
            assert!(!switch.calls.load(Ordering::SeqCst).is_multiple_of(2), "every second call panics");
            Err(TaskError::new("not now"))
        };
        let (fixture, switch) = known(store, one_shard(), fail).await;
        // The first two steps have one attempt.
        let view = fixture.run("p", json!({})).await;
        assert_eq!((view.status, view.error.unwrap().message.as_ref()), (RunStatus::Failed, "not now"));
        let view = fixture.run("p", json!({})).await;
        assert_eq!(view.error.unwrap().message.as_ref(), "the task panicked");
        switch.turned.store(false, Ordering::SeqCst);
        assert_eq!(fixture.run("p", json!({})).await.status, RunStatus::Completed);
        assert_eq!(fixture.engine.attempts_under_way(), 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_bound_on_attempts_holds_for_those_of_shards() {
    for store in stores() {
        let most = 2;
        let options = EngineOptions { max_concurrent_attempts: most, ..one_shard() };
        let wait = |switch: Arc<Switch>| async move {
            switch.at_once.fetch_add(1, Ordering::SeqCst);
            switch.go_on.notified().await;
            switch.at_once.fetch_sub(1, Ordering::SeqCst);
            Ok(json!(3))
        };
        let (fixture, switch) = known(store, options, wait).await;
        let mut runs = Vec::new();
        for _ in 0..8 {
            runs.push(fixture.submit("p", json!({})).await);
        }
        while switch.at_once.load(Ordering::SeqCst) < most {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert_eq!(switch.at_once.load(Ordering::SeqCst), most);
        switch.turned.store(false, Ordering::SeqCst);
        for run in runs {
            let ended = fixture.ended(run);
            tokio::pin!(ended);
            while tokio::time::timeout(Duration::from_millis(5), &mut ended).await.is_err() {
                switch.go_on.notify_waiters();
            }
            assert_eq!(fixture.engine.run(run).await.unwrap().status, RunStatus::Completed);
        }
    }
}

#[tokio::test]
async fn one_that_is_stopped_in_the_same_turn_is_not_carried_out() {
    let definition = json!({"id": "p", "tasks": [
        {"name": "bad", "expression": "1 // 0"},
        {"name": "good", "task": "quick"},
    ]});
    for store in stores() {
        let (fixture, switch) = known(store, one_shard(), |_| async { Ok(json!(1)) }).await;
        for pipeline in taskiq_flow_core::load::load_json(definition.clone()).unwrap() {
            fixture.engine.register(pipeline, taskiq_flow_store::Origin::Api).await.unwrap();
        }
        let view = fixture.run("p", json!({})).await;
        assert_eq!(view.status, RunStatus::Failed);
        assert!(view.steps[1].state.status.is_terminal(), "{:?}", view.steps[1].state.status);
        assert_ne!(view.steps[1].state.status, StepStatus::Failed);
        assert_eq!(switch.calls.load(Ordering::SeqCst), 0);
        assert_eq!(fixture.engine.attempts_under_way(), 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_shard_that_a_task_holds_up_is_told_of() {
    for store in stores() {
        let block = |_: Arc<Switch>| async {
            std::thread::sleep(Duration::from_secs(4));
            Ok(json!(3))
        };
        let (fixture, switch) = known(store, one_shard(), block).await;
        let engine = fixture.engine.clone();
        let asking = tokio::spawn(async move { engine.submit_to_end(request("p", json!({})), None).await });
        while switch.calls.load(Ordering::SeqCst) == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        switch.turned.store(false, Ordering::SeqCst);
        assert_eq!(fixture.engine.ready().await, Ok(()));
        tokio::time::sleep(Duration::from_millis(2500)).await;
        let told = fixture.engine.ready().await.unwrap_err();
        assert!(told.starts_with("driver 0 of 1 has been held up for "), "{told}");
        let (_, mut ending) = asking.await.unwrap().unwrap();
        assert_eq!(ending.wait(SOON).await.unwrap().unwrap().status, RunStatus::Completed);
        assert_eq!(fixture.engine.ready().await, Ok(()));
    }
}

#[tokio::test]
async fn none_are_called_by_shards_where_that_is_turned_off() {
    let store = Arc::new(FaultyStore { is_in_memory: true, ..FaultyStore::default() });
    let options = EngineOptions { instant: Duration::ZERO, ..one_shard() };
    let (fixture, _) = known(store.clone(), options, |_| async { Ok(json!(2)) }).await;
    let before = store.writes.load(Ordering::SeqCst);
    fixture.run("p", json!({})).await;
    assert_eq!(store.writes.load(Ordering::SeqCst) - before, 4);
}

/// Panics when it is let go of.
struct Trap;

impl Drop for Trap {
    fn drop(&mut self) {
        assert!(std::thread::panicking(), "let go of");
    }
}

#[tokio::test]
async fn one_that_panics_before_it_begins_or_after_its_end_fails_its_step_alone() {
    let definition = json!([
        {"id": "before", "tasks": [{"name": "a", "task": "before"}]},
        {"id": "after", "tasks": [{"name": "a", "task": "after"}]},
    ]);
    for store in stores() {
        let broker = InMemoryBroker::new();
        broker.registry().register("before", |call| {
            assert!(call.context.attempt == 0, "at once");
            async { Ok(json!(1)) }
        });
        broker.registry().register("after", |_| {
            let trap = Trap;
            async move {
                let _trap = trap;
                Ok(json!(1))
            }
        });
        let fixture = start(store, broker, definition.clone(), one_shard()).await;
        for _ in 0..KNOWN {
            for pipeline in ["before", "after"] {
                let view = fixture.run(pipeline, json!({})).await;
                assert_eq!(view.status, RunStatus::Failed);
                assert_eq!(view.error.unwrap().message.as_ref(), "the task panicked");
            }
        }
        assert_eq!(fixture.engine.attempts_under_way(), 0);
    }
}
