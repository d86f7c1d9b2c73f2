//! Deaths, and what is left: the log. And the end of a world, when nothing is left to happen.

use std::sync::Arc;

use taskiq_flow_core::run::{Run, RunStatus, StepStatus};
use taskiq_flow_store::RunRecord;

use super::{NEVER, Pending, RunEnd, StepEnd, What, World, answer, summary_of};
use crate::checks::Violation;
use crate::driver::Driven;
use crate::values::awaited;

/// The most deaths of one world: it is to come to an end.
const MOST_CRASHES: u32 = 25;

impl World<'_> {
    /// Whether the process in charge dies now.
    pub(super) fn dies(&mut self, when: &str) -> bool {
        let may = self.scenario.faults.crashes && self.outcome.crashes < MOST_CRASHES;
        if may && self.random.permille(15) {
            self.die(when);
        }
        self.dead
    }

    fn die(&mut self, when: &str) {
        self.note(|_| format!("the process dies {when}"));
        self.dead = true;
        self.outcome.crashes += 1;
    }

    /// Something happens to the process itself. Whether it did.
    pub(super) fn misfortune(&mut self) -> Result<bool, Violation> {
        let faults = self.scenario.faults;
        if faults.crashes && self.outcome.crashes < MOST_CRASHES && self.random.permille(10) {
            (0..self.known.len()).try_for_each(|place| self.check_replay(place))?;
            self.die("while nothing happens");
            return Ok(true);
        }
        if faults.takeovers && self.drivers.len() == 1 && self.random.permille(10) {
            self.note(|_| "the process is taken for dead, and is not".to_owned());
            self.take_over()?;
            return Ok(true);
        }
        Ok(false)
    }

    /// Another process takes the runs over from one that still believes to drive them.
    fn take_over(&mut self) -> Result<(), Violation> {
        if let Some(driver) = self.drivers.last_mut() {
            driver.superseded = true;
        }
        let next = self.driver();
        self.drivers.push(next);
        self.take_up()
    }

    /// A process starts in the place of one that has died. Some of what that had handed out goes on elsewhere, and
    /// reports to the new one.
    pub(super) fn restart(&mut self) -> Result<(), Violation> {
        self.dead = false;
        let next = self.driver();
        // One that was superseded dies with the machine.
        let died = std::mem::replace(&mut self.drivers, vec![next]);
        let owner = self.drivers[0].owner;
        let mut kept = Vec::with_capacity(self.pending.len());
        for mut pending in std::mem::take(&mut self.pending) {
            let of_the_dead =
                pending.owner.is_some_and(|owner| died.iter().any(|driver| driver.owner == owner));
            let goes_on = !of_the_dead
                || matches!(pending.what, What::Report { .. })
                    && pending.due != NEVER
                    && self.random.permille(400);
            if goes_on {
                pending.owner = pending.owner.map(|_| owner);
                kept.push(pending);
            }
        }
        self.pending = kept;
        self.note(|_| "another process starts".to_owned());
        self.take_up()
    }

    /// The process in charge takes up what the store holds.
    fn take_up(&mut self) -> Result<(), Violation> {
        self.known.iter_mut().for_each(|known| known.witness.crashed());
        let at = self.drivers.len() - 1;
        let (owner, now) = (self.drivers[at].owner, self.clock(at));
        let claimed = answer(self.store.take_over(owner, now))?;
        let mut effects = Vec::new();
        for (record, fence) in claimed {
            let Some(place) = self.by_id.get(&record.run_id).copied() else {
                return Err(Violation::Lost(format!(
                    "the store holds run {}, which nobody asked for",
                    record.run_id
                )));
            };
            let mut run = self.rebuild(&record, place)?;
            let recovered = self.machine.recover(&mut run, now);
            let refused = |error| Violation::Refused(format!("run {place}: {error}"));
            let mut recovered = recovered.map_err(refused)?;
            if let Some(fault) = recovered.fault.take() {
                return Err(refused(fault));
            }
            effects.push((place, recovered));
            self.drivers[at].runs.insert(record.run_id, Driven { run, fence });
        }
        for (place, recovered) in effects {
            self.note(|_| format!("run {place} is taken up"));
            self.commit(at, place, recovered)?;
            if self.dead {
                break;
            }
        }
        Ok(())
    }

    /// The run as the store alone has it.
    fn rebuild(&self, record: &RunRecord, place: usize) -> Result<Run, Violation> {
        let plan = Arc::clone(&self.known[place].plan);
        let events = answer(self.store.events(record.run_id))?;
        let new = Run::new(plan, record.run_id, &record.parameters, record.created_at);
        let run = new.replay(&events).map_err(|error| Violation::Replay(format!("run {place}: {error}")))?;
        if run.seq() != self.known[place].witness.last_seq() {
            let what = format!(
                "run {place} had {} events, and the store has {}",
                self.known[place].witness.last_seq(),
                run.seq()
            );
            return Err(Violation::Log(what));
        }
        if record.last_seq != run.seq() || record.summary != summary_of(&run) {
            return Err(Violation::Replay(format!("the record of run {place} is not what its log comes to")));
        }
        Ok(run)
    }

    /// The log alone must make the state that the driver in charge has.
    pub(super) fn check_replay(&self, place: usize) -> Result<(), Violation> {
        let known = &self.known[place];
        let driven = self.drivers.last().and_then(|driver| driver.runs.get(&known.run_id));
        let Some(driven) = driven else { return Ok(()) };
        let Some(record) = answer(self.store.run(known.run_id))? else {
            return Err(Violation::Lost(format!("run {place} is not in the store")));
        };
        let replayed = self.rebuild(&record, place)?;
        let shown = |run: &Run| serde_json::to_value(run.view()).unwrap_or_default();
        if shown(&replayed) != shown(&driven.run) {
            return Err(Violation::Replay(format!("run {place} at event {}", replayed.seq())));
        }
        Ok(())
    }

    /// Nothing is left to happen. Either all is over, or there is a reason, which is then taken away.
    pub(super) fn rest(&mut self) -> Result<bool, Violation> {
        let at = self.drivers.len() - 1;
        let open: Vec<usize> = (0..self.known.len())
            .filter(|place| self.drivers[at].runs.contains_key(&self.known[*place].run_id))
            .collect();
        if open.is_empty() {
            return Ok(false);
        }
        let mut lost = false;
        for place in open {
            let known = &self.known[place];
            let status = self.drivers[at].runs.get(&known.run_id).map(|driven| driven.run.status());
            if status == Some(RunStatus::Paused) {
                self.note(|_| format!("run {place} is paused and nothing else happens"));
                self.pending.push(Pending { due: self.now, owner: None, place, what: What::Resume });
                return Ok(true);
            }
            let mut waits = known.witness.waiting()?.into_iter().map(|step| {
                let task = &known.plan.steps()[step as usize].task;
                (task.name.clone(), awaited(&task.body).first().map(|name| (*name).to_owned()))
            });
            if let Some((step, signal)) = waits.next() {
                let Some(signal) = signal else {
                    return Err(Violation::Stuck(format!("`{step}` of run {place} waits for nothing")));
                };
                drop(waits);
                self.note(|_| {
                    format!("run {place}: `{step}` waits for signal `{signal}` and nothing else happens")
                });
                // Items may wait for several; all of them are sent in time.
                let names: Vec<String> = {
                    let tasks = &self.known[place].plan.pipeline().tasks;
                    let of_step = tasks.iter().filter(|task| task.name == step);
                    of_step.flat_map(|task| awaited(&task.body)).map(str::to_owned).collect()
                };
                for name in names {
                    let known = &mut self.known[place];
                    if known.silent.contains(&name) {
                        known.stuck.insert((step.clone(), name.clone()));
                    }
                    let what = What::Signal(name.into());
                    self.pending.push(Pending { due: self.now, owner: None, place, what });
                }
                return Ok(true);
            }
            if !known.witness.has_live() && status == Some(RunStatus::Running) {
                return Err(Violation::Stuck(format!(
                    "run {place} has nothing under way, and has not ended"
                )));
            }
            lost |= known.witness.has_live();
        }
        if lost {
            // Attempts went with their workers: the next start makes them again.
            self.die("because attempts were lost and nothing else happens");
            return Ok(true);
        }
        Err(Violation::Stuck("runs wait for room, and nothing else happens".to_owned()))
    }

    /// What has been accepted must have ended, with a log that says so.
    pub(super) fn conclude(&mut self) -> Result<(), Violation> {
        for place in 0..self.known.len() {
            let Some(record) = answer(self.store.run(self.known[place].run_id))? else {
                return Err(Violation::Lost(format!("run {place} is not in the store")));
            };
            let run = self.rebuild(&record, place)?;
            if !run.status().is_terminal() {
                return Err(Violation::Lost(format!("run {place} is {} and nobody drives it", run.status())));
            }
            let view = run.view();
            let open = view.steps.iter().find(|step| !StepStatus::is_terminal(step.state.status));
            if let Some(step) = open {
                return Err(Violation::Stuck(format!(
                    "run {place} has ended and its step `{}` has not",
                    step.id
                )));
            }
            let known = &self.known[place];
            let steps = view.steps.iter().zip(&known.witness.attempts).map(|(step, attempts)| StepEnd {
                name: step.id.to_string(),
                status: step.state.status,
                attempts: *attempts,
            });
            let took = match (view.started_at, view.finished_at) {
                (Some(started), Some(finished)) => finished.since(started),
                _ => std::time::Duration::ZERO,
            };
            self.outcome.runs.push(RunEnd {
                pipeline: view.pipeline_id.to_string(),
                status: view.status,
                error: view.error.map(|error| match error.step {
                    Some(step) => {
                        // Of items, their step: there may be very many.
                        let name = step.split('[').next().unwrap_or(&step);
                        format!("`{name}`: {}", error.message)
                    }
                    None => error.message.to_string(),
                }),
                took,
                steps: steps.collect(),
                stuck: known.stuck.iter().cloned().collect(),
            });
        }
        Ok(())
    }
}
