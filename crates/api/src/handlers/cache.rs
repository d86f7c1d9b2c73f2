//! `/pipelines/{id}/cache`: the values that tasks with `cache` have kept.

use axum::extract::State;
use axum::{Extension, Json};
use serde::Deserialize;
use utoipa::IntoParams;

use super::Allowed;
use crate::input::Params;
use crate::model::{CacheDocument, CacheRemoval};
use crate::problem::Problem;
use crate::service::cache;
use crate::state::AppState;

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct CacheQuery {
    /// Only of this task.
    task: Option<String>,
}

/// How many values the tasks of a pipeline have kept, and how much room they take. The values themselves are not shown.
#[utoipa::path(get, path = "/pipelines/{id}/cache", tag = "pipelines", params(("id" = String, Path, description = "The pipeline")), responses((status = 200, body = CacheDocument)))]
pub(crate) async fn get_cache(
    State(state): State<AppState>,
    Extension(permit): Allowed,
) -> Result<Json<CacheDocument>, Problem> {
    Ok(Json(cache::show(&state, &permit).await?))
}

/// Forgets the kept values of a pipeline, or of one of its tasks, so that they are made anew. One that is being made now is
/// kept all the same.
#[utoipa::path(delete, path = "/pipelines/{id}/cache", tag = "pipelines", params(("id" = String, Path, description = "The pipeline"), CacheQuery), responses((status = 200, body = CacheRemoval)))]
pub(crate) async fn clear_cache(
    State(state): State<AppState>,
    Extension(permit): Allowed,
    Params(query): Params<CacheQuery>,
) -> Result<Json<CacheRemoval>, Problem> {
    Ok(Json(cache::clear(&state, &permit, query.task.as_deref()).await?))
}
