//! The names of the endpoints, as `rate_limits` names them, and who may reach them.

/// `GET /health`.
pub const HEALTH: &str = "health";
/// `GET /ready`.
pub const READY: &str = "ready";
/// `GET /pipelines`.
pub const LIST_PIPELINES: &str = "list_pipelines";
/// `POST`, `PUT`, `DELETE /pipelines/{id}`.
pub const REGISTER_PIPELINE: &str = "register_pipeline";
/// `GET /pipelines/{id}`.
pub const GET_PIPELINE: &str = "get_pipeline";
/// `GET /pipelines/{id}/dag`.
pub const GET_DAG: &str = "get_dag";
/// `GET /pipelines/{id}/critical-path`.
pub const GET_CRITICAL_PATH: &str = "get_critical_path";
/// `GET /pipelines/{id}/parallel-groups`.
pub const GET_PARALLEL_GROUPS: &str = "get_parallel_groups";
/// `POST /pipelines/{id}/execute`.
pub const EXECUTE_PIPELINE: &str = "execute_pipeline";
/// `GET /pipelines/{id}/status`, `GET /runs/{run_id}`.
pub const GET_STATUS: &str = "get_status";
/// `GET /runs`.
pub const LIST_RUNS: &str = "list_runs";
/// `POST /runs/{id}/cancel` and the other controls.
pub const RUN_CONTROL: &str = "run_control";
/// `GET /runs/{id}/events`.
pub const RUN_EVENTS: &str = "run_events";
/// `/schedules`.
pub const SCHEDULES: &str = "schedules";
/// `/security/…`.
pub const SECURITY_ADMIN: &str = "security_admin";
/// `GET /me`.
pub const ME: &str = "me";
/// `GET /metrics`.
pub const METRICS: &str = "metrics";
/// `GET /openapi.json`, `GET /docs`.
pub const OPENAPI: &str = "openapi";
/// `GET /ws`.
pub const WEBSOCKET_CONNECT: &str = "websocket_connect";
/// Pages of the dashboard, and paths that do not exist.
pub const UI: &str = "ui";

/// Every name a route has; `rate_limits` may use these.
pub const ALL: &[&str] = &[
    HEALTH,
    READY,
    LIST_PIPELINES,
    REGISTER_PIPELINE,
    GET_PIPELINE,
    GET_DAG,
    GET_CRITICAL_PATH,
    GET_PARALLEL_GROUPS,
    EXECUTE_PIPELINE,
    GET_STATUS,
    LIST_RUNS,
    RUN_CONTROL,
    RUN_EVENTS,
    SCHEDULES,
    SECURITY_ADMIN,
    ME,
    METRICS,
    OPENAPI,
    WEBSOCKET_CONNECT,
    UI,
];

/// Who may reach an endpoint.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Access {
    /// Callers with a good credential. The default: what nobody thought of is closed.
    #[default]
    Authenticated,
    /// Anybody, credentials are not looked at: static pages. HTTPS is still required.
    Public,
    /// Anybody, over plain HTTP too: `/health` and `/ready`, for probes.
    Probe,
    /// A WebSocket handshake: a good credential, or none yet where the settings allow it, and a welcome origin.
    WebSocket,
}

/// What the router says about a route, in an extension of the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Endpoint {
    /// The rate-limit name, one of [`ALL`].
    pub name: &'static str,
    /// Who may reach it.
    pub access: Access,
}
