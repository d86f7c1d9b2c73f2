//! The schedules that an engine knows.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use taskiq_flow_store::ScheduleRecord;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// The schedules of an engine.
#[derive(Debug, Default)]
pub(crate) struct Scheduler {
    pub(crate) records: Mutex<BTreeMap<String, ScheduleRecord>>,
    /// Held by whoever reads schedules to change them, so that no change undoes another.
    pub(crate) changing: tokio::sync::Mutex<()>,
    pub(crate) changed: Arc<Notify>,
    pub(crate) stopped: CancellationToken,
}

impl Scheduler {
    pub(crate) fn stop(&self) {
        self.stopped.cancel();
    }

    /// The one that fires next.
    pub(crate) fn next(&self) -> Option<ScheduleRecord> {
        let records = self.records.lock();
        records
            .values()
            .filter(|record| record.next_fire_at.is_some())
            .min_by_key(|r| r.next_fire_at)
            .cloned()
    }
}
