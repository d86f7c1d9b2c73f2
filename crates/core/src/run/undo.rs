//! Compensation as part of a run's state: what is undone, in which order, and how the run ends afterwards.
//!
//! Undoing a step is a step run of its own behind all others. They are queued one after another, the step that ended
//! last first.

use std::sync::Arc;

use super::error::RunError;
use super::state::{Run, Unit};
use super::status::StepStatus;
use crate::plan::index;
use crate::time::Timestamp;

/// The name under which what undoes a step sees the value that the step had made.
pub(super) const RESULT: &str = "result";

/// A run that undoes its steps.
#[derive(Debug, Clone)]
pub(super) struct Undo {
    /// The first of its step runs; the others follow.
    pub(super) first: u32,
    pub(super) count: u32,
    pub(super) done: u32,
    /// How the run ends then.
    pub(super) ending: Ending,
    /// The steps that could not be undone.
    pub(super) failed: Vec<Arc<str>>,
}

/// How a run ends once its steps are undone.
#[derive(Debug, Clone)]
pub(super) enum Ending {
    Error(RunError),
    Cancel(Arc<str>),
}

impl Run {
    /// Whether the step run undoes a step, or is an item of one that does.
    pub(super) fn is_undo(&self, id: u32) -> bool {
        self.traits(id).is_undo
    }

    /// The steps that have something to undo, the one that ended last first.
    pub(super) fn steps_to_undo(&self) -> Vec<u32> {
        if !self.plan.compensates() {
            return Vec::new();
        }
        // What needs another step never ended before it; within one millisecond the graph tells.
        let order = self.plan.dag().topological_order();
        let mut steps: Vec<u32> = order.iter().copied().filter(|step| self.is_to_undo(*step)).collect();
        steps.sort_by_key(|step| self.units[*step as usize].finished_at);
        steps.reverse();
        steps
    }

    /// Only what this run has carried out itself: a value that it has taken over is another run's, which may stand, or
    /// has undone it, or leaves it to be taken over once more.
    fn is_to_undo(&self, step: u32) -> bool {
        let carried_out = self.units[step as usize].status == StepStatus::Completed;
        carried_out && self.plan.steps()[step as usize].undo.is_some()
    }

    /// The names of the steps that this run has carried out, and that nothing has undone although something could.
    /// They are what whoever ends a run from outside leaves behind.
    pub fn left_behind(&self) -> Vec<Arc<str>> {
        let undone = |step: u32| {
            let mut units = self.undo_units().iter();
            units.any(|unit| unit.place == step && unit.status.has_value())
        };
        let steps = self.steps_to_undo().into_iter().filter(|step| !undone(*step));
        steps.map(|step| Arc::clone(&self.plan.steps()[step as usize].name)).collect()
    }

    /// Adds the step runs that undo these steps, and queues the first.
    pub(super) fn begin_undo(&mut self, steps: &[u32], ending: Ending, at: Timestamp) {
        let plan = Arc::clone(&self.plan);
        let first = index(self.units.len());
        let bodies = steps.iter().filter_map(|step| Some((*step, plan.steps()[*step as usize].undo?)));
        self.units.extend(bodies.map(|(step, body)| Unit::new(None, step, body, 0)));
        let count = index(self.units.len()) - first;
        self.undo = Some(Box::new(Undo { first, count, done: 0, ending, failed: Vec::new() }));
        if count > 0 {
            self.queue(first, at);
        }
    }

    /// A step run that undoes a step has ended: the next one is to follow.
    pub(super) fn undo_settled(&mut self, id: u32, status: StepStatus, at: Timestamp) {
        let name = Arc::clone(&self.plan.steps()[self.units[id as usize].place as usize].name);
        let Some(undo) = &mut self.undo else { return };
        undo.done += 1;
        if !status.has_value() {
            undo.failed.push(name);
        }
        let next = id + 1;
        if next < undo.first + undo.count && self.units[next as usize].status == StepStatus::Pending {
            self.queue(next, at);
        }
    }

    /// The step runs that undo steps.
    pub(super) fn undo_units(&self) -> &[Unit] {
        let Some(undo) = &self.undo else { return &[] };
        &self.units[undo.first as usize..][..undo.count as usize]
    }
}
