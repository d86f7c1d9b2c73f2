//! Why the engine refused something. One variant for each decision a caller can take.

use taskiq_flow_broker::BrokerError;
use taskiq_flow_core::definition::FieldError;
use taskiq_flow_core::id::{PipelineId, RunId};
use taskiq_flow_core::run::{MAX_WAITING_SIGNALS, RunStatus};
use taskiq_flow_core::time::Timestamp;
use taskiq_flow_store::StoreError;

/// Why a run was not accepted. Nothing has been started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SubmitError {
    /// There is no such pipeline.
    #[error("there is no pipeline `{0}`")]
    UnknownPipeline(PipelineId),
    /// Parameters are missing, unknown or ill-typed.
    #[error("the parameters do not fit: {}", list(.0))]
    Parameters(Vec<FieldError>),
    /// A task of the pipeline cannot be carried out here.
    #[error("{0}")]
    NotRunnable(String),
    /// Too many runs wait already, of all pipelines or of this one, which has a share of the line.
    #[error("too many runs are waiting to start, of this pipeline or of all; try again later")]
    Busy,
    /// As many runs of the pipeline as may be are unfinished.
    #[error(
        "pipeline `{pipeline}` has as many unfinished runs as it may have, {most}; try again when one has ended"
    )]
    TooManyOpen {
        /// The pipeline.
        pipeline: PipelineId,
        /// How many may be.
        most: usize,
    },
    /// The schedule has had a run for that time, which is not kept any more.
    #[error("schedule `{schedule}` has had its run for {due}")]
    Fired {
        /// The schedule.
        schedule: String,
        /// The time.
        due: Timestamp,
    },
    /// The engine is shutting down.
    #[error("the server is shutting down")]
    ShuttingDown,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why a run was not controlled or shown.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ControlError {
    /// There is no such run.
    #[error("there is no run `{0}`")]
    UnknownRun(RunId),
    /// It is not possible in the run's state.
    #[error("the run is {status}: it cannot {action}")]
    Illegal {
        /// The state.
        status: RunStatus,
        /// What was asked for, such as `be paused`.
        action: &'static str,
    },
    /// No step of the pipeline waits for that signal.
    #[error("no step of this pipeline waits for a signal `{0}`")]
    UnknownSignal(String),
    /// The run has no step, and no item, of that name.
    #[error("the run has no step `{0}`")]
    UnknownStep(String),
    /// The run has no dead letter of that step.
    #[error("run {0} has no dead letter of step run {1}")]
    UnknownDeadLetter(RunId, u32),
    /// There is no such webhook.
    #[error("there is no webhook `{0}`")]
    UnknownWebhook(String),
    /// No delivery of that id was given up.
    #[error("there is no delivery `{0}` that was given up")]
    UnknownDelivery(uuid::Uuid),
    /// As many signals as may be wait for their steps.
    #[error(
        "{MAX_WAITING_SIGNALS} signals wait for steps of this run already; send more once steps have taken some"
    )]
    TooManySignals,
    /// The retry was refused.
    #[error(transparent)]
    Submit(#[from] SubmitError),
    /// The engine is shutting down.
    #[error("the server is shutting down")]
    ShuttingDown,
    /// The run's log does not fit its definition.
    #[error("the log of run `{run_id}` is damaged: {reason}")]
    Damaged {
        /// The run.
        run_id: RunId,
        /// What does not fit.
        reason: String,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why a pipeline was not registered.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RegisterError {
    /// There is one of that id already.
    #[error("there is a pipeline `{0}` already; use PUT to make a new version")]
    Exists(PipelineId),
    /// There is none of that id.
    #[error("there is no pipeline `{0}`")]
    Unknown(PipelineId),
    /// It came with the program and cannot be changed from outside.
    #[error("pipeline `{0}` comes from the server's own files; change it there")]
    ReadOnly(PipelineId),
    /// The names do not join up.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Wiring(Vec<taskiq_flow_core::plan::WiringError>),
    /// A schedule of the pipeline is not possible.
    #[error(transparent)]
    Schedule(#[from] ScheduleError),
    /// It names a webhook that is not configured, or not for it.
    #[error("on_event: {0}")]
    Webhook(String),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why a schedule was not made or changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ScheduleError {
    /// There is no such schedule.
    #[error("there is no schedule `{0}`")]
    Unknown(String),
    /// There is one of that id already.
    #[error("there is a schedule `{0}` already")]
    Exists(String),
    /// The pipeline has as many as may be.
    #[error(
        "pipeline `{pipeline}` may have {most} schedules (`max_schedules_per_pipeline`); delete one first"
    )]
    TooMany {
        /// The pipeline.
        pipeline: PipelineId,
        /// How many it may have.
        most: usize,
    },
    /// A field has a value that is not possible.
    #[error("{field}: {message}")]
    Invalid {
        /// The field.
        field: &'static str,
        /// What is wrong with it, and the fix.
        message: String,
    },
    /// The pipeline or its parameters are at fault.
    #[error(transparent)]
    Submit(#[from] SubmitError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why an engine did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The broker failed.
    #[error(transparent)]
    Broker(#[from] BrokerError),
    /// A pipeline that was to be there cannot be registered.
    #[error("pipeline `{id}`: {reason}")]
    Pipeline {
        /// Which.
        id: PipelineId,
        /// What stands against it.
        reason: String,
    },
    /// The client for `http` tasks, or that of a webhook, could not be made.
    #[error("the HTTP client could not be set up: {0}")]
    HttpClient(String),
}

fn list(errors: &[FieldError]) -> String {
    errors.iter().map(|error| format!("{}: {}", error.field, error.message)).collect::<Vec<_>>().join("; ")
}
