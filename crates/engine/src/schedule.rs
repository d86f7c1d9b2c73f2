//! Schedules: what starts runs by itself, at its time.
//!
//! One task sleeps until the next schedule is due; a change wakes it. A firing is a run with an idempotency key
//! made of the schedule and the time, so that a crash between the two cannot fire twice. A firing that was
//! missed while nothing ran is made up for once.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use croner::Cron;
use croner::parser::{CronParser, Seconds};
use jiff::tz::TimeZone;
use parking_lot::Mutex;
use serde_json::{Map, Value};
use taskiq_flow_core::definition::{Pipeline, ScheduleSpec, Timing};
use taskiq_flow_core::id::PipelineId;
use taskiq_flow_core::time::Timestamp;
use taskiq_flow_store::{ScheduleRecord, StoreError, StoredTiming, Trigger};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::catalog::Registered;
use crate::engine::{Engine, Submission, Submitted};
use crate::error::{ScheduleError, StartError, SubmitError};

/// Shortest interval between two firings.
const MIN_INTERVAL: Duration = Duration::from_secs(1);
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
    pub timing: StoredTiming,
    /// IANA name of the time zone of a cron expression.
    pub timezone: String,
    /// Parameters of the runs it starts.
    pub parameters: Map<String, Value>,
    /// Whether it fires.
    pub enabled: bool,
}

/// What is to change of a schedule; none: stays as it is.
#[derive(Debug, Clone, Default)]
#[allow(missing_docs, reason = "the fields are those of the request")]
pub struct ScheduleChange {
    pub timing: Option<StoredTiming>,
    pub timezone: Option<String>,
    pub parameters: Option<Map<String, Value>>,
    pub enabled: Option<bool>,
}

/// The schedules of an engine.
#[derive(Debug, Default)]
pub(crate) struct Scheduler {
    records: Mutex<BTreeMap<String, ScheduleRecord>>,
    changed: Arc<Notify>,
    stopped: CancellationToken,
}

impl Scheduler {
    pub(crate) fn stop(&self) {
        self.stopped.cancel();
    }

    fn next(&self) -> Option<ScheduleRecord> {
        let records = self.records.lock();
        records
            .values()
            .filter(|record| record.next_fire_at.is_some())
            .min_by_key(|r| r.next_fire_at)
            .cloned()
    }
}

impl Engine {
    /// All schedules, by id.
    pub fn schedules(&self) -> Vec<ScheduleRecord> {
        self.0.scheduler.records.lock().values().cloned().collect()
    }

    /// The schedule of that id.
    pub fn schedule(&self, id: &str) -> Option<ScheduleRecord> {
        self.0.scheduler.records.lock().get(id).cloned()
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
        if self.schedule(&id).is_some() {
            return Err(ScheduleError::Exists(id));
        }
        let now = self.0.clock.now();
        let record = ScheduleRecord {
            id,
            pipeline_id: request.pipeline_id,
            timing: request.timing,
            timezone: request.timezone,
            parameters: request.parameters,
            enabled: request.enabled,
            created_at: now,
            next_fire_at: None,
            last_fire_at: None,
        };
        self.put_schedule(record, now).await
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
        let mut record = self.schedule(id).ok_or_else(|| ScheduleError::Unknown(id.to_owned()))?;
        if let Some(timing) = change.timing {
            record.timing = timing;
        }
        if let Some(timezone) = change.timezone {
            record.timezone = timezone;
        }
        if let Some(parameters) = change.parameters {
            record.parameters = parameters;
        }
        if let Some(enabled) = change.enabled {
            record.enabled = enabled;
        }
        self.put_schedule(record, self.0.clock.now()).await
    }

    /// Removes a schedule.
    ///
    /// # Errors
    /// [`ScheduleError::Unknown`].
    pub async fn delete_schedule(&self, id: &str) -> Result<(), ScheduleError> {
        if !self.0.store.delete_schedule(id).await? {
            return Err(ScheduleError::Unknown(id.to_owned()));
        }
        self.0.scheduler.records.lock().remove(id);
        self.0.scheduler.changed.notify_one();
        Ok(())
    }

    /// Starts a run of a schedule now, beside its own times.
    ///
    /// # Errors
    /// [`ScheduleError::Unknown`], or why the run was not accepted.
    pub async fn trigger_schedule(&self, id: &str) -> Result<Submitted, ScheduleError> {
        let record = self.schedule(id).ok_or_else(|| ScheduleError::Unknown(id.to_owned()))?;
        let trigger = Trigger::Schedule { id: record.id, fire_at: self.0.clock.now() };
        Ok(self
            .submit(Submission {
                pipeline_id: record.pipeline_id,
                parameters: record.parameters,
                idempotency_key: None,
                trigger,
            })
            .await?)
    }

    async fn put_schedule(
        &self,
        mut record: ScheduleRecord,
        now: Timestamp,
    ) -> Result<ScheduleRecord, ScheduleError> {
        let next = next_fire(&record.timing, &record.timezone, record.created_at, now)?;
        let unknown = || SubmitError::UnknownPipeline(record.pipeline_id.clone());
        let registered = self.pipeline(&record.pipeline_id).ok_or_else(unknown)?;
        registered.plan.check_parameters(record.parameters.clone()).map_err(SubmitError::Parameters)?;
        record.next_fire_at = next.filter(|_| record.enabled);
        self.0.store.put_schedule(record.clone()).await?;
        self.0.scheduler.records.lock().insert(record.id.clone(), record.clone());
        self.0.scheduler.changed.notify_one();
        Ok(record)
    }

    /// Makes the schedules that a definition brings. What people changed about one since stays, unless the
    /// definition itself says something new.
    pub(crate) async fn adopt_schedules(&self, registered: &Registered) -> Result<(), ScheduleError> {
        let pipeline = registered.plan.pipeline();
        let now = self.0.clock.now();
        for spec in &pipeline.schedules {
            let id = format!("{}.{}", pipeline.id, spec.id);
            let (timing, parameters) = (stored(&spec.timing), spec.parameters.clone());
            let known = match self.schedule(&id) {
                Some(known) => Some(known),
                None => self.0.store.schedules().await?.into_iter().find(|known| known.id == id),
            };
            let same = |known: &ScheduleRecord| {
                known.pipeline_id == pipeline.id
                    && known.timing == timing
                    && known.timezone == spec.timezone
                    && known.parameters == parameters
            };
            if let Some(known) = known.filter(same) {
                self.0.scheduler.records.lock().insert(id, known);
                continue;
            }
            let record = ScheduleRecord {
                id,
                pipeline_id: pipeline.id.clone(),
                timing,
                timezone: spec.timezone.clone(),
                parameters,
                enabled: spec.enabled,
                created_at: now,
                next_fire_at: None,
                last_fire_at: None,
            };
            self.put_schedule(record, now).await?;
        }
        Ok(())
    }

    /// Whether the ids of the schedules that a definition brings are free, or its own already: they are made of two
    /// ids with a dot between, and both may have dots.
    pub(crate) fn check_schedule_ids(&self, pipeline: &Pipeline) -> Result<(), ScheduleError> {
        for spec in &pipeline.schedules {
            let id = format!("{}.{}", pipeline.id, spec.id);
            if self.schedule(&id).is_some_and(|known| known.pipeline_id != pipeline.id) {
                return Err(ScheduleError::Exists(id));
            }
        }
        Ok(())
    }

    pub(crate) async fn drop_schedules_of(&self, pipeline: &PipelineId) -> Result<(), StoreError> {
        for record in self.schedules().into_iter().filter(|record| &record.pipeline_id == pipeline) {
            self.0.store.delete_schedule(&record.id).await?;
            self.0.scheduler.records.lock().remove(&record.id);
        }
        Ok(())
    }

    async fn fire(&self, mut record: ScheduleRecord, due: Timestamp) {
        let submission = Submission {
            pipeline_id: record.pipeline_id.clone(),
            parameters: record.parameters.clone(),
            idempotency_key: Some(format!("schedule:{}:{due}", record.id)),
            trigger: Trigger::Schedule { id: record.id.clone(), fire_at: due },
        };
        match self.submit(submission).await {
            Ok(submitted) => {
                tracing::info!(schedule = %record.id, run_id = %submitted.run_id, %due, "schedule fired")
            }
            Err(error) => {
                tracing::error!(schedule = %record.id, %due, %error, "schedule could not start its run")
            }
        }
        let now = self.0.clock.now();
        record.last_fire_at = Some(due);
        record.next_fire_at =
            next_fire(&record.timing, &record.timezone, record.created_at, now.max(due)).unwrap_or_default();
        if let Err(error) = self.0.store.put_schedule(record.clone()).await {
            tracing::error!(schedule = %record.id, %error, "the firing could not be noted; its run is kept by its key");
        }
        // A change made while the run was being started wins over what was read before.
        let mut records = self.0.scheduler.records.lock();
        if let Some(current) = records.get_mut(&record.id)
            && current.next_fire_at == Some(due)
        {
            *current = record;
        }
    }
}

/// Takes up the stored schedules and starts firing.
pub(crate) async fn spawn(engine: &Engine) -> Result<(), StartError> {
    for record in engine.0.store.schedules().await? {
        if engine.pipeline(&record.pipeline_id).is_some() {
            engine.0.scheduler.records.lock().entry(record.id.clone()).or_insert(record);
        }
    }
    let (weak, stop) = (Arc::downgrade(&engine.0), engine.0.stop.clone());
    let stopped = engine.0.scheduler.stopped.clone();
    engine.0.tasks.spawn(async move {
        loop {
            let Some(engine) = weak.upgrade().map(Engine) else { return };
            let next = engine.0.scheduler.next();
            let now = engine.0.clock.now();
            if let Some((record, due)) = next.clone().and_then(|r| r.next_fire_at.map(|due| (r, due)))
                && due <= now
            {
                engine.fire(record, due).await;
                continue;
            }
            let sleep = next.and_then(|r| r.next_fire_at).map_or(Duration::MAX, |due| due.since(now));
            // A sleep of at most an hour, so that a clock that is set does no lasting harm.
            let sleep = tokio::time::sleep(sleep.min(Duration::from_secs(3600)));
            let changed = Arc::clone(&engine.0.scheduler.changed);
            // A handle held while asleep would keep an engine alive that everybody else has let go.
            drop(engine);
            tokio::select! {
                () = changed.notified() => {}
                () = sleep => {}
                () = stop.cancelled() => return,
                () = stopped.cancelled() => return,
            }
        }
    });
    Ok(())
}

/// Checks the schedules that a definition brings.
pub(crate) fn check_specs(pipeline: &Pipeline, now: Timestamp) -> Result<(), ScheduleError> {
    let check = |spec: &ScheduleSpec| next_fire(&stored(&spec.timing), &spec.timezone, now, now).map(drop);
    pipeline.schedules.iter().try_for_each(check)
}

/// The first time after `after`; none: never again.
fn next_fire(
    timing: &StoredTiming,
    timezone: &str,
    created_at: Timestamp,
    after: Timestamp,
) -> Result<Option<Timestamp>, ScheduleError> {
    match timing {
        StoredTiming::At(at) => Ok((*at > after).then_some(*at)),
        StoredTiming::Interval(interval) if *interval < MIN_INTERVAL => {
            Err(invalid("interval", "must be at least 1s"))
        }
        StoredTiming::Interval(interval) => {
            let interval = interval.as_millis().max(1);
            let passed = after.since(created_at).as_millis() / interval + 1;
            let millis = u64::try_from(passed.saturating_mul(interval)).unwrap_or(u64::MAX);
            Ok(Some(created_at.plus(Duration::from_millis(millis))))
        }
        StoredTiming::Cron(text) => {
            let zone = TimeZone::get(timezone).map_err(|_| {
                invalid("timezone", "is no IANA time zone; write one such as `Europe/Paris` or `UTC`")
            })?;
            let cron = parse_cron(text)?;
            let from = jiff::Timestamp::from_millisecond(after.as_millis()).unwrap_or(jiff::Timestamp::MAX);
            let next = cron.find_next_occurrence(&from.to_zoned(zone), false);
            Ok(next.ok().map(|next| Timestamp::from_millis(next.timestamp().as_millisecond())))
        }
    }
}

fn parse_cron(text: &str) -> Result<Cron, ScheduleError> {
    CronParser::builder().seconds(Seconds::Optional).build().parse(text).map_err(|error| {
        let example =
            "write 5 fields (minute hour day month weekday) or 6 (second first), such as `0 2 * * *`";
        invalid("cron", format!("`{text}`: {error}; {example}"))
    })
}

fn stored(timing: &Timing) -> StoredTiming {
    match timing {
        Timing::Cron(text) => StoredTiming::Cron(text.clone()),
        Timing::Interval(interval) => StoredTiming::Interval(*interval),
        Timing::At(at) => StoredTiming::At(*at),
    }
}

fn invalid(field: &'static str, message: impl Into<String>) -> ScheduleError {
    ScheduleError::Invalid { field, message: message.into() }
}

#[cfg(test)]
mod tests {
    use std::str::FromStr;

    use super::*;

    fn at(text: &str) -> Timestamp {
        Timestamp::from_str(text).unwrap()
    }

    fn next(timing: &StoredTiming, zone: &str, after: &str) -> Option<String> {
        next_fire(timing, zone, at("2026-01-01T00:00:00Z"), at(after)).unwrap().map(|time| time.to_string())
    }

    #[test]
    fn cron_is_read_in_its_zone_across_both_changes_of_the_clock() {
        let nightly = StoredTiming::Cron("30 2 * * *".to_owned());
        let paris = |after| next(&nightly, "Europe/Paris", after).unwrap();
        assert_eq!(paris("2026-03-27T12:00:00Z"), "2026-03-28T01:30:00.000Z");
        assert_eq!(
            paris("2026-03-28T12:00:00Z"),
            "2026-03-29T01:00:00.000Z",
            "02:30 does not exist: at 03:00"
        );
        assert_eq!(paris("2026-10-24T12:00:00Z"), "2026-10-25T00:30:00.000Z", "the first 02:30 of two");
        assert_eq!(paris("2026-10-25T00:30:00Z"), "2026-10-26T01:30:00.000Z", "and not the second");
    }

    #[test]
    fn cron_has_five_or_six_fields() {
        let seconds = StoredTiming::Cron("*/10 * * * * *".to_owned());
        assert_eq!(next(&seconds, "UTC", "2026-01-01T00:00:01Z").unwrap(), "2026-01-01T00:00:10.000Z");
        for bad in ["* * *", "61 * * * *", "x * * * *", ""] {
            let timing = StoredTiming::Cron(bad.to_owned());
            let error = next_fire(&timing, "UTC", at("2026-01-01T00:00:00Z"), at("2026-01-01T00:00:00Z"));
            assert!(error.unwrap_err().to_string().starts_with("cron: "), "{bad}");
        }
    }

    #[test]
    fn intervals_count_from_the_start_and_one_offs_fire_once() {
        let five = StoredTiming::Interval(Duration::from_secs(300));
        assert_eq!(next(&five, "UTC", "2026-01-01T00:07:00Z").unwrap(), "2026-01-01T00:10:00.000Z");
        assert_eq!(next(&five, "UTC", "2026-01-01T00:10:00Z").unwrap(), "2026-01-01T00:15:00.000Z");
        let once = StoredTiming::At(at("2026-02-01T00:00:00Z"));
        assert_eq!(next(&once, "UTC", "2026-01-31T00:00:00Z").unwrap(), "2026-02-01T00:00:00.000Z");
        assert_eq!(next(&once, "UTC", "2026-02-01T00:00:00Z"), None);
    }
}
