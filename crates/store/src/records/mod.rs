//! What is kept.

mod beside;

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use taskiq_flow_core::definition::{Priority, ScheduleRules, Timing};
use taskiq_flow_core::id::{PipelineId, RunId};
use taskiq_flow_core::run::{Event, RunError, RunStatus};
use taskiq_flow_core::time::Timestamp;
use uuid::Uuid;

pub use beside::{
    Beside, CacheEntry, CacheRoom, CacheStats, DeadLetter, DeadLetterFilter, Delivery, DeliveryChange,
    DeliveryFilter, DeliveryStats, Firing, FiringFilter, FiringOutcome, json_length,
};

/// One version of a pipeline's definition.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PipelineRecord {
    /// The pipeline.
    pub id: PipelineId,
    /// From 1, growing by one with each change.
    pub version: u32,
    /// The definition as its author wrote it.
    pub source: Arc<Value>,
    /// Where it came from.
    pub origin: Origin,
    /// When this version was registered.
    pub created_at: Timestamp,
}

/// Where a definition came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// The program that runs the engine brought it: from a file or its own code. It is there as long as it does.
    Program,
    /// It was registered over the API, and stays until it is deleted.
    Api,
}

/// One run, without its events.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RunRecord {
    /// The run.
    pub run_id: RunId,
    /// Its pipeline.
    pub pipeline_id: PipelineId,
    /// The version of the definition that it follows to its end.
    pub version: u32,
    /// Checked parameters, defaults filled in.
    pub parameters: Arc<Map<String, Value>>,
    /// The key under which the same request gets the same run; unique per pipeline.
    pub idempotency_key: Option<String>,
    /// How urgent it is, where the request said so; else its pipeline says it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<Priority>,
    /// What asked for it.
    pub trigger: Trigger,
    /// Values of steps, by index, taken over from an earlier run.
    pub reuse: Vec<(u32, Arc<Value>)>,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// What its events have come to.
    pub summary: RunSummary,
    /// The number of its last event; 0: none.
    pub last_seq: u64,
}

impl RunRecord {
    /// A run that is asked for now, as no other was, and has not begun. Its parameters have been checked.
    pub fn queued(
        run_id: RunId,
        pipeline_id: PipelineId,
        version: u32,
        parameters: Map<String, Value>,
        trigger: Trigger,
        created_at: Timestamp,
    ) -> Self {
        Self {
            run_id,
            pipeline_id,
            version,
            parameters: Arc::new(parameters),
            idempotency_key: None,
            priority: None,
            trigger,
            reuse: Vec::new(),
            created_at,
            summary: RunSummary {
                status: RunStatus::Queued,
                started_at: None,
                finished_at: None,
                error: None,
                result: None,
            },
            last_seq: 0,
        }
    }
}

/// A run as a list shows it: without the values that went in and came out, which may be large.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunRow {
    /// The run.
    pub run_id: RunId,
    /// Its pipeline.
    pub pipeline_id: PipelineId,
    /// The version of the definition that it follows.
    pub version: u32,
    /// What asked for it.
    pub trigger: Trigger,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// The state.
    pub status: RunStatus,
    /// When it started.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
    /// Its first error.
    pub error: Option<RunError>,
}

impl From<&RunRecord> for RunRow {
    fn from(record: &RunRecord) -> Self {
        Self {
            run_id: record.run_id,
            pipeline_id: record.pipeline_id.clone(),
            version: record.version,
            trigger: record.trigger.clone(),
            created_at: record.created_at,
            status: record.summary.status,
            started_at: record.summary.started_at,
            finished_at: record.summary.finished_at,
            error: record.summary.error.clone(),
        }
    }
}

/// What asked for a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Trigger {
    /// A request, by the principal of that id.
    Request {
        /// Who.
        principal: String,
    },
    /// A schedule.
    Schedule {
        /// Which.
        id: String,
        /// The time for which it fired.
        fire_at: Timestamp,
    },
    /// A step of another run.
    Step {
        /// The run.
        run_id: RunId,
        /// The step run.
        step_run: u32,
    },
    /// A fork of an earlier run.
    Fork {
        /// The run it begins with.
        run_id: RunId,
        /// The step from which on it does all again.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        from: Option<String>,
        /// Who asked for it.
        principal: String,
    },
    /// A retry of an earlier run.
    Retry {
        /// The run that had failed.
        run_id: RunId,
        /// Who asked for it.
        principal: String,
    },
}

/// What the events of a run have come to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunSummary {
    /// The state.
    pub status: RunStatus,
    /// When it started.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
    /// Its first error.
    pub error: Option<RunError>,
    /// Its result.
    pub result: Option<Arc<Value>>,
}

/// Whose a run is. A write under a fence that has been superseded is refused, so that a driver that was taken for
/// dead cannot change a run that another has taken over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fence {
    /// The driver.
    pub owner: Uuid,
    /// Grows each time the run changes hands.
    pub token: u64,
}

/// One change of one run.
#[derive(Debug, Clone)]
pub enum RunWrite {
    /// A new run, owned from the start.
    Create {
        /// The run; `summary.status` is queued.
        run: Box<RunRecord>,
        /// Who drives it.
        owner: Uuid,
        /// The firing that starts it: noted with the run, or neither is.
        firing: Option<Box<Firing>>,
        /// The dead letter, by run and step run, that it replays: marked with the run, or neither is.
        replays: Option<(RunId, u32)>,
    },
    /// More of a run's log.
    Append(Box<Append>),
}

/// More of a run's log.
#[derive(Debug, Clone)]
pub struct Append {
    /// The run.
    pub run_id: RunId,
    /// Under which the writer holds it.
    pub fence: Fence,
    /// Events that follow `last_seq` without a gap; may be empty when only logs are written.
    pub events: Arc<Vec<Event>>,
    /// What attempts printed.
    pub logs: Vec<StepLog>,
    /// What the events come to.
    pub summary: RunSummary,
    /// How long each completed step took; given when the run ends.
    pub durations: Vec<(Arc<str>, u64)>,
    /// What is kept with the events.
    pub beside: Beside,
}

/// What an attempt printed beside its value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepLog {
    /// The step run.
    pub step_run: u32,
    /// Its name.
    pub step: Arc<str>,
    /// The attempt.
    pub attempt: u32,
    /// When the attempt ended.
    pub at: Timestamp,
    /// The text; may have been cut.
    pub text: String,
}

/// What came of one write.
#[derive(Debug, Clone)]
pub enum Written {
    /// The run is new, and held under this fence.
    Created(Fence),
    /// It was there already: a run of that pipeline with that idempotency key, of that firing, or that replays that
    /// dead letter. Nothing was written.
    Exists(Box<RunRecord>),
    /// The events are in the log.
    Appended,
}

/// Which runs are wanted.
#[derive(Debug, Clone, Default)]
pub struct RunFilter {
    /// Only of these pipelines; none: of all.
    pub pipelines: Option<Vec<PipelineId>>,
    /// Only in this state.
    pub status: Option<RunStatus>,
    /// Only those whose id was made at this time or later, which is when they were asked for.
    pub since: Option<Timestamp>,
    /// Only those whose id was made before this time.
    pub until: Option<Timestamp>,
    /// Only runs older than this one: the last of the page before.
    pub before: Option<RunId>,
    /// At most so many.
    pub limit: usize,
}

/// What the runs of a pipeline came to that were asked for within a time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RunStatistics {
    /// How many are in each state; states that none is in are left out.
    pub counts: Vec<(RunStatus, u64)>,
    /// How long those that completed took from their start to their end, in milliseconds, shortest first.
    pub durations: Vec<u64>,
    /// More runs had ended than are looked at: only those that were asked for at this time or later are counted.
    pub counted_since: Option<Timestamp>,
}

/// Which of the runs that have ended go. With neither, none do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Retention {
    /// Those that ended before this time.
    pub ended_before: Option<Timestamp>,
    /// Those beyond so many, that ended first.
    pub keep: Option<usize>,
}

impl Retention {
    /// Those that ended before this time.
    pub fn before(time: Timestamp) -> Self {
        Self { ended_before: Some(time), keep: None }
    }

    /// Those beyond so many.
    pub fn keep(runs: usize) -> Self {
        Self { ended_before: None, keep: Some(runs) }
    }
}

/// A stored schedule.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ScheduleRecord {
    /// Unique among all schedules.
    pub id: String,
    /// The pipeline it starts.
    pub pipeline_id: PipelineId,
    /// When it fires.
    pub timing: Timing,
    /// IANA name of the time zone of a cron expression.
    pub timezone: String,
    /// Parameters of the runs it starts.
    pub parameters: Map<String, Value>,
    /// Whether it fires.
    pub enabled: bool,
    /// Which of its times it fires at, and what else is under way then.
    #[serde(default, skip_serializing_if = "is_default")]
    pub rules: ScheduleRules,
    /// When it was made; intervals without a `from` count from here.
    pub created_at: Timestamp,
    /// The first of its times that is not dealt with yet; none: there is none any more, or it is not enabled.
    pub next_fire_at: Option<Timestamp>,
    /// The last of its times at which it fired.
    pub last_fire_at: Option<Timestamp>,
}

/// A fact of security administration, such as a key or an access list. What it says is its owner's affair.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SecurityRecord {
    /// What sort of fact it is.
    pub kind: String,
    /// Unique among those of its kind.
    pub id: String,
    /// What it says.
    pub body: Value,
    /// When it was last written.
    pub updated_at: Timestamp,
}

/// One change of the security records.
#[derive(Debug, Clone, PartialEq)]
pub enum SecurityChange {
    /// Keeps a record, in place of that of the same kind and id.
    Put(SecurityRecord),
    /// Removes a record.
    Delete {
        /// Of which sort.
        kind: String,
        /// Which.
        id: String,
    },
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
