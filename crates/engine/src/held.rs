//! Since when each shard has been in the hands of Rust tasks that it carries out itself.
//!
//! Such a task is known to end at once. One that blocks its thread all the same holds up the shard, and with it all runs
//! of the shard: nobody could tell from the runs why they stand still.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How long tasks may hold up a shard before the engine is said not to be ready.
pub(crate) const TOO_LONG: Duration = Duration::from_secs(2);

/// Of each shard since when, in milliseconds after `begun` and one more; 0: it is not.
#[derive(Debug)]
pub(crate) struct Held {
    begun: Instant,
    since: Box<[AtomicU64]>,
}

impl Held {
    pub(crate) fn new(shards: usize) -> Self {
        Self { begun: Instant::now(), since: (0..shards).map(|_| AtomicU64::new(0)).collect() }
    }

    /// Notes that the shard is, until what is given back is dropped.
    pub(crate) fn hold(&self, shard: usize) -> impl Drop {
        let since = self.since.get(shard);
        let millis = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX - 1) + 1;
        since.into_iter().for_each(|since| since.store(millis, Ordering::Relaxed));
        Hold(since)
    }

    /// The shard that has been held up longest, and for how long, if that is too long.
    pub(crate) fn too_long(&self) -> Option<(usize, Duration)> {
        let now = self.begun.elapsed();
        let held = self.since.iter().enumerate().filter_map(|(shard, since)| {
            let millis = since.load(Ordering::Relaxed).checked_sub(1)?;
            Some((shard, now.saturating_sub(Duration::from_millis(millis))))
        });
        held.max_by_key(|(_, held)| *held).filter(|(_, held)| *held > TOO_LONG)
    }
}

struct Hold<'a>(Option<&'a AtomicU64>);

impl Drop for Hold<'_> {
    fn drop(&mut self) {
        self.0.into_iter().for_each(|since| since.store(0, Ordering::Relaxed));
    }
}
