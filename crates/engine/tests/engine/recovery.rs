//! A new engine on the store of one that died.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde_json::json;
use taskiq_flow_broker::{Broker, InMemoryBroker};
use taskiq_flow_core::id::RunId;
use taskiq_flow_core::run::{RunStatus, StepStatus};
use taskiq_flow_engine::{EngineOptions, EventFilter};
use taskiq_flow_store::{MemoryStore, RunRecord, RunSummary, RunWrite, Store};

use crate::support::{SOON, start};

#[tokio::test]
async fn finished_steps_are_not_run_again_and_the_rest_goes_on() {
    let store: Arc<MemoryStore> = Arc::new(MemoryStore::new());
    let definition = json!({"id": "p", "tasks": [
        {"name": "a", "task": "count"},
        {"name": "b", "task": "hang", "inputs": ["a"]},
        {"name": "c", "expression": "b + 1", "inputs": ["b"]},
    ]});
    let counted = Arc::new(AtomicU32::new(0));
    let broker = |hangs: bool| {
        let broker = InMemoryBroker::new();
        let counted = Arc::clone(&counted);
        broker.registry().register("count", move |_| {
            counted.fetch_add(1, Ordering::SeqCst);
            async { Ok(json!(1)) }
        });
        broker.registry().register("hang", move |call| async move {
            if hangs {
                tokio::time::sleep(Duration::from_secs(60)).await;
            }
            Ok(json!(call.context.attempt))
        });
        broker
    };
    let options = EngineOptions { drain: Duration::from_millis(10), ..Default::default() };
    let first = start(store.clone(), broker(true), definition.clone(), options.clone()).await;
    let run_id = first.submit("p", json!({})).await;
    first.until(run_id, |view| view.steps[1].state.status == StepStatus::Running).await;
    drop(first);
    store.void_leases();

    let second = start(store, broker(false), definition, options).await;
    let view = second.engine.wait(run_id, SOON).await.unwrap().unwrap();
    assert_eq!(view.status, RunStatus::Completed);
    assert_eq!(**view.result.as_ref().unwrap(), json!({"c": 3}), "the second attempt of `b`");
    assert_eq!(counted.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_shutdown_lets_attempts_under_way_finish() {
    let store: Arc<MemoryStore> = Arc::new(MemoryStore::new());
    let broker = InMemoryBroker::new();
    broker.registry().register("brief", |_| async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        Ok(json!(1))
    });
    let definition = json!({"id": "p", "tasks": [{"name": "a", "task": "brief"}, {"name": "b", "task": "brief", "inputs": ["a"]}]});
    let fixture = start(store.clone(), broker, definition, EngineOptions::default()).await;
    let run_id = fixture.submit("p", json!({})).await;
    fixture.until(run_id, |view| view.steps[0].state.status == StepStatus::Running).await;
    let began = std::time::Instant::now();
    fixture.engine.shutdown().await;
    assert!(began.elapsed() < Duration::from_secs(3));
    let record = taskiq_flow_store::Store::run(&*store, run_id).await.unwrap().unwrap();
    assert_eq!(record.summary.status, RunStatus::Running, "`b` is left for the next start");
    let events = taskiq_flow_store::Store::events(&*store, run_id, 0, 100).await.unwrap();
    assert!(events.iter().any(|event| event.fact.type_name() == "StepCompleteEvent"), "`a` was let finish");
}

#[tokio::test]
async fn a_run_that_cannot_go_on_ends_and_takes_no_other_along() {
    let store = Arc::new(MemoryStore::new());
    let definition = json!({"id": "p", "tasks": [{"name": "a", "expression": "1"}]});
    let options = EngineOptions { shards: 1, ..EngineOptions::default() };
    let first = start(store.clone(), InMemoryBroker::new(), definition.clone(), options.clone()).await;
    let sound = first.run("p", json!({})).await;
    let record = first.engine.record(sound.run_id).await.unwrap();
    drop(first);
    while Arc::strong_count(&store) > 1 {
        tokio::task::yield_now().await;
    }
    // As an earlier program may have left it: it takes over the value of a step that its pipeline does not have.
    let waiting = |reuse| {
        let (run_id, created_at) = (RunId::new(), record.created_at);
        let (pipeline_id, trigger) = (record.pipeline_id.clone(), record.trigger.clone());
        let summary = RunSummary {
            status: RunStatus::Queued,
            started_at: None,
            finished_at: None,
            error: None,
            result: None,
        };
        RunRecord { run_id, pipeline_id, trigger, created_at, reuse, summary, last_seq: 0, ..record.clone() }
    };
    let (bad, good) = (waiting(vec![(7, Arc::new(json!(1)))]), waiting(vec![(0, Arc::new(json!(2)))]));
    let ids = (bad.run_id, good.run_id);
    let create = |run| RunWrite::Create {
        run: Box::new(run),
        owner: uuid::Uuid::now_v7(),
        firing: None,
        replays: None,
    };
    store.write(vec![create(bad), create(good)]).await.unwrap();
    store.void_leases();

    let (told, mut heard) = tokio::sync::mpsc::unbounded_channel();
    let errors = EventFilter::all().types(["PipelineErrorEvent"]).unwrap();
    options.before_start.add(move |engine| {
        engine.on(errors, move |event| _ = told.send(event.run_id));
    });
    let second = start(store, InMemoryBroker::new(), definition, options).await;
    let failed = second.ended(ids.0).await;
    assert_eq!(failed.status, RunStatus::Failed);
    let heard = tokio::time::timeout(SOON, heard.recv()).await.unwrap();
    assert_eq!(heard, Some(Some(ids.0)), "a hook is told of its end");
    let message = &failed.error.as_ref().unwrap().message;
    assert!(message.contains("cannot go on") && message.contains("step 7"), "{message}");
    assert_eq!(**second.ended(ids.1).await.result.as_ref().unwrap(), json!({"a": 2}));
    assert_eq!(second.run("p", json!({})).await.status, RunStatus::Completed, "the driver goes on");
    assert_eq!(second.engine.ready().await, Ok(()));
}
