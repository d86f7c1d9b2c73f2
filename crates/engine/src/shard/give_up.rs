//! Runs that cannot go on: the store refuses their events for what they are, or their own state machine has failed.
//!
//! A defect that one run brings to light ends that run. Were it to end the shard, the other runs of the shard would stand
//! still with it, and a run that does it again whenever it is taken up would keep the server from starting.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use taskiq_flow_core::id::RunId;
use taskiq_flow_core::run::{Effects, IllegalEvent, Input};
use taskiq_flow_core::time::Timestamp;
use taskiq_flow_store::{Fence, StoreError};

use super::commit::PAUSES;
use super::{Driven, Shard};
use crate::error::ControlError;
use crate::handle::Engine;

/// Why a run did not take an input.
#[derive(Debug)]
pub(super) enum Refusal {
    /// It is not possible in the run's state. Nothing has changed.
    Illegal(IllegalEvent),
    /// The state machine panicked. Its state is not to be trusted any more.
    Panic,
}

impl Driven {
    /// As [`Run::handle`](taskiq_flow_core::run::Run::handle).
    pub(super) fn handle(&mut self, input: Input, now: Timestamp) -> Result<Effects, Refusal> {
        decided(|| self.run.handle(input, now))
    }
}

impl Shard {
    /// Ends a run. Its state here is ahead of its log, so the log is what goes on: with the failure as its last event.
    /// What it leaves behind that compensation would have undone is named in it.
    pub(super) async fn give_up(&mut self, run_id: RunId, why: &str) {
        let Some(driven) = self.runs.get(&run_id) else { return };
        tracing::error!(%run_id, why, "the run is failed");
        let fence = driven.fence;
        let left_behind = contained(|| driven.run.left_behind()).unwrap_or_default();
        let mut pause = PAUSES.0;
        while let Err(error) = self.fail(run_id, fence, why, &left_behind).await {
            // A store that does not answer holds up all runs, as for any other write; this one is not to be lost for it.
            if !matches!(error, ControlError::Store(StoreError::Unavailable { .. } | StoreError::Io { .. })) {
                tracing::error!(%run_id, %error, "the run could not be failed; it is taken up at the next start");
                break;
            }
            tracing::error!(%run_id, %error, "the run could not be failed yet");
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.stop.cancelled() => break,
            }
            pause = (pause * 2).min(PAUSES.1);
        }
        self.inflight.cancel_run(run_id);
        self.forget(run_id);
    }

    /// Ends a run in the store, unless the engine has gone.
    async fn fail(
        &self,
        run_id: RunId,
        fence: Fence,
        why: &str,
        left_behind: &[Arc<str>],
    ) -> Result<(), ControlError> {
        let Some(engine) = self.engine.upgrade().map(Engine) else { return Ok(()) };
        let record = engine.record(run_id).await?;
        // An answer that was lost need not be asked for once more.
        if record.summary.status.is_terminal() {
            return Ok(());
        }
        Ok(engine.fail_record(&record, fence, why, left_behind.to_vec()).await?)
    }
}

/// What the state machine of a run decides.
pub(super) fn decided(decide: impl FnOnce() -> Result<Effects, IllegalEvent>) -> Result<Effects, Refusal> {
    contained(decide).map_or(Err(Refusal::Panic), |decided| decided.map_err(Refusal::Illegal))
}

/// What comes of work on one run. None: it has panicked; what it worked on is not to be used any more.
pub(super) fn contained<T>(work: impl FnOnce() -> T) -> Option<T> {
    catch_unwind(AssertUnwindSafe(work)).ok()
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Illegal(error) => error.fmt(f),
            Self::Panic => f.write_str("a defect of the server, which its log tells of"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_of_one_run_stays_with_it() {
        assert_eq!(contained(|| 1), Some(1));
        let none: Option<u32> = None;
        assert!(matches!(decided(|| panic!("{none:?}")), Err(Refusal::Panic)));
    }
}
