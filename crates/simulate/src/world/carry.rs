//! What becomes of commands: attempts that end as the seed has it, timers, and what is stopped.

use std::sync::Arc;
use std::time::Duration;

use taskiq_flow_core::run::{Command, Failure, ItemEnd, Outcome as Ended, Work};
use taskiq_flow_core::time::{Timestamp, format_duration};

use super::{NEVER, What, World};
use crate::checks::Violation;

impl World<'_> {
    pub(super) fn carry_out(&mut self, at: usize, place: usize, command: Command) -> Result<(), Violation> {
        match command {
            Command::Dispatch(work) => self.dispatch(at, place, &work),
            Command::Lookup { work, .. } => self.look_up(at, place, &work),
            Command::Cancel { step_run, attempt } => {
                self.known[place].witness.over(step_run, attempt);
                // Some had reported already, or do not hear that they are to stop.
                let late = self.random.permille(300);
                let is_it = |what: &What| {
                    matches!(what, What::Report { ended, .. }
                        if ended.first().is_some_and(|end| (end.step_run, end.attempt) == (step_run, attempt)))
                };
                self.pending.retain(|pending| pending.place != place || !is_it(&pending.what) || late);
                Ok(())
            }
            Command::Timer { step_run, attempt, at: when } => {
                self.set_timer(at, place, when, &What::Timer { step_run, attempt });
                Ok(())
            }
            Command::RunTimer { at: when } => {
                self.set_timer(at, place, when, &What::RunTimer);
                Ok(())
            }
            other => Err(Violation::Refused(format!("the simulation does not know the command {other:?}"))),
        }
    }

    fn dispatch(&mut self, at: usize, place: usize, work: &Work) -> Result<(), Violation> {
        self.known[place].witness.dispatched(work)?;
        let faults = self.scenario.faults;
        let mut ended = Vec::new();
        let mut due = self.now;
        for (step_run, attempt) in work.members() {
            let (outcome, duration) = self.end_of(place, work);
            due += millis(duration);
            ended.push(ItemEnd { step_run, attempt, outcome, duration });
        }
        if ended.len() > 1 && faults.losses && self.random.permille(100) {
            // It stops half-way, and says only what it has come to.
            let some = 1 + self.random.below(ended.len());
            ended.truncate(some);
        }
        if work.timeout().is_some() {
            // Its time limit counts from when a worker has taken it up.
            let begun = self.now + (due - self.now) / 8;
            let (step_run, attempt) = (work.step_run, work.attempt);
            self.expect(begun, Some(self.drivers[at].owner), place, What::Began { step_run, attempt });
        }
        let chunk = work.chunk.is_some();
        let report = What::Report { ended, chunk };
        let owner = Some(self.drivers[at].owner);
        if faults.losses && self.random.permille(30) {
            self.note(|_| format!("run {place}: attempt {} of `{}` will be lost", work.attempt, work.step));
            self.expect(NEVER, owner, place, report);
            return Ok(());
        }
        if faults.duplicates && self.random.permille(100) {
            let again = due + self.soon();
            self.expect(again, owner, place, report.clone());
        }
        self.expect(due, owner, place, report);
        Ok(())
    }

    /// What comes of carrying out one item, or a step, and when.
    fn end_of(&mut self, place: usize, work: &Work) -> (Ended, Duration) {
        let faults = self.scenario.faults;
        let mut duration = self.random.duration();
        let limit = work.timeout().unwrap_or(Duration::MAX);
        let roll = self.random.below(100);
        let outcome = match roll {
            _ if duration > limit && faults.failures => {
                duration = limit;
                Ended::Failed(Failure::timeout(format!("took longer than {}", format_duration(limit))))
            }
            0..=8 if faults.failures => Ended::Failed(Failure::error("failed, in the simulation")),
            9..=10 if faults.failures => {
                Ended::Failed(Failure::permanent("failed for good, in the simulation"))
            }
            _ => Ended::Completed(Arc::new(self.known[place].lists.clone().result(work, &mut self.random))),
        };
        (outcome, duration.min(limit))
    }

    /// A kept value is looked for. Somebody else may be about to make it, so that the answer can take its time.
    fn look_up(&mut self, at: usize, place: usize, work: &Work) -> Result<(), Violation> {
        self.known[place].witness.looked_for(work)?;
        let found = self.random.permille(400).then(|| {
            let lists = Arc::clone(&self.known[place].lists);
            Arc::new(lists.result(work, &mut self.random))
        });
        let looked = What::Looked { step_run: work.step_run, found };
        let (owner, due) = (Some(self.drivers[at].owner), self.now + self.soon());
        if self.scenario.faults.duplicates && self.random.permille(100) {
            let again = due + self.soon();
            self.expect(again, owner, place, looked.clone());
        }
        self.expect(due, owner, place, looked);
        Ok(())
    }

    fn set_timer(&mut self, at: usize, place: usize, when: Timestamp, what: &What) {
        let faults = self.scenario.faults;
        let mut wait = millis(when.since(self.clock(at)));
        if faults.disorder && self.random.permille(100) {
            wait /= 2;
        }
        let owner = Some(self.drivers[at].owner);
        self.expect(self.now + wait, owner, place, what.clone());
        if faults.duplicates && self.random.permille(50) {
            let again = self.now + wait + self.soon();
            self.expect(again, owner, place, what.clone());
        }
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX / 4)
}
