//! `/security/reload`.

use axum::extract::State;
use axum::{Extension, Json};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Allowed, Caller};
use crate::input::OptionalBody;
use crate::problem::Problem;
use crate::reload::ReloadError;
use crate::state::AppState;

/// Nothing: an empty object or no body at all.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ReloadRequest {}

/// What a reload did.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Reloaded)]
pub(crate) struct ReloadedDocument {
    /// The fields that changed and are in force now.
    changed: Vec<String>,
    /// Fields that changed in the configuration and wait for a restart.
    pending: Vec<String>,
}

/// Reads the configuration again and puts its security settings in force, all of them or none.
///
/// They act on the next request and on open sockets; what was set over the API stays beside them. A configuration that
/// cannot be used is answered 422 with its mistakes and changes nothing.
#[utoipa::path(
    post, path = "/security/reload", tag = "security", request_body = inline(Option<ReloadRequest>),
    responses((status = 200, body = ReloadedDocument)),
)]
pub(crate) async fn reload(
    State(state): State<AppState>,
    Extension(caller): Caller,
    Extension(_permit): Allowed,
    OptionalBody(ReloadRequest {}): OptionalBody<ReloadRequest>,
) -> Result<Json<ReloadedDocument>, Problem> {
    let reloaded = state.reload(Some(&caller)).await?;
    Ok(Json(ReloadedDocument { changed: reloaded.changed, pending: reloaded.pending }))
}

impl From<ReloadError> for Problem {
    fn from(error: ReloadError) -> Self {
        match error {
            ReloadError::NoSource => Self::conflict(
                "This server was put together by a program: there is no configuration to read again.",
            ),
            ReloadError::Configuration(mistakes) => Self::invalid(mistakes),
            ReloadError::Administration(error) => error.into(),
            ReloadError::Broken(_) => Self::internal(error),
        }
    }
}
