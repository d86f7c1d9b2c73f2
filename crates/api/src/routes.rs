//! The table of routes. What is not in it is not served, and what is in it has a rule.

use axum::Router;
use axum::response::Response;
use axum::routing::{MethodRouter, delete, get, patch, post, put};
use http::{Method, StatusCode};
use taskiq_flow_security::audit::AuditEvent;
use taskiq_flow_security::guard::endpoint;
use taskiq_flow_security::permission::Permission::{Admin, Execute, Read};

use crate::around::around;
use crate::frame::frame;
use crate::gate::gate;
use crate::handlers::{
    acls, analysis, audit, cache, dead_letters, events, explain, keys, meta, pipelines, register, reload,
    revocations, runs, schedules, security, store, webhooks,
};
use crate::options::DEFAULT_METRICS_PATH;
use crate::problem::Problem;
pub use crate::rule::{Route, Rule};
use crate::state::AppState;
use crate::{docs, ui, ws};

const fn route(
    name: &'static str,
    endpoint: &'static str,
    method: Method,
    paths: &'static [&'static str],
    rule: Rule,
    audit: Option<AuditEvent>,
    handler: fn() -> MethodRouter<AppState>,
) -> Route {
    Route { name, endpoint, method, paths, rule, audit, handler }
}

use AuditEvent::{PipelineExecute, PipelineRead, PipelineRegister, RunControl, ScheduleChange};
use Rule::{
    AnyPipeline, AnyValid, Pipeline, Probe, Public, Run, Schedule, SecurityAdmin, WebSocket, WholeServer,
};

const GET: Method = Method::GET;
const POST: Method = Method::POST;
const READS: Option<AuditEvent> = Some(PipelineRead);
const CONTROLS: Option<AuditEvent> = Some(RunControl);
const CHANGES: Option<AuditEvent> = Some(ScheduleChange);

/// Every route of the server.
#[rustfmt::skip]
pub static ROUTES: &[Route] = &[
    route("health", endpoint::HEALTH, GET, &["/health"], Probe, None, || get(meta::health)),
    route("ready", endpoint::READY, GET, &["/ready"], Probe, None, || get(meta::ready)),

    route("list_pipelines", endpoint::LIST_PIPELINES, GET, &["/pipelines"], AnyPipeline(Read), READS, || get(pipelines::list_pipelines)),
    route("get_pipeline", endpoint::GET_PIPELINE, GET, &["/pipelines/{id}"], Pipeline(Read), READS, || get(pipelines::get_pipeline)),
    route("create_pipeline", endpoint::REGISTER_PIPELINE, POST, &["/pipelines/{id}"], Pipeline(Admin), Some(PipelineRegister), || post(register::create_pipeline)),
    route("put_pipeline", endpoint::REGISTER_PIPELINE, Method::PUT, &["/pipelines/{id}"], Pipeline(Admin), Some(PipelineRegister), || put(register::put_pipeline)),
    route("delete_pipeline", endpoint::REGISTER_PIPELINE, Method::DELETE, &["/pipelines/{id}"], Pipeline(Admin), Some(PipelineRegister), || delete(register::delete_pipeline)),
    route("get_dag", endpoint::GET_DAG, GET, &["/pipelines/{id}/dag", "/dag/{id}"], Pipeline(Read), READS, || get(analysis::get_dag)),
    route("get_dag_dot", endpoint::GET_DAG, GET, &["/pipelines/{id}/dag/dot", "/dag/{id}/dot"], Pipeline(Read), READS, || get(analysis::get_dag_dot)),
    route("get_critical_path", endpoint::GET_CRITICAL_PATH, GET, &["/pipelines/{id}/critical-path", "/dag/{id}/critical-path"], Pipeline(Read), READS, || get(analysis::get_critical_path)),
    route("get_parallel_groups", endpoint::GET_PARALLEL_GROUPS, GET, &["/pipelines/{id}/parallel-groups", "/dag/{id}/parallel-groups"], Pipeline(Read), READS, || get(analysis::get_parallel_groups)),
    route("get_what_if", endpoint::GET_CRITICAL_PATH, GET, &["/pipelines/{id}/what-if"], Pipeline(Read), READS, || get(analysis::get_what_if)),
    route("execute_pipeline", endpoint::EXECUTE_PIPELINE, POST, &["/pipelines/{id}/execute"], Pipeline(Execute), Some(PipelineExecute), || post(pipelines::execute_pipeline)),
    route("get_cache", endpoint::GET_PIPELINE, GET, &["/pipelines/{id}/cache"], Pipeline(Read), READS, || get(cache::get_cache)),
    route("clear_cache", endpoint::RUN_CONTROL, Method::DELETE, &["/pipelines/{id}/cache"], Pipeline(Execute), CONTROLS, || delete(cache::clear_cache)),
    route("get_pipeline_status", endpoint::GET_STATUS, GET, &["/pipelines/{id}/status"], Pipeline(Read), READS, || get(pipelines::get_pipeline_status)),
    route("get_statistics", endpoint::LIST_RUNS, GET, &["/pipelines/{id}/statistics"], Pipeline(Read), READS, || get(runs::get_statistics)),

    route("list_runs", endpoint::LIST_RUNS, GET, &["/runs"], AnyPipeline(Read), READS, || get(runs::list_runs)),
    route("get_run", endpoint::GET_STATUS, GET, &["/runs/{id}"], Run(Read), READS, || get(runs::get_run)),
    route("get_step_items", endpoint::GET_STATUS, GET, &["/runs/{id}/steps/{step}/items"], Run(Read), READS, || get(runs::get_step_items)),
    route("get_run_estimate", endpoint::GET_STATUS, GET, &["/runs/{id}/estimate"], Run(Read), READS, || get(analysis::get_run_estimate)),
    route("cancel_run", endpoint::RUN_CONTROL, POST, &["/runs/{id}/cancel"], Run(Execute), CONTROLS, || post(runs::cancel_run)),
    route("pause_run", endpoint::RUN_CONTROL, POST, &["/runs/{id}/pause"], Run(Execute), CONTROLS, || post(runs::pause_run)),
    route("resume_run", endpoint::RUN_CONTROL, POST, &["/runs/{id}/resume"], Run(Execute), CONTROLS, || post(runs::resume_run)),
    route("retry_run", endpoint::RUN_CONTROL, POST, &["/runs/{id}/retry"], Run(Execute), CONTROLS, || post(runs::retry_run)),
    route("fork_run", endpoint::EXECUTE_PIPELINE, POST, &["/runs/{id}/fork"], Run(Execute), CONTROLS, || post(runs::fork_run)),
    route("signal_run", endpoint::RUN_CONTROL, POST, &["/runs/{id}/signals/{name}"], Run(Execute), CONTROLS, || post(runs::signal_run)),
    route("get_run_events", endpoint::RUN_EVENTS, GET, &["/runs/{id}/events"], Run(Read), READS, || get(events::get_run_events)),
    route("get_run_logs", endpoint::RUN_EVENTS, GET, &["/runs/{id}/logs"], Run(Read), READS, || get(runs::get_run_logs)),

    route("list_dead_letters", endpoint::LIST_RUNS, GET, &["/dead-letters"], AnyPipeline(Read), READS, || get(dead_letters::list_dead_letters)),
    route("replay_dead_letter", endpoint::EXECUTE_PIPELINE, POST, &["/dead-letters/{id}/{step_run}/replay"], Run(Execute), CONTROLS, || post(dead_letters::replay_dead_letter)),
    route("drop_dead_letter", endpoint::RUN_CONTROL, Method::DELETE, &["/dead-letters/{id}/{step_run}"], Run(Execute), CONTROLS, || delete(dead_letters::drop_dead_letter)),

    route("list_schedules", endpoint::SCHEDULES, GET, &["/schedules"], AnyPipeline(Read), READS, || get(schedules::list_schedules)),
    route("create_schedule", endpoint::SCHEDULES, POST, &["/schedules"], AnyPipeline(Execute), None, || post(schedules::create_schedule)),
    route("get_schedule", endpoint::SCHEDULES, GET, &["/schedules/{id}"], Schedule(Read), READS, || get(schedules::get_schedule)),
    route("change_schedule", endpoint::SCHEDULES, Method::PATCH, &["/schedules/{id}"], Schedule(Execute), CHANGES, || patch(schedules::change_schedule)),
    route("delete_schedule", endpoint::SCHEDULES, Method::DELETE, &["/schedules/{id}"], Schedule(Execute), CHANGES, || delete(schedules::delete_schedule)),
    route("pause_schedule", endpoint::SCHEDULES, POST, &["/schedules/{id}/pause"], Schedule(Execute), CHANGES, || post(schedules::pause_schedule)),
    route("resume_schedule", endpoint::SCHEDULES, POST, &["/schedules/{id}/resume"], Schedule(Execute), CHANGES, || post(schedules::resume_schedule)),
    route("list_firings", endpoint::SCHEDULES, GET, &["/schedules/{id}/firings"], Schedule(Read), READS, || get(schedules::list_firings)),
    route("backfill_schedule", endpoint::EXECUTE_PIPELINE, POST, &["/schedules/{id}/backfill"], Schedule(Execute), Some(PipelineExecute), || post(schedules::backfill_schedule)),
    route("trigger_schedule", endpoint::SCHEDULES, POST, &["/schedules/{id}/trigger"], Schedule(Execute), Some(PipelineExecute), || post(schedules::trigger_schedule)),

    route("list_webhooks", endpoint::SECURITY_ADMIN, GET, &["/webhooks"], SecurityAdmin, None, || get(webhooks::list_webhooks)),
    route("test_webhook", endpoint::SECURITY_ADMIN, POST, &["/webhooks/{id}/test"], SecurityAdmin, CONTROLS, || post(webhooks::test_webhook)),
    route("list_deliveries", endpoint::SECURITY_ADMIN, GET, &["/webhooks/{id}/deliveries"], SecurityAdmin, None, || get(webhooks::list_deliveries)),
    route("replay_delivery", endpoint::SECURITY_ADMIN, POST, &["/webhooks/{id}/deliveries/{delivery}/replay"], SecurityAdmin, CONTROLS, || post(webhooks::replay_delivery)),

    route("get_security_config", endpoint::SECURITY_ADMIN, GET, &["/security/config"], SecurityAdmin, None, || get(security::get_security_config)),
    route("explain", endpoint::SECURITY_ADMIN, POST, &["/security/explain"], SecurityAdmin, None, || post(explain::explain)),
    route("list_keys", endpoint::SECURITY_ADMIN, GET, &["/security/keys"], SecurityAdmin, None, || get(keys::list_keys)),
    route("create_key", endpoint::SECURITY_ADMIN, POST, &["/security/keys"], SecurityAdmin, None, || post(keys::create_key)),
    route("rotate_key", endpoint::SECURITY_ADMIN, POST, &["/security/keys/{id}/rotate"], SecurityAdmin, None, || post(keys::rotate_key)),
    route("revoke_key", endpoint::SECURITY_ADMIN, Method::DELETE, &["/security/keys/{id}"], SecurityAdmin, None, || delete(keys::revoke_key)),
    route("list_acls", endpoint::SECURITY_ADMIN, GET, &["/security/acls"], SecurityAdmin, None, || get(acls::list_acls)),
    route("get_acl", endpoint::SECURITY_ADMIN, GET, &["/security/acls/{id}"], SecurityAdmin, None, || get(acls::get_acl)),
    route("put_acl", endpoint::SECURITY_ADMIN, Method::PUT, &["/security/acls/{id}"], SecurityAdmin, None, || put(acls::put_acl)),
    route("delete_acl", endpoint::SECURITY_ADMIN, Method::DELETE, &["/security/acls/{id}"], SecurityAdmin, None, || delete(acls::delete_acl)),
    route("list_revocations", endpoint::SECURITY_ADMIN, GET, &["/security/revocations"], SecurityAdmin, None, || get(revocations::list_revocations)),
    route("revoke_tokens", endpoint::SECURITY_ADMIN, POST, &["/security/revocations"], SecurityAdmin, None, || post(revocations::revoke_tokens)),
    route("remove_revocation", endpoint::SECURITY_ADMIN, Method::DELETE, &["/security/revocations/{id}"], SecurityAdmin, None, || delete(revocations::remove_revocation)),
    route("reload", endpoint::SECURITY_ADMIN, POST, &["/security/reload"], SecurityAdmin, None, || post(reload::reload)),
    route("get_audit_records", endpoint::SECURITY_ADMIN, GET, &["/security/audit"], SecurityAdmin, None, || get(audit::get_audit_records)),
    route("verify_audit", endpoint::SECURITY_ADMIN, GET, &["/security/audit/verify"], SecurityAdmin, None, || get(audit::verify_audit)),

    route("backup_store", endpoint::SECURITY_ADMIN, POST, &["/store/backup"], SecurityAdmin, None, || post(store::backup_store)),

    route("me", endpoint::ME, GET, &["/me"], AnyValid, None, || get(meta::me)),
    route("metrics", endpoint::METRICS, GET, &[DEFAULT_METRICS_PATH], WholeServer(Read), None, || get(meta::metrics)),
    route("openapi", endpoint::OPENAPI, GET, &["/openapi.json"], AnyValid, None, || get(docs::openapi_json)),
    route("docs", endpoint::OPENAPI, GET, &["/docs"], AnyValid, None, || get(docs::page)),
    route("error_docs", endpoint::UI, GET, &["/docs/errors/{id}"], Public, None, || get(docs::error)),

    route("websocket", endpoint::WEBSOCKET_CONNECT, GET, &["/ws"], WebSocket, None, || get(ws::connect)),
    route("websocket_pipeline", endpoint::WEBSOCKET_CONNECT, GET, &["/ws/{id}"], WebSocket, None, || get(ws::connect)),

    route("root", endpoint::UI, GET, &["/"], Public, None, || get(ui::root)),
    route("ui", endpoint::UI, GET, &["/ui"], Public, None, || get(ui::to_page)),
    route("ui_page", endpoint::UI, GET, &["/ui/"], Public, None, || get(ui::page)),
    route("ui_file", endpoint::UI, GET, &["/ui/{file}"], Public, None, || get(ui::file)),
];

/// What paths that are not served, and methods that a path does not have, go through: they are limited like pages and
/// need no credential, since the table is no secret.
static NOTHING: Route =
    route("nothing", endpoint::UI, GET, &[], Public, None, || get(|| async { StatusCode::NOT_FOUND }));

/// The routes of a server.
pub fn router(state: AppState) -> Router {
    let gate = |route: &'static Route| {
        let state = state.clone();
        around(move |request, inner| gate(state.clone(), route, request, inner))
    };
    let mut router = Router::new();
    for route in ROUTES.iter().filter(|route| is_served(route, &state)) {
        for path in route.paths {
            let path = if *path == DEFAULT_METRICS_PATH { &state.options().metrics_path } else { *path };
            for path in [path.to_owned(), format!("/api{path}")] {
                let handler = (route.handler)();
                router = router.route(&path, handler.route_layer(gate(route)));
            }
        }
    }
    let not_found: MethodRouter<AppState> = axum::routing::any(not_found).layer(gate(&NOTHING));
    let not_allowed: MethodRouter<AppState> = axum::routing::any(method_not_allowed).layer(gate(&NOTHING));
    let not_allowed = not_allowed.with_state::<()>(state.clone());
    let framing = state.clone();
    router
        .fallback_service(not_found.with_state::<()>(state.clone()))
        .method_not_allowed_fallback(move |request| {
            let service = not_allowed.clone();
            async move { call(service, request).await }
        })
        .layer(around(move |request, inner| frame(framing.clone(), request, inner)))
        .with_state(state)
}

/// Whether an option switches the route off.
fn is_served(route: &Route, state: &AppState) -> bool {
    route.name != "metrics" || state.options().metrics.is_some()
}

/// Whether a path has a use in the table.
pub(crate) fn is_taken(path: &str) -> bool {
    let fits = |pattern: &str| {
        let (mut pattern, mut path) = (pattern.split('/'), path.split('/'));
        loop {
            match (pattern.next(), path.next()) {
                (None, None) => return true,
                (Some(part), Some(text)) if part == text || part.starts_with('{') => {}
                _ => return false,
            }
        }
    };
    ROUTES.iter().flat_map(|route| route.paths).any(|pattern| fits(pattern))
}

async fn not_found() -> Problem {
    Problem::of_status(StatusCode::NOT_FOUND)
}

async fn method_not_allowed() -> Problem {
    Problem::of_status(StatusCode::METHOD_NOT_ALLOWED)
}

async fn call(mut service: MethodRouter, request: axum::extract::Request) -> Response {
    use tower::Service;
    match service.call(request).await {
        Ok(response) => response,
        Err(never) => match never {},
    }
}
