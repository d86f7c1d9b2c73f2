//! Carries out attempts.

use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::{Arc, Weak};
use std::task::Poll;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use taskiq_flow_broker::{Broker, Delivery};
use taskiq_flow_core::definition::TaskKind;
use taskiq_flow_core::id::{PipelineId, RunId};
use taskiq_flow_core::run::{Failure, Outcome, RunStatus, Work};
use taskiq_flow_core::time::format_duration;
use taskiq_flow_store::Trigger;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::ending::Ending;
use crate::error::{ControlError, SubmitError};
use crate::exec::printed::{self, Printed};
use crate::exec::{Execution, Executors, panicked};
use crate::failpoint;
use crate::handle::{Engine, Inner};
use crate::inbox::{Finished, Message, Shards};
use crate::inflight::{AttemptKey, Inflight};
use crate::measure::AttemptDurations;
use crate::resources::Machine;
use crate::submission::{Submission, Submitted};

/// Pause before a broker that failed is asked for work again.
const BROKER_PAUSE: Duration = Duration::from_secs(1);
/// Pause before a store that did not answer is asked again for an inner run.
const STORE_PAUSE: Duration = Duration::from_millis(250);
/// What is said of an inner run whose outer one was stopped; nobody hears it.
const STOPPED: &str = "stopped";

/// What an attempt needs of the engine. It does not keep the engine alive: one that everybody has let go of stops.
#[derive(Debug, Clone)]
struct Worker {
    engine: Weak<Inner>,
    shards: Arc<Shards>,
    broker: Arc<dyn Broker>,
    inflight: Inflight,
    stop: CancellationToken,
    tasks: TaskTracker,
    took: Arc<AttemptDurations>,
}

/// What attempts share: room for so many, the machine, and who carries them out. Each loop has one of its own, so that
/// no two processors count who holds it.
#[derive(Debug, Clone)]
struct Workshop {
    room: Arc<Semaphore>,
    machine: Machine,
    executors: Arc<Executors>,
}

/// An attempt that has ended.
struct Ended {
    work: Box<Work>,
    execution: Execution,
    duration: Duration,
    /// The items that it carried out before the last one.
    before: Vec<Finished>,
}

/// Starts taking attempts from the broker: in as many loops as there are processors, each of which takes one attempt
/// at a time. What ends without waiting for anything ends there; what has to wait goes on as a task of its own.
pub(crate) fn spawn(inner: &Arc<Inner>, executors: Executors) {
    let workshop = Workshop {
        room: Arc::new(Semaphore::new(inner.options.max_concurrent_attempts.max(1))),
        machine: inner.machine.clone(),
        executors: Arc::new(executors.tracked_by(inner.tasks.clone())),
    };
    let loops = std::thread::available_parallelism().map_or(1, usize::from);
    for _ in 0..loops {
        inner.tasks.spawn(Worker::of(inner).serve(Arc::new(workshop.clone())));
    }
}

impl Worker {
    fn of(inner: &Arc<Inner>) -> Self {
        Self {
            engine: Arc::downgrade(inner),
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
            self.leave(&key, tag).await;
            return Some(room);
        }
        if !work.resources().is_empty() {
            let (worker, workshop) = (self.clone(), Arc::clone(workshop));
            self.tasks.spawn(async move { worker.attempt_with_resources(workshop, work, tag).await });
            return Some(room);
        }
        let (at_once, limited) = (ends_at_once(&work), work.timeout().is_some());
        let mut attempt = Box::pin(carry_out(Arc::clone(workshop), work));
        if at_once
            && let Poll::Ready(ended) =
                std::future::poll_fn(|cx| Poll::Ready(attempt.as_mut().poll(cx))).await
        {
            self.report(ended).await;
            self.leave(&key, tag).await;
            return Some(room);
        }
        let worker = self.clone();
        self.tasks.spawn(async move {
            if limited {
                worker.tell_begin(key).await;
            }
            let ended = worker.unless_stopped(&worker.inflight.watch(key), attempt).await;
            worker.end(key, tag, ended).await;
            drop(room);
        });
        None
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
        self.end(key, tag, ended).await;
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

    async fn end(&self, key: AttemptKey, tag: u64, ended: Option<Ended>) {
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

    async fn leave(&self, key: &AttemptKey, tag: u64) {
        self.inflight.leave(key);
        if let Err(error) = self.broker.acknowledge(tag).await {
            tracing::warn!(%error, "a finished attempt could not be acknowledged; a second delivery of it is ignored");
        }
    }

    async fn report(&self, ended: Ended) {
        let Ended { work, execution, duration, mut before } = ended;
        let run_id = work.run_id;
        let kind = &work.body().kind;
        let took = |outcome: &Outcome, duration: Duration| {
            self.took.record(kind, outcome, duration);
            work.plan_body.note_duration(duration);
        };
        before.iter().for_each(|item| took(&item.outcome, item.duration));
        took(&execution.outcome, duration);
        let last = Finished::of(&work, execution, duration);
        let message = match before.is_empty() && work.chunk.is_none() {
            true => Message::Finished(last),
            false => {
                before.push(last);
                printed::fit(before.iter_mut().filter_map(|item| item.log.as_mut()));
                Message::ChunkFinished { run_id, ended: before }
            }
        };
        // Of an engine that has stopped the attempt is made again after the next start.
        let _ = self.shards.send(run_id, message).await;
    }
}

/// Whether an attempt may be expected to end without waiting for anything: an expression, unless it is known to take
/// long, and a Rust task of which it is known. Only then may the loop carry it out itself: a task that never lets go of
/// its thread would hold up the loop, and with it a shard that the loop has just woken.
fn ends_at_once(work: &Work) -> bool {
    if work.chunk.is_some() || work.fold.is_some() {
        return false;
    }
    match &work.body().kind {
        TaskKind::Expression(_) => work.plan_body.is_quick().unwrap_or(true),
        TaskKind::Task(_) => work.timeout().is_none() && work.plan_body.is_quick().unwrap_or(false),
        _ => false,
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

/// Carries out a step that is a run of another pipeline. It waits beside the workers, not in one of them: else
/// runs could wait for each other.
pub(crate) fn spawn_inner_run(engine: &Weak<Inner>, work: Box<Work>) {
    let Some(inner) = engine.upgrade() else { return };
    let worker = Worker::of(&inner);
    let key = (work.run_id, work.step_run, work.attempt);
    let token = inner.inflight.watch(key);
    inner.tasks.spawn(async move {
        let started = Instant::now();
        let execution = tokio::select! {
            biased;
            () = worker.stop.cancelled() => None,
            execution = inner_run(&worker.engine, &work, &token) => execution,
        };
        if let Some(execution) = execution {
            let (duration, before) = (started.elapsed(), Vec::new());
            worker.report(Ended { work, execution, duration, before }).await;
        }
        worker.inflight.leave(&key);
    });
}

/// None: the engine stops, or has lost the run; the step is taken up again by whoever drives it next.
async fn inner_run(engine: &Weak<Inner>, work: &Work, token: &CancellationToken) -> Option<Execution> {
    let TaskKind::Pipeline(pipeline_id) = &work.body().kind else {
        return Some(Execution::failed(Failure::permanent("is no sub-pipeline")));
    };
    let limit = work.timeout().unwrap_or(Duration::MAX);
    let (run_id, mut ending) = match submit_inner(engine, work, pipeline_id, token).await? {
        Ok((submitted, ending)) => (submitted.run_id, ending),
        Err(failure) => return Some(Execution::failed(failure)),
    };
    failpoint::pass("inner-before-wait");
    let ended = tokio::select! {
        ended = tokio::time::timeout(limit, ending.come()) => ended,
        () = token.cancelled() => {
            let lost = engine.upgrade()?.inflight.is_lost(&(work.run_id, work.step_run, work.attempt));
            if lost {
                // Whoever drives the outer run now waits for the inner one.
                return None;
            }
            cancel_inner(engine, run_id, "the run that started it was stopped").await;
            return Some(Execution::failed(Failure::error(STOPPED)));
        }
    };
    Some(match ended {
        Ok(Ok(view)) if view.status == RunStatus::Completed => {
            Execution { outcome: Outcome::Completed(view.result.unwrap_or_default()), log: None }
        }
        Ok(Ok(view)) => {
            let reason = view.error.map_or_else(String::new, |error| format!(": {}", error.message));
            let message = format!("run {run_id} of `{pipeline_id}` is {}{reason}", view.status);
            Execution::failed(Failure::error(message).code(format!("run:{}", view.status)))
        }
        Ok(Err(ControlError::ShuttingDown)) => return None,
        Ok(Err(error)) => Execution::failed(Failure::error(error.to_string())),
        Err(_) => {
            cancel_inner(engine, run_id, "the step that waits for it took too long").await;
            Execution::failed(too_long(limit))
        }
    })
}

/// Asks for the inner run. A store that does not answer is waited for, as the run itself would.
async fn submit_inner(
    engine: &Weak<Inner>,
    work: &Work,
    pipeline_id: &PipelineId,
    token: &CancellationToken,
) -> Option<Result<(Submitted, Ending), Failure>> {
    let submission = Submission {
        pipeline_id: pipeline_id.clone(),
        parameters: work.inputs.to_json_object(),
        // An attempt that was lost in a crash finds the run it had started; a retry starts another.
        idempotency_key: Some(format!("step:{}:{}:{}", work.run_id, work.step_run, work.failures)),
        priority: None,
        trigger: Trigger::Step { run_id: work.run_id, step_run: work.step_run },
    };
    loop {
        let submitted = engine.upgrade().map(Engine)?.submit_to_end(submission.clone(), None).await;
        return Some(match submitted {
            Ok(submitted) => Ok(submitted),
            Err(SubmitError::ShuttingDown) => return None,
            Err(SubmitError::Store(error)) if error.may_pass() => {
                tokio::select! {
                    () = tokio::time::sleep(STORE_PAUSE) => continue,
                    () = token.cancelled() => Err(Failure::error(STOPPED)),
                }
            }
            Err(error @ (SubmitError::Store(_) | SubmitError::Busy)) => {
                Err(Failure::error(error.to_string()).code("run:refused"))
            }
            Err(error) => Err(Failure::permanent(error.to_string()).code("run:refused")),
        });
    }
}

async fn cancel_inner(engine: &Weak<Inner>, run_id: RunId, reason: &str) {
    let Some(engine) = engine.upgrade().map(Engine) else { return };
    match engine.cancel(run_id, reason).await {
        Ok(()) | Err(ControlError::Illegal { .. }) => {}
        Err(error) => tracing::warn!(%run_id, %error, "an inner run could not be cancelled"),
    }
}

fn too_long(limit: Duration) -> Failure {
    Failure::timeout(format!("took longer than {}", format_duration(limit)))
}
