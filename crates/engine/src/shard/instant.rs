//! Attempts that are over before another thread would have heard of them.
//!
//! To hand an attempt to a worker and be told of its end costs more than many a Rust task. One that is known to end at
//! once is carried out by the shard, after its start is durable, as any other is. Whether it does is known by experience:
//! of the step, and for as long as there is none, of other steps with the same task.

use std::sync::Arc;
use std::time::{Duration, Instant};

use taskiq_flow_broker::{Broker, TaskRegistry};
use taskiq_flow_core::run::Work;

use super::{Attempts, LONGEST, MOST_ATTEMPTS, Shard};
use crate::failpoint;

/// Which Rust tasks a shard calls itself.
#[derive(Clone)]
pub(super) struct AtOnce {
    tasks: TaskRegistry,
    /// Those that usually take no longer.
    limit: Duration,
}

impl AtOnce {
    /// None: attempts may leave the process, or all are the workers'.
    pub(super) fn of(broker: &dyn Broker, limit: Duration) -> Option<Self> {
        let takes_any = broker.stays_here() && !limit.is_zero();
        takes_any.then(|| Self { tasks: broker.registry().clone(), limit })
    }

    pub(super) fn takes(&self, work: &Work) -> bool {
        let body = &work.plan_body;
        let Some(name) = body.callee() else { return false };
        let is_instant = || {
            let of_step = body.pace().is_within(self.limit, self.tasks.edition());
            of_step.or_else(|| self.tasks.is_within(name, self.limit)).unwrap_or(false)
        };
        work.chunk.is_none()
            && work.fold.is_none()
            && work.timeout().is_none()
            && !body.takes_resources()
            && is_instant()
    }
}

impl Shard {
    /// Takes from the attempts what is to be carried out here.
    pub(super) fn instant_ones(&self, outgoing: &mut Attempts) -> Attempts {
        let Some(at_once) = &self.at_once else { return Attempts::new() };
        outgoing.extract_if(.., |work| at_once.takes(work)).take(MOST_ATTEMPTS).collect()
    }

    /// Carries out attempts, and tells this shard what they have come to. Gives back those that workers had better do:
    /// others have taken longer than they were thought to, or there is no room for an attempt now.
    pub(super) fn carry_out_here(&mut self, attempts: Attempts) -> Attempts {
        if attempts.is_empty() {
            return attempts;
        }
        let held = Arc::clone(&self.held);
        let _hold = held.hold(self.place);
        let begun = Instant::now();
        let (mut until, mut room) = (begun, None);
        let mut attempts = attempts.into_iter();
        while attempts.len() > 0 && until.duration_since(begun) <= LONGEST {
            let Some(free) = room.take().or_else(|| self.workshop.room()) else { break };
            let Some(work) = attempts.next() else { break };
            let attempted = self.worker.attempt_here(&self.workshop, work, free);
            failpoint::pass("instant-after-call");
            self.again.extend(attempted.message);
            (room, until) = (attempted.room, attempted.until);
        }
        attempts.collect()
    }
}
