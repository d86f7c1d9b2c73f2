//! A store that forgets everything when the process ends.

mod beside;
mod statistics;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::fmt;
use std::ops::Bound;
use std::sync::Arc;

use async_trait::async_trait;
use parking_lot::Mutex;
use taskiq_flow_core::id::{PipelineId, RunId};
use taskiq_flow_core::run::{Event, RunStatus};
use taskiq_flow_core::time::Timestamp;
use uuid::Uuid;

use self::beside::{Cache, DeadLetters, Deliveries, Firings};
use crate::Store;
use crate::error::{StoreError, WriteError};
use crate::records::{
    Append, CacheEntry, CacheStats, DeadLetter, DeadLetterFilter, Delivery, DeliveryChange, DeliveryFilter,
    Fence, Firing, FiringFilter, PipelineRecord, Retention, RunFilter, RunRecord, RunRow, RunStatistics,
    RunSummary, RunWrite, ScheduleRecord, SecurityChange, SecurityRecord, Snapshot, StepLog, Written,
};
use crate::rules::{FIRST_TOKEN, Span, check_fence, follow, id_range, keep_duration, newest_durations};

/// Ended runs that [`MemoryStore::new`] keeps: some 30 MB of small ones.
const KEPT_RUNS: usize = 10_000;

/// Keeps everything in memory: for tests, for trying things out, and for programs whose runs need not outlive them.
///
/// A crash loses all; whatever else [`Store`] promises holds. Runs that have ended go, those that ended first, when
/// there are more than a number of them; unfinished ones never. It can still be read after it was closed. One lock guards
/// all of it, and is held for as long as it takes to move records about.
pub struct MemoryStore {
    inner: Mutex<Inner>,
    /// Ended runs that are kept.
    kept: usize,
}

#[derive(Default)]
struct Inner {
    closed: bool,
    runs: HashMap<RunId, Kept>,
    by_pipeline: HashMap<PipelineId, Runs>,
    unfinished: BTreeSet<RunId>,
    /// Until when owners hold their runs.
    leases: HashMap<Uuid, Timestamp>,
    ended: BTreeSet<(Timestamp, RunId)>,
    ended_by_status: HashMap<RunStatus, BTreeSet<RunId>>,
    durations: HashMap<PipelineId, BTreeMap<Arc<str>, VecDeque<u64>>>,
    pipelines: BTreeMap<PipelineId, Versions>,
    schedules: BTreeMap<String, ScheduleRecord>,
    security: BTreeMap<(String, String), SecurityRecord>,
    firings: Firings,
    dead_letters: DeadLetters,
    cache: Cache,
    deliveries: Deliveries,
}

/// A run with all that belongs to it.
struct Kept {
    record: RunRecord,
    fence: Fence,
    /// Whether its driver is taken to be alive.
    held: bool,
    /// What the writes brought, one after another.
    events: Vec<Arc<[Event]>>,
    logs: Vec<StepLog>,
    snapshot: Option<Snapshot>,
}

/// The runs of one pipeline.
#[derive(Default)]
struct Runs {
    ids: BTreeSet<RunId>,
    by_key: HashMap<String, RunId>,
    /// How many runs follow each version.
    followers: HashMap<u32, usize>,
}

/// The versions of one pipeline.
#[derive(Default)]
struct Versions {
    newest: u32,
    deleted: bool,
    kept: BTreeMap<u32, PipelineRecord>,
}

impl MemoryStore {
    /// An empty store that keeps the 10,000 runs that ended last.
    pub fn new() -> Self {
        Self::with_room(KEPT_RUNS)
    }

    /// An empty store that keeps so many ended runs.
    pub fn with_room(ended_runs: usize) -> Self {
        Self { inner: Mutex::default(), kept: ended_runs }
    }

    /// Voids the leases of all unfinished runs, as opening does with a store that outlives its process: nobody can
    /// write to one of them until [`Store::claim`] has given it to somebody.
    pub fn void_leases(&self) {
        let mut inner = self.inner.lock();
        inner.leases.clear();
        inner.void_leases_of(|_| true);
    }
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (runs, kept) = (self.inner.lock().runs.len(), self.kept);
        f.debug_struct("MemoryStore").field("runs", &runs).field("kept", &kept).finish_non_exhaustive()
    }
}

impl Inner {
    fn open(&mut self) -> Result<&mut Self, StoreError> {
        if self.closed { Err(StoreError::Closed) } else { Ok(self) }
    }

    fn void_leases_of(&mut self, is_meant: impl Fn(Uuid) -> bool) {
        for id in &self.unfinished {
            if let Some(kept) = self.runs.get_mut(id).filter(|kept| is_meant(kept.fence.owner)) {
                kept.held = false;
            }
        }
    }

    fn write(&mut self, write: RunWrite) -> Result<Written, WriteError> {
        match write {
            RunWrite::Create { run, owner, firing, replays } => self.create(*run, owner, firing, replays),
            RunWrite::Append(append) => self.append(*append),
        }
    }

    /// The run that is meant by a creation, if it is there already.
    fn existing(
        &self,
        record: &RunRecord,
        firing: Option<&Firing>,
        replays: Option<(RunId, u32)>,
    ) -> Result<Option<RunId>, WriteError> {
        let of_pipeline = self.by_pipeline.get(&record.pipeline_id);
        let of_key = record.idempotency_key.as_ref().and_then(|key| of_pipeline?.by_key.get(key));
        if let Some(id) = of_key {
            return Ok(Some(*id));
        }
        let earlier = firing.and_then(|firing| self.firings.get(&firing.schedule, firing.due));
        if let Some((earlier, id)) = earlier.and_then(|earlier| Some((earlier, earlier.run_id?))) {
            let fired = || WriteError::Fired { schedule: earlier.schedule.clone(), due: earlier.due };
            return if self.runs.contains_key(&id) { Ok(Some(id)) } else { Err(fired()) };
        }
        if let Some((run_id, step_run)) = replays {
            let letter = self.dead_letters.get(run_id, step_run);
            let letter = letter.ok_or(WriteError::NoDeadLetter { run_id, step_run })?;
            if let Some(id) = letter.replayed_by.filter(|id| self.runs.contains_key(id)) {
                return Ok(Some(id));
            }
        }
        Ok(Some(record.run_id).filter(|id| self.runs.contains_key(id)))
    }

    fn create(
        &mut self,
        record: RunRecord,
        owner: Uuid,
        firing: Option<Box<Firing>>,
        replays: Option<(RunId, u32)>,
    ) -> Result<Written, WriteError> {
        let existing = self.existing(&record, firing.as_deref(), replays)?;
        if let Some(there) = existing.and_then(|id| self.runs.get(&id)) {
            return Ok(Written::Exists(Box::new(there.record.clone())));
        }
        let id = record.run_id;
        if let Some(firing) = firing {
            self.firings.note(Firing { run_id: Some(id), ..*firing });
        }
        if let Some((run_id, step_run)) = replays {
            self.dead_letters.mark(run_id, step_run, id);
        }
        let of_pipeline = self.by_pipeline.entry(record.pipeline_id.clone()).or_default();
        of_pipeline.ids.insert(id);
        *of_pipeline.followers.entry(record.version).or_default() += 1;
        if let Some(key) = &record.idempotency_key {
            of_pipeline.by_key.insert(key.clone(), id);
        }
        self.index(id, &record.summary);
        let fence = Fence { owner, token: FIRST_TOKEN };
        let (events, logs) = (Vec::new(), Vec::new());
        self.runs.insert(id, Kept { record, fence, held: true, events, logs, snapshot: None });
        Ok(Written::Created(fence))
    }

    fn append(&mut self, append: Append) -> Result<Written, WriteError> {
        let Append { run_id, fence, events, logs, summary, durations, beside } = append;
        let kept = self.runs.get_mut(&run_id).ok_or(WriteError::NotFound { run_id })?;
        if !kept.held {
            return Err(WriteError::Fenced { run_id });
        }
        check_fence(run_id, kept.fence, fence)?;
        kept.record.last_seq = follow(run_id, kept.record.last_seq, Span::of(&events))?;
        if !events.is_empty() {
            kept.events.push(events);
        }
        kept.logs.extend(logs);
        if let Some(body) = beside.snapshot {
            kept.snapshot = Some(Snapshot { seq: kept.record.last_seq, body });
        }
        if !durations.is_empty() {
            let of_pipeline = self.durations.entry(kept.record.pipeline_id.clone()).or_default();
            for (task, millis) in durations {
                keep_duration(of_pipeline.entry(task).or_default(), millis);
            }
        }
        let before = std::mem::replace(&mut kept.record.summary, summary.clone());
        if (before.status, before.finished_at) != (summary.status, summary.finished_at) {
            self.unindex(run_id, &before);
            self.index(run_id, &summary);
        }
        beside.dead_letters.into_iter().for_each(|letter| self.dead_letters.put(letter));
        beside.cache.into_iter().for_each(|entry| self.cache.put(entry));
        let deliveries = beside.deliveries.into_iter().map(DeliveryChange::Put);
        deliveries.for_each(|put| self.deliveries.change(put));
        Ok(Written::Appended)
    }

    fn index(&mut self, id: RunId, summary: &RunSummary) {
        if summary.status.is_terminal() {
            self.ended.insert((ended_at(summary), id));
            self.ended_by_status.entry(summary.status).or_default().insert(id);
        } else {
            self.unfinished.insert(id);
        }
    }

    fn unindex(&mut self, id: RunId, summary: &RunSummary) {
        if summary.status.is_terminal() {
            self.ended.remove(&(ended_at(summary), id));
            self.ended_by_status.entry(summary.status).or_default().remove(&id);
        } else {
            self.unfinished.remove(&id);
        }
    }

    fn claim(
        &mut self,
        owner: Uuid,
        now: Timestamp,
        until: Timestamp,
        limit: usize,
    ) -> Vec<(RunRecord, Fence)> {
        let expired = self.leases.extract_if(|other, until| *other != owner && *until <= now);
        let expired: Vec<Uuid> = expired.map(|(other, _)| other).collect();
        if !expired.is_empty() {
            self.void_leases_of(|owner| expired.contains(&owner));
        }
        self.leases.insert(owner, until);
        let mut claimed = Vec::new();
        for id in &self.unfinished {
            if claimed.len() == limit {
                break;
            }
            if let Some(kept) = self.runs.get_mut(id).filter(|kept| !kept.held) {
                kept.held = true;
                kept.fence = Fence { owner, token: kept.fence.token + 1 };
                claimed.push((kept.record.clone(), kept.fence));
            }
        }
        claimed
    }

    fn runs(&self, filter: &RunFilter) -> Vec<RunRow> {
        let (since, end) = id_range(filter);
        if end.is_some_and(|end| end <= since) {
            return Vec::new();
        }
        let range = (Bound::Included(since), end.map_or(Bound::Unbounded, Bound::Excluded));
        let has_status = |id: &&RunId| {
            let of_run = || self.runs.get(*id).map(|kept| kept.record.summary.status);
            filter.status.is_none() || of_run() == filter.status
        };
        let newest = |ids: &'_ BTreeSet<RunId>| -> Vec<RunId> {
            ids.range(range).rev().filter(has_status).take(filter.limit).copied().collect()
        };
        let mut ids = match (&filter.pipelines, filter.status) {
            (Some(pipelines), _) => {
                let chosen: BTreeSet<&PipelineId> = pipelines.iter().collect();
                let chosen = chosen.into_iter().filter_map(|id| self.by_pipeline.get(id));
                chosen.flat_map(|runs| newest(&runs.ids)).collect()
            }
            (None, Some(status)) if status.is_terminal() => {
                self.ended_by_status.get(&status).map(newest).unwrap_or_default()
            }
            (None, Some(_)) => newest(&self.unfinished),
            (None, None) => self.by_pipeline.values().flat_map(|runs| newest(&runs.ids)).collect(),
        };
        ids.sort_unstable_by(|a, b| b.cmp(a));
        ids.truncate(filter.limit);
        ids.iter().filter_map(|id| self.runs.get(id)).map(|kept| RunRow::from(&kept.record)).collect()
    }

    fn prune(&mut self, retention: Retention, limit: usize) -> Vec<Kept> {
        let is_old = |at: Timestamp| retention.ended_before.is_some_and(|before| at < before);
        let beyond = retention.keep.map_or(0, |keep| self.ended.len().saturating_sub(keep));
        let goes = |(place, (at, _)): &(usize, &(Timestamp, RunId))| *place < beyond || is_old(*at);
        let ended = self.ended.iter().enumerate().take_while(goes).take(limit);
        let ids: Vec<RunId> = ended.map(|(_, (_, id))| *id).collect();
        ids.into_iter().filter_map(|id| self.remove(id)).collect()
    }

    /// Removes the ended runs beyond so many, those that ended first.
    fn make_room(&mut self, keep: usize) -> Vec<Kept> {
        let mut gone = Vec::new();
        while self.ended.len() > keep
            && let Some((_, id)) = self.ended.first().copied()
        {
            gone.extend(self.remove(id));
        }
        gone
    }

    /// Takes a run out of everything.
    fn remove(&mut self, id: RunId) -> Option<Kept> {
        let kept = self.runs.remove(&id)?;
        let record = &kept.record;
        self.unindex(id, &record.summary);
        self.dead_letters.forget(id);
        let mut is_followed = true;
        if let Some(runs) = self.by_pipeline.get_mut(&record.pipeline_id) {
            runs.ids.remove(&id);
            if let Some(key) = &record.idempotency_key {
                runs.by_key.remove(key);
            }
            if let Some(followers) = runs.followers.get_mut(&record.version) {
                *followers -= 1;
                is_followed = *followers > 0;
            }
            if !is_followed {
                runs.followers.remove(&record.version);
            }
            if runs.ids.is_empty() {
                self.by_pipeline.remove(&record.pipeline_id);
            }
        }
        // A version that was superseded or deleted goes with the last run that followed it.
        if !is_followed
            && let Some(versions) = self.pipelines.get_mut(&record.pipeline_id)
            && (versions.deleted || record.version < versions.newest)
        {
            versions.kept.remove(&record.version);
        }
        Some(kept)
    }
}

/// By what ended runs are in order.
fn ended_at(summary: &RunSummary) -> Timestamp {
    summary.finished_at.unwrap_or(Timestamp::from_millis(i64::MAX))
}

#[async_trait]
impl Store for MemoryStore {
    async fn write(&self, writes: Vec<RunWrite>) -> Result<Vec<Result<Written, WriteError>>, StoreError> {
        let mut inner = self.inner.lock();
        let open = inner.open()?;
        let answers = writes.into_iter().map(|write| open.write(write)).collect();
        let gone = open.make_room(self.kept);
        // What takes long is not done under the lock.
        drop(inner);
        drop(gone);
        Ok(answers)
    }

    async fn claim(
        &self,
        owner: Uuid,
        now: Timestamp,
        until: Timestamp,
        limit: usize,
    ) -> Result<Vec<(RunRecord, Fence)>, StoreError> {
        Ok(self.inner.lock().open()?.claim(owner, now, until, limit))
    }

    async fn renew(&self, owner: Uuid, until: Timestamp) -> Result<bool, StoreError> {
        let mut inner = self.inner.lock();
        let lease = inner.open()?.leases.get_mut(&owner);
        let has_one = lease.is_some();
        lease.into_iter().for_each(|lease| *lease = until);
        Ok(has_one)
    }

    async fn run(&self, id: RunId) -> Result<Option<RunRecord>, StoreError> {
        Ok(self.inner.lock().runs.get(&id).map(|kept| kept.record.clone()))
    }

    async fn run_by_key(&self, pipeline: &PipelineId, key: &str) -> Result<Option<RunRecord>, StoreError> {
        let inner = self.inner.lock();
        let id = inner.by_pipeline.get(pipeline).and_then(|of_pipeline| of_pipeline.by_key.get(key));
        Ok(id.and_then(|id| inner.runs.get(id)).map(|kept| kept.record.clone()))
    }

    async fn runs(&self, filter: RunFilter) -> Result<Vec<RunRow>, StoreError> {
        Ok(self.inner.lock().runs(&filter))
    }

    async fn last_runs(&self, pipelines: &[PipelineId]) -> Result<Vec<RunRow>, StoreError> {
        let inner = self.inner.lock();
        let newest = |id| inner.by_pipeline.get(id)?.ids.last();
        let ids = pipelines.iter().filter_map(newest);
        Ok(ids.filter_map(|id| inner.runs.get(id)).map(|kept| RunRow::from(&kept.record)).collect())
    }

    async fn statistics(
        &self,
        pipeline: &PipelineId,
        since: Option<Timestamp>,
        until: Option<Timestamp>,
        most: usize,
    ) -> Result<RunStatistics, StoreError> {
        let filter = RunFilter { since, until, limit: most, ..RunFilter::default() };
        Ok(self.inner.lock().statistics(pipeline, &filter))
    }

    async fn events(&self, id: RunId, after_seq: u64, limit: usize) -> Result<Vec<Event>, StoreError> {
        let inner = self.inner.lock();
        let Some(kept) = inner.runs.get(&id) else { return Ok(Vec::new()) };
        let is_seen = |written: &Arc<[Event]>| written.last().is_none_or(|last| last.seq <= after_seq);
        let wanted = kept.events.get(kept.events.partition_point(is_seen)..).into_iter().flatten();
        let wanted = wanted.flat_map(|written| written.iter()).filter(|event| event.seq > after_seq);
        Ok(wanted.take(limit).cloned().collect())
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

    async fn snapshot(&self, id: RunId) -> Result<Option<Snapshot>, StoreError> {
        Ok(self.inner.lock().runs.get(&id).and_then(|kept| kept.snapshot.clone()))
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
        inner.cache.drop_of(id, None);
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
        let mut inner = self.inner.lock();
        let inner = inner.open()?;
        inner.firings.forget(id);
        Ok(inner.schedules.remove(id).is_some())
    }

    async fn note_firing(&self, firing: Firing) -> Result<bool, StoreError> {
        let mut inner = self.inner.lock();
        let firings = &mut inner.open()?.firings;
        if firings.get(&firing.schedule, firing.due).is_some_and(|earlier| earlier.run_id.is_some()) {
            return Ok(false);
        }
        firings.note(Firing { run_id: None, ..firing });
        Ok(true)
    }

    async fn firings(&self, filter: FiringFilter) -> Result<Vec<Firing>, StoreError> {
        Ok(self.inner.lock().firings.list(&filter))
    }

    async fn dead_letters(&self, filter: DeadLetterFilter) -> Result<Vec<DeadLetter>, StoreError> {
        Ok(self.inner.lock().dead_letters.list(&filter))
    }

    async fn dead_letter(&self, run: RunId, step_run: u32) -> Result<Option<DeadLetter>, StoreError> {
        Ok(self.inner.lock().dead_letters.get(run, step_run).cloned())
    }

    async fn drop_dead_letter(&self, run: RunId, step_run: u32) -> Result<bool, StoreError> {
        Ok(self.inner.lock().open()?.dead_letters.remove(run, step_run))
    }

    async fn cached(&self, key: &[u8], now: Timestamp) -> Result<Option<CacheEntry>, StoreError> {
        Ok(self.inner.lock().cache.get(key, now))
    }

    async fn drop_cached(&self, pipeline: &PipelineId, task: Option<&str>) -> Result<u64, StoreError> {
        Ok(self.inner.lock().open()?.cache.drop_of(pipeline, task))
    }

    async fn cache_stats(&self, pipeline: &PipelineId) -> Result<Vec<CacheStats>, StoreError> {
        Ok(self.inner.lock().cache.stats(pipeline))
    }

    async fn prune_cache(&self, now: Timestamp, keep: usize) -> Result<u64, StoreError> {
        Ok(self.inner.lock().open()?.cache.prune(now, keep))
    }

    async fn change_deliveries(&self, changes: Vec<DeliveryChange>) -> Result<(), StoreError> {
        let mut inner = self.inner.lock();
        let deliveries = &mut inner.open()?.deliveries;
        changes.into_iter().for_each(|change| deliveries.change(change));
        Ok(())
    }

    async fn deliveries(&self, filter: DeliveryFilter) -> Result<Vec<Delivery>, StoreError> {
        Ok(self.inner.lock().deliveries.list(&filter))
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

    async fn prune(&self, retention: Retention, limit: usize) -> Result<usize, StoreError> {
        let gone = self.inner.lock().open()?.prune(retention, limit);
        Ok(gone.len())
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
    use crate::conformance::{Subject, check_all, ending, record};

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
    async fn ended_runs_beyond_a_number_go_and_unfinished_ones_stay() {
        let store = MemoryStore::with_room(5);
        let owner = Uuid::now_v7();
        let live = record("p", 0);
        let live_id = live.run_id;
        let create = |run| RunWrite::Create { run: Box::new(run), owner, firing: None, replays: None };
        store.write(vec![create(live)]).await.unwrap();
        let mut ended = Vec::new();
        for number in 0..20_i64 {
            let mut run = record("p", 0);
            run.idempotency_key = Some(number.to_string());
            // The one that was asked for last ends first.
            let mut end = ending(run.run_id, Fence { owner, token: 1 }, 1, RunStatus::Completed);
            end.summary.finished_at = Some(Timestamp::from_millis(100 - number));
            ended.push(run.run_id);
            let answers = store.write(vec![create(run), RunWrite::Append(Box::new(end))]).await.unwrap();
            assert!(answers.iter().all(Result::is_ok));
            let kept = store.runs(RunFilter { limit: 100, ..RunFilter::default() }).await.unwrap().len();
            assert_eq!(kept, 1 + ended.len().min(5), "the live one, and those that ended last");
        }
        for (number, id) in ended.iter().enumerate() {
            assert_eq!(store.run(*id).await.unwrap().is_some(), number < 5, "{number}");
            assert_eq!(store.events(*id, 0, 9).await.unwrap().len(), usize::from(number < 5));
            let of_key = store.run_by_key(&"p".parse().unwrap(), &number.to_string()).await.unwrap();
            assert_eq!(of_key.is_some(), number < 5);
        }
        assert!(store.run(live_id).await.unwrap().is_some());
        let of_status = RunFilter { status: Some(RunStatus::Completed), limit: 100, ..RunFilter::default() };
        assert_eq!(store.runs(of_status).await.unwrap().len(), 5);
    }

    #[tokio::test]
    async fn keeps_every_promise() {
        check_all(&InMemory).await;
    }
}
