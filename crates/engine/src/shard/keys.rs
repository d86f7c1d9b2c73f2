//! Under which keys kept values are found: told by a task beside the shard.
//!
//! What a value depends on may be an expression over all the inputs, and the inputs may be large. For a map with many items
//! that takes minutes, which the other runs of the shard are not to wait for. So the shard hands out what it wants to
//! know, and goes on with a step run when its key comes back.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Weak};
use std::time::Instant;

use taskiq_flow_core::id::RunId;
use taskiq_flow_core::plan::Plan;
use taskiq_flow_core::run::{Failure, Input, Work};

use super::turn::Turn;
use super::{LONGEST, Shard};
use crate::cache::{Digest, Parts, Wanted};
use crate::exec::panicked;
use crate::inbox::Message;

/// The most keys that are told at once.
const MOST: usize = 64;

/// A step run whose key is wanted.
pub(super) struct Unkeyed {
    /// What is to be looked for, as attempt 0, or carried out.
    work: Box<Work>,
    plan: Arc<Plan>,
    /// Those of its run, as long as that is driven.
    parts: Weak<Parts>,
}

/// What has come of it.
#[derive(Debug)]
pub(crate) struct Keyed {
    work: Box<Work>,
    /// None: its run is not driven any more.
    digest: Result<Option<Digest>, Failure>,
}

impl Unkeyed {
    fn keyed(self) -> Keyed {
        let Self { work, plan, parts } = self;
        let tell = || {
            let Some(parts) = parts.upgrade() else { return Ok(None) };
            let key = work.cache_key()?;
            Ok(Some(Digest::of(&plan, &work, key.as_ref(), &parts)))
        };
        let digest = catch_unwind(AssertUnwindSafe(tell)).unwrap_or_else(|_| Err(panicked()));
        Keyed { work, digest }
    }
}

impl Shard {
    /// Wants to know the key of a step run.
    pub(super) fn ask_key(&mut self, run_id: RunId, work: Box<Work>) {
        let Some(driven) = self.runs.get(&run_id) else { return };
        let (plan, parts) = (Arc::clone(driven.run.plan()), Arc::downgrade(&driven.parts));
        self.unkeyed.push(Unkeyed { work, plan, parts });
    }

    /// Hands out what was wanted in this turn.
    pub(super) fn find_keys(&mut self) {
        if self.unkeyed.is_empty() {
            return;
        }
        let Some(inner) = self.engine.upgrade() else { return };
        let (unkeyed, engine) = (std::mem::take(&mut self.unkeyed), Weak::clone(&self.engine));
        let (stop, tasks) = (self.stop.clone(), inner.tasks.clone());
        tasks.spawn(async move {
            let (mut known, mut begun) = (Vec::new(), Instant::now());
            let mut left = unkeyed.into_iter().peekable();
            while let Some(next) = left.next() {
                let run_id = next.work.run_id;
                known.push(next.keyed());
                if left.peek().is_some() && known.len() < MOST && begun.elapsed() < LONGEST {
                    continue;
                }
                // An engine that is shutting down wants nothing any more; what was wanted is wanted again at the next start.
                let Some(inner) = engine.upgrade() else { return };
                let told = inner.shards.send(run_id, Message::Keyed(std::mem::take(&mut known))).await;
                drop(inner);
                if told.is_err() || stop.is_cancelled() {
                    return;
                }
                tokio::task::yield_now().await;
                begun = Instant::now();
            }
        });
    }

    /// Keys are known: what is kept under them is looked for, and what was to be carried out is.
    pub(super) fn keyed(&mut self, keyed: Vec<Keyed>, turn: &mut Turn) {
        for Keyed { work, digest } in keyed {
            let (run_id, step_run) = (work.run_id, work.step_run);
            let driven = self.runs.get_mut(&run_id);
            if work.attempt > 0 {
                let gone = driven.is_none() || self.inflight.is_stopped(&(run_id, step_run, work.attempt));
                if gone || self.draining {
                    self.inflight.leave(&(run_id, step_run, work.attempt));
                    continue;
                }
                if let (Some(driven), Ok(Some(digest))) = (driven, digest) {
                    driven.digests.insert(step_run, digest);
                    self.flights.lead(digest, (run_id, step_run));
                }
                self.hand_out(work);
                continue;
            }
            let Some(driven) = driven.filter(|driven| driven.run.looks_for(step_run)) else { continue };
            match digest {
                Ok(Some(digest)) => {
                    driven.digests.insert(step_run, digest);
                    self.ask(&work, digest);
                }
                Ok(None) => {}
                Err(failure) => turn.tell(driven, Input::NoKey { step_run, failure }, self.clock.now()),
            }
        }
    }

    /// Has a kept value looked for, unless somebody makes it already.
    pub(super) fn ask(&mut self, work: &Work, digest: Digest) {
        let who = (work.run_id, work.step_run);
        if !self.draining && self.flights.ask(digest, who) {
            self.wanted.push(Wanted {
                who,
                digest,
                pipeline_id: work.pipeline_id.clone(),
                task: work.task().name.as_str().into(),
                ttl: work.plan_body.cache().and_then(|cache| cache.ttl),
            });
        }
    }
}
