//! Measurements of the engine. Their handles are kept: to look one up costs more than what it counts.

use std::sync::OnceLock;
use std::time::Duration;

use metrics::{Counter, Histogram};
use taskiq_flow_core::definition::TaskKind;
use taskiq_flow_core::id::PipelineId;
use taskiq_flow_core::plan::PlanBody;
use taskiq_flow_core::run::{Outcome, RunStatus};

use crate::cache::Found;

/// How long attempts took, by kind and by what came of them. A handle is made when it is first used, and stays with the
/// recorder of that time.
#[derive(Debug, Default)]
pub(crate) struct AttemptDurations([[OnceLock<Histogram>; 2]; KINDS]);

/// The kinds that attempts are made of.
const KINDS: usize = 7;
/// The place of a Rust task among them.
const TASK: usize = 3;

/// How many runs of a pipeline were started and how many ended, by status, and what came of looking for kept values.
#[derive(Debug)]
pub(crate) struct RunCounters {
    pub(crate) started: Counter,
    ended: [OnceLock<Counter>; RunStatus::ALL.len()],
    looked: [OnceLock<Counter>; 3],
    pipeline_id: PipelineId,
}

impl AttemptDurations {
    pub(crate) fn record(&self, body: &PlanBody, outcome: &Outcome, duration: Duration) {
        let (place, status) = match outcome {
            Outcome::Completed(_) => (0, "completed"),
            Outcome::Failed(_) => (1, "failed"),
        };
        let histogram = self.0[index_of(body)][place].get_or_init(|| {
            let kind = body.body().kind.name();
            metrics::histogram!("taskiq_flow_attempt_duration_seconds", "kind" => kind, "status" => status)
        });
        histogram.record(duration.as_secs_f64());
    }
}

fn index_of(body: &PlanBody) -> usize {
    if body.callee().is_some() {
        // Most are, and their definition is not looked at.
        return TASK;
    }
    match &body.body().kind {
        TaskKind::Expression(_) => 0,
        TaskKind::Command(_) => 1,
        TaskKind::Http(_) => 2,
        TaskKind::Task(_) => TASK,
        TaskKind::Taskiq(_) => 4,
        TaskKind::Pipeline(_) => 5,
        // The machine makes attempts of no others.
        _ => 6,
    }
}

impl RunCounters {
    pub(crate) fn of(pipeline_id: &PipelineId) -> Self {
        let name = pipeline_id.to_string();
        Self {
            started: metrics::counter!("taskiq_flow_runs_started_total", "pipeline_id" => name),
            ended: Default::default(),
            looked: Default::default(),
            pipeline_id: pipeline_id.clone(),
        }
    }

    /// A kept value was looked for.
    pub(crate) fn looked(&self, found: &Found) {
        let (place, outcome) = match found {
            Found::Kept(_) => (0, "hit"),
            Found::Made(_) => (1, "followed"),
            Found::Nothing => (2, "miss"),
        };
        let counter = self.looked[place].get_or_init(|| {
            let name = self.pipeline_id.to_string();
            metrics::counter!("taskiq_flow_cache_lookups_total", "pipeline_id" => name, "outcome" => outcome)
        });
        counter.increment(1);
    }

    pub(crate) fn ended(&self, status: RunStatus) {
        let Some(place) = RunStatus::ALL.iter().position(|known| *known == status) else { return };
        let counter = self.ended[place].get_or_init(|| {
            let name = self.pipeline_id.to_string();
            metrics::counter!("taskiq_flow_runs_total", "pipeline_id" => name, "status" => status.as_str())
        });
        counter.increment(1);
    }
}
