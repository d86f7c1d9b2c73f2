//! Removing runs that ended long ago, or beyond how many are kept, and cached values alike.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use taskiq_flow_store::{CacheEntry, CacheRoom, Retention, Store};
use tokio::sync::Notify;

use crate::failpoint;
use crate::handle::Inner;
use crate::options::EngineOptions;

/// How often old runs are looked for, whatever happens.
const EVERY: Duration = Duration::from_secs(3600);
/// Runs removed before others get their turn.
const TOGETHER: usize = 1000;
/// Where something is bounded it is removed when there is this part more of it, and no less than so much: so many runs or
/// cached values, and so many bytes of them. To remove little costs nearly what it costs to remove much.
const EXCESS_PART: u64 = 10;
const LEAST_EXCESS: u64 = 100;
const LEAST_EXCESS_BYTES: u64 = 1 << 20;

/// Counts what is added, so that as much is removed when that is due, and nobody has to look.
#[derive(Debug)]
pub(crate) struct Pruning {
    /// None: the number of runs is not bounded.
    runs: Option<Growth>,
    cached_values: Growth,
    cached_bytes: Growth,
    due: Notify,
}

/// What has been added since things were last removed.
#[derive(Debug)]
struct Growth {
    added: AtomicU64,
    /// With so much it is time.
    due_at: u64,
}

impl Pruning {
    pub(crate) fn new(options: &EngineOptions) -> Self {
        let number = |most: usize| Growth::of(most as u64, LEAST_EXCESS);
        Self {
            runs: options.retention_runs.map(number),
            cached_values: number(options.max_cached_values),
            cached_bytes: Growth::of(options.max_cached_bytes, LEAST_EXCESS_BYTES),
            due: Notify::new(),
        }
    }

    /// Takes note of the end of a run.
    pub(crate) fn run_ended(&self) {
        if self.runs.as_ref().is_some_and(|runs| runs.add(1)) {
            self.due.notify_one();
        }
    }

    /// Takes note of values that are cached.
    pub(crate) fn cached(&self, entries: &[CacheEntry]) {
        if entries.is_empty() {
            return;
        }
        let bytes = entries.iter().map(|entry| entry.bytes).sum();
        if self.cached_values.add(entries.len() as u64) | self.cached_bytes.add(bytes) {
            self.due.notify_one();
        }
    }

    fn begin_anew(&self) {
        let growths = self.runs.iter().chain([&self.cached_values, &self.cached_bytes]);
        growths.for_each(|growth| growth.added.store(0, Ordering::Relaxed));
    }
}

impl Growth {
    fn of(most: u64, least: u64) -> Self {
        Self { added: AtomicU64::new(0), due_at: (most / EXCESS_PART).max(least) }
    }

    /// Whether it has become time with this.
    fn add(&self, more: u64) -> bool {
        let before = self.added.fetch_add(more, Ordering::Relaxed);
        before < self.due_at && before.saturating_add(more) >= self.due_at
    }
}

/// Removes old runs, and cached values that are no good any more, now and then.
pub(crate) fn spawn(inner: &Arc<Inner>) {
    let (age, keep) = (inner.options.retention, inner.options.retention_runs);
    let room = CacheRoom { values: inner.options.max_cached_values, bytes: inner.options.max_cached_bytes };
    let (store, clock, stop) = (Arc::clone(&inner.store), Arc::clone(&inner.clock), inner.stop.clone());
    let pruning = Arc::clone(&inner.pruning);
    inner.tasks.spawn(async move {
        loop {
            let ended_before = age.map(|age| clock.now().minus(age));
            if ended_before.is_some() || keep.is_some() {
                prune_runs(store.as_ref(), Retention { ended_before, keep }).await;
            }
            match store.prune_cache(clock.now(), room).await {
                Ok(0) => {}
                Ok(values) => tracing::info!(values, "removed cached values"),
                Err(error) => tracing::warn!(%error, "cached values could not be removed"),
            }
            tokio::select! {
                () = tokio::time::sleep(EVERY) => {}
                () = pruning.due.notified() => {}
                () = stop.cancelled() => return,
            }
            pruning.begin_anew();
        }
    });
}

async fn prune_runs(store: &dyn Store, retention: Retention) {
    loop {
        let pruned = store.prune(retention, TOGETHER).await;
        failpoint::pass("prune");
        match pruned {
            Ok(0) => return,
            Ok(runs) => tracing::info!(runs, "removed old runs"),
            Err(error) => {
                tracing::warn!(%error, "old runs could not be removed");
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_time_with_a_tenth_more_and_no_less_than_a_hundred() {
        let ends = |keep: usize| {
            let options = EngineOptions { retention_runs: Some(keep), ..EngineOptions::default() };
            let runs = Pruning::new(&options).runs.unwrap();
            (1..=10_000).find(|_| runs.add(1))
        };
        assert_eq!([10, 1000, 5000, 20_000].map(ends), [100, 100, 500, 2000].map(Some));
        let growth = Growth::of(0, 10);
        assert_eq!([9, 5, 5].map(|more| growth.add(more)), [false, true, false], "told once");
    }
}
