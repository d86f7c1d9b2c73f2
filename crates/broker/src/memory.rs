//! Work within one process.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
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
#[derive(Debug, Clone)]
pub struct InMemoryBroker(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// One for each processor. A thread looks into its own first: what a run leads to stays where the run is.
    queues: Box<[Queue]>,
    /// There is something in a queue and somebody may wait for it.
    news: Notify,
    registry: TaskRegistry,
}

/// On a cache line of its own.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Queue {
    work: Mutex<VecDeque<Box<Work>>>,
    /// How many are in it, as of a moment ago: so that others need not lock what is empty.
    count: AtomicUsize,
    /// Deliveries that threads of this queue have asked for.
    asked: AtomicUsize,
}

/// After so many deliveries of its own queue a thread looks into the others first: theirs may be held up.
const OWN_IN_A_ROW: usize = 16;

impl Default for InMemoryBroker {
    fn default() -> Self {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let queues = (0..processors).map(|_| Queue::default()).collect();
        Self(Arc::new(Shared { queues, news: Notify::new(), registry: TaskRegistry::default() }))
    }
}

impl InMemoryBroker {
    /// A broker with an empty queue and no tasks.
    pub fn new() -> Self {
        Self::default()
    }
}

impl Shared {
    /// The place of this thread's queue.
    fn own(&self) -> usize {
        static THREADS: AtomicUsize = AtomicUsize::new(0);
        thread_local! {
            static NUMBER: usize = THREADS.fetch_add(1, Ordering::Relaxed);
        }
        // There is at least one.
        NUMBER.with(|number| number % self.queues.len())
    }

    /// The next attempt, and whether there may be more.
    fn take(&self) -> Option<Box<Work>> {
        let (own, count) = (self.own(), self.queues.len());
        let asked = self.queues[own].asked.fetch_add(1, Ordering::Relaxed);
        // Each of the others in its turn.
        let (rounds, place) = (asked / OWN_IN_A_ROW, asked % OWN_IN_A_ROW);
        let first = if place == OWN_IN_A_ROW - 1 { 1 + rounds % (count - 1).max(1) } else { 0 };
        (first..first + count).find_map(|step| self.queues[(own + step) % count].pop())
    }
}

impl Queue {
    fn pop(&self) -> Option<Box<Work>> {
        if self.count.load(Ordering::SeqCst) == 0 {
            return None;
        }
        let mut queue = self.work.lock();
        let work = queue.pop_front();
        self.count.store(queue.len(), Ordering::SeqCst);
        work
    }
}

#[async_trait]
impl Broker for InMemoryBroker {
    async fn publish(&self, work: Vec<Box<Work>>) -> Vec<(Box<Work>, BrokerError)> {
        let own = &self.0.queues[self.0.own()];
        let mut queue = own.work.lock();
        queue.extend(work);
        own.count.store(queue.len(), Ordering::SeqCst);
        drop(queue);
        self.0.news.notify_one();
        Vec::new()
    }

    fn try_receive(&self) -> Option<Delivery> {
        let work = self.0.take()?;
        if self.0.queues.iter().any(|queue| queue.count.load(Ordering::SeqCst) > 0) {
            // Whoever waits is to have the next one. That none is forgotten needs no more: a worker that is not
            // waiting looks into the queues before it does.
            self.0.news.notify_one();
        }
        // Nothing is kept of what was delivered.
        Some(Delivery { work, tag: 0 })
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

    fn stays_here(&self) -> bool {
        true
    }

    fn reaches_taskiq(&self) -> bool {
        false
    }
}
