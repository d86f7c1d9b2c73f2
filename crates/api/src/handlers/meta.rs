//! About the server and the caller.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use http::StatusCode;
use http::header::{CONTENT_TYPE, HeaderValue};
use serde::Serialize;
use taskiq_flow_security::audit::AuditMode;
use taskiq_flow_security::permission::PermissionSet;
use utoipa::ToSchema;

use super::Allowed;
use crate::problem::Problem;
use crate::state::AppState;

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Health {
    /// `healthy`.
    status: &'static str,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Readiness {
    /// `ready` or `not_ready`.
    status: &'static str,
    checks: Checks,
}

#[derive(Debug, Serialize, ToSchema)]
struct Checks {
    /// Whether runs can be taken: the store answers and the server is not shutting down.
    engine: Check,
    /// Whether requests can be recorded, where they must be.
    audit: Check,
    /// Whether requests can be counted, where that needs another server.
    rate_limit: Check,
    /// Whether there are keys to check tokens with, where they are fetched from the issuer.
    tokens: Check,
}

/// `ok` or `failed`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum Check {
    Ok,
    Failed,
}

/// Who is asking.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Me {
    /// The key's id, or the token's `sub`.
    id: String,
    /// `api_key`, `jwt` or, while security is off, `open`.
    #[serde(rename = "type")]
    kind: &'static str,
    /// Who issued the token, where tokens of several issuers are accepted.
    #[serde(skip_serializing_if = "Option::is_none")]
    issuer: Option<String>,
    roles: Vec<String>,
    /// The pipelines the credential is limited to; `*`: all.
    pipelines: Vec<String>,
    /// What the caller may do where no ACL speaks.
    #[schema(value_type = Vec<String>)]
    permissions: PermissionSet,
    #[schema(value_type = Option<String>, format = DateTime)]
    expires_at: Option<jiff::Timestamp>,
}

/// Whether the process lives.
#[utoipa::path(get, path = "/health", tag = "server", responses((status = 200, body = Health)))]
pub(crate) async fn health() -> Json<Health> {
    Json(Health { status: "healthy" })
}

/// Whether the server can take work.
#[utoipa::path(get, path = "/ready", tag = "server", responses((status = 200, body = Readiness)))]
pub(crate) async fn ready(State(state): State<AppState>) -> Response {
    let check = |good: bool| if good { Check::Ok } else { Check::Failed };
    let engine = state.engine().ready().await;
    if let Err(reason) = &engine {
        tracing::warn!(reason, "not ready");
    }
    let audit = state.guard().audit();
    let checks = Checks {
        engine: check(engine.is_ok()),
        audit: check(audit.mode() != AuditMode::Required || audit.healthy()),
        rate_limit: check(state.guard().limiter().ready().await),
        tokens: check(state.guard().tokens_ready()),
    };
    let all = [
        ("engine", checks.engine),
        ("audit", checks.audit),
        ("rate_limit", checks.rate_limit),
        ("tokens", checks.tokens),
    ];
    let failed: Vec<&str> =
        all.iter().filter(|(_, check)| *check == Check::Failed).map(|(name, _)| *name).collect();
    if failed.is_empty() {
        return Json(Readiness { status: "ready", checks }).into_response();
    }
    Problem::unavailable(format!("Not ready: {}.", failed.join(", "))).into_response()
}

/// Who the caller is and what it may do.
#[utoipa::path(get, path = "/me", tag = "server", responses((status = 200, body = Me)))]
pub(crate) async fn me(State(state): State<AppState>, Extension(permit): Allowed) -> Json<Me> {
    let principal = permit.principal();
    Json(Me {
        id: principal.id().to_owned(),
        kind: principal.kind().as_str(),
        issuer: principal.issuer().map(str::to_owned),
        roles: principal.roles().to_vec(),
        pipelines: principal.whitelist().to_list(),
        permissions: state.guard().settings().policy().permissions_of(principal),
        expires_at: principal.expires_at(),
    })
}

/// Measurements, in the text format of Prometheus.
#[utoipa::path(get, path = "/metrics", tag = "server", responses((status = 200, content((String = "text/plain")))))]
pub(crate) async fn metrics(
    State(state): State<AppState>,
    Extension(permit): Allowed,
) -> Result<Response, Problem> {
    let metrics = state.options().metrics.as_ref();
    let metrics = metrics.ok_or_else(|| Problem::of_status(StatusCode::NOT_FOUND))?;
    let may_read = |pipeline: &str| state.guard().may_read(permit.principal(), pipeline);
    let media_type = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    Ok(([(CONTENT_TYPE, media_type)], readable(&metrics.render(), may_read)).into_response())
}

/// Without the measurements of pipelines that may not be read.
fn readable(text: &str, may_read: impl Fn(&str) -> bool) -> String {
    let shown = |line: &&str| match line.split_once("pipeline_id=\"") {
        // Ids have no quotes in them.
        Some((_, rest)) => rest.split('"').next().is_some_and(&may_read),
        None => true,
    };
    text.split_inclusive('\n').filter(shown).collect()
}
