//! The OpenAPI document: what the handlers' annotations say, completed with what the table of routes knows.

mod answers;

use http::Method;
use utoipa::OpenApi;
use utoipa::openapi::path::{HttpMethod, Operation, PathItem};
use utoipa::openapi::security::{
    ApiKey, ApiKeyValue, Http, HttpAuthScheme, SecurityRequirement, SecurityScheme,
};
use utoipa::openapi::{Components, Server};

use crate::problem::{FieldProblem, ProblemDocument};
use crate::routes::{ROUTES, Route, Rule};
use crate::{docs, handlers, model, ui, ws};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "TaskIQ-Flow",
        description = "Define, run and watch pipelines. Every path is served below `/api` too. Errors are RFC 9457 problems.",
        license(name = "MIT OR Apache-2.0", identifier = "MIT OR Apache-2.0"),
    ),
    paths(
        handlers::meta::health,
        handlers::meta::ready,
        handlers::meta::me,
        handlers::meta::metrics,
        handlers::pipelines::list_pipelines,
        handlers::pipelines::get_pipeline,
        handlers::pipelines::get_pipeline_status,
        handlers::pipelines::execute_pipeline,
        handlers::cache::get_cache,
        handlers::cache::clear_cache,
        handlers::register::create_pipeline,
        handlers::register::put_pipeline,
        handlers::register::delete_pipeline,
        handlers::analysis::get_dag,
        handlers::analysis::get_dag_dot,
        handlers::analysis::get_critical_path,
        handlers::analysis::get_parallel_groups,
        handlers::analysis::get_what_if,
        handlers::analysis::get_run_estimate,
        handlers::runs::get_statistics,
        handlers::runs::list_runs,
        handlers::runs::get_run,
        handlers::runs::get_step_items,
        handlers::runs::get_run_logs,
        handlers::runs::cancel_run,
        handlers::runs::pause_run,
        handlers::runs::resume_run,
        handlers::runs::retry_run,
        handlers::dead_letters::list_dead_letters,
        handlers::dead_letters::replay_dead_letter,
        handlers::dead_letters::drop_dead_letter,
        handlers::runs::fork_run,
        handlers::runs::signal_run,
        handlers::events::get_run_events,
        handlers::schedules::list_schedules,
        handlers::schedules::create_schedule,
        handlers::schedules::get_schedule,
        handlers::schedules::change_schedule,
        handlers::schedules::delete_schedule,
        handlers::schedules::pause_schedule,
        handlers::schedules::resume_schedule,
        handlers::schedules::trigger_schedule,
        handlers::schedules::list_firings,
        handlers::schedules::backfill_schedule,
        handlers::webhooks::list_webhooks,
        handlers::webhooks::test_webhook,
        handlers::webhooks::list_deliveries,
        handlers::webhooks::replay_delivery,
        handlers::security::get_security_config,
        handlers::explain::explain,
        handlers::reload::reload,
        handlers::keys::list_keys,
        handlers::keys::create_key,
        handlers::keys::rotate_key,
        handlers::keys::revoke_key,
        handlers::acls::list_acls,
        handlers::acls::get_acl,
        handlers::acls::put_acl,
        handlers::acls::delete_acl,
        handlers::revocations::list_revocations,
        handlers::revocations::revoke_tokens,
        handlers::revocations::remove_revocation,
        handlers::audit::get_audit_records,
        handlers::audit::verify_audit,
        handlers::store::backup_store,
        docs::openapi_json,
        docs::page,
        docs::error,
        ws::connect,
        ws::connect_to_pipeline,
        ui::root,
        ui::to_page,
        ui::page,
        ui::file,
    ),
    components(schemas(ProblemDocument, FieldProblem, model::EventList))
)]
struct Annotations;

/// The document, as JSON.
pub fn document() -> serde_json::Value {
    let mut document = Annotations::openapi();
    document.info.version = env!("CARGO_PKG_VERSION").to_owned();
    document.servers = Some(vec![Server::new("/"), Server::new("/api")]);
    let components = document.components.get_or_insert_default();
    add_schemes(components);
    answers::add_problems(components);
    for route in ROUTES {
        let Some((documented, aliases)) = route.paths.split_first() else { continue };
        let Some(item) = document.paths.paths.get_mut(*documented) else { continue };
        let Some(operation) = operation_mut(item, &route.method) else { continue };
        complete(operation, route);
        let operation = operation.clone();
        for (number, alias) in aliases.iter().enumerate() {
            let mut operation = operation.clone();
            operation.operation_id = Some(format!("{}_alias_{}", route.name, number + 1));
            operation.description = Some(format!("The same as `{documented}`."));
            let item = document.paths.paths.entry((*alias).to_owned()).or_default();
            item.merge_operations(PathItem::new(http_method(&route.method), operation));
        }
    }
    // A document that is made of maps and strings always serialises.
    serde_json::to_value(&document).unwrap_or_default()
}

/// What the table knows of an operation.
fn complete(operation: &mut Operation, route: &Route) {
    operation.operation_id = Some(route.name.to_owned());
    let needs = match route.rule {
        Rule::Probe | Rule::Public => None,
        Rule::AnyValid => Some("any valid credential".to_owned()),
        Rule::Pipeline(permission) => Some(format!("`{permission}` on the pipeline")),
        Rule::Run(permission) => Some(format!("`{permission}` on the run's pipeline")),
        Rule::Schedule(permission) => Some(format!("`{permission}` on the schedule's pipeline")),
        Rule::AnyPipeline(permission) => Some(format!("`{permission}`")),
        Rule::WholeServer(permission) => Some(format!("`{permission}` without a list of pipelines")),
        Rule::SecurityAdmin => Some("`admin` without a list of pipelines".to_owned()),
        Rule::WebSocket => Some("`read`, in the handshake or in the first message".to_owned()),
    };
    let limit = format!("Rate limit: `{}`.", route.endpoint);
    let needs = needs.map_or(limit.clone(), |needs| format!("Needs {needs}. {limit}"));
    operation.description = Some(match operation.description.take().filter(|text| !text.is_empty()) {
        Some(text) => format!("{text}\n\n{needs}"),
        None => needs,
    });
    let key = || SecurityRequirement::new("api_key", Vec::<String>::new());
    let token = || SecurityRequirement::new("token", Vec::<String>::new());
    operation.security = Some(match route.rule {
        Rule::Probe | Rule::Public => Vec::new(),
        Rule::WebSocket => vec![key(), token(), SecurityRequirement::default()],
        _ => vec![key(), token()],
    });
    answers::describe_problems(operation, route);
    for response in operation.responses.responses.values_mut() {
        if let utoipa::openapi::RefOr::T(response) = response
            && response.description.is_empty()
        {
            response.description = "Done".to_owned();
        }
    }
}

fn add_schemes(components: &mut Components) {
    let key = SecurityScheme::ApiKey(ApiKey::Header(ApiKeyValue::new("X-API-Key")));
    components.add_security_scheme("api_key", key);
    let token = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
    components.add_security_scheme("token", token);
}

fn operation_mut<'a>(item: &'a mut PathItem, method: &Method) -> Option<&'a mut Operation> {
    match http_method(method) {
        HttpMethod::Post => item.post.as_mut(),
        HttpMethod::Put => item.put.as_mut(),
        HttpMethod::Patch => item.patch.as_mut(),
        HttpMethod::Delete => item.delete.as_mut(),
        _ => item.get.as_mut(),
    }
}

fn http_method(method: &Method) -> HttpMethod {
    match *method {
        Method::POST => HttpMethod::Post,
        Method::PUT => HttpMethod::Put,
        Method::PATCH => HttpMethod::Patch,
        Method::DELETE => HttpMethod::Delete,
        _ => HttpMethod::Get,
    }
}
