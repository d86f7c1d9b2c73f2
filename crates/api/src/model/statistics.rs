//! What runs came to.

use std::collections::BTreeMap;

use serde::Serialize;
use taskiq_flow_core::id::PipelineId;
use taskiq_flow_core::time::Timestamp;
use taskiq_flow_engine::{Durations, Statistics};
use utoipa::ToSchema;

/// What the runs of a pipeline came to that were asked for within a time.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Statistics)]
pub(crate) struct StatisticsDocument {
    #[schema(value_type = String)]
    pub(crate) pipeline_id: PipelineId,
    /// From when on runs are counted; null: from the first one on.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(crate) since: Option<Timestamp>,
    /// Before when they were asked for; null: until now.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(crate) until: Option<Timestamp>,
    /// Whether all that were meant are counted. If not, `since` is later than what was asked for.
    pub(crate) complete: bool,
    /// How many runs are counted.
    pub(crate) runs: u64,
    /// How many of them are in each state; states that none is in are left out.
    #[schema(value_type = BTreeMap<String, u64>)]
    pub(crate) by_status: BTreeMap<&'static str, u64>,
    /// Which part of the completed, failed and timed out ones completed, from 0 to 1; null: there are none.
    pub(crate) success_rate: Option<f64>,
    /// How long the completed ones took from their start to their end; null: there are none.
    pub(crate) duration_ms: Option<DurationsDocument>,
}

/// How long runs took, in milliseconds.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Durations)]
pub(crate) struct DurationsDocument {
    /// Their mean.
    mean: f64,
    /// Half of them took no longer.
    p50: u64,
    /// 95 of 100 took no longer.
    p95: u64,
    /// The longest.
    max: u64,
}

impl From<Statistics> for StatisticsDocument {
    fn from(statistics: Statistics) -> Self {
        let Statistics { pipeline_id, since, until, complete, counts, success_rate, durations } = statistics;
        Self {
            pipeline_id,
            since,
            until,
            complete,
            runs: counts.iter().map(|(_, count)| count).sum(),
            by_status: counts.into_iter().map(|(status, count)| (status.as_str(), count)).collect(),
            success_rate,
            duration_ms: durations.map(|Durations { mean, p50, p95, max }| DurationsDocument {
                mean,
                p50,
                p95,
                max,
            }),
        }
    }
}
