//! A store that forgets everything when the process ends.
//!
//! Runs are in parts, each under a lock of its own, so that drivers of different runs do not wait for each other. What
//! they share is under one more, which is held for moments. Who holds both took that of the part first; nobody holds
//! those of two parts.

mod beside;
mod packed;
mod runs;
mod shared;
mod statistics;
mod write;

use std::cmp::Reverse;
use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use parking_lot::{Mutex, MutexGuard};
use taskiq_flow_core::by_run::part_of;
use taskiq_flow_core::id::{PipelineId, RunId};
use taskiq_flow_core::run::Event;
use taskiq_flow_core::time::Timestamp;
use uuid::Uuid;

use self::runs::{Kept, Part};
use self::shared::Shared;
use crate::Store;
use crate::codec::Unreadable;
use crate::error::{StoreError, WriteError};
use crate::records::{
    CacheEntry, CacheRoom, CacheStats, DeadLetter, DeadLetterFilter, Delivery, DeliveryChange,
    DeliveryFilter, DeliveryStats, Fence, Firing, FiringFilter, PipelineRecord, Retention, RunFilter,
    RunRecord, RunRow, RunStatistics, RunWrite, ScheduleRecord, SecurityChange, SecurityRecord, StepLog,
    Written,
};
use crate::rules::newest_durations;

/// Ended runs that [`MemoryStore::new`] keeps: some 30 MB of small ones.
const KEPT_RUNS: usize = 10_000;

/// Parts that runs are in: several for each processor of most machines, so that two drivers seldom meet.
const PARTS: usize = 16;

/// Keeps everything in memory: for tests, for trying things out, and for programs whose runs need not outlive them.
///
/// A crash loses all; whatever else [`Store`] promises holds. Runs that have ended go, those that ended first, when
/// there are more than a number of them; unfinished ones never. It can still be read after it was closed.
pub struct MemoryStore {
    parts: Box<[Mutex<Part>; PARTS]>,
    shared: Mutex<Shared>,
    durations: Mutex<Durations>,
    closed: AtomicBool,
    /// Ended runs that are kept.
    kept: usize,
}

/// The newest durations of each task of each pipeline.
type Durations = HashMap<PipelineId, HashMap<Arc<str>, VecDeque<u64>>>;

impl MemoryStore {
    /// An empty store that keeps the 10,000 runs that ended last.
    pub fn new() -> Self {
        Self::with_room(KEPT_RUNS)
    }

    /// An empty store that keeps so many ended runs.
    pub fn with_room(ended_runs: usize) -> Self {
        Self {
            parts: Box::default(),
            shared: Mutex::default(),
            durations: Mutex::default(),
            closed: AtomicBool::new(false),
            kept: ended_runs,
        }
    }

    /// Voids the leases of all unfinished runs, as opening does with a store that outlives its process: nobody can
    /// write to one of them until [`Store::claim`] has given it to somebody.
    pub fn void_leases(&self) {
        self.shared.lock().leases.clear();
        self.void_leases_of(|_| true);
    }

    fn void_leases_of(&self, is_meant: impl Fn(Uuid) -> bool) {
        self.parts.iter().for_each(|part| part.lock().void_leases_of(&is_meant));
    }

    fn open(&self) -> Result<(), StoreError> {
        if self.closed.load(Ordering::Acquire) { Err(StoreError::Closed) } else { Ok(()) }
    }

    fn part(&self, id: RunId) -> MutexGuard<'_, Part> {
        self.parts[part_of(id, PARTS)].lock()
    }

    /// Looks at a run.
    fn of_run<T>(
        &self,
        id: RunId,
        look: impl FnOnce(&Kept) -> Result<T, Unreadable>,
    ) -> Result<Option<T>, StoreError> {
        self.part(id).get(id).map(look).transpose().map_err(unreadable)
    }

    fn record(&self, id: RunId) -> Result<Option<RunRecord>, StoreError> {
        self.of_run(id, |kept| kept.record(id))
    }

    /// What is shared, to be changed.
    fn shared(&self) -> Result<MutexGuard<'_, Shared>, StoreError> {
        self.open()?;
        Ok(self.shared.lock())
    }
}

/// What this process has packed it can read: this would be a mistake of the program.
fn unreadable(Unreadable(what): Unreadable) -> StoreError {
    StoreError::Corrupt { path: "memory".into(), what }
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let runs: usize = self.parts.iter().map(|part| part.lock().len()).sum();
        f.debug_struct("MemoryStore").field("runs", &runs).field("kept", &self.kept).finish_non_exhaustive()
    }
}

#[async_trait]
impl Store for MemoryStore {
    async fn write(&self, writes: Vec<RunWrite>) -> Result<Vec<Result<Written, WriteError>>, StoreError> {
        self.open()?;
        Ok(self.write_all(writes))
    }

    async fn claim(
        &self,
        owner: Uuid,
        now: Timestamp,
        until: Timestamp,
        limit: usize,
    ) -> Result<Vec<(RunRecord, Fence)>, StoreError> {
        let holders = self.shared()?.take_lease(owner, now, until);
        self.void_leases_of(|owner| !holders.contains(&owner));
        let mut free: Vec<RunId> = self.parts.iter().flat_map(|part| part.lock().free(limit)).collect();
        free.sort_unstable();
        free.truncate(limit);
        Ok(free.into_iter().filter_map(|id| self.part(id).claim(id, owner)).collect())
    }

    async fn renew(&self, owner: Uuid, until: Timestamp) -> Result<bool, StoreError> {
        let mut shared = self.shared()?;
        let lease = shared.leases.get_mut(&owner);
        let has_one = lease.is_some();
        lease.into_iter().for_each(|lease| *lease = until);
        Ok(has_one)
    }

    async fn run(&self, id: RunId) -> Result<Option<RunRecord>, StoreError> {
        self.record(id)
    }

    async fn run_by_key(&self, pipeline: &PipelineId, key: &str) -> Result<Option<RunRecord>, StoreError> {
        let id = self.shared.lock().of_key(pipeline, key);
        id.map_or(Ok(None), |id| self.record(id))
    }

    async fn runs(&self, filter: RunFilter) -> Result<Vec<RunRow>, StoreError> {
        let of_parts = self.parts.iter().map(|part| part.lock().list(&filter).map_err(unreadable));
        let mut rows: Vec<RunRow> = of_parts.collect::<Result<Vec<_>, _>>()?.concat();
        rows.sort_unstable_by_key(|row| Reverse(row.run_id));
        rows.truncate(filter.limit);
        Ok(rows)
    }

    async fn last_runs(&self, pipelines: &[PipelineId]) -> Result<Vec<RunRow>, StoreError> {
        let newest = |pipeline| {
            let of_parts = self.parts.iter().map(|part| part.lock().last_of(pipeline).map_err(unreadable));
            let of_parts: Vec<_> = of_parts.collect::<Result<_, _>>()?;
            Ok(of_parts.into_iter().flatten().max_by_key(|row| row.run_id))
        };
        pipelines.iter().filter_map(|pipeline| newest(pipeline).transpose()).collect()
    }

    async fn statistics(
        &self,
        pipeline: &PipelineId,
        since: Option<Timestamp>,
        until: Option<Timestamp>,
        most: usize,
    ) -> Result<RunStatistics, StoreError> {
        let filter = RunFilter { since, until, limit: most, ..RunFilter::default() };
        let mut counted = Vec::new();
        for part in self.parts.iter() {
            counted.extend(part.lock().counted(pipeline, &filter).map_err(unreadable)?);
        }
        Ok(statistics::of(counted, most))
    }

    async fn events(&self, id: RunId, after_seq: u64, limit: usize) -> Result<Vec<Event>, StoreError> {
        Ok(self.of_run(id, |kept| kept.events(id, after_seq, limit))?.unwrap_or_default())
    }

    async fn logs(&self, id: RunId) -> Result<Vec<StepLog>, StoreError> {
        Ok(self.of_run(id, |kept| kept.logs(id))?.unwrap_or_default())
    }

    async fn durations(
        &self,
        pipeline: &PipelineId,
        runs: usize,
    ) -> Result<Vec<(String, Vec<u64>)>, StoreError> {
        let of_all = self.durations.lock();
        let of_pipeline = of_all.get(pipeline).into_iter().flatten();
        let mut newest: Vec<_> =
            of_pipeline.map(|(task, kept)| (task.to_string(), newest_durations(kept, runs))).collect();
        newest.sort_unstable_by(|(left, _), (right, _)| left.cmp(right));
        Ok(newest)
    }

    async fn put_pipeline(&self, record: PipelineRecord) -> Result<(), StoreError> {
        self.shared()?.put_pipeline(record)
    }

    async fn pipelines(&self) -> Result<Vec<PipelineRecord>, StoreError> {
        Ok(self.shared.lock().pipelines())
    }

    async fn pipeline(&self, id: &PipelineId, version: u32) -> Result<Option<PipelineRecord>, StoreError> {
        Ok(self.shared.lock().pipeline(id, version).cloned())
    }

    async fn pipeline_version(&self, id: &PipelineId) -> Result<u32, StoreError> {
        Ok(self.shared.lock().newest_version(id))
    }

    async fn delete_pipeline(&self, id: &PipelineId) -> Result<bool, StoreError> {
        let deleted = self.shared()?.delete_pipeline(id);
        if deleted {
            self.durations.lock().remove(id);
        }
        Ok(deleted)
    }

    async fn put_schedule(&self, record: ScheduleRecord) -> Result<(), StoreError> {
        self.shared()?.schedules.insert(record.id.clone(), record);
        Ok(())
    }

    async fn schedules(&self) -> Result<Vec<ScheduleRecord>, StoreError> {
        Ok(self.shared.lock().schedules.values().cloned().collect())
    }

    async fn delete_schedule(&self, id: &str) -> Result<bool, StoreError> {
        let mut shared = self.shared()?;
        shared.firings.forget(id);
        Ok(shared.schedules.remove(id).is_some())
    }

    async fn note_firing(&self, firing: Firing) -> Result<bool, StoreError> {
        let firings = &mut self.shared()?.firings;
        if firings.get(&firing.schedule, firing.due).is_some_and(|earlier| earlier.run_id.is_some()) {
            return Ok(false);
        }
        firings.note(Firing { run_id: None, ..firing });
        Ok(true)
    }

    async fn firings(&self, filter: FiringFilter) -> Result<Vec<Firing>, StoreError> {
        Ok(self.shared.lock().firings.list(&filter))
    }

    async fn dead_letters(&self, filter: DeadLetterFilter) -> Result<Vec<DeadLetter>, StoreError> {
        Ok(self.shared.lock().dead_letters.list(&filter))
    }

    async fn dead_letter(&self, run: RunId, step_run: u32) -> Result<Option<DeadLetter>, StoreError> {
        Ok(self.shared.lock().dead_letters.get(run, step_run).cloned())
    }

    async fn drop_dead_letter(&self, run: RunId, step_run: u32) -> Result<bool, StoreError> {
        Ok(self.shared()?.dead_letters.remove(run, step_run))
    }

    async fn cached(&self, key: &[u8], now: Timestamp) -> Result<Option<CacheEntry>, StoreError> {
        Ok(self.shared.lock().cache.get(key, now))
    }

    async fn drop_cached(&self, pipeline: &PipelineId, task: Option<&str>) -> Result<u64, StoreError> {
        Ok(self.shared()?.cache.drop_of(pipeline, task))
    }

    async fn cache_stats(&self, pipeline: &PipelineId) -> Result<Vec<CacheStats>, StoreError> {
        Ok(self.shared.lock().cache.stats(pipeline))
    }

    async fn prune_cache(&self, now: Timestamp, keep: CacheRoom) -> Result<u64, StoreError> {
        Ok(self.shared()?.cache.prune(now, keep))
    }

    async fn change_deliveries(&self, changes: Vec<DeliveryChange>) -> Result<(), StoreError> {
        let deliveries = &mut self.shared()?.deliveries;
        changes.into_iter().for_each(|change| deliveries.change(change));
        Ok(())
    }

    async fn deliveries(&self, filter: DeliveryFilter) -> Result<Vec<Delivery>, StoreError> {
        Ok(self.shared.lock().deliveries.list(&filter))
    }

    async fn delivery_stats(&self) -> Result<Vec<DeliveryStats>, StoreError> {
        Ok(self.shared.lock().deliveries.stats())
    }

    async fn change_security(&self, changes: Vec<SecurityChange>) -> Result<(), StoreError> {
        let security = &mut self.shared()?.security;
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
        Ok(self.shared.lock().security.values().cloned().collect())
    }

    async fn prune(&self, retention: Retention, limit: usize) -> Result<usize, StoreError> {
        let ended = self.shared()?.beyond(retention, limit);
        Ok(self.remove_all(ended))
    }

    fn outlives_process(&self) -> bool {
        false
    }

    async fn check(&self) -> Result<(), StoreError> {
        self.open()
    }

    async fn close(&self) {
        self.closed.store(true, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use taskiq_flow_core::run::RunStatus;

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
