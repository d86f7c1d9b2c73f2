//! `/security/keys`: API keys.

use axum::Json;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde::Deserialize;
use taskiq_flow_security::Permission;
use taskiq_flow_security::administration::{DEFAULT_OVERLAP_SECONDS, NewKey};
use taskiq_flow_security::networks::Networks;
use utoipa::ToSchema;

use super::Administering;
use super::pipelines::PageQuery;
use crate::input::{Body, OptionalBody, Params};
use crate::model::{IssuedKeyDocument, KeyDocument, KeyList};
use crate::problem::Problem;
use crate::state::AppState;

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewKeyBody {
    /// What logs and audit records call it: 1 to 64 letters, digits and `-_.:@`. Made up unless said.
    id: Option<String>,
    /// Its role, as access lists name it. One of `role` and `roles`.
    role: Option<String>,
    roles: Option<Vec<String>>,
    /// The pipelines it is limited to; `["*"]`: all. `*` inside a name stands for any text.
    pipelines: Vec<String>,
    /// Of `read`, `execute` and `admin`, at least one.
    #[schema(value_type = Vec<String>)]
    permissions: Vec<Permission>,
    /// From when on it is refused.
    #[schema(value_type = Option<String>, format = DateTime)]
    expires_at: Option<jiff::Timestamp>,
    /// The networks and addresses it may be used from; anywhere unless said.
    allowed_ips: Option<Vec<String>>,
}

#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Rotation {
    /// How long the key that is replaced is accepted beside the new one; a day unless said, at most 30 days.
    #[schema(maximum = 2592000)]
    overlap_seconds: Option<u64>,
}

/// The keys of the configuration and those made over the API, by id.
#[utoipa::path(
    get, path = "/security/keys", tag = "security", params(PageQuery), responses((status = 200, body = KeyList)),
)]
pub(crate) async fn list_keys(
    State(state): State<AppState>,
    Administering(by): Administering,
    Params(query): Params<PageQuery>,
) -> Result<Json<KeyList>, Problem> {
    let page = query.page()?;
    let mut keys = state.administration().keys(&by);
    keys.retain(|key| page.cursor.as_ref().is_none_or(|cursor| key.id > *cursor));
    let more = keys.len() > page.limit;
    keys.truncate(page.limit);
    let next_cursor = keys.last().filter(|_| more).map(|key| key.id.clone());
    Ok(Json(KeyList { keys: keys.into_iter().map(KeyDocument::from).collect(), next_cursor }))
}

/// Makes a key. The answer is the only one that shows it.
#[utoipa::path(
    post, path = "/security/keys", tag = "security", request_body = inline(NewKeyBody),
    responses((status = 201, body = IssuedKeyDocument)),
)]
pub(crate) async fn create_key(
    State(state): State<AppState>,
    Administering(by): Administering,
    Body(new): Body<NewKeyBody>,
) -> Result<Response, Problem> {
    let roles = match (new.role, new.roles) {
        (Some(role), None) => vec![role],
        (None, Some(roles)) if !roles.is_empty() => roles,
        (Some(_), Some(_)) => {
            return Err(Problem::invalid_field("roles", "write `role` or `roles`, not both"));
        }
        _ => return Err(Problem::invalid_field("role", "is missing")),
    };
    let allowed_ips = new.allowed_ips.map(Networks::parse).transpose();
    let new = NewKey {
        id: new.id,
        roles,
        pipelines: new.pipelines,
        permissions: new.permissions.into(),
        expires_at: new.expires_at,
        allowed_ips: allowed_ips.map_err(|error| Problem::invalid_field("allowed_ips", error.to_string()))?,
    };
    let issued = state.administration().create_key(&by, new).await?;
    Ok((StatusCode::CREATED, Json(IssuedKeyDocument::from(issued))).into_response())
}

/// Makes a new key in the place of one, which is accepted for a while more.
///
/// The id and what it may do stay. The answer is the only one that shows the new key.
#[utoipa::path(
    post, path = "/security/keys/{id}/rotate", tag = "security", params(("id" = String, Path, description = "The key")),
    request_body(content = inline(Option<Rotation>)), responses((status = 201, body = IssuedKeyDocument)),
)]
pub(crate) async fn rotate_key(
    State(state): State<AppState>,
    Administering(by): Administering,
    Path(id): Path<String>,
    OptionalBody(rotation): OptionalBody<Rotation>,
) -> Result<Response, Problem> {
    let overlap = rotation.overlap_seconds.unwrap_or(DEFAULT_OVERLAP_SECONDS);
    let issued = state.administration().rotate_key(&by, &id, overlap).await?;
    Ok((StatusCode::CREATED, Json(IssuedKeyDocument::from(issued))).into_response())
}

/// Revokes a key: it is refused from now on, and what it holds open is closed.
///
/// A key of the configuration is answered 409: it is removed there.
#[utoipa::path(
    delete, path = "/security/keys/{id}", tag = "security", params(("id" = String, Path, description = "The key")),
    responses((status = 204)),
)]
pub(crate) async fn revoke_key(
    State(state): State<AppState>,
    Administering(by): Administering,
    Path(id): Path<String>,
) -> Result<StatusCode, Problem> {
    state.administration().revoke_key(&by, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}
