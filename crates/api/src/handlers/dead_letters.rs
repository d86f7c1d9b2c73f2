//! `/dead-letters`: steps that were given up.

use axum::extract::{Path, State};
use axum::response::Response;
use axum::{Extension, Json};
use http::{StatusCode, Uri};
use serde::Deserialize;
use taskiq_flow_core::id::PipelineId;
use taskiq_flow_security::{Permission, Resource};
use taskiq_flow_store::DeadLetterFilter;
use utoipa::IntoParams;

use super::{Allowed, Caller, OnRun, started};
use crate::input::{Params, field, limit, seq};
use crate::model::{Accepted, DeadLetterList};
use crate::problem::Problem;
use crate::service::dead_letters;
use crate::state::AppState;

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct DeadLetterQuery {
    /// Only of this pipeline.
    pipeline_id: Option<String>,
    /// Only those that were replayed, or only those that were not.
    #[param(value_type = Option<bool>)]
    replayed: Option<String>,
    /// At most so many; 100 unless said.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 500)]
    limit: Option<String>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

/// Steps that were given up with `on_error: dead_letter`, of pipelines the caller may read, newest first.
#[utoipa::path(get, path = "/dead-letters", tag = "runs", params(DeadLetterQuery), responses((status = 200, body = DeadLetterList)))]
pub(crate) async fn list_dead_letters(
    State(state): State<AppState>,
    Extension(caller): Caller,
    Extension(permit): Allowed,
    Params(query): Params<DeadLetterQuery>,
) -> Result<Json<DeadLetterList>, Problem> {
    let filter = DeadLetterFilter {
        pipelines: None,
        replayed: field("replayed", query.replayed.as_deref(), |text| {
            text.parse::<bool>().map_err(|_| "expected true or false")
        })?,
        before: seq("cursor", query.cursor.as_deref())?,
        limit: limit(query.limit.as_deref())?,
    };
    let pipeline = match &query.pipeline_id {
        Some(id) => {
            // Asked for by name, what may not be read is refused like everywhere else.
            let _permit = state.guard().authorize(&caller, Permission::Read, Resource::Pipeline(id))?;
            field("pipeline_id", Some(id), |text| text.parse::<PipelineId>())?
        }
        None => None,
    };
    Ok(Json(dead_letters::list(&state, &permit, pipeline, filter).await?))
}

/// Starts a new run that does the step again and what needs it, and takes over what else the run had made.
#[utoipa::path(
    post, path = "/dead-letters/{id}/{step_run}/replay", tag = "runs",
    params(("id" = String, Path, description = "The run"), ("step_run" = u32, Path, description = "The step run")),
    responses((status = 202, description = "The new run", body = Accepted, headers(("Location" = String, description = "Where it is shown")))),
)]
pub(crate) async fn replay_dead_letter(
    State(state): State<AppState>,
    Extension(caller): Caller,
    Extension(permit): Allowed,
    Extension(run): OnRun,
    path: Path<(String, String)>,
    uri: Uri,
) -> Result<Response, Problem> {
    let accepted = dead_letters::replay(&state, &caller, &permit, &run, step_run(&path)?).await?;
    Ok(started(&uri, accepted))
}

/// Deletes a dead letter.
#[utoipa::path(
    delete, path = "/dead-letters/{id}/{step_run}", tag = "runs",
    params(("id" = String, Path, description = "The run"), ("step_run" = u32, Path, description = "The step run")),
    responses((status = 204, description = "It is gone")),
)]
pub(crate) async fn drop_dead_letter(
    State(state): State<AppState>,
    Extension(permit): Allowed,
    Extension(run): OnRun,
    path: Path<(String, String)>,
) -> Result<StatusCode, Problem> {
    dead_letters::drop(&state, &permit, &run, step_run(&path)?).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn step_run(path: &Path<(String, String)>) -> Result<u32, Problem> {
    let Path((_, text)) = path;
    text.parse().map_err(|_| Problem::not_found("a step run is a whole number"))
}
