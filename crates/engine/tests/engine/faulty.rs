//! A store that can be told to fail, or to keep writers of runs waiting.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use async_trait::async_trait;
use taskiq_flow_core::id::{PipelineId, RunId};
use taskiq_flow_core::run::Event;
use taskiq_flow_core::time::Timestamp;
use taskiq_flow_store::{
    CacheEntry, CacheRoom, CacheStats, DeadLetter, DeadLetterFilter, Delivery, DeliveryChange,
    DeliveryFilter, DeliveryStats, Fence, Firing, FiringFilter, MemoryStore, PipelineRecord, Retention,
    RunFilter, RunRecord, RunRow, RunStatistics, RunWrite, ScheduleRecord, SecurityChange, SecurityRecord,
    StepLog, Store, StoreError, WriteError, Written,
};
use tokio::sync::Mutex;
use uuid::Uuid;

#[derive(Debug, Default)]
pub(crate) struct FaultyStore {
    pub(crate) inner: Arc<MemoryStore>,
    /// After so many moments nothing that changes something returns any more, as in a process that was killed. There is
    /// one before each change and one after it.
    pub(crate) life: parking_lot::Mutex<Option<usize>>,
    /// Writes of runs, and of leases, fail as long as it is set.
    pub(crate) down: AtomicBool,
    /// Writes of new runs fail as long as it is set.
    pub(crate) full: AtomicBool,
    /// What happens to runs is refused as long as it is set, as if another driver had them.
    pub(crate) fenced: AtomicBool,
    /// What happens next to a run is refused as too much for the store.
    pub(crate) too_large: AtomicBool,
    /// The next write of runs is made, and its answer lost.
    pub(crate) lost: AtomicBool,
    /// Runs cannot be read as long as it is set.
    pub(crate) unreadable: AtomicBool,
    /// The log of this run cannot be read.
    pub(crate) without_log: parking_lot::Mutex<Option<RunId>>,
    /// Logs of runs are read as long as nobody holds it.
    pub(crate) reading: Mutex<()>,
    /// Writes of runs wait as long as somebody holds it.
    pub(crate) gate: Mutex<()>,
    /// Whether it says that other processes use it too.
    pub(crate) shared: AtomicBool,
    /// How often runs were claimed and leases renewed.
    pub(crate) asked_for_leases: AtomicUsize,
    /// Whoever looks for a kept value waits as long as somebody holds it.
    pub(crate) looks: Mutex<()>,
    /// Kept values cannot be read as long as it is set.
    pub(crate) blind: AtomicBool,
    /// Whether it says that nothing outlives the process, as its inner one does.
    pub(crate) is_in_memory: bool,
    /// How often logs of runs were read.
    pub(crate) reads: AtomicUsize,
    /// How often runs were written.
    pub(crate) writes: AtomicUsize,
}

impl FaultyStore {
    /// Whoever comes here once the life is spent stays for ever.
    async fn moment(&self) {
        let spent = match &mut *self.life.lock() {
            None => false,
            Some(0) => true,
            Some(left) => {
                *left -= 1;
                false
            }
        };
        if spent {
            std::future::pending::<()>().await;
        }
    }

    fn answers(&self) -> Result<(), StoreError> {
        if self.down.load(Ordering::SeqCst) { Err(is_down()) } else { Ok(()) }
    }

    pub(crate) fn is_dead(&self) -> bool {
        *self.life.lock() == Some(0)
    }

    pub(crate) fn set_down(&self, down: bool) {
        self.down.store(down, Ordering::SeqCst);
    }
}

fn is_down() -> StoreError {
    StoreError::Unavailable { place: "test".to_owned(), reason: "it is down".to_owned() }
}

#[async_trait]
impl Store for FaultyStore {
    async fn write(&self, writes: Vec<RunWrite>) -> Result<Vec<Result<Written, WriteError>>, StoreError> {
        drop(self.gate.lock().await);
        let creates = writes.iter().any(|write| matches!(write, RunWrite::Create { .. }));
        self.answers()?;
        if creates && self.full.load(Ordering::SeqCst) {
            return Err(is_down());
        }
        self.writes.fetch_add(1, Ordering::SeqCst);
        if self.fenced.load(Ordering::SeqCst) {
            let refused = |write| match write {
                RunWrite::Append(append) => Err(WriteError::Fenced { run_id: append.run_id }),
                other => unreachable!("{other:?}"),
            };
            return Ok(writes.into_iter().map(refused).collect());
        }
        if let [RunWrite::Append(append)] = &writes[..]
            && self.too_large.swap(false, Ordering::SeqCst)
        {
            return Ok(vec![Err(WriteError::TooLarge { run_id: append.run_id, unit: "bytes", limit: 1 })]);
        }
        self.moment().await;
        let written = self.inner.write(writes).await;
        self.moment().await;
        if self.lost.swap(false, Ordering::SeqCst) {
            let (place, reason) = ("test".to_owned(), "the answer was lost".to_owned());
            return Err(StoreError::Unavailable { place, reason });
        }
        written
    }

    async fn claim(
        &self,
        owner: Uuid,
        now: Timestamp,
        until: Timestamp,
        limit: usize,
    ) -> Result<Vec<(RunRecord, Fence)>, StoreError> {
        self.asked_for_leases.fetch_add(1, Ordering::SeqCst);
        self.answers()?;
        self.inner.claim(owner, now, until, limit).await
    }

    async fn renew(&self, owner: Uuid, until: Timestamp) -> Result<bool, StoreError> {
        self.asked_for_leases.fetch_add(1, Ordering::SeqCst);
        self.answers()?;
        self.inner.renew(owner, until).await
    }

    fn is_shared(&self) -> bool {
        self.shared.load(Ordering::SeqCst)
    }

    async fn run(&self, id: RunId) -> Result<Option<RunRecord>, StoreError> {
        if self.unreadable.load(Ordering::SeqCst) {
            return Err(is_down());
        }
        self.inner.run(id).await
    }

    async fn run_by_key(&self, pipeline: &PipelineId, key: &str) -> Result<Option<RunRecord>, StoreError> {
        self.inner.run_by_key(pipeline, key).await
    }

    async fn runs(&self, filter: RunFilter) -> Result<Vec<RunRow>, StoreError> {
        self.inner.runs(filter).await
    }

    async fn last_runs(&self, pipelines: &[PipelineId]) -> Result<Vec<RunRow>, StoreError> {
        self.inner.last_runs(pipelines).await
    }

    async fn events(&self, id: RunId, after_seq: u64, limit: usize) -> Result<Vec<Event>, StoreError> {
        self.reads.fetch_add(1, Ordering::SeqCst);
        if *self.without_log.lock() == Some(id) {
            return Err(is_down());
        }
        drop(self.reading.lock().await);
        self.inner.events(id, after_seq, limit).await
    }

    async fn logs(&self, id: RunId) -> Result<Vec<StepLog>, StoreError> {
        self.inner.logs(id).await
    }

    async fn durations(
        &self,
        pipeline: &PipelineId,
        runs: usize,
    ) -> Result<Vec<(String, Vec<u64>)>, StoreError> {
        self.inner.durations(pipeline, runs).await
    }

    async fn put_pipeline(&self, record: PipelineRecord) -> Result<(), StoreError> {
        self.moment().await;
        let put = self.inner.put_pipeline(record).await;
        self.moment().await;
        put
    }

    async fn pipelines(&self) -> Result<Vec<PipelineRecord>, StoreError> {
        self.inner.pipelines().await
    }

    async fn pipeline(&self, id: &PipelineId, version: u32) -> Result<Option<PipelineRecord>, StoreError> {
        self.inner.pipeline(id, version).await
    }

    async fn pipeline_version(&self, id: &PipelineId) -> Result<u32, StoreError> {
        self.inner.pipeline_version(id).await
    }

    async fn delete_pipeline(&self, id: &PipelineId) -> Result<bool, StoreError> {
        self.inner.delete_pipeline(id).await
    }

    async fn put_schedule(&self, record: ScheduleRecord) -> Result<(), StoreError> {
        self.moment().await;
        let put = self.inner.put_schedule(record).await;
        self.moment().await;
        put
    }

    async fn schedules(&self) -> Result<Vec<ScheduleRecord>, StoreError> {
        self.inner.schedules().await
    }

    async fn delete_schedule(&self, id: &str) -> Result<bool, StoreError> {
        self.moment().await;
        let deleted = self.inner.delete_schedule(id).await;
        self.moment().await;
        deleted
    }

    async fn note_firing(&self, firing: Firing) -> Result<bool, StoreError> {
        self.moment().await;
        let noted = self.inner.note_firing(firing).await;
        self.moment().await;
        noted
    }

    async fn firings(&self, filter: FiringFilter) -> Result<Vec<Firing>, StoreError> {
        self.inner.firings(filter).await
    }

    async fn dead_letters(&self, filter: DeadLetterFilter) -> Result<Vec<DeadLetter>, StoreError> {
        self.inner.dead_letters(filter).await
    }

    async fn dead_letter(&self, run: RunId, step_run: u32) -> Result<Option<DeadLetter>, StoreError> {
        self.inner.dead_letter(run, step_run).await
    }

    async fn drop_dead_letter(&self, run: RunId, step_run: u32) -> Result<bool, StoreError> {
        self.inner.drop_dead_letter(run, step_run).await
    }

    async fn cached(&self, key: &[u8], now: Timestamp) -> Result<Option<CacheEntry>, StoreError> {
        drop(self.looks.lock().await);
        if self.blind.load(Ordering::SeqCst) {
            let (place, reason) = ("test".to_owned(), "it is blind".to_owned());
            return Err(StoreError::Unavailable { place, reason });
        }
        self.inner.cached(key, now).await
    }

    async fn drop_cached(&self, pipeline: &PipelineId, task: Option<&str>) -> Result<u64, StoreError> {
        self.inner.drop_cached(pipeline, task).await
    }

    async fn cache_stats(&self, pipeline: &PipelineId) -> Result<Vec<CacheStats>, StoreError> {
        self.inner.cache_stats(pipeline).await
    }

    async fn prune_cache(&self, now: Timestamp, keep: CacheRoom) -> Result<u64, StoreError> {
        self.inner.prune_cache(now, keep).await
    }

    async fn change_deliveries(&self, changes: Vec<DeliveryChange>) -> Result<(), StoreError> {
        self.inner.change_deliveries(changes).await
    }

    async fn deliveries(&self, filter: DeliveryFilter) -> Result<Vec<Delivery>, StoreError> {
        self.inner.deliveries(filter).await
    }

    async fn delivery_stats(&self) -> Result<Vec<DeliveryStats>, StoreError> {
        self.inner.delivery_stats().await
    }

    async fn change_security(&self, changes: Vec<SecurityChange>) -> Result<(), StoreError> {
        self.inner.change_security(changes).await
    }

    async fn security_records(&self) -> Result<Vec<SecurityRecord>, StoreError> {
        self.inner.security_records().await
    }

    async fn statistics(
        &self,
        pipeline: &PipelineId,
        since: Option<Timestamp>,
        until: Option<Timestamp>,
        most: usize,
    ) -> Result<RunStatistics, StoreError> {
        self.inner.statistics(pipeline, since, until, most).await
    }

    async fn prune(&self, retention: Retention, limit: usize) -> Result<usize, StoreError> {
        self.inner.prune(retention, limit).await
    }

    fn outlives_process(&self) -> bool {
        !self.is_in_memory
    }

    async fn check(&self) -> Result<(), StoreError> {
        self.inner.check().await
    }

    async fn close(&self) {
        if !self.is_shared() {
            self.inner.close().await;
        }
    }
}
