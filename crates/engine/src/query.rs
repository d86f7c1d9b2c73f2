//! Reading what the store holds: lists, logs, measured durations, and taking up unfinished runs.

use std::path::Path;
use std::sync::Arc;

use serde::Serialize;
use taskiq_flow_core::id::{PipelineId, RunId};
use taskiq_flow_core::plan::Plan;
use taskiq_flow_core::run::{Event, EventView, Fact, Run, RunError, RunStatus};
use taskiq_flow_core::time::Timestamp;
use taskiq_flow_store::{
    Append, BackupError, Beside, Fence, RunFilter, RunRecord, RunRow, RunSummary, RunWrite, StepLog,
    StoreError, Trigger,
};
use tokio::time::Instant;

use crate::admission::{Candidate, Limit};
use crate::error::ControlError;
use crate::failpoint;
use crate::fork::done_again;
use crate::handle::Engine;
use crate::inbox::{Adopted, Message};

/// Runs of which a critical path weighs the durations.
const MEASURED_RUNS: usize = 50;
/// Runs taken up at once after a start.
const CLAIM: usize = 256;
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

    pub(crate) async fn replay(&self, run_id: RunId) -> Result<Run, ControlError> {
        let record = self.record(run_id).await?;
        let plan = self.plan_of(&record).await?;
        self.rebuild(&record, plan).await
    }

    async fn rebuild(&self, record: &RunRecord, plan: Arc<Plan>) -> Result<Run, ControlError> {
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

    /// Takes up the unfinished runs that nobody drives. From when on the lease on all runs lasts.
    pub(crate) async fn recover(&self) -> Result<Instant, StoreError> {
        let owner = self.0.shards.owner();
        let mut count = 0_usize;
        let begun = loop {
            let (begun, now) = (Instant::now(), self.0.clock.now());
            let claimed = self.0.store.claim(owner, now, self.lease_until(now), CLAIM).await?;
            if claimed.is_empty() {
                break begun;
            }
            for (record, fence) in claimed {
                count += 1;
                self.take_up(record, fence).await?;
            }
        };
        if count > 0 {
            tracing::info!(runs = count, "took up unfinished runs");
        }
        Ok(begun)
    }

    async fn take_up(&self, record: RunRecord, fence: Fence) -> Result<(), StoreError> {
        let run_id = record.run_id;
        failpoint::pass("claim-before-rebuild");
        let rebuilt = match self.plan_of(&record).await {
            Ok(plan) => self.rebuild(&record, plan).await,
            Err(error) => Err(error),
        };
        failpoint::pass("claim-after-rebuild");
        match rebuilt {
            Ok(run) => {
                let unwanted = self.is_unwanted(&record.trigger).await?;
                // They had a value when the run was accepted, and are made of the same parameters.
                let limits = Limit::of(run.plan(), &record.parameters).unwrap_or_default();
                let RunRecord { reuse, priority, trigger, created_at, .. } = record;
                let shard = self.0.shards.of(run_id);
                let candidate =
                    Candidate::new(run_id, run.plan(), &trigger, priority, created_at, limits, shard);
                // Before its shard hears of it: nobody is to start in its place meanwhile.
                let started = run.times().0.is_some();
                let place = started.then(|| self.0.admission.resume(&candidate));
                let adopted = Adopted { run, fence, reuse, candidate, place };
                // The only error is that the engine is shutting down: the run is then taken up at the next start.
                let _ = self.send(run_id, Message::Adopt(Box::new(adopted))).await;
                if unwanted && let Err(error) = self.cancel(run_id, "the run that started it has ended").await
                {
                    tracing::warn!(%run_id, %error, "an inner run that nobody waits for could not be cancelled");
                }
                Ok(())
            }
            Err(ControlError::Store(error)) => Err(error),
            Err(error) => {
                tracing::error!(%run_id, %error, "an unfinished run cannot be taken up; it is failed");
                self.fail_record(&record, fence, &error.to_string()).await
            }
        }
    }

    /// Whether a run was started by a step of a run that has ended: a crash came before it could be stopped too.
    async fn is_unwanted(&self, trigger: &Trigger) -> Result<bool, StoreError> {
        let Trigger::Step { run_id, .. } = trigger else { return Ok(false) };
        let outer = self.0.store.run(*run_id).await?;
        Ok(outer.is_none_or(|outer| outer.summary.status.is_terminal()))
    }

    /// Ends a run whose log cannot be followed, so that nobody waits for it for ever.
    pub(crate) async fn fail_record(
        &self,
        record: &RunRecord,
        fence: Fence,
        message: &str,
    ) -> Result<(), StoreError> {
        let now = self.0.clock.now();
        let error = RunError {
            step: None,
            attempt: None,
            message: message.into(),
            timed_out: false,
            not_undone: Vec::new(),
        };
        let fact = Fact::PipelineError { error: error.clone(), duration_ms: 0 };
        let event = Event { seq: record.last_seq + 1, timestamp: now, fact };
        let summary = RunSummary {
            status: RunStatus::Failed,
            finished_at: Some(now),
            error: Some(error),
            ..record.summary.clone()
        };
        let definition = self.pipeline(&record.pipeline_id);
        let named = definition.as_ref().map_or(&[][..], |defined| &defined.plan.pipeline().on_event);
        let events = [event];
        let outbox = &self.0.outbox;
        let deliveries = outbox.deliveries(&record.pipeline_id, named, record.run_id, &events, now);
        let append = Append {
            run_id: record.run_id,
            fence,
            events: events.into(),
            logs: Vec::new(),
            summary,
            durations: Vec::new(),
            beside: Beside { deliveries: deliveries.clone(), ..Beside::default() },
        };
        let written = self.0.store.write(vec![RunWrite::Append(Box::new(append))]).await;
        if let Ok([Ok(_)]) = written.as_deref() {
            outbox.written(&deliveries);
        } else {
            outbox.not_written(&deliveries);
        }
        if let Some(Err(error)) = written?.first() {
            tracing::error!(run_id = %record.run_id, %error, "the run could not be failed");
        }
        Ok(())
    }
}
