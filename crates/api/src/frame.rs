//! What is around every answer: its id, its headers, the body of a problem, and that a panic is one.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use axum::body::Body;
use axum::extract::{ConnectInfo, Request};
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt;
use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_METHOD, CONNECTION,
    CONTENT_LENGTH, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName, HeaderValue, ORIGIN, UPGRADE, VARY,
};
use http::{HeaderMap, Method, StatusCode, Version};
use taskiq_flow_security::https::ClientInfo;
use taskiq_flow_security::layer::{Connection, RequestId, is_websocket_upgrade, write_security_headers};
use uuid::Uuid;

use crate::around::Inner;
use crate::problem::{PROBLEM_JSON, Problem};
use crate::serve::Framing;
use crate::state::AppState;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// The longest id of a request that is taken over from its sender.
const MAX_REQUEST_ID: usize = 128;
/// What an answer that is no page may do in a browser: nothing.
const NO_CONTENT_POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
);
/// What pages of allowed origins may send and read.
const CORS_HEADERS: HeaderValue = HeaderValue::from_static(
    "authorization, content-type, idempotency-key, last-event-id, x-api-key, x-request-id",
);
const CORS_METHODS: HeaderValue = HeaderValue::from_static("GET, POST, PUT, PATCH, DELETE");
const CORS_EXPOSED: HeaderValue = HeaderValue::from_static(
    "location, ratelimit, ratelimit-policy, retry-after, www-authenticate, x-request-id",
);

/// The name of the endpoint that answered, for measurements.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AnsweredBy(pub(crate) &'static str);

/// Who sent the request, for the guard; in its extensions. Not there of an upgrade to a WebSocket: whether that counts as
/// secure depends on the route, too. Apart from a [`ClientInfo`] that another layer may have put there.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sender {
    pub(crate) client: ClientInfo,
}

/// The outermost layer.
pub(crate) async fn frame(state: AppState, mut request: Request, inner: Inner) -> Response {
    let started = Instant::now();
    let id = request_id(request.headers());
    request.extensions_mut().insert(RequestId(Arc::clone(&id)));
    if request.extensions().get::<Connection>().is_none()
        && let Some(ConnectInfo(peer)) = request.extensions().get::<ConnectInfo<SocketAddr>>().copied()
    {
        // Served by somebody else's loop, which knows the peer and nothing of TLS.
        request.extensions_mut().insert(Connection { peer: peer.ip(), native_tls: false });
    }
    let Connection { peer, native_tls } = Connection::of(request.extensions());
    let upgrade = request.headers().contains_key(UPGRADE);
    let to_websocket = upgrade && is_websocket_upgrade(request.headers());
    let client = state.guard().client_info(peer, native_tls, request.headers(), to_websocket);
    if !to_websocket {
        request.extensions_mut().insert(Sender { client });
    }
    let (method, path, version) =
        (request.method().clone(), request.uri().path().to_owned(), request.version());
    let origin = welcome_origin(&state, request.headers());

    let framing = request.extensions().get::<Framing>().copied();
    let preflight =
        method == Method::OPTIONS && request.headers().contains_key(ACCESS_CONTROL_REQUEST_METHOD);
    let mut response = match (framing.and_then(|framing| framing.fault), &origin, preflight) {
        (Some(fault), ..) => Problem::bad_request(fault.to_string()).into_response(),
        (_, Some(_), true) => preflight_answer(),
        // A panic leaves nothing half done that the next request could see: state is behind locks that do not poison.
        _ => AssertUnwindSafe(inner.run(request)).catch_unwind().await.unwrap_or_else(|panic| {
            Problem::internal(format_args!("panic: {}", panic_text(panic.as_ref()))).into_response()
        }),
    };

    write_problem(&mut response, &id, method == Method::HEAD);
    let headers = response.headers_mut();
    // Ids are made of visible ASCII.
    if let Ok(value) = HeaderValue::from_str(&id) {
        headers.insert(REQUEST_ID, value);
    }
    headers.entry(CONTENT_SECURITY_POLICY).or_insert(NO_CONTENT_POLICY);
    write_security_headers(headers, client.secure);
    if let Some(origin) = origin {
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, CORS_EXPOSED);
    }
    if state.guard().settings().allowed_origins().iter().next().is_some() {
        // Also on what other origins got: a cache must not give it to those that are allowed.
        headers.append(VARY, HeaderValue::from_static("origin"));
    }
    // Over HTTP/1.1 nothing is read behind such a request; see there.
    let ends =
        |framing: Framing| framing.last || (upgrade && response.status() != StatusCode::SWITCHING_PROTOCOLS);
    if version == Version::HTTP_11 && framing.is_some_and(ends) {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    measure(&state, &response, &method, &path, &id, started);
    response
}

/// What the sender calls the request if that is a harmless name, else a new one.
pub(crate) fn request_id(headers: &HeaderMap) -> Arc<str> {
    let harmless = |id: &&str| {
        let plain = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_' | b'.' | b':');
        (1..=MAX_REQUEST_ID).contains(&id.len()) && id.bytes().all(plain)
    };
    let given = headers.get(REQUEST_ID).and_then(|id| id.to_str().ok()).filter(harmless);
    given.map_or_else(new_id, Into::into)
}

/// A new id, a UUID of version 7. It names a request and opens nothing, so that the standard library's keyed hash is
/// random enough for it, and costs no call into the system.
fn new_id() -> Arc<str> {
    let bits = || RandomState::new().build_hasher().finish().to_be_bytes();
    let mut random = [0; 10];
    random[..8].copy_from_slice(&bits());
    random[8..].copy_from_slice(&bits()[..2]);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let millis = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
    let id = uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid();
    (&*id.hyphenated().encode_lower(&mut Uuid::encode_buffer())).into()
}

fn write_problem(response: &mut Response, id: &str, head: bool) {
    let status = response.status();
    if !status.is_client_error() && !status.is_server_error() {
        return;
    }
    // An error without a problem was made by a library: its text may say more than a client should know.
    let problem = response.extensions_mut().remove::<Problem>().unwrap_or_else(|| Problem::of_status(status));
    let headers = response.headers_mut();
    headers.remove(CONTENT_LENGTH);
    headers.insert(CONTENT_TYPE, PROBLEM_JSON);
    *response.body_mut() = if head { Body::empty() } else { Body::from(problem.body(id)) };
}

/// The origin of the request, when it is foreign and on the list.
fn welcome_origin(state: &AppState, headers: &HeaderMap) -> Option<HeaderValue> {
    let origin = headers.get(ORIGIN)?;
    state.guard().settings().allowed_origins().lists(origin.to_str().ok()?).then(|| origin.clone())
}

fn preflight_answer() -> Response {
    let headers = [
        (ACCESS_CONTROL_ALLOW_METHODS, CORS_METHODS),
        (ACCESS_CONTROL_ALLOW_HEADERS, CORS_HEADERS),
        (ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600")),
    ];
    (StatusCode::NO_CONTENT, headers).into_response()
}

fn measure(state: &AppState, response: &Response, method: &Method, path: &str, id: &str, started: Instant) {
    let took = started.elapsed();
    let status = response.status();
    let endpoint = response.extensions().get::<AnsweredBy>().map(|by| by.0);
    state.meters().count(endpoint, method, status, took);
    let millis = took.as_secs_f64() * 1e3;
    tracing::debug!(target: "taskiq_flow.http", request_id = id, %method, path, status = status.as_u16(), millis, "answered");
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::around::around;
    use http_body_util::BodyExt;
    use taskiq_flow_broker::InMemoryBroker;
    use taskiq_flow_engine::{Engine, EngineOptions, SystemClock};
    use taskiq_flow_security::administration::MemoryState;
    use taskiq_flow_security::audit::AuditOptions;
    use taskiq_flow_security::rate_limit::{RateLimiter, RateLimiterOptions};
    use taskiq_flow_security::{Administration, AuditLogger, SecurityOptions};
    use taskiq_flow_store::MemoryStore;
    use tower::ServiceExt;

    #[tokio::test]
    async fn a_panic_is_a_problem_that_tells_nothing() {
        let (store, broker) = (Arc::new(MemoryStore::new()), Arc::new(InMemoryBroker::new()));
        let engine = Engine::start(store, broker, Arc::new(SystemClock), EngineOptions::default(), vec![]);
        let audit = AuditLogger::open(AuditOptions::default()).unwrap();
        let limiter = RateLimiter::new(RateLimiterOptions::default());
        let settings = SecurityOptions::default().build().unwrap();
        let administration =
            Administration::start(settings, limiter, audit, Arc::new(MemoryState::default())).await.unwrap();
        let state = AppState::new(engine.await.unwrap(), administration, Default::default()).unwrap();
        async fn boom() -> &'static str {
            panic!("the password is hunter2")
        }
        let router = axum::Router::new()
            .route("/boom", axum::routing::get(boom))
            .layer(around(move |request, inner| frame(state.clone(), request, inner)));
        let request = Request::get("/boom").header(REQUEST_ID, "r-1").body(Body::empty()).unwrap();
        let response = router.oneshot(request).await.unwrap();
        assert_eq!((response.status().as_u16(), &response.headers()[CONTENT_TYPE]), (500, &PROBLEM_JSON));
        let body = response.into_body().collect().await.unwrap().to_bytes();
        let problem: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(
            (&problem["type"], &problem["request_id"]),
            (&"/docs/errors/internal".into(), &"r-1".into())
        );
        assert!(!problem.to_string().contains("hunter2"));
    }

    #[test]
    fn an_id_is_taken_over_only_when_it_is_harmless() {
        let id = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(REQUEST_ID, HeaderValue::from_bytes(text.as_bytes()).unwrap());
            request_id(&headers).to_string()
        };
        for good in ["a", "7f3c-11.x:y_z", &"x".repeat(128)] {
            assert_eq!(id(good), good);
        }
        for bad in ["", "a b", "a\"b", "é", "<b>", &"x".repeat(129)] {
            assert_ne!(id(bad), bad);
            assert!(Uuid::parse_str(&id(bad)).is_ok());
        }
    }
}
