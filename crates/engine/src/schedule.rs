//! Schedules: what starts runs by itself, at its time.
//!
//! One task sleeps until the next schedule is due; a change wakes it. A firing is a run with an idempotency key
//! made of the schedule and the time, so that a crash between the two cannot fire twice. A firing that was
//! missed while nothing ran is made up for once.

mod firing;
mod timing;

use std::collections::{HashMap, HashSet};

use serde_json::{Map, Value};
use taskiq_flow_core::definition::{Pipeline, ScheduleSpec};
use taskiq_flow_core::id::PipelineId;
use taskiq_flow_core::plan::Plan;
use taskiq_flow_core::time::Timestamp;
use taskiq_flow_store::{ScheduleRecord, StoreError, StoredTiming, Trigger};

use crate::catalog::Registered;
use crate::error::{ScheduleError, SubmitError};
use crate::handle::Engine;
use crate::submission::{Submission, Submitted};

pub(crate) use self::firing::spawn;
use self::timing::{invalid, next_fire, stored};

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
        let of_pipeline = |record: &&ScheduleRecord| record.pipeline_id == request.pipeline_id;
        let count = self.0.scheduler.records.lock().values().filter(of_pipeline).count();
        self.check_schedule_count(&request.pipeline_id, count + 1)?;
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

    /// Starts a run of a schedule now, beside its own times. `most` bounds the pipeline's unfinished runs, as in
    /// [`Engine::submit_within`].
    ///
    /// # Errors
    /// [`ScheduleError::Unknown`], or why the run was not accepted.
    pub async fn trigger_schedule(&self, id: &str, most: Option<usize>) -> Result<Submitted, ScheduleError> {
        let record = self.schedule(id).ok_or_else(|| ScheduleError::Unknown(id.to_owned()))?;
        let trigger = Trigger::Schedule { id: record.id, fire_at: self.0.clock.now() };
        let submission = Submission {
            pipeline_id: record.pipeline_id,
            parameters: record.parameters,
            idempotency_key: None,
            priority: None,
            trigger,
        };
        Ok(self.submit_within(submission, most).await?)
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

    /// Whether a definition that comes over the API brings no more schedules than its pipeline may have, with those
    /// that people made.
    pub(crate) fn check_own_schedules(&self, pipeline: &Pipeline) -> Result<(), ScheduleError> {
        if pipeline.schedules.is_empty() {
            return Ok(());
        }
        let own: HashSet<_> = pipeline.schedules.iter().map(|spec| id_of(&pipeline.id, spec)).collect();
        // Those of the version before that this one leaves out go with it.
        let before = self.pipeline(&pipeline.id);
        let before = before.iter().flat_map(|before| &before.plan.pipeline().schedules);
        let gone: HashSet<_> = before.map(|spec| id_of(&pipeline.id, spec)).collect();
        let records = self.0.scheduler.records.lock();
        let others = records
            .values()
            .filter(|record| record.pipeline_id == pipeline.id)
            .filter(|record| !own.contains(&record.id) && !gone.contains(&record.id));
        let count = own.len() + others.count();
        drop(records);
        self.check_schedule_count(&pipeline.id, count)
    }

    fn check_schedule_count(&self, pipeline: &PipelineId, count: usize) -> Result<(), ScheduleError> {
        let most = self.0.options.max_schedules;
        match count > most {
            true => Err(ScheduleError::TooMany { pipeline: pipeline.clone(), most }),
            false => Ok(()),
        }
    }

    pub(crate) async fn drop_schedules_of(&self, pipeline: &PipelineId) -> Result<(), StoreError> {
        let _changing = self.0.scheduler.changing.lock().await;
        for record in self.schedules().into_iter().filter(|record| &record.pipeline_id == pipeline) {
            self.0.store.delete_schedule(&record.id).await?;
            self.0.scheduler.records.lock().remove(&record.id);
        }
        Ok(())
    }
}

/// Checks the schedules that a definition brings: their times, and whether their parameters fit it.
pub(crate) fn check_specs(plan: &Plan, now: Timestamp) -> Result<(), ScheduleError> {
    for spec in &plan.pipeline().schedules {
        next_fire(&stored(&spec.timing), &spec.timezone, now, now)?;
        plan.check_parameters(spec.parameters.clone()).map_err(SubmitError::Parameters)?;
    }
    Ok(())
}

/// The id of a schedule that a definition brings.
fn id_of(pipeline: &PipelineId, spec: &ScheduleSpec) -> String {
    format!("{pipeline}.{}", spec.id)
}
