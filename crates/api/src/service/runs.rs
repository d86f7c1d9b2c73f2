//! Starting, reading and controlling runs.

use std::time::Duration;

use serde_json::{Map, Value};
use taskiq_flow_core::definition::Priority;
use taskiq_flow_core::id::PipelineId;
use taskiq_flow_core::run::{ItemFilter, RunStatus};
use taskiq_flow_core::time::Timestamp;
use taskiq_flow_engine::{ControlError, Ending, Fork, Submission, Submitted};
use taskiq_flow_security::policy::Resource;
use taskiq_flow_security::{Admission, Permission, Permit, Principal};
use taskiq_flow_store::{RunFilter, RunRecord, Trigger};

use super::{pipelines, quota};
use crate::model::{
    Accepted, EventList, Finished, ItemList, LogList, RunDocument, RunList, StatisticsDocument,
};
use crate::problem::Problem;
use crate::state::AppState;

/// What a run is started with.
#[derive(Debug)]
pub(crate) struct Start {
    pub(crate) parameters: Map<String, Value>,
    pub(crate) idempotency_key: Option<String>,
    pub(crate) priority: Option<Priority>,
}

/// Starts a run of the pipeline that the permit is for.
pub(crate) async fn start(
    state: &AppState,
    caller: &Admission,
    permit: &Permit,
    start: Start,
) -> Result<(PipelineId, Submitted, Ending), Problem> {
    let registered = pipelines::of_permit(state, permit)?;
    let pipeline_id = registered.id().clone();
    let own = registered.plan.pipeline().priority;
    if start.priority.is_some_and(|priority| priority > own) && !administers(state, permit, &pipeline_id) {
        let message =
            format!("only who may administer the pipeline may go beyond its own priority, {}", own.get());
        return Err(Problem::invalid_field("priority", message));
    }
    // What the pipeline itself has was allowed when it was registered, or is the operator's.
    if let Some(priority) = start.priority.filter(|priority| *priority > own) {
        pipelines::check_priority(state, priority)?;
    }
    let submission = Submission {
        pipeline_id: pipeline_id.clone(),
        parameters: start.parameters,
        idempotency_key: start.idempotency_key.map(|key| key_of(permit.principal(), &key)),
        priority: start.priority,
        trigger: Trigger::Request { principal: permit.principal().id().to_owned() },
    };
    if let Some(key) =
        submission.idempotency_key.as_deref().filter(|_| state.guard().has_quota(pipeline_id.as_str()))
        && let Some(submitted) = state.engine().submitted(&pipeline_id, key).await?
    {
        let ending = state.engine().ending(submitted.run_id);
        return Ok((pipeline_id, submitted, ending));
    }
    let most = quota::spend(state, caller, &registered, &submission.parameters).await?;
    let submitted = state.engine().submit_to_end(submission, most).await;
    let (submitted, ending) = submitted.map_err(|error| quota::refused(state, caller, error))?;
    Ok((pipeline_id, submitted, ending))
}

fn administers(state: &AppState, permit: &Permit, pipeline: &PipelineId) -> bool {
    let settings = state.guard().settings();
    let resource = Resource::Pipeline(pipeline.as_str());
    settings.policy().decide(permit.principal(), Permission::Admin, resource, jiff::Timestamp::now()).allowed
}

/// The caller's own key: two callers may choose the same one, and schedules and sub-pipelines find their runs by keys
/// too, which nobody else may take. The length keeps ids apart from keys.
fn key_of(principal: &Principal, key: &str) -> String {
    match principal.issuer() {
        None => {
            let (kind, id) = (principal.kind().as_str(), principal.id());
            format!("request:{kind}:{}:{id}:{key}", id.len())
        }
        Some(_) => {
            let name = principal.unique_name();
            format!("request:issued:{}:{name}:{key}", name.len())
        }
    }
}

/// Waits for a run that the holder of the permit started; none: it has not ended by then. Its result is for those who
/// may read it.
pub(crate) async fn wait(
    state: &AppState,
    permit: &Permit,
    mut ending: Ending,
    timeout: Duration,
) -> Result<Option<Finished>, Problem> {
    let Some(run) = ending.wait(timeout).await? else { return Ok(None) };
    let readable = pipelines::may_read(state.guard(), permit.principal(), &run.pipeline_id);
    Ok(Some(Finished {
        run_id: run.run_id,
        pipeline_id: run.pipeline_id,
        status: run.status.as_str(),
        result: run.result.filter(|_| readable),
        error: run.error.filter(|_| readable).map(Into::into),
    }))
}

/// The newest run of the pipeline that the permit is for.
pub(crate) async fn newest(state: &AppState, permit: &Permit) -> Result<RunDocument, Problem> {
    let registered = pipelines::of_permit(state, permit)?;
    let last = state.engine().last_runs(std::slice::from_ref(registered.id())).await?;
    match last.first() {
        Some(run) => Ok(state.engine().run(run.run_id).await?.into()),
        None => Ok(RunDocument::registered(registered.id().clone(), registered.plan.steps().len())),
    }
}

/// Runs that the holder of the permit may read. `filter.pipelines` is theirs to narrow, never to widen.
pub(crate) async fn list(
    state: &AppState,
    permit: &Permit,
    pipeline: Option<PipelineId>,
    mut filter: RunFilter,
) -> Result<RunList, Problem> {
    filter.pipelines = readable(state, permit, pipeline);
    let page = state.engine().runs(filter).await?;
    Ok(RunList { runs: page.runs.into_iter().map(Into::into).collect(), next_cursor: page.next_cursor })
}

/// What the runs of the pipeline came to that the permit is for.
pub(crate) async fn statistics(
    state: &AppState,
    permit: &Permit,
    since: Option<Timestamp>,
    until: Option<Timestamp>,
) -> Result<StatisticsDocument, Problem> {
    let registered = pipelines::of_permit(state, permit)?;
    Ok(state.engine().statistics(registered.id(), since, until).await?.into())
}

/// The pipelines of which the holder of the permit is shown something, of all or of the one asked for; none: no limit.
pub(super) fn readable(
    state: &AppState,
    permit: &Permit,
    pipeline: Option<PipelineId>,
) -> Option<Vec<PipelineId>> {
    match pipeline {
        Some(pipeline) if pipelines::may_read(state.guard(), permit.principal(), &pipeline) => {
            Some(vec![pipeline])
        }
        Some(_) => Some(Vec::new()),
        None if reads_everything(state, permit) => None,
        None => {
            let readable = pipelines::readable(state, permit);
            Some(readable.iter().map(|registered| registered.id().clone()).collect())
        }
    }
}

/// Whether no pipeline is hidden from the holder, not even one that has been deleted and left its runs.
fn reads_everything(state: &AppState, permit: &Permit) -> bool {
    let settings = state.guard().settings();
    let (policy, now) = (settings.policy(), jiff::Timestamp::now());
    let decide =
        |permission| policy.decide(permit.principal(), permission, Resource::WholeServer, now).allowed;
    decide(Permission::Admin) || (decide(Permission::Read) && policy.acls().next().is_none())
}

/// A run as it is now.
pub(crate) async fn show(
    state: &AppState,
    permit: &Permit,
    record: &RunRecord,
) -> Result<RunDocument, Problem> {
    check(permit, record)?;
    Ok(state.engine().run(record.run_id).await?.into())
}

/// A page of the items of one of its steps.
pub(crate) async fn items(
    state: &AppState,
    permit: &Permit,
    record: &RunRecord,
    step: &str,
    filter: ItemFilter,
) -> Result<ItemList, Problem> {
    check(permit, record)?;
    Ok(state.engine().items(record.run_id, step, filter).await?.into())
}

/// What is done to a run.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Control<'a> {
    Cancel { reason: &'a str },
    Pause,
    Resume,
}

/// Cancels, pauses or resumes a run.
pub(crate) async fn control(
    state: &AppState,
    permit: &Permit,
    record: &RunRecord,
    control: Control<'_>,
) -> Result<Accepted, Problem> {
    check(permit, record)?;
    let (engine, run_id) = (state.engine(), record.run_id);
    match control {
        Control::Cancel { reason } => engine.cancel(run_id, reason).await?,
        Control::Pause => engine.pause(run_id).await?,
        Control::Resume => engine.resume(run_id).await?,
    }
    let status: RunStatus = engine.run(run_id).await?.status;
    Ok(Accepted::new(run_id, record.pipeline_id.clone(), status))
}

/// Runs what failed again, as a new run.
pub(crate) async fn retry(
    state: &AppState,
    caller: &Admission,
    permit: &Permit,
    record: &RunRecord,
) -> Result<Accepted, Problem> {
    check(permit, record)?;
    let status = state.engine().record(record.run_id).await?.summary.status;
    let most = match state.engine().pipeline(&record.pipeline_id) {
        // What the engine refuses to retry costs nothing.
        Some(registered) if status.is_terminal() && status != RunStatus::Completed => {
            quota::spend(state, caller, &registered, &record.parameters).await?
        }
        _ => None,
    };
    let submitted = state.engine().retry(record.run_id, permit.principal().id(), most).await;
    let submitted = submitted.map_err(|error| match error {
        ControlError::Submit(error) => quota::refused(state, caller, error),
        error => error.into(),
    })?;
    Ok(Accepted::new(submitted.run_id, record.pipeline_id.clone(), submitted.status))
}

/// Starts a new run that begins where a run that has ended was.
pub(crate) async fn fork(
    state: &AppState,
    caller: &Admission,
    permit: &Permit,
    record: &RunRecord,
    fork: Fork,
) -> Result<Accepted, Problem> {
    check(permit, record)?;
    let mut parameters = Map::clone(&record.parameters);
    parameters.extend(fork.parameters.clone());
    let status = state.engine().record(record.run_id).await?.summary.status;
    let most = match state.engine().pipeline(&record.pipeline_id) {
        // What the engine refuses to fork costs nothing.
        Some(registered) if status.is_terminal() => {
            quota::spend(state, caller, &registered, &parameters).await?
        }
        _ => None,
    };
    let submitted = state.engine().fork(record.run_id, fork, permit.principal().id(), most).await;
    let submitted = submitted.map_err(|error| match error {
        ControlError::Submit(error) => quota::refused(state, caller, error),
        ControlError::UnknownStep(_) => Problem::invalid_field("from", error.to_string()),
        error => error.into(),
    })?;
    Ok(Accepted::new(submitted.run_id, record.pipeline_id.clone(), submitted.status))
}

/// Sends a signal to a run.
pub(crate) async fn signal(
    state: &AppState,
    permit: &Permit,
    record: &RunRecord,
    name: &str,
    value: Value,
) -> Result<(), Problem> {
    check(permit, record)?;
    Ok(state.engine().signal(record.run_id, name, value, Some(permit.principal().id())).await?)
}

/// Events of a run with a number above `after_seq`.
pub(crate) async fn events(
    state: &AppState,
    permit: &Permit,
    record: &RunRecord,
    after_seq: u64,
    limit: usize,
) -> Result<EventList, Problem> {
    check(permit, record)?;
    let events = state.engine().events(record.run_id, after_seq, limit).await?;
    let next_seq = events.last().map_or(after_seq, |event| event.event.seq).saturating_add(1);
    Ok(EventList { events, next_seq })
}

/// What the attempts of a run printed.
pub(crate) async fn logs(state: &AppState, permit: &Permit, record: &RunRecord) -> Result<LogList, Problem> {
    check(permit, record)?;
    let logs = state.engine().logs(record.run_id).await?;
    Ok(LogList { logs: logs.into_iter().map(Into::into).collect() })
}

/// A permit is for a run when it is for the run's pipeline.
pub(crate) fn check(permit: &Permit, record: &RunRecord) -> Result<(), Problem> {
    match permit.pipeline() == Some(record.pipeline_id.as_str()) {
        true => Ok(()),
        false => Err(Problem::internal("a permit for another pipeline reached a run")),
    }
}
