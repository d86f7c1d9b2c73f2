//! Forecasts: when a run will have ended, and what would make the runs of a pipeline shorter.

use std::collections::{BTreeMap, HashMap};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use taskiq_flow_core::dag::{Cost, Dag, Job, Stage, median};
use taskiq_flow_core::forecast::{costs, stages};
use taskiq_flow_core::id::{PipelineId, RunId};
use taskiq_flow_core::plan::Plan;
use taskiq_flow_core::run::RunView;
use taskiq_flow_core::time::Timestamp;
use taskiq_flow_store::StoreError;

use crate::catalog::Registered;
use crate::error::ControlError;
use crate::handle::Engine;

/// Durations of each step that are looked at: the newest ones, as many as a store keeps.
const SAMPLES: usize = 100;

/// When a run will have ended.
#[derive(Debug, Clone)]
pub struct Estimate {
    /// The run.
    pub run: RunView,
    /// When this was said.
    pub at: Timestamp,
    /// When it will have ended, or has: half of the draws ended by then. None: nothing is known of any step that is left,
    /// or one waits for a signal for longer than ever.
    pub finish_at: Option<Timestamp>,
    /// Four of five draws ended from the first to the second; none where there were none.
    pub band: Option<(Timestamp, Timestamp)>,
    /// How often the rest of the run was drawn.
    pub draws: usize,
    /// Steps that are left and of which nothing is known: they count nothing, and the run will end later.
    pub unmeasured: Vec<Arc<str>>,
    /// Steps that are under way for longer than they ever took: they are taken to end any moment now, but for one that waits
    /// for a signal, of which nobody can say when it comes.
    pub overdue: Vec<Arc<str>>,
}

/// What a run of a pipeline takes with a number of workers. Durations are in milliseconds.
#[derive(Debug, Clone, Serialize)]
pub struct WhatIf {
    /// Attempts under way at once.
    pub workers: u32,
    /// How long a run takes: half of the draws took no longer.
    pub duration_ms: u64,
    /// One draw in ten took less; none where there are too many steps and items to draw.
    pub low_ms: Option<u64>,
    /// One draw in ten took more.
    pub high_ms: Option<u64>,
    /// How often a run was drawn.
    pub draws: usize,
    /// What no number of workers can better, when every step takes its median.
    pub critical_path_ms: u64,
    /// All the work of a run: what one worker has to do.
    pub work_ms: u64,
    /// By task: how much later it could start without making the run longer, if every worker does the same in the same
    /// order.
    pub slack_ms: BTreeMap<String, u64>,
    /// Tasks by what it would gain to speed them up, the largest gain first.
    pub speed_up: Vec<SpeedUp>,
    /// By task: the median of what it took.
    pub durations_ms: BTreeMap<String, u64>,
    /// By task with items: the medians of what an item took and of how many there were. Such a task takes what these make it
    /// take, not what it took by itself.
    pub items: BTreeMap<String, TypicalItems>,
    /// Tasks of which nothing is known: they count nothing.
    pub unmeasured: Vec<String>,
}

/// The items of a task, by the medians of earlier runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct TypicalItems {
    /// What an item took, in milliseconds.
    pub duration_ms: u64,
    /// How many there were.
    pub count: u64,
}

/// What it would gain to speed a task up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SpeedUp {
    /// The task.
    pub task: String,
    /// How many milliseconds shorter the whole were if the task took no time.
    pub gain_ms: u64,
}

impl Engine {
    /// When a run will have ended, by what the steps of earlier runs took. A run that has ended says when it did; one that
    /// is queued or paused is taken to go on now.
    ///
    /// # Errors
    /// As those of [`Engine::run`] and [`Engine::plan_of`].
    pub async fn estimate(&self, run_id: RunId) -> Result<Estimate, ControlError> {
        let run = self.run(run_id).await?;
        let at = self.0.clock.now();
        if run.status.is_terminal() {
            let (finish_at, unmeasured, overdue) = (run.finished_at, Vec::new(), Vec::new());
            return Ok(Estimate { run, at, finish_at, band: None, draws: 0, unmeasured, overdue });
        }
        let plan = self.plan_of(&self.record(run_id).await?).await?;
        let costs = costs(&plan, &self.durations(&run.pipeline_id).await?);
        let workers = self.workers_of(&plan);
        let stages = stages(&run, at);
        let left = |wanted: &dyn Fn(&Cost, &Stage) -> bool| -> Vec<Arc<str>> {
            let steps = plan.steps().iter().zip(costs.iter().zip(&stages));
            let steps = steps.filter(|(_, (cost, stage))| **stage != Stage::Ended && wanted(cost, stage));
            steps.map(|(step, _)| Arc::clone(&step.name)).collect()
        };
        let unmeasured = left(&|cost, _| !cost.is_measured());
        let overdue = left(&|cost, stage| match stage {
            Stage::Running(for_ms) => cost.samples.iter().max().is_some_and(|longest| longest <= for_ms),
            _ => false,
        });
        let nobody_knows = plan
            .steps()
            .iter()
            .any(|step| step.task.body.kind.awaited_signal().is_some() && overdue.contains(&step.name));
        let known = !nobody_knows && unmeasured.len() < left(&|_, _| true).len();
        let forecast = blocking(&plan, move |dag| dag.forecast(&costs, &stages, Some(workers))).await?;
        let after = |millis: u64| at.plus(Duration::from_millis(millis));
        Ok(Estimate {
            run,
            at,
            finish_at: known.then(|| after(forecast.median_ms)),
            band: forecast.band_ms.filter(|_| known).map(|(low, high)| (after(low), after(high))),
            draws: forecast.draws,
            unmeasured,
            overdue,
        })
    }

    /// What a run of a pipeline takes with so many workers; with none said, with as many as it may have.
    ///
    /// # Errors
    /// Failures of the store.
    pub async fn what_if(
        &self,
        registered: &Registered,
        workers: Option<NonZeroU32>,
    ) -> Result<WhatIf, ControlError> {
        let plan = &registered.plan;
        let costs = costs(plan, &self.durations(registered.id()).await?);
        let most = self.workers_of(plan);
        let workers = workers.unwrap_or(most);
        blocking(plan, move |dag| what_if(dag, &costs, workers)).await
    }

    /// The durations of a pipeline's steps and of their items in the last runs, in milliseconds, by the names of
    /// [`taskiq_flow_core::forecast`].
    async fn durations(&self, pipeline: &PipelineId) -> Result<HashMap<String, Vec<u64>>, StoreError> {
        Ok(self.0.store.durations(pipeline, SAMPLES).await?.into_iter().collect())
    }

    /// How many attempts of a run of this plan may be under way at once.
    fn workers_of(&self, plan: &Plan) -> NonZeroU32 {
        let all = u32::try_from(self.0.options.max_concurrent_attempts).unwrap_or(u32::MAX);
        let all = NonZeroU32::new(all).unwrap_or(NonZeroU32::MIN);
        plan.pipeline().max_parallel.map_or(all, |most| most.min(all))
    }
}

/// What a run takes with so many workers, by the durations that are known.
pub fn what_if(dag: &Dag, costs: &[Cost], workers: NonZeroU32) -> WhatIf {
    let jobs = dag.typical_jobs(costs, &[]);
    let played = dag.schedule(&jobs, Some(workers));
    let (mut durations_ms, mut items, mut unmeasured) = (BTreeMap::new(), BTreeMap::new(), Vec::new());
    for (node, cost) in dag.nodes().iter().zip(costs) {
        if !cost.is_measured() {
            unmeasured.push(node.id.clone());
            continue;
        }
        if !cost.samples.is_empty() {
            durations_ms.insert(node.id.clone(), median(cost.samples.clone()));
        }
        if let Some(measured) = cost.measured_items() {
            let duration_ms = median(measured.samples.clone());
            items.insert(
                node.id.clone(),
                TypicalItems { duration_ms, count: median(measured.counts.clone()) },
            );
        }
    }
    let forecast = dag.forecast(costs, &[], Some(workers));
    let (low_ms, high_ms) = forecast.band_ms.unzip();
    WhatIf {
        workers: workers.get(),
        duration_ms: forecast.median_ms,
        low_ms,
        high_ms,
        draws: forecast.draws,
        critical_path_ms: dag.schedule(&jobs, None).makespan_ms,
        work_ms: jobs.iter().map(Job::work_ms).sum(),
        slack_ms: dag.nodes().iter().map(|node| node.id.clone()).zip(played.slack_ms).collect(),
        speed_up: named_gains(dag, dag.speed_up_with(&jobs, Some(workers))),
        durations_ms,
        items,
        unmeasured,
    }
}

/// What it would gain to speed nodes up, with their names.
pub fn named_gains(dag: &Dag, gains: Vec<(u32, u64)>) -> Vec<SpeedUp> {
    let named = |(node, gain_ms): (u32, u64)| {
        let task = dag.nodes().get(node as usize)?.id.clone();
        Some(SpeedUp { task, gain_ms })
    };
    gains.into_iter().filter_map(named).collect()
}

/// Computes beside what must not wait: a large graph takes a tenth of a second.
async fn blocking<T: Send + 'static>(
    plan: &Arc<Plan>,
    compute: impl FnOnce(&Dag) -> T + Send + 'static,
) -> Result<T, ControlError> {
    let plan = Arc::clone(plan);
    let computed = tokio::task::spawn_blocking(move || compute(plan.dag())).await;
    computed.map_err(|_| ControlError::ShuttingDown)
}
