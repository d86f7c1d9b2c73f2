//! The schedules that definitions bring.

use std::collections::{HashMap, HashSet};

use taskiq_flow_core::calendar::Calendar;
use taskiq_flow_core::definition::{Pipeline, ScheduleSpec};
use taskiq_flow_core::id::PipelineId;
use taskiq_flow_core::plan::Plan;
use taskiq_flow_core::time::Timestamp;
use taskiq_flow_store::{ScheduleRecord, StoreError};

use super::impossible;
use crate::catalog::Registered;
use crate::error::{ScheduleError, SubmitError};
use crate::handle::Engine;

impl Engine {
    /// Makes the schedules that a definition brings, and removes those that the version before it brought and it does
    /// not. What people changed about one since stays, unless the definition itself says something new of it. `earlier`: one
    /// more version back, and when the one behind it was registered, which may have broken off before it had removed what
    /// that version brought.
    pub(crate) async fn adopt_schedules(
        &self,
        registered: &Registered,
        before: Option<&Pipeline>,
        earlier: Option<(&Pipeline, Timestamp)>,
    ) -> Result<(), ScheduleError> {
        let pipeline = registered.plan.pipeline();
        let (left, until) =
            earlier.map_or((&[][..], None), |(left, until)| (left.schedules.as_slice(), Some(until)));
        let earlier = before.map_or(&[][..], |before| &before.schedules);
        if pipeline.schedules.is_empty() && earlier.is_empty() && left.is_empty() {
            return Ok(());
        }
        let _changing = self.0.scheduler.changing.lock().await;
        // At a start they are adopted before those in the store are taken up.
        let mut known: HashMap<_, _> =
            self.0.store.schedules().await?.into_iter().map(|record| (record.id.clone(), record)).collect();
        known.retain(|_, record| record.pipeline_id == pipeline.id);
        let is_gone = |spec: &&ScheduleSpec| pipeline.schedules.iter().all(|kept| kept.id != spec.id);
        // One of that id that was made since is somebody's own.
        let left = left.iter().map(|spec| (spec, until));
        for (spec, until) in
            earlier.iter().map(|spec| (spec, None)).chain(left).filter(|(spec, _)| is_gone(spec))
        {
            let id = id_of(&pipeline.id, spec);
            let of_it = |known: &ScheduleRecord| until.is_none_or(|until| known.created_at <= until);
            // It may be gone from the store alone.
            let in_memory = self.schedule(&id).filter(|known| known.pipeline_id == pipeline.id);
            if known.get(&id).or(in_memory.as_ref()).is_some_and(of_it) {
                self.0.store.delete_schedule(&id).await?;
                self.0.scheduler.book.lock().remove(&id);
            }
        }
        let now = self.0.clock.now();
        for spec in &pipeline.schedules {
            let id = id_of(&pipeline.id, spec);
            let same = |known: &ScheduleRecord| {
                earlier.contains(spec)
                    || known.timing == spec.timing
                        && known.timezone == spec.timezone
                        && known.parameters == spec.parameters
                        && known.rules == spec.rules
            };
            // What is in memory is newer should the store have missed a firing.
            let in_memory = self.schedule(&id).filter(|known| known.pipeline_id == pipeline.id);
            let known = in_memory.or(known.remove(&id));
            if let Some(known) = known.clone().filter(same)
                && self.0.scheduler.book.lock().put(known).is_ok()
            {
                continue;
            }
            let record = ScheduleRecord {
                id,
                pipeline_id: pipeline.id.clone(),
                timing: spec.timing.clone(),
                timezone: spec.timezone.clone(),
                parameters: spec.parameters.clone(),
                enabled: spec.enabled,
                rules: spec.rules.clone(),
                created_at: known.as_ref().map_or(now, |known| known.created_at),
                next_fire_at: None,
                last_fire_at: known.as_ref().and_then(|known| known.last_fire_at),
            };
            self.put_schedule(record, known.as_ref(), now).await?;
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
        let book = self.0.scheduler.book.lock();
        let others = book
            .all()
            .filter(|record| record.pipeline_id == pipeline.id)
            .filter(|record| !own.contains(&record.id) && !gone.contains(&record.id));
        let count = own.len() + others.count();
        drop(book);
        self.check_schedule_count(&pipeline.id, count)
    }

    pub(super) fn check_schedule_count(
        &self,
        pipeline: &PipelineId,
        count: usize,
    ) -> Result<(), ScheduleError> {
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
            self.0.scheduler.book.lock().remove(&record.id);
        }
        Ok(())
    }
}

/// Checks the schedules that a definition brings: their times, and whether their parameters fit it.
pub(crate) fn check_specs(plan: &Plan, now: Timestamp) -> Result<(), ScheduleError> {
    for spec in &plan.pipeline().schedules {
        Calendar::new(&spec.timing, &spec.timezone, &spec.rules, now).map_err(impossible)?;
        plan.check_parameters(spec.parameters.clone()).map_err(SubmitError::Parameters)?;
    }
    Ok(())
}

/// The id of a schedule that a definition brings.
fn id_of(pipeline: &PipelineId, spec: &ScheduleSpec) -> String {
    format!("{pipeline}.{}", spec.id)
}
