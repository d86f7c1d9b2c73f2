//! Compensation: a run that is about to end without success undoes what its steps have done.

use std::sync::Arc;

use super::Turn;
use crate::run::error::{IllegalEvent, RunError};
use crate::run::event::Fact;
use crate::run::status::RunStatus;
use crate::run::undo::Ending;

impl Turn<'_> {
    /// Begins to undo, if there is something to undo and that has not been begun. The run goes on then.
    pub(super) fn compensate(&mut self, ending: Ending) -> Result<bool, IllegalEvent> {
        if self.run.undo.is_some() {
            return Ok(false);
        }
        let step_indexes = self.run.steps_to_undo();
        if step_indexes.is_empty() {
            return Ok(false);
        }
        // A run that is about to end is not to wait for somebody who lets it go on.
        if self.run.status == RunStatus::Paused {
            self.record(Fact::PipelineResume)?;
        }
        let plan = Arc::clone(&self.run.plan);
        let steps = step_indexes.iter().map(|step| Arc::clone(&plan.steps()[*step as usize].name)).collect();
        let (error, reason) = match ending {
            Ending::Error(error) => (Some(Box::new(error)), None),
            Ending::Cancel(reason) => (None, Some(reason)),
        };
        self.record(Fact::CompensationStart { steps, step_indexes, error, reason })?;
        Ok(true)
    }

    /// Ends a run with an error, once its steps are undone.
    pub(super) fn end_with(&mut self, error: RunError) -> Result<(), IllegalEvent> {
        if self.compensate(Ending::Error(error.clone()))? {
            return Ok(());
        }
        let duration_ms = self.age();
        self.record(Fact::PipelineError { error: Box::new(error), duration_ms })
    }

    /// Ends a run all of whose steps are undone as far as they could be.
    pub(super) fn end_undone(&mut self) -> Result<(), IllegalEvent> {
        let Some(undo) = self.run.undo.as_deref() else { return Ok(()) };
        let (ending, not_undone) = (undo.ending.clone(), undo.failed.clone());
        let duration_ms = self.age();
        self.record(match ending {
            Ending::Error(error) => {
                Fact::PipelineError { error: Box::new(RunError { not_undone, ..error }), duration_ms }
            }
            Ending::Cancel(reason) => Fact::PipelineCancel { reason, duration_ms, not_undone },
        })
    }
}
