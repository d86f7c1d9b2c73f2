//! `/ws`: events as they happen, over a WebSocket.
//!
//! The guard has looked at the handshake: HTTPS, origin, rate and, where there is one, the credential. A
//! [`session`] then asks it about every subscription, and again whenever the policy changes.

mod line;
pub(crate) mod message;
mod rate;
mod session;
mod subscription;

use axum::Extension;
use axum::extract::rejection::RawPathParamsRejection;
use axum::extract::ws::WebSocketUpgrade;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::{RawPathParams, State};
use axum::response::Response;
use http::StatusCode;
use http::header::{CONNECTION, HeaderValue, UPGRADE};

use crate::handlers::Caller;
use crate::problem::Problem;
use crate::state::AppState;

/// The largest message a client may send, in bytes.
const MAX_MESSAGE: usize = 64 << 10;
/// What a socket reads at once, and has for it as long as it is open. Clients say little: a subscription has some hundred
/// bytes.
const READ_BUFFER: usize = 1 << 10;
/// Bytes that are gathered before they are written. A socket keeps as much once it was told a lot.
const WRITE_BUFFER: usize = 16 << 10;

/// Opens a socket for events; below `/ws/{id}` it subscribes to that pipeline by itself.
///
/// Without a credential in the handshake, the first message must be `{"type": "connect", "auth": …}`.
#[utoipa::path(
    get, path = "/ws", tag = "events",
    responses((status = 101, description = "The connection is a WebSocket from now on")),
)]
pub(crate) async fn connect(
    State(state): State<AppState>,
    Extension(caller): Caller,
    params: Result<RawPathParams, RawPathParamsRejection>,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, Problem> {
    let upgrade = upgrade.map_err(|rejection| no_handshake(&rejection))?;
    let params =
        params.map_err(|_| Problem::bad_request("The path is not UTF-8 once its escapes are read."))?;
    let pipeline = params.iter().find(|(name, _)| *name == "id").map(|(_, id)| id.to_owned());
    let slot = state.open_stream().ok_or_else(|| state.guard().too_many_connections(&caller))?;
    let upgrade = upgrade
        .max_message_size(MAX_MESSAGE)
        .max_frame_size(MAX_MESSAGE)
        .read_buffer_size(READ_BUFFER)
        .write_buffer_size(WRITE_BUFFER);
    Ok(upgrade.on_upgrade(move |socket| async move {
        session::run(state, caller, pipeline, socket).await;
        drop(slot);
    }))
}

/// The same as [`connect`], for the OpenAPI document.
#[utoipa::path(
    get, path = "/ws/{id}", tag = "events", params(("id" = String, Path, description = "The pipeline to subscribe to")),
    responses((status = 101, description = "The connection is a WebSocket from now on")),
)]
#[allow(dead_code, reason = "the router serves both paths by one function; the document describes each")]
pub(crate) fn connect_to_pipeline() {}

fn no_handshake(rejection: &WebSocketUpgradeRejection) -> Problem {
    match rejection {
        // Over HTTP/2 there is no upgrade to ask for, and no header that could: those two are left out there.
        WebSocketUpgradeRejection::MethodNotConnect(_)
        | WebSocketUpgradeRejection::InvalidUpgradeHeader(_)
        | WebSocketUpgradeRejection::InvalidConnectionHeader(_)
        | WebSocketUpgradeRejection::ConnectionNotUpgradable(_) => {
            Problem::of_status(StatusCode::UPGRADE_REQUIRED)
                .header(UPGRADE, HeaderValue::from_static("websocket"))
                .header(CONNECTION, HeaderValue::from_static("upgrade"))
        }
        other => Problem::bad_request(format!("{}.", other.body_text())),
    }
}
