//! Forecasts.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;
use taskiq_flow_core::id::{PipelineId, RunId};
use taskiq_flow_core::time::Timestamp;
use taskiq_flow_engine::{Estimate, SpeedUp, TypicalItems, WhatIf};
use utoipa::ToSchema;

/// When a run will have ended.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Estimate)]
pub(crate) struct EstimateDocument {
    #[schema(value_type = String, format = Uuid)]
    pub(crate) run_id: RunId,
    #[schema(value_type = String)]
    pub(crate) pipeline_id: PipelineId,
    pub(crate) status: &'static str,
    /// When this was said. A run that is queued or paused is taken to go on at that time.
    #[schema(value_type = String, format = DateTime)]
    pub(crate) at: Timestamp,
    /// When it will have ended: as likely before as after. Of a run that has ended, when it did. Null when nothing is known
    /// of any step that is left, or one waits for a signal for longer than ever.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(crate) finish_at: Option<Timestamp>,
    /// One in ten ends before.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(crate) low: Option<Timestamp>,
    /// One in ten ends after.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(crate) high: Option<Timestamp>,
    /// What it comes from: `draws` out of the durations of earlier runs; their `medians`, where steps and items are too
    /// many to draw; `ended`; `unknown`.
    pub(crate) basis: &'static str,
    /// How often the rest of the run was drawn.
    pub(crate) draws: usize,
    /// Steps that are left and of which nothing is known. They count nothing: the run will end later than is said.
    #[schema(value_type = Vec<String>)]
    pub(crate) unmeasured: Vec<Arc<str>>,
    /// Steps that are under way for longer than they ever took. They are taken to end any moment now, but for one
    /// that waits for a signal, of which nobody can say when it comes.
    #[schema(value_type = Vec<String>)]
    pub(crate) overdue: Vec<Arc<str>>,
}

/// What a run of a pipeline takes with a number of workers, by what its steps took in earlier runs.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = WhatIf)]
pub(crate) struct WhatIfDocument {
    #[schema(value_type = String)]
    pub(crate) pipeline_id: PipelineId,
    /// Attempts under way at once.
    pub(crate) workers: u32,
    /// As likely less as more.
    pub(crate) duration_ms: u64,
    /// One in ten takes less; null when steps and items are too many to draw.
    pub(crate) low_ms: Option<u64>,
    /// One in ten takes more.
    pub(crate) high_ms: Option<u64>,
    /// How often a run was drawn.
    pub(crate) draws: usize,
    /// What no number of workers can better.
    pub(crate) critical_path_ms: u64,
    /// What one worker has to do.
    pub(crate) work_ms: u64,
    /// By task: how much later it could start without making the run longer, if every worker does the same in the same
    /// order.
    pub(crate) slack_ms: BTreeMap<String, u64>,
    /// What to speed up first.
    pub(crate) speed_up: Vec<SpeedUpDocument>,
    /// By task: the median of what it took.
    pub(crate) durations_ms: BTreeMap<String, u64>,
    /// By task with items: what an item took and how many there were. What such a task takes comes of these.
    pub(crate) items: BTreeMap<String, TypicalItemsDocument>,
    /// Tasks of which nothing is known. They count nothing.
    pub(crate) unmeasured: Vec<String>,
}

/// The items of a task, by the medians of earlier runs.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = TypicalItems)]
pub(crate) struct TypicalItemsDocument {
    /// What an item took.
    pub(crate) duration_ms: u64,
    /// How many there were.
    pub(crate) count: u64,
}

/// What it would gain to speed a task up.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = SpeedUp)]
pub(crate) struct SpeedUpDocument {
    pub(crate) task: String,
    /// How much shorter the whole were if the task took no time.
    pub(crate) gain_ms: u64,
}

impl From<Estimate> for EstimateDocument {
    fn from(estimate: Estimate) -> Self {
        let Estimate { run, at, finish_at, band, draws, unmeasured, overdue } = estimate;
        let basis = match (run.status.is_terminal(), finish_at, draws) {
            (true, ..) => "ended",
            (false, None, _) => "unknown",
            (false, Some(_), 0) => "medians",
            (false, Some(_), _) => "draws",
        };
        let (low, high) = band.unzip();
        Self {
            run_id: run.run_id,
            pipeline_id: run.pipeline_id,
            status: run.status.as_str(),
            at,
            finish_at,
            low,
            high,
            basis,
            draws,
            unmeasured,
            overdue,
        }
    }
}

impl From<SpeedUp> for SpeedUpDocument {
    fn from(SpeedUp { task, gain_ms }: SpeedUp) -> Self {
        Self { task, gain_ms }
    }
}

impl From<TypicalItems> for TypicalItemsDocument {
    fn from(TypicalItems { duration_ms, count }: TypicalItems) -> Self {
        Self { duration_ms, count }
    }
}

impl WhatIfDocument {
    pub(crate) fn new(pipeline_id: PipelineId, found: WhatIf) -> Self {
        Self {
            pipeline_id,
            workers: found.workers,
            duration_ms: found.duration_ms,
            low_ms: found.low_ms,
            high_ms: found.high_ms,
            draws: found.draws,
            critical_path_ms: found.critical_path_ms,
            work_ms: found.work_ms,
            slack_ms: found.slack_ms,
            speed_up: found.speed_up.into_iter().map(Into::into).collect(),
            durations_ms: found.durations_ms,
            items: found.items.into_iter().map(|(task, items)| (task, items.into())).collect(),
            unmeasured: found.unmeasured,
        }
    }
}
