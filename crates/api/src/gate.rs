//! The way to a handler: the guard, the route's rule, the audit record. A handler behind it finds in the request's
//! extensions the [`Admission`], the [`Permit`] that its rule gave, and the [`RunRecord`] or [`ScheduleRecord`] that
//! the path names.

use axum::extract::{FromRequestParts, RawPathParams, Request};
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::request::Parts;
use taskiq_flow_core::id::RunId;
use taskiq_flow_engine::ControlError;
use taskiq_flow_security::audit::{AuditEvent, AuditMode, Outcome};
use taskiq_flow_security::guard::{Access, Note, RequestFacts};
use taskiq_flow_security::layer::{Connection, RequestId, is_websocket_upgrade};
use taskiq_flow_security::{Admission, Permission, Permit, Refusal, Resource};
use taskiq_flow_store::{RunRecord, ScheduleRecord};

use crate::around::Inner;
use crate::frame::{AnsweredBy, Sender};
use crate::input::{announces_too_much, too_large};
use crate::problem::Problem;
use crate::rule::{Route, Rule};
use crate::serve::Framing;
use crate::state::AppState;

/// About how many headers an answer has.
const HEADERS: usize = 16;

/// Around every route, and around the answers to paths and methods that do not exist.
pub(crate) async fn gate(state: AppState, route: &'static Route, request: Request, inner: Inner) -> Response {
    // The body cannot be shared between threads: only what comes before it is looked at.
    let (mut parts, body) = request.into_parts();
    let plain_on_tls = parts.extensions.get::<Framing>().is_some_and(|framing| framing.plain_on_tls);
    if plain_on_tls && route.rule != Rule::Probe {
        return Problem::bad_request("This port speaks TLS: ask it by https.").into_response();
    }
    let mut response = match admit(&state, route, &parts).await {
        Err(refusal) => Problem::from(refusal).into_response(),
        Ok(admission) => {
            let mut answer = match pass(&state, route, &admission, &mut parts).await {
                Ok(None) => inner.run(Request::from_parts(parts, body)).await,
                Ok(Some(noting)) => noting.carry_out(Request::from_parts(parts, body), inner).await,
                Err(problem) => problem.into_response(),
            };
            // As many as an answer gets in the end: grown once, not at every power of two.
            answer.headers_mut().reserve(HEADERS);
            admission.write_headers(answer.headers_mut());
            answer
        }
    };
    response.extensions_mut().insert(AnsweredBy(route.endpoint));
    response
}

async fn admit(state: &AppState, route: &Route, parts: &Parts) -> Result<Admission, Refusal> {
    let extensions = &parts.extensions;
    let Connection { peer, native_tls } = Connection::of(extensions);
    let sender = extensions.get::<Sender>();
    let id = extensions.get::<RequestId>();
    let facts = RequestFacts {
        peer,
        native_tls,
        client: sender.map(|sender| sender.client),
        method: &parts.method,
        path: parts.uri.path(),
        headers: &parts.headers,
        request_id: id.map_or("", |id| &id.0),
        websocket_upgrade: is_websocket_upgrade(&parts.headers),
        certificate: extensions.get(),
    };
    state.guard().admit(route.endpoint, route.rule.access(), facts).await
}

/// The rule of the route, and what is to be recorded of it.
async fn pass(
    state: &AppState,
    route: &Route,
    admission: &Admission,
    parts: &mut Parts,
) -> Result<Option<Noting>, Problem> {
    let limit = state.options().max_body_bytes;
    if announces_too_much(&parts.headers, limit) {
        return Err(too_large(limit));
    }
    let id = path_id(parts).await?;
    let guard = state.guard();
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
            let (permit, record) = Box::pin(on_run(state, admission, permission, &id)).await?;
            (Some(permit), Some(record), None)
        }
        Rule::Schedule(permission) => {
            let (permit, record) = on_schedule(state, admission, permission, &id)?;
            (Some(permit), None, Some(record))
        }
    };
    let noting = route.audit.map(|event| Noting {
        state: state.clone(),
        admission: admission.clone(),
        event,
        action: route.name,
        pipeline_id: permit.as_ref().and_then(Permit::pipeline).map(str::to_owned),
        run_id: run.as_ref().map(|run| run.run_id),
    });
    if let Some(noting) = &noting {
        noting.announce()?;
    }
    let extensions = &mut parts.extensions;
    extensions.insert(admission.clone());
    permit.map(|permit| extensions.insert(permit));
    run.map(|run| extensions.insert(run));
    schedule.map(|schedule| extensions.insert(schedule));
    Ok(noting)
}

/// What is recorded of a request: what was asked of which pipeline or run, and how it was answered. A handler that
/// starts a run puts its [`RunId`] into the extensions of its answer: where the path names another run, it is a detail.
#[derive(Clone)]
struct Noting {
    state: AppState,
    admission: Admission,
    event: AuditEvent,
    action: &'static str,
    pipeline_id: Option<String>,
    run_id: Option<RunId>,
}

impl Noting {
    /// Where nothing may be done that cannot be recorded, a change is recorded before it is made, too.
    fn announce(&self) -> Result<(), Refusal> {
        let required = self.state.guard().audit().mode() == AuditMode::Required;
        if !required || self.is_read() {
            return Ok(());
        }
        self.write(self.run_id, None, Some("requested"))
    }

    /// Has the handler answer, and records how.
    async fn carry_out(self, request: Request, inner: Inner) -> Response {
        if self.is_read() {
            let answer = inner.run(request).await;
            // What cannot be recorded is not shown.
            return self
                .conclude(&answer)
                .map_or_else(|refusal| Problem::from(refusal).into_response(), |()| answer);
        }
        // A client that goes away ends its request, and what has been done by then is to be recorded all the same.
        let noting = self.clone();
        let handled = tokio::spawn(async move {
            let answer = inner.run(request).await;
            // The change is made; where that must not be without a record, there is one of its announcement.
            let _ = noting.conclude(&answer);
            answer
        });
        match handled.await {
            Ok(answer) => answer,
            Err(error) => {
                let _ = self.write(self.run_id, Some(StatusCode::INTERNAL_SERVER_ERROR), None);
                match error.try_into_panic() {
                    Ok(panic) => std::panic::resume_unwind(panic),
                    // The runtime is shutting down.
                    Err(_) => Problem::unavailable("The server is stopping.").into_response(),
                }
            }
        }
    }

    fn conclude(&self, answer: &Response) -> Result<(), Refusal> {
        let started = answer.extensions().get::<RunId>().copied();
        // The run that the path names stays what the record is about.
        let other = self.run_id.and(started).map(|run_id| format!("started run {run_id}"));
        self.write(self.run_id.or(started), Some(answer.status()), other.as_deref())
    }

    fn write(
        &self,
        run_id: Option<RunId>,
        status: Option<StatusCode>,
        detail: Option<&str>,
    ) -> Result<(), Refusal> {
        let run_id = run_id.map(|id| id.to_string());
        let failed = status.is_some_and(|status| status.is_client_error() || status.is_server_error());
        let note = Note {
            action: Some(self.action),
            pipeline_id: self.pipeline_id.as_deref(),
            run_id: run_id.as_deref(),
            status: status.map(|status| status.as_u16()),
            detail,
            outcome: failed.then_some(Outcome::Failure),
        };
        self.state.guard().note(&self.admission, self.event, note)
    }

    fn is_read(&self) -> bool {
        self.event == AuditEvent::PipelineRead
    }
}

/// What the path names; empty when it names nothing.
async fn path_id(parts: &mut Parts) -> Result<String, Problem> {
    if !parts.uri.path().starts_with('/') {
        // `OPTIONS *` asks about the whole server (RFC 9110, section 9.3.7), `CONNECT` for a tunnel.
        return Err(Problem::bad_request("The target of the request has no path: it must begin with `/`."));
    }
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
