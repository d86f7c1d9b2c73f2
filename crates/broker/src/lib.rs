//! How attempts reach the workers that carry them out, and which tasks a worker knows.
//!
//! [`Broker`] is at-least-once: what has been published is delivered until a worker has acknowledged it. Double
//! deliveries do no harm, because a completion names its attempt and the owner of the run ignores all but one.

mod memory;
mod registry;

use std::time::Duration;

use async_trait::async_trait;
use taskiq_flow_core::run::Work;

pub use memory::InMemoryBroker;
pub use registry::{CallFuture, TaskCall, TaskContext, TaskError, TaskRegistry};

/// Carries attempts from the owners of runs to workers.
#[async_trait]
pub trait Broker: Send + Sync + std::fmt::Debug + 'static {
    /// Hands attempts over, and gives back those that it could not take. After return a worker will be given each of
    /// the others at least once, unless the broker itself is lost; the owner of the run publishes again under a new
    /// attempt number after a crash.
    async fn publish(&self, work: Vec<Box<Work>>) -> Vec<(Box<Work>, BrokerError)>;

    /// An attempt to carry out, if one can be had without waiting. A broker that has to ask somebody leaves it at none.
    fn try_receive(&self) -> Option<Delivery> {
        None
    }

    /// Waits for an attempt to carry out. Cancel-safe: a delivery is either returned or stays with the broker.
    async fn receive(&self) -> Result<Delivery, BrokerError>;

    /// Keeps a delivery from being given to another worker for `lease` from now. A worker that carries out a long
    /// attempt calls this well before the lease ends.
    async fn extend(&self, delivery: &Delivery, lease: Duration) -> Result<(), BrokerError>;

    /// Ends a delivery: it was carried out, or never can be, and is not delivered again.
    async fn acknowledge(&self, tag: u64) -> Result<(), BrokerError>;

    /// The tasks that were registered in this process.
    fn registry(&self) -> &TaskRegistry;

    /// Whether attempts stay within this process, and nobody else waits for them: then whoever would publish one may carry
    /// it out instead.
    fn stays_here(&self) -> bool {
        false
    }

    /// Whether tasks of Python taskiq workers can be sent.
    fn reaches_taskiq(&self) -> bool;
}

/// An attempt as a worker gets it.
#[derive(Debug)]
pub struct Delivery {
    /// The attempt.
    pub work: Box<Work>,
    /// What the broker knows it by.
    pub tag: u64,
}

/// Why a broker could not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BrokerError {
    /// It was closed.
    #[error("the broker is closed")]
    Closed,
    /// It cannot be reached.
    #[error("the broker at {place} cannot be reached: {reason}")]
    Unavailable {
        /// Where it is, without credentials.
        place: String,
        /// What stands against it.
        reason: String,
    },
}
