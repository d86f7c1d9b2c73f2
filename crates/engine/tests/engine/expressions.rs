//! Expressions: where they are evaluated, and that nothing else waits for them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use serde_json::{Value, json};
use taskiq_flow_broker::{Broker, BrokerError, Delivery, InMemoryBroker, TaskRegistry};
use taskiq_flow_core::load::load_json;
use taskiq_flow_core::run::{Fact, RunStatus, Work};
use taskiq_flow_engine::{Engine, EngineOptions, SystemClock};
use taskiq_flow_store::{MemoryStore, Store};

use crate::faulty::FaultyStore;
use crate::support::{SOON, engine, request, start};

/// Counts the attempts that are handed to workers.
#[derive(Debug, Default)]
struct CountingBroker {
    inner: InMemoryBroker,
    published: AtomicUsize,
}

#[async_trait]
impl Broker for CountingBroker {
    async fn publish(&self, work: Vec<Box<Work>>) -> Vec<(Box<Work>, BrokerError)> {
        self.published.fetch_add(work.len(), Ordering::SeqCst);
        self.inner.publish(work).await
    }

    async fn receive(&self) -> Result<Delivery, BrokerError> {
        self.inner.receive().await
    }

    async fn extend(&self, delivery: &Delivery, lease: Duration) -> Result<(), BrokerError> {
        self.inner.extend(delivery, lease).await
    }

    async fn acknowledge(&self, tag: u64) -> Result<(), BrokerError> {
        self.inner.acknowledge(tag).await
    }

    fn registry(&self) -> &TaskRegistry {
        self.inner.registry()
    }

    fn reaches_taskiq(&self) -> bool {
        false
    }
}

/// A pipeline that doubles each number of a list and adds them up.
fn doubling() -> Value {
    json!({"id": "p", "inputs": {"xs": {"type": "array"}}, "tasks": [
        {"name": "ys", "inputs": ["xs"], "map": {"over": "xs", "as": "x", "expression": "x * 2"}},
        {"name": "sum", "inputs": ["ys"], "expression": "ys | sum"},
    ]})
}

#[tokio::test]
async fn a_chain_of_expressions_is_one_write_and_its_end_is_told_without_reading_it() {
    let store = Arc::new(FaultyStore::default());
    let chain = json!({"id": "p", "tasks": [
        {"name": "a", "expression": "1", "timeout": "10s"},
        {"name": "b", "inputs": ["a"], "expression": "a + 1"},
        {"name": "c", "inputs": ["b"], "expression": "b + 1", "retry": {"max_attempts": 3}},
    ]});
    let fixture = start(store.clone(), InMemoryBroker::new(), chain, EngineOptions::default()).await;
    let before = (store.writes.load(Ordering::SeqCst), store.reads.load(Ordering::SeqCst));
    let (submitted, mut ending) = fixture.engine.submit_to_end(request("p", json!({})), None).await.unwrap();
    let view = ending.wait(SOON).await.unwrap().unwrap();
    assert_eq!(**view.result.as_ref().unwrap(), json!({"c": 3}));
    let after = (store.writes.load(Ordering::SeqCst), store.reads.load(Ordering::SeqCst));
    assert_eq!(after, (before.0 + 1, before.1), "one write, no read");
    // It can be asked again, and then reads.
    assert_eq!(ending.wait(SOON).await.unwrap().unwrap().status, RunStatus::Completed);
    let events = store.events(submitted.run_id, 0, 100).await.unwrap();
    let types: Vec<_> = events.iter().map(|event| event.fact.type_name()).collect();
    let step = ["StepStartEvent", "StepCompleteEvent"];
    let expected = [&["PipelineStartEvent"][..], &step, &step, &step, &["PipelineCompleteEvent"]].concat();
    assert_eq!(types, expected, "as if workers had done it");
}

#[tokio::test]
async fn what_an_expression_cannot_be_is_a_failure_as_ever() {
    let fixture = engine(json!({"id": "p", "tasks": [
        {"name": "bad", "expression": "1 // 0", "retry": {"max_attempts": 3}},
        {"name": "after", "inputs": ["bad"], "expression": "bad"},
    ]}))
    .await;
    let view = fixture.run("p", json!({})).await;
    assert_eq!(view.status, RunStatus::Failed);
    assert_eq!(view.steps[0].state.attempt, 1, "another attempt would fail the same way");
    assert_eq!(view.error.unwrap().step.as_deref(), Some("bad"));
}

#[tokio::test]
async fn expressions_that_take_long_are_given_to_workers_once_that_is_known() {
    let broker = Arc::new(CountingBroker::default());
    let shared: Arc<dyn Broker> = broker.clone();
    let definitions = json!([
        {"id": "slow", "tasks": [{"name": "a", "expression": "range(100000) | sum"}]},
        {"id": "quick", "tasks": [{"name": "a", "expression": "1"}]},
    ]);
    let pipelines = load_json(definitions).unwrap();
    let store = Arc::new(MemoryStore::new());
    let engine = Engine::start(store, shared, Arc::new(SystemClock), EngineOptions::default(), pipelines);
    let engine = engine.await.unwrap();
    let run = async |pipeline: &str| {
        let (_, mut ending) = engine.submit_to_end(request(pipeline, json!({})), None).await.unwrap();
        let view = ending.wait(SOON).await.unwrap().unwrap();
        assert_eq!(view.status, RunStatus::Completed, "{:?}", view.error);
        broker.published.load(Ordering::SeqCst)
    };
    assert_eq!([run("slow").await, run("slow").await, run("slow").await], [0, 1, 2]);
    assert_eq!(run("quick").await, 2);
}

#[tokio::test]
async fn many_expressions_leave_the_shard_its_other_turns() {
    let store = Arc::new(FaultyStore::default());
    let options = EngineOptions { shards: 1, ..EngineOptions::default() };
    let fixture = start(store.clone(), InMemoryBroker::new(), doubling(), options).await;
    let before = store.writes.load(Ordering::SeqCst);
    let xs: Vec<u32> = (0..1000).collect();
    let view = fixture.run("p", json!({"xs": xs})).await;
    assert_eq!(**view.result.as_ref().unwrap(), json!({"sum": 999_000}));
    let writes = store.writes.load(Ordering::SeqCst) - before;
    assert!(writes >= 4, "{writes}");

    // A cancel does not wait for all of them, and leaves nothing behind.
    let xs: Vec<u32> = (0..50_000).collect();
    let run_id = fixture.submit("p", json!({"xs": xs})).await;
    fixture.engine.cancel(run_id, "enough").await.unwrap();
    assert_eq!(fixture.ended(run_id).await.status, RunStatus::Cancelled);
    let view = fixture.run("p", json!({"xs": [1, 2]})).await;
    assert_eq!(**view.result.as_ref().unwrap(), json!({"sum": 6}));
}

#[tokio::test]
async fn expressions_that_a_shutdown_cuts_off_are_evaluated_after_the_next_start() {
    let store = Arc::new(MemoryStore::new());
    let options = EngineOptions { drain: Duration::ZERO, ..EngineOptions::default() };
    let first = start(store.clone(), InMemoryBroker::new(), doubling(), options.clone()).await;
    let xs: Vec<u32> = (0..20_000).collect();
    let run_id = first.submit("p", json!({"xs": xs})).await;
    drop(first);
    store.void_leases();
    let record = store.run(run_id).await.unwrap().unwrap();
    assert!(!record.summary.status.is_terminal(), "it was cut off");
    let second = start(store.clone(), InMemoryBroker::new(), doubling(), options).await;
    let view = second.ended(run_id).await;
    assert_eq!(**view.result.as_ref().unwrap(), json!({"sum": 399_980_000}));
    let events = store.events(run_id, 0, 100_000).await.unwrap();
    let ends = events.iter().filter(|event| matches!(event.fact, Fact::StepComplete { .. })).count();
    assert_eq!(ends, 20_002, "each item and step once");
}
