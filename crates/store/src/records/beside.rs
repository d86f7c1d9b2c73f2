//! What is kept beside runs and their events: firings, dead letters, cached values, deliveries.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use taskiq_flow_core::id::{PipelineId, RunId};
use taskiq_flow_core::time::Timestamp;
use uuid::Uuid;

/// What a write keeps beside the events that led to it. It is there if and only if they are.
#[derive(Debug, Clone, Default)]
pub struct Beside {
    /// Steps that were given up. One of the same run and step run replaces the earlier one.
    pub dead_letters: Vec<DeadLetter>,
    /// Values to be found again under their keys. One of the same key replaces the earlier one.
    pub cache: Vec<CacheEntry>,
    /// What is to be told to others.
    pub deliveries: Vec<Delivery>,
}

impl Beside {
    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        let Self { dead_letters, cache, deliveries } = self;
        dead_letters.is_empty() && cache.is_empty() && deliveries.is_empty()
    }
}

/// One time of a schedule, and what came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Firing {
    /// Grows with each firing that is noted, over all schedules; given by the store, whatever stands here before.
    #[serde(default)]
    pub place: u64,
    /// The schedule.
    pub schedule: String,
    /// The time for which it fired; one run at most is started for it.
    pub due: Timestamp,
    /// When that was.
    pub at: Timestamp,
    /// What came of it.
    pub outcome: FiringOutcome,
    /// The run that it started. The store sets it where the firing comes with its run.
    pub run_id: Option<RunId>,
    /// Why it started none, or anything else there is to be told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Whether it was asked for afterwards.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub backfill: bool,
}

/// What came of a firing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FiringOutcome {
    /// It started a run.
    Started,
    /// A rule kept it from starting one: the policy of overlaps, a quota, an access list.
    Skipped,
    /// Its time passed while nobody was there to start it, and the policy says not to make up for it.
    Missed,
    /// The run could not be started.
    Failed,
}

/// Which firings are wanted.
#[derive(Debug, Clone, Default)]
pub struct FiringFilter {
    /// Only of this schedule.
    pub schedule: Option<String>,
    /// Only those due at this time or later.
    pub since: Option<Timestamp>,
    /// Only those due before this time.
    pub until: Option<Timestamp>,
    /// Only those noted before the one with this place: the last of the page before.
    pub before: Option<u64>,
    /// At most so many.
    pub limit: usize,
}

/// A step that was given up after its last attempt, with what it takes to try it again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DeadLetter {
    /// Grows with each letter; given by the store, whatever stands here before.
    #[serde(default)]
    pub place: u64,
    /// The run.
    pub run_id: RunId,
    /// The step run.
    pub step_run: u32,
    /// The pipeline.
    pub pipeline_id: PipelineId,
    /// The name of the step run, such as `square[3]`.
    pub step: Arc<str>,
    /// The name of its task.
    pub task: Arc<str>,
    /// The last attempt.
    pub attempt: u32,
    /// Why it failed.
    pub error: Arc<str>,
    /// Its inputs, by name.
    pub inputs: Arc<Value>,
    /// When it was given up.
    pub at: Timestamp,
    /// The run that does it again; set by [`RunWrite::Create`](crate::RunWrite::Create).
    #[serde(default)]
    pub replayed_by: Option<RunId>,
}

/// Which dead letters are wanted.
#[derive(Debug, Clone, Default)]
pub struct DeadLetterFilter {
    /// Only of these pipelines; none: of all.
    pub pipelines: Option<Vec<PipelineId>>,
    /// Only those that were replayed, or only those that were not.
    pub replayed: Option<bool>,
    /// Only those before the one with this place: the last of the page before.
    pub before: Option<u64>,
    /// At most so many.
    pub limit: usize,
}

/// A value under a key.
#[derive(Debug, Clone, PartialEq)]
pub struct CacheEntry {
    /// The key: a digest of what the value depends on.
    pub key: Vec<u8>,
    /// The pipeline that it belongs to, and is deleted with.
    pub pipeline_id: PipelineId,
    /// The task that made it.
    pub task: Arc<str>,
    /// The value.
    pub value: Arc<Value>,
    /// Bytes of its JSON, as whoever made it counted them.
    pub bytes: u64,
    /// When it was made.
    pub created_at: Timestamp,
    /// From when on it is not found any more; none: never.
    pub expires_at: Option<Timestamp>,
}

/// How much may be cached, of all pipelines together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CacheRoom {
    /// Most values.
    pub values: usize,
    /// Most bytes of their JSON.
    pub bytes: u64,
}

/// How much is cached of one task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CacheStats {
    /// The task.
    pub task: String,
    /// Values, those that have expired and were not removed yet among them.
    pub entries: u64,
    /// Bytes of their JSON.
    pub bytes: u64,
}

/// Something that is to be told to somebody outside, until it has been taken.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Delivery {
    /// Identifies it to the receiver, who may get it more than once; a UUIDv7, so that ids are in order.
    pub id: Uuid,
    /// The name of the hook that it goes to.
    pub hook: String,
    /// What is told.
    pub body: Arc<Value>,
    /// When it came about.
    pub created_at: Timestamp,
    /// When it is to be tried next.
    pub next_at: Timestamp,
    /// How often it was tried in vain.
    pub attempts: u32,
    /// What went wrong last.
    #[serde(default)]
    pub error: Option<String>,
    /// Whether it was given up.
    #[serde(default)]
    pub dead: bool,
}

impl Delivery {
    /// The pipeline that it tells of, by its body; empty where that names none.
    pub fn pipeline(&self) -> &str {
        self.body.get("pipeline_id").and_then(Value::as_str).unwrap_or_default()
    }

    /// About how much room it takes: the length of its body as JSON.
    pub fn bytes(&self) -> u64 {
        json_length(&self.body).min(u64::from(u32::MAX))
    }
}

/// How long it is as JSON, in bytes, without it being made.
pub fn json_length(value: &impl Serialize) -> u64 {
    struct Count(u64);
    impl std::io::Write for Count {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0 += bytes.len() as u64;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let mut count = Count(0);
    // What cannot be written counts as long.
    match serde_json::to_writer(&mut count, value) {
        Ok(()) => count.0,
        Err(_) => u64::MAX,
    }
}

/// Which deliveries are wanted.
#[derive(Debug, Clone, Default)]
pub struct DeliveryFilter {
    /// Only of this hook.
    pub hook: Option<String>,
    /// Those that were given up, newest first, instead of those that wait, the next one first.
    pub dead: bool,
    /// Of those that were given up: only those before this one, the last of the page before.
    pub before: Option<Uuid>,
    /// Of those that wait: only those behind this one, by its `next_at` and id, the last of the page before.
    pub after: Option<(Timestamp, Uuid)>,
    /// At most so many.
    pub limit: usize,
}

/// How many deliveries of a hook there are that tell of one pipeline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeliveryStats {
    /// The name of the hook.
    pub hook: String,
    /// The pipeline ([`Delivery::pipeline`]).
    pub pipeline: String,
    /// How many wait to be taken.
    pub waiting: u64,
    /// About how many bytes those have ([`Delivery::bytes`]).
    pub waiting_bytes: u64,
    /// How many were given up and are kept.
    pub dead: u64,
}

/// What becomes of a delivery.
#[derive(Debug, Clone, PartialEq)]
pub enum DeliveryChange {
    /// It is new, or to be told as it stands here: one with its id is replaced.
    Put(Delivery),
    /// It was taken, or is not wanted any more: it goes. That it is not there is no error.
    Done(Uuid),
}
