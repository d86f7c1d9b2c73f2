//! Schedules of pipelines.

use taskiq_flow_core::id::PipelineId;
use taskiq_flow_engine::{ScheduleChange, ScheduleError, ScheduleRequest};
use taskiq_flow_security::{Admission, Permit};
use taskiq_flow_store::ScheduleRecord;

use super::pipelines::{self, Page};
use super::quota;
use crate::model::{Accepted, ScheduleDocument, ScheduleList};
use crate::problem::Problem;
use crate::state::AppState;

/// A page of the schedules that the holder of the permit may read, by id.
pub(crate) fn list(
    state: &AppState,
    permit: &Permit,
    pipeline: Option<&PipelineId>,
    page: &Page,
) -> ScheduleList {
    let mut schedules = state.engine().schedules();
    schedules.retain(|record| {
        pipeline.is_none_or(|pipeline| record.pipeline_id == *pipeline)
            && page.cursor.as_deref().is_none_or(|cursor| record.id.as_str() > cursor)
            && pipelines::may_read(state.guard(), permit.principal(), &record.pipeline_id)
    });
    let more = schedules.len() > page.limit;
    schedules.truncate(page.limit);
    let next_cursor = schedules.last().filter(|_| more).map(|record| record.id.clone());
    ScheduleList { schedules: schedules.into_iter().map(Into::into).collect(), next_cursor }
}

/// Makes a schedule for the pipeline that the permit is for.
pub(crate) async fn create(
    state: &AppState,
    permit: &Permit,
    request: ScheduleRequest,
) -> Result<ScheduleDocument, Problem> {
    check(permit, &request.pipeline_id)?;
    Ok(state.engine().create_schedule(request).await?.into())
}

/// Changes a schedule.
pub(crate) async fn change(
    state: &AppState,
    permit: &Permit,
    record: &ScheduleRecord,
    change: ScheduleChange,
) -> Result<ScheduleDocument, Problem> {
    check(permit, &record.pipeline_id)?;
    Ok(state.engine().change_schedule(&record.id, change).await?.into())
}

/// Removes a schedule.
pub(crate) async fn remove(
    state: &AppState,
    permit: &Permit,
    record: &ScheduleRecord,
) -> Result<(), Problem> {
    check(permit, &record.pipeline_id)?;
    Ok(state.engine().delete_schedule(&record.id).await?)
}

/// Starts a run of a schedule now.
pub(crate) async fn trigger(
    state: &AppState,
    caller: &Admission,
    permit: &Permit,
    record: &ScheduleRecord,
) -> Result<Accepted, Problem> {
    check(permit, &record.pipeline_id)?;
    let most = match state.engine().pipeline(&record.pipeline_id) {
        Some(registered) => quota::spend(state, caller, &registered, &record.parameters).await?,
        None => None,
    };
    let submitted = state.engine().trigger_schedule(&record.id, most).await;
    let submitted = submitted.map_err(|error| match error {
        ScheduleError::Submit(error) => quota::refused(state, caller, error),
        error => error.into(),
    })?;
    Ok(Accepted::new(submitted.run_id, record.pipeline_id.clone(), submitted.status))
}

fn check(permit: &Permit, pipeline: &PipelineId) -> Result<(), Problem> {
    match permit.pipeline() == Some(pipeline.as_str()) {
        true => Ok(()),
        false => Err(Problem::internal("a permit for another pipeline reached a schedule")),
    }
}
