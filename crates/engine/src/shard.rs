//! The drivers of runs. Each run belongs to one shard, which alone steps its state machine.
//!
//! A shard takes what has come in, lets the runs decide, writes all that they decided in one go, and only then
//! lets the world see it: watchers are told, work is dispatched, callers are answered. While the store does not
//! answer, nothing goes on and nothing is forgotten. Where nothing outlives the process, new runs are written by themselves
//! before their tasks are called.

mod cached;
mod commit;
mod evaluate;
mod gather;
mod give_up;
mod instant;
mod keys;
mod turn;

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use futures_util::{FutureExt, StreamExt};
use serde_json::Value;
use taskiq_flow_broker::Broker;
use taskiq_flow_core::by_run::ByRun;
use taskiq_flow_core::id::{PipelineId, RunId};
use taskiq_flow_core::run::{Run, Work};
use taskiq_flow_store::{Fence, Store};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::time::DelayQueue;
use tokio_util::time::delay_queue::{Expired, Key};
use uuid::Uuid;

use crate::admission::{Admission, Place};
use crate::cache::{Digest, Flights, Parts, StepRun, Wanted};
use crate::clock::Clock;
use crate::handle::Inner;
use crate::held::Held;
use crate::homes::Homes;
use crate::hub::EventHub;
use crate::inbox::{Message, Waiter};
use crate::inflight::Inflight;
use crate::measure::{AttemptDurations, RunCounters};
use crate::open::{OpenRun, OpenRuns};
use crate::pruning::Pruning;
use crate::webhooks::Outbox;
use crate::worker::{Worker, Workshop};

/// Messages, or timers, that a shard takes at once.
const BATCH: usize = 512;

/// Attempts that a shard carries out in one turn; further ones wait for the next, so that all of its runs have their turns, or
/// are the workers', who may be idle.
const MOST_ATTEMPTS: usize = 256;
/// What may take long is not gone on with in a turn, or by a shard that has few runs, once it has taken so long: others want the thread.
/// It may have had it for a commit, which waits for the disk, as it is.
const LONGEST: Duration = Duration::from_millis(1);
/// A shard with no more runs has few.
const FEW: usize = 4;

/// Pipelines whose counters a shard keeps at hand.
const COUNTED: usize = 1024;

pub(crate) use self::commit::NEWER;
use self::gather::{Gathering, let_others_go_first};
use self::instant::AtOnce;
pub(crate) use self::keys::Keyed;
use self::keys::Unkeyed;

/// Starts the shards.
pub(crate) fn spawn(inner: &Arc<Inner>, workshop: &Workshop, inboxes: Vec<mpsc::Receiver<Message>>) {
    for (place, inbox) in inboxes.into_iter().enumerate() {
        let shard = Shard {
            engine: Arc::downgrade(inner),
            store: Arc::clone(&inner.store),
            broker: Arc::clone(&inner.broker),
            worker: Worker::of(inner),
            workshop: Arc::new(workshop.clone()),
            at_once: AtOnce::of(inner.broker.as_ref(), inner.options.instant),
            clock: Arc::clone(&inner.clock),
            hub: inner.hub.clone(),
            outbox: Arc::clone(&inner.outbox),
            inflight: inner.inflight.clone(),
            open: inner.open.clone(),
            admission: inner.admission.clone(),
            stop: inner.stop.clone(),
            owner: inner.shards.owner(),
            inbox,
            place,
            homes: Arc::clone(&inner.shards.homes),
            held: Arc::clone(&inner.shards.held),
            runs: ByRun::default(),
            counters: HashMap::new(),
            starting: VecDeque::new(),
            timers: DelayQueue::new(),
            outgoing: Vec::new(),
            unevaluated: VecDeque::new(),
            took: Arc::clone(&inner.took),
            pruning: Arc::clone(&inner.pruning),
            flights: inner.flights.clone(),
            retention: inner.options.retention,
            unkeyed: Vec::new(),
            wanted: Vec::new(),
            missed: HashSet::new(),
            again: Vec::new(),
            gathering: Gathering::default(),
            went_on: Instant::now(),
            draining: false,
        };
        inner.tasks.spawn(shard.run());
    }
}

/// Attempts that are to be carried out.
type Attempts = Vec<Box<Work>>;

/// One driver of runs.
struct Shard {
    engine: Weak<Inner>,
    store: Arc<dyn Store>,
    broker: Arc<dyn Broker>,
    worker: Worker,
    workshop: Arc<Workshop>,
    /// Which Rust tasks it calls itself; none: none.
    at_once: Option<AtOnce>,
    clock: Arc<dyn Clock>,
    hub: EventHub,
    outbox: Arc<Outbox>,
    inflight: Inflight,
    open: OpenRuns,
    admission: Admission,
    stop: CancellationToken,
    owner: Uuid,
    inbox: mpsc::Receiver<Message>,
    /// Which of the shards this is.
    place: usize,
    homes: Arc<Homes>,
    held: Arc<Held>,
    runs: ByRun<Driven>,
    /// Runs that have their place and have not started.
    starting: VecDeque<RunId>,
    timers: DelayQueue<(RunId, Alarm)>,
    counters: HashMap<PipelineId, Arc<RunCounters>>,
    /// Attempts that are handed to the broker when all that was decided with them is durable.
    outgoing: Attempts,
    /// Expressions that this shard is to evaluate and has not come to. That their steps have started is durable.
    unevaluated: VecDeque<Box<Work>>,
    took: Arc<AttemptDurations>,
    pruning: Arc<Pruning>,
    flights: Flights,
    /// How long runs are kept after their end.
    retention: Option<Duration>,
    /// Step runs whose keys are to be found after this turn.
    unkeyed: Vec<Unkeyed>,
    /// Kept values that are to be looked for after this turn.
    wanted: Vec<Wanted>,
    /// Step runs that were told in this turn what was found, and have not gone on yet.
    missed: HashSet<StepRun>,
    /// What the shard has to tell itself.
    again: Vec<Message>,
    gathering: Gathering,
    /// Since when others have not had the thread.
    went_on: Instant,
    draining: bool,
}

/// A run and what its driver needs to know of it.
struct Driven {
    run: Run,
    fence: Fence,
    reuse: Vec<(u32, Arc<Value>)>,
    /// Under which keys the values are kept of steps that look for theirs, or make them.
    digests: HashMap<u32, Digest>,
    /// What many of those keys have in common.
    parts: Arc<Parts>,
    /// Its place among the runs under way, or in line; none: it is not to be carried out.
    place: Option<Place>,
    /// That it is counted among the unfinished runs of its pipeline.
    _open: Option<OpenRun>,
    /// Its timers that have not rung. The key of one that has is given to another run's.
    timers: HashSet<Key>,
    waiters: Vec<Waiter>,
    /// Where its decisions of a turn are, once it has made one.
    decided_at: usize,
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
            if !batch.is_empty() || !self.unevaluated.is_empty() {
                // Goes on at once, takes along what has come meanwhile, and lets others have the thread first.
                self.let_go().await;
                if self.stop.is_cancelled() {
                    return;
                }
                self.take_what_is_there(&mut batch);
                self.rung_by_now(&mut alarms);
            } else {
                tokio::select! {
                    count = self.inbox.recv_many(&mut batch, BATCH) => {
                        if count == 0 {
                            return;
                        }
                        if self.gathering.is_worth_it() {
                            let_others_go_first().await;
                            self.take_what_is_there(&mut batch);
                            self.gathering.learn(count, batch.len());
                        }
                    }
                    Some(expired) = self.timers.next(), if !self.timers.is_empty() => {
                        alarms.push(Rung::from(expired));
                        self.rung_by_now(&mut alarms);
                    }
                    () = self.admission.wait(self.place) => {}
                    () = self.stop.cancelled() => return,
                }
                self.went_on = Instant::now();
            }
            self.turn(&mut batch, &mut alarms).await;
        }
    }

    /// Lets others have the thread, where there may be any or it has not been theirs for a while. Where nobody wants it the
    /// thread looks for work everywhere and has another one woken to do the same, which takes longer than many a turn.
    async fn let_go(&mut self) {
        if self.runs.len() > FEW || self.went_on.elapsed() >= LONGEST {
            tokio::task::yield_now().await;
            self.went_on = Instant::now();
        }
    }

    fn take_what_is_there(&mut self, batch: &mut Vec<Message>) {
        while batch.len() < BATCH
            && let Ok(message) = self.inbox.try_recv()
        {
            batch.push(message);
        }
    }

    /// Takes the timers whose time has come: one write serves them all.
    fn rung_by_now(&mut self, alarms: &mut Vec<Rung>) {
        while alarms.len() < BATCH
            && let Some(Some(expired)) = self.timers.next().now_or_never()
        {
            alarms.push(Rung::from(expired));
        }
    }
}

impl Drop for Shard {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // The other shards go on, with the places of its runs; `Engine::ready` tells that it is gone.
            tracing::error!(shard = self.place, runs = self.runs.len(), "a driver of runs has failed");
            return;
        }
        self.admission.close();
    }
}

impl From<Expired<(RunId, Alarm)>> for Rung {
    fn from(expired: Expired<(RunId, Alarm)>) -> Self {
        let key = expired.key();
        let (run_id, alarm) = expired.into_inner();
        Self { key, run_id, alarm }
    }
}
