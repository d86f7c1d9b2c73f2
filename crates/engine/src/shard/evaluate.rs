//! Expressions, and at times Rust tasks, within the turn of the shard.
//!
//! An expression does nothing but come to a value, so that its start and its end can be made durable together, and
//! nothing is lost when it is evaluated again after a crash. A chain of them is one write, and no thread is changed.
//! Where nothing outlives the process, the same goes for Rust tasks that are over in an instant.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use taskiq_flow_core::by_run::ByRun;
use taskiq_flow_core::definition::TaskKind;
use taskiq_flow_core::expr::Expr;
use taskiq_flow_core::run::{Command, Input, Outcome, Work};
use taskiq_flow_core::time::Timestamp;
use tokio::sync::OwnedSemaphorePermit;

use super::instant::AtOnce;
use super::turn::Turn;
use super::{Driven, Shard};
use crate::exec::{evaluated, panicked};
use crate::inbox::Message;

/// Attempts of one turn; further ones wait for the next, so that the runs of the shard have their turns too.
const MOST: usize = 256;
/// No further one is begun in a turn that has spent so long on them. One alone takes some tens of milliseconds at most:
/// [`FUEL`](taskiq_flow_core::expr::FUEL) bounds it, and those that are known to take long are given to workers.
const LONGEST: Duration = Duration::from_millis(1);
/// After how long the clock is looked at again: events have milliseconds.
const OFTEN: Duration = Duration::from_millis(1);

/// Whether it asks for what the shard carries out within its turn: an expression, or a Rust task that `at_once` takes.
pub(super) fn is_evaluated_here(command: &Command, at_once: Option<&AtOnce>) -> bool {
    let Command::Dispatch(work) = command else { return false };
    if !work.resources().is_empty()
        || work.plan_body.cache().is_some()
        || work.chunk.is_some()
        || work.fold.is_some()
    {
        return false;
    }
    match &work.body().kind {
        TaskKind::Expression(_) => work.plan_body.pace().is_quick().unwrap_or(true),
        TaskKind::Task(_) => at_once.is_some_and(|at_once| at_once.takes(work)),
        _ => false,
    }
}

/// What a turn has spent on attempts, and what time it was when that was last looked up.
struct Spent {
    total: Duration,
    looked_at: Duration,
    now: Timestamp,
}

impl Shard {
    /// Carries out what is there, and what that leads to, as far as the turn lasts. The rest is left to the next turn.
    pub(super) fn evaluate(&mut self, turn: &mut Turn) {
        if turn.unevaluated.is_empty() {
            return;
        }
        // An expression is bounded in itself; a task may hold up the shard.
        let held = turn.at_once.is_some().then(|| Arc::clone(&self.held));
        let _hold = held.as_ref().map(|held| held.hold(self.place));
        let (zero, now, mut room) = (Duration::ZERO, self.clock.now(), None);
        let mut spent = Spent { total: zero, looked_at: zero, now };
        for _ in 0..MOST {
            let Some(work) = turn.unevaluated.pop_front() else { return };
            let plan_body = Arc::clone(&work.plan_body);
            let took = match &plan_body.body().kind {
                TaskKind::Expression(expr) => self.evaluate_one(&work, expr, spent.now, turn),
                _ => self.attempt_one(work, &mut room, spent.now, turn),
            };
            spent.total += took;
            if spent.total > LONGEST {
                break;
            }
            if spent.total - spent.looked_at >= OFTEN {
                (spent.looked_at, spent.now) = (spent.total, self.clock.now());
            }
        }
        self.unevaluated = std::mem::take(&mut turn.unevaluated);
    }

    /// How long it took.
    fn evaluate_one(&mut self, work: &Work, expr: &Expr, now: Timestamp, turn: &mut Turn) -> Duration {
        let Some(driven) = waiting_for(&mut self.runs, work) else { return Duration::ZERO };
        let started = Instant::now();
        let outcome = catch_unwind(AssertUnwindSafe(|| evaluated(expr, &work.inputs)));
        let outcome = outcome.unwrap_or_else(|_| Outcome::Failed(panicked()));
        let duration = started.elapsed();
        self.took.record(&work.body().kind, &outcome, duration);
        work.plan_body.pace().note(duration);
        let (step_run, attempt) = (work.step_run, work.attempt);
        let input = Input::Finished { step_run, attempt, outcome, duration };
        let effects = driven.handle(input, now);
        turn.note(work.run_id, driven, effects);
        duration
    }

    /// How long it took, as far as it has ended.
    fn attempt_one(
        &mut self,
        work: Box<Work>,
        room: &mut Option<OwnedSemaphorePermit>,
        now: Timestamp,
        turn: &mut Turn,
    ) -> Duration {
        let Some(driven) = waiting_for(&mut self.runs, &work) else { return Duration::ZERO };
        let Some(free) = room.take().or_else(|| self.workshop.room()) else {
            turn.of(work.run_id, driven).commands.push(Command::Dispatch(work));
            return Duration::ZERO;
        };
        let (message, free) = self.worker.attempt_at_once(&self.workshop, work, free);
        *room = free;
        let Some(Message::Finished(finished)) = message else { return Duration::ZERO };
        let duration = finished.duration;
        self.finished(finished, now, turn);
        duration
    }
}

/// The run, if it still waits for the attempt: what came of another in the same turn may have stopped it.
fn waiting_for<'a>(runs: &'a mut ByRun<Driven>, work: &Work) -> Option<&'a mut Driven> {
    let driven = runs.get_mut(&work.run_id)?;
    driven.run.waits_for_attempt(work.step_run, work.attempt).then_some(driven)
}
