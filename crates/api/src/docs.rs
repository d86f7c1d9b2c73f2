//! The description of the API: for programs, for people, and of each kind of problem.

use std::fmt::Write;
use std::sync::OnceLock;

use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::header::{CONTENT_TYPE, HeaderValue};
use serde_json::{Value, json};

use crate::problem::Problem;
use crate::state::AppState;
use crate::ui::html_headers;

/// The page, which is the same for every server of a process: so is the document.
static PAGE: OnceLock<String> = OnceLock::new();

/// Kinds of problem, by the last part of their `type`.
#[rustfmt::skip]
const PROBLEMS: &[(&str, u16, &str)] = &[
    ("bad-request", 400, "The request cannot be read: bad JSON, an unknown field or query parameter, a bad header. The detail names the place."),
    ("ambiguous-credential", 400, "There is more than one credential. Send X-API-Key or Authorization, once."),
    ("missing-credential", 401, "There is no credential that the server accepts."),
    ("invalid-token", 401, "The token is not accepted: its signature, its times or its claims are not in order."),
    ("invalid-key", 403, "The API key is not accepted: it is unknown, revoked or expired."),
    ("https-required", 403, "The server answers over HTTPS only. Behind a proxy, the proxy must be in trusted_proxies and send X-Forwarded-Proto."),
    ("forbidden", 403, "The credential is good, and it may not do this. Who administers the server can see in the audit log which rule said so."),
    ("foreign-origin", 403, "A web page of an origin that is not in allowed_origins wanted to open a WebSocket."),
    ("remote-command", 403, "A definition with a `command` task was sent to a server without allow_remote_commands."),
    ("not-found", 404, "There is nothing here, or what the request names does not exist."),
    ("method-not-allowed", 405, "The path does not have this method. The Allow header lists those that it has."),
    ("timeout", 408, "The body of the request did not arrive in time."),
    ("conflict", 409, "Not possible in the state that things are in, such as cancelling a run that has ended."),
    ("not-runnable", 409, "A task of the pipeline cannot be carried out on this server. The detail says what is missing."),
    ("too-large", 413, "The body is larger than max_body_bytes."),
    ("media-type", 415, "The body is not JSON, or does not say so."),
    ("invalid", 422, "The request can be read, and fields have values that are not possible. See `errors`."),
    ("upgrade-required", 426, "This is a WebSocket endpoint."),
    ("rate-limited", 429, "Too many requests. Wait for the seconds in Retry-After."),
    ("internal", 500, "Something went wrong on the server. The request id leads to it in the server's log."),
    ("unavailable", 503, "Not now: the server stops, is too busy or cannot reach its store. Try again."),
    ("audit-unavailable", 503, "The request must be recorded in the audit log and cannot be; nothing was done."),
    ("too-many-connections", 503, "As many WebSockets and event streams as may be are open."),
];

/// The kinds of problem with this status.
pub(crate) fn problems_of(status: u16) -> impl Iterator<Item = &'static str> {
    PROBLEMS.iter().filter(move |(_, of, _)| *of == status).map(|(code, ..)| *code)
}

/// The OpenAPI 3.1 document.
#[utoipa::path(get, path = "/openapi.json", tag = "server", responses((status = 200, body = Object)))]
pub(crate) async fn openapi_json(State(state): State<AppState>) -> Response {
    let document = state.description().to_string();
    ([(CONTENT_TYPE, HeaderValue::from_static("application/json"))], document).into_response()
}

/// The same for people.
#[utoipa::path(get, path = "/docs", tag = "server", responses((status = 200, content((String = "text/html")))))]
pub(crate) async fn page(State(state): State<AppState>) -> Response {
    let page = PAGE.get_or_init(|| write_page(state.description()));
    html_headers("text/html; charset=utf-8", page.as_str())
}

/// What a kind of problem means: the target of a problem's `type`.
#[utoipa::path(get, path = "/docs/errors/{id}", tag = "server", params(("id" = String, Path, description = "The kind")), responses((status = 200, body = Object)))]
pub(crate) async fn error(Path(id): Path<String>) -> Result<axum::Json<Value>, Problem> {
    let found = PROBLEMS.iter().find(|(code, ..)| *code == id);
    let (code, status, meaning) = found.ok_or_else(|| Problem::of_status(StatusCode::NOT_FOUND))?;
    Ok(axum::Json(json!({ "type": format!("/docs/errors/{code}"), "status": status, "meaning": meaning })))
}

fn write_page(document: &Value) -> String {
    let mut page = String::from(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"><title>TaskIQ-Flow API</title>\
         <link rel=\"stylesheet\" href=\"/ui/style.css\"></head><body><header><h1>TaskIQ-Flow API</h1></header>\
         <main class=\"docs\"><section>",
    );
    let empty = serde_json::Map::new();
    let paths = document["paths"].as_object().unwrap_or(&empty);
    let operations = |tag: &str| {
        let mut rows = Vec::new();
        for (path, item) in paths {
            for (method, operation) in item.as_object().unwrap_or(&empty) {
                if operation["tags"][0] == tag {
                    rows.push((path.as_str(), method.to_uppercase(), operation));
                }
            }
        }
        rows
    };
    for tag in ["pipelines", "graphs", "runs", "schedules", "events", "webhooks", "security", "server"] {
        // Writing to a String cannot fail.
        let _ = write!(
            page,
            "<h2>{tag}</h2><table><thead><tr><th scope=\"col\">Method</th><th scope=\"col\">Path</th>\
             <th scope=\"col\">What it does</th></tr></thead><tbody>"
        );
        for (path, method, operation) in operations(tag) {
            let text = |field: &str| marked(operation[field].as_str().unwrap_or(""));
            let _ = write!(
                page,
                "<tr><td>{method}</td><td><code>{}</code></td><td>{}<br><small>{}</small></td></tr>",
                escape(path),
                text("summary"),
                text("description").replace("\n\n", "<br>"),
            );
        }
        page.push_str("</tbody></table>");
    }
    page.push_str("<h2>problems</h2><table><thead><tr><th scope=\"col\">Type</th><th scope=\"col\">Status</th><th scope=\"col\">Meaning</th></tr></thead><tbody>");
    for (code, status, meaning) in PROBLEMS {
        let meaning = marked(meaning);
        let _ = write!(
            page,
            "<tr><td><code>/docs/errors/{code}</code></td><td>{status}</td><td>{meaning}</td></tr>"
        );
    }
    page.push_str("</tbody></table></section></main></body></html>\n");
    page
}

/// What stands between backticks as code.
fn marked(text: &str) -> String {
    let parts = text.split('`').map(escape).enumerate();
    parts.map(|(place, part)| if place % 2 == 1 { format!("<code>{part}</code>") } else { part }).collect()
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
