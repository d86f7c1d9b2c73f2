//! Carries out attempts.

use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use taskiq_flow_broker::{Broker, Delivery, Settle};
use taskiq_flow_core::definition::TaskKind;
use taskiq_flow_core::id::{PipelineId, RunId};
use taskiq_flow_core::run::{Failure, Outcome, RunStatus, Work};
use taskiq_flow_core::time::format_duration;
use taskiq_flow_store::Trigger;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::engine::ended;
use crate::error::{ControlError, SubmitError};
use crate::exec::{Execution, Executors};
use crate::handle::{Engine, Inner};
use crate::inbox::{Finished, Message};
use crate::inflight::Inflight;
use crate::submission::Submission;

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
    broker: Arc<dyn Broker>,
    inflight: Inflight,
    stop: CancellationToken,
}

/// Starts taking attempts from the broker.
pub(crate) fn spawn(inner: &Arc<Inner>, executors: Executors) {
    let room = Arc::new(Semaphore::new(inner.options.max_concurrent_attempts.max(1)));
    let tasks = inner.tasks.clone();
    let executors = Arc::new(executors.tracked_by(tasks.clone()));
    let worker = Worker::of(inner);
    inner.tasks.spawn(async move {
        loop {
            // The semaphore is never closed, so the only way out is the stop.
            let Ok(permit) = Arc::clone(&room).acquire_owned().await else { return };
            let delivery = tokio::select! {
                delivery = worker.broker.receive() => delivery,
                () = worker.stop.cancelled() => return,
            };
            match delivery {
                Ok(delivery) => {
                    let (worker, executors) = (worker.clone(), Arc::clone(&executors));
                    tasks.spawn(async move {
                        worker.attempt(&executors, delivery).await;
                        drop(permit);
                    });
                }
                Err(error) => {
                    tracing::error!(%error, "no work can be had from the broker");
                    tokio::select! {
                        () = tokio::time::sleep(BROKER_PAUSE) => {}
                        () = worker.stop.cancelled() => return,
                    }
                }
            }
        }
    });
}

impl Worker {
    fn of(inner: &Arc<Inner>) -> Self {
        Self {
            engine: Arc::downgrade(inner),
            broker: Arc::clone(&inner.broker),
            inflight: inner.inflight.clone(),
            stop: inner.stop.clone(),
        }
    }

    async fn attempt(&self, executors: &Executors, delivery: Delivery) {
        let work = &delivery.work;
        let key = (work.run_id, work.step_run, work.attempt);
        let token = self.inflight.enter(key);
        if work.timeout().is_some()
            && let Some(inner) = self.engine.upgrade()
        {
            let (run_id, step_run, attempt) = key;
            let _ = inner.shards.send(run_id, Message::Began { run_id, step_run, attempt }).await;
            drop(inner);
            // The shard, just woken, may stand in the slot that only this thread serves. A task that never lets go of the
            // thread would keep it there.
            tokio::task::yield_now().await;
        }
        let started = Instant::now();
        let execution = tokio::select! {
            biased;
            () = token.cancelled() => None,
            () = self.stop.cancelled() => None,
            execution = limited(work, executors.execute(work)) => Some(execution),
        };
        if let Some(execution) = execution {
            self.report(work, execution, started.elapsed()).await;
        }
        self.inflight.leave(&key);
        if let Err(error) = self.broker.settle(delivery, Settle::Ack).await {
            tracing::warn!(%error, "a finished attempt could not be acknowledged; a second delivery of it is ignored");
        }
    }

    async fn report(&self, work: &Work, execution: Execution, duration: Duration) {
        let Execution { outcome, log } = execution;
        let status = if matches!(outcome, Outcome::Completed(_)) { "completed" } else { "failed" };
        metrics::histogram!("taskiq_flow_attempt_duration_seconds",
            "kind" => work.body().kind.name(), "status" => status)
        .record(duration.as_secs_f64());
        let finished = Finished {
            run_id: work.run_id,
            step_run: work.step_run,
            attempt: work.attempt,
            step: Arc::clone(&work.step),
            outcome,
            duration,
            log,
        };
        // Without an engine, or with one that has stopped, the attempt is made again after the next start.
        if let Some(inner) = self.engine.upgrade() {
            let _ = inner.shards.send(work.run_id, Message::Finished(Box::new(finished))).await;
        }
    }
}

/// Bounds an attempt in time, and turns a panic into a failure.
async fn limited(work: &Work, execution: impl Future<Output = Execution>) -> Execution {
    let limit = work.timeout().unwrap_or(Duration::MAX);
    match tokio::time::timeout(limit, AssertUnwindSafe(execution).catch_unwind()).await {
        Ok(Ok(execution)) => execution,
        Ok(Err(_)) => Execution::failed(Failure::error("the task panicked").code("panic")),
        Err(_) => Execution::failed(too_long(limit)),
    }
}

/// Carries out a step that is a run of another pipeline. It waits beside the workers, not in one of them: else
/// runs could wait for each other.
pub(crate) fn spawn_inner_run(engine: &Weak<Inner>, work: Work, token: CancellationToken) {
    let Some(inner) = engine.upgrade() else { return };
    let worker = Worker::of(&inner);
    inner.tasks.spawn(async move {
        let started = Instant::now();
        let execution = tokio::select! {
            biased;
            () = worker.stop.cancelled() => None,
            execution = inner_run(&worker.engine, &work, &token) => execution,
        };
        if let Some(execution) = execution {
            worker.report(&work, execution, started.elapsed()).await;
        }
        worker.inflight.leave(&(work.run_id, work.step_run, work.attempt));
    });
}

/// None: the engine stops; the step is taken up again at the next start.
async fn inner_run(engine: &Weak<Inner>, work: &Work, token: &CancellationToken) -> Option<Execution> {
    let TaskKind::Pipeline(pipeline_id) = &work.body().kind else {
        return Some(Execution::failed(Failure::permanent("is no sub-pipeline")));
    };
    let limit = work.timeout().unwrap_or(Duration::MAX);
    let run_id = match submit_inner(engine, work, pipeline_id, token).await? {
        Ok(run_id) => run_id,
        Err(failure) => return Some(Execution::failed(failure)),
    };
    let ended = tokio::select! {
        ended = tokio::time::timeout(limit, ended(Weak::clone(engine), run_id)) => ended,
        () = token.cancelled() => {
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
) -> Option<Result<RunId, Failure>> {
    let submission = Submission {
        pipeline_id: pipeline_id.clone(),
        parameters: work.inputs.to_json_object(),
        // An attempt that was lost in a crash finds the run it had started; a retry starts another.
        idempotency_key: Some(format!("step:{}:{}:{}", work.run_id, work.step_run, work.failures)),
        priority: None,
        trigger: Trigger::Step { run_id: work.run_id, step_run: work.step_run },
    };
    loop {
        let submitted = engine.upgrade().map(Engine)?.submit(submission.clone()).await;
        return Some(match submitted {
            Ok(submitted) => Ok(submitted.run_id),
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
