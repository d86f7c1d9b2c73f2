//! Which runs may be under way: the room of the whole engine, and the limits of each pipeline.
//!
//! Whoever finds no room waits in one place only, under the first limit that was full, ordered by rank; a run that
//! leaves frees its places and hands each to the best that waits for it. Nothing polls, and nothing is stored: after a
//! crash the runs that had started take their places again, so that none can leak.

mod state;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use serde_json::{Map, Value};
use taskiq_flow_core::definition::{FieldError, OnFull, Priority};
use taskiq_flow_core::expr::Inputs;
use taskiq_flow_core::id::{PipelineId, RunId};
use taskiq_flow_core::plan::Plan;
use taskiq_flow_core::time::Timestamp;
use taskiq_flow_store::Trigger;
use tokio::sync::Notify;

use state::State;

/// What one step of priority is worth, in milliseconds of waiting. A run that has waited that much longer goes before
/// one of the next higher priority, so that nothing waits for ever.
const AGING_MS: i64 = 30_000;

/// The longest value of a key, in bytes: it is kept as long as a run waits, and shown.
const MAX_KEY: usize = 256;

/// The places of all runs under way. Clones share them.
#[derive(Debug, Clone)]
pub(crate) struct Admission(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    gates: Vec<Gate>,
}

/// Through which a shard learns that runs of its own may start.
#[derive(Debug, Default)]
struct Gate {
    admitted: Mutex<VecDeque<RunId>>,
    /// Whether there are any, without the lock.
    any: AtomicBool,
    wake: Notify,
}

/// One limit on runs under way, as one run meets it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Limit {
    pub(crate) key: LimitKey,
    pub(crate) most: u32,
    pub(crate) on_full: OnFull,
}

/// Runs of the same key share a limit.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct LimitKey {
    pub(crate) pipeline: PipelineId,
    /// The place of the limit in the pipeline's `concurrency:`.
    pub(crate) place: usize,
    /// What its key expression came to; empty where there is none.
    pub(crate) value: Arc<str>,
}

/// A run that wants to be under way.
#[derive(Debug, Clone)]
pub(crate) struct Candidate {
    pub(crate) run_id: RunId,
    pub(crate) pipeline: PipelineId,
    pub(crate) rank: Rank,
    pub(crate) limits: Arc<[Limit]>,
    /// Whether it takes a place in the engine's room. A run that a step of another waits for takes none: else the two
    /// could wait for each other.
    pub(crate) takes_room: bool,
    /// The shard that drives it.
    pub(crate) shard: usize,
}

/// Who goes first: the lower, then the older.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Rank(i64);

/// What a candidate is told.
#[derive(Debug)]
pub(crate) enum Answer {
    /// It may start now.
    Start(Place),
    /// It waits; [`Admission::admitted`] names it when it may start.
    Wait(Place),
    /// Its pipeline says that a run that finds no room is not to be.
    Skip(String),
    /// As many as may wait already, of all pipelines or of its own.
    Busy,
}

/// The place of a run, under way or in line. Dropped, it is free.
#[derive(Debug)]
pub(crate) struct Place {
    admission: Admission,
    run_id: RunId,
    limits: Arc<[Limit]>,
    takes_room: bool,
}

impl Rank {
    /// That of a run of this priority which was asked for at that time.
    pub(crate) fn of(priority: Priority, created_at: Timestamp) -> Self {
        Self(created_at.as_millis().saturating_sub(i64::from(priority.get()) * AGING_MS))
    }

    /// That of a run that a step of another waits for: before all others of its time.
    pub(crate) fn inner(created_at: Timestamp) -> Self {
        Self(created_at.as_millis().saturating_sub(i64::from(Priority::MAX.get() + 1) * AGING_MS))
    }
}

impl Candidate {
    /// A run that was asked for at that time, as urgent as was said, or else as its pipeline is.
    pub(crate) fn new(
        run_id: RunId,
        plan: &Plan,
        trigger: &Trigger,
        priority: Option<Priority>,
        created_at: Timestamp,
        limits: Arc<[Limit]>,
        shard: usize,
    ) -> Self {
        let inner = matches!(trigger, Trigger::Step { .. });
        let priority = priority.unwrap_or(plan.pipeline().priority);
        let rank = if inner { Rank::inner(created_at) } else { Rank::of(priority, created_at) };
        let pipeline = plan.pipeline().id.clone();
        Self { run_id, pipeline, rank, limits, takes_room: !inner, shard }
    }
}

impl Admission {
    /// Room for `room` runs at once, and `queue` that wait for it, of which each pipeline has a share. Nothing starts
    /// before [`Admission::open`].
    pub(crate) fn new(shards: usize, room: usize, queue: usize) -> Self {
        let gates = std::iter::repeat_with(Gate::default).take(shards).collect();
        Self(Arc::new(Shared { state: Mutex::new(State::new(room, queue)), gates }))
    }

    /// Lets the first ones in: those that were under way before a restart have taken their places again.
    pub(crate) fn open(&self) {
        let admitted = self.0.state.lock().open();
        self.0.announce(admitted);
    }

    /// Lets nobody in any more. The places that a stopping engine drops are not free: their runs go on after the next
    /// start.
    pub(crate) fn close(&self) {
        self.0.state.lock().close();
    }

    /// Asks for a place.
    pub(crate) fn ask(&self, candidate: Candidate) -> Answer {
        let mut state = self.0.state.lock();
        if let Some(full) = state.skips(&candidate) {
            return Answer::Skip(full.describe());
        }
        // One that is refused holds nothing: a place of it would free what it never had.
        match state.enter(&candidate) {
            Ok(true) => Answer::Start(Place::of(self, &candidate)),
            Ok(false) => Answer::Wait(Place::of(self, &candidate)),
            Err(()) => Answer::Busy,
        }
    }

    /// Asks for a place for a run that was accepted before a restart: it may wait, and is not refused.
    pub(crate) fn ask_again(&self, candidate: &Candidate) -> (Place, bool) {
        let mut state = self.0.state.lock();
        let starts = state.enter_accepted(candidate);
        (Place::of(self, candidate), starts)
    }

    /// Gives a run that is under way already its place, whether or not there is room.
    pub(crate) fn resume(&self, candidate: &Candidate) -> Place {
        self.0.state.lock().take(candidate);
        Place::of(self, candidate)
    }

    /// The runs of a shard that have waited and may start now, in their order.
    pub(crate) fn admitted(&self, shard: usize) -> VecDeque<RunId> {
        let gate = &self.0.gates[shard];
        if !gate.any.swap(false, Ordering::AcqRel) {
            return VecDeque::new();
        }
        std::mem::take(&mut *gate.admitted.lock())
    }

    /// Waits until [`Admission::admitted`] has something for the shard.
    pub(crate) async fn wait(&self, shard: usize) {
        self.0.gates[shard].wake.notified().await;
    }

    /// The older runs that make way for this one, each named once in its life. They are to be cancelled now.
    pub(crate) fn superseded(&self, run_id: RunId, limits: &[Limit]) -> Vec<RunId> {
        self.0.state.lock().superseded(run_id, limits)
    }

    /// What a run waits for, for people; none: it does not wait.
    pub(crate) fn waits_for(&self, run_id: RunId) -> Option<String> {
        self.0.state.lock().waits_for(run_id)
    }
}

impl Shared {
    fn announce(&self, admitted: Vec<(usize, RunId)>) {
        for (shard, run_id) in admitted {
            let gate = &self.gates[shard];
            gate.admitted.lock().push_back(run_id);
            gate.any.store(true, Ordering::Release);
            gate.wake.notify_one();
        }
    }
}

impl Limit {
    /// The limits that a run with these parameters meets.
    ///
    /// # Errors
    /// When a key has no value for them; the field is the place of the limit.
    pub(crate) fn of(plan: &Plan, parameters: &Map<String, Value>) -> Result<Arc<[Self]>, FieldError> {
        let pipeline = plan.pipeline();
        let limits = pipeline.concurrency.iter().enumerate().map(|(place, limit)| {
            let value = match &limit.key {
                None => Arc::from(""),
                Some(expr) => {
                    let wrong =
                        |message: String| FieldError { field: format!("concurrency.{place}.key"), message };
                    let given = |name: &String| {
                        let value = parameters.get(name).cloned().unwrap_or_default();
                        (Arc::from(name.as_str()), Arc::new(value))
                    };
                    let inputs: Inputs = expr.names().iter().map(given).collect();
                    let value = expr.evaluate(&inputs).map_err(|error| wrong(error.to_string()))?;
                    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                    if text.len() > MAX_KEY {
                        return Err(wrong(format!("its value is longer than {MAX_KEY} bytes")));
                    }
                    Arc::from(text)
                }
            };
            let key = LimitKey { pipeline: pipeline.id.clone(), place, value };
            Ok(Self { key, most: limit.max.get(), on_full: limit.on_full })
        });
        limits.collect()
    }

    fn describe(&self) -> String {
        let LimitKey { pipeline, value, .. } = &self.key;
        let most = self.most;
        let runs = if most == 1 { "1 run".to_owned() } else { format!("{most} runs") };
        if value.is_empty() {
            format!("pipeline `{pipeline}` has at most {runs} at once")
        } else {
            format!("pipeline `{pipeline}` has at most {runs} at once for the key `{value}`")
        }
    }
}

impl Place {
    fn of(admission: &Admission, candidate: &Candidate) -> Self {
        Self {
            admission: admission.clone(),
            run_id: candidate.run_id,
            limits: Arc::clone(&candidate.limits),
            takes_room: candidate.takes_room,
        }
    }

    /// As [`Admission::superseded`], of this one.
    pub(crate) fn supersede(&self) -> Vec<RunId> {
        if self.limits.iter().all(|limit| limit.on_full != OnFull::CancelOldest) {
            return Vec::new();
        }
        self.admission.superseded(self.run_id, &self.limits)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let shared = &self.admission.0;
        let admitted = shared.state.lock().leave(self.run_id, &self.limits, self.takes_room);
        shared.announce(admitted);
    }
}
