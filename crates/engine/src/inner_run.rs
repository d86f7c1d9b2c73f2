//! Carries out steps that are runs of other pipelines.

use std::sync::Weak;
use std::time::{Duration, Instant};

use taskiq_flow_core::definition::TaskKind;
use taskiq_flow_core::id::{PipelineId, RunId};
use taskiq_flow_core::run::{Failure, Outcome, RunStatus, Work};
use taskiq_flow_store::Trigger;
use tokio_util::sync::CancellationToken;

use crate::ending::Ending;
use crate::error::{ControlError, SubmitError};
use crate::exec::Execution;
use crate::failpoint;
use crate::handle::{Engine, Inner};
use crate::submission::{Submission, Submitted};
use crate::worker::{Ended, Worker, too_long};

/// Pause before a store that did not answer is asked again for an inner run.
const STORE_PAUSE: Duration = Duration::from_millis(250);
/// What is said of an inner run whose outer one was stopped; nobody hears it.
const STOPPED: &str = "stopped";

/// Carries out a step that is a run of another pipeline. It waits beside the workers, not in one of them: else
/// runs could wait for each other.
pub(crate) fn spawn(engine: &Weak<Inner>, work: Box<Work>) {
    let Some(inner) = engine.upgrade() else { return };
    let worker = Worker::of(&inner);
    let key = (work.run_id, work.step_run, work.attempt);
    let token = inner.inflight.watch(key);
    let engine = Weak::clone(engine);
    inner.tasks.spawn(async move {
        let started = Instant::now();
        let execution = tokio::select! {
            biased;
            () = worker.stop.cancelled() => None,
            execution = inner_run(&engine, &work, &token) => execution,
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
