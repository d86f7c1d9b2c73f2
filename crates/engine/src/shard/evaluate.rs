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
use super::{Driven, LONGEST, MOST_ATTEMPTS, Shard};
use crate::clock::Clock;
use crate::exec::{evaluated, panicked};
use crate::inbox::Message;

/// After how long the clock is looked at again: events have milliseconds, and a turn may last for one.
const OFTEN: Duration = Duration::from_micros(250);

/// Whether it asks for what the shard carries out within its turn: an expression, or a Rust task that `at_once` takes.
pub(super) fn is_evaluated_here(command: &Command, at_once: Option<&AtOnce>) -> bool {
    let Command::Dispatch(work) = command else { return false };
    let body = &work.plan_body;
    if body.takes_resources() || body.cache().is_some() || work.chunk.is_some() || work.fold.is_some() {
        return false;
    }
    match body.callee() {
        Some(_) => at_once.is_some_and(|at_once| at_once.takes(work)),
        None => body.is_expression() && body.pace().is_quick(0).unwrap_or(true),
    }
}

/// What time it is, and when that was looked up.
struct Now {
    looked_at: Instant,
    time: Timestamp,
}

impl Shard {
    /// Carries out what is there, and what that leads to, as far as the turn lasts. The rest is left to the next turn.
    pub(super) fn evaluate(&mut self, turn: &mut Turn) {
        if turn.unevaluated.is_empty() {
            return;
        }
        let begun = Instant::now();
        let mut now = Now { looked_at: begun, time: self.clock.now() };
        let held = Arc::clone(&self.held);
        let (mut hold, mut room) = (None, None);
        for _ in 0..MOST_ATTEMPTS {
            let Some(work) = turn.unevaluated.pop_front() else { return };
            if turn.broken.iter().any(|(broken, _)| *broken == work.run_id) {
                continue;
            }
            let plan_body = Arc::clone(&work.plan_body);
            let until = if plan_body.callee().is_none() {
                match &plan_body.body().kind {
                    TaskKind::Expression(expr) => self.evaluate_one(&work, expr, &mut now, turn),
                    _ => self.give_away(work, turn),
                }
            } else if turn.draining {
                // Left for the next start.
                None
            } else {
                // An expression is bounded in itself; a task may hold up the shard.
                hold.get_or_insert_with(|| held.hold(self.place));
                self.attempt_one(work, &mut room, &mut now, turn)
            };
            // One alone takes some tens of milliseconds at most: [`FUEL`](taskiq_flow_core::expr::FUEL) bounds it, and those
            // that are known to take long are given to workers.
            if until.is_some_and(|until| until.duration_since(begun) > LONGEST) {
                break;
            }
        }
        self.unevaluated = std::mem::take(&mut turn.unevaluated);
    }

    /// Until when that took.
    fn evaluate_one(&mut self, work: &Work, expr: &Expr, now: &mut Now, turn: &mut Turn) -> Option<Instant> {
        let driven = waiting_for(&mut self.runs, work)?;
        let started = Instant::now();
        let outcome = catch_unwind(AssertUnwindSafe(|| evaluated(expr, &work.inputs)));
        let outcome = outcome.unwrap_or_else(|_| Outcome::Failed(panicked()));
        let until = Instant::now();
        let duration = until.duration_since(started);
        self.took.record(&work.plan_body, &outcome, duration);
        work.plan_body.pace().note(duration, 0);
        let (step_run, attempt) = (work.step_run, work.attempt);
        let input = Input::Finished { step_run, attempt, outcome, duration };
        turn.tell(driven, input, now.at(until, self.clock.as_ref()));
        Some(until)
    }

    /// Until when that took.
    fn attempt_one(
        &mut self,
        work: Box<Work>,
        room: &mut Option<OwnedSemaphorePermit>,
        now: &mut Now,
        turn: &mut Turn,
    ) -> Option<Instant> {
        waiting_for(&mut self.runs, &work)?;
        // Others like it may have taken long since it was put in line.
        let is_instant = turn.at_once.as_ref().is_some_and(|at_once| at_once.takes(&work));
        let free = if is_instant { room.take().or_else(|| self.workshop.room()) } else { None };
        let Some(free) = free else { return self.give_away(work, turn) };
        let attempted = self.worker.attempt_at_once(&self.workshop, work, free);
        *room = attempted.room;
        if let Some(Message::Finished(finished)) = attempted.message {
            let now = now.at(attempted.until, self.clock.as_ref());
            self.finished(finished, now, turn);
        }
        Some(attempted.until)
    }

    /// Leaves an attempt to the workers.
    fn give_away(&mut self, work: Box<Work>, turn: &mut Turn) -> Option<Instant> {
        let driven = self.runs.get_mut(&work.run_id)?;
        turn.of(work.run_id, driven).effects.commands.push(Command::Dispatch(work));
        None
    }
}

impl Now {
    fn at(&mut self, until: Instant, clock: &dyn Clock) -> Timestamp {
        if until.duration_since(self.looked_at) >= OFTEN {
            *self = Self { looked_at: until, time: clock.now() };
        }
        self.time
    }
}

/// The run, if it still waits for the attempt: what came of another in the same turn may have stopped it.
fn waiting_for<'a>(runs: &'a mut ByRun<Driven>, work: &Work) -> Option<&'a mut Driven> {
    let driven = runs.get_mut(&work.run_id)?;
    driven.run.waits_for_attempt(work.step_run, work.attempt).then_some(driven)
}
