//! What the runs of a pipeline came to.

use serde::Serialize;
use taskiq_flow_core::id::PipelineId;
use taskiq_flow_core::run::RunStatus;
use taskiq_flow_core::time::Timestamp;
use taskiq_flow_store::StoreError;

use crate::handle::Engine;

/// Runs that have ended and are looked at, the newest ones: some 50 ms, however many there are.
const LOOKED_AT: usize = 100_000;

/// What the runs of a pipeline came to that were asked for within a time.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Statistics {
    /// The pipeline.
    pub pipeline_id: PipelineId,
    /// Only runs that were asked for at this time or later are counted; none: all of them.
    pub since: Option<Timestamp>,
    /// Only those that were asked for before this time; none: all of them.
    pub until: Option<Timestamp>,
    /// Whether those are all that were meant. If not, more had ended than are looked at, and `since` says from when on they
    /// are counted.
    pub complete: bool,
    /// How many there are in each state; states that none is in are left out.
    pub counts: Vec<(RunStatus, u64)>,
    /// Which part of those that ended by themselves completed, from 0 to 1: of the completed, the failed and the timed
    /// out ones. None: there are none.
    pub success_rate: Option<f64>,
    /// How long those that completed took from their start to their end; none: none did.
    pub durations: Option<Durations>,
}

/// How long runs took, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Durations {
    /// Their mean.
    pub mean: f64,
    /// Half of them took no longer.
    pub p50: u64,
    /// 95 of 100 took no longer.
    pub p95: u64,
    /// The longest.
    pub max: u64,
}

impl Engine {
    /// What the runs of a pipeline came to that were asked for at `since` or later, and before `until`.
    ///
    /// # Errors
    /// Failures of the store.
    pub async fn statistics(
        &self,
        pipeline: &PipelineId,
        since: Option<Timestamp>,
        until: Option<Timestamp>,
    ) -> Result<Statistics, StoreError> {
        let found = self.0.store.statistics(pipeline, since, until, LOOKED_AT).await?;
        let count = |wanted: RunStatus| {
            found.counts.iter().find(|(status, _)| *status == wanted).map_or(0, |(_, count)| *count)
        };
        let completed = count(RunStatus::Completed);
        let ended = completed + count(RunStatus::Failed) + count(RunStatus::TimedOut);
        Ok(Statistics {
            pipeline_id: pipeline.clone(),
            since: found.counted_since.or(since),
            until,
            complete: found.counted_since.is_none(),
            success_rate: (ended > 0).then(|| completed as f64 / ended as f64),
            durations: Durations::of(&found.durations),
            counts: found.counts,
        })
    }
}

impl Durations {
    /// Of durations, shortest first.
    fn of(sorted: &[u64]) -> Option<Self> {
        let max = *sorted.last()?;
        // The smallest that so many percent do not exceed.
        let percentile = |percent: usize| sorted[(sorted.len() * percent).div_ceil(100).max(1) - 1];
        let sum: f64 = sorted.iter().map(|millis| *millis as f64).sum();
        Some(Self { mean: sum / sorted.len() as f64, p50: percentile(50), p95: percentile(95), max })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_durations_that_were_measured() {
        assert_eq!(Durations::of(&[]), None);
        assert_eq!(Durations::of(&[7]), Some(Durations { mean: 7.0, p50: 7, p95: 7, max: 7 }));
        let hundred: Vec<u64> = (1..=100).collect();
        assert_eq!(Durations::of(&hundred), Some(Durations { mean: 50.5, p50: 50, p95: 95, max: 100 }));
        let few = Durations::of(&[1, 2, 3]).unwrap();
        assert_eq!((few.p50, few.p95), (2, 3));
    }
}
