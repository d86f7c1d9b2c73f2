//! Times that come: of retries, of waits, of attempts and steps that take too long.

use std::sync::Arc;
use std::time::Duration;

use super::{Command, Turn};
use crate::definition::{TaskKind, WaitFor};
use crate::run::error::IllegalEvent;
use crate::run::status::StepStatus;
use crate::run::work::Failure;
use crate::time::{Timestamp, format_duration};

/// How much longer than its limit an attempt may take before it is given up from here: whoever carries it out keeps the
/// limit itself, and reports. Only one that was lost, or that cannot be interrupted, is still there then.
const GRACE: Duration = Duration::from_secs(5);

/// The attempt that timers of a whole step name.
pub(super) const WHOLE_STEP: u32 = 0;

impl Turn<'_> {
    /// A time that has not come yet is waited for again: a timer may hold less than the whole wait, and clocks differ.
    pub(super) fn timer(&mut self, id: u32, attempt: u32) -> Result<(), IllegalEvent> {
        let Some(unit) = self.run.units.get(id as usize) else { return Ok(()) };
        if attempt == WHOLE_STEP {
            return self.step_timer(id);
        }
        match unit.status {
            StepStatus::Retrying if unit.attempt + 1 == attempt => {
                match unit.due_at {
                    Some(at) if at > self.now => self.set_timer(id, attempt, at),
                    // The start of the attempt is the fact; that its time has come is none.
                    _ if unit.in_line.is_none() => self.run.ready(id),
                    _ => {}
                }
                Ok(())
            }
            StepStatus::Running if unit.attempt == attempt => match &self.run.body(id).kind {
                TaskKind::Wait(_) => self.wait_timer(id, attempt),
                _ => self.attempt_timer(id, attempt),
            },
            _ => Ok(()),
        }
    }

    fn wait_timer(&mut self, id: u32, attempt: u32) -> Result<(), IllegalEvent> {
        let Some(wait) = self.run.body(id).kind.wait() else { return Ok(()) };
        let Some(limit) = self.run.wait_limit(id) else { return Ok(()) };
        let since = self.run.units[id as usize].started_at.unwrap_or(self.now);
        if since.plus(limit) > self.now {
            self.set_timer(id, attempt, since.plus(limit));
            return Ok(());
        }
        let waited = self.now.since(since);
        let failure = match &wait.until {
            WaitFor::Duration(duration) if *duration <= limit => {
                return self.complete(id, Arc::default(), waited);
            }
            WaitFor::Duration(_) => too_long(limit),
            WaitFor::Signal(name) => Failure::timeout(format!("no signal `{name}` came in time")),
        };
        self.fail(id, &failure, waited)
    }

    /// A worker has taken up an attempt: from now on its time counts. That it has is no fact; after a crash another
    /// attempt is made.
    pub(super) fn began(&mut self, id: u32, attempt: u32) {
        let current = self.run.units.get(id as usize);
        if !current.is_some_and(|unit| unit.status == StepStatus::Running && unit.attempt == attempt) {
            return;
        }
        let leaf = self.run.units[id as usize].items.is_none()
            && !matches!(self.run.body(id).kind, TaskKind::Wait(_) | TaskKind::Pipeline(_));
        if let (true, Some(limit)) = (leaf, self.run.plan_body(id).timeout()) {
            // It counts for each item that the attempt carries out.
            let at = self.now.plus(limit.saturating_mul(self.chunk_size(id))).plus(GRACE);
            self.run.units[id as usize].due_at = Some(at);
            self.set_timer(id, attempt, at);
        }
    }

    fn attempt_timer(&mut self, id: u32, attempt: u32) -> Result<(), IllegalEvent> {
        if self.run.is_left_over(id) {
            return Ok(());
        }
        let unit = &self.run.units[id as usize];
        let (Some(at), Some(limit)) = (unit.due_at, self.run.plan_body(id).timeout()) else { return Ok(()) };
        if at > self.now {
            self.set_timer(id, attempt, at);
            return Ok(());
        }
        let message = format!("{}, and its worker did not say so", too_long(limit).message);
        self.give_up(id, &Failure::timeout(message))
    }

    /// Sets the timer of a whole step that has one and has started.
    pub(super) fn set_step_timer(&mut self, id: u32) {
        if let Some(at) = self.end_of_step(id) {
            self.set_timer(id, WHOLE_STEP, at);
        }
    }

    /// When the whole step is to be over, with all its attempts and items.
    pub(super) fn end_of_step(&self, id: u32) -> Option<Timestamp> {
        let unit = &self.run.units[id as usize];
        if !self.run.traits(id).has_total_timeout || unit.parent.is_some() {
            return None;
        }
        let limit = self.run.task(id).total_timeout?;
        Some(unit.first_started_at?.plus(limit))
    }

    fn step_timer(&mut self, id: u32) -> Result<(), IllegalEvent> {
        let unit = &self.run.units[id as usize];
        let (Some(at), Some(limit)) = (self.end_of_step(id), self.run.task(id).total_timeout) else {
            return Ok(());
        };
        if unit.status.is_terminal() {
            return Ok(());
        }
        if at > self.now {
            self.set_step_timer(id);
            return Ok(());
        }
        let took = self.now.since(unit.first_started_at.unwrap_or(self.now));
        if unit.items.is_some() {
            self.stop_items(id, "the step took too long")?;
        } else if unit.status == StepStatus::Running {
            let attempt = unit.attempt;
            self.effects.commands.push(Command::Cancel { step_run: id, attempt });
        }
        let message = format!("the whole step took longer than {}", format_duration(limit));
        self.fail(id, &Failure::timeout(message), took)
    }
}

fn too_long(limit: Duration) -> Failure {
    Failure::timeout(format!("took longer than {}", format_duration(limit)))
}
