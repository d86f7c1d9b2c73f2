//! A store in one SQLite file, for one process.
//!
//! One thread writes and commits whatever waits in one transaction, or a caller does where nobody waits; little writes are
//! kept in a redo log and committed together. A few connections read beside it. The file belongs to one process at a time, which an advisory lock on `<file>.lock` sees to.

mod at_rest;
mod batch;
mod beside;
mod cached;
mod codec;
mod copy;
mod desk;
mod fault;
mod fit;
mod leases;
mod log;
mod logs;
mod lookup;
mod open;
mod paths;
mod places;
mod reader;
mod recent;
mod redo;
mod room;
mod schema;
mod statistics;
mod syncing;
mod writer;

#[cfg(test)]
mod tests;

use std::io;
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use rusqlite::params;
use taskiq_flow_core::id::{PipelineId, RunId};
use taskiq_flow_core::run::Event;
use taskiq_flow_core::time::Timestamp;
use uuid::Uuid;

pub use self::at_rest::{Checked, Compacted, SqliteFile};
use self::beside::{Earlier, PreparedDelivery};
use self::cached::Goes;
use self::codec::Prepared;
use self::copy::Copying;
use self::fault::Fault;
use self::open::Opened;
use self::reader::Readers;
use self::redo::Redo;
use self::syncing::Syncer;
use self::writer::Writer;
use crate::Store;
use crate::error::{BackupError, StoreError, WriteError};
use crate::records::{
    CacheEntry, CacheRoom, CacheStats, DeadLetter, DeadLetterFilter, Delivery, DeliveryChange,
    DeliveryFilter, DeliveryStats, Fence, Firing, FiringFilter, PipelineRecord, Retention, RunFilter,
    RunRecord, RunRow, RunStatistics, RunWrite, ScheduleRecord, SecurityChange, SecurityRecord, StepLog,
    Written,
};
use crate::rules::newest_durations;

/// Runs that are deleted in one transaction, so that writes of live runs get in between.
const PRUNED_TOGETHER: usize = 64;
/// Most writes that a caller may make by itself.
const FEW_WRITES: usize = 8;

/// How a file is opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SqliteOptions {
    /// The file; it is created if there is none, its directory is not.
    pub path: PathBuf,
    /// What survives a crash of the machine.
    pub durability: Durability,
    /// Connections that read, and so reads at a time; at least 1 is taken.
    pub readers: usize,
}

/// What survives a crash of the machine. A crash of the process loses nothing in either case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Durability {
    /// Everything that was acknowledged: each commit waits for the disk.
    #[default]
    Strict,
    /// Everything but what was acknowledged in the last few milliseconds, which is lost without leaving gaps: commits
    /// wait for nothing, and a thread brings them to the disk together.
    Relaxed,
}

/// Keeps everything in one SQLite file.
#[derive(Debug)]
pub struct SqliteStore {
    path: PathBuf,
    readers: Readers,
    writer: Writer,
    copying: Copying,
}

impl SqliteOptions {
    /// The file at `path` with strict durability and four connections that read.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), durability: Durability::default(), readers: 4 }
    }
}

impl Default for SqliteOptions {
    /// `taskiq-flow.db` in the working directory.
    fn default() -> Self {
        Self::new("taskiq-flow.db")
    }
}

impl SqliteStore {
    /// Opens or creates a file. Blocks; to be called at the start of a process.
    ///
    /// A new file can be read by its owner alone. All leases are void from here on.
    ///
    /// # Errors
    /// [`StoreError::Locked`] when another process has the file open, [`StoreError::Corrupt`] when it is damaged,
    /// [`StoreError::Foreign`] when it is another program's, [`StoreError::NewerSchema`] when a newer version wrote
    /// it, and [`StoreError::Io`] when it cannot be read, written or created.
    pub fn open(options: SqliteOptions) -> Result<Self, StoreError> {
        let opened = open::open(&options)?;
        let sync = syncing::sync_log(&opened.path);
        Self::start(opened, options.durability, sync)
    }
}

impl SqliteStore {
    fn start(
        opened: Opened,
        durability: Durability,
        sync: impl FnMut() -> io::Result<()> + Send + 'static,
    ) -> Result<Self, StoreError> {
        let Opened { path, writer, readers, lock } = opened;
        let (syncer, redo) = match durability {
            Durability::Strict => (None, redo_log(&path, &writer)),
            Durability::Relaxed => {
                // What it had has been carried out when the file was opened.
                redo::remove(&path);
                redo::end(&writer).map_err(|fault| fault.at(&path))?;
                (Some(Syncer::start(&path, syncing::GATHER, sync)?), None)
            }
        };
        let writer = Writer::start(path.clone(), writer, syncer, redo, lock)?;
        Ok(Self { readers: Readers::new(path.clone(), readers), path, writer, copying: Copying::default() })
    }

    /// Reads of runs, everything that has happened before.
    async fn read<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&rusqlite::Connection) -> Result<T, Fault> + Send + 'static,
    {
        self.writer.settle().await?;
        self.readers.read(work).await
    }

    /// Has the file give back what is free in it, in steps between which others write.
    async fn give_back(&self) -> Result<(), StoreError> {
        let mut gave = false;
        while self.writer.carry_out(|batch| room::give_back(batch.connection)).await? {
            gave = true;
        }
        if gave {
            // The file itself becomes shorter when the log is folded into it, which holds up no writer.
            let path = self.path.clone();
            let folded = tokio::task::spawn_blocking(move || room::fold(&path)).await;
            folded.unwrap_or(Err(Fault::Panic)).map_err(|fault| fault.at(&self.path))?;
        }
        Ok(())
    }

    /// Removes cached values, in steps between which others write. How many there were.
    async fn drop_where(&self, goes: Goes) -> Result<u64, StoreError> {
        let mut gone = 0;
        loop {
            let goes = goes.clone();
            let (some, more) = self.writer.carry_out(move |batch| batch.drop_some_cached(&goes)).await?;
            gone += some;
            if !more {
                return Ok(gone);
            }
        }
    }

    /// A document as it is stored. `what` names it should it be refused.
    fn document(
        &self,
        value: &impl serde::Serialize,
        what: impl Fn() -> String,
    ) -> Result<Vec<u8>, StoreError> {
        let json = codec::to_json(value).map_err(|fault| fault.at(&self.path))?;
        match crate::codec::excess(&json) {
            Some((unit, limit)) => Err(StoreError::TooLarge { what: what(), unit, limit }),
            None => Ok(json),
        }
    }
}

/// The redo log of a file, for records from now on; none: it cannot be made, so that each write is committed by itself.
fn redo_log(path: &Path, writer: &rusqlite::Connection) -> Option<Redo> {
    match Redo::begin_with(writer, path) {
        Ok(redo) => Some(redo),
        Err(error) => {
            tracing::warn!(%error, "each write is committed by itself, which takes a little longer and loses nothing");
            None
        }
    }
}

impl Drop for SqliteStore {
    fn drop(&mut self) {
        self.copying.stop();
        // Before the writer, which is then the last to close the file and folds its log away.
        self.readers.close();
    }
}

#[async_trait]
impl Store for SqliteStore {
    async fn write(&self, writes: Vec<RunWrite>) -> Result<Vec<Result<Written, WriteError>>, StoreError> {
        if writes.is_empty() {
            return Ok(Vec::new());
        }
        let prepared: Result<Vec<_>, _> = writes.into_iter().map(Prepared::new).collect();
        let prepared = prepared.map_err(|fault| fault.at(&self.path))?;
        let is_little = prepared.len() <= FEW_WRITES && prepared.iter().flatten().all(Prepared::is_little);
        match is_little {
            true => self.writer.write_here(prepared).await,
            false => self.writer.carry_out(move |batch| batch.write(&prepared)).await,
        }
    }

    async fn claim(
        &self,
        owner: Uuid,
        now: Timestamp,
        until: Timestamp,
        limit: usize,
    ) -> Result<Vec<(RunRecord, Fence)>, StoreError> {
        self.writer.carry_out(move |batch| batch.claim(owner, now, until, limit)).await
    }

    async fn renew(&self, owner: Uuid, until: Timestamp) -> Result<bool, StoreError> {
        self.writer.carry_out(move |batch| batch.renew(owner, until)).await
    }

    async fn run(&self, id: RunId) -> Result<Option<RunRecord>, StoreError> {
        self.read(move |connection| lookup::record(connection, id)).await
    }

    async fn run_by_key(&self, pipeline: &PipelineId, key: &str) -> Result<Option<RunRecord>, StoreError> {
        let (pipeline, key) = (pipeline.clone(), key.to_owned());
        let find = move |connection: &_| match lookup::run_of_key(connection, &pipeline, &key)? {
            Some(id) => lookup::record(connection, id),
            None => Ok(None),
        };
        self.read(find).await
    }

    async fn runs(&self, filter: RunFilter) -> Result<Vec<RunRow>, StoreError> {
        self.read(move |connection| reader::runs(connection, &filter)).await
    }

    async fn last_runs(&self, pipelines: &[PipelineId]) -> Result<Vec<RunRow>, StoreError> {
        let pipelines = pipelines.to_vec();
        self.read(move |connection| reader::last_runs(connection, &pipelines)).await
    }

    async fn statistics(
        &self,
        pipeline: &PipelineId,
        since: Option<Timestamp>,
        until: Option<Timestamp>,
        most: usize,
    ) -> Result<RunStatistics, StoreError> {
        let filter = RunFilter { since, until, limit: most, ..RunFilter::default() };
        let pipeline = pipeline.clone();
        self.read(move |connection| statistics::of_runs(connection, &pipeline, &filter)).await
    }

    async fn events(&self, id: RunId, after_seq: u64, limit: usize) -> Result<Vec<Event>, StoreError> {
        self.read(move |connection| reader::events(connection, id, after_seq, limit)).await
    }

    async fn logs(&self, id: RunId) -> Result<Vec<StepLog>, StoreError> {
        self.read(move |connection| reader::logs(connection, id)).await
    }

    async fn durations(
        &self,
        pipeline: &PipelineId,
        runs: usize,
    ) -> Result<Vec<(String, Vec<u64>)>, StoreError> {
        let pipeline = pipeline.clone();
        // The writer has what it did not write yet.
        let all = self.writer.carry_out(move |batch| batch.durations(&pipeline)).await?;
        Ok(all.into_iter().map(|(task, kept)| (task, newest_durations(&kept, runs))).collect())
    }

    async fn put_pipeline(&self, record: PipelineRecord) -> Result<(), StoreError> {
        let source = self.document(&record.source, || format!("pipeline `{}`", record.id))?;
        self.writer.carry_out(move |batch| batch.put_pipeline(&record, &source)).await?
    }

    async fn pipelines(&self) -> Result<Vec<PipelineRecord>, StoreError> {
        self.readers.read(reader::pipelines).await
    }

    async fn pipeline(&self, id: &PipelineId, version: u32) -> Result<Option<PipelineRecord>, StoreError> {
        let id = id.clone();
        self.readers.read(move |connection| reader::pipeline(connection, &id, version)).await
    }

    async fn pipeline_version(&self, id: &PipelineId) -> Result<u32, StoreError> {
        let id = id.clone();
        self.readers.read(move |connection| lookup::newest_version(connection, &id)).await
    }

    async fn delete_pipeline(&self, id: &PipelineId) -> Result<bool, StoreError> {
        // Most of it before, in steps; a crash in between costs cached values and nothing else.
        self.drop_cached(id, None).await?;
        let id = id.clone();
        self.writer.carry_out(move |batch| batch.delete_pipeline(&id)).await
    }

    async fn put_schedule(&self, record: ScheduleRecord) -> Result<(), StoreError> {
        let document = self.document(&record, || format!("schedule `{}`", record.id))?;
        let put = "INSERT INTO schedules (id, document) VALUES (?1, ?2)
                   ON CONFLICT (id) DO UPDATE SET document = excluded.document";
        self.writer
            .carry_out(move |batch| {
                batch.connection.prepare_cached(put)?.execute(params![record.id, document])?;
                Ok(())
            })
            .await
    }

    async fn schedules(&self) -> Result<Vec<ScheduleRecord>, StoreError> {
        self.readers.read(reader::schedules).await
    }

    async fn delete_schedule(&self, id: &str) -> Result<bool, StoreError> {
        let id = id.to_owned();
        let delete = "DELETE FROM schedules WHERE id = ?1";
        self.writer
            .carry_out(move |batch| {
                batch.forget_firings(&id)?;
                Ok(batch.connection.prepare_cached(delete)?.execute([&id])? > 0)
            })
            .await
    }

    async fn note_firing(&self, firing: Firing) -> Result<bool, StoreError> {
        let firing = codec::firing_document(firing).map_err(|fault| fault.at(&self.path))?;
        self.writer
            .carry_out(move |batch| {
                let is_free = matches!(batch.earlier_firing(&firing.schedule, firing.due)?, Earlier::None);
                if is_free {
                    batch.note_firing(&firing, None)?;
                }
                Ok(is_free)
            })
            .await
    }

    async fn firings(&self, filter: FiringFilter) -> Result<Vec<Firing>, StoreError> {
        self.readers.read(move |connection| beside::firings(connection, &filter)).await
    }

    async fn dead_letters(&self, filter: DeadLetterFilter) -> Result<Vec<DeadLetter>, StoreError> {
        self.readers.read(move |connection| beside::dead_letters(connection, &filter)).await
    }

    async fn dead_letter(&self, run: RunId, step_run: u32) -> Result<Option<DeadLetter>, StoreError> {
        self.readers.read(move |connection| beside::dead_letter(connection, run, step_run)).await
    }

    async fn drop_dead_letter(&self, run: RunId, step_run: u32) -> Result<bool, StoreError> {
        self.writer.carry_out(move |batch| batch.drop_dead_letter(run, step_run)).await
    }

    async fn cached(&self, key: &[u8], now: Timestamp) -> Result<Option<CacheEntry>, StoreError> {
        let key = key.to_vec();
        self.readers.read(move |connection| cached::cached(connection, key, now)).await
    }

    async fn drop_cached(&self, pipeline: &PipelineId, task: Option<&str>) -> Result<u64, StoreError> {
        // What is cached from here on may stay: a pipeline that makes values as fast as they go would keep this going.
        let newest = self.readers.read(cached::newest_place).await?;
        self.drop_where(Goes::Of(pipeline.clone(), task.map(str::to_owned), newest)).await
    }

    async fn cache_stats(&self, pipeline: &PipelineId) -> Result<Vec<CacheStats>, StoreError> {
        let pipeline = pipeline.clone();
        self.readers.read(move |connection| cached::stats(connection, &pipeline)).await
    }

    async fn prune_cache(&self, now: Timestamp, keep: CacheRoom) -> Result<u64, StoreError> {
        let expired = self.drop_where(Goes::Expired(now)).await?;
        match self.readers.read(move |connection| cached::beyond(connection, keep)).await? {
            Some(place) => Ok(expired + self.drop_where(Goes::UpTo(place)).await?),
            None => Ok(expired),
        }
    }

    async fn change_deliveries(&self, changes: Vec<DeliveryChange>) -> Result<(), StoreError> {
        let mut prepared = Vec::with_capacity(changes.len());
        for change in changes {
            prepared.push(match change {
                DeliveryChange::Done(id) => Err(id),
                DeliveryChange::Put(delivery) => {
                    let document = self.document(&delivery, || format!("delivery {}", delivery.id))?;
                    Ok(PreparedDelivery { delivery, document })
                }
            });
        }
        self.writer
            .carry_out(move |batch| {
                prepared.iter().try_for_each(|change| match change {
                    Ok(put) => batch.put_delivery(put),
                    Err(id) => batch.end_delivery(*id),
                })
            })
            .await
    }

    async fn deliveries(&self, filter: DeliveryFilter) -> Result<Vec<Delivery>, StoreError> {
        self.readers.read(move |connection| beside::deliveries(connection, &filter)).await
    }

    async fn delivery_stats(&self) -> Result<Vec<DeliveryStats>, StoreError> {
        self.readers.read(beside::delivery_stats).await
    }

    async fn change_security(&self, changes: Vec<SecurityChange>) -> Result<(), StoreError> {
        let prepared: Result<Vec<_>, StoreError> = changes
            .into_iter()
            .map(|change| match change {
                SecurityChange::Put(record) => {
                    let body = self.document(&record.body, || {
                        format!("security record {} `{}`", record.kind, record.id)
                    })?;
                    Ok((record.kind, record.id, Some((record.updated_at, body))))
                }
                SecurityChange::Delete { kind, id } => Ok((kind, id, None)),
            })
            .collect();
        let prepared = prepared?;
        self.writer
            .carry_out(move |batch| {
                let mut put = batch.connection.prepare_cached(
                    "INSERT INTO security (kind, id, updated_at, body) VALUES (?1, ?2, ?3, ?4)
                     ON CONFLICT (kind, id) DO UPDATE SET updated_at = excluded.updated_at, body = excluded.body",
                )?;
                let mut delete =
                    batch.connection.prepare_cached("DELETE FROM security WHERE kind = ?1 AND id = ?2")?;
                for (kind, id, body) in &prepared {
                    match body {
                        Some((updated_at, body)) => {
                            put.execute(params![kind, id, updated_at.as_millis(), body])?
                        }
                        None => delete.execute(params![kind, id])?,
                    };
                }
                Ok(())
            })
            .await
    }

    async fn security_records(&self) -> Result<Vec<SecurityRecord>, StoreError> {
        self.readers.read(reader::security_records).await
    }

    async fn prune(&self, retention: Retention, limit: usize) -> Result<usize, StoreError> {
        // Those that ended last are looked at too.
        self.writer.carry_out(|batch| batch.move_ended()).await?;
        let last = self.readers.read(move |connection| room::last_to_go(connection, &retention)).await?;
        let mut pruned = 0;
        while let Some(last) = last
            && pruned < limit
        {
            let together = PRUNED_TOGETHER.min(limit - pruned);
            let gone = self.writer.carry_out(move |batch| batch.prune(&last, together)).await?;
            pruned += gone;
            if gone < together {
                break;
            }
        }
        if pruned < limit
            && let Err(error) = self.give_back().await
        {
            tracing::warn!(%error, "room that has become free could not be given back");
        }
        Ok(pruned)
    }

    async fn backup(&self, target: &Path, replace: bool) -> Result<u64, BackupError> {
        let turn = self.copying.begin()?;
        self.writer.settle().await?;
        let (path, target) = (self.path.clone(), target.to_owned());
        let copied =
            tokio::task::spawn_blocking(move || copy::copy_open(&path, &target, replace, &turn)).await;
        copied.unwrap_or_else(|_| Err(Fault::Panic.at(&self.path).into()))
    }

    async fn check(&self) -> Result<(), StoreError> {
        self.writer.carry_out(|_| Ok(())).await?;
        self.readers.read(reader::check).await
    }

    async fn close(&self) {
        // A copy holds the log of the file, which could not be folded away.
        self.copying.close().await;
        self.readers.close();
        self.writer.close().await;
    }
}
