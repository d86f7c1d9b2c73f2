//! Dead letters: steps that were given up, and can be tried again.

use serde_json::Map;
use taskiq_flow_core::id::RunId;
use taskiq_flow_store::{DeadLetter, DeadLetterFilter, StoreError, Trigger};

use crate::error::ControlError;
use crate::fork::Fork;
use crate::handle::Engine;
use crate::submission::Submitted;

/// A page of dead letters.
#[derive(Debug, Clone)]
pub struct DeadLetterPage {
    /// Newest first.
    pub letters: Vec<DeadLetter>,
    /// What to ask for the next page with; none: this was the last.
    pub next: Option<u64>,
}

impl Engine {
    /// Dead letters that pass the filter, newest first.
    ///
    /// # Errors
    /// Failures of the store.
    pub async fn dead_letters(&self, mut filter: DeadLetterFilter) -> Result<DeadLetterPage, StoreError> {
        let limit = filter.limit;
        filter.limit = limit + 1;
        let mut letters = self.0.store.dead_letters(filter).await?;
        let more = letters.len() > limit;
        letters.truncate(limit);
        let next = letters.last().filter(|_| more).map(|letter| letter.place);
        Ok(DeadLetterPage { letters, next })
    }

    /// Starts a new run that does the step of a dead letter again and what needs it, and takes over what else the run had
    /// made. The letter is marked with the new run, in one transaction.
    ///
    /// # Errors
    /// [`ControlError::UnknownDeadLetter`], [`ControlError::Illegal`] when the run has not ended, and those of
    /// [`Engine::fork`].
    pub async fn replay_dead_letter(
        &self,
        run_id: RunId,
        step_run: u32,
        principal: &str,
        most: Option<usize>,
    ) -> Result<Submitted, ControlError> {
        let letter = self.0.store.dead_letter(run_id, step_run).await?;
        let letter = letter.ok_or(ControlError::UnknownDeadLetter(run_id, step_run))?;
        let record = self.record(run_id).await?;
        let status = record.summary.status;
        if !status.is_terminal() {
            return Err(ControlError::Illegal { status, action: "have a step replayed" });
        }
        let from = Some(letter.task.to_string());
        let trigger = Trigger::Fork { run_id, from: from.clone(), principal: principal.to_owned() };
        let fork = Fork { from, parameters: Map::new() };
        self.run_again(record, fork, trigger, most, Some((run_id, step_run))).await
    }

    /// Deletes a dead letter. The run stays as it is.
    ///
    /// # Errors
    /// [`ControlError::UnknownDeadLetter`] and failures of the store.
    pub async fn drop_dead_letter(&self, run_id: RunId, step_run: u32) -> Result<(), ControlError> {
        match self.0.store.drop_dead_letter(run_id, step_run).await? {
            true => Ok(()),
            false => Err(ControlError::UnknownDeadLetter(run_id, step_run)),
        }
    }
}
