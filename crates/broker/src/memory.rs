//! Work within one process.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use taskiq_flow_core::run::Work;
use tokio::sync::Notify;

use crate::{Broker, BrokerError, Delivery, TaskRegistry};

/// Hands attempts to the workers of the same process. Clones share one queue and one registry.
///
/// Nothing is kept: what is in the queue when the process ends is dispatched again by the run's owner from the
/// run's log. The queue has no bound of its own, because all that is in it is part of a run in memory, and the
/// engine bounds those.
#[derive(Debug, Clone, Default)]
pub struct InMemoryBroker(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    queue: Mutex<VecDeque<Box<Work>>>,
    /// There is something in the queue and somebody may wait for it.
    news: Notify,
    tags: AtomicU64,
    registry: TaskRegistry,
}

impl InMemoryBroker {
    /// A broker with an empty queue and no tasks.
    pub fn new() -> Self {
        Self::default()
    }
}

#[async_trait]
impl Broker for InMemoryBroker {
    async fn publish(&self, work: Vec<Box<Work>>) -> Vec<(Box<Work>, BrokerError)> {
        self.0.queue.lock().extend(work);
        self.0.news.notify_one();
        Vec::new()
    }

    fn try_receive(&self) -> Option<Delivery> {
        let mut queue = self.0.queue.lock();
        let work = queue.pop_front()?;
        let more = !queue.is_empty();
        drop(queue);
        if more {
            // Whoever waits is to have the next one. That none is forgotten needs no more: a worker that is not
            // waiting looks into the queue before it does.
            self.0.news.notify_one();
        }
        Some(Delivery { work, tag: self.0.tags.fetch_add(1, Ordering::Relaxed) })
    }

    async fn receive(&self) -> Result<Delivery, BrokerError> {
        loop {
            if let Some(delivery) = self.try_receive() {
                return Ok(delivery);
            }
            self.0.news.notified().await;
        }
    }

    async fn extend(&self, _: &Delivery, _: Duration) -> Result<(), BrokerError> {
        Ok(())
    }

    async fn acknowledge(&self, _: u64) -> Result<(), BrokerError> {
        Ok(())
    }

    fn registry(&self) -> &TaskRegistry {
        &self.0.registry
    }

    fn reaches_taskiq(&self) -> bool {
        false
    }
}
