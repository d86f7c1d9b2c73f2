//! Kept values in the turns of the shard: they are looked for, made, and told to whoever waits for them.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use taskiq_flow_core::id::RunId;
use taskiq_flow_core::run::{Event, Fact, Input, Work};
use taskiq_flow_store::CacheEntry;

use super::turn::Turn;
use super::{Driven, Shard};
use crate::cache::{Digest, Found, Looked, StepRun, Wanted, length_of};
use crate::handle::Inner;
use crate::inbox::Message;

/// Values that are looked for before those of them that were found are told.
const TOLD_AT_ONCE: usize = 64;

impl Shard {
    /// Somebody wants a kept value.
    pub(super) fn want(&mut self, run_id: RunId, work: Box<Work>) {
        self.missed.remove(&(run_id, work.step_run));
        if self.draining {
            return;
        }
        let known = self.runs.get(&run_id).and_then(|driven| driven.digests.get(&work.step_run).copied());
        match known {
            Some(digest) => self.ask(&work, digest),
            None => self.ask_key(run_id, work),
        }
    }

    /// Looks for what was wanted in this turn.
    pub(super) fn look(&mut self) {
        if self.wanted.is_empty() {
            return;
        }
        let Some(inner) = self.engine.upgrade() else { return };
        let (wanted, engine) = (std::mem::take(&mut self.wanted), Weak::clone(&self.engine));
        let (store, now) = (Arc::clone(&self.store), self.clock.now());
        inner.tasks.spawn(async move {
            let mut answers = Vec::new();
            for wanted in wanted {
                let Wanted { who, digest, .. } = &wanted;
                let found = wanted.look(store.as_ref(), now).await;
                let Some(inner) = engine.upgrade() else { return };
                match found {
                    None => answers.push(Looked { who: *who, found: Found::Nothing }),
                    Some(value) => {
                        let others = inner.flights.settle(digest, *who).into_iter().chain([*who]);
                        let kept = |who| Looked { who, found: Found::Kept(Arc::clone(&value)) };
                        answers.extend(others.map(kept));
                    }
                }
                if answers.len() >= TOLD_AT_ONCE {
                    tell(&inner, std::mem::take(&mut answers)).await;
                }
            }
            if let Some(inner) = engine.upgrade() {
                tell(&inner, answers).await;
            }
        });
    }

    /// What was looked for was found, or not.
    pub(super) fn looked(&mut self, looked: Vec<Looked>, turn: &mut Turn) {
        for Looked { who, found } in looked {
            let (run_id, step_run) = who;
            // Whoever forgot the run has handed on what it was to make.
            let Some(driven) = self.runs.get_mut(&run_id) else { continue };
            let plan = Arc::clone(driven.run.plan());
            let input = match found.clone() {
                Found::Kept(value) | Found::Made(value) => Input::Cached { step_run, value },
                Found::Nothing => Input::Missed { step_run },
            };
            self.missed.insert(who);
            turn.tell(driven, input, self.clock.now());
            self.counters_of(&plan.pipeline().id).looked(&found);
        }
    }

    /// A step run is carried out: if its value is to be kept, under its key. Gives back what is to be handed out; none: that
    /// waits for its key, after a crash, or where no kept value would do.
    pub(super) fn make(&mut self, run_id: RunId, work: Box<Work>) -> Option<Box<Work>> {
        if work.plan_body.cache().is_none() {
            return Some(work);
        }
        let who = (run_id, work.step_run);
        self.missed.remove(&who);
        let driven = self.runs.get(&run_id);
        match driven.and_then(|driven| driven.digests.get(&work.step_run).copied()) {
            Some(digest) => {
                self.flights.lead(digest, who);
                Some(work)
            }
            None => {
                self.ask_key(run_id, work);
                None
            }
        }
    }

    /// What is durable is told to those who wait for it.
    pub(super) fn tell_followers(&mut self, run_id: RunId, events: &[Event]) {
        let Some(driven) = self.runs.get_mut(&run_id).filter(|driven| !driven.digests.is_empty()) else {
            return;
        };
        let mut answers = Vec::new();
        for event in events {
            let Some(step_run) = event.fact.step().map(|step| step.step_run) else { continue };
            let Some(digest) = driven.digests.get(&step_run).copied() else { continue };
            let (who, mut ended) = ((run_id, step_run), true);
            match &event.fact {
                Fact::StepComplete { cached: true, .. } => {}
                Fact::StepComplete { result, .. } => {
                    let made = |who| Looked { who, found: Found::Made(Arc::clone(result)) };
                    answers.extend(self.flights.settle(&digest, who).into_iter().map(made));
                }
                // Nobody waits for the attempts of another: each makes its own.
                Fact::StepError { will_retry, .. } => {
                    ended = !will_retry;
                    answers.extend(self.flights.settle(&digest, who).into_iter().map(nothing));
                }
                Fact::StepCancel { .. } | Fact::StepSkip { .. } => {
                    answers.extend(self.flights.leave(&digest, who).map(nothing));
                }
                _ => ended = false,
            }
            if ended {
                driven.digests.remove(&step_run);
            }
        }
        self.answer_followers(answers);
    }

    /// Those who were told to make a value and do not: their run is paused, or their step is over. The next one makes it.
    pub(super) fn hand_on(&mut self) {
        if self.missed.is_empty() {
            return;
        }
        let mut answers = Vec::new();
        for who in std::mem::take(&mut self.missed) {
            let driven = self.runs.get(&who.0);
            if let Some(digest) = driven.and_then(|driven| driven.digests.get(&who.1)) {
                answers.extend(self.flights.leave(digest, who).map(nothing));
            }
        }
        self.answer_followers(answers);
    }

    /// A run is let go of, with all that it makes or waits for.
    pub(super) fn leave_flights(&self, run_id: RunId, digests: HashMap<u32, Digest>) {
        let left =
            digests.iter().filter_map(|(step_run, digest)| self.flights.leave(digest, (run_id, *step_run)));
        self.answer_followers(left.map(nothing).collect());
    }

    fn answer_followers(&self, answers: Vec<Looked>) {
        if answers.is_empty() {
            return;
        }
        if let Some(inner) = self.engine.upgrade() {
            let engine = Weak::clone(&self.engine);
            inner.tasks.spawn(async move {
                if let Some(inner) = engine.upgrade() {
                    tell(&inner, answers).await;
                }
            });
        }
    }
}

/// The values that are to be kept of what a run has decided. None of them outlives the runs: `longest` is how long those
/// are kept.
pub(super) fn kept(driven: &Driven, events: &[Event], longest: Option<Duration>) -> Vec<CacheEntry> {
    if driven.digests.is_empty() {
        return Vec::new();
    }
    let plan = driven.run.plan();
    let entry = |event: &Event| {
        let Fact::StepComplete { step, result, cached: false, .. } = &event.fact else { return None };
        let digest = driven.digests.get(&step.step_run)?;
        let bytes = length_of(result)? as u64;
        let ttl = plan.steps().get(step.step_index as usize)?.task.cache.as_ref()?.ttl;
        Some(CacheEntry {
            key: digest.as_bytes().to_vec(),
            pipeline_id: plan.pipeline().id.clone(),
            task: Arc::clone(&step.task_name),
            value: Arc::clone(result),
            bytes,
            created_at: event.timestamp,
            expires_at: ttl.into_iter().chain(longest).min().map(|good| event.timestamp.plus(good)),
        })
    };
    events.iter().filter_map(entry).collect()
}

fn nothing(who: StepRun) -> Looked {
    Looked { who, found: Found::Nothing }
}

/// Tells each shard what concerns its runs. The only error is that the engine is shutting down: what was wanted is wanted
/// again after the next start.
async fn tell(inner: &Inner, answers: Vec<Looked>) {
    let mut by_shard: HashMap<usize, Vec<Looked>> = HashMap::new();
    for looked in answers {
        by_shard.entry(inner.shards.of(looked.who.0)).or_default().push(looked);
    }
    for looked in by_shard.into_values() {
        if let Some((run_id, _)) = looked.first().map(|looked| looked.who) {
            let _ = inner.shards.send(run_id, Message::Looked(looked)).await;
        }
    }
}
