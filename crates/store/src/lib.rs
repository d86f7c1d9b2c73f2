//! Where pipelines, runs and their events are kept, and what security administration decided.
//!
//! [`Store`] says, method by method, what holds after it returns and what holds after a crash. Whatever implements
//! it passes the suite in [`conformance`].

#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
mod error;
mod memory;
mod records;
mod rules;
#[cfg(feature = "sqlite")]
mod sqlite;

use async_trait::async_trait;
use taskiq_flow_core::id::{PipelineId, RunId};
use taskiq_flow_core::run::Event;
use taskiq_flow_core::time::Timestamp;
use uuid::Uuid;

pub use error::{StoreError, WriteError};
pub use memory::MemoryStore;
pub use records::{
    Append, Fence, Origin, PipelineRecord, RunFilter, RunRecord, RunSummary, RunWrite, ScheduleRecord,
    SecurityChange, SecurityRecord, StepLog, StoredTiming, Trigger, Written,
};
#[cfg(feature = "sqlite")]
pub use sqlite::{Durability, SqliteOptions, SqliteStore};

/// Keeps pipelines, runs, events, schedules and security records.
///
/// Reads see every write that returned before they began.
#[async_trait]
pub trait Store: Send + Sync + std::fmt::Debug + 'static {
    /// Carries out writes of several runs. Each write stands or falls by itself; those of one run are in order.
    ///
    /// After return, every `Ok` is as durable as the store is: it survives a crash of the process, and with strict
    /// durability of the machine. After a crash before return, each write is there wholly or not at all.
    ///
    /// # Errors
    /// The outer error means that nothing is known to be written. An inner one is about that write alone:
    /// [`WriteError::Fenced`] when another driver holds the run, [`WriteError::Gap`] when the events do not follow
    /// the log.
    async fn write(&self, writes: Vec<RunWrite>) -> Result<Vec<Result<Written, WriteError>>, StoreError>;

    /// Takes over unfinished runs that nobody holds, oldest first, at most `limit`, and gives each a new fence. A run
    /// is held by nobody when its lease has run out before `now`; a store that one process owns alone voids all
    /// leases when it is opened. After return, writes under the old fences are refused.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be reached; nothing has been taken over then.
    async fn claim(
        &self,
        owner: Uuid,
        now: Timestamp,
        limit: usize,
    ) -> Result<Vec<(RunRecord, Fence)>, StoreError>;

    /// The run of that id.
    async fn run(&self, id: RunId) -> Result<Option<RunRecord>, StoreError>;

    /// The run of that pipeline with that idempotency key.
    async fn run_by_key(&self, pipeline: &PipelineId, key: &str) -> Result<Option<RunRecord>, StoreError>;

    /// Runs that pass the filter, newest first.
    async fn runs(&self, filter: RunFilter) -> Result<Vec<RunRecord>, StoreError>;

    /// The newest run of each of these pipelines that has one.
    async fn last_runs(&self, pipelines: &[PipelineId]) -> Result<Vec<RunRecord>, StoreError>;

    /// Events of a run with a number above `after_seq`, in order, at most `limit`.
    async fn events(&self, id: RunId, after_seq: u64, limit: usize) -> Result<Vec<Event>, StoreError>;

    /// What the attempts of a run printed, in the order in which they ended.
    async fn logs(&self, id: RunId) -> Result<Vec<StepLog>, StoreError>;

    /// How long steps took, in milliseconds: by task name, of the last `runs` finished runs that have the step, oldest
    /// first. Some hundred are kept of each task. They go with their pipeline.
    async fn durations(
        &self,
        pipeline: &PipelineId,
        runs: usize,
    ) -> Result<Vec<(String, Vec<u64>)>, StoreError>;

    /// Keeps a version of a definition. Earlier versions stay for the runs that follow them.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when that version, or a newer one, is there already.
    async fn put_pipeline(&self, record: PipelineRecord) -> Result<(), StoreError>;

    /// The newest version of every pipeline that has not been deleted, by id.
    async fn pipelines(&self) -> Result<Vec<PipelineRecord>, StoreError>;

    /// One version of a pipeline, deleted or not.
    async fn pipeline(&self, id: &PipelineId, version: u32) -> Result<Option<PipelineRecord>, StoreError>;

    /// The number of the newest version of a pipeline ever kept, deleted or not; 0: none.
    async fn pipeline_version(&self, id: &PipelineId) -> Result<u32, StoreError>;

    /// Deletes a pipeline; its versions stay as long as runs follow them. Whether there was one.
    async fn delete_pipeline(&self, id: &PipelineId) -> Result<bool, StoreError>;

    /// Keeps a schedule, replacing that of the same id.
    async fn put_schedule(&self, record: ScheduleRecord) -> Result<(), StoreError>;

    /// All schedules, by id.
    async fn schedules(&self) -> Result<Vec<ScheduleRecord>, StoreError>;

    /// Deletes a schedule. Whether there was one.
    async fn delete_schedule(&self, id: &str) -> Result<bool, StoreError>;

    /// Carries out changes of security records, all of them or none. A put replaces the record of the same kind and
    /// id; a delete of what is not there is no error.
    ///
    /// After return they are as durable as the store is. After a crash before return, all are there or none.
    ///
    /// # Errors
    /// [`StoreError`]; nothing is changed then.
    async fn change_security(&self, changes: Vec<SecurityChange>) -> Result<(), StoreError>;

    /// All security records, by kind and id.
    ///
    /// # Errors
    /// [`StoreError`]; also when one of them cannot be read back, since a part of them could allow what the whole
    /// does not.
    async fn security_records(&self) -> Result<Vec<SecurityRecord>, StoreError>;

    /// Deletes runs that ended before `before`, with their events and logs, at most `limit`. How many there were.
    async fn prune(&self, before: Timestamp, limit: usize) -> Result<usize, StoreError>;

    /// Whether the store answers, for readiness probes.
    async fn check(&self) -> Result<(), StoreError>;

    /// Finishes what is under way and closes. Writes after this are refused with [`StoreError::Closed`]; reads may be.
    async fn close(&self);
}
