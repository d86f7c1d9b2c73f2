//! Runs that have ended and were rebuilt from their logs, kept for a while: whoever looks at one looks again, for its next
//! page of items, and would have its whole log read each time.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use taskiq_flow_core::id::RunId;
use taskiq_flow_core::run::Run;
use tokio::time::Instant;

/// How many are kept.
const MOST: usize = 8;
/// How many events they may have together: some hundred bytes each, values apart.
const MOST_EVENTS: u64 = 400_000;
/// How long one is kept that nobody looks at.
const KEPT_FOR: Duration = Duration::from_secs(60);

/// The last ones that were looked at.
#[derive(Debug, Default)]
pub(crate) struct Replayed(Mutex<VecDeque<Kept>>);

#[derive(Debug)]
struct Kept {
    run: Arc<Run>,
    used: Instant,
}

impl Replayed {
    /// The run, if it is there.
    pub(crate) fn get(&self, run_id: RunId) -> Option<Arc<Run>> {
        let mut kept = self.0.lock();
        let place = kept.iter().position(|kept| kept.run.id() == run_id)?;
        let mut found = kept.remove(place)?;
        found.used = Instant::now();
        let run = Arc::clone(&found.run);
        kept.push_back(found);
        Some(run)
    }

    /// Keeps a run that has ended. Whether there was none before: who is told so lets them [go](Self::let_go) in time.
    pub(crate) fn put(&self, run: &Arc<Run>) -> bool {
        if !run.status().is_terminal() || run.seq() > MOST_EVENTS {
            return false;
        }
        let mut kept = self.0.lock();
        let first = kept.is_empty();
        kept.retain(|kept| kept.run.id() != run.id());
        kept.push_back(Kept { run: Arc::clone(run), used: Instant::now() });
        while kept.len() > MOST || kept.iter().map(|kept| kept.run.seq()).sum::<u64>() > MOST_EVENTS {
            kept.pop_front();
        }
        first
    }

    /// Lets go of those that nobody has looked at for long. When to do so again; none: none is left.
    pub(crate) fn let_go(&self) -> Option<Instant> {
        let mut kept = self.0.lock();
        let now = Instant::now();
        kept.retain(|kept| kept.used + KEPT_FOR > now);
        kept.front().map(|oldest| oldest.used + KEPT_FOR)
    }
}
