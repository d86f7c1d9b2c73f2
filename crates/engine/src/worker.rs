//! Carries out attempts.

use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use taskiq_flow_broker::{Delivery, Settle};
use taskiq_flow_core::definition::TaskKind;
use taskiq_flow_core::id::RunId;
use taskiq_flow_core::run::{Failure, Outcome, RunStatus, Work};
use taskiq_flow_core::time::format_duration;
use taskiq_flow_store::Trigger;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::engine::{Engine, Inner, Submission};
use crate::error::{ControlError, SubmitError};
use crate::exec::{Execution, Executors};
use crate::shard::{Finished, Message};

/// Starts taking attempts from the broker.
pub(crate) fn spawn(inner: &Arc<Inner>, executors: Executors) {
    let room = Arc::new(Semaphore::new(inner.options.max_concurrent_attempts.max(1)));
    let (weak, broker, stop) = (Arc::downgrade(inner), Arc::clone(&inner.broker), inner.stop.clone());
    let executors = Arc::new(executors.tracked_by(inner.tasks.clone()));
    inner.tasks.spawn(async move {
        loop {
            // The semaphore is never closed, so the only way out is the stop.
            let Ok(permit) = Arc::clone(&room).acquire_owned().await else { return };
            let delivery = tokio::select! {
                delivery = broker.receive() => delivery,
                () = stop.cancelled() => return,
            };
            let (delivery, inner) = match (delivery, weak.upgrade()) {
                (Ok(delivery), Some(inner)) => (delivery, inner),
                (Err(error), Some(_)) => {
                    tracing::error!(%error, "no work can be had from the broker");
                    tokio::time::sleep(Duration::from_secs(1)).await;
                    continue;
                }
                (_, None) => return,
            };
            let executors = Arc::clone(&executors);
            let tasks = inner.tasks.clone();
            tasks.spawn(async move {
                attempt(&inner, &executors, delivery).await;
                drop(permit);
            });
        }
    });
}

async fn attempt(inner: &Arc<Inner>, executors: &Executors, delivery: Delivery) {
    let work = &delivery.work;
    let key = (work.run_id, work.step_run, work.attempt);
    let token = inner.inflight.enter(key);
    let started = Instant::now();
    let execution = tokio::select! {
        biased;
        () = token.cancelled() => None,
        () = inner.stop.cancelled() => None,
        execution = limited(work, executors.execute(work)) => Some(execution),
    };
    if let Some(Execution { outcome, log }) = execution {
        report(inner, work, outcome, log, started.elapsed()).await;
    }
    inner.inflight.leave(&key);
    if let Err(error) = inner.broker.settle(delivery, Settle::Ack).await {
        tracing::warn!(%error, "a finished attempt could not be acknowledged; a second delivery of it is ignored");
    }
}

async fn report(inner: &Arc<Inner>, work: &Work, outcome: Outcome, log: Option<String>, duration: Duration) {
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
    // The only error is that the engine has stopped: the attempt is then made again after the next start.
    let _ = inner.shards.send(work.run_id, Message::Finished(Box::new(finished))).await;
}

/// Bounds an attempt in time, and turns a panic into a failure.
async fn limited(work: &Work, execution: impl Future<Output = Execution>) -> Execution {
    let limit = work.timeout().unwrap_or(Duration::MAX);
    match tokio::time::timeout(limit, AssertUnwindSafe(execution).catch_unwind()).await {
        Ok(Ok(execution)) => execution,
        Ok(Err(_)) => Execution::failed(Failure::error("the task panicked")),
        Err(_) => Execution::failed(too_long(limit)),
    }
}

/// Carries out a step that is a run of another pipeline. It waits beside the workers, not in one of them: else
/// runs could wait for each other.
pub(crate) fn spawn_inner_run(engine: &Weak<Inner>, work: Work, token: CancellationToken) {
    let Some(inner) = engine.upgrade() else { return };
    let tasks = inner.tasks.clone();
    tasks.spawn(async move {
        let started = Instant::now();
        let engine = Engine(inner);
        let stop = engine.0.stop.clone();
        let outcome = tokio::select! {
            biased;
            () = stop.cancelled() => None,
            execution = inner_run(&engine, &work, &token) => Some(execution),
        };
        if let Some(Execution { outcome, log }) = outcome {
            report(&engine.0, &work, outcome, log, started.elapsed()).await;
        }
        engine.0.inflight.leave(&(work.run_id, work.step_run, work.attempt));
    });
}

async fn inner_run(engine: &Engine, work: &Work, token: &CancellationToken) -> Execution {
    let TaskKind::Pipeline(pipeline_id) = &work.body().kind else {
        return Execution::failed(Failure::permanent("is no sub-pipeline"));
    };
    let submission = Submission {
        pipeline_id: pipeline_id.clone(),
        parameters: work.inputs.to_json_object(),
        // An attempt that was lost in a crash finds the run it had started; a retry starts another.
        idempotency_key: Some(format!("step:{}:{}:{}", work.run_id, work.step_run, work.failures)),
        trigger: Trigger::Step { run_id: work.run_id, step_run: work.step_run },
    };
    let run_id = match engine.submit(submission).await {
        Ok(submitted) => submitted.run_id,
        Err(error @ (SubmitError::Store(_) | SubmitError::Busy | SubmitError::ShuttingDown)) => {
            return Execution::failed(Failure::error(error.to_string()));
        }
        Err(error) => return Execution::failed(Failure::permanent(error.to_string())),
    };
    let limit = work.timeout().unwrap_or(Duration::MAX);
    let ended = tokio::select! {
        ended = engine.wait(run_id, limit) => ended,
        () = token.cancelled() => {
            cancel_inner(engine, run_id, "the run that started it was stopped").await;
            return Execution::failed(Failure::error("cancelled"));
        }
    };
    match ended {
        Ok(Some(view)) if view.status == RunStatus::Completed => {
            Execution { outcome: Outcome::Completed(view.result.unwrap_or_default()), log: None }
        }
        Ok(Some(view)) => {
            let reason = view.error.map_or_else(String::new, |error| format!(": {}", error.message));
            Execution::failed(Failure::error(format!(
                "run {run_id} of `{pipeline_id}` is {}{reason}",
                view.status
            )))
        }
        Ok(None) => {
            cancel_inner(engine, run_id, "the step that waits for it took too long").await;
            Execution::failed(too_long(limit))
        }
        Err(error) => Execution::failed(Failure::error(error.to_string())),
    }
}

async fn cancel_inner(engine: &Engine, run_id: RunId, reason: &str) {
    match engine.cancel(run_id, reason).await {
        Ok(()) | Err(ControlError::Illegal { .. }) => {}
        Err(error) => tracing::warn!(%run_id, %error, "an inner run could not be cancelled"),
    }
}

fn too_long(limit: Duration) -> Failure {
    Failure::timeout(format!("took longer than {}", format_duration(limit)))
}
