//! Work within one process.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use taskiq_flow_core::run::Work;
use tokio::sync::{Mutex, mpsc};

use crate::{Broker, BrokerError, Delivery, Settle, TaskRegistry};

/// Hands attempts to the workers of the same process. Clones share one queue and one registry.
///
/// Nothing is kept: what is in the queue when the process ends is dispatched again by the run's owner from the
/// run's log. The queue has no bound of its own, because all that is in it is part of a run in memory, and the
/// engine bounds those.
#[derive(Debug, Clone)]
pub struct InMemoryBroker(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    sender: mpsc::UnboundedSender<Work>,
    receiver: Mutex<mpsc::UnboundedReceiver<Work>>,
    tags: AtomicU64,
    registry: TaskRegistry,
}

impl InMemoryBroker {
    /// A broker with an empty queue and no tasks.
    pub fn new() -> Self {
        let (sender, receiver) = mpsc::unbounded_channel();
        let receiver = Mutex::new(receiver);
        let tags = AtomicU64::new(1);
        Self(Arc::new(Shared { sender, receiver, tags, registry: TaskRegistry::default() }))
    }
}

impl Default for InMemoryBroker {
    fn default() -> Self {
        Self::new()
    }
}

#[async_trait]
impl Broker for InMemoryBroker {
    async fn publish(&self, work: Work) -> Result<(), BrokerError> {
        self.0.sender.send(work).map_err(|_| BrokerError::Closed)
    }

    async fn receive(&self) -> Result<Delivery, BrokerError> {
        let work = self.0.receiver.lock().await.recv().await.ok_or(BrokerError::Closed)?;
        Ok(Delivery { work, tag: self.0.tags.fetch_add(1, Ordering::Relaxed) })
    }

    async fn extend(&self, _: &Delivery, _: Duration) -> Result<(), BrokerError> {
        Ok(())
    }

    async fn settle(&self, delivery: Delivery, settle: Settle) -> Result<(), BrokerError> {
        match settle {
            Settle::Ack => Ok(()),
            Settle::Requeue => self.publish(delivery.work).await,
        }
    }

    fn registry(&self) -> &TaskRegistry {
        &self.0.registry
    }

    fn reaches_taskiq(&self) -> bool {
        false
    }
}
