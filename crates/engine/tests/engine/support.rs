//! An engine for tests.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value};
use taskiq_flow_broker::{Broker, InMemoryBroker};
use taskiq_flow_core::id::RunId;
use taskiq_flow_core::load::load_json;
use taskiq_flow_core::run::RunView;
use taskiq_flow_core::time::Timestamp;
use taskiq_flow_engine::{Clock, Engine, EngineOptions, Submission, SystemClock};
use taskiq_flow_store::{MemoryStore, Origin, Store, Trigger};

pub(crate) const SOON: Duration = Duration::from_secs(10);

pub(crate) struct Fixture {
    pub(crate) engine: Engine,
}

/// An engine with the pipelines that `definition` has: one, or a list.
pub(crate) async fn engine(definition: Value) -> Fixture {
    start(Arc::new(MemoryStore::new()), InMemoryBroker::new(), definition, EngineOptions::default()).await
}

pub(crate) async fn start(
    store: Arc<dyn Store>,
    broker: InMemoryBroker,
    definition: Value,
    options: EngineOptions,
) -> Fixture {
    start_at(store, broker, definition, options, Arc::new(SystemClock)).await
}

pub(crate) async fn start_at(
    store: Arc<dyn Store>,
    broker: InMemoryBroker,
    definition: Value,
    options: EngineOptions,
    clock: Arc<dyn Clock>,
) -> Fixture {
    let shared: Arc<dyn Broker> = Arc::new(broker);
    let engine = Engine::start(store, shared, clock, options, Vec::new()).await.unwrap();
    let definitions = if definition.is_array() { definition } else { Value::Array(vec![definition]) };
    for pipeline in load_json(definitions).unwrap_or_else(|errors| panic!("{errors}")) {
        engine.register(pipeline, Origin::Api).await.unwrap();
    }
    Fixture { engine }
}

pub(crate) fn request(pipeline: &str, parameters: Value) -> Submission {
    Submission {
        pipeline_id: pipeline.parse().unwrap(),
        parameters: object(parameters),
        idempotency_key: None,
        priority: None,
        trigger: Trigger::Request { principal: "test".into() },
    }
}

fn object(value: Value) -> Map<String, Value> {
    value.as_object().unwrap().clone()
}

/// A clock that goes with the runtime's.
#[derive(Debug)]
pub(crate) struct RuntimeClock {
    begun: tokio::time::Instant,
}

impl RuntimeClock {
    pub(crate) fn new() -> Self {
        Self { begun: tokio::time::Instant::now() }
    }
}

impl Clock for RuntimeClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(1_800_000_000_000).plus(self.begun.elapsed())
    }
}

impl Fixture {
    /// Submits and waits for the end.
    pub(crate) async fn run(&self, pipeline: &str, parameters: Value) -> RunView {
        let run_id = self.submit(pipeline, parameters).await;
        self.ended(run_id).await
    }

    pub(crate) async fn submit(&self, pipeline: &str, parameters: Value) -> RunId {
        self.engine.submit(request(pipeline, parameters)).await.unwrap().run_id
    }

    pub(crate) async fn ended(&self, run_id: RunId) -> RunView {
        self.engine.wait(run_id, SOON).await.unwrap().unwrap_or_else(|| panic!("run {run_id} did not end"))
    }

    /// Waits until something holds of the run.
    pub(crate) async fn until(&self, run_id: RunId, test: impl Fn(&RunView) -> bool) -> RunView {
        for _ in 0..500 {
            let view = self.engine.run(run_id).await.unwrap();
            if test(&view) {
                return view;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("it never held: {:?}", self.engine.run(run_id).await);
    }
}
