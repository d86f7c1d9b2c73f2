//! The drivers of runs. Each run belongs to one shard, which alone steps its state machine.
//!
//! A shard takes what has come in, lets the runs decide, writes all that they decided in one go, and only then
//! lets the world see it: watchers are told, work is dispatched, callers are answered. While the store does not
//! answer, nothing goes on and nothing is forgotten.

mod commit;
mod turn;

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures_util::{FutureExt, StreamExt};
use serde_json::Value;
use taskiq_flow_broker::Broker;
use taskiq_flow_core::id::RunId;
use taskiq_flow_core::plan::Plan;
use taskiq_flow_core::run::{Input, Outcome, Run, RunView};
use taskiq_flow_store::{Fence, RunRecord, Store, Trigger};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::time::DelayQueue;
use tokio_util::time::delay_queue::{Expired, Key};
use uuid::Uuid;

use crate::clock::Clock;
use crate::engine::{Inner, Submitted};
use crate::error::{ControlError, SubmitError};
use crate::hub::EventHub;
use crate::inflight::Inflight;

/// Messages that may wait for a shard.
const INBOX: usize = 16_384;
/// Messages, or timers, that a shard takes at once.
const BATCH: usize = 512;
/// How long the last writes of a shutdown may take at least.
const MIN_FLUSH: Duration = Duration::from_millis(500);

/// What came of controlling a run; none when the shard does not have it.
pub(crate) type Controlled = Option<Result<(), ControlError>>;

/// What is sent to the shard of a run.
#[derive(Debug)]
pub(crate) enum Message {
    /// A new run.
    Submit(Box<NewRun>),
    /// A run that another process, or this one before a crash, was driving.
    Adopt(Box<Adopted>),
    /// Somebody controls a run.
    Control { run_id: RunId, input: Input, action: &'static str, reply: oneshot::Sender<Controlled> },
    /// An attempt has ended.
    Finished(Box<Finished>),
    /// Tell when the run has ended.
    Wait { run_id: RunId, reply: oneshot::Sender<()> },
    /// Show the run. The answer is none when the shard does not have it.
    View { run_id: RunId, reply: oneshot::Sender<Option<Box<RunView>>> },
    /// Answer when all that came before is done; nothing new is started after this.
    Drain { reply: oneshot::Sender<()> },
}

/// A new run.
#[derive(Debug)]
pub(crate) struct NewRun {
    pub(crate) record: RunRecord,
    pub(crate) plan: Arc<Plan>,
    pub(crate) reply: oneshot::Sender<Result<Submitted, SubmitError>>,
}

/// A run that was taken over.
#[derive(Debug)]
pub(crate) struct Adopted {
    pub(crate) run: Run,
    pub(crate) fence: Fence,
    pub(crate) reuse: Vec<(u32, Arc<Value>)>,
    pub(crate) trigger: Trigger,
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

/// The inboxes of all shards.
#[derive(Debug)]
pub(crate) struct Shards {
    senders: Vec<mpsc::Sender<Message>>,
    owner: Uuid,
    draining: AtomicBool,
}

impl Shards {
    pub(crate) fn new(count: usize) -> (Self, Vec<mpsc::Receiver<Message>>) {
        let (senders, receivers) = (0..count).map(|_| mpsc::channel(INBOX)).unzip();
        (Self { senders, owner: crate::query::new_owner(), draining: AtomicBool::new(false) }, receivers)
    }

    /// Who this process is to the store.
    pub(crate) fn owner(&self) -> Uuid {
        self.owner
    }

    /// Sends to the shard of a run. An error means that the engine is shutting down.
    pub(crate) async fn send(&self, run_id: RunId, message: Message) -> Result<(), ()> {
        if self.draining.load(Ordering::Acquire) && matches!(message, Message::Submit(_)) {
            return Err(());
        }
        // The last bytes of a UUID version 7 are random.
        let place = run_id.as_bytes()[8..]
            .iter()
            .fold(0_usize, |sum, byte| sum.wrapping_mul(31) + usize::from(*byte));
        self.senders[place % self.senders.len()].send(message).await.map_err(|_| ())
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
        for sender in &self.senders {
            let (reply, done) = oneshot::channel();
            if sender.send(Message::Drain { reply }).await.is_ok() {
                // The only error is that the shard has ended, which is as good.
                let _ = done.await;
            }
        }
    }
}

/// Starts the shards.
pub(crate) fn spawn(inner: &Arc<Inner>, inboxes: Vec<mpsc::Receiver<Message>>) {
    let shards = inboxes.len();
    let queue = inner.options.max_queued_runs.div_ceil(shards).max(1);
    for (place, inbox) in inboxes.into_iter().enumerate() {
        let shard = Shard {
            engine: Arc::downgrade(inner),
            store: Arc::clone(&inner.store),
            broker: Arc::clone(&inner.broker),
            clock: Arc::clone(&inner.clock),
            hub: inner.hub.clone(),
            inflight: inner.inflight.clone(),
            stop: inner.stop.clone(),
            owner: inner.shards.owner(),
            inbox,
            room: room_of(place, shards, inner.options.max_concurrent_runs.max(1)),
            max_queued: queue,
            runs: HashMap::new(),
            queue: VecDeque::new(),
            under_way: 0,
            timers: DelayQueue::new(),
            again: Vec::new(),
            draining: false,
        };
        inner.tasks.spawn(shard.run());
    }
}

/// One driver of runs.
struct Shard {
    engine: Weak<Inner>,
    store: Arc<dyn Store>,
    broker: Arc<dyn Broker>,
    clock: Arc<dyn Clock>,
    hub: EventHub,
    inflight: Inflight,
    stop: CancellationToken,
    owner: Uuid,
    inbox: mpsc::Receiver<Message>,
    /// Runs that may be under way at once.
    room: usize,
    max_queued: usize,
    runs: HashMap<RunId, Driven>,
    /// Runs that wait for room.
    queue: VecDeque<RunId>,
    /// Runs under way that take room.
    under_way: usize,
    timers: DelayQueue<(RunId, Alarm)>,
    /// What the shard has to tell itself.
    again: Vec<Message>,
    draining: bool,
}

/// A run and what its driver needs to know of it.
struct Driven {
    run: Run,
    fence: Fence,
    reuse: Vec<(u32, Arc<Value>)>,
    /// Whether a step of another run waits for it: it then takes no room.
    inner: bool,
    takes_room: bool,
    /// Its timers that have not rung. The key of one that has is given to another run's.
    timers: HashSet<Key>,
    waiters: Vec<oneshot::Sender<()>>,
}

/// A timer that has rung.
struct Rung {
    key: Key,
    run_id: RunId,
    alarm: Alarm,
}

/// What a timer is for.
#[derive(Debug, Clone, Copy)]
enum Alarm {
    Step { step_run: u32, attempt: u32 },
    Run,
}

impl Shard {
    async fn run(mut self) {
        let mut batch = Vec::with_capacity(BATCH);
        let mut alarms = Vec::new();
        loop {
            batch.append(&mut self.again);
            if batch.is_empty() {
                tokio::select! {
                    count = self.inbox.recv_many(&mut batch, BATCH) => {
                        if count == 0 {
                            return;
                        }
                    }
                    Some(expired) = self.timers.next(), if !self.timers.is_empty() => {
                        alarms.push(Rung::from(expired));
                        // Those whose time has come too are taken along: one write serves them all.
                        while alarms.len() < BATCH
                            && let Some(Some(expired)) = self.timers.next().now_or_never()
                        {
                            alarms.push(Rung::from(expired));
                        }
                    }
                    () = self.stop.cancelled() => return,
                }
            }
            self.turn(&mut batch, &mut alarms).await;
        }
    }
}

impl From<Expired<(RunId, Alarm)>> for Rung {
    fn from(expired: Expired<(RunId, Alarm)>) -> Self {
        let key = expired.key();
        let (run_id, alarm) = expired.into_inner();
        Self { key, run_id, alarm }
    }
}

/// The room of one shard: all together have `most`. There is a place for each shard, see [`shard_count`].
fn room_of(place: usize, shards: usize, most: usize) -> usize {
    most / shards + usize::from(place < most % shards)
}

/// How many shards there are to be: one without room would hold its runs up for ever.
pub(crate) fn shard_count(wanted: usize, max_concurrent_runs: usize) -> usize {
    wanted.min(max_concurrent_runs).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rooms_of_all_shards_are_what_was_asked_for() {
        for (wanted, most) in [(1, 1), (8, 1), (2, 3), (3, 8), (4, 1024), (5, 7)] {
            let shards = shard_count(wanted, most);
            let rooms: Vec<_> = (0..shards).map(|place| room_of(place, shards, most)).collect();
            assert_eq!(rooms.iter().sum::<usize>(), most, "{rooms:?}");
            assert!(rooms.iter().all(|room| *room > 0), "{rooms:?}");
        }
    }
}
