//! `/runs`: the list, one of them, and controlling it.

use axum::extract::{Path, State};
use axum::response::Response;
use axum::{Extension, Json};
use http::{StatusCode, Uri};
use serde::Deserialize;
use serde_json::{Map, Value};
use taskiq_flow_core::id::{PipelineId, RunId};
use taskiq_flow_core::run::{ItemFilter, RunStatus, StepStatus};
use taskiq_flow_engine::Fork;
use taskiq_flow_security::{Permission, Resource};
use taskiq_flow_store::RunFilter;
use utoipa::openapi::Schema;
use utoipa::{IntoParams, ToSchema};

use super::{Allowed, Caller, OnRun, started};
use crate::input::{AnyBody, OptionalBody, Params, field, limit, one_of, time};
use crate::model::{Accepted, ItemList, LogList, RunDocument, RunList, SignalTaken, StatisticsDocument};
use crate::problem::Problem;
use crate::service::runs::{self, Control};
use crate::state::AppState;

/// The longest reason for a cancellation, in characters.
const MAX_REASON: usize = 1000;

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct RunQuery {
    /// Only of this pipeline.
    pipeline_id: Option<String>,
    /// Only in this state.
    #[param(schema_with = states)]
    status: Option<String>,
    /// Only those that were asked for at this time or later.
    #[param(value_type = Option<String>, format = DateTime)]
    since: Option<String>,
    /// Only those that were asked for before this time.
    #[param(value_type = Option<String>, format = DateTime)]
    until: Option<String>,
    /// At most so many; 100 unless said.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 500)]
    limit: Option<String>,
    /// `next_cursor` of the page before.
    #[param(value_type = Option<String>, format = Uuid)]
    cursor: Option<String>,
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct StatisticsQuery {
    /// Only runs that were asked for at this time or later.
    #[param(value_type = Option<String>, format = DateTime)]
    since: Option<String>,
    /// Only those that were asked for before this time.
    #[param(value_type = Option<String>, format = DateTime)]
    until: Option<String>,
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ItemQuery {
    /// Only in this state.
    #[param(schema_with = step_states)]
    status: Option<String>,
    /// At most so many; 100 unless said.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 500)]
    limit: Option<String>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Cancellation {
    /// Why, for those who look at the run later.
    reason: Option<String>,
}

#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Forking {
    /// The step from which on all is done again, with what needs it. Unless said, what did not come to an end is.
    from: Option<String>,
    /// Parameters with other values than those of the run. What needs one of them is done again.
    #[serde(default)]
    #[schema(value_type = Object)]
    parameters: Map<String, Value>,
}

fn states() -> Schema {
    one_of("Only in this state.", RunStatus::ALL.map(RunStatus::as_str))
}

fn step_states() -> Schema {
    one_of("Only in this state.", StepStatus::ALL.map(StepStatus::as_str))
}

/// Runs of the pipelines the caller may read, newest first.
#[utoipa::path(get, path = "/runs", tag = "runs", params(RunQuery), responses((status = 200, body = RunList)))]
pub(crate) async fn list_runs(
    State(state): State<AppState>,
    Extension(caller): Caller,
    Extension(permit): Allowed,
    Params(query): Params<RunQuery>,
) -> Result<Json<RunList>, Problem> {
    let filter = RunFilter {
        status: field("status", query.status.as_deref(), |text| text.parse::<RunStatus>())?,
        since: query.since.as_deref().map(|text| time("since", text)).transpose()?,
        until: query.until.as_deref().map(|text| time("until", text)).transpose()?,
        before: field("cursor", query.cursor.as_deref(), |text| {
            text.parse::<RunId>().map_err(|_| "is no cursor of this list")
        })?,
        limit: limit(query.limit.as_deref())?,
        ..RunFilter::default()
    };
    let pipeline = match &query.pipeline_id {
        Some(id) => {
            // Asked for by name, what may not be read is refused like everywhere else.
            let _permit = state.guard().authorize(&caller, Permission::Read, Resource::Pipeline(id))?;
            field("pipeline_id", Some(id), |text| text.parse::<PipelineId>())?
        }
        None => None,
    };
    Ok(Json(runs::list(&state, &permit, pipeline, filter).await?))
}

/// How runs of a pipeline ended, and how long they took.
///
/// Of the runs that have ended the newest 100,000 are counted; `complete` says whether those are all.
#[utoipa::path(
    get, path = "/pipelines/{id}/statistics", tag = "runs",
    params(("id" = String, Path, description = "The pipeline"), StatisticsQuery),
    responses((status = 200, body = StatisticsDocument)),
)]
pub(crate) async fn get_statistics(
    State(state): State<AppState>,
    Extension(permit): Allowed,
    Params(query): Params<StatisticsQuery>,
) -> Result<Json<StatisticsDocument>, Problem> {
    let since = query.since.as_deref().map(|text| time("since", text)).transpose()?;
    let until = query.until.as_deref().map(|text| time("until", text)).transpose()?;
    Ok(Json(runs::statistics(&state, &permit, since, until).await?))
}

/// A run with its steps.
#[utoipa::path(get, path = "/runs/{id}", tag = "runs", params(("id" = String, Path, description = "The run")), responses((status = 200, body = RunDocument)))]
pub(crate) async fn get_run(
    State(state): State<AppState>,
    Extension(permit): Allowed,
    Extension(run): OnRun,
) -> Result<Json<RunDocument>, Problem> {
    Ok(Json(runs::show(&state, &permit, &run).await?))
}

/// The items of a map, filter, reduce or group of a run, with their values, in the order of the list.
#[utoipa::path(
    get, path = "/runs/{id}/steps/{step}/items", tag = "runs",
    params(
        ("id" = String, Path, description = "The run"),
        ("step" = String, Path, description = "The step, or an item that has items itself, such as `rows[3]`"),
        ItemQuery,
    ),
    responses((status = 200, body = ItemList)),
)]
pub(crate) async fn get_step_items(
    State(state): State<AppState>,
    Extension(permit): Allowed,
    Extension(run): OnRun,
    path: Path<(String, String)>,
    Params(query): Params<ItemQuery>,
) -> Result<Json<ItemList>, Problem> {
    let Path((_, step)) = path;
    let filter = ItemFilter {
        status: field("status", query.status.as_deref(), |text| text.parse::<StepStatus>())?,
        after: field("cursor", query.cursor.as_deref(), |text| {
            text.parse::<u32>().map_err(|_| "is no cursor of this list")
        })?,
        limit: limit(query.limit.as_deref())?,
    };
    Ok(Json(runs::items(&state, &permit, &run, &step, filter).await?))
}

/// What the attempts of a run printed beside their values.
#[utoipa::path(get, path = "/runs/{id}/logs", tag = "runs", params(("id" = String, Path, description = "The run")), responses((status = 200, body = LogList)))]
pub(crate) async fn get_run_logs(
    State(state): State<AppState>,
    Extension(permit): Allowed,
    Extension(run): OnRun,
) -> Result<Json<LogList>, Problem> {
    Ok(Json(runs::logs(&state, &permit, &run).await?))
}

/// Stops a run for good.
#[utoipa::path(
    post, path = "/runs/{id}/cancel", tag = "runs", params(("id" = String, Path, description = "The run")),
    request_body = inline(Option<Cancellation>), responses((status = 202, body = Accepted)),
)]
pub(crate) async fn cancel_run(
    State(state): State<AppState>,
    Extension(permit): Allowed,
    Extension(run): OnRun,
    OptionalBody(cancellation): OptionalBody<Cancellation>,
) -> Result<(StatusCode, Json<Accepted>), Problem> {
    let reason = cancellation.reason.unwrap_or_else(|| format!("cancelled by {}", permit.principal().id()));
    if reason.chars().count() > MAX_REASON {
        return Err(Problem::invalid_field("reason", format!("expected at most {MAX_REASON} characters")));
    }
    let accepted = runs::control(&state, &permit, &run, Control::Cancel { reason: &reason }).await?;
    Ok((StatusCode::ACCEPTED, Json(accepted)))
}

/// Keeps a run from starting anything new.
#[utoipa::path(post, path = "/runs/{id}/pause", tag = "runs", params(("id" = String, Path, description = "The run")), responses((status = 202, body = Accepted)))]
pub(crate) async fn pause_run(
    State(state): State<AppState>,
    Extension(permit): Allowed,
    Extension(run): OnRun,
) -> Result<(StatusCode, Json<Accepted>), Problem> {
    Ok((StatusCode::ACCEPTED, Json(runs::control(&state, &permit, &run, Control::Pause).await?)))
}

/// Lets a paused run go on.
#[utoipa::path(post, path = "/runs/{id}/resume", tag = "runs", params(("id" = String, Path, description = "The run")), responses((status = 202, body = Accepted)))]
pub(crate) async fn resume_run(
    State(state): State<AppState>,
    Extension(permit): Allowed,
    Extension(run): OnRun,
) -> Result<(StatusCode, Json<Accepted>), Problem> {
    Ok((StatusCode::ACCEPTED, Json(runs::control(&state, &permit, &run, Control::Resume).await?)))
}

/// Runs a failed, cancelled or timed out run again, as a new run that takes over what was finished.
#[utoipa::path(
    post, path = "/runs/{id}/retry", tag = "runs", params(("id" = String, Path, description = "The run")),
    responses((status = 202, description = "The new run", body = Accepted, headers(("Location" = String, description = "Where it is shown")))),
)]
pub(crate) async fn retry_run(
    State(state): State<AppState>,
    Extension(caller): Caller,
    Extension(permit): Allowed,
    Extension(run): OnRun,
    uri: Uri,
) -> Result<Response, Problem> {
    let accepted = runs::retry(&state, &caller, &permit, &run).await?;
    Ok(started(&uri, accepted))
}

/// Starts a new run that takes over what a run that has ended had made, except from a step on, or for changed parameters.
#[utoipa::path(
    post, path = "/runs/{id}/fork", tag = "runs", params(("id" = String, Path, description = "The run")),
    request_body = inline(Option<Forking>),
    responses((status = 202, description = "The new run", body = Accepted, headers(("Location" = String, description = "Where it is shown")))),
)]
pub(crate) async fn fork_run(
    State(state): State<AppState>,
    Extension(caller): Caller,
    Extension(permit): Allowed,
    Extension(run): OnRun,
    uri: Uri,
    OptionalBody(forking): OptionalBody<Forking>,
) -> Result<Response, Problem> {
    let fork = Fork { from: forking.from, parameters: forking.parameters };
    let accepted = runs::fork(&state, &caller, &permit, &run, fork).await?;
    Ok(started(&uri, accepted))
}

/// Sends a signal, with any JSON value or none, to a step that waits for it now or later.
#[utoipa::path(
    post, path = "/runs/{id}/signals/{name}", tag = "runs",
    params(("id" = String, Path, description = "The run"), ("name" = String, Path, description = "The signal")),
    request_body = Option<Value>, responses((status = 202, body = SignalTaken)),
)]
pub(crate) async fn signal_run(
    State(state): State<AppState>,
    Extension(permit): Allowed,
    Extension(run): OnRun,
    path: Path<(String, String)>,
    AnyBody(value): AnyBody,
) -> Result<(StatusCode, Json<SignalTaken>), Problem> {
    let Path((_, name)) = path;
    runs::signal(&state, &permit, &run, &name, value).await?;
    Ok((StatusCode::ACCEPTED, Json(SignalTaken { run_id: run.run_id, signal: name })))
}
