//! Tells watchers what happened.

use std::sync::Arc;

use taskiq_flow_core::run::EventView;
use tokio::sync::broadcast;

/// Passes every event of every run, in order within a run, to whoever watches. Events are durable before they
/// come here. A watcher that falls too far behind is told how many it missed, and delays nobody.
#[derive(Debug, Clone)]
pub struct EventHub(broadcast::Sender<Arc<EventView>>);

/// One watcher.
pub type Watcher = broadcast::Receiver<Arc<EventView>>;

impl EventHub {
    /// A hub whose watchers may lag `backlog` events behind.
    pub fn new(backlog: usize) -> Self {
        Self(broadcast::Sender::new(backlog.max(1)))
    }

    /// Watches from now on.
    pub fn watch(&self) -> Watcher {
        self.0.subscribe()
    }

    pub(crate) fn publish(&self, event: EventView) {
        if self.0.receiver_count() > 0 {
            // The only error is that the last watcher has just left.
            let _ = self.0.send(Arc::new(event));
        }
    }
}
