//! How many messages a client may send.

use std::time::Duration;

use tokio::time::Instant;

/// Messages that may come at once.
const BURST: f64 = 100.0;
/// How long it takes until as many may come again.
const PERIOD: Duration = Duration::from_secs(60);

/// A token bucket.
#[derive(Debug)]
pub(super) struct MessageRate {
    left: f64,
    since: Instant,
}

impl MessageRate {
    pub(super) fn new(now: Instant) -> Self {
        Self { left: BURST, since: now }
    }

    /// Takes one message; whether it may come.
    pub(super) fn take(&mut self, now: Instant) -> bool {
        let passed = now.duration_since(self.since).as_secs_f64() / PERIOD.as_secs_f64();
        self.left = (self.left + passed * BURST).min(BURST);
        self.since = now;
        if self.left < 1.0 {
            return false;
        }
        self.left -= 1.0;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_and_then_a_steady_rate() {
        let start = Instant::now();
        let mut rate = MessageRate::new(start);
        assert_eq!((0..150).filter(|_| rate.take(start)).count(), 100);
        let later = start + Duration::from_secs(6);
        assert_eq!((0..50).filter(|_| rate.take(later)).count(), 10);
        let much_later = start + Duration::from_secs(3600);
        assert_eq!((0..150).filter(|_| rate.take(much_later)).count(), 100);
    }
}
