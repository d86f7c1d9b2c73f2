//! Runs that cannot go on: the store refuses their events for what they are, or their own state machine has failed.
//!
//! A defect that one run brings to light ends that run. Were it to end the shard, the other runs of the shard would stand
//! still with it, and a run that does it again whenever it is taken up would keep the server from starting.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Weak};

use taskiq_flow_core::id::RunId;
use taskiq_flow_core::run::IllegalEvent;
use taskiq_flow_store::Fence;

use super::Shard;
use super::commit::PAUSES;
use crate::error::ControlError;
use crate::handle::{Engine, Inner};

/// Why a run did not take an input.
#[derive(Debug)]
pub(super) enum Refusal {
    /// It is not possible in the run's state. Nothing has changed.
    Illegal(IllegalEvent),
    /// The state machine panicked. Its state is not to be trusted any more.
    Panic,
}

impl Shard {
    /// Ends a run. Its state here is ahead of its log, so the log is what goes on: with the failure as its last event.
    /// What it leaves behind that compensation would have undone is named in it.
    pub(super) async fn give_up(&mut self, run_id: RunId, why: &str) {
        let Some(driven) = self.runs.get(&run_id) else { return };
        tracing::error!(%run_id, why, "the run is failed");
        let fence = driven.fence;
        let left_behind = contained(|| driven.run.left_behind()).unwrap_or_default();
        if let Some(inner) = self.engine.upgrade() {
            let (engine, why) = (Engine(Arc::clone(&inner)), why.to_owned());
            match fail(&engine, run_id, fence, &why, &left_behind).await {
                Ok(()) => {}
                // Tried again beside the shard, whose other runs go on.
                Err(ControlError::Store(error)) if error.may_pass() => {
                    tracing::error!(%run_id, %error, "the run could not be failed yet");
                    inner.tasks.spawn(fail_later(Arc::downgrade(&inner), run_id, fence, why, left_behind));
                }
                Err(error) => {
                    tracing::error!(%run_id, %error, "the run could not be failed; it is taken up at the next start");
                }
            }
        }
        self.inflight.cancel_run(run_id);
        self.forget(run_id);
    }
}

/// Ends a run in the store.
async fn fail(
    engine: &Engine,
    run_id: RunId,
    fence: Fence,
    why: &str,
    left_behind: &[Arc<str>],
) -> Result<(), ControlError> {
    let record = engine.record(run_id).await?;
    // An answer that was lost need not be asked for once more.
    if record.summary.status.is_terminal() {
        return Ok(());
    }
    Ok(engine.fail_record(&record, fence, why, left_behind.to_vec()).await?)
}

/// As [`fail`], as often as it takes.
async fn fail_later(
    engine: Weak<Inner>,
    run_id: RunId,
    fence: Fence,
    why: String,
    left_behind: Vec<Arc<str>>,
) {
    let mut pause = PAUSES.0;
    loop {
        let Some(stop) = engine.upgrade().map(|inner| inner.stop.clone()) else { return };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = stop.cancelled() => return,
        }
        pause = (pause * 2).min(PAUSES.1);
        let Some(engine) = engine.upgrade().map(Engine) else { return };
        match fail(&engine, run_id, fence, &why, &left_behind).await {
            Ok(()) => return,
            Err(ControlError::Store(error)) if error.may_pass() => {
                tracing::error!(%run_id, %error, "the run could not be failed yet");
            }
            Err(error) => {
                return tracing::error!(%run_id, %error, "the run could not be failed; it is taken up at the next start");
            }
        }
    }
}

/// What the state machine of a run decides.
pub(super) fn contained_decision(decide: impl FnOnce() -> Result<(), IllegalEvent>) -> Result<(), Refusal> {
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
        assert!(matches!(contained_decision(|| panic!("{none:?}")), Err(Refusal::Panic)));
    }
}
