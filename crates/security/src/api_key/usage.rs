//! When keys were used last.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use jiff::Timestamp;
use tokio::sync::Notify;

/// When a key was used last, to the second. Clones are the same, so that a key keeps it from one ring to the next.
#[derive(Debug, Clone, Default)]
pub struct KeyUsage {
    /// Seconds since 1970; 0: never.
    last: Arc<AtomicI64>,
    bell: Option<Bell>,
}

/// Rings when keys were used; a clone is the same bell.
#[derive(Debug, Clone, Default)]
pub(crate) struct Bell(Arc<BellParts>);

#[derive(Debug, Default)]
struct BellParts {
    rung: AtomicBool,
    waiter: Notify,
}

impl KeyUsage {
    /// Starts at what is known; rings when there is something new.
    pub(crate) fn known(last: Option<Timestamp>, bell: Bell) -> Self {
        let last = Arc::new(AtomicI64::new(last.map_or(0, Timestamp::as_second)));
        KeyUsage { last, bell: Some(bell) }
    }

    /// When the key was used last, if it ever was.
    pub fn last(&self) -> Option<Timestamp> {
        match self.last.load(Ordering::Relaxed) {
            0 => None,
            seconds => Timestamp::from_second(seconds).ok(),
        }
    }

    /// It is used now. The same second twice writes nothing, so that a busy key costs its readers no cache line.
    pub(crate) fn touch(&self, now: Timestamp) {
        let now = now.as_second();
        if self.last.load(Ordering::Relaxed) < now {
            self.last.fetch_max(now, Ordering::Relaxed);
            if let Some(bell) = &self.bell {
                bell.ring();
            }
        }
    }
}

impl Bell {
    fn ring(&self) {
        if !self.0.rung.swap(true, Ordering::AcqRel) {
            self.0.waiter.notify_one();
        }
    }

    /// Waits until it rings; returns at once when it rang since it was last answered.
    pub(crate) async fn rung(&self) {
        self.0.waiter.notified().await;
    }

    /// What rings from now on is new.
    pub(crate) fn answer(&self) {
        self.0.rung.store(false, Ordering::Release);
    }
}
