//! Runs, their steps, events and logs.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;
use serde_json::{Map, Value};
use taskiq_flow_core::id::{PipelineId, RunId};
use taskiq_flow_core::run::{EventView, ItemPage, ItemView, RunError, RunStatus, RunView, StepView, took};
use taskiq_flow_core::time::Timestamp;
use taskiq_flow_engine::RunSummaryView;
use taskiq_flow_store::{StepLog, Trigger};
use utoipa::ToSchema;

/// A run with its steps, or a pipeline that was never run.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Run)]
pub(crate) struct RunDocument {
    #[schema(value_type = String)]
    pub(crate) pipeline_id: PipelineId,
    /// Null when the pipeline was never run.
    #[schema(value_type = Option<String>, format = Uuid)]
    pub(crate) run_id: Option<RunId>,
    /// `registered` (never run), `queued`, `running`, `paused`, `completed`, `failed`, `cancelled` or `timed_out`.
    pub(crate) status: &'static str,
    /// What a queued run waits for, such as the limit that is full.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) waits_for: Option<String>,
    /// Steps that are in a terminal state.
    pub(crate) steps_completed: u32,
    pub(crate) total_steps: u32,
    /// How many steps are in which state; states that none is in are left out.
    #[schema(value_type = Object)]
    pub(crate) counts: BTreeMap<&'static str, u32>,
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(crate) created_at: Option<Timestamp>,
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(crate) started_at: Option<Timestamp>,
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(crate) finished_at: Option<Timestamp>,
    /// How long it took from its start to its end, once ended.
    pub(crate) duration_ms: Option<u64>,
    /// The outputs of the pipeline, once completed; of a chained pipeline the last step's value.
    #[schema(value_type = Option<Value>)]
    pub(crate) result: Option<Arc<Value>>,
    pub(crate) error: Option<ErrorDocument>,
    /// The outputs that there are, of a run that has no result.
    #[schema(value_type = Object)]
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub(crate) outputs: Map<String, Value>,
    pub(crate) steps: Vec<StepDocument>,
    /// What undoes steps, in its order, of a run that ends without success.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) compensation: Vec<StepDocument>,
}

/// What went wrong in a run first.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = RunError)]
pub(crate) struct ErrorDocument {
    /// The step that failed; null: the run itself, by taking too long.
    #[schema(value_type = Option<String>)]
    pub(crate) step: Option<Arc<str>>,
    pub(crate) attempt: Option<u32>,
    #[schema(value_type = String)]
    pub(crate) message: Arc<str>,
    pub(crate) timed_out: bool,
    /// The steps that were to be undone then and could not be.
    #[schema(value_type = Vec<String>)]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) not_undone: Vec<Arc<str>>,
}

/// A step of a run.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Step)]
pub(crate) struct StepDocument {
    #[schema(value_type = String)]
    pub(crate) id: Arc<str>,
    /// The kind of its task.
    pub(crate) kind: &'static str,
    #[serde(flatten)]
    pub(crate) state: ItemDocument,
    /// The signal that ends it, while it waits for one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) waits_for: Option<String>,
    /// Of a map, filter, reduce or group that has started: how many of its items are in which state.
    #[schema(value_type = Object)]
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) item_counts: BTreeMap<&'static str, u32>,
    /// The first 100 of those; `GET /runs/{id}/steps/{step}/items` has all, with their values.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) items: Vec<ItemDocument>,
}

/// The state of a step or of an item.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = StepState)]
pub(crate) struct ItemDocument {
    /// The item's place.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) index: Option<u32>,
    /// `pending`, `queued`, `running`, `retrying`, `completed`, `failed`, `skipped`, `cancelled`, `timed_out` or
    /// `cached`.
    pub(crate) status: &'static str,
    /// The last attempt; 0: none yet.
    pub(crate) attempt: u32,
    /// How many attempts there may be.
    pub(crate) max_attempts: u32,
    /// When the next attempt is due, of a step that waits for it.
    #[schema(value_type = Option<String>, format = DateTime)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) next_attempt_at: Option<Timestamp>,
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(crate) started_at: Option<Timestamp>,
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(crate) finished_at: Option<Timestamp>,
    pub(crate) duration_ms: Option<u64>,
    /// What the last attempt said if it failed.
    #[schema(value_type = Option<String>)]
    pub(crate) error: Option<Arc<str>>,
    /// The code of that error, such as `exit:3` or `http:503`.
    #[schema(value_type = Option<String>)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) code: Option<Arc<str>>,
    /// Why it was skipped or cancelled.
    #[schema(value_type = Option<String>)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reason: Option<Arc<str>>,
}

/// Items of a step.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ItemList {
    /// In the order of the list.
    pub(crate) items: Vec<DetailDocument>,
    /// How many items of the step are in which state.
    #[schema(value_type = Object)]
    pub(crate) counts: BTreeMap<&'static str, u32>,
    /// What to ask for the next page with; null: this was the last.
    pub(crate) next_cursor: Option<String>,
}

/// An item of a step, with its value.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Item)]
pub(crate) struct DetailDocument {
    /// The name of its step run, such as `square[3]`.
    #[schema(value_type = String)]
    pub(crate) step: Arc<str>,
    #[serde(flatten)]
    pub(crate) state: ItemDocument,
    /// Its value, where it has one.
    #[schema(value_type = Option<Value>)]
    pub(crate) result: Option<Arc<Value>>,
}

/// A run that was accepted, or that a request changed.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Accepted {
    #[schema(value_type = String, format = Uuid)]
    pub(crate) run_id: RunId,
    #[schema(value_type = String)]
    pub(crate) pipeline_id: PipelineId,
    /// The state it is in.
    pub(crate) status: &'static str,
}

/// A run that was waited for.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Finished {
    #[schema(value_type = String, format = Uuid)]
    pub(crate) run_id: RunId,
    #[schema(value_type = String)]
    pub(crate) pipeline_id: PipelineId,
    pub(crate) status: &'static str,
    /// Null too for a caller who may start the pipeline and not read it.
    #[schema(value_type = Option<Value>)]
    pub(crate) result: Option<Arc<Value>>,
    pub(crate) error: Option<ErrorDocument>,
}

/// A signal that was taken.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SignalTaken {
    #[schema(value_type = String, format = Uuid)]
    pub(crate) run_id: RunId,
    pub(crate) signal: String,
}

/// A page of runs.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RunList {
    /// Newest first.
    pub(crate) runs: Vec<RunRow>,
    /// What to ask for the next page with; null: this was the last.
    pub(crate) next_cursor: Option<String>,
}

/// A run in a list.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RunRow {
    #[schema(value_type = String, format = Uuid)]
    pub(crate) run_id: RunId,
    #[schema(value_type = String)]
    pub(crate) pipeline_id: PipelineId,
    /// The version of the definition it follows.
    pub(crate) version: u32,
    pub(crate) status: &'static str,
    #[schema(value_type = String, format = DateTime)]
    pub(crate) created_at: Timestamp,
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(crate) started_at: Option<Timestamp>,
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(crate) finished_at: Option<Timestamp>,
    /// How long it took from its start to its end, once ended.
    pub(crate) duration_ms: Option<u64>,
    pub(crate) error: Option<ErrorDocument>,
    /// What asked for it: `{kind: request, principal}`, `{kind: schedule, id, fire_at}`, `{kind: step, run_id,
    /// step_run}`, `{kind: retry, run_id, principal}` or `{kind: fork, run_id, from, principal}`.
    #[schema(value_type = Object)]
    pub(crate) trigger: Trigger,
}

/// Events of a run.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct EventList {
    /// In order of `seq`. Every event has `type`, `seq`, `pipeline_id`, `run_id` and `timestamp`, and more by its
    /// type.
    #[schema(value_type = Vec<Object>)]
    pub(crate) events: Vec<EventView>,
    /// The number of the event that comes next: go on with `from_seq`.
    pub(crate) next_seq: u64,
}

/// What the attempts of a run printed.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct LogList {
    /// In the order in which the attempts ended.
    pub(crate) logs: Vec<LogDocument>,
}

/// What one attempt printed beside its value.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = StepLog)]
pub(crate) struct LogDocument {
    #[schema(value_type = String)]
    pub(crate) step: Arc<str>,
    pub(crate) attempt: u32,
    /// When the attempt ended.
    #[schema(value_type = String, format = DateTime)]
    pub(crate) at: Timestamp,
    /// The last of it, where it was long.
    pub(crate) text: String,
}

impl RunDocument {
    /// Of a pipeline that was never run.
    pub(crate) fn registered(pipeline_id: PipelineId, steps: usize) -> Self {
        Self {
            pipeline_id,
            run_id: None,
            status: "registered",
            waits_for: None,
            steps_completed: 0,
            total_steps: u32::try_from(steps).unwrap_or(u32::MAX),
            counts: BTreeMap::new(),
            created_at: None,
            started_at: None,
            finished_at: None,
            duration_ms: None,
            result: None,
            error: None,
            outputs: Map::new(),
            steps: Vec::new(),
            compensation: Vec::new(),
        }
    }
}

impl From<RunView> for RunDocument {
    fn from(run: RunView) -> Self {
        Self {
            pipeline_id: run.pipeline_id,
            run_id: Some(run.run_id),
            status: run.status.as_str(),
            waits_for: run.waits_for,
            steps_completed: run.steps_completed,
            total_steps: run.total_steps,
            counts: run.counts,
            created_at: Some(run.created_at),
            started_at: run.started_at,
            finished_at: run.finished_at,
            duration_ms: run.duration_ms,
            result: run.result,
            error: run.error.map(Into::into),
            outputs: run.outputs,
            steps: run.steps.into_iter().map(Into::into).collect(),
            compensation: run.compensation.into_iter().map(Into::into).collect(),
        }
    }
}

impl From<StepView> for StepDocument {
    fn from(step: StepView) -> Self {
        let items = step.items.into_iter().map(Into::into).collect();
        let StepView { id, kind, state, waits_for, item_counts, .. } = step;
        Self { id, kind, state: state.into(), waits_for, item_counts, items }
    }
}

impl From<ItemPage> for ItemList {
    fn from(page: ItemPage) -> Self {
        let items = page.items.into_iter().map(|item| DetailDocument {
            step: item.name,
            state: item.state.into(),
            result: item.result,
        });
        let next_cursor = page.next.map(|place| place.to_string());
        Self { items: items.collect(), counts: page.counts, next_cursor }
    }
}

impl From<ItemView> for ItemDocument {
    fn from(item: ItemView) -> Self {
        Self {
            index: item.index,
            status: item.status.as_str(),
            attempt: item.attempt,
            max_attempts: item.max_attempts,
            next_attempt_at: item.next_attempt_at,
            started_at: item.started_at,
            finished_at: item.finished_at,
            duration_ms: item.duration_ms,
            error: item.error,
            code: item.code,
            reason: item.reason,
        }
    }
}

impl From<RunError> for ErrorDocument {
    fn from(error: RunError) -> Self {
        let RunError { step, attempt, message, timed_out, not_undone } = error;
        Self { step, attempt, message, timed_out, not_undone }
    }
}

impl From<RunSummaryView> for RunRow {
    fn from(run: RunSummaryView) -> Self {
        Self {
            run_id: run.run_id,
            pipeline_id: run.pipeline_id,
            version: run.version,
            status: run.status.as_str(),
            created_at: run.created_at,
            started_at: run.started_at,
            finished_at: run.finished_at,
            duration_ms: took(run.started_at, run.finished_at),
            error: run.error.map(Into::into),
            trigger: run.trigger,
        }
    }
}

impl From<StepLog> for LogDocument {
    fn from(log: StepLog) -> Self {
        Self { step: log.step, attempt: log.attempt, at: log.at, text: log.text }
    }
}

impl Accepted {
    pub(crate) fn new(run_id: RunId, pipeline_id: PipelineId, status: RunStatus) -> Self {
        Self { run_id, pipeline_id, status: status.as_str() }
    }
}
