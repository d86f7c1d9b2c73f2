//! From requests to services and back. Nothing here decides who may do what: the route's rule has.

pub(crate) mod acls;
pub(crate) mod analysis;
pub(crate) mod audit;
pub(crate) mod cache;
pub(crate) mod dead_letters;
pub(crate) mod events;
pub(crate) mod explain;
pub(crate) mod keys;
pub(crate) mod meta;
pub(crate) mod pipelines;
pub(crate) mod register;
pub(crate) mod reload;
pub(crate) mod revocations;
pub(crate) mod runs;
pub(crate) mod schedules;
pub(crate) mod security;
pub(crate) mod store;
pub(crate) mod webhooks;

use axum::extract::FromRequestParts;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use http::header::{HeaderValue, LOCATION};
use http::request::Parts;
use http::{StatusCode, Uri};
use taskiq_flow_core::id::RunId;
use taskiq_flow_security::administration::Administrator;
use taskiq_flow_security::{Admission, Permit};
use taskiq_flow_store::{RunRecord, ScheduleRecord};

use crate::model::Accepted;
use crate::problem::Problem;
use crate::state::AppState;

/// What the gate put there.
pub(crate) type Caller = Extension<Admission>;
pub(crate) type Allowed = Extension<Permit>;
pub(crate) type OnRun = Extension<RunRecord>;
pub(crate) type OnSchedule = Extension<ScheduleRecord>;

/// The caller, as one who may administer security: what the gate put there, put together.
pub(crate) struct Administering(pub(crate) Administrator);

impl FromRequestParts<AppState> for Administering {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &AppState) -> Result<Self, Problem> {
        let (caller, permit) = (parts.extensions.get::<Admission>(), parts.extensions.get::<Permit>());
        let (Some(caller), Some(permit)) = (caller, permit) else {
            return Err(Problem::internal("a route of security administration without a permit"));
        };
        Ok(Administering(Administrator::new(caller, permit)?))
    }
}

/// `Location` of a resource, below `/api` when the request came there.
pub(crate) fn location(uri: &Uri, path: &str) -> [(http::HeaderName, HeaderValue); 1] {
    let prefix = if uri.path().starts_with("/api/") { "/api" } else { "" };
    // Ids are made of characters that a header may have.
    let value = HeaderValue::try_from(format!("{prefix}{path}"));
    [(LOCATION, value.unwrap_or(HeaderValue::from_static("/")))]
}

pub(crate) fn run_location(uri: &Uri, run_id: RunId) -> [(http::HeaderName, HeaderValue); 1] {
    location(uri, &format!("/runs/{run_id}"))
}

/// The answer to what has started a new run, with its id for the audit record.
pub(crate) fn started(uri: &Uri, accepted: Accepted) -> Response {
    let run_id = accepted.run_id;
    let mut response = (StatusCode::ACCEPTED, run_location(uri, run_id), Json(accepted)).into_response();
    response.extensions_mut().insert(run_id);
    response
}
