//! Reading what the store holds: lists, logs and measured durations.

use std::path::Path;
use std::sync::Arc;

use serde::Serialize;
use taskiq_flow_core::id::{PipelineId, RunId};
use taskiq_flow_core::plan::Plan;
use taskiq_flow_core::run::{Event, EventView, Run, RunError, RunStatus};
use taskiq_flow_core::time::Timestamp;
use taskiq_flow_store::{BackupError, RunFilter, RunRecord, RunRow, StepLog, StoreError, Trigger};

use crate::error::ControlError;
use crate::fork::done_again;
use crate::handle::Engine;

/// Runs of which a critical path weighs the durations.
const MEASURED_RUNS: usize = 50;
/// Events read at once when a run is rebuilt.
const PAGE: usize = 10_000;

/// A run in a list.
#[derive(Debug, Clone, Serialize)]
pub struct RunSummaryView {
    /// The run.
    pub run_id: RunId,
    /// Its pipeline.
    pub pipeline_id: PipelineId,
    /// The version of the definition it follows.
    pub version: u32,
    /// The state.
    pub status: RunStatus,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// When it started.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
    /// Its first error.
    pub error: Option<RunError>,
    /// What asked for it.
    pub trigger: Trigger,
}

/// A page of a list of runs.
#[derive(Debug, Clone, Serialize)]
pub struct RunPage {
    /// Newest first.
    pub runs: Vec<RunSummaryView>,
    /// What to ask for the next page with; none: this was the last.
    pub next_cursor: Option<String>,
}

impl From<RunRow> for RunSummaryView {
    fn from(row: RunRow) -> Self {
        let RunRow {
            run_id,
            pipeline_id,
            version,
            trigger,
            created_at,
            status,
            started_at,
            finished_at,
            error,
        } = row;
        Self { run_id, pipeline_id, version, status, created_at, started_at, finished_at, error, trigger }
    }
}

impl Engine {
    /// Runs that pass the filter, newest first.
    ///
    /// # Errors
    /// Failures of the store.
    pub async fn runs(&self, mut filter: RunFilter) -> Result<RunPage, StoreError> {
        let limit = filter.limit;
        filter.limit = limit + 1;
        let mut records = self.0.store.runs(filter).await?;
        let more = records.len() > limit;
        records.truncate(limit);
        let next_cursor = records.last().filter(|_| more).map(|record| record.run_id.to_string());
        Ok(RunPage { runs: records.into_iter().map(Into::into).collect(), next_cursor })
    }

    /// The newest run of each of these pipelines that has one.
    ///
    /// # Errors
    /// Failures of the store.
    pub async fn last_runs(&self, pipelines: &[PipelineId]) -> Result<Vec<RunSummaryView>, StoreError> {
        Ok(self.0.store.last_runs(pipelines).await?.into_iter().map(Into::into).collect())
    }

    /// Events of a run with a number above `after_seq`, at most `limit`, as watchers are told them.
    ///
    /// # Errors
    /// [`ControlError::UnknownRun`] and failures of the store.
    pub async fn events(
        &self,
        run_id: RunId,
        after_seq: u64,
        limit: usize,
    ) -> Result<Vec<EventView>, ControlError> {
        let record = self.record(run_id).await?;
        let events = self.0.store.events(run_id, after_seq, limit).await?;
        let view = |event: Event| EventView::of_run(record.pipeline_id.clone(), run_id, event);
        Ok(events.into_iter().map(view).collect())
    }

    /// What the attempts of a run printed, in the order in which they ended.
    ///
    /// # Errors
    /// Failures of the store.
    pub async fn logs(&self, run_id: RunId) -> Result<Vec<StepLog>, StoreError> {
        self.0.store.logs(run_id).await
    }

    /// Copies the store to a new file, while runs go on. How many bytes the copy has.
    ///
    /// # Errors
    /// [`BackupError`]; as [`Store::backup`](taskiq_flow_store::Store::backup).
    pub async fn backup(&self, target: &Path, replace: bool) -> Result<u64, BackupError> {
        self.0.store.backup(target, replace).await
    }

    /// The median duration of each step, in milliseconds, by task name, over the last runs.
    ///
    /// # Errors
    /// Failures of the store.
    pub async fn median_durations(&self, pipeline: &PipelineId) -> Result<Vec<(String, u64)>, StoreError> {
        let durations = self.0.store.durations(pipeline, MEASURED_RUNS).await?;
        let median = |mut millis: Vec<u64>| {
            millis.sort_unstable();
            millis.get(millis.len() / 2).copied()
        };
        Ok(durations.into_iter().filter_map(|(task, millis)| Some((task, median(millis)?))).collect())
    }

    /// The plan that a run follows.
    ///
    /// # Errors
    /// [`ControlError::Damaged`] when its definition cannot be had any more, and failures of the store.
    pub async fn plan_of(&self, record: &RunRecord) -> Result<Arc<Plan>, ControlError> {
        let plan = self.0.catalog.plan(self.0.store.as_ref(), &record.pipeline_id, record.version).await?;
        plan.map_err(|reason| ControlError::Damaged { run_id: record.run_id, reason })
    }

    /// A run as its log has it. One that has ended is kept for who looks at it again.
    pub(crate) async fn replay(&self, run_id: RunId) -> Result<Arc<Run>, ControlError> {
        // One that has been removed meanwhile is none.
        let record = self.record(run_id).await?;
        if let Some(run) = self.0.replayed.get(run_id) {
            return Ok(run);
        }
        let plan = self.plan_of(&record).await?;
        let run = Arc::new(self.rebuild(&record, plan).await?);
        if self.0.replayed.put(&run) {
            let (inner, stop) = (Arc::downgrade(&self.0), self.0.stop.clone());
            self.0.tasks.spawn(async move {
                while let Some(next) = inner.upgrade().and_then(|inner| inner.replayed.let_go()) {
                    tokio::select! {
                        () = tokio::time::sleep_until(next) => {}
                        () = stop.cancelled() => return,
                    }
                }
            });
        }
        Ok(run)
    }

    pub(crate) async fn rebuild(&self, record: &RunRecord, plan: Arc<Plan>) -> Result<Run, ControlError> {
        let again = done_again(&record.trigger, &plan);
        let mut run = Run::new(plan, record.run_id, &record.parameters, record.created_at).afresh(again);
        loop {
            let events = self.0.store.events(record.run_id, run.seq(), PAGE).await?;
            if events.is_empty() {
                return Ok(run);
            }
            let damaged = |error: taskiq_flow_core::run::IllegalEvent| ControlError::Damaged {
                run_id: record.run_id,
                reason: error.to_string(),
            };
            run = run.replay(&events).map_err(damaged)?;
        }
    }
}
