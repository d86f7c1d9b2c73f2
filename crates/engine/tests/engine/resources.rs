//! What tasks say that they take of the machine.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::json;
use taskiq_flow_broker::{Broker, InMemoryBroker};
use taskiq_flow_core::definition::Amount;
use taskiq_flow_core::run::RunStatus;
use taskiq_flow_engine::{EngineOptions, SubmitError};
use taskiq_flow_store::MemoryStore;

use crate::support::{Fixture, request, start};

fn options(gpus: f64) -> EngineOptions {
    let gpus = Amount::count(gpus).unwrap();
    EngineOptions { resources: BTreeMap::from([(Arc::from("gpu"), gpus)]), ..EngineOptions::default() }
}

/// An engine with so many GPUs, and how many attempts of `train` went on at once at most.
async fn with_gpus(gpus: f64, definition: serde_json::Value) -> (Fixture, Arc<AtomicUsize>) {
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let broker = InMemoryBroker::new();
    let counted = Arc::clone(&most);
    broker.registry().register("train", move |_| {
        let (now, most) = (Arc::clone(&now), Arc::clone(&counted));
        async move {
            most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            tokio::time::sleep(Duration::from_millis(20)).await;
            now.fetch_sub(1, Ordering::SeqCst);
            Ok(json!(1))
        }
    });
    (start(Arc::new(MemoryStore::new()), broker, definition, options(gpus)).await, most)
}

#[tokio::test]
async fn as_many_attempts_go_on_as_the_machine_has_room_for() {
    let definition = json!({"id": "p", "tasks": [{"name": "all", "with": {"xs": [1, 2, 3, 4, 5, 6]},
        "map": {"over": "xs", "task": "train"}, "resources": {"gpu": 0.5}}]});
    let (fixture, most) = with_gpus(1.0, definition).await;
    assert_eq!(fixture.run("p", json!({})).await.status, RunStatus::Completed);
    assert_eq!(most.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn waiting_for_the_machine_is_not_counted_and_holds_nobody_else_up() {
    let definition = json!([
        {"id": "p", "tasks": [{"name": "all", "with": {"xs": [1, 2, 3, 4, 5, 6, 7, 8]}, "timeout": "10s",
            "map": {"over": "xs", "task": "train"}, "resources": {"gpu": 1}}]},
        {"id": "other", "tasks": [{"name": "a", "task": "train"}]},
    ]);
    let options = EngineOptions { max_concurrent_attempts: 2, ..options(1.0) };
    let broker = InMemoryBroker::new();
    let release = Arc::new(tokio::sync::Semaphore::new(0));
    let held = Arc::clone(&release);
    broker.registry().register("train", move |call| {
        let held = Arc::clone(&held);
        async move {
            if call.context.pipeline_id.as_str() == "p" {
                held.acquire().await.unwrap().forget();
            }
            Ok(json!(1))
        }
    });
    let fixture = start(Arc::new(MemoryStore::new()), broker, definition, options).await;
    let run_id = fixture.submit("p", json!({})).await;
    fixture.until(run_id, |run| run.status == RunStatus::Running).await;
    // Two attempts may go on at once: those that wait for the one GPU are none.
    assert_eq!(fixture.run("other", json!({})).await.status, RunStatus::Completed);
    release.add_permits(8);
    assert_eq!(fixture.ended(run_id).await.status, RunStatus::Completed);
}

#[tokio::test]
async fn attempts_that_wait_for_the_machine_can_be_cancelled() {
    let definition = json!({"id": "p", "tasks": [
        {"name": "all", "with": {"xs": [1, 2, 3]}, "map": {"over": "xs", "task": "train"}, "resources": {"gpu": 1}}]});
    let broker = InMemoryBroker::new();
    let held = Arc::new(tokio::sync::Semaphore::new(0));
    let inner = Arc::clone(&held);
    broker.registry().register("train", move |_| {
        let held = Arc::clone(&inner);
        async move {
            held.acquire().await.unwrap().forget();
            Ok(json!(1))
        }
    });
    let fixture = start(Arc::new(MemoryStore::new()), broker, definition, options(1.0)).await;
    let first = fixture.submit("p", json!({})).await;
    fixture.until(first, |run| run.status == RunStatus::Running).await;
    fixture.engine.cancel(first, "enough").await.unwrap();
    held.add_permits(3);
    assert_eq!(fixture.run("p", json!({})).await.status, RunStatus::Completed);
    for _ in 0..500 {
        if fixture.engine.attempts_under_way() == 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{} attempts are left", fixture.engine.attempts_under_way());
}

#[tokio::test]
async fn what_the_machine_lacks_is_said_at_the_start() {
    let task = |resources: serde_json::Value| json!({"name": "a", "task": "train", "resources": resources});
    let definition = json!([
        {"id": "large", "tasks": [task(json!({"gpu": 2}))]},
        {"id": "unknown", "tasks": [task(json!({"tpu": 1}))]},
    ]);
    let (fixture, _) = with_gpus(1.0, definition).await;
    for (pipeline, why) in [
        ("large", "it takes 2 of `gpu`, and there is 1 in all"),
        ("unknown", "the configuration's `resources` do not say how much `tpu` there is"),
    ] {
        let refused = fixture.engine.submit(request(pipeline, json!({}))).await.unwrap_err();
        let SubmitError::NotRunnable(message) = &refused else { panic!("{refused}") };
        assert_eq!(*message, format!("task `a` of pipeline `{pipeline}` cannot run here: {why}"));
    }
}
