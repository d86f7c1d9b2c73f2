//! Expressions within the turn of the shard.
//!
//! An expression does nothing but come to a value, so that its start and its end can be made durable together, and
//! nothing is lost when it is evaluated again after a crash. A chain of them is one write, and no thread is changed.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use taskiq_flow_core::definition::TaskKind;
use taskiq_flow_core::run::{Command, Input, Outcome};

use super::Shard;
use super::turn::Turn;
use crate::exec::{evaluated, panicked};

/// Expressions of one turn; further ones wait for the next, so that the runs of the shard have their turns too.
const MOST: usize = 256;
/// No further one is begun in a turn that has evaluated for so long. One alone takes some tens of milliseconds at most:
/// [`FUEL`](taskiq_flow_core::expr::FUEL) bounds it, and those that are known to take long are given to workers.
const LONGEST: Duration = Duration::from_millis(1);

/// Whether it asks for an expression that the shard evaluates itself.
pub(super) fn is_evaluated_here(command: &Command) -> bool {
    matches!(command, Command::Dispatch(work)
        if matches!(work.body().kind, TaskKind::Expression(_))
            && work.resources().is_empty()
            && work.plan_body.cache().is_none()
            && work.chunk.is_none()
            && work.fold.is_none()
            && work.plan_body.is_quick().unwrap_or(true))
}

impl Shard {
    /// Evaluates what is there, and what that leads to, as far as the turn lasts. The rest is left to the next turn.
    pub(super) fn evaluate(&mut self, turn: &mut Turn) {
        if turn.unevaluated.is_empty() {
            return;
        }
        let begun = Instant::now();
        // Events have milliseconds: there is no need to look at the clock more often.
        let (mut looked, mut now) = (begun, self.clock.now());
        for _ in 0..MOST {
            let Some(work) = turn.unevaluated.pop_front() else { return };
            // Its run may have ended since.
            let Some(driven) = self.runs.get_mut(&work.run_id) else { continue };
            let TaskKind::Expression(expr) = &work.body().kind else { continue };
            let started = Instant::now();
            let outcome = catch_unwind(AssertUnwindSafe(|| evaluated(expr, &work.inputs)));
            let outcome = outcome.unwrap_or_else(|_| Outcome::Failed(panicked()));
            let ended = Instant::now();
            let duration = ended.duration_since(started);
            if ended.duration_since(looked) >= Duration::from_millis(1) {
                (looked, now) = (ended, self.clock.now());
            }
            self.took.record(&work.body().kind, &outcome, duration);
            work.plan_body.note_duration(duration);
            let (step_run, attempt) = (work.step_run, work.attempt);
            let input = Input::Finished { step_run, attempt, outcome, duration };
            let effects = driven.handle(input, now);
            turn.note(work.run_id, driven, effects);
            if ended.duration_since(begun) > LONGEST {
                break;
            }
        }
        self.unevaluated = std::mem::take(&mut turn.unevaluated);
    }
}
