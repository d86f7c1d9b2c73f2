//! `/webhooks`: who is told of events over HTTP, and what of it was not taken.

use axum::extract::{Path, State};
use axum::{Extension, Json};
use http::StatusCode;
use serde::Deserialize;
use taskiq_flow_core::time::Timestamp;
use utoipa::IntoParams;
use uuid::Uuid;

use super::Allowed;
use crate::input::{Params, field, limit};
use crate::model::{DeliveryList, TestedWebhook, WebhookList};
use crate::problem::Problem;
use crate::state::AppState;

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct DeliveryQuery {
    /// `dead`: those that were given up, newest first. `waiting`: the next one first. `dead` unless said.
    status: Option<String>,
    /// At most so many; 100 unless said.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 500)]
    limit: Option<String>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

/// The webhooks of the configuration, with what waits for them and how they fare. Of an address only scheme, host and port
/// are shown.
#[utoipa::path(get, path = "/webhooks", tag = "webhooks", responses((status = 200, body = WebhookList)))]
pub(crate) async fn list_webhooks(
    State(state): State<AppState>,
    Extension(_permit): Allowed,
) -> Result<Json<WebhookList>, Problem> {
    Ok(Json(state.engine().webhooks().await?.into()))
}

/// Sends a signed event of type `TestEvent` once, and says what came of it.
#[utoipa::path(
    post, path = "/webhooks/{id}/test", tag = "webhooks", params(("id" = String, Path, description = "The webhook's name")),
    responses((status = 200, description = "It was sent, whether or not it was taken", body = TestedWebhook)),
)]
pub(crate) async fn test_webhook(
    State(state): State<AppState>,
    Extension(_permit): Allowed,
    Path(name): Path<String>,
) -> Result<Json<TestedWebhook>, Problem> {
    Ok(Json(state.engine().test_webhook(&name).await?.into()))
}

/// What waits for a webhook, or was given up after its last try. The events themselves are not shown.
#[utoipa::path(
    get, path = "/webhooks/{id}/deliveries", tag = "webhooks",
    params(("id" = String, Path, description = "The webhook's name"), DeliveryQuery),
    responses((status = 200, body = DeliveryList)),
)]
pub(crate) async fn list_deliveries(
    State(state): State<AppState>,
    Extension(_permit): Allowed,
    Path(name): Path<String>,
    Params(query): Params<DeliveryQuery>,
) -> Result<Json<DeliveryList>, Problem> {
    let dead = field("status", query.status.as_deref(), |text| match text {
        "dead" => Ok(true),
        "waiting" => Ok(false),
        _ => Err("expected `dead` or `waiting`"),
    })?;
    let after = field("cursor", query.cursor.as_deref(), cursor)?;
    let limit = limit(query.limit.as_deref())?;
    let page = state.engine().webhook_deliveries(&name, dead.unwrap_or(true), after, limit).await?;
    Ok(Json(page.into()))
}

/// Has a delivery that was given up tried again, under the same id.
#[utoipa::path(
    post, path = "/webhooks/{id}/deliveries/{delivery}/replay", tag = "webhooks",
    params(
        ("id" = String, Path, description = "The webhook's name"),
        ("delivery" = String, Path, description = "The delivery"),
    ),
    responses((status = 202, description = "It is tried")),
)]
pub(crate) async fn replay_delivery(
    State(state): State<AppState>,
    Extension(_permit): Allowed,
    Path((name, delivery)): Path<(String, String)>,
) -> Result<StatusCode, Problem> {
    let id = delivery.parse::<Uuid>().map_err(|_| Problem::not_found("The id of a delivery is a UUID."))?;
    state.engine().replay_delivery(&name, id).await?;
    Ok(StatusCode::ACCEPTED)
}

/// The place behind which a page begins, as [`DeliveryList`] writes it: milliseconds, and the id.
fn cursor(text: &str) -> Result<(Timestamp, Uuid), &'static str> {
    let parts = text.split_once('_').and_then(|(millis, id)| Some((millis.parse().ok()?, id.parse().ok()?)));
    let (millis, id) = parts.ok_or("is no `next_cursor` of this list")?;
    Ok((Timestamp::from_millis(millis), id))
}
