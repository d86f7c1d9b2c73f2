//! The way to a handler: the guard, the route's rule, the audit record. A handler behind it finds in the request's
//! extensions the [`Admission`], the [`Permit`] that its rule gave, and the [`RunRecord`] or [`ScheduleRecord`] that
//! the path names.

use std::net::Ipv4Addr;

use axum::extract::{FromRequestParts, RawPathParams, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::HeaderMap;
use http::header::UPGRADE;
use http::request::Parts;
use taskiq_flow_core::id::RunId;
use taskiq_flow_engine::ControlError;
use taskiq_flow_security::guard::{Access, Note, RequestFacts};
use taskiq_flow_security::layer::{Connection, RequestId};
use taskiq_flow_security::{Admission, Permission, Permit, Refusal, Resource};
use taskiq_flow_store::{RunRecord, ScheduleRecord};

use crate::frame::AnsweredBy;
use crate::input::{announces_too_much, too_large};
use crate::problem::Problem;
use crate::routes::{Route, Rule};
use crate::state::AppState;

/// Around every route, and around the answers to paths and methods that do not exist.
pub(crate) async fn gate(
    State((state, route)): State<(AppState, &'static Route)>,
    request: Request,
    next: Next,
) -> Response {
    // The body cannot be shared between threads: only what comes before it is looked at.
    let (mut parts, body) = request.into_parts();
    let mut response = match admit(&state, route, &parts).await {
        Err(refusal) => Problem::from(refusal).into_response(),
        Ok(admission) => {
            let mut answer = match pass(&state, route, &admission, &mut parts).await {
                Ok(()) => next.run(Request::from_parts(parts, body)).await,
                Err(problem) => problem.into_response(),
            };
            admission.write_headers(answer.headers_mut());
            answer
        }
    };
    response.extensions_mut().insert(AnsweredBy(route.endpoint));
    response
}

async fn admit(state: &AppState, route: &Route, parts: &Parts) -> Result<Admission, Refusal> {
    // Without an address nothing is trusted and all share one bucket.
    let unknown = Connection { peer: Ipv4Addr::UNSPECIFIED.into(), native_tls: false };
    let Connection { peer, native_tls } = parts.extensions.get().copied().unwrap_or(unknown);
    let id = parts.extensions.get::<RequestId>();
    let facts = RequestFacts {
        peer,
        native_tls,
        method: &parts.method,
        path: parts.uri.path(),
        headers: &parts.headers,
        request_id: id.map_or("", |id| &id.0),
        websocket_upgrade: asks_for_websocket(&parts.headers),
    };
    state.guard().admit(route.endpoint, route.rule.access(), facts).await
}

/// The rule of the route, and the record of what is about to be done.
async fn pass(
    state: &AppState,
    route: &Route,
    admission: &Admission,
    parts: &mut Parts,
) -> Result<(), Problem> {
    let limit = state.options().max_body_bytes;
    if announces_too_much(&parts.headers, limit) {
        return Err(too_large(limit));
    }
    let id = path_id(parts).await?;
    let guard = state.guard();
    let mut note = Note { action: Some(route.name), ..Note::default() };
    let (permit, run, schedule) = match route.rule {
        Rule::Probe | Rule::Public | Rule::WebSocket => (None, None, None),
        Rule::AnyValid => (Some(guard.authorize(admission, Permission::Read, Resource::Myself)?), None, None),
        Rule::AnyPipeline(permission) => {
            (Some(guard.authorize(admission, permission, Resource::AnyPipeline)?), None, None)
        }
        Rule::WholeServer(permission) => {
            (Some(guard.authorize(admission, permission, Resource::WholeServer)?), None, None)
        }
        Rule::SecurityAdmin => {
            (Some(guard.authorize(admission, Permission::Admin, Resource::SecurityAdmin)?), None, None)
        }
        Rule::Pipeline(permission) => {
            (Some(guard.authorize(admission, permission, Resource::Pipeline(&id))?), None, None)
        }
        Rule::Run(permission) => {
            let (permit, record) = on_run(state, admission, permission, &id).await?;
            (Some(permit), Some(record), None)
        }
        Rule::Schedule(permission) => {
            let (permit, record) = on_schedule(state, admission, permission, &id)?;
            (Some(permit), None, Some(record))
        }
    };
    if let Some(event) = route.audit {
        let run_id = run.as_ref().map(|run| run.run_id.to_string());
        note.pipeline_id = permit.as_ref().and_then(Permit::pipeline);
        note.run_id = run_id.as_deref();
        guard.note(admission, event, note)?;
    }
    let extensions = &mut parts.extensions;
    extensions.insert(admission.clone());
    permit.map(|permit| extensions.insert(permit));
    run.map(|run| extensions.insert(run));
    schedule.map(|schedule| extensions.insert(schedule));
    Ok(())
}

/// What the path names; empty when it names nothing.
async fn path_id(parts: &mut Parts) -> Result<String, Problem> {
    match RawPathParams::from_request_parts(parts, &()).await {
        Ok(params) => Ok(params.iter().find(|(name, _)| *name == "id").map_or("", |(_, id)| id).to_owned()),
        Err(_) => Err(Problem::bad_request("The path is not UTF-8 once its escapes are read.")),
    }
}

/// A run and the permission on its pipeline. Only who may read every pipeline learns that a run does not exist.
pub(crate) async fn on_run(
    state: &AppState,
    admission: &Admission,
    permission: Permission,
    id: &str,
) -> Result<(Permit, RunRecord), Problem> {
    let record = match id.parse::<RunId>() {
        Ok(run_id) => match state.engine().record(run_id).await {
            Ok(record) => Some(record),
            Err(ControlError::UnknownRun(_)) => None,
            Err(error) => return Err(error.into()),
        },
        Err(_) => None,
    };
    match record {
        Some(record) => {
            let resource = Resource::Pipeline(record.pipeline_id.as_str());
            let permit = state.guard().authorize(admission, permission, resource)?;
            Ok((permit, record))
        }
        None => {
            let _all: Permit = state.guard().authorize(admission, Permission::Read, Resource::WholeServer)?;
            Err(Problem::not_found("There is no such run."))
        }
    }
}

/// A schedule and the permission on its pipeline; as [`on_run`].
fn on_schedule(
    state: &AppState,
    admission: &Admission,
    permission: Permission,
    id: &str,
) -> Result<(Permit, ScheduleRecord), Problem> {
    match state.engine().schedule(id) {
        Some(record) => {
            let resource = Resource::Pipeline(record.pipeline_id.as_str());
            let permit = state.guard().authorize(admission, permission, resource)?;
            Ok((permit, record))
        }
        None => {
            let _all: Permit = state.guard().authorize(admission, Permission::Read, Resource::WholeServer)?;
            Err(Problem::not_found("There is no such schedule."))
        }
    }
}

/// Whether the request asks to become a WebSocket (RFC 6455 section 4.1).
pub(crate) fn asks_for_websocket(headers: &HeaderMap) -> bool {
    let mut upgrades = headers.get_all(UPGRADE).iter().filter_map(|value| value.to_str().ok());
    upgrades.any(|list| list.split(',').any(|name| name.trim().eq_ignore_ascii_case("websocket")))
}

impl Rule {
    /// What the guard asks for before the rule itself is looked at.
    fn access(self) -> Access {
        match self {
            Rule::Probe => Access::Probe,
            Rule::Public => Access::Public,
            Rule::WebSocket => Access::WebSocket,
            _ => Access::Authenticated,
        }
    }
}
