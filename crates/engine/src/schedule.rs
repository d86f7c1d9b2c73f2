//! Schedules: what starts runs by itself, at its time.
//!
//! One task sleeps until the next start; a change wakes it. Each schedule whose time has come then fires in a task of
//! its own, one time after another, so that none holds up another. A firing is kept in one transaction with the run that
//! it starts, so that a crash before or after it neither loses nor doubles it; what the schedule says of itself (how far
//! it is) is written after it and may lag behind. When the times are, which of those that were missed count, and how far
//! jitter moves a start is the calendar's affair.

mod adopt;
mod backfill;
mod book;
mod firing;

use std::time::Duration;

use serde_json::{Map, Value};
use taskiq_flow_core::calendar::{CalendarError, check_timezone};
use taskiq_flow_core::definition::{CatchUp, Overlap, ScheduleRules, Timing};
use taskiq_flow_core::id::PipelineId;
use taskiq_flow_core::time::Timestamp;
use taskiq_flow_store::{Firing, FiringFilter, ScheduleRecord, StoreError};

use crate::error::{ScheduleError, SubmitError};
use crate::handle::Engine;
use crate::submission::Submitted;

pub(crate) use self::adopt::check_specs;
pub use self::backfill::{Backfill, BackfillTime};
pub(crate) use self::book::Scheduler;
use self::book::{calendar_of, same_times};
pub(crate) use self::firing::spawn;
use self::firing::submission_of;

/// Longest id of a schedule, in bytes.
const MAX_ID: usize = 256;

/// What a new schedule is to be.
#[derive(Debug, Clone)]
pub struct ScheduleRequest {
    /// Its id; none: one is made.
    pub id: Option<String>,
    /// The pipeline it starts.
    pub pipeline_id: PipelineId,
    /// When it fires.
    pub timing: Timing,
    /// IANA name of the time zone of a cron expression.
    pub timezone: String,
    /// Parameters of the runs it starts.
    pub parameters: Map<String, Value>,
    /// Whether it fires.
    pub enabled: bool,
    /// Which of its times it fires at, and what else is under way then.
    pub rules: ScheduleRules,
}

/// What is to change of a schedule; none: stays as it is.
#[derive(Debug, Clone, Default)]
#[allow(missing_docs, reason = "the fields are those of the request")]
pub struct ScheduleChange {
    pub timing: Option<Timing>,
    pub timezone: Option<String>,
    pub parameters: Option<Map<String, Value>>,
    pub enabled: Option<bool>,
    pub catch_up: Option<CatchUp>,
    pub overlap: Option<Overlap>,
    /// Some(None): there is to be none any more. So with `from` and `until`.
    pub jitter: Option<Option<Duration>>,
    pub from: Option<Option<Timestamp>>,
    pub until: Option<Option<Timestamp>>,
}

impl Engine {
    /// All schedules, by id.
    pub fn schedules(&self) -> Vec<ScheduleRecord> {
        self.0.scheduler.book.lock().all().cloned().collect()
    }

    /// The schedule of that id.
    pub fn schedule(&self, id: &str) -> Option<ScheduleRecord> {
        self.0.scheduler.book.lock().get(id).cloned()
    }

    /// Makes a schedule.
    ///
    /// # Errors
    /// [`ScheduleError`]: the id is taken, a field is not possible, or the parameters do not fit the pipeline.
    pub async fn create_schedule(&self, request: ScheduleRequest) -> Result<ScheduleRecord, ScheduleError> {
        let id = request.id.unwrap_or_else(|| uuid::Uuid::now_v7().to_string());
        let printable = id.bytes().all(|c| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_' | b'.'));
        if id.is_empty() || id.len() > MAX_ID || !printable {
            return Err(invalid("id", "use 1 to 256 letters, digits, `-`, `_` or `.`"));
        }
        let _changing = self.0.scheduler.changing.lock().await;
        if self.schedule(&id).is_some() {
            return Err(ScheduleError::Exists(id));
        }
        let of_pipeline = |record: &&ScheduleRecord| record.pipeline_id == request.pipeline_id;
        let count = self.0.scheduler.book.lock().all().filter(of_pipeline).count();
        self.check_schedule_count(&request.pipeline_id, count + 1)?;
        let now = self.0.clock.now();
        let record = ScheduleRecord {
            id,
            pipeline_id: request.pipeline_id,
            timing: request.timing,
            timezone: request.timezone,
            parameters: request.parameters,
            enabled: request.enabled,
            rules: request.rules,
            created_at: now,
            next_fire_at: None,
            last_fire_at: None,
        };
        self.put_schedule(record, None, now).await
    }

    /// Changes a schedule.
    ///
    /// # Errors
    /// [`ScheduleError`]: there is none, a field is not possible, or the parameters do not fit the pipeline.
    pub async fn change_schedule(
        &self,
        id: &str,
        change: ScheduleChange,
    ) -> Result<ScheduleRecord, ScheduleError> {
        let _changing = self.0.scheduler.changing.lock().await;
        let before = self.schedule(id).ok_or_else(|| ScheduleError::Unknown(id.to_owned()))?;
        let was = before.clone();
        let record = ScheduleRecord {
            timing: change.timing.unwrap_or(was.timing),
            timezone: change.timezone.unwrap_or(was.timezone),
            parameters: change.parameters.unwrap_or(was.parameters),
            enabled: change.enabled.unwrap_or(was.enabled),
            rules: ScheduleRules {
                catch_up: change.catch_up.unwrap_or(was.rules.catch_up),
                overlap: change.overlap.unwrap_or(was.rules.overlap),
                jitter: change.jitter.unwrap_or(was.rules.jitter),
                from: change.from.unwrap_or(was.rules.from),
                until: change.until.unwrap_or(was.rules.until),
            },
            ..was
        };
        self.put_schedule(record, Some(&before), self.0.clock.now()).await
    }

    /// Removes a schedule.
    ///
    /// # Errors
    /// [`ScheduleError::Unknown`].
    pub async fn delete_schedule(&self, id: &str) -> Result<(), ScheduleError> {
        let _changing = self.0.scheduler.changing.lock().await;
        if !self.0.store.delete_schedule(id).await? {
            return Err(ScheduleError::Unknown(id.to_owned()));
        }
        self.0.scheduler.book.lock().remove(id);
        self.0.scheduler.tell_edited();
        Ok(())
    }

    /// The times of schedules and what came of them, that pass the filter; the last that was dealt with first.
    ///
    /// # Errors
    /// Failures of the store.
    pub async fn firings(&self, filter: FiringFilter) -> Result<Vec<Firing>, StoreError> {
        self.0.store.firings(filter).await
    }

    /// Starts a run of a schedule now, beside its own times. `most` bounds the pipeline's unfinished runs, as in
    /// [`Engine::submit_within`].
    ///
    /// # Errors
    /// [`ScheduleError::Unknown`], or why the run was not accepted.
    pub async fn trigger_schedule(&self, id: &str, most: Option<usize>) -> Result<Submitted, ScheduleError> {
        let record = self.schedule(id).ok_or_else(|| ScheduleError::Unknown(id.to_owned()))?;
        let mut time = self.0.clock.now();
        loop {
            let (submission, firing) = (submission_of(&record, time), self.started_for(&record, time));
            match self.submit_firing(submission, firing, most).await {
                // Two requests in one millisecond are two requests all the same.
                Ok(Submitted { created: false, .. }) | Err(SubmitError::Fired { .. }) => {
                    time = time.plus(Duration::from_millis(1));
                }
                Ok(submitted) => {
                    self.0.scheduler.book.lock().set_last_run(id, Some((time, submitted.run_id)));
                    return Ok(submitted);
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Checks and keeps a schedule, `before` being what it was. The caller holds `changing`.
    async fn put_schedule(
        &self,
        mut record: ScheduleRecord,
        before: Option<&ScheduleRecord>,
        now: Timestamp,
    ) -> Result<ScheduleRecord, ScheduleError> {
        check_timezone(&record.timezone).map_err(impossible)?;
        let calendar = calendar_of(&record).map_err(impossible)?;
        let unknown = || SubmitError::UnknownPipeline(record.pipeline_id.clone());
        let registered = self.pipeline(&record.pipeline_id).ok_or_else(unknown)?;
        registered.plan.check_parameters(record.parameters.clone()).map_err(SubmitError::Parameters)?;
        record.next_fire_at = match before {
            _ if !record.enabled => None,
            // A time that has come and not been carried out yet stays due.
            Some(before) if before.enabled && same_times(before, &record) => before.next_fire_at,
            _ => calendar.after(now),
        };
        self.0.store.put_schedule(record.clone()).await?;
        self.0.scheduler.book.lock().put(record.clone()).map_err(impossible)?;
        self.0.scheduler.tell_edited();
        Ok(record)
    }
}

fn impossible(error: CalendarError) -> ScheduleError {
    let CalendarError { field, message, help } = error;
    invalid(field, format!("{message}; {help}"))
}

fn invalid(field: &'static str, message: impl Into<String>) -> ScheduleError {
    ScheduleError::Invalid { field, message: message.into() }
}
