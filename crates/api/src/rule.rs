//! What a row in the table of routes says: what is served where, and who may reach it.

use axum::routing::MethodRouter;
use http::Method;
use taskiq_flow_security::audit::AuditEvent;
use taskiq_flow_security::permission::Permission;

use crate::state::AppState;

/// One route.
#[derive(Clone)]
pub struct Route {
    /// The operation: unique, what audit records call the action and the OpenAPI document the operation.
    pub name: &'static str,
    /// The name of its rate limit.
    pub endpoint: &'static str,
    /// The method. `GET` answers `HEAD` too.
    pub method: Method,
    /// Its paths, each served below `/api` too. The first is the one that is documented; the others are aliases.
    pub paths: &'static [&'static str],
    /// Who may reach it.
    pub rule: Rule,
    /// What is recorded before it acts; none: the guard's own records say enough.
    pub audit: Option<AuditEvent>,
    /// What answers.
    pub(crate) handler: fn() -> MethodRouter<AppState>,
}

/// Who may reach a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// Anybody, over plain HTTP too.
    Probe,
    /// Anybody.
    Public,
    /// Callers with a good credential.
    AnyValid,
    /// Who has this permission on the pipeline `{id}` of the path.
    Pipeline(Permission),
    /// Who has this permission on the pipeline of the run `{id}` of the path.
    Run(Permission),
    /// Who has this permission on the pipeline of the schedule `{id}` of the path.
    Schedule(Permission),
    /// Who has this permission on any pipeline. What is listed is filtered, and what a body names is asked for.
    AnyPipeline(Permission),
    /// Who has this permission on everything.
    WholeServer(Permission),
    /// Who administers security.
    SecurityAdmin,
    /// A handshake; the session checks what follows.
    WebSocket,
}

impl std::fmt::Debug for Route {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Route").field("name", &self.name).field("rule", &self.rule).finish_non_exhaustive()
    }
}
