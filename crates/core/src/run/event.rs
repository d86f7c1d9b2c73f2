//! Events: the facts of a run, in order. They are its log, and what watchers are told.

use std::fmt;
use std::ops::Deref;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::Value;

use super::error::RunError;
use crate::id::{PipelineId, RunId};
use crate::plan::StepNames;
use crate::time::Timestamp;

/// One fact of a run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Event {
    /// Its place in the run's log, from 1.
    pub seq: u64,
    /// When it was decided.
    pub timestamp: Timestamp,
    /// What happened.
    #[serde(flatten)]
    pub fact: Fact,
}

/// What happened. Names and fields are those that watchers see.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "type")]
#[non_exhaustive]
#[allow(missing_docs, reason = "the fields are described in the guide's page on events")]
pub enum Fact {
    #[serde(rename = "PipelineStartEvent")]
    PipelineStart { task_count: u32 },
    #[serde(rename = "StepStartEvent")]
    StepStart {
        #[serde(flatten)]
        step: StepRef,
        attempt: u32,
        max_attempts: u32,
        /// How long the step had its inputs and waited for room.
        wait_ms: u64,
        /// For a map, filter, reduce or group: how many items it has.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        items: Option<u32>,
        /// What was found when a kept value was looked for before.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        cache: Option<CacheOutcome>,
        /// Of an item that is carried out together with others: the step run of the first of them.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        chunk: Option<u32>,
    },
    #[serde(rename = "StepCompleteEvent")]
    StepComplete {
        #[serde(flatten)]
        step: StepRef,
        attempt: u32,
        duration_ms: u64,
        result: Arc<Value>,
        /// The value is that of an earlier execution.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        cached: bool,
    },
    #[serde(rename = "StepErrorEvent")]
    StepError {
        #[serde(flatten)]
        step: StepRef,
        attempt: u32,
        max_attempts: u32,
        duration_ms: u64,
        error: Arc<str>,
        timed_out: bool,
        will_retry: bool,
        /// What programs tell the error by, such as `exit:3`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        code: Option<Arc<str>>,
    },
    /// A step has failed for good and is kept to be replayed.
    #[serde(rename = "StepDeadLetterEvent")]
    StepDeadLetter {
        #[serde(flatten)]
        step: StepRef,
        attempt: u32,
        error: Arc<str>,
    },
    #[serde(rename = "StepRetryEvent")]
    StepRetry {
        #[serde(flatten)]
        step: StepRef,
        /// The attempt that will be made.
        attempt: u32,
        max_attempts: u32,
        wait_ms: u64,
        error: Arc<str>,
    },
    #[serde(rename = "StepSkipEvent")]
    StepSkip {
        #[serde(flatten)]
        step: StepRef,
        reason: Arc<str>,
    },
    #[serde(rename = "StepCancelEvent")]
    StepCancel {
        #[serde(flatten)]
        step: StepRef,
        reason: Arc<str>,
    },
    #[serde(rename = "SignalEvent")]
    Signal {
        name: Arc<str>,
        value: Arc<Value>,
        /// The principal that sent it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<Arc<str>>,
    },
    #[serde(rename = "PipelineCompleteEvent")]
    PipelineComplete { result: Arc<Value>, duration_ms: u64 },
    #[serde(rename = "PipelineErrorEvent")]
    PipelineError { error: Box<RunError>, duration_ms: u64 },
    #[serde(rename = "PipelineSkipEvent")]
    PipelineSkip { reason: Arc<str> },
    #[serde(rename = "PipelineCancelEvent")]
    PipelineCancel {
        reason: Arc<str>,
        duration_ms: u64,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        not_undone: Vec<Arc<str>>,
    },
    /// The run is about to end without success, and undoes its steps first.
    #[serde(rename = "CompensationStartEvent")]
    CompensationStart {
        /// In the order in which they are undone.
        steps: Vec<Arc<str>>,
        step_indexes: Vec<u32>,
        /// With which it ends then; none: it was cancelled.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        error: Option<Box<RunError>>,
        /// Why it was cancelled.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<Arc<str>>,
    },
    #[serde(rename = "PipelinePauseEvent")]
    PipelinePause,
    #[serde(rename = "PipelineResumeEvent")]
    PipelineResume,
    /// Not part of a run: the definition changed.
    #[serde(rename = "DAGUpdatedEvent")]
    DagUpdated { version: u32, node_count: u32, edge_count: u32 },
}

/// What was found when a kept value was looked for. Where there was one, the step does not start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CacheOutcome {
    /// None that is good.
    Miss,
}

/// Which step run an event is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepRef {
    /// The number of the step run within its run; steps first, then items as they come.
    pub step_run: u32,
    /// The place of its task in the pipeline.
    pub step_index: u32,
    /// What it is called: of a step shared by all events of all its runs.
    #[serde(flatten)]
    pub names: Arc<StepNames>,
}

/// An event as watchers are told it.
#[derive(Debug, Clone)]
pub struct EventView {
    /// The pipeline.
    pub pipeline_id: PipelineId,
    /// The run; none for an event of the pipeline itself.
    pub run_id: Option<RunId>,
    /// The fact.
    pub event: SharedEvent,
    /// As JSON, once somebody asked for it.
    json: OnceLock<Bytes>,
}

/// One event of those that were decided together. All who are told of them share them with the store.
#[derive(Debug, Clone)]
pub struct SharedEvent {
    together: Arc<Vec<Event>>,
    place: usize,
}

/// The id of one attempt of one step run, unique everywhere. As text: `<run>-<step run>-<attempt>`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TaskId {
    /// The run.
    pub run_id: RunId,
    /// The number of the step run within its run.
    pub step_run: u32,
    /// The attempt, from 1.
    pub attempt: u32,
}

impl EventView {
    /// The event of a run.
    pub fn of_run(pipeline_id: PipelineId, run_id: RunId, event: impl Into<SharedEvent>) -> Self {
        Self { pipeline_id, run_id: Some(run_id), event: event.into(), json: OnceLock::new() }
    }

    /// The event of a pipeline itself.
    pub fn of_pipeline(pipeline_id: PipelineId, event: impl Into<SharedEvent>) -> Self {
        Self { pipeline_id, run_id: None, event: event.into(), json: OnceLock::new() }
    }

    /// The event as its [`Serialize`] writes it: JSON, in UTF-8. It is written once for all who are told of it together.
    ///
    /// # Errors
    /// When it cannot be written as JSON.
    pub fn json(&self) -> serde_json::Result<Bytes> {
        if let Some(json) = self.json.get() {
            return Ok(json.clone());
        }
        let json = serde_json::to_vec(self)?;
        Ok(self.json.get_or_init(|| json.into()).clone())
    }

    /// Identifies the attempt that the event is about to the outside world, such as a broker.
    pub fn task_id(&self) -> Option<TaskId> {
        let fact = &self.event.fact;
        let (run_id, step, attempt) = (self.run_id?, fact.step()?, fact.attempt()?);
        Some(TaskId { run_id, step_run: step.step_run, attempt })
    }
}

impl Serialize for EventView {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Shown<'a> {
            pipeline_id: &'a PipelineId,
            #[serde(skip_serializing_if = "Option::is_none")]
            run_id: Option<RunId>,
            #[serde(skip_serializing_if = "Option::is_none")]
            task_id: Option<TaskId>,
            #[serde(flatten)]
            event: &'a Event,
        }
        let Self { pipeline_id, run_id, event, json: _ } = self;
        Shown { pipeline_id, run_id: *run_id, task_id: self.task_id(), event }.serialize(serializer)
    }
}

impl SharedEvent {
    /// Each of the events that were decided together, in order.
    pub fn each_of(together: &Arc<Vec<Event>>) -> impl Iterator<Item = Self> {
        (0..together.len()).map(|place| Self { together: Arc::clone(together), place })
    }
}

impl From<Event> for SharedEvent {
    fn from(event: Event) -> Self {
        Self { together: Arc::new(vec![event]), place: 0 }
    }
}

impl Deref for SharedEvent {
    type Target = Event;

    fn deref(&self) -> &Event {
        &self.together[self.place]
    }
}

impl StepRef {
    /// The step run of that number and name, of the task at that place of the pipeline.
    pub fn new(
        step_run: u32,
        step_index: u32,
        step: impl Into<Arc<str>>,
        task_name: impl Into<Arc<str>>,
    ) -> Self {
        let names = StepNames { step: step.into(), task_name: task_name.into() };
        Self { step_run, step_index, names: Arc::new(names) }
    }
}

impl Deref for StepRef {
    type Target = StepNames;

    fn deref(&self) -> &StepNames {
        &self.names
    }
}

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}-{}", self.run_id, self.step_run, self.attempt)
    }
}

impl Serialize for TaskId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Fact {
    /// The names of all types.
    pub const TYPES: [&str; 17] = [
        "PipelineStartEvent",
        "StepStartEvent",
        "StepCompleteEvent",
        "StepErrorEvent",
        "StepDeadLetterEvent",
        "StepRetryEvent",
        "StepSkipEvent",
        "StepCancelEvent",
        "SignalEvent",
        "PipelineCompleteEvent",
        "PipelineErrorEvent",
        "PipelineSkipEvent",
        "PipelineCancelEvent",
        "CompensationStartEvent",
        "PipelinePauseEvent",
        "PipelineResumeEvent",
        "DAGUpdatedEvent",
    ];

    /// Those of them that no run has in its log.
    pub const TYPES_OF_DEFINITIONS: [&str; 1] = ["DAGUpdatedEvent"];

    /// The step run it is about.
    pub fn step(&self) -> Option<&StepRef> {
        match self {
            Self::StepStart { step, .. }
            | Self::StepComplete { step, .. }
            | Self::StepError { step, .. }
            | Self::StepDeadLetter { step, .. }
            | Self::StepRetry { step, .. }
            | Self::StepSkip { step, .. }
            | Self::StepCancel { step, .. } => Some(step),
            _ => None,
        }
    }

    /// The attempt it is about.
    pub fn attempt(&self) -> Option<u32> {
        match self {
            Self::StepStart { attempt, .. }
            | Self::StepComplete { attempt, .. }
            | Self::StepError { attempt, .. }
            | Self::StepDeadLetter { attempt, .. }
            | Self::StepRetry { attempt, .. } => Some(*attempt),
            _ => None,
        }
    }

    /// The name of the type, as in JSON.
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::PipelineStart { .. } => "PipelineStartEvent",
            Self::StepStart { .. } => "StepStartEvent",
            Self::StepComplete { .. } => "StepCompleteEvent",
            Self::StepError { .. } => "StepErrorEvent",
            Self::StepDeadLetter { .. } => "StepDeadLetterEvent",
            Self::StepRetry { .. } => "StepRetryEvent",
            Self::StepSkip { .. } => "StepSkipEvent",
            Self::StepCancel { .. } => "StepCancelEvent",
            Self::Signal { .. } => "SignalEvent",
            Self::PipelineComplete { .. } => "PipelineCompleteEvent",
            Self::PipelineError { .. } => "PipelineErrorEvent",
            Self::PipelineSkip { .. } => "PipelineSkipEvent",
            Self::PipelineCancel { .. } => "PipelineCancelEvent",
            Self::CompensationStart { .. } => "CompensationStartEvent",
            Self::PipelinePause => "PipelinePauseEvent",
            Self::PipelineResume => "PipelineResumeEvent",
            Self::DagUpdated { .. } => "DAGUpdatedEvent",
        }
    }

    /// Whether it ends the run.
    pub fn ends_run(&self) -> bool {
        matches!(
            self,
            Self::PipelineComplete { .. }
                | Self::PipelineError { .. }
                | Self::PipelineSkip { .. }
                | Self::PipelineCancel { .. }
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_is_in_the_list() {
        // The decoder names all that it knows.
        let unknown = serde_json::json!({ "type": "?" });
        let message = serde_json::from_value::<Fact>(unknown).unwrap_err().to_string();
        let known: Vec<&str> = message.split('`').skip(3).step_by(2).collect();
        assert_eq!(known, Fact::TYPES, "{message}");
    }
}
