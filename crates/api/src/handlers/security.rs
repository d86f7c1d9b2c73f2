//! `/security/config`: the configuration in force.

use axum::extract::State;
use axum::{Extension, Json};
use serde_json::Value;

use super::Allowed;
use crate::state::AppState;

/// The security settings in force and the webhooks, without secrets.
#[utoipa::path(get, path = "/security/config", tag = "security", responses((status = 200, body = Object)))]
pub(crate) async fn get_security_config(
    State(state): State<AppState>,
    Extension(_permit): Allowed,
) -> Json<Value> {
    let mut shown = state.guard().settings().redacted().clone();
    if let Some(fields) = shown.as_object_mut() {
        fields.insert("webhooks".to_owned(), state.engine().configured_webhooks().into());
    }
    Json(shown)
}
