//! Stopping: what is under way is cancelled, what has not started is skipped.

use std::sync::Arc;

use super::Turn;
use crate::plan::index;
use crate::run::error::IllegalEvent;
use crate::run::event::Fact;
use crate::run::status::StepStatus;
use crate::run::undo::Ending;

impl Turn<'_> {
    pub(super) fn cancel(&mut self, reason: &Arc<str>) -> Result<(), IllegalEvent> {
        if self.run.status.is_terminal() {
            return self.record(Fact::PipelineCancel {
                reason: Arc::clone(reason),
                duration_ms: 0,
                not_undone: Vec::new(),
            });
        }
        for id in (0..index(self.run.units.len())).rev() {
            self.stop(id, reason)?;
        }
        for id in 0..index(self.run.plan.steps().len()) {
            if !self.run.units[id as usize].status.is_terminal() {
                let step = self.run.step_ref(id);
                self.record(Fact::StepCancel { step, reason: Arc::clone(reason) })?;
            }
        }
        let undoes = self.run.plan.pipeline().compensate_on_cancel && self.run.undo.is_none();
        if undoes && self.compensate(Ending::Cancel(Arc::clone(reason)))? {
            return Ok(());
        }
        let undo = self.run.undo.as_ref();
        for id in undo.map_or(0..0, |undo| undo.first..undo.first + undo.count) {
            if !self.run.units[id as usize].status.is_terminal() {
                let step = self.run.step_ref(id);
                self.record(Fact::StepCancel { step, reason: Arc::clone(reason) })?;
            }
        }
        let not_undone = self.run.undo.as_ref().map(|undo| undo.failed.clone()).unwrap_or_default();
        let duration_ms = self.age();
        self.record(Fact::PipelineCancel { reason: Arc::clone(reason), duration_ms, not_undone })
    }

    /// A step has failed and takes the run with it.
    pub(super) fn stop_after(&mut self, failed: u32) -> Result<(), IllegalEvent> {
        let name = self.run.name(failed);
        let dependants = self.run.plan.with_dependents([failed]);
        self.stop_all(&format!("`{name}` failed"), |step| {
            if dependants[step as usize] {
                format!("needs `{name}`, which failed")
            } else {
                format!("`{name}` failed")
            }
        })
    }

    /// Cancels what is under way and skips what has not started.
    pub(super) fn stop_all(
        &mut self,
        reason: &str,
        skip: impl Fn(u32) -> String,
    ) -> Result<(), IllegalEvent> {
        let reason: Arc<str> = reason.into();
        for id in (0..index(self.run.units.len())).rev() {
            self.stop(id, &reason)?;
        }
        for id in 0..index(self.run.plan.steps().len()) {
            if !self.run.units[id as usize].status.is_terminal() {
                let step = self.run.step_ref(id);
                self.record(Fact::StepSkip { step, reason: skip(id).into() })?;
            }
        }
        Ok(())
    }

    /// Stops what is under way inside a composite.
    pub(super) fn stop_items(&mut self, composite: u32, reason: &str) -> Result<(), IllegalEvent> {
        self.stop_inside(composite, &reason.into())
    }

    /// As deep as the definition nests.
    fn stop_inside(&mut self, composite: u32, reason: &Arc<str>) -> Result<(), IllegalEvent> {
        let Some(items) = self.run.units[composite as usize].items.as_deref() else { return Ok(()) };
        for id in items.range().rev() {
            if !self.run.units[id as usize].status.is_terminal() {
                self.stop_inside(id, reason)?;
                self.stop(id, reason)?;
            }
        }
        Ok(())
    }

    /// Cancels a step run that is under way or between attempts.
    pub(super) fn stop(&mut self, id: u32, reason: &Arc<str>) -> Result<(), IllegalEvent> {
        let unit = &self.run.units[id as usize];
        if !is_live(unit.status) {
            return Ok(());
        }
        if unit.status == StepStatus::Running && unit.items.is_none() {
            self.stop_attempt(id);
        }
        let step = self.run.step_ref(id);
        self.record(Fact::StepCancel { step, reason: Arc::clone(reason) })
    }
}

/// Whether something goes on for it in the world, or will.
fn is_live(status: StepStatus) -> bool {
    matches!(status, StepStatus::Running | StepStatus::Retrying)
}
