//! The page at `/ui/`, served from files that are part of the program.

use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use axum::{Json, http};
use http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName, HeaderValue, LOCATION, VARY,
};
use http::{HeaderMap, StatusCode};
use serde_json::json;

use crate::accept::names;
use crate::problem::Problem;
use crate::state::AppState;

/// One file of the page.
struct File {
    name: &'static str,
    media_type: &'static str,
    text: &'static str,
}

const PAGE: File =
    File { name: "", media_type: "text/html; charset=utf-8", text: include_str!("ui/index.html") };
const FILES: [File; 3] = [
    File { name: "app.js", media_type: "text/javascript; charset=utf-8", text: include_str!("ui/app.js") },
    File { name: "style.css", media_type: "text/css; charset=utf-8", text: include_str!("ui/style.css") },
    File { name: "icon.svg", media_type: "image/svg+xml", text: include_str!("ui/icon.svg") },
];

/// Everything comes from this server; nothing inline, and nobody may frame it. Drawings are blobs that the page makes
/// of what it fetched with its key.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; \
     form-action 'none'; base-uri 'none'; frame-ancestors 'none'",
);

const PERMISSIONS_POLICY: HeaderName = HeaderName::from_static("permissions-policy");
/// What the page has no use for, it cannot be made to ask for.
const NO_PERMISSIONS: HeaderValue = HeaderValue::from_static(
    "camera=(), display-capture=(), geolocation=(), microphone=(), payment=(), publickey-credentials-get=(), usb=()",
);

/// What is where; browsers are sent to the page.
#[utoipa::path(get, path = "/", tag = "server", responses(
    (status = 200, description = "Where to go on", body = Object),
    (status = 303, description = "A browser is sent to the page"),
))]
pub(crate) async fn root(State(state): State<AppState>, headers: HeaderMap) -> Response {
    let vary = [(VARY, HeaderValue::from_static("accept"))];
    if names(&headers, "text/html") {
        return (vary, see("/ui/")).into_response();
    }
    let metrics = state.options().metrics.as_ref().map(|_| &state.options().metrics_path);
    let links = json!({
        "pipelines": "/pipelines", "runs": "/runs", "schedules": "/schedules", "websocket": "/ws", "health": "/health",
        "ready": "/ready", "metrics": metrics, "openapi": "/openapi.json", "docs": "/docs", "ui": "/ui/",
    });
    (vary, Json(links)).into_response()
}

/// Leads to the page.
#[utoipa::path(get, path = "/ui", tag = "server", responses((status = 303)))]
pub(crate) async fn to_page() -> Response {
    see("ui/")
}

/// The page.
#[utoipa::path(get, path = "/ui/", tag = "server", responses((status = 200, content((String = "text/html")))))]
pub(crate) async fn page() -> Response {
    PAGE.answer()
}

/// A file of the page.
#[utoipa::path(get, path = "/ui/{file}", tag = "server", params(("file" = String, Path, description = "Its name")), responses((status = 200, content((String = "text/css"), (String = "text/javascript"), (String = "image/svg+xml")))))]
pub(crate) async fn file(Path(name): Path<String>) -> Result<Response, Problem> {
    let file = FILES.iter().find(|file| file.name == name);
    file.map(File::answer).ok_or_else(|| Problem::of_status(StatusCode::NOT_FOUND))
}

impl File {
    fn answer(&self) -> Response {
        html_headers(self.media_type, self.text)
    }
}

/// A page or a part of one, with the headers that pages have.
pub(crate) fn html_headers(media_type: &'static str, text: impl Into<axum::body::Body>) -> Response {
    let headers: [(HeaderName, HeaderValue); 4] = [
        (CONTENT_TYPE, HeaderValue::from_static(media_type)),
        (CONTENT_SECURITY_POLICY, POLICY),
        (PERMISSIONS_POLICY, NO_PERMISSIONS),
        // Always asked for again, so that page and server are of one version.
        (CACHE_CONTROL, HeaderValue::from_static("no-cache")),
    ];
    (headers, text.into()).into_response()
}

fn see(place: &'static str) -> Response {
    (StatusCode::SEE_OTHER, [(LOCATION, HeaderValue::from_static(place))]).into_response()
}
