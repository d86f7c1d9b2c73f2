//! Runs that begin where another one was.

use serde_json::{Map, Value};
use taskiq_flow_core::id::RunId;
use taskiq_flow_core::plan::{Plan, index};
use taskiq_flow_core::run::RunStatus;
use taskiq_flow_store::{RunRecord, Trigger};

use crate::engine::Beside;
use crate::error::{ControlError, SubmitError};
use crate::handle::Engine;
use crate::submission::{Submission, Submitted};

/// How a run differs from the one it begins with.
#[derive(Debug, Clone, Default)]
pub struct Fork {
    /// The step from which on all is done again; none: only what did not come to an end.
    pub from: Option<String>,
    /// Parameters with other values. What needs one of them is done again.
    pub parameters: Map<String, Value>,
}

/// The step from which on a fork does everything again: a value of it that was kept will not do.
pub(crate) fn done_again(trigger: &Trigger, plan: &Plan) -> Option<u32> {
    let Trigger::Fork { from: Some(name), .. } = trigger else { return None };
    plan.steps().iter().position(|step| *step.name == **name).map(index)
}

impl Engine {
    /// Runs a failed, cancelled or timed out run again, as a new run that takes over the values of the steps that
    /// were completed, except those that need something that is done again. It follows the newest version of the
    /// definition; of an older one what is as it was is taken over. `most` bounds the pipeline's unfinished runs, as in
    /// [`Engine::submit_within`].
    ///
    /// # Errors
    /// [`ControlError::Illegal`] when the run is under way or completed.
    pub async fn retry(
        &self,
        run_id: RunId,
        principal: &str,
        most: Option<usize>,
    ) -> Result<Submitted, ControlError> {
        let record = self.record(run_id).await?;
        let status = record.summary.status;
        if !status.is_terminal() || status == RunStatus::Completed {
            return Err(ControlError::Illegal { status, action: "be retried" });
        }
        let trigger = Trigger::Retry { run_id, principal: principal.to_owned() };
        self.run_again(record, Fork::default(), trigger, most, None).await
    }

    /// Starts a new run that takes over what a run that has ended had made, but for what `fork` says. It follows the
    /// newest version of the definition; of an older one what is as it was is taken over.
    ///
    /// # Errors
    /// [`ControlError::Illegal`] when the run has not ended, [`ControlError::UnknownStep`], and [`ControlError::Submit`] when the parameters do not fit.
    pub async fn fork(
        &self,
        run_id: RunId,
        fork: Fork,
        principal: &str,
        most: Option<usize>,
    ) -> Result<Submitted, ControlError> {
        let record = self.record(run_id).await?;
        let status = record.summary.status;
        if !status.is_terminal() {
            return Err(ControlError::Illegal { status, action: "be forked" });
        }
        let trigger = Trigger::Fork { run_id, from: fork.from.clone(), principal: principal.to_owned() };
        self.run_again(record, fork, trigger, most, None).await
    }

    /// `replays` names the dead letter, by run and step run, that is marked with the new run.
    pub(crate) async fn run_again(
        &self,
        record: RunRecord,
        fork: Fork,
        trigger: Trigger,
        most: Option<usize>,
        replays: Option<(RunId, u32)>,
    ) -> Result<Submitted, ControlError> {
        let unknown = || SubmitError::UnknownPipeline(record.pipeline_id.clone());
        let registered = self.pipeline(&record.pipeline_id).ok_or_else(unknown)?;
        let Fork { from, parameters } = fork;
        let again = match from {
            Some(name) => {
                let step = registered.plan.steps().iter().position(|step| *step.name == *name);
                vec![index(step.ok_or(ControlError::UnknownStep(name))?)]
            }
            None => Vec::new(),
        };
        let reuse = self.replay(record.run_id).await?.taken_over(&registered.plan, &again, |name| {
            parameters.get(name).is_some_and(|value| record.parameters.get(name) != Some(value))
        });
        let mut all = Map::clone(&record.parameters);
        all.extend(parameters);
        let submission = Submission {
            pipeline_id: record.pipeline_id,
            parameters: all,
            idempotency_key: None,
            priority: None,
            trigger,
        };
        let beside = Beside { reuse, replays, ..Beside::default() };
        // Of this version: what is taken over goes by its steps, and a newer one may have come meanwhile.
        Ok(self.submit_to(&registered, submission, most, beside).await?)
    }
}
