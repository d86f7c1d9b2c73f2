//! The events of a run, as a list or as a stream of server-sent events.

use std::convert::Infallible;
use std::task::Poll;
use std::time::Duration;

use axum::extract::State;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use futures_util::Stream;
use http::{HeaderMap, HeaderName, StatusCode};
use serde::Deserialize;
use taskiq_flow_core::run::EventView;
use taskiq_flow_security::guard::PolicyChanges;
use taskiq_flow_security::policy::Resource;
use taskiq_flow_security::{Admission, Permission};
use taskiq_flow_store::RunRecord;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use utoipa::IntoParams;

use super::{Allowed, Caller, OnRun};
use crate::accept::names;
use crate::input::{Params, field, seq};
use crate::model::EventList;
use crate::problem::Problem;
use crate::service::runs;
use crate::state::{AppState, StreamSlot};
use crate::stream::{RunTail, took_to_close, until_expiry};

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
const DEFAULT_EVENTS: usize = 1000;
const MAX_EVENTS: usize = 10_000;
/// How often a stream without events shows that it lives.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// How soon a client that lost its stream comes back.
const RECONNECT: Duration = Duration::from_secs(2);
/// Events on their way to one client.
const BACKLOG: usize = 64;
/// A client that takes nothing for so long has left.
const STALLED: Duration = Duration::from_secs(30);

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct EventQuery {
    /// Only events with this number or a higher one.
    #[param(value_type = Option<u64>)]
    from_seq: Option<String>,
    /// Only events with a higher number.
    #[param(value_type = Option<u64>)]
    after_seq: Option<String>,
    /// At most so many; 1000 unless said. Not for streams.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 10000)]
    limit: Option<String>,
}

/// The events of a run.
///
/// As JSON a page of them. With `Accept: text/event-stream` all of them and then live ones, until the one that ends
/// the run; `Last-Event-ID` resumes after that number, and a run that has nothing more to tell is answered 204.
#[utoipa::path(
    get, path = "/runs/{id}/events", tag = "runs",
    params(("id" = String, Path, description = "The run"), EventQuery, ("Last-Event-ID" = Option<u64>, Header, description = "The number of the last event received")),
    responses(
        (status = 200, content((EventList = "application/json"), (String = "text/event-stream"))),
        (status = 204, description = "The run has ended and nothing is left to tell"),
    ),
)]
pub(crate) async fn get_run_events(
    State(state): State<AppState>,
    Extension(caller): Caller,
    Extension(permit): Allowed,
    Extension(run): OnRun,
    headers: HeaderMap,
    Params(query): Params<EventQuery>,
) -> Result<Response, Problem> {
    let from = seq("from_seq", query.from_seq.as_deref())?.map(|from| from.saturating_sub(1));
    let after = from.max(seq("after_seq", query.after_seq.as_deref())?).unwrap_or(0);
    if !names(&headers, "text/event-stream") {
        let limit = field("limit", query.limit.as_deref(), |text| match text.parse() {
            Ok(limit @ 1..=MAX_EVENTS) => Ok(limit),
            _ => Err(format!("expected a whole number from 1 to {MAX_EVENTS}")),
        })?;
        let limit = limit.unwrap_or(DEFAULT_EVENTS);
        return Ok(Json(runs::events(&state, &permit, &run, after, limit).await?).into_response());
    }
    runs::check(&permit, &run)?;
    // What is no number is no id that this server gave.
    let resumed = headers.get(LAST_EVENT_ID).and_then(|id| id.to_str().ok()?.trim().parse().ok());
    let tail = RunTail::new(state.engine(), &run, resumed.unwrap_or(after));
    if tail.has_ended() {
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    let slot = state.open_stream().ok_or_else(|| state.guard().too_many_connections(&caller))?;
    let (sender, receiver) = mpsc::channel(BACKLOG);
    let cut = CancellationToken::new();
    tokio::spawn(feed(state, caller, run, tail, Outlet { sender, cut: cut.clone() }, slot));
    let heartbeat = KeepAlive::new().interval(HEARTBEAT).text("heartbeat");
    Ok(Sse::new(stream_of(receiver, cut)).keep_alive(heartbeat).into_response())
}

/// The way to one client.
struct Outlet {
    sender: mpsc::Sender<Event>,
    /// Ends the stream, with what is on its way.
    cut: CancellationToken,
}

/// Hands on events until the run ends, the client leaves, or it may not stay.
async fn feed(
    state: AppState,
    mut caller: Admission,
    run: RunRecord,
    mut tail: RunTail,
    Outlet { sender, cut }: Outlet,
    _slot: StreamSlot,
) {
    let mut changes = state.guard().subscribe_policy_changes();
    // What changed between the request's admission and here is looked at too.
    match recheck(&state, &caller, &run) {
        Some(still) => caller = still,
        None => return,
    }
    if sender.send(Event::default().retry(RECONNECT)).await.is_err() {
        return;
    }
    loop {
        let event = tokio::select! {
            event = tail.next() => event,
            () = sender.closed() => return,
            () = state.closing().cancelled() => return,
            changed = changes.changed() => {
                match recheck(&state, &caller, &run) {
                    Some(still) if changed => caller = still,
                    Some(_) => return,
                    None => return revoked(&cut, &changes),
                }
                continue;
            }
            () = until_expiry(&caller) => {
                match recheck(&state, &caller, &run) {
                    Some(still) => caller = still,
                    None => return,
                }
                continue;
            }
        };
        let event = match event {
            Ok(Some(event)) => event,
            Ok(None) => return,
            Err(error) => {
                tracing::error!(run_id = %run.run_id, %error, "an event stream ends: the log cannot be read");
                return;
            }
        };
        let Some(event) = to_sse(&event) else { return };
        let room = tokio::time::timeout(STALLED, sender.reserve());
        tokio::pin!(room);
        loop {
            let changed = tokio::select! {
                biased;
                changed = changes.changed() => changed,
                room = &mut room => match room {
                    Ok(Ok(room)) => {
                        room.send(event);
                        break;
                    }
                    _ => return,
                },
            };
            // A slow reader may lose its rights while something waits for it.
            match recheck(&state, &caller, &run) {
                Some(still) if changed => caller = still,
                Some(_) => return,
                None => return revoked(&cut, &changes),
            }
        }
    }
}

/// Ends a stream whose reader may not read on. What is on its way to it is dropped.
fn revoked(cut: &CancellationToken, changes: &PolicyChanges) {
    cut.cancel();
    took_to_close("sse", changes.last().elapsed());
}

/// The caller as it is now, if it may still read the run.
fn recheck(state: &AppState, caller: &Admission, run: &RunRecord) -> Option<Admission> {
    let still = state.guard().revalidate(caller)?;
    let resource = Resource::Pipeline(run.pipeline_id.as_str());
    state.guard().authorize(&still, Permission::Read, resource).ok().map(|_permit| still)
}

fn to_sse(event: &EventView) -> Option<Event> {
    let json = event.json().ok()?;
    let data = std::str::from_utf8(&json).ok()?;
    let (id, kind) = (event.event.seq.to_string(), event.event.fact.type_name());
    Some(Event::default().id(id).event(kind).data(data))
}

fn stream_of(
    mut receiver: mpsc::Receiver<Event>,
    cut: CancellationToken,
) -> impl Stream<Item = Result<Event, Infallible>> {
    // The end of the feed wakes it, after the cut if there is one.
    futures_util::stream::poll_fn(move |context| match cut.is_cancelled() {
        true => Poll::Ready(None),
        false => receiver.poll_recv(context).map(|event| event.map(Ok)),
    })
}
