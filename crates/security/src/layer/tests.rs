use std::convert::Infallible;
use std::sync::Arc;

use http::header::{CACHE_CONTROL, STRICT_TRANSPORT_SECURITY};
use http::{HeaderValue, Request, Response, StatusCode};
use tower::{Layer, Service, ServiceExt, service_fn};

use super::*;
use crate::audit::AuditLogger;
use crate::guard::{Access, Admission, Endpoint, Guard, endpoint};
use crate::https::{ClientInfo, TrustedProxies};
use crate::rate_limit::{RateLimiter, RateLimiterOptions};
use crate::refusal::Refusal;
use crate::settings::SecurityOptions;

const OUTSIDE: Connection = Connection { peer: IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), native_tls: false };
const TLS: Connection = Connection { native_tls: true, ..OUTSIDE };
const PROXY: Connection = Connection { peer: IpAddr::V4(Ipv4Addr::LOCALHOST), native_tls: false };

fn guard() -> Guard {
    let options = SecurityOptions {
        api_keys: serde_json::from_str(
            r#"{"viewer-key": {"role": "viewer", "permissions": ["read"], "id": "viewer"}}"#,
        )
        .unwrap(),
        ..SecurityOptions::default()
    };
    Guard::new(options.build().unwrap(), RateLimiter::new(RateLimiterOptions::default()), AuditLogger::new())
}

fn request(connection: Option<Connection>, path: &str, headers: &[(&'static str, &str)]) -> Request<()> {
    let mut request = Request::builder().uri(path).body(()).unwrap();
    for (name, value) in headers {
        request.headers_mut().insert(*name, HeaderValue::from_str(value).unwrap());
    }
    if let Some(connection) = connection {
        request.extensions_mut().insert(connection);
    }
    request
}

/// Answers with what the layers put into the request.
async fn handler(request: Request<()>) -> Result<Response<String>, Infallible> {
    let caller = request.extensions().get::<Admission>().map(|caller| caller.principal().id().to_owned());
    let client = request.extensions().get::<ClientInfo>().map(|client| client.ip.to_string());
    Ok(Response::new(caller.or(client).unwrap_or_default()))
}

fn respond(refusal: &Refusal, id: &RequestId) -> Response<String> {
    let mut response = Response::new(format!("{} {}", refusal.kind().code(), id.0));
    *response.status_mut() = refusal.status();
    response
}

async fn answer<S>(service: S, request: Request<()>) -> Response<String>
where
    S: Service<Request<()>, Response = Response<String>, Error = Infallible>,
{
    service.oneshot(request).await.unwrap()
}

#[tokio::test]
async fn the_https_layer_refuses_plain_http_and_tells_the_handler_who_is_there() {
    let proxies = TrustedProxies::parse(["127.0.0.0/8"]).unwrap();
    let service = HttpsEnforcementLayer::new(proxies.clone()).layer(service_fn(handler));
    for (connection, path, headers, allowed) in [
        (Some(OUTSIDE), "/pipelines", &[][..], false),
        (None, "/pipelines", &[], false),
        (None, "/pipelines", &[("x-forwarded-proto", "https")], false),
        (Some(OUTSIDE), "/pipelines", &[("x-forwarded-proto", "https")], false),
        (Some(TLS), "/pipelines", &[], true),
        (Some(PROXY), "/pipelines", &[], false),
        (Some(PROXY), "/pipelines", &[("x-forwarded-proto", "https")], true),
        (Some(PROXY), "/pipelines", &[("x-forwarded-proto", "http")], false),
        (Some(PROXY), "/ws", &[("x-real-ip", "203.0.113.9"), ("upgrade", "websocket")], true),
        (Some(PROXY), "/ws", &[("x-real-ip", "203.0.113.9")], false),
        (Some(OUTSIDE), "/health", &[], true),
        (Some(OUTSIDE), "/health/more", &[], false),
    ] {
        let response = answer(service.clone(), request(connection, path, headers)).await;
        let expected = if allowed { StatusCode::OK } else { StatusCode::FORBIDDEN };
        assert_eq!(response.status(), expected, "{connection:?} {path} {headers:?}");
        if !allowed {
            assert_eq!(response.headers()["content-type"], "application/problem+json");
            let problem: serde_json::Value = serde_json::from_str(response.body()).unwrap();
            assert_eq!((&problem["title"], &problem["status"]), (&"HTTPS required".into(), &403.into()));
        }
    }
    let forwarded = [("x-forwarded-proto", "https"), ("x-forwarded-for", "203.0.113.9")];
    let response = answer(service, request(Some(PROXY), "/pipelines", &forwarded)).await;
    assert_eq!(response.body(), "203.0.113.9");

    let strict = HttpsEnforcementLayer::new(proxies).strict_forwarded_proto(true).exempt(["/probe"]);
    let strict = strict.layer(service_fn(handler));
    let upgrade = [("x-real-ip", "203.0.113.9"), ("upgrade", "websocket")];
    for (path, status) in [("/ws", 403), ("/health", 403), ("/probe", 200)] {
        let response = answer(strict.clone(), request(Some(PROXY), path, &upgrade)).await;
        assert_eq!(response.status().as_u16(), status, "{path}");
    }
}

#[tokio::test]
async fn every_answer_has_the_security_headers() {
    let service = SecurityHeadersLayer::default().layer(service_fn(handler));
    let response = answer(service, request(Some(OUTSIDE), "/", &[])).await;
    for (name, value) in [
        ("x-content-type-options", "nosniff"),
        ("cross-origin-resource-policy", "same-origin"),
        ("cross-origin-opener-policy", "same-origin"),
        ("x-frame-options", "DENY"),
        ("referrer-policy", "no-referrer"),
        ("cache-control", "no-store"),
    ] {
        assert_eq!(response.headers()[name], value);
    }
    assert!(!response.headers().contains_key(STRICT_TRANSPORT_SECURITY));

    let caching = service_fn(|_: Request<()>| async {
        let response = Response::builder().header(CACHE_CONTROL, "max-age=60").body(String::new()).unwrap();
        Ok::<_, Infallible>(response)
    });
    let response =
        answer(SecurityHeadersLayer::default().layer(caching), request(Some(OUTSIDE), "/", &[])).await;
    assert_eq!(response.headers()[CACHE_CONTROL], "max-age=60");
    assert_eq!(response.headers().get_all(CACHE_CONTROL).iter().count(), 1);
}

#[tokio::test]
async fn secure_answers_and_only_they_carry_hsts() {
    let inner =
        HttpsEnforcementLayer::new(TrustedProxies::default()).exempt(["/"]).layer(service_fn(handler));
    let by_answer = SecurityHeadersLayer::default().layer(inner);
    let by_guard = SecurityHeadersLayer::with_guard(guard()).layer(service_fn(handler));
    let spoofed = [("x-forwarded-proto", "https")];
    for (connection, headers, secure) in [
        (Some(TLS), &[][..], true),
        (Some(OUTSIDE), &[], false),
        (Some(OUTSIDE), &spoofed, false),
        (None, &[], false),
    ] {
        let expected = secure.then_some(HSTS);
        let response = answer(by_answer.clone(), request(connection, "/", headers)).await;
        assert_eq!(response.headers().get(STRICT_TRANSPORT_SECURITY), expected.as_ref(), "{connection:?}");
        let response = answer(by_guard.clone(), request(connection, "/", headers)).await;
        assert_eq!(response.headers().get(STRICT_TRANSPORT_SECURITY), expected.as_ref(), "{connection:?}");
    }
}

#[tokio::test]
async fn the_guard_layer_admits_refuses_and_marks_the_answer() {
    let service = GuardLayer::new(guard(), respond).layer(service_fn(handler));
    let route = |connection, headers: &[(&'static str, &str)]| {
        let mut request = request(connection, "/pipelines", headers);
        request
            .extensions_mut()
            .insert(Endpoint { name: endpoint::LIST_PIPELINES, access: Access::Authenticated });
        request.extensions_mut().insert(RequestId(Arc::from("req-7")));
        request
    };
    let response = answer(service.clone(), route(Some(TLS), &[("x-api-key", "viewer-key")])).await;
    assert_eq!((response.status(), response.body().as_str()), (StatusCode::OK, "viewer"));
    assert_eq!(response.headers()["ratelimit-policy"], r#""list_pipelines";q=60;w=60"#);
    assert!(response.extensions().get::<Admission>().is_some());

    let response = answer(service.clone(), route(Some(TLS), &[])).await;
    assert_eq!((response.status().as_u16(), response.body().as_str()), (401, "missing-credential req-7"));
    assert!(
        response.headers().contains_key("www-authenticate") && response.headers().contains_key("ratelimit")
    );

    let response = answer(service, route(Some(OUTSIDE), &[("x-api-key", "viewer-key")])).await;
    assert_eq!(response.body(), "https-required req-7");
}

#[tokio::test]
async fn a_route_nobody_described_is_closed() {
    let service = GuardLayer::new(guard(), respond).layer(service_fn(handler));
    let response = answer(service.clone(), request(Some(TLS), "/new", &[("x-request-id", "theirs")])).await;
    assert_eq!(response.body(), "missing-credential theirs");
    let response = answer(service.clone(), request(None, "/new", &[("x-api-key", "viewer-key")])).await;
    assert_eq!(response.status(), StatusCode::FORBIDDEN);
    let response = answer(service, request(Some(TLS), "/new", &[("x-api-key", "viewer-key")])).await;
    assert_eq!(response.body(), "viewer");
}
