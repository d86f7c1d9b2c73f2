//! Rust tasks that are over in an instant, which a shard carries out itself: once it is known that they are, with a store
//! that outlives the process after their start is durable, with one in memory within one turn.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::{Value, json};
use taskiq_flow_broker::{Broker, InMemoryBroker, TaskError};
use taskiq_flow_core::run::{RunStatus, StepStatus};
use taskiq_flow_engine::{Engine, EngineOptions, Submission};
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
    /// Which task of tokio made each call: that of the shard, or another.
    callers: Mutex<Vec<tokio::task::Id>>,
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
            switch.callers.lock().push(tokio::task::id());
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
async fn a_chain_is_two_writes_in_memory_and_four_where_it_must_be_durable() {
    // In memory the run itself is one, and all that is done in it another.
    for (outlives, expected) in [(false, 2), (true, 4)] {
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

/// Waits once, and panics when it is let go of after its end.
#[derive(Default)]
struct Late {
    waited: bool,
    ended: bool,
}

impl Future for Late {
    type Output = Result<Value, TaskError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if std::mem::replace(&mut self.waited, true) {
            self.ended = true;
            return Poll::Ready(Ok(json!(1)));
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl Drop for Late {
    fn drop(&mut self) {
        assert!(!self.ended, "let go of");
    }
}

#[tokio::test]
async fn one_that_panics_before_it_begins_or_after_its_end_fails_its_step_alone() {
    let definition = json!([
        {"id": "before", "tasks": [{"name": "a", "task": "before"}]},
        {"id": "after", "tasks": [{"name": "a", "task": "after"}]},
        {"id": "late", "tasks": [{"name": "a", "task": "late"}]},
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
        broker.registry().register("late", |_| Late::default());
        let fixture = start(store, broker, definition.clone(), one_shard()).await;
        for _ in 0..KNOWN {
            for pipeline in ["before", "after", "late"] {
                let view = fixture.run(pipeline, json!({})).await;
                assert_eq!(view.status, RunStatus::Failed);
                assert_eq!(view.error.unwrap().message.as_ref(), "the task panicked");
            }
        }
        assert_eq!(fixture.engine.attempts_under_way(), 0);
    }
}

#[tokio::test]
async fn a_request_that_is_repeated_carries_nothing_out() {
    for store in stores() {
        let (fixture, switch) = known(store, one_shard(), |_| std::future::pending()).await;
        switch.turned.store(false, Ordering::SeqCst);
        let keyed = || Submission { idempotency_key: Some("k".into()), ..request("p", json!({})) };
        let (first, mut ending) = fixture.engine.submit_to_end(keyed(), None).await.unwrap();
        assert!(first.created && ending.wait(SOON).await.unwrap().is_some());
        assert_eq!(switch.calls.swap(0, Ordering::SeqCst), 3);
        // What it would call now would never end.
        switch.turned.store(true, Ordering::SeqCst);
        let again = fixture.engine.submit(keyed()).await.unwrap();
        assert!(!again.created && again.run_id == first.run_id);
        assert_eq!(switch.calls.load(Ordering::SeqCst), 0);
        assert_eq!(fixture.engine.attempts_under_way(), 0);
    }
}

#[tokio::test]
async fn a_run_that_may_never_have_been_kept_carries_nothing_out_when_the_engine_stops() {
    let store = Arc::new(FaultyStore { is_in_memory: true, ..FaultyStore::default() });
    let (fixture, switch) = known(store.clone(), one_shard(), |_| async { Ok(json!(2)) }).await;
    store.down.store(true, Ordering::SeqCst);
    store.unreadable.store(true, Ordering::SeqCst);
    let engine = fixture.engine.clone();
    let asking = tokio::spawn(async move { engine.submit(request("p", json!({}))).await });
    tokio::time::sleep(Duration::from_millis(200)).await;
    fixture.engine.shutdown().await;
    assert!(asking.await.unwrap().is_err());
    assert_eq!(switch.calls.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_run_that_is_not_to_be_carried_out_is_kept_with_its_end() {
    let store = Arc::new(FaultyStore { is_in_memory: true, ..FaultyStore::default() });
    let definition = json!({
        "id": "p",
        "concurrency": {"max": 1, "on_full": "skip"},
        "tasks": [{"name": "a", "wait": {"signal": "go"}}],
    });
    let fixture = start(store.clone(), InMemoryBroker::new(), definition, one_shard()).await;
    let first = fixture.submit("p", json!({})).await;
    fixture.until(first, |view| view.status == RunStatus::Running).await;
    let before = store.writes.load(Ordering::SeqCst);
    let second = fixture.engine.submit(request("p", json!({}))).await.unwrap();
    assert_eq!(second.status, RunStatus::Cancelled);
    assert_eq!(store.writes.load(Ordering::SeqCst) - before, 1, "in one write, before the answer");
    let kept = store.run(second.run_id).await.unwrap().unwrap().summary;
    assert_eq!(kept.status, RunStatus::Cancelled);
}

#[tokio::test]
async fn a_task_sees_its_own_run() {
    for store in stores() {
        let broker = InMemoryBroker::new();
        let asked: Arc<OnceLock<Engine>> = Arc::default();
        let engine = Arc::clone(&asked);
        broker.registry().register("ask", move |call| {
            let engine = engine.get().cloned();
            async move {
                match engine.unwrap().record(call.context.run_id).await {
                    Ok(record) => Ok(json!(record.pipeline_id.as_str())),
                    Err(error) => Err(TaskError::new(error.to_string())),
                }
            }
        });
        let definition = json!({"id": "p", "tasks": [{"name": "a", "task": "ask"}]});
        let fixture = start(store, broker, definition, one_shard()).await;
        asked.set(fixture.engine.clone()).unwrap();
        for _ in 0..KNOWN {
            let view = fixture.run("p", json!({})).await;
            assert_eq!(view.status, RunStatus::Completed, "{:?}", view.error);
        }
    }
}

#[tokio::test]
async fn what_takes_long_after_all_has_its_time_and_its_retry_waits() {
    for store in stores() {
        let block = |switch: Arc<Switch>| async move {
            std::thread::sleep(Duration::from_millis(300));
            switch.turned.store(false, Ordering::SeqCst);
            Err(TaskError::new("not now"))
        };
        let (fixture, _) = known(Arc::clone(&store), one_shard(), block).await;
        let definition = json!({"id": "q", "tasks": [
            {"name": "a", "task": "quick", "retry": {"max_attempts": 2, "delay": "200ms", "jitter": false}},
        ]});
        for pipeline in taskiq_flow_core::load::load_json(definition).unwrap() {
            fixture.engine.register(pipeline, taskiq_flow_store::Origin::Api).await.unwrap();
        }
        let view = fixture.run("q", json!({})).await;
        assert_eq!((view.status, view.steps[0].state.attempt), (RunStatus::Completed, 2));
        let events = store.events(view.run_id, 0, 100).await.unwrap();
        let starts: Vec<_> =
            events.iter().filter(|event| event.fact.type_name() == "StepStartEvent").collect();
        let between = starts[1].timestamp.since(starts[0].timestamp);
        assert!(between >= Duration::from_millis(490), "{between:?}");
        let run = store.run(view.run_id).await.unwrap().unwrap().summary;
        let took = run.finished_at.unwrap().since(run.started_at.unwrap());
        assert!(took >= Duration::from_millis(490), "{took:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tasks_that_block_before_they_wait_do_not_keep_the_shard_for_long() {
    for store in stores() {
        let block = |switch: Arc<Switch>| async move {
            std::thread::sleep(Duration::from_millis(5));
            switch.go_on.notified().await;
            Ok(json!(1))
        };
        let options = EngineOptions { instant: Duration::from_millis(1), ..one_shard() };
        let (fixture, switch) = known(store, options, block).await;
        let shard = switch.callers.lock().pop().unwrap();
        switch.callers.lock().clear();
        let tasks: Vec<_> = (0..200).map(|n| json!({"name": format!("t{n}"), "task": "quick"})).collect();
        for pipeline in taskiq_flow_core::load::load_json(json!({"id": "many", "tasks": tasks})).unwrap() {
            fixture.engine.register(pipeline, taskiq_flow_store::Origin::Api).await.unwrap();
        }
        let run = fixture.submit("many", json!({})).await;
        while switch.callers.lock().len() < 100 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let of_shard = switch.callers.lock().iter().filter(|caller| **caller == shard).count();
        assert!(of_shard <= 20, "{of_shard}");
        fixture.engine.cancel(run, "enough").await.unwrap();
        switch.turned.store(false, Ordering::SeqCst);
        assert_eq!(fixture.ended(run).await.status, RunStatus::Cancelled);
    }
}

#[tokio::test]
async fn a_task_that_is_registered_anew_is_not_known() {
    for store in stores() {
        let broker = InMemoryBroker::new();
        let (registry, callers) = (broker.registry().clone(), Arc::new(Mutex::new(Vec::new())));
        let make_known = || {
            let callers = Arc::clone(&callers);
            registry.register("quick", move |_| {
                callers.lock().push(tokio::task::id());
                async { Ok(json!(1)) }
            });
        };
        make_known();
        let fixture = start(store, broker, chain(), one_shard()).await;
        for _ in 0..KNOWN {
            fixture.run("p", json!({})).await;
        }
        let shard = callers.lock().pop().unwrap();
        callers.lock().clear();
        make_known();
        fixture.run("p", json!({})).await;
        let called = std::mem::take(&mut *callers.lock());
        assert!(called[0] != shard && called[2] == shard, "the first one is a worker's: {called:?}, {shard}");
    }
}
