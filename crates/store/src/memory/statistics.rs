//! What runs came to.

use std::ops::Bound;

use taskiq_flow_core::id::{PipelineId, RunId};
use taskiq_flow_core::run::RunStatus;

use super::Inner;
use crate::records::{RunFilter, RunRecord, RunStatistics};
use crate::rules::{asked_at, id_range};

impl Inner {
    /// What the runs of a pipeline came to; of the filter its times and its limit.
    pub(super) fn statistics(&self, pipeline: &PipelineId, filter: &RunFilter) -> RunStatistics {
        let mut statistics = RunStatistics::default();
        let (first, end) = id_range(filter);
        if end.is_some_and(|end| end <= first) {
            return statistics;
        }
        let mut first = first;
        if let Some(oldest) = self.oldest_counted(pipeline, first, end, filter.limit.max(1)) {
            first = oldest;
            statistics.counted_since = Some(asked_at(oldest));
        }
        let mut counts = [0; RunStatus::ALL.len()];
        for record in self.newest(pipeline, first, end) {
            let summary = &record.summary;
            if let Some(place) = RunStatus::ALL.iter().position(|status| *status == summary.status) {
                counts[place] += 1;
            }
            if let (RunStatus::Completed, Some(started), Some(finished)) =
                (summary.status, summary.started_at, summary.finished_at)
            {
                let took = finished.since(started).as_millis();
                statistics.durations.push(u64::try_from(took).unwrap_or(u64::MAX));
            }
        }
        statistics.counts = RunStatus::ALL.into_iter().zip(counts).filter(|(_, count)| *count > 0).collect();
        statistics.durations.sort_unstable();
        statistics
    }

    /// The last of the newest so many that have ended, if there are more.
    fn oldest_counted(
        &self,
        pipeline: &PipelineId,
        first: RunId,
        end: Option<RunId>,
        most: usize,
    ) -> Option<RunId> {
        let mut ended =
            self.newest(pipeline, first, end).filter(|record| record.summary.status.is_terminal());
        let oldest = ended.by_ref().take(most).last()?.run_id;
        ended.next().is_some().then_some(oldest)
    }

    /// The runs of a pipeline from one id on, up to another and without it; newest first.
    fn newest(
        &self,
        pipeline: &PipelineId,
        first: RunId,
        end: Option<RunId>,
    ) -> impl Iterator<Item = &RunRecord> {
        let range = (Bound::Included(first), end.map_or(Bound::Unbounded, Bound::Excluded));
        let of_pipeline = self.by_pipeline.get(pipeline).into_iter();
        let ids = of_pipeline.flat_map(move |runs| runs.ids.range(range).rev());
        ids.filter_map(|id| self.runs.get(id)).map(|kept| &kept.record)
    }
}
