//! What is sent to the shards, and how.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::Value;
use taskiq_flow_core::by_run::{in_part, part_of};
use taskiq_flow_core::id::RunId;
use taskiq_flow_core::plan::Plan;
use taskiq_flow_core::run::{Failure, Input, ItemFilter, ItemPage, Outcome, Run, RunView, Work};
use taskiq_flow_store::{Fence, Firing, RunRecord};
use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

use crate::admission::{Candidate, Limit, Place};
use crate::cache::Looked;
use crate::catalog::Registered;
use crate::error::{ControlError, SubmitError};
use crate::exec::Execution;
use crate::held::Held;
use crate::homes::Homes;
use crate::open::OpenRun;
use crate::shard::Keyed;
use crate::submission::Submitted;

/// Messages that may wait for a shard.
const INBOX: usize = 16_384;
/// Messages that wait for a shard from which on new runs are given to any.
const CROWDED: usize = 256;
/// How long the last writes of a shutdown may take at least.
const MIN_FLUSH: Duration = Duration::from_millis(500);

/// What came of controlling a run; none when the shard does not have it.
pub(crate) type Controlled = Option<Result<(), ControlError>>;

/// A run as it is shown; none when the shard does not have it, or not any more.
pub(crate) type Shown = Option<Box<RunView>>;

/// Who is told of the end of a run.
pub(crate) type Waiter = oneshot::Sender<Shown>;

/// What is sent to the shard of a run.
#[derive(Debug)]
pub(crate) enum Message {
    /// A new run.
    Submit(Box<NewRun>),
    /// A run that another process, or this one before a crash, was driving.
    Adopt(Box<Adopted>),
    /// Somebody controls a run.
    Control { run_id: RunId, input: Input, action: &'static str, reply: oneshot::Sender<Controlled> },
    /// A worker has taken up an attempt that has a time limit.
    Began { run_id: RunId, step_run: u32, attempt: u32 },
    /// What was found of the kept values that steps of these runs, all of this shard, look for.
    Looked(Vec<Looked>),
    /// The keys are known under which step runs of this shard have their values kept.
    Keyed(Vec<Keyed>),
    /// An attempt has ended.
    Finished(Finished),
    /// An attempt that carried out several items has ended.
    ChunkFinished { run_id: RunId, ended: Vec<Finished> },
    /// Show the run when it has ended. The answer is none when the shard does not have it, or not any more.
    Wait { run_id: RunId, reply: Waiter },
    /// Show the run. The answer is none when the shard does not have it.
    View { run_id: RunId, reply: oneshot::Sender<Shown> },
    /// Show the items of a step. The outer none: the shard does not have the run; the inner: the run has no such step.
    Items {
        run_id: RunId,
        step: String,
        filter: ItemFilter,
        reply: oneshot::Sender<Option<Option<ItemPage>>>,
    },
    /// Let go of all runs, and drive others as this owner from here on: what was held as another may be lost.
    Abandon { owner: Uuid, reply: oneshot::Sender<()> },
    /// Answer when all that came before is done; nothing new is started after this.
    Drain { reply: oneshot::Sender<()> },
}

/// What has one run at most, and is marked in the write of that run.
#[derive(Debug, Default)]
pub(crate) struct Occasion {
    /// The time of a schedule that starts it.
    pub(crate) firing: Option<Box<Firing>>,
    /// The dead letter, by run and step run, that it replays.
    pub(crate) replays: Option<(RunId, u32)>,
}

/// A new run.
#[derive(Debug)]
pub(crate) struct NewRun {
    pub(crate) record: RunRecord,
    pub(crate) occasion: Occasion,
    /// None: it is not counted.
    pub(crate) open: Option<OpenRun>,
    pub(crate) limits: Arc<[Limit]>,
    pub(crate) plan: Arc<Plan>,
    /// Who wants to be told how it ends.
    pub(crate) waiter: Option<Waiter>,
    pub(crate) reply: oneshot::Sender<Result<Submitted, SubmitError>>,
}

/// A run that was taken over.
#[derive(Debug)]
pub(crate) struct Adopted {
    pub(crate) run: Run,
    pub(crate) fence: Fence,
    pub(crate) reuse: Vec<(u32, Arc<Value>)>,
    pub(crate) candidate: Candidate,
    /// That of a run that had started.
    pub(crate) place: Option<Place>,
}

/// The end of an attempt.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) run_id: RunId,
    pub(crate) step_run: u32,
    pub(crate) attempt: u32,
    pub(crate) step: Arc<str>,
    pub(crate) outcome: Outcome,
    pub(crate) duration: Duration,
    pub(crate) log: Option<String>,
}

impl Message {
    /// An attempt that was not carried out has failed, with all that it has.
    pub(crate) fn of_failed(work: &Work, failure: &Failure) -> Self {
        let finished = |step_run, attempt, step: &Arc<str>| Finished {
            run_id: work.run_id,
            step_run,
            attempt,
            step: Arc::clone(step),
            outcome: Outcome::Failed(failure.clone()),
            duration: Duration::ZERO,
            log: None,
        };
        let first = finished(work.step_run, work.attempt, &work.step);
        let Some(chunk) = &work.chunk else { return Self::Finished(first) };
        let rest = chunk.items.iter().map(|item| finished(item.step_run, item.attempt, &item.step));
        Self::ChunkFinished { run_id: work.run_id, ended: std::iter::once(first).chain(rest).collect() }
    }
}

impl Finished {
    /// The end of the attempt at hand.
    pub(crate) fn of(work: &Work, execution: Execution, duration: Duration) -> Self {
        let Execution { outcome, log } = execution;
        Self {
            run_id: work.run_id,
            step_run: work.step_run,
            attempt: work.attempt,
            step: Arc::clone(&work.step),
            outcome,
            duration,
            log,
        }
    }
}

/// The inboxes of all shards.
#[derive(Debug)]
pub(crate) struct Shards {
    senders: Vec<mpsc::Sender<Message>>,
    pub(crate) homes: Arc<Homes>,
    pub(crate) held: Arc<Held>,
    owner: Mutex<Uuid>,
    draining: AtomicBool,
}

impl Shards {
    pub(crate) fn new(count: usize) -> (Self, Vec<mpsc::Receiver<Message>>) {
        let (senders, receivers) = (0..count).map(|_| mpsc::channel(INBOX)).unzip();
        let (homes, held) = (Arc::new(Homes::new(count)), Arc::new(Held::new(count)));
        let owner = Mutex::new(Uuid::now_v7());
        (Self { senders, homes, held, owner, draining: AtomicBool::new(false) }, receivers)
    }

    /// Who this process is to the store.
    pub(crate) fn owner(&self) -> Uuid {
        *self.owner.lock()
    }

    /// Has every shard let go of its runs, and go on as this owner. Returns when they have.
    pub(crate) async fn abandon(&self, owner: Uuid) {
        *self.owner.lock() = owner;
        self.tell_all(|reply| Message::Abandon { owner, reply }).await;
    }

    /// The first shard that has ended.
    pub(crate) fn lost(&self) -> Option<usize> {
        self.senders.iter().position(mpsc::Sender::is_closed)
    }

    /// The id of a new run, which the shard drives that is near, unless too much waits for it.
    pub(crate) fn new_run(&self) -> RunId {
        let has_room = |shard: usize| {
            let sender = &self.senders[shard];
            !sender.is_closed() && sender.max_capacity() - sender.capacity() < CROWDED
        };
        let id = RunId::new();
        let is_gone = |shard: usize| self.senders[shard].is_closed();
        // One that has failed drives nothing any more; the others go on.
        let any = || (0..self.senders.len()).find(|shard| !is_gone(*shard)).filter(|_| is_gone(self.of(id)));
        self.homes.near(has_room).or_else(any).map_or(id, |shard| in_part(id, shard, self.senders.len()))
    }

    /// The plan of a new run, as its shard has it.
    pub(crate) fn plan_for(&self, run_id: RunId, registered: &Registered) -> Arc<Plan> {
        registered.plan_for(self.of(run_id), self.senders.len())
    }

    /// Which shard drives a run.
    pub(crate) fn of(&self, run_id: RunId) -> usize {
        part_of(run_id, self.senders.len())
    }

    /// Sends to the shard of a run. An error means that the engine is shutting down.
    pub(crate) async fn send(&self, run_id: RunId, message: Message) -> Result<(), ()> {
        if self.draining.load(Ordering::Acquire) && matches!(message, Message::Submit(_)) {
            return Err(());
        }
        let shard = &self.senders[self.of(run_id)];
        shard.send(message).await.map_err(|_| ())
    }

    /// Lets attempts under way report for at most `limit`, and starts nothing new. A shard that the store keeps
    /// waiting is given up after as long again: what it has not written is decided anew after the next start.
    pub(crate) async fn drain(&self, limit: Duration, idle: impl Fn() -> bool) {
        self.draining.store(true, Ordering::Release);
        let draining = async {
            self.flush().await;
            while !idle() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        // Whatever has not ended by then is cut off.
        let _ = tokio::time::timeout(limit, draining).await;
        if tokio::time::timeout(limit.max(MIN_FLUSH), self.flush()).await.is_err() {
            tracing::error!(
                "the store did not take the last writes; what they said is decided anew after the next start"
            );
        }
    }

    async fn flush(&self) {
        self.tell_all(|reply| Message::Drain { reply }).await;
    }

    /// Returns when each shard has answered.
    async fn tell_all(&self, message: impl Fn(oneshot::Sender<()>) -> Message) {
        for sender in &self.senders {
            let (reply, done) = oneshot::channel();
            if sender.send(message(reply)).await.is_ok() {
                // The only error is that the shard has ended, which is as good.
                let _ = done.await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shard_that_has_ended_is_known() {
        let (shards, mut inboxes) = Shards::new(2);
        assert_eq!(shards.lost(), None);
        drop(inboxes.pop());
        assert_eq!(shards.lost(), Some(1));
        shards.homes.note(1, 0);
        assert!((0..100).all(|_| shards.of(shards.new_run()) == 0), "what it would drive goes to another");
    }
}
