//! Kept values: looked for before a step run is carried out for the first time.
//!
//! That one is looked for is no fact: after a crash, and where the run was paused meanwhile, it is asked for anew. What
//! was found is one, and that nothing was found stands in the start of the attempt.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::{Command, Turn};
use crate::run::error::IllegalEvent;
use crate::run::event::{CacheOutcome, Fact};
use crate::run::state::Run;
use crate::run::status::RunStatus;
use crate::run::work::Failure;

impl Turn<'_> {
    /// Asks for the kept value of a step run that is to start, if it may have one. Whether the start has to wait.
    pub(super) fn look_up(&mut self, id: u32) -> bool {
        let traits = self.run.traits(id);
        let first = self.run.units[id as usize].attempt == 0;
        if !first || !traits.is_cached || self.run.afresh == Some(traits.step) {
            return false;
        }
        let work = Box::new(self.work(id));
        self.run.look(id);
        self.effects.commands.push(Command::Lookup { work });
        true
    }

    /// What its value depends on cannot be told. It would be the same with every further attempt.
    pub(super) fn no_key(&mut self, id: u32, failure: &Failure) -> Result<(), IllegalEvent> {
        if self.run.looks_for(id) { self.fail(id, failure, Duration::ZERO) } else { Ok(()) }
    }

    /// A value was found.
    pub(super) fn found(&mut self, id: u32, value: Arc<Value>) -> Result<(), IllegalEvent> {
        if !self.run.looks_for(id) {
            return Ok(());
        }
        // It may have been made by an earlier definition with fewer outputs.
        if self.missing_output(id, &value).is_some() {
            return self.missed(id);
        }
        let step = self.run.step_ref(id);
        self.record(Fact::StepComplete { step, attempt: 0, duration_ms: 0, result: value, cached: true })?;
        self.complete_composites(self.run.units[id as usize].parent)
    }

    /// No value was found.
    pub(super) fn missed(&mut self, id: u32) -> Result<(), IllegalEvent> {
        if !self.run.looks_for(id) {
            return Ok(());
        }
        if self.run.status == RunStatus::Running {
            return self.go(id, 1, None, Some(CacheOutcome::Miss));
        }
        // By the time that it may start there may be a value.
        self.run.ready(id);
        Ok(())
    }
}

impl Run {
    /// Whether a step run waits to be told of a kept value.
    pub fn looks_for(&self, step_run: u32) -> bool {
        self.units.get(step_run as usize).is_some_and(|unit| unit.looking)
    }
}
