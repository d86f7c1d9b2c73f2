//! Attempts under way in this process, so that they can be stopped.

use std::collections::HashMap;
use std::hash::BuildHasherDefault;
use std::sync::Arc;

use parking_lot::Mutex;
use taskiq_flow_core::by_run::{RunHasher, part_of};
use taskiq_flow_core::id::RunId;
use tokio_util::sync::CancellationToken;

/// Which attempt: run, step run, attempt.
pub(crate) type AttemptKey = (RunId, u32, u32);

/// The attempts that were dispatched and have not reported, in as many parts as there are shards: the shard of a run
/// shares its part with the workers that carry out that run's attempts, and with nobody else.
#[derive(Debug, Clone)]
pub(crate) struct Inflight(Arc<[Mutex<Part>]>);

type Part = HashMap<AttemptKey, Attempt, BuildHasherDefault<RunHasher>>;

#[derive(Debug)]
enum Attempt {
    /// Nobody would notice if it were to stop: it waits for a worker, or ends before anybody could.
    Dispatched,
    /// It is to stop and has not noticed.
    Stopped,
    /// It watches whether it is to stop.
    Watching(CancellationToken),
}

impl Inflight {
    /// None under way, in so many parts.
    pub(crate) fn new(parts: usize) -> Self {
        Self((0..parts.max(1)).map(|_| Mutex::default()).collect())
    }

    /// Notes attempts of one run that are dispatched.
    pub(crate) fn enter(&self, run_id: RunId, attempts: impl IntoIterator<Item = (u32, u32)>) {
        let mut part = self.part(run_id).lock();
        part.extend(
            attempts
                .into_iter()
                .map(|(step_run, attempt)| ((run_id, step_run, attempt), Attempt::Dispatched)),
        );
    }

    /// Notes an attempt that has begun, if it is not known yet.
    pub(crate) fn hold(&self, key: AttemptKey) {
        self.part(key.0).lock().entry(key).or_insert(Attempt::Dispatched);
    }

    /// Whether an attempt was stopped before it began.
    pub(crate) fn is_stopped(&self, key: &AttemptKey) -> bool {
        matches!(self.part(key.0).lock().get(key), Some(Attempt::Stopped))
    }

    /// The token that is cancelled when the attempt is to stop; it may be so already.
    pub(crate) fn watch(&self, key: AttemptKey) -> CancellationToken {
        let mut part = self.part(key.0).lock();
        let attempt = part.entry(key).or_insert(Attempt::Dispatched);
        if let Attempt::Watching(token) = attempt {
            return token.clone();
        }
        let token = CancellationToken::new();
        if matches!(attempt, Attempt::Stopped) {
            token.cancel();
        }
        *attempt = Attempt::Watching(token.clone());
        token
    }

    /// Stops an attempt, whether or not a worker has it already.
    pub(crate) fn cancel(&self, key: &AttemptKey) {
        if let Some(attempt) = self.part(key.0).lock().get_mut(key) {
            attempt.stop();
        }
    }

    /// Stops every attempt of a run.
    pub(crate) fn cancel_run(&self, run_id: RunId) {
        let mut part = self.part(run_id).lock();
        part.iter_mut().filter(|(key, _)| key.0 == run_id).for_each(|(_, attempt)| attempt.stop());
    }

    /// Stops every attempt of a run that another process drives now. Nobody here knows it any more, so that it is not taken
    /// for one that was to be stopped for good.
    pub(crate) fn lose_run(&self, run_id: RunId) {
        lose(&mut self.part(run_id).lock(), |key| key.0 == run_id);
    }

    /// As [`Self::lose_run`], of all runs of one shard.
    pub(crate) fn lose_shard(&self, shard: usize) {
        if let Some(part) = self.0.get(shard) {
            lose(&mut part.lock(), |_| true);
        }
    }

    /// As [`Self::lose_run`], of all runs.
    pub(crate) fn lose_all(&self) {
        self.0.iter().for_each(|part| lose(&mut part.lock(), |_| true));
    }

    /// Whether an attempt was stopped because its run is another process's now.
    pub(crate) fn is_lost(&self, key: &AttemptKey) -> bool {
        !self.part(key.0).lock().contains_key(key)
    }

    /// Forgets an attempt that has reported.
    pub(crate) fn leave(&self, key: &AttemptKey) {
        self.part(key.0).lock().remove(key);
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.0.iter().map(|part| part.lock().len()).sum()
    }

    fn part(&self, run_id: RunId) -> &Mutex<Part> {
        &self.0[part_of(run_id, self.0.len())]
    }
}

/// Those that nobody has begun stay known as stopped, or somebody would begin them.
fn lose(part: &mut Part, is_meant: impl Fn(&AttemptKey) -> bool) {
    part.retain(|key, attempt| {
        let meant = is_meant(key);
        if meant {
            attempt.stop();
        }
        !meant || matches!(attempt, Attempt::Stopped)
    });
}

impl Attempt {
    fn stop(&mut self) {
        match self {
            Self::Watching(token) => token.cancel(),
            Self::Dispatched | Self::Stopped => *self = Self::Stopped,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attempt_learns_that_it_is_to_stop_whenever_it_looks() {
        let inflight = Inflight::new(2);
        let (run, other) = (RunId::new(), RunId::new());
        inflight.enter(run, [(0, 1), (1, 1), (2, 1)]);
        inflight.enter(other, [(0, 1)]);
        let before = inflight.watch((run, 0, 1));
        inflight.cancel(&(run, 0, 1));
        inflight.cancel(&(run, 1, 1));
        assert!(before.is_cancelled(), "who watched is told");
        assert!(inflight.is_stopped(&(run, 1, 1)) && inflight.watch((run, 1, 1)).is_cancelled());
        assert!(!inflight.is_stopped(&(run, 2, 1)) && !inflight.watch((run, 2, 1)).is_cancelled());
        inflight.cancel_run(run);
        assert!(inflight.watch((run, 2, 1)).is_cancelled());
        assert!(!inflight.watch((other, 0, 1)).is_cancelled());
        assert!(!inflight.is_lost(&(run, 2, 1)));
        let watched = inflight.watch((other, 0, 1));
        inflight.enter(other, [(1, 1)]);
        inflight.lose_run(other);
        assert!(watched.is_cancelled() && inflight.is_lost(&(other, 0, 1)));
        assert!(inflight.is_stopped(&(other, 1, 1)), "nobody is to begin it");
        inflight.leave(&(other, 1, 1));
        inflight.enter(other, [(0, 2)]);
        let third = (0..).map(|_| RunId::new()).find(|id| part_of(*id, 2) != part_of(other, 2)).unwrap();
        inflight.enter(third, [(0, 1)]);
        inflight.lose_shard(part_of(third, 2));
        assert!(inflight.is_stopped(&(third, 0, 1)) && !inflight.is_stopped(&(other, 0, 2)));
        inflight.leave(&(third, 0, 1));
        // One that has reported is not remembered, and stopping it is nothing.
        [0, 1, 2].iter().for_each(|step_run| inflight.leave(&(run, *step_run, 1)));
        inflight.cancel(&(run, 0, 1));
        assert_eq!(inflight.len(), 1);
    }
}
