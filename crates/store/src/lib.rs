//! Where pipelines, runs and their events are kept, and what security administration decided.
//!
//! [`Store`] says, method by method, what holds after it returns and what holds after a crash. Whatever implements
//! it passes the suite in [`conformance`].

mod codec;
#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
mod error;
mod memory;
mod records;
mod rules;
#[cfg(feature = "sqlite")]
mod sqlite;

use std::path::Path;

use async_trait::async_trait;
use taskiq_flow_core::id::{PipelineId, RunId};
use taskiq_flow_core::run::Event;
use taskiq_flow_core::time::Timestamp;
use uuid::Uuid;

pub use error::{BackupError, StoreError, WriteError};
pub use memory::MemoryStore;
pub use records::{
    Append, Beside, CacheEntry, CacheRoom, CacheStats, DeadLetter, DeadLetterFilter, Delivery,
    DeliveryChange, DeliveryFilter, DeliveryStats, Fence, Firing, FiringFilter, FiringOutcome, Origin,
    PipelineRecord, Retention, RunFilter, RunRecord, RunRow, RunStatistics, RunSummary, RunWrite,
    ScheduleRecord, SecurityChange, SecurityRecord, StepLog, Trigger, Written, json_length,
};
#[cfg(feature = "sqlite")]
pub use sqlite::{Checked, Compacted, Durability, SqliteFile, SqliteOptions, SqliteStore};

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
    /// the log, [`WriteError::Fired`] when the firing has had its run.
    async fn write(&self, writes: Vec<RunWrite>) -> Result<Vec<Result<Written, WriteError>>, StoreError>;

    /// Takes over unfinished runs that nobody holds, oldest first, at most `limit`, and gives each a new fence. The lease of
    /// `owner` on all that it holds lasts until `until` from then on.
    ///
    /// Other owners whose lease has run out at `now` lose it, and nobody holds what they held. Who has no lease, or lost it
    /// and has not noticed, may create runs, and holds them until somebody else claims. A store that one process has for
    /// itself voids all leases when it is opened. After return, writes under the old fences are refused.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be reached; nothing has been taken over then.
    async fn claim(
        &self,
        owner: Uuid,
        now: Timestamp,
        until: Timestamp,
        limit: usize,
    ) -> Result<Vec<(RunRecord, Fence)>, StoreError>;

    /// Has the lease of an owner last until `until`, whether that is later or earlier than before. False: it has none, or
    /// has lost it to somebody who claimed after it had run out; what it held may be another's by now.
    ///
    /// # Errors
    /// [`StoreError`]; the lease is as it was then, or lasts until `until`.
    async fn renew(&self, owner: Uuid, until: Timestamp) -> Result<bool, StoreError>;

    /// Whether other processes claim runs from it, so that an owner must renew its lease and may lose it. A store that one
    /// process has for itself is never asked to renew.
    fn is_shared(&self) -> bool {
        false
    }

    /// The run of that id.
    async fn run(&self, id: RunId) -> Result<Option<RunRecord>, StoreError>;

    /// The run of that pipeline with that idempotency key.
    async fn run_by_key(&self, pipeline: &PipelineId, key: &str) -> Result<Option<RunRecord>, StoreError>;

    /// Runs that pass the filter, newest first.
    async fn runs(&self, filter: RunFilter) -> Result<Vec<RunRow>, StoreError>;

    /// The newest run of each of these pipelines that has one.
    async fn last_runs(&self, pipelines: &[PipelineId]) -> Result<Vec<RunRow>, StoreError>;

    /// What the runs of a pipeline came to that were asked for at `since` or later, and before `until`. Of those that have
    /// ended the newest `most` are looked at.
    async fn statistics(
        &self,
        pipeline: &PipelineId,
        since: Option<Timestamp>,
        until: Option<Timestamp>,
        most: usize,
    ) -> Result<RunStatistics, StoreError>;

    /// Events of a run with a number above `after_seq`, in order, at most `limit`.
    async fn events(&self, id: RunId, after_seq: u64, limit: usize) -> Result<Vec<Event>, StoreError>;

    /// What the attempts of a run printed, in the order in which they ended.
    async fn logs(&self, id: RunId) -> Result<Vec<StepLog>, StoreError>;

    /// How long steps took, in milliseconds: by task name, of the last `runs` finished runs that have the step, oldest
    /// first. Some hundred are kept of each task. They go with their pipeline. A crash may lose those of the last second.
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

    /// Deletes a pipeline, with what was measured and cached of it; its versions stay as long as runs follow them.
    /// Whether there was one.
    async fn delete_pipeline(&self, id: &PipelineId) -> Result<bool, StoreError>;

    /// Keeps a schedule, replacing that of the same id.
    async fn put_schedule(&self, record: ScheduleRecord) -> Result<(), StoreError>;

    /// All schedules, by id.
    async fn schedules(&self) -> Result<Vec<ScheduleRecord>, StoreError>;

    /// Deletes a schedule and its firings. Whether there was one.
    async fn delete_schedule(&self, id: &str) -> Result<bool, StoreError>;

    /// Notes a firing that starts no run; one that does comes with its run in [`RunWrite::Create`]. It replaces an
    /// earlier one of the same schedule and time that started none. False: that one has had its run, and nothing was
    /// noted. Some hundred are kept of each schedule, the last noted.
    async fn note_firing(&self, firing: Firing) -> Result<bool, StoreError>;

    /// Firings that pass the filter, the last noted first.
    async fn firings(&self, filter: FiringFilter) -> Result<Vec<Firing>, StoreError>;

    /// Dead letters that pass the filter, newest first. They come with the events of their run, and go with it.
    async fn dead_letters(&self, filter: DeadLetterFilter) -> Result<Vec<DeadLetter>, StoreError>;

    /// The dead letter of that step run.
    async fn dead_letter(&self, run: RunId, step_run: u32) -> Result<Option<DeadLetter>, StoreError>;

    /// Deletes a dead letter. Whether there was one.
    async fn drop_dead_letter(&self, run: RunId, step_run: u32) -> Result<bool, StoreError>;

    /// The value that was cached under that key by a write, unless it has expired at `now`. Not asked for by anybody,
    /// it may go before that.
    async fn cached(&self, key: &[u8], now: Timestamp) -> Result<Option<CacheEntry>, StoreError>;

    /// Deletes what is cached of a pipeline, or of one of its tasks. How many values there were. What is cached while this
    /// goes on may stay; others write meanwhile, and a crash leaves some.
    async fn drop_cached(&self, pipeline: &PipelineId, task: Option<&str>) -> Result<u64, StoreError>;

    /// How much is cached of each task of a pipeline, by name.
    async fn cache_stats(&self, pipeline: &PipelineId) -> Result<Vec<CacheStats>, StoreError>;

    /// Deletes cached values that have expired at `now`, and of the others the oldest for which `keep` has no room. How many
    /// there were. Others write meanwhile, and a crash leaves some.
    async fn prune_cache(&self, now: Timestamp, keep: CacheRoom) -> Result<u64, StoreError>;

    /// Changes deliveries, all of them or none. After return the changes are as durable as the store is, so that
    /// what is not [`DeliveryChange::Done`] is there after a crash.
    async fn change_deliveries(&self, changes: Vec<DeliveryChange>) -> Result<(), StoreError>;

    /// Deliveries that pass the filter: those that wait, the next one first, or those that were given up, newest first.
    async fn deliveries(&self, filter: DeliveryFilter) -> Result<Vec<Delivery>, StoreError>;

    /// How many deliveries there are of each hook and pipeline that has any, in the order of the two names.
    async fn delivery_stats(&self) -> Result<Vec<DeliveryStats>, StoreError>;

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

    /// Deletes runs that have ended, those that ended first before others, with their events and logs, at most `limit`.
    /// How many there were: fewer than `limit` when none are left that should go. A store that is a file becomes smaller
    /// then, when much of it is empty.
    async fn prune(&self, retention: Retention, limit: usize) -> Result<usize, StoreError>;

    /// Copies everything to a new file at `target`, which its owner alone may read, while reads and writes go on. With
    /// `replace` an earlier copy there makes way; nothing else ever does. How many bytes the copy has.
    ///
    /// After return the copy is on disk, whole, and has every write that returned before this was called; of later ones
    /// it has those up to one moment. After an error or a crash there is at `target` what was there before; a crash may
    /// leave a file beside it whose name ends in `.partial`.
    ///
    /// # Errors
    /// [`BackupError`]; [`BackupError::Unsupported`] unless the store is a file.
    async fn backup(&self, target: &Path, replace: bool) -> Result<u64, BackupError> {
        let _ = (target, replace);
        Err(BackupError::Unsupported)
    }

    /// Whether what is written is there for another process: if not, nothing need be written before it is acted upon.
    fn outlives_process(&self) -> bool {
        true
    }

    /// Whether the store answers, for readiness probes.
    async fn check(&self) -> Result<(), StoreError>;

    /// Finishes what is under way and closes. Writes after this are refused with [`StoreError::Closed`]; reads may be.
    async fn close(&self);
}
