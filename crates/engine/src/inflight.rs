//! Attempts under way in this process, so that they can be stopped.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use taskiq_flow_core::id::RunId;
use tokio_util::sync::CancellationToken;

/// Which attempt: run, step run, attempt.
pub(crate) type AttemptKey = (RunId, u32, u32);

/// The attempts that were dispatched and have not reported.
#[derive(Debug, Clone, Default)]
pub(crate) struct Inflight(Arc<Mutex<HashMap<AttemptKey, CancellationToken>>>);

impl Inflight {
    /// Notes a dispatch. The token is cancelled when the attempt is to stop.
    pub(crate) fn enter(&self, key: AttemptKey) -> CancellationToken {
        self.0.lock().entry(key).or_default().clone()
    }

    /// Stops an attempt, whether or not a worker has it already.
    pub(crate) fn cancel(&self, key: &AttemptKey) {
        if let Some(token) = self.0.lock().get(key) {
            token.cancel();
        }
    }

    /// Stops every attempt of a run.
    pub(crate) fn cancel_run(&self, run_id: RunId) {
        self.0.lock().iter().filter(|(key, _)| key.0 == run_id).for_each(|(_, token)| token.cancel());
    }

    /// Forgets an attempt that has reported.
    pub(crate) fn leave(&self, key: &AttemptKey) {
        self.0.lock().remove(key);
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.0.lock().len()
    }
}
