//! Removing runs that ended long ago, or beyond how many are kept, and cached values alike.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use taskiq_flow_store::{Retention, Store};
use tokio::sync::Notify;

use crate::failpoint;
use crate::handle::Inner;
use crate::options::EngineOptions;

/// How often old runs are looked for, whatever happens.
const EVERY: Duration = Duration::from_secs(3600);
/// Runs removed before others get their turn.
const TOGETHER: usize = 1000;
/// Where their number is bounded, they are removed when there is this part more of them, and no fewer than so many.
const EXCESS_PART: usize = 10;
const LEAST_EXCESS: usize = 100;

/// Counts the runs that end, so that they are removed by their number when that is due, and nobody has to look.
#[derive(Debug)]
pub(crate) struct Pruning {
    ended: AtomicUsize,
    /// Ends after which it is time; none: their number is not bounded.
    due_after: Option<usize>,
    due: Notify,
}

impl Pruning {
    pub(crate) fn new(options: &EngineOptions) -> Self {
        let due_after = options.retention_runs.map(|keep| (keep / EXCESS_PART).max(LEAST_EXCESS));
        Self { ended: AtomicUsize::new(0), due_after, due: Notify::new() }
    }

    /// Takes note of the end of a run.
    pub(crate) fn run_ended(&self) {
        let Some(due_after) = self.due_after else { return };
        if self.ended.fetch_add(1, Ordering::Relaxed) + 1 == due_after {
            self.due.notify_one();
        }
    }
}

/// Removes old runs, and cached values that are no good any more, now and then.
pub(crate) fn spawn(inner: &Arc<Inner>) {
    let (age, keep) = (inner.options.retention, inner.options.retention_runs);
    let most_cached = inner.options.max_cached_values;
    let (store, clock, stop) = (Arc::clone(&inner.store), Arc::clone(&inner.clock), inner.stop.clone());
    let pruning = Arc::clone(&inner.pruning);
    inner.tasks.spawn(async move {
        loop {
            let ended_before = age.map(|age| clock.now().minus(age));
            if ended_before.is_some() || keep.is_some() {
                prune_runs(store.as_ref(), Retention { ended_before, keep }).await;
            }
            match store.prune_cache(clock.now(), most_cached).await {
                Ok(0) => {}
                Ok(values) => tracing::info!(values, "removed cached values"),
                Err(error) => tracing::warn!(%error, "cached values could not be removed"),
            }
            tokio::select! {
                () = tokio::time::sleep(EVERY) => {}
                () = pruning.due.notified() => {}
                () = stop.cancelled() => return,
            }
            pruning.ended.store(0, Ordering::Relaxed);
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
