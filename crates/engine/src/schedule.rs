//! Schedules: what starts runs by itself, at its time.
//!
//! One task sleeps until the next schedule is due; a change wakes it. A firing is a run with an idempotency key
//! made of the schedule and the time, so that a crash between the two cannot fire twice. A firing that was
//! missed while nothing ran is made up for once.

mod timing;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value};
use taskiq_flow_core::definition::{Pipeline, ScheduleSpec};
use taskiq_flow_core::id::PipelineId;
use taskiq_flow_core::plan::Plan;
use taskiq_flow_core::time::Timestamp;
use taskiq_flow_store::{ScheduleRecord, StoreError, StoredTiming, Trigger};

use crate::catalog::Registered;
use crate::error::{ScheduleError, StartError, SubmitError};
use crate::handle::Engine;
use crate::submission::{Submission, Submitted};

use self::timing::{invalid, next_fire, stored};

/// Pause before a firing is tried again for which there was no room, or no answer of the store.
const TRY_AGAIN: Duration = Duration::from_millis(500);
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
        let _changing = self.0.scheduler.changing.lock().await;
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
        let _changing = self.0.scheduler.changing.lock().await;
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
        let _changing = self.0.scheduler.changing.lock().await;
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

    /// Checks and keeps a schedule. The caller holds `changing`.
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

    /// Makes the schedules that a definition brings, and removes those that the version before it brought and it does
    /// not. What people changed about one since stays, unless the definition itself says something new of it.
    pub(crate) async fn adopt_schedules(
        &self,
        registered: &Registered,
        before: Option<&Pipeline>,
    ) -> Result<(), ScheduleError> {
        let pipeline = registered.plan.pipeline();
        let earlier = before.map_or(&[][..], |before| &before.schedules);
        if pipeline.schedules.is_empty() && earlier.is_empty() {
            return Ok(());
        }
        let _changing = self.0.scheduler.changing.lock().await;
        // At a start they are adopted before those in the store are taken up.
        let mut known: HashMap<_, _> =
            self.0.store.schedules().await?.into_iter().map(|record| (record.id.clone(), record)).collect();
        known.retain(|_, record| record.pipeline_id == pipeline.id);
        for spec in earlier.iter().filter(|spec| pipeline.schedules.iter().all(|kept| kept.id != spec.id)) {
            let id = id_of(&pipeline.id, spec);
            if known.contains_key(&id) {
                self.0.store.delete_schedule(&id).await?;
                self.0.scheduler.records.lock().remove(&id);
            }
        }
        let now = self.0.clock.now();
        for spec in &pipeline.schedules {
            let id = id_of(&pipeline.id, spec);
            let timing = stored(&spec.timing);
            let same = |known: &ScheduleRecord| {
                earlier.contains(spec)
                    || known.timing == timing
                        && known.timezone == spec.timezone
                        && known.parameters == spec.parameters
            };
            if let Some(known) = known.remove(&id).filter(same) {
                self.0.scheduler.records.lock().insert(id, known);
                continue;
            }
            let record = ScheduleRecord {
                id,
                pipeline_id: pipeline.id.clone(),
                timing,
                timezone: spec.timezone.clone(),
                parameters: spec.parameters.clone(),
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
            let id = id_of(&pipeline.id, spec);
            if self.schedule(&id).is_some_and(|known| known.pipeline_id != pipeline.id) {
                return Err(ScheduleError::Exists(id));
            }
        }
        Ok(())
    }

    pub(crate) async fn drop_schedules_of(&self, pipeline: &PipelineId) -> Result<(), StoreError> {
        let _changing = self.0.scheduler.changing.lock().await;
        for record in self.schedules().into_iter().filter(|record| &record.pipeline_id == pipeline) {
            self.0.store.delete_schedule(&record.id).await?;
            self.0.scheduler.records.lock().remove(&record.id);
        }
        Ok(())
    }

    /// Whether the firing is dealt with; if not, it is to be tried again.
    async fn fire(&self, record: ScheduleRecord, due: Timestamp) -> bool {
        let submission = Submission {
            pipeline_id: record.pipeline_id.clone(),
            parameters: record.parameters,
            idempotency_key: Some(format!("schedule:{}:{due}", record.id)),
            trigger: Trigger::Schedule { id: record.id.clone(), fire_at: due },
        };
        match self.submit(submission).await {
            Ok(submitted) => {
                tracing::info!(schedule = %record.id, run_id = %submitted.run_id, %due, "schedule fired")
            }
            // It is made up for after the next start.
            Err(SubmitError::ShuttingDown) => return false,
            Err(error) if may_pass(&error) => {
                tracing::warn!(schedule = %record.id, %due, %error, "schedule cannot start its run now; trying again");
                return false;
            }
            Err(error) => {
                tracing::error!(schedule = %record.id, %due, %error, "schedule could not start its run")
            }
        }
        self.note_firing(&record.id, due).await;
        true
    }

    /// Notes a firing at the schedule as it is now: it may have been changed or removed since it was due.
    async fn note_firing(&self, id: &str, due: Timestamp) {
        let _changing = self.0.scheduler.changing.lock().await;
        let Some(mut record) = self.schedule(id) else { return };
        record.last_fire_at = Some(due);
        if record.next_fire_at == Some(due) {
            let after = self.0.clock.now().max(due);
            record.next_fire_at =
                next_fire(&record.timing, &record.timezone, record.created_at, after).unwrap_or_default();
        }
        if let Err(error) = self.0.store.put_schedule(record.clone()).await {
            tracing::error!(schedule = %id, %error, "the firing could not be noted; its run is kept by its key");
        }
        self.0.scheduler.records.lock().insert(record.id.clone(), record);
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
            if stopped.is_cancelled() {
                return;
            }
            let next = engine.0.scheduler.next();
            let now = engine.0.clock.now();
            if let Some((record, due)) = next.clone().and_then(|r| r.next_fire_at.map(|due| (r, due)))
                && due <= now
            {
                if !engine.fire(record, due).await {
                    drop(engine);
                    tokio::select! {
                        () = tokio::time::sleep(TRY_AGAIN) => {}
                        () = stop.cancelled() => return,
                        () = stopped.cancelled() => return,
                    }
                }
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

/// Checks the schedules that a definition brings: their times, and whether their parameters fit it.
pub(crate) fn check_specs(plan: &Plan, now: Timestamp) -> Result<(), ScheduleError> {
    for spec in &plan.pipeline().schedules {
        next_fire(&stored(&spec.timing), &spec.timezone, now, now)?;
        plan.check_parameters(spec.parameters.clone()).map_err(SubmitError::Parameters)?;
    }
    Ok(())
}

/// Whether the same request may be accepted later with nothing changed but the load or the store.
fn may_pass(error: &SubmitError) -> bool {
    match error {
        SubmitError::Busy => true,
        SubmitError::Store(error) => error.may_pass(),
        _ => false,
    }
}

/// The id of a schedule that a definition brings.
fn id_of(pipeline: &PipelineId, spec: &ScheduleSpec) -> String {
    format!("{pipeline}.{}", spec.id)
}
