//! A store that forgets everything when the process ends.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use parking_lot::Mutex;
use taskiq_flow_core::id::{PipelineId, RunId};
use taskiq_flow_core::run::{Event, RunStatus};
use taskiq_flow_core::time::Timestamp;
use uuid::Uuid;

use crate::Store;
use crate::error::{StoreError, WriteError};
use crate::records::{
    Append, Fence, PipelineRecord, RunFilter, RunRecord, RunWrite, ScheduleRecord, SecurityChange,
    SecurityRecord, StepLog, Written,
};
use crate::rules::{FIRST_TOKEN, Span, check_fence, follow, keep_duration, newest_durations};

/// Keeps everything in memory: for tests, for trying things out, and for programs whose runs need not outlive them.
///
/// A crash loses all; whatever else [`Store`] promises holds. It can still be read after it was closed. One lock guards
/// all of it, and is held for as long as it takes to move records about.
#[derive(Default)]
pub struct MemoryStore {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    closed: bool,
    runs: BTreeMap<RunId, Kept>,
    by_pipeline: HashMap<PipelineId, Runs>,
    by_status: HashMap<RunStatus, BTreeSet<RunId>>,
    durations: HashMap<PipelineId, BTreeMap<Arc<str>, VecDeque<u64>>>,
    pipelines: BTreeMap<PipelineId, Versions>,
    schedules: BTreeMap<String, ScheduleRecord>,
    security: BTreeMap<(String, String), SecurityRecord>,
}

/// A run with all that belongs to it.
struct Kept {
    record: RunRecord,
    fence: Fence,
    /// Whether its driver is taken to be alive.
    held: bool,
    events: Vec<Event>,
    logs: Vec<StepLog>,
}

/// The runs of one pipeline.
#[derive(Default)]
struct Runs {
    ids: BTreeSet<RunId>,
    by_key: HashMap<String, RunId>,
}

/// The versions of one pipeline.
#[derive(Default)]
struct Versions {
    newest: u32,
    deleted: bool,
    kept: BTreeMap<u32, PipelineRecord>,
}

impl MemoryStore {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    /// Voids the leases of all unfinished runs, as opening does with a store that outlives its process: nobody can
    /// write to one of them until [`Store::claim`] has given it to somebody.
    pub fn void_leases(&self) {
        let mut inner = self.inner.lock();
        let unfinished = inner.runs.values_mut().filter(|kept| !kept.record.summary.status.is_terminal());
        unfinished.for_each(|kept| kept.held = false);
    }
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStore").field("runs", &self.inner.lock().runs.len()).finish_non_exhaustive()
    }
}

impl Inner {
    fn open(&mut self) -> Result<&mut Self, StoreError> {
        if self.closed { Err(StoreError::Closed) } else { Ok(self) }
    }

    fn write(&mut self, write: RunWrite) -> Result<Written, WriteError> {
        match write {
            RunWrite::Create { run, owner } => Ok(self.create(*run, owner)),
            RunWrite::Append(append) => self.append(*append),
        }
    }

    fn create(&mut self, record: RunRecord, owner: Uuid) -> Written {
        let of_pipeline = self.by_pipeline.entry(record.pipeline_id.clone()).or_default();
        let same = record.idempotency_key.as_ref().and_then(|key| of_pipeline.by_key.get(key));
        if let Some(there) = self.runs.get(same.unwrap_or(&record.run_id)) {
            return Written::Exists(Box::new(there.record.clone()));
        }
        let id = record.run_id;
        of_pipeline.ids.insert(id);
        if let Some(key) = &record.idempotency_key {
            of_pipeline.by_key.insert(key.clone(), id);
        }
        self.by_status.entry(record.summary.status).or_default().insert(id);
        let fence = Fence { owner, token: FIRST_TOKEN };
        self.runs.insert(id, Kept { record, fence, held: true, events: Vec::new(), logs: Vec::new() });
        Written::Created(fence)
    }

    fn append(&mut self, append: Append) -> Result<Written, WriteError> {
        let Append { run_id, fence, events, logs, summary, durations } = append;
        let kept = self.runs.get_mut(&run_id).ok_or(WriteError::NotFound { run_id })?;
        if !kept.held {
            return Err(WriteError::Fenced { run_id });
        }
        check_fence(run_id, kept.fence, fence)?;
        kept.record.last_seq = follow(run_id, kept.record.last_seq, Span::of(&events))?;
        kept.events.extend(events);
        kept.logs.extend(logs);
        let (before, after) = (kept.record.summary.status, summary.status);
        kept.record.summary = summary;
        if before != after {
            self.by_status.entry(before).or_default().remove(&run_id);
            self.by_status.entry(after).or_default().insert(run_id);
        }
        if !durations.is_empty() {
            let of_pipeline = self.durations.entry(kept.record.pipeline_id.clone()).or_default();
            for (task, millis) in durations {
                keep_duration(of_pipeline.entry(task).or_default(), millis);
            }
        }
        Ok(Written::Appended)
    }

    fn claim(&mut self, owner: Uuid, limit: usize) -> Vec<(RunRecord, Fence)> {
        let unfinished = RunStatus::ALL.into_iter().filter(|status| !status.is_terminal());
        let ids: BTreeSet<RunId> =
            unfinished.filter_map(|status| self.by_status.get(&status)).flatten().copied().collect();
        let mut claimed = Vec::new();
        for id in ids {
            if claimed.len() == limit {
                break;
            }
            if let Some(kept) = self.runs.get_mut(&id).filter(|kept| !kept.held) {
                kept.held = true;
                kept.fence = Fence { owner, token: kept.fence.token + 1 };
                claimed.push((kept.record.clone(), kept.fence));
            }
        }
        claimed
    }

    fn runs(&self, filter: &RunFilter) -> Vec<RunRecord> {
        let limit = filter.limit;
        let older = |id: &RunId| filter.before.is_none_or(|before| *id < before);
        let passes = |kept: &&Kept| filter.status.is_none_or(|status| kept.record.summary.status == status);
        let record = |id: &RunId| self.runs.get(id).filter(passes).map(|kept| kept.record.clone());
        match (&filter.pipelines, filter.status) {
            (Some(pipelines), _) => {
                let chosen: BTreeSet<&PipelineId> = pipelines.iter().collect();
                let newest = chosen.into_iter().filter_map(|id| self.by_pipeline.get(id)).flat_map(|runs| {
                    runs.ids
                        .iter()
                        .rev()
                        .filter(|id| older(id) && self.runs.get(id).is_some_and(|k| passes(&k)))
                        .take(limit)
                });
                let mut ids: Vec<&RunId> = newest.collect();
                ids.sort_unstable_by(|a, b| b.cmp(a));
                ids.into_iter().take(limit).filter_map(record).collect()
            }
            (None, Some(status)) => {
                let ids = self.by_status.get(&status).into_iter().flat_map(|ids| ids.iter().rev());
                ids.filter(|id| older(id)).take(limit).filter_map(record).collect()
            }
            (None, None) => {
                let newest = self.runs.iter().rev().filter(|(id, _)| older(id)).take(limit);
                newest.map(|(_, kept)| kept.record.clone()).collect()
            }
        }
    }

    fn prune(&mut self, before: Timestamp, limit: usize) -> usize {
        let ended = |kept: &Kept| {
            kept.record.summary.status.is_terminal()
                && kept.record.summary.finished_at.is_some_and(|at| at < before)
        };
        let ids: Vec<RunId> =
            self.runs.iter().filter(|(_, kept)| ended(kept)).take(limit).map(|(id, _)| *id).collect();
        let mut followed = BTreeSet::new();
        for id in &ids {
            let Some(Kept { record, .. }) = self.runs.remove(id) else { continue };
            if let Some(runs) = self.by_pipeline.get_mut(&record.pipeline_id) {
                runs.ids.remove(id);
                if let Some(key) = &record.idempotency_key {
                    runs.by_key.remove(key);
                }
            }
            self.by_status.entry(record.summary.status).or_default().remove(id);
            followed.insert((record.pipeline_id, record.version));
        }
        for (id, version) in followed {
            self.let_go(&id, version);
            if self.by_pipeline.get(&id).is_some_and(|runs| runs.ids.is_empty()) {
                self.by_pipeline.remove(&id);
            }
        }
        ids.len()
    }

    /// Deletes a version that was superseded or deleted, once no run follows it.
    fn let_go(&mut self, id: &PipelineId, version: u32) {
        let Some(versions) = self.pipelines.get_mut(id) else { return };
        let of_pipeline = self.by_pipeline.get(id).into_iter().flat_map(|runs| &runs.ids);
        let is_followed =
            || of_pipeline.filter_map(|id| self.runs.get(id)).any(|kept| kept.record.version == version);
        if (versions.deleted || version < versions.newest) && !is_followed() {
            versions.kept.remove(&version);
        }
    }
}

#[async_trait]
impl Store for MemoryStore {
    async fn write(&self, writes: Vec<RunWrite>) -> Result<Vec<Result<Written, WriteError>>, StoreError> {
        let mut inner = self.inner.lock();
        let inner = inner.open()?;
        Ok(writes.into_iter().map(|write| inner.write(write)).collect())
    }

    async fn claim(
        &self,
        owner: Uuid,
        _now: Timestamp,
        limit: usize,
    ) -> Result<Vec<(RunRecord, Fence)>, StoreError> {
        Ok(self.inner.lock().open()?.claim(owner, limit))
    }

    async fn run(&self, id: RunId) -> Result<Option<RunRecord>, StoreError> {
        Ok(self.inner.lock().runs.get(&id).map(|kept| kept.record.clone()))
    }

    async fn run_by_key(&self, pipeline: &PipelineId, key: &str) -> Result<Option<RunRecord>, StoreError> {
        let inner = self.inner.lock();
        let id = inner.by_pipeline.get(pipeline).and_then(|of_pipeline| of_pipeline.by_key.get(key));
        Ok(id.and_then(|id| inner.runs.get(id)).map(|kept| kept.record.clone()))
    }

    async fn runs(&self, filter: RunFilter) -> Result<Vec<RunRecord>, StoreError> {
        Ok(self.inner.lock().runs(&filter))
    }

    async fn last_runs(&self, pipelines: &[PipelineId]) -> Result<Vec<RunRecord>, StoreError> {
        let inner = self.inner.lock();
        let newest = |id| inner.by_pipeline.get(id)?.ids.last();
        let ids = pipelines.iter().filter_map(newest);
        Ok(ids.filter_map(|id| inner.runs.get(id)).map(|kept| kept.record.clone()).collect())
    }

    async fn events(&self, id: RunId, after_seq: u64, limit: usize) -> Result<Vec<Event>, StoreError> {
        let inner = self.inner.lock();
        let Some(kept) = inner.runs.get(&id) else { return Ok(Vec::new()) };
        let seen = usize::try_from(after_seq).unwrap_or(usize::MAX);
        Ok(kept.events.iter().skip(seen).take(limit).cloned().collect())
    }

    async fn logs(&self, id: RunId) -> Result<Vec<StepLog>, StoreError> {
        Ok(self.inner.lock().runs.get(&id).map(|kept| kept.logs.clone()).unwrap_or_default())
    }

    async fn durations(
        &self,
        pipeline: &PipelineId,
        runs: usize,
    ) -> Result<Vec<(String, Vec<u64>)>, StoreError> {
        let inner = self.inner.lock();
        let of_pipeline = inner.durations.get(pipeline).into_iter().flatten();
        Ok(of_pipeline.map(|(task, kept)| (task.to_string(), newest_durations(kept, runs))).collect())
    }

    async fn put_pipeline(&self, record: PipelineRecord) -> Result<(), StoreError> {
        let mut inner = self.inner.lock();
        let versions = inner.open()?.pipelines.entry(record.id.clone()).or_default();
        if record.version <= versions.newest {
            return Err(StoreError::Conflict {
                id: record.id,
                version: record.version,
                newest: versions.newest,
            });
        }
        versions.newest = record.version;
        versions.deleted = false;
        versions.kept.insert(record.version, record);
        Ok(())
    }

    async fn pipelines(&self) -> Result<Vec<PipelineRecord>, StoreError> {
        let inner = self.inner.lock();
        let present = inner.pipelines.values().filter(|versions| !versions.deleted);
        Ok(present.filter_map(|versions| versions.kept.get(&versions.newest)).cloned().collect())
    }

    async fn pipeline(&self, id: &PipelineId, version: u32) -> Result<Option<PipelineRecord>, StoreError> {
        Ok(self.inner.lock().pipelines.get(id).and_then(|versions| versions.kept.get(&version)).cloned())
    }

    async fn pipeline_version(&self, id: &PipelineId) -> Result<u32, StoreError> {
        Ok(self.inner.lock().pipelines.get(id).map_or(0, |versions| versions.newest))
    }

    async fn delete_pipeline(&self, id: &PipelineId) -> Result<bool, StoreError> {
        let mut inner = self.inner.lock();
        let inner = inner.open()?;
        let Some(versions) = inner.pipelines.get_mut(id).filter(|versions| !versions.deleted) else {
            return Ok(false);
        };
        versions.deleted = true;
        inner.durations.remove(id);
        Ok(true)
    }

    async fn put_schedule(&self, record: ScheduleRecord) -> Result<(), StoreError> {
        self.inner.lock().open()?.schedules.insert(record.id.clone(), record);
        Ok(())
    }

    async fn schedules(&self) -> Result<Vec<ScheduleRecord>, StoreError> {
        Ok(self.inner.lock().schedules.values().cloned().collect())
    }

    async fn delete_schedule(&self, id: &str) -> Result<bool, StoreError> {
        Ok(self.inner.lock().open()?.schedules.remove(id).is_some())
    }

    async fn change_security(&self, changes: Vec<SecurityChange>) -> Result<(), StoreError> {
        let mut inner = self.inner.lock();
        let security = &mut inner.open()?.security;
        for change in changes {
            match change {
                SecurityChange::Put(record) => {
                    security.insert((record.kind.clone(), record.id.clone()), record);
                }
                SecurityChange::Delete { kind, id } => _ = security.remove(&(kind, id)),
            }
        }
        Ok(())
    }

    async fn security_records(&self) -> Result<Vec<SecurityRecord>, StoreError> {
        Ok(self.inner.lock().security.values().cloned().collect())
    }

    async fn prune(&self, before: Timestamp, limit: usize) -> Result<usize, StoreError> {
        Ok(self.inner.lock().open()?.prune(before, limit))
    }

    async fn check(&self) -> Result<(), StoreError> {
        self.inner.lock().open().map(|_| ())
    }

    async fn close(&self) {
        self.inner.lock().closed = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance::{Subject, check_all};

    struct InMemory;

    #[async_trait]
    impl Subject for InMemory {
        type Store = MemoryStore;

        async fn empty(&self) -> MemoryStore {
            MemoryStore::new()
        }

        async fn restart(&self, store: MemoryStore) -> MemoryStore {
            store.void_leases();
            store
        }
    }

    #[tokio::test]
    async fn keeps_every_promise() {
        check_all(&InMemory).await;
    }
}
