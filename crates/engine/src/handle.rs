//! The handle to a running engine, and what stands behind it.

use std::sync::Arc;

use taskiq_flow_broker::Broker;
use taskiq_flow_store::Store;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::admission::Admission;
use crate::cache::Flights;
use crate::catalog::Catalog;
use crate::clock::Clock;
use crate::hooks::Hooks;
use crate::hub::EventHub;
use crate::inbox::Shards;
use crate::inflight::Inflight;
use crate::measure::AttemptDurations;
use crate::open::OpenRuns;
use crate::options::EngineOptions;
use crate::pruning::Pruning;
use crate::replayed::Replayed;
use crate::resources::Machine;
use crate::schedule::Scheduler;
use crate::webhooks::Outbox;

/// A handle to a running engine. Clones are the same engine.
///
/// Dropping the last handle stops it without waiting; [`Engine::shutdown`] drains it first.
#[derive(Debug, Clone)]
pub struct Engine(pub(crate) Arc<Inner>);

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) broker: Arc<dyn Broker>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) options: EngineOptions,
    pub(crate) catalog: Catalog,
    /// Runs that have ended and were looked at.
    pub(crate) replayed: Replayed,
    pub(crate) hub: EventHub,
    pub(crate) hooks: Hooks,
    pub(crate) outbox: Arc<Outbox>,
    pub(crate) shards: Arc<Shards>,
    pub(crate) scheduler: Scheduler,
    pub(crate) inflight: Inflight,
    pub(crate) took: Arc<AttemptDurations>,
    pub(crate) pruning: Arc<Pruning>,
    pub(crate) flights: Flights,
    pub(crate) open: OpenRuns,
    pub(crate) admission: Admission,
    pub(crate) machine: Machine,
    pub(crate) stop: CancellationToken,
    pub(crate) tasks: TaskTracker,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}
