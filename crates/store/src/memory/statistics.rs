//! What runs came to.

use taskiq_flow_core::id::RunId;
use taskiq_flow_core::run::RunStatus;
use taskiq_flow_core::time::Timestamp;

use crate::records::{RunRecord, RunStatistics};
use crate::rules::asked_at;

/// What of a run is counted.
pub(super) struct Counted {
    run_id: RunId,
    status: RunStatus,
    /// How long it took, of one that was completed.
    millis: Option<u64>,
}

impl From<&RunRecord> for Counted {
    fn from(record: &RunRecord) -> Self {
        let summary = &record.summary;
        Self::of(record.run_id, summary.status, summary.started_at, summary.finished_at)
    }
}

impl Counted {
    pub(super) fn of(
        run_id: RunId,
        status: RunStatus,
        started_at: Option<Timestamp>,
        finished_at: Option<Timestamp>,
    ) -> Self {
        let took = (status == RunStatus::Completed)
            .then(|| Some(finished_at?.since(started_at?).as_millis()))
            .flatten();
        let millis = took.map(|millis| u64::try_from(millis).unwrap_or(u64::MAX));
        Self { run_id, status, millis }
    }
}

/// What runs of one pipeline came to: the newest, as far as `most` of them that have ended.
pub(super) fn of(mut runs: Vec<Counted>, most: usize) -> RunStatistics {
    runs.sort_unstable_by_key(|run| std::cmp::Reverse(run.run_id));
    let mut statistics = RunStatistics::default();
    let ended = runs.iter().enumerate().filter(|(_, run)| run.status.is_terminal());
    let mut ended = ended.map(|(place, _)| place).skip(most.max(1) - 1);
    if let (Some(oldest), Some(_)) = (ended.next(), ended.next()) {
        statistics.counted_since = Some(asked_at(runs[oldest].run_id));
        runs.truncate(oldest + 1);
    }
    let of_status = |status| runs.iter().filter(|run| run.status == status).count() as u64;
    let counts = RunStatus::ALL.into_iter().map(|status| (status, of_status(status)));
    statistics.counts = counts.filter(|(_, count)| *count > 0).collect();
    statistics.durations = runs.iter().filter_map(|run| run.millis).collect();
    statistics.durations.sort_unstable();
    statistics
}
