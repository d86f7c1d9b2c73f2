//! Runs for times of a schedule that have passed.

use taskiq_flow_core::id::RunId;
use taskiq_flow_core::time::Timestamp;
use taskiq_flow_store::{Firing, FiringFilter, ScheduleRecord};

use super::firing::{key_of, submission_of};
use crate::error::{ScheduleError, SubmitError};
use crate::handle::Engine;
use crate::submission::Submitted;

/// The times of a schedule within a stretch of time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backfill {
    /// In order, at most as many as were asked for.
    pub times: Vec<BackfillTime>,
    /// The first time that is left out because it is one too many.
    pub next_from: Option<Timestamp>,
}

/// A time of a schedule, and the run that it has had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BackfillTime {
    /// The time.
    pub time: Timestamp,
    /// Whether it has had its run.
    pub had: bool,
    /// That run, if it is still kept.
    pub run_id: Option<RunId>,
}

impl Engine {
    /// The first `most` times of a schedule from `from` to `to` (both included; none is in the future), and which of
    /// them have had their run.
    ///
    /// # Errors
    /// [`ScheduleError::Unknown`] and failures of the store.
    pub async fn backfill(
        &self,
        id: &str,
        from: Timestamp,
        to: Timestamp,
        most: usize,
    ) -> Result<Backfill, ScheduleError> {
        let record = self.schedule(id).ok_or_else(|| ScheduleError::Unknown(id.to_owned()))?;
        let calendar = self.0.scheduler.book.lock().calendar(id);
        let calendar = calendar.ok_or_else(|| ScheduleError::Unknown(id.to_owned()))?;
        let mut times: Vec<_> =
            calendar.between(from, to.min(self.0.clock.now())).take(most.saturating_add(1)).collect();
        let next_from = if times.len() > most { times.pop() } else { None };
        let mut found = Vec::with_capacity(times.len());
        for time in times {
            found.push(self.look_at(&record, time).await?);
        }
        Ok(Backfill { times: found, next_from })
    }

    /// Starts the run of one time of a schedule, unless it has had one. `most` bounds the pipeline's unfinished runs, as
    /// in [`Engine::submit_within`]. None: it had one, which is not kept any more.
    ///
    /// # Errors
    /// [`ScheduleError::Unknown`], or why the run was not accepted.
    pub async fn backfill_time(
        &self,
        id: &str,
        time: Timestamp,
        most: Option<usize>,
    ) -> Result<Option<Submitted>, ScheduleError> {
        let record = self.schedule(id).ok_or_else(|| ScheduleError::Unknown(id.to_owned()))?;
        let firing = Firing { backfill: true, ..self.started_for(&record, time) };
        match self.submit_firing(submission_of(&record, time), firing, most).await {
            Ok(submitted) => Ok(Some(submitted)),
            Err(SubmitError::Fired { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    async fn look_at(&self, record: &ScheduleRecord, time: Timestamp) -> Result<BackfillTime, ScheduleError> {
        // The run may be kept longer than the firing, and the firing longer than the run.
        let run = self.0.store.run_by_key(&record.pipeline_id, &key_of(&record.id, time)).await?;
        if let Some(run) = run {
            return Ok(BackfillTime { time, had: true, run_id: Some(run.run_id) });
        }
        let filter = FiringFilter {
            schedule: Some(record.id.clone()),
            since: Some(time),
            until: Some(time.plus(std::time::Duration::from_millis(1))),
            limit: 1,
            ..FiringFilter::default()
        };
        let firings = self.0.store.firings(filter).await?;
        let had = firings.iter().any(|firing| firing.run_id.is_some());
        Ok(BackfillTime { time, had, run_id: None })
    }
}
