//! Which runs may be under way: limits of pipelines, priorities, and what becomes of runs that find no room.

use std::sync::Arc;

use serde_json::{Value, json};
use taskiq_flow_broker::InMemoryBroker;
use taskiq_flow_core::definition::Priority;
use taskiq_flow_core::id::RunId;
use taskiq_flow_core::run::{Fact, RunStatus};
use taskiq_flow_engine::{EngineOptions, Submission, SubmitError};
use taskiq_flow_store::{MemoryStore, RunRecord, RunSummary, RunWrite, Store};

use crate::support::{Fixture, engine, request, start};

/// A pipeline that waits for `go`, under this limit.
fn gate(concurrency: Value) -> Value {
    json!({"id": "gate", "inputs": {"customer": {"default": "a"}}, "concurrency": concurrency,
        "tasks": [{"name": "wait", "wait": {"signal": "go"}}]})
}

async fn running(fixture: &Fixture, run_id: RunId) {
    fixture.until(run_id, |run| run.status == RunStatus::Running).await;
}

async fn finish(fixture: &Fixture, run_id: RunId) {
    running(fixture, run_id).await;
    fixture.engine.signal(run_id, "go", json!(null), None).await.unwrap();
    assert_eq!(fixture.ended(run_id).await.status, RunStatus::Completed);
}

#[tokio::test]
async fn runs_of_one_key_go_one_after_another_and_say_what_they_wait_for() {
    let fixture = engine(gate(json!([{"max": 1, "key": "customer"}, 2]))).await;
    let submit = |customer: &str| fixture.submit("gate", json!({"customer": customer}));
    let (a1, a2, b1, c1) = (submit("a").await, submit("a").await, submit("b").await, submit("c").await);
    running(&fixture, a1).await;
    running(&fixture, b1).await;
    let waits = |run: RunId| {
        let fixture = &fixture;
        async move {
            let view = fixture.engine.run(run).await.unwrap();
            assert_eq!(view.status, RunStatus::Queued);
            view.waits_for.unwrap()
        }
    };
    assert_eq!(waits(a2).await, "pipeline `gate` has at most 1 run at once for the key `a`");
    assert_eq!(waits(c1).await, "pipeline `gate` has at most 2 runs at once");
    // A run that is cancelled while it waits leaves nothing behind, one that ends lets the next in.
    finish(&fixture, a1).await;
    running(&fixture, a2).await;
    assert_eq!(waits(c1).await, "pipeline `gate` has at most 2 runs at once");
    fixture.engine.cancel(b1, "enough").await.unwrap();
    running(&fixture, c1).await;
    assert_eq!(fixture.engine.run(c1).await.unwrap().waits_for, None);
    finish(&fixture, a2).await;
    finish(&fixture, c1).await;
    finish(&fixture, submit("a").await).await;
}

#[tokio::test]
async fn a_key_without_a_value_is_refused_by_name() {
    let fixture = engine(gate(json!({"max": 1, "key": "customer.region"}))).await;
    let refused = fixture.engine.submit(request("gate", json!({"customer": {}}))).await.unwrap_err();
    let SubmitError::Parameters(errors) = &refused else { panic!("{refused}") };
    assert_eq!(errors[0].field, "concurrency.0.key", "{errors:?}");
    let long = "x".repeat(300);
    let refused = fixture.engine.submit(request("gate", json!({"customer": {"region": long}}))).await;
    assert!(refused.unwrap_err().to_string().contains("256 bytes"));
}

#[tokio::test]
async fn the_urgent_go_first() {
    let options = EngineOptions { max_concurrent_runs: 1, ..EngineOptions::default() };
    let store = Arc::new(MemoryStore::new());
    let mut urgent = gate(json!([]));
    urgent["id"] = json!("urgent");
    urgent["priority"] = json!(6);
    let fixture = start(store, InMemoryBroker::new(), json!([gate(json!([])), urgent]), options).await;
    let first = fixture.submit("gate", json!({})).await;
    let with = |priority: u8| Submission {
        priority: Some(Priority::try_from(priority).unwrap()),
        ..request("gate", json!({}))
    };
    let low = fixture.engine.submit(with(0)).await.unwrap().run_id;
    let middle = fixture.submit("gate", json!({})).await;
    let of_pipeline = fixture.submit("urgent", json!({})).await;
    let high = fixture.engine.submit(with(9)).await.unwrap().run_id;
    for run in [first, high, of_pipeline, middle, low] {
        finish(&fixture, run).await;
    }
}

#[tokio::test]
async fn a_run_that_finds_no_room_can_be_skipped() {
    let fixture = engine(gate(json!({"max": 1, "on_full": "skip"}))).await;
    let first = fixture.submit("gate", json!({})).await;
    let second = fixture.engine.submit(request("gate", json!({}))).await.unwrap();
    assert_eq!(second.status, RunStatus::Cancelled);
    let view = fixture.ended(second.run_id).await;
    assert_eq!((view.status, view.started_at), (RunStatus::Cancelled, None));
    let events = fixture.engine.events(second.run_id, 0, 10).await.unwrap();
    let Fact::PipelineSkip { reason } = &events[0].event.fact else { panic!("{events:?}") };
    assert_eq!(&**reason, "pipeline `gate` has at most 1 run at once");
    finish(&fixture, first).await;
    finish(&fixture, fixture.submit("gate", json!({})).await).await;
}

#[tokio::test]
async fn the_newest_run_can_take_the_place_of_all_older_ones() {
    let fixture = engine(gate(json!({"max": 1, "key": "customer", "on_full": "cancel_oldest"}))).await;
    let other = fixture.submit("gate", json!({"customer": "b"})).await;
    let older = [fixture.submit("gate", json!({})).await, fixture.submit("gate", json!({})).await];
    let newest = fixture.submit("gate", json!({})).await;
    for run in older {
        assert_eq!(fixture.ended(run).await.status, RunStatus::Cancelled);
    }
    // The same request again is no newer run.
    let again = Submission { idempotency_key: Some("k".into()), ..request("gate", json!({"customer": "b"})) };
    finish(&fixture, newest).await;
    let kept = fixture.engine.submit(again.clone()).await.unwrap().run_id;
    assert_eq!(fixture.ended(other).await.status, RunStatus::Cancelled);
    assert!(!fixture.engine.submit(again).await.unwrap().created);
    finish(&fixture, kept).await;
}

#[tokio::test]
async fn a_newer_run_takes_the_place_of_an_older_one_after_a_restart_too() {
    let store = Arc::new(MemoryStore::new());
    let definition = || gate(json!({"max": 1, "key": "customer", "on_full": "cancel_oldest"}));
    let first = start(store.clone(), InMemoryBroker::new(), definition(), EngineOptions::default()).await;
    let older = first.submit("gate", json!({})).await;
    running(&first, older).await;
    let record = first.engine.record(older).await.unwrap();
    drop(first);
    while Arc::strong_count(&store) > 1 {
        tokio::task::yield_now().await;
    }
    // The crash came when the newer run was durable, and the older one was not cancelled yet.
    let summary = RunSummary { status: RunStatus::Queued, started_at: None, ..record.summary.clone() };
    let newer = RunRecord { run_id: RunId::new(), summary, last_seq: 0, ..record };
    let newest = newer.run_id;
    let run = Box::new(newer);
    let create = RunWrite::Create { run, owner: uuid::Uuid::now_v7(), firing: None, replays: None };
    store.write(vec![create]).await.unwrap();
    store.void_leases();
    let second = start(store, InMemoryBroker::new(), definition(), EngineOptions::default()).await;
    assert_eq!(second.ended(older).await.status, RunStatus::Cancelled);
    finish(&second, newest).await;
}

#[tokio::test]
async fn limits_and_priorities_outlast_a_restart() {
    let store = Arc::new(MemoryStore::new());
    let options = EngineOptions { max_concurrent_runs: 2, ..EngineOptions::default() };
    let other = json!({"id": "other", "tasks": [{"name": "wait", "wait": {"signal": "go"}}]});
    let definitions = || json!([gate(json!(1)), other.clone()]);
    let shared: Arc<dyn Store> = store.clone();
    let fixture = start(shared, InMemoryBroker::new(), definitions(), options.clone()).await;
    let (first, low) = (fixture.submit("gate", json!({})).await, fixture.submit("gate", json!({})).await);
    let high = Submission { priority: Some(Priority::MAX), ..request("gate", json!({})) };
    let high = fixture.engine.submit(high).await.unwrap().run_id;
    let free = fixture.submit("other", json!({})).await;
    running(&fixture, first).await;
    running(&fixture, free).await;
    drop(fixture);
    store.void_leases();
    let fixture = start(store, InMemoryBroker::new(), definitions(), options).await;
    running(&fixture, first).await;
    running(&fixture, free).await;
    for run in [high, low] {
        assert_eq!(fixture.engine.run(run).await.unwrap().status, RunStatus::Queued);
    }
    for run in [first, high, low, free] {
        finish(&fixture, run).await;
    }
}

#[tokio::test]
async fn inner_runs_keep_to_the_limits_of_their_pipeline() {
    let outer = json!({"id": "outer", "tasks": [
        {"name": "each", "map": {"over": "list", "pipeline": "inner"}, "with": {"list": [1, 2, 3, 4]}}]});
    let inner = json!({"id": "inner", "inputs": {"item": {}}, "concurrency": 1,
        "tasks": [{"name": "a", "wait": {"duration": "20ms"}}]});
    let fixture = engine(json!([outer, inner])).await;
    let mut watcher = fixture.engine.watch("inner".parse::<taskiq_flow_core::id::PipelineId>().unwrap());
    assert_eq!(fixture.run("outer", json!({})).await.status, RunStatus::Completed);
    let mut under_way = 0_i32;
    let mut ended = 0;
    while ended < 4 {
        let event = watcher.recv().await.unwrap();
        match &event.event.fact {
            Fact::PipelineStart { .. } => under_way += 1,
            Fact::PipelineComplete { .. } => {
                under_way -= 1;
                ended += 1;
            }
            _ => {}
        }
        assert!(under_way <= 1);
    }
}
