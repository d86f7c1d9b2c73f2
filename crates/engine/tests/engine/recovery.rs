//! A new engine on the store of one that died.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde_json::json;
use taskiq_flow_broker::{Broker, InMemoryBroker};
use taskiq_flow_core::run::{RunStatus, StepStatus};
use taskiq_flow_engine::EngineOptions;
use taskiq_flow_store::MemoryStore;

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
