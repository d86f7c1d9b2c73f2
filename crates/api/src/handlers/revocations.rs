//! `/security/revocations`: tokens refused before their end.

use axum::Json;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde::Deserialize;
use taskiq_flow_security::jwt::Revocation;
use utoipa::ToSchema;

use super::Administering;
use crate::input::Body;
use crate::model::{RevocationDocument, RevocationList};
use crate::problem::Problem;
use crate::state::AppState;

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewRevocation {
    /// The `jti` of one token. One of `jti` and `sub`.
    jti: Option<String>,
    /// The `sub` of tokens.
    sub: Option<String>,
    /// Only of this issuer (`iss`); of any unless said.
    issuer: Option<String>,
    /// With `sub`: tokens issued before this time are refused; those issued before now unless said.
    #[schema(value_type = Option<String>, format = DateTime)]
    not_before: Option<jiff::Timestamp>,
    /// When the last of these tokens ends by itself (`exp`), so that the rule can be forgotten; kept for ever unless said.
    #[schema(value_type = Option<String>, format = DateTime)]
    expires_at: Option<jiff::Timestamp>,
}

/// All rules that refuse tokens.
#[utoipa::path(get, path = "/security/revocations", tag = "security", responses((status = 200, body = RevocationList)))]
pub(crate) async fn list_revocations(
    State(state): State<AppState>,
    Administering(by): Administering,
) -> Result<Json<RevocationList>, Problem> {
    let revocations = state.administration().revocations(&by);
    Ok(Json(RevocationList { revocations: revocations.into_iter().map(RevocationDocument::from).collect() }))
}

/// Refuses tokens from now on: one by its `jti`, or all of a `sub` that were issued before a time.
///
/// What they hold open is closed. A rule about the same tokens is replaced; the stricter of both holds.
#[utoipa::path(
    post, path = "/security/revocations", tag = "security", request_body = inline(NewRevocation),
    responses((status = 201, body = RevocationDocument)),
)]
pub(crate) async fn revoke_tokens(
    State(state): State<AppState>,
    Administering(by): Administering,
    Body(new): Body<NewRevocation>,
) -> Result<Response, Problem> {
    let NewRevocation { jti, sub, issuer, not_before, expires_at } = new;
    let rule = match (jti, sub) {
        (Some(jti), None) if not_before.is_none() => Revocation::Token { jti, issuer, expires_at },
        (Some(_), None) => {
            return Err(Problem::invalid_field("not_before", "it goes with `sub`, not with `jti`"));
        }
        (None, Some(sub)) => {
            let not_before = not_before.unwrap_or_else(jiff::Timestamp::now);
            Revocation::Subject { sub, issuer, not_before, expires_at }
        }
        _ => return Err(Problem::invalid_field("jti", "write `jti` or `sub`, one of them")),
    };
    let view = state.administration().revoke_tokens(&by, rule).await?;
    Ok((StatusCode::CREATED, Json(RevocationDocument::from(view))).into_response())
}

/// Takes a rule back: tokens that it alone refused are accepted again.
#[utoipa::path(
    delete, path = "/security/revocations/{id}", tag = "security", params(("id" = String, Path, description = "The rule")),
    responses((status = 204)),
)]
pub(crate) async fn remove_revocation(
    State(state): State<AppState>,
    Administering(by): Administering,
    Path(id): Path<String>,
) -> Result<StatusCode, Problem> {
    state.administration().remove_revocation(&by, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}
