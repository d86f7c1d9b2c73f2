//! Stopping: what is under way is cancelled, what has not started is skipped.

use std::sync::Arc;

use super::{Command, Turn};
use crate::plan::index;
use crate::run::error::IllegalEvent;
use crate::run::event::Fact;
use crate::run::status::StepStatus;

impl Turn<'_> {
    pub(super) fn cancel(&mut self, reason: &Arc<str>) -> Result<(), IllegalEvent> {
        if self.run.status.is_terminal() {
            return self.record(Fact::PipelineCancel { reason: Arc::clone(reason), duration_ms: 0 });
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
        let duration_ms = self.age();
        self.record(Fact::PipelineCancel { reason: Arc::clone(reason), duration_ms })
    }

    /// A step has failed and takes the run with it.
    pub(super) fn stop_after(&mut self, failed: u32) -> Result<(), IllegalEvent> {
        let name = self.run.name(failed);
        let mut dependants = vec![false; self.run.plan.steps().len()];
        let mut stack = vec![failed];
        while let Some(step) = stack.pop() {
            for dependent in &self.run.plan.steps()[step as usize].dependents {
                if !std::mem::replace(&mut dependants[*dependent as usize], true) {
                    stack.push(*dependent);
                }
            }
        }
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
            self.effects.commands.push(Command::Cancel { step_run: id, attempt: unit.attempt });
        }
        let step = self.run.step_ref(id);
        self.record(Fact::StepCancel { step, reason: Arc::clone(reason) })
    }
}

/// Whether something goes on for it in the world, or will.
fn is_live(status: StepStatus) -> bool {
    matches!(status, StepStatus::Running | StepStatus::Retrying)
}
