//! Schedules of pipelines.

use taskiq_flow_core::id::PipelineId;
use taskiq_flow_core::time::Timestamp;
use taskiq_flow_engine::{BackfillTime, ScheduleChange, ScheduleError, ScheduleRequest, Submitted};
use taskiq_flow_security::{Admission, Permit};
use taskiq_flow_store::{FiringFilter, ScheduleRecord};

use super::pipelines::{self, Page};
use super::quota;
use crate::model::{
    Accepted, BackfillDocument, BackfillTimeDocument, FiringList, ScheduleDocument, ScheduleList,
};
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
    let submitted = submitted.map_err(|error| refused(state, caller, error))?;
    Ok(Accepted::new(submitted.run_id, record.pipeline_id.clone(), submitted.status))
}

/// A page of the times of a schedule and what came of them.
pub(crate) async fn firings(
    state: &AppState,
    permit: &Permit,
    record: &ScheduleRecord,
    before: Option<u64>,
    limit: usize,
) -> Result<FiringList, Problem> {
    check(permit, &record.pipeline_id)?;
    let schedule = Some(record.id.clone());
    let filter = FiringFilter { schedule, before, limit: limit + 1, ..FiringFilter::default() };
    let mut firings = state.engine().firings(filter).await?;
    let more = firings.len() > limit;
    firings.truncate(limit);
    let next_cursor = firings.last().filter(|_| more).map(|firing| firing.place.to_string());
    Ok(FiringList { firings: firings.into_iter().map(Into::into).collect(), next_cursor })
}

/// Which times a backfill is about.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Span {
    pub(crate) from: Timestamp,
    pub(crate) to: Timestamp,
    pub(crate) most: usize,
}

/// Starts runs for times that have passed and have had none. Each costs what an execution costs; when that is refused,
/// those that were started stay, and the answer says why there are no more.
pub(crate) async fn backfill(
    state: &AppState,
    caller: &Admission,
    permit: &Permit,
    record: &ScheduleRecord,
    span: Span,
    dry_run: bool,
) -> Result<BackfillDocument, Problem> {
    check(permit, &record.pipeline_id)?;
    let plan = state.engine().backfill(&record.id, span.from, span.to, span.most).await?;
    let mut answer =
        BackfillDocument { times: Vec::new(), started: 0, next_from: plan.next_from, stopped: None };
    for BackfillTime { time, had, run_id } in plan.times {
        let (outcome, run_id) = match had {
            true => ("had", run_id),
            false if dry_run => ("planned", None),
            false => match start_for(state, caller, record, time).await {
                Ok(Some(submitted)) if submitted.created => {
                    answer.started += 1;
                    ("started", Some(submitted.run_id))
                }
                Ok(submitted) => ("had", submitted.map(|submitted| submitted.run_id)),
                Err(problem) if answer.started == 0 => return Err(problem),
                Err(problem) => {
                    answer.stopped = Some(problem.detail().to_owned());
                    answer.next_from = Some(time);
                    break;
                }
            },
        };
        answer.times.push(BackfillTimeDocument { fire_at: time, outcome, run_id });
    }
    Ok(answer)
}

async fn start_for(
    state: &AppState,
    caller: &Admission,
    record: &ScheduleRecord,
    time: Timestamp,
) -> Result<Option<Submitted>, Problem> {
    let most = match state.engine().pipeline(&record.pipeline_id) {
        Some(registered) => quota::spend(state, caller, &registered, &record.parameters).await?,
        None => None,
    };
    let submitted = state.engine().backfill_time(&record.id, time, most).await;
    submitted.map_err(|error| refused(state, caller, error))
}

fn refused(state: &AppState, caller: &Admission, error: ScheduleError) -> Problem {
    match error {
        ScheduleError::Submit(error) => quota::refused(state, caller, error),
        error => error.into(),
    }
}

fn check(permit: &Permit, pipeline: &PipelineId) -> Result<(), Problem> {
    match permit.pipeline() == Some(pipeline.as_str()) {
        true => Ok(()),
        false => Err(Problem::internal("a permit for another pipeline reached a schedule")),
    }
}
