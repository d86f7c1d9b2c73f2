//! Registering, changing and removing pipelines.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use http::{StatusCode, Uri};
use serde_json::Value;

use super::{Allowed, Caller, location};
use crate::input::Body;
use crate::model::Registration;
use crate::problem::Problem;
use crate::service::pipelines;
use crate::state::AppState;

/// Registers a pipeline under an id that is free.
///
/// The body is a definition as pipeline files hold it, in JSON. A `command` task is refused unless the server allows
/// remote commands.
#[utoipa::path(
    post, path = "/pipelines/{id}", tag = "pipelines", params(("id" = String, Path, description = "The pipeline")), request_body = Object,
    responses((status = 201, body = Registration, headers(("Location" = String, description = "Where the pipeline is shown")))),
)]
pub(crate) async fn create_pipeline(
    State(state): State<AppState>,
    Extension(caller): Caller,
    Extension(permit): Allowed,
    uri: Uri,
    Body(definition): Body<Value>,
) -> Result<Response, Problem> {
    let registration = pipelines::register(&state, &caller, &permit, definition, true).await?;
    Ok(created(&uri, registration))
}

/// Registers a pipeline or a new version of it.
///
/// The same definition again changes nothing and is answered 200.
#[utoipa::path(
    put, path = "/pipelines/{id}", tag = "pipelines", params(("id" = String, Path, description = "The pipeline")), request_body = Object,
    responses(
        (status = 200, description = "It was so already", body = Registration),
        (status = 201, description = "This is a new version", body = Registration),
    ),
)]
pub(crate) async fn put_pipeline(
    State(state): State<AppState>,
    Extension(caller): Caller,
    Extension(permit): Allowed,
    uri: Uri,
    Body(definition): Body<Value>,
) -> Result<Response, Problem> {
    let registration = pipelines::register(&state, &caller, &permit, definition, false).await?;
    if registration.changed {
        return Ok(created(&uri, registration));
    }
    Ok(Json(registration).into_response())
}

/// Removes a pipeline that was registered over the API. Its runs stay.
#[utoipa::path(delete, path = "/pipelines/{id}", tag = "pipelines", params(("id" = String, Path, description = "The pipeline")), responses((status = 204)))]
pub(crate) async fn delete_pipeline(
    State(state): State<AppState>,
    Extension(permit): Allowed,
) -> Result<StatusCode, Problem> {
    pipelines::unregister(&state, &permit).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn created(uri: &Uri, registration: Registration) -> Response {
    let location = location(uri, &format!("/pipelines/{}", registration.id));
    (StatusCode::CREATED, location, Json(registration)).into_response()
}
