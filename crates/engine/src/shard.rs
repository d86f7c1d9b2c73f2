//! The drivers of runs. Each run belongs to one shard, which alone steps its state machine.
//!
//! A shard takes what has come in, lets the runs decide, writes all that they decided in one go, and only then
//! lets the world see it: watchers are told, work is dispatched, callers are answered. While the store does not
//! answer, nothing goes on and nothing is forgotten.

mod commit;
mod turn;

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures_util::StreamExt;
use serde_json::Value;
use taskiq_flow_broker::Broker;
use taskiq_flow_core::id::RunId;
use taskiq_flow_core::plan::Plan;
use taskiq_flow_core::run::{Input, Outcome, Run, RunView};
use taskiq_flow_store::{Fence, RunRecord, Store, Trigger};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::time::DelayQueue;
use tokio_util::time::delay_queue::Key;
use uuid::Uuid;

use crate::clock::Clock;
use crate::engine::{Inner, Submitted};
use crate::error::{ControlError, SubmitError};
use crate::hub::EventHub;
use crate::inflight::Inflight;

/// Messages that may wait for a shard.
const INBOX: usize = 16_384;
/// Messages that a shard takes at once.
const BATCH: usize = 512;

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

    /// Lets attempts under way report for at most `limit`, and starts nothing new.
    pub(crate) async fn drain(&self, limit: Duration, idle: impl Fn() -> bool) {
        self.draining.store(true, Ordering::Release);
        self.flush().await;
        let deadline = tokio::time::Instant::now() + limit;
        while !idle() && tokio::time::Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        self.flush().await;
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
    let room = inner.options.max_concurrent_runs.div_ceil(inboxes.len()).max(1);
    let queue = inner.options.max_queued_runs.div_ceil(inboxes.len()).max(1);
    for inbox in inboxes {
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
            room,
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
    timers: Vec<Key>,
    waiters: Vec<oneshot::Sender<()>>,
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
                        alarms.push(expired.into_inner());
                    }
                    () = self.stop.cancelled() => return,
                }
            }
            self.turn(&mut batch, &mut alarms).await;
        }
    }
}
