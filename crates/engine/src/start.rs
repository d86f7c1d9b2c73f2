//! The start of an engine, and its end.

use std::sync::Arc;

use taskiq_flow_broker::Broker;
use taskiq_flow_core::definition::Pipeline;
use taskiq_flow_store::{Origin, Store};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::admission::Admission;
use crate::cache::Flights;
use crate::catalog::Catalog;
use crate::clock::Clock;
use crate::error::{RegisterError, StartError};
use crate::exec::Executors;
use crate::handle::{Engine, Inner};
use crate::hooks::Hooks;
use crate::hub::EventHub;
use crate::inbox::Shards;
use crate::inflight::Inflight;
use crate::open::OpenRuns;
use crate::options::EngineOptions;
use crate::pruning::Pruning;
use crate::replayed::Replayed;
use crate::resources::Machine;
use crate::schedule::Scheduler;
use crate::webhooks::Outbox;
use crate::worker::Workshop;
use crate::{lease, pruning, schedule, shard, webhooks, worker};

impl Engine {
    /// Starts an engine and takes up the unfinished runs that the store holds.
    ///
    /// # Errors
    /// When the store cannot be read or the HTTP client cannot be set up; nothing runs then.
    pub async fn start(
        store: Arc<dyn Store>,
        broker: Arc<dyn Broker>,
        clock: Arc<dyn Clock>,
        options: EngineOptions,
        pipelines: Vec<Pipeline>,
    ) -> Result<Self, StartError> {
        let hub = EventHub::new(options.watcher_backlog);
        let stop = CancellationToken::new();
        let executors =
            Executors::new(&options, broker.registry().clone()).map_err(StartError::HttpClient)?;
        let outbox = Outbox::new(options.webhooks.as_deref()).map_err(StartError::HttpClient)?;
        outbox.load(store.as_ref()).await?;
        let count = options.shards.max(1);
        let (shards, inboxes) = Shards::new(count);
        let inflight = Inflight::new(count);
        let machine = Machine::new(options.resources.clone());
        let admission = Admission::new(count, options.max_concurrent_runs.max(1), options.max_queued_runs);
        let pruning = Arc::new(Pruning::new(&options));
        let inner = Arc::new(Inner {
            catalog: Catalog::default(),
            replayed: Replayed::default(),
            scheduler: Scheduler::default(),
            tasks: TaskTracker::new(),
            store,
            broker,
            clock,
            options,
            hub,
            hooks: Hooks::new(),
            outbox: Arc::new(outbox),
            shards: Arc::new(shards),
            inflight,
            took: Arc::default(),
            pruning,
            flights: Flights::default(),
            open: OpenRuns::default(),
            admission,
            machine,
            stop,
        });
        inner.catalog.load(inner.store.as_ref()).await?;
        let engine = Self(inner);
        engine.0.options.before_start.carry_out(&engine);
        for pipeline in pipelines {
            let id = pipeline.id.clone();
            match engine.register(pipeline, Origin::Program).await {
                Ok(_) => {}
                Err(RegisterError::Store(error)) => return Err(error.into()),
                Err(error) => return Err(StartError::Pipeline { id, reason: error.to_string() }),
            }
        }
        let workshop = Workshop::new(&engine.0, executors);
        shard::spawn(&engine.0, &workshop, inboxes);
        worker::spawn(&engine.0, &workshop);
        webhooks::spawn(&engine.0);
        let mut left = Vec::new();
        let lease_begun = engine.recover(&mut left).await?;
        if let Some(left) = left.pop() {
            return Err(left.error.into());
        }
        engine.0.admission.open();
        if engine.0.options.schedules {
            schedule::spawn(&engine).await?;
        }
        pruning::spawn(&engine.0);
        lease::spawn(&engine, lease_begun);
        Ok(engine)
    }

    /// Stops taking work, waits for attempts under way as long as the options say, and closes the store. What was
    /// cut off is made again after the next start.
    pub async fn shutdown(&self) {
        self.0.scheduler.stop();
        self.0.shards.drain(self.0.options.drain, || self.0.inflight.len() == 0).await;
        self.0.stop.cancel();
        self.0.tasks.close();
        self.0.tasks.wait().await;
        self.give_up_lease().await;
        self.0.hooks.close(self.0.options.drain).await;
        self.0.store.close().await;
    }
}
