//! Carries out attempts.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use taskiq_flow_broker::{Broker, Delivery};
use taskiq_flow_core::pace::QUICK;
use taskiq_flow_core::run::{Failure, Outcome, Work};
use taskiq_flow_core::time::format_duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::exec::printed::{self, Printed};
use crate::exec::{Execution, Executors, UNKNOWN_TASK, panicked};
use crate::handle::Inner;
use crate::inbox::{Finished, Message, Shards};
use crate::inflight::{AttemptKey, Inflight};
use crate::measure::AttemptDurations;
use crate::resources::Machine;

/// Pause before a broker that failed is asked for work again.
const BROKER_PAUSE: Duration = Duration::from_secs(1);

/// What an attempt needs of the engine. It does not keep the engine alive: one that everybody has let go of stops.
#[derive(Debug, Clone)]
pub(crate) struct Worker {
    shards: Arc<Shards>,
    broker: Arc<dyn Broker>,
    pub(crate) inflight: Inflight,
    pub(crate) stop: CancellationToken,
    tasks: TaskTracker,
    took: Arc<AttemptDurations>,
}

/// What attempts share: room for so many, the machine, and who carries them out. Each loop and each shard has one of
/// its own, so that no two processors count who holds it.
#[derive(Debug, Clone)]
pub(crate) struct Workshop {
    room: Arc<Semaphore>,
    machine: Machine,
    executors: Arc<Executors>,
}

/// What a shard is told of an attempt that it has begun itself.
pub(crate) struct Attempted {
    /// None: it was stopped before, or goes on by itself.
    pub(crate) message: Option<Message>,
    /// None: it keeps the room.
    pub(crate) room: Option<OwnedSemaphorePermit>,
    /// Until when that took.
    pub(crate) until: Instant,
}

/// An attempt that has ended.
pub(crate) struct Ended {
    pub(crate) work: Box<Work>,
    pub(crate) execution: Execution,
    pub(crate) duration: Duration,
    /// The items that it carried out before the last one.
    pub(crate) before: Vec<Finished>,
}

impl Workshop {
    pub(crate) fn new(inner: &Arc<Inner>, executors: Executors) -> Self {
        Self {
            room: Arc::new(Semaphore::new(inner.options.max_concurrent_attempts.max(1))),
            machine: inner.machine.clone(),
            executors: Arc::new(executors.tracked_by(inner.tasks.clone())),
        }
    }

    /// Room for one attempt, if there is any now.
    pub(crate) fn room(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.room).try_acquire_owned().ok()
    }
}

/// Starts taking attempts from the broker: in as many loops as there are processors, each of which takes one attempt
/// at a time. What ends without waiting for anything ends there; what has to wait goes on as a task of its own.
pub(crate) fn spawn(inner: &Arc<Inner>, workshop: &Workshop) {
    let loops = std::thread::available_parallelism().map_or(1, usize::from);
    for _ in 0..loops {
        inner.tasks.spawn(Worker::of(inner).serve(Arc::new(workshop.clone())));
    }
}

impl Worker {
    pub(crate) fn of(inner: &Arc<Inner>) -> Self {
        Self {
            shards: Arc::clone(&inner.shards),
            broker: Arc::clone(&inner.broker),
            inflight: inner.inflight.clone(),
            stop: inner.stop.clone(),
            tasks: inner.tasks.clone(),
            took: Arc::clone(&inner.took),
        }
    }

    async fn serve(self, workshop: Arc<Workshop>) {
        let stop = self.stop.clone();
        let mut stopped = pin!(stop.cancelled());
        // The room of an attempt that has ended is that of the next one. While there is none, others have it.
        let mut free = None;
        loop {
            // Others are to have their turn too, however much there is to do.
            tokio::task::consume_budget().await;
            let delivery = match self.broker.try_receive() {
                Some(delivery) => Ok(delivery),
                None => {
                    free = None;
                    tokio::select! {
                        delivery = self.broker.receive() => delivery,
                        () = &mut stopped => return,
                    }
                }
            };
            let delivery = match delivery {
                Ok(delivery) => delivery,
                Err(error) => {
                    tracing::error!(%error, "no work can be had from the broker");
                    tokio::select! {
                        () = tokio::time::sleep(BROKER_PAUSE) => continue,
                        () = &mut stopped => return,
                    }
                }
            };
            let room = match free.take() {
                Some(room) => room,
                None => tokio::select! {
                    // The semaphore is never closed, so the only way out is the stop.
                    room = Arc::clone(&workshop.room).acquire_owned() => match room {
                        Ok(room) => room,
                        Err(_) => return,
                    },
                    () = &mut stopped => return,
                },
            };
            free = self.attempt(&workshop, delivery, room).await;
        }
    }

    /// Begins an attempt. Gives the room back if it has ended, or has to wait for the machine; else it goes on, and keeps
    /// the room until it ends.
    async fn attempt(
        &self,
        workshop: &Arc<Workshop>,
        delivery: Delivery,
        room: OwnedSemaphorePermit,
    ) -> Option<OwnedSemaphorePermit> {
        let Delivery { work, tag } = delivery;
        let key = (work.run_id, work.step_run, work.attempt);
        if self.inflight.is_stopped(&key) {
            self.leave(&key, Some(tag)).await;
            return Some(room);
        }
        if work.plan_body.takes_resources() {
            let (worker, workshop) = (self.clone(), Arc::clone(workshop));
            self.tasks.spawn(async move { worker.attempt_with_resources(workshop, work, tag).await });
            return Some(room);
        }
        if ends_at_once(&work, self.broker.registry().edition()) {
            let (ended, room) = self.try_at_once(workshop, work, Some(tag), room).0?;
            self.report(ended).await;
            self.leave(&key, Some(tag)).await;
            return Some(room);
        }
        let limited = work.timeout().is_some();
        self.go_on(key, Some(tag), limited, Box::pin(carry_out(Arc::clone(workshop), work)), room);
        None
    }

    /// Carries out an attempt that a shard has dispatched, which may be expected to end without waiting for anything.
    pub(crate) fn attempt_here(
        &self,
        workshop: &Arc<Workshop>,
        work: Box<Work>,
        room: OwnedSemaphorePermit,
    ) -> Attempted {
        let key = (work.run_id, work.step_run, work.attempt);
        if self.inflight.is_stopped(&key) {
            self.inflight.leave(&key);
            return Attempted { message: None, room: Some(room), until: Instant::now() };
        }
        let attempted = self.attempt_at_once(workshop, work, room);
        if attempted.message.is_some() {
            self.inflight.leave(&key);
        }
        attempted
    }

    /// As [`Self::attempt_here`], of an attempt that nobody could have stopped yet.
    pub(crate) fn attempt_at_once(
        &self,
        workshop: &Arc<Workshop>,
        work: Box<Work>,
        room: OwnedSemaphorePermit,
    ) -> Attempted {
        let (tried, until) = self.try_at_once(workshop, work, None, room);
        match tried {
            Some((ended, room)) => Attempted { message: Some(self.message(ended)), room: Some(room), until },
            None => Attempted { message: None, room: None, until },
        }
    }

    /// Carries out what may be expected to end without waiting for anything. None: it does wait, and goes on as a task of
    /// its own. Until when that took.
    fn try_at_once(
        &self,
        workshop: &Arc<Workshop>,
        mut work: Box<Work>,
        tag: Option<u64>,
        room: OwnedSemaphorePermit,
    ) -> (Option<(Ended, OwnedSemaphorePermit)>, Instant) {
        let key = (work.run_id, work.step_run, work.attempt);
        // Whom it is to wake is asked again when it goes on.
        let mut nobody = Context::from_waker(Waker::noop());
        let plan_body = Arc::clone(&work.plan_body);
        let Some(name) = plan_body.callee() else {
            let limited = work.timeout().is_some();
            let mut attempt = Box::pin(carry_out(Arc::clone(workshop), work));
            if let Poll::Ready(ended) = attempt.as_mut().poll(&mut nobody) {
                return (Some((ended, room)), Instant::now());
            }
            self.inflight.hold(key);
            self.go_on(key, tag, limited, attempt, room);
            return (None, Instant::now());
        };
        // A Rust task, most of which take less time than the future of any attempt would.
        let started = Instant::now();
        let polled = catch_unwind(AssertUnwindSafe(|| {
            let mut called = workshop.executors.call(name, &mut work)?;
            Ok(match called.as_mut().poll(&mut nobody) {
                Poll::Ready(result) => Ok(Execution::from(result)),
                Poll::Pending => Err(called),
            })
        }));
        let duration = started.elapsed();
        let until = started + duration;
        let execution = match polled {
            Ok(Ok(Ok(execution))) => execution,
            Ok(Err(failure)) => Execution::failed(failure),
            Err(_) => Execution::failed(panicked()),
            Ok(Ok(Err(called))) => {
                if duration > QUICK {
                    // Known at once: others like it are on their way to whoever has just been held up.
                    let registry = self.broker.registry();
                    plan_body.pace().note(duration, registry.edition());
                    registry.note(name, duration);
                }
                let attempt = async move {
                    // Its end is within, also that of what it has.
                    let execution = AssertUnwindSafe(async move { Execution::from(called.await) });
                    let execution =
                        execution.catch_unwind().await.unwrap_or_else(|_| Execution::failed(panicked()));
                    Ended { work, execution, duration: started.elapsed(), before: Vec::new() }
                };
                self.inflight.hold(key);
                self.go_on(key, tag, false, Box::pin(attempt), room);
                return (None, until);
            }
        };
        (Some((Ended { work, execution, duration, before: Vec::new() }, room)), until)
    }

    /// Has an attempt go on by itself until it ends.
    fn go_on(
        &self,
        key: AttemptKey,
        tag: Option<u64>,
        limited: bool,
        attempt: Pin<Box<impl Future<Output = Ended> + Send + 'static>>,
        room: OwnedSemaphorePermit,
    ) {
        let worker = self.clone();
        self.tasks.spawn(async move {
            if limited {
                worker.tell_begin(key).await;
            }
            let ended = worker.unless_stopped(&worker.inflight.watch(key), attempt).await;
            worker.end(key, tag, ended).await;
            drop(room);
        });
    }

    /// Carries out an attempt that takes something of the machine, when there is enough. It takes no room while it waits:
    /// else those that wait would keep out those that could go on.
    async fn attempt_with_resources(self, workshop: Arc<Workshop>, work: Box<Work>, tag: u64) {
        let key = (work.run_id, work.step_run, work.attempt);
        let token = self.inflight.watch(key);
        let limited = work.timeout().is_some();
        let attempt = async {
            let _taken = workshop.machine.take(work.resources()).await;
            // The semaphore is never closed.
            let _room = workshop.room.acquire().await;
            if limited {
                self.tell_begin(key).await;
            }
            carry_out(Arc::clone(&workshop), work).await
        };
        let ended = self.unless_stopped(&token, attempt).await;
        self.end(key, Some(tag), ended).await;
    }

    async fn unless_stopped(
        &self,
        token: &CancellationToken,
        attempt: impl Future<Output = Ended>,
    ) -> Option<Ended> {
        tokio::select! {
            biased;
            () = token.cancelled() => None,
            () = self.stop.cancelled() => None,
            ended = attempt => Some(ended),
        }
    }

    async fn end(&self, key: AttemptKey, tag: Option<u64>, ended: Option<Ended>) {
        if let Some(ended) = ended {
            self.report(ended).await;
        }
        self.leave(&key, tag).await;
    }

    /// From now on the time limit of the attempt counts.
    async fn tell_begin(&self, (run_id, step_run, attempt): AttemptKey) {
        let _ = self.shards.send(run_id, Message::Began { run_id, step_run, attempt }).await;
        // The shard, just woken, may stand in the slot that only this thread serves. A task that never lets go of the
        // thread would keep it there.
        tokio::task::yield_now().await;
    }

    /// Forgets an attempt, and ends its delivery if the broker had it.
    async fn leave(&self, key: &AttemptKey, tag: Option<u64>) {
        self.inflight.leave(key);
        let Some(tag) = tag else { return };
        if let Err(error) = self.broker.acknowledge(tag).await {
            tracing::warn!(%error, "a finished attempt could not be acknowledged; a second delivery of it is ignored");
        }
    }

    pub(crate) async fn report(&self, ended: Ended) {
        let run_id = ended.work.run_id;
        // Of an engine that has stopped the attempt is made again after the next start.
        let _ = self.shards.send(run_id, self.message(ended)).await;
    }

    /// What the shard is told of an attempt. How long it took is noted.
    fn message(&self, ended: Ended) -> Message {
        let Ended { work, execution, duration, mut before } = ended;
        let body = &work.plan_body;
        let took = |outcome: &Outcome, duration: Duration| {
            self.took.record(body, outcome, duration);
            match body.callee() {
                // It was not called.
                Some(_) if matches!(outcome, Outcome::Failed(failure) if failure.code_or_error() == UNKNOWN_TASK) =>
                    {}
                Some(name) => {
                    let registry = self.broker.registry();
                    if body.pace().note(duration, registry.edition()) {
                        registry.note(name, duration);
                    }
                }
                None => _ = body.pace().note(duration, 0),
            }
        };
        before.iter().for_each(|item| took(&item.outcome, item.duration));
        took(&execution.outcome, duration);
        let last = Finished::of(&work, execution, duration);
        if before.is_empty() && work.chunk.is_none() {
            return Message::Finished(last);
        }
        before.push(last);
        printed::fit(before.iter_mut().filter_map(|item| item.log.as_mut()));
        Message::ChunkFinished { run_id: work.run_id, ended: before }
    }
}

/// Whether an attempt may be expected to end without waiting for anything: an expression, unless it is known to take
/// long, and a Rust task of which it is known. Only then may the loop carry it out itself: a task that never lets go of
/// its thread would hold up the loop, and with it a shard that the loop has just woken.
fn ends_at_once(work: &Work, edition: u32) -> bool {
    if work.chunk.is_some() || work.fold.is_some() {
        return false;
    }
    let body = &work.plan_body;
    match body.callee() {
        Some(_) => work.timeout().is_none() && body.pace().is_quick(edition).unwrap_or(false),
        None => body.is_expression() && body.pace().is_quick(0).unwrap_or(true),
    }
}

/// Carries out an attempt, with all the items that it has.
async fn carry_out(workshop: Arc<Workshop>, mut work: Box<Work>) -> Ended {
    let executors = &*workshop.executors;
    let (mut execution, mut duration) = carry_out_one(executors, &mut work).await;
    let (mut before, mut printed) = (Vec::new(), Printed::default());
    while work.chunk.is_some() {
        let at_hand = (work.step_run, work.attempt, Arc::clone(&work.step));
        let failure = match &execution.outcome {
            Outcome::Completed(_) => None,
            Outcome::Failed(failure) => Some(failure),
        };
        if !work.next_item(failure) {
            break;
        }
        let (step_run, attempt, step) = at_hand;
        let Execution { outcome, log } = execution;
        let full = printed.note(log.as_ref());
        before.push(Finished { run_id: work.run_id, step_run, attempt, step, outcome, duration, log });
        if full {
            printed::fit(before.iter_mut().filter_map(|item| item.log.as_mut()));
        }
        (execution, duration) = carry_out_one(executors, &mut work).await;
        // Items that wait for nothing are not to keep others from their turn.
        tokio::task::consume_budget().await;
    }
    Ended { work, execution, duration, before }
}

/// Carries out one item, bounds it in time, and turns a panic into a failure.
async fn carry_out_one(executors: &Executors, work: &mut Work) -> (Execution, Duration) {
    let started = Instant::now();
    let limit = work.timeout();
    let execution = AssertUnwindSafe(executors.execute(work)).catch_unwind();
    let execution = match limit {
        None => Ok(execution.await),
        Some(limit) => tokio::time::timeout(limit, execution).await.map_err(|_| limit),
    };
    let execution = match execution {
        Ok(Ok(execution)) => execution,
        Ok(Err(_)) => Execution::failed(panicked()),
        Err(limit) => Execution::failed(too_long(limit)),
    };
    (execution, started.elapsed())
}

pub(crate) fn too_long(limit: Duration) -> Failure {
    Failure::timeout(format!("took longer than {}", format_duration(limit)))
}
