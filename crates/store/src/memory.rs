//! A store in the memory of the process: as fast as can be, and gone with the process.

use std::collections::{BTreeMap, HashMap, VecDeque};

use async_trait::async_trait;
use parking_lot::Mutex;
use taskiq_flow_core::id::{PipelineId, RunId};
use taskiq_flow_core::run::Event;
use taskiq_flow_core::time::Timestamp;
use uuid::Uuid;

use crate::{
    Append, Fence, PipelineRecord, RunFilter, RunRecord, RunWrite, ScheduleRecord, StepLog, Store, StoreError,
    WriteError, Written,
};

/// Measured durations that are kept of each task.
const KEPT_DURATIONS: usize = 100;

/// Keeps everything in memory.
#[derive(Debug, Default)]
pub struct MemoryStore(Mutex<Tables>);

#[derive(Debug, Default)]
struct Tables {
    closed: bool,
    runs: BTreeMap<RunId, Kept>,
    keys: HashMap<(PipelineId, String), RunId>,
    pipelines: BTreeMap<PipelineId, Versions>,
    schedules: BTreeMap<String, ScheduleRecord>,
    durations: HashMap<PipelineId, BTreeMap<String, VecDeque<u64>>>,
}

#[derive(Debug)]
struct Kept {
    record: RunRecord,
    fence: Fence,
    held: bool,
    events: Vec<Event>,
    logs: Vec<StepLog>,
}

#[derive(Debug, Default)]
struct Versions {
    all: Vec<PipelineRecord>,
    deleted: bool,
}

impl MemoryStore {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets go of every run, as the death of its driver does in a store that outlives the process.
    pub fn void_leases(&self) {
        self.0.lock().runs.values_mut().for_each(|kept| kept.held = false);
    }

    fn open(&self) -> Result<parking_lot::MutexGuard<'_, Tables>, StoreError> {
        let tables = self.0.lock();
        if tables.closed { Err(StoreError::Closed) } else { Ok(tables) }
    }
}

impl Tables {
    fn create(&mut self, record: RunRecord, owner: Uuid) -> Written {
        if let Some(key) = &record.idempotency_key {
            let key = (record.pipeline_id.clone(), key.clone());
            if let Some(existing) = self.keys.get(&key).and_then(|id| self.runs.get(id)) {
                return Written::Exists(Box::new(existing.record.clone()));
            }
            self.keys.insert(key, record.run_id);
        }
        let fence = Fence { owner, token: 1 };
        let kept = Kept { fence, held: true, events: Vec::new(), logs: Vec::new(), record };
        self.runs.insert(kept.record.run_id, kept);
        Written::Created(fence)
    }

    fn append(&mut self, append: Append) -> Result<Written, WriteError> {
        let Append { run_id, fence, events, logs, summary, durations } = append;
        let kept = self.runs.get_mut(&run_id).ok_or(WriteError::NotFound)?;
        if kept.fence != fence {
            return Err(WriteError::Fenced);
        }
        if let Some(first) = events.first()
            && first.seq != kept.record.last_seq + 1
        {
            return Err(WriteError::Gap { expected: first.seq, found: kept.record.last_seq });
        }
        if let Some(last) = events.last() {
            kept.record.last_seq = last.seq;
        }
        kept.events.extend(events);
        kept.logs.extend(logs);
        kept.record.summary = summary;
        let measured = self.durations.entry(kept.record.pipeline_id.clone()).or_default();
        for (task, millis) in durations {
            let kept = measured.entry(task.to_string()).or_default();
            if kept.len() == KEPT_DURATIONS {
                kept.pop_front();
            }
            kept.push_back(millis);
        }
        Ok(Written::Appended)
    }
}

#[async_trait]
impl Store for MemoryStore {
    async fn write(&self, writes: Vec<RunWrite>) -> Result<Vec<Result<Written, WriteError>>, StoreError> {
        let mut tables = self.open()?;
        let write = |write| match write {
            RunWrite::Create { run, owner } => Ok(tables.create(*run, owner)),
            RunWrite::Append(append) => tables.append(*append),
        };
        Ok(writes.into_iter().map(write).collect())
    }

    async fn claim(
        &self,
        owner: Uuid,
        _now: Timestamp,
        limit: usize,
    ) -> Result<Vec<(RunRecord, Fence)>, StoreError> {
        let mut tables = self.open()?;
        let free = tables.runs.values_mut();
        let free = free.filter(|kept| !kept.held && !kept.record.summary.status.is_terminal());
        let claim = |kept: &mut Kept| {
            kept.held = true;
            kept.fence = Fence { owner, token: kept.fence.token + 1 };
            (kept.record.clone(), kept.fence)
        };
        Ok(free.take(limit).map(claim).collect())
    }

    async fn run(&self, id: RunId) -> Result<Option<RunRecord>, StoreError> {
        Ok(self.0.lock().runs.get(&id).map(|kept| kept.record.clone()))
    }

    async fn runs(&self, filter: RunFilter) -> Result<Vec<RunRecord>, StoreError> {
        let tables = self.0.lock();
        let older = match filter.before {
            Some(before) => tables.runs.range(..before),
            None => tables.runs.range(..),
        };
        let wanted = older.rev().map(|(_, kept)| &kept.record).filter(|record| {
            filter.pipelines.as_ref().is_none_or(|ids| ids.contains(&record.pipeline_id))
                && filter.status.is_none_or(|status| status == record.summary.status)
        });
        Ok(wanted.take(filter.limit).cloned().collect())
    }

    async fn last_runs(&self, pipelines: &[PipelineId]) -> Result<Vec<RunRecord>, StoreError> {
        let tables = self.0.lock();
        let mut found: HashMap<&PipelineId, &RunRecord> = HashMap::new();
        for kept in tables.runs.values().rev() {
            if found.len() == pipelines.len() {
                break;
            }
            if pipelines.contains(&kept.record.pipeline_id) {
                found.entry(&kept.record.pipeline_id).or_insert(&kept.record);
            }
        }
        Ok(pipelines.iter().filter_map(|id| found.get(id).map(|record| (*record).clone())).collect())
    }

    async fn events(&self, id: RunId, after_seq: u64, limit: usize) -> Result<Vec<Event>, StoreError> {
        let tables = self.0.lock();
        let Some(kept) = tables.runs.get(&id) else { return Ok(Vec::new()) };
        let first = kept.events.partition_point(|event| event.seq <= after_seq);
        Ok(kept.events[first..].iter().take(limit).cloned().collect())
    }

    async fn logs(&self, id: RunId) -> Result<Vec<StepLog>, StoreError> {
        Ok(self.0.lock().runs.get(&id).map(|kept| kept.logs.clone()).unwrap_or_default())
    }

    async fn durations(&self, pipeline: &PipelineId, runs: usize) -> Result<Vec<(String, Vec<u64>)>, StoreError> {
        let tables = self.0.lock();
        let Some(measured) = tables.durations.get(pipeline) else { return Ok(Vec::new()) };
        let last = |millis: &VecDeque<u64>| millis.iter().rev().take(runs).copied().collect();
        Ok(measured.iter().map(|(task, millis)| (task.clone(), last(millis))).collect())
    }

    async fn put_pipeline(&self, record: PipelineRecord) -> Result<(), StoreError> {
        let mut tables = self.open()?;
        let versions = tables.pipelines.entry(record.id.clone()).or_default();
        if versions.all.last().is_some_and(|last| last.version >= record.version) {
            let message = format!("version {} of pipeline `{}` is there already", record.version, record.id);
            return Err(StoreError::Conflict(message));
        }
        versions.deleted = false;
        versions.all.push(record);
        Ok(())
    }

    async fn pipelines(&self) -> Result<Vec<PipelineRecord>, StoreError> {
        let tables = self.0.lock();
        let current = tables.pipelines.values().filter(|versions| !versions.deleted);
        Ok(current.filter_map(|versions| versions.all.last().cloned()).collect())
    }

    async fn pipeline(&self, id: &PipelineId, version: u32) -> Result<Option<PipelineRecord>, StoreError> {
        let tables = self.0.lock();
        let versions = tables.pipelines.get(id);
        Ok(versions.and_then(|versions| versions.all.iter().find(|kept| kept.version == version).cloned()))
    }

    async fn pipeline_version(&self, id: &PipelineId) -> Result<u32, StoreError> {
        let tables = self.0.lock();
        let last = tables.pipelines.get(id).and_then(|versions| versions.all.last());
        Ok(last.map_or(0, |record| record.version))
    }

    async fn delete_pipeline(&self, id: &PipelineId) -> Result<bool, StoreError> {
        let mut tables = self.open()?;
        let versions = tables.pipelines.get_mut(id);
        Ok(versions.is_some_and(|versions| !std::mem::replace(&mut versions.deleted, true)))
    }

    async fn put_schedule(&self, record: ScheduleRecord) -> Result<(), StoreError> {
        self.open()?.schedules.insert(record.id.clone(), record);
        Ok(())
    }

    async fn schedules(&self) -> Result<Vec<ScheduleRecord>, StoreError> {
        Ok(self.0.lock().schedules.values().cloned().collect())
    }

    async fn delete_schedule(&self, id: &str) -> Result<bool, StoreError> {
        Ok(self.open()?.schedules.remove(id).is_some())
    }

    async fn prune(&self, before: Timestamp, limit: usize) -> Result<usize, StoreError> {
        let mut tables = self.open()?;
        let ended = |kept: &&Kept| kept.record.summary.finished_at.is_some_and(|at| at < before);
        let old: Vec<RunId> =
            tables.runs.values().filter(ended).take(limit).map(|kept| kept.record.run_id).collect();
        for id in &old {
            if let Some(kept) = tables.runs.remove(id)
                && let Some(key) = kept.record.idempotency_key
            {
                tables.keys.remove(&(kept.record.pipeline_id, key));
            }
        }
        Ok(old.len())
    }

    async fn check(&self) -> Result<(), StoreError> {
        self.open().map(drop)
    }

    async fn close(&self) {
        self.0.lock().closed = true;
    }
}
