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
use crate::run::status::RunStatus;
use crate::run::work::Failure;

impl Turn<'_> {
    /// Asks for the kept value of a step run that is to start, if it may have one. Whether the start has to wait, or is
    /// off since what the value depends on cannot be told.
    pub(super) fn look_up(&mut self, id: u32) -> Result<bool, IllegalEvent> {
        let plan_body = Arc::clone(self.run.plan_body(id));
        let first = self.run.units[id as usize].attempt == 0;
        let Some(cache) = plan_body.cache().filter(|_| first && self.run.afresh != Some(plan_body.step))
        else {
            return Ok(false);
        };
        let work = Box::new(self.work(id));
        let key = match cache.key.as_ref().map(|key| (key, key.evaluate(&work.inputs))) {
            None => None,
            Some((_, Ok(value))) => Some(value),
            Some((key, Err(error))) => {
                let failure = Failure::permanent(format!("`cache.key: {}`: {error}", key.source()));
                return self.fail(id, &failure.code("expression"), Duration::ZERO).map(|()| true);
            }
        };
        self.run.look(id);
        self.effects.commands.push(Command::Lookup { work, key });
        Ok(true)
    }

    /// A value was found.
    pub(super) fn found(&mut self, id: u32, value: Arc<Value>) -> Result<(), IllegalEvent> {
        if !self.looks(id) {
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
        if !self.looks(id) {
            return Ok(());
        }
        if self.run.status == RunStatus::Running {
            return self.go(id, 1, None, Some(CacheOutcome::Miss));
        }
        // By the time that it may start there may be a value.
        self.run.ready(id);
        Ok(())
    }

    fn looks(&self, id: u32) -> bool {
        self.run.units.get(id as usize).is_some_and(|unit| unit.looking)
    }
}
