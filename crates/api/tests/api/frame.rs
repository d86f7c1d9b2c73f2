//! What is on every answer, and what is said about paths and methods that do not exist.

use http::Method;
use serde_json::json;

use crate::support::{server, server_with};

#[tokio::test]
async fn every_answer_carries_the_headers() {
    let server = server().await;
    for (method, path, key, status) in [
        (Method::GET, "/health", "", 200),
        (Method::GET, "/pipelines", "admin-key", 200),
        (Method::GET, "/ui/", "", 200),
        (Method::GET, "/ui/app.js", "", 200),
        (Method::GET, "/pipelines", "", 401),
        (Method::GET, "/pipelines", "wrong", 403),
        (Method::GET, "/nothing", "", 404),
        (Method::GET, "/ui/nothing", "", 404),
        (Method::DELETE, "/pipelines", "", 405),
        (Method::POST, "/pipelines/diamond/execute", "viewer-key", 403),
        (Method::GET, "/ws", "admin-key", 426),
    ] {
        let call = server.call(method.clone(), path);
        let answer = if key.is_empty() { call.send().await } else { call.key(key).send().await };
        assert_eq!(answer.status, status, "{method} {path}: {}", answer.text());
        assert_eq!(answer.header("x-content-type-options"), "nosniff", "{path}");
        assert_eq!(answer.header("x-frame-options"), "DENY", "{path}");
        assert_eq!(answer.header("referrer-policy"), "no-referrer", "{path}");
        assert_eq!(answer.header("cross-origin-resource-policy"), "same-origin", "{path}");
        assert_eq!(answer.header("cross-origin-opener-policy"), "same-origin", "{path}");
        assert_eq!(
            answer.header("strict-transport-security"),
            "max-age=31536000; includeSubDomains",
            "{path}"
        );
        assert!(answer.header("content-security-policy").contains("default-src 'none'"), "{path}");
        assert!(answer.header("content-security-policy").contains("frame-ancestors 'none'"), "{path}");
        assert!(!answer.header("content-security-policy").contains("unsafe"), "{path}");
        assert!(!answer.header("x-request-id").is_empty(), "{path}");
        assert!(!answer.headers.contains_key("server"), "{path}");
        let page = path.starts_with("/ui/") && status == 200;
        assert_eq!(answer.header("permissions-policy").contains("camera=()"), page, "{path}");
        assert_eq!(answer.header("cache-control"), if page { "no-cache" } else { "no-store" }, "{path}");
        if status >= 400 {
            let problem = answer.problem();
            assert!(problem["type"].as_str().unwrap().starts_with("/docs/errors/"), "{problem}");
            let meaning = server.call(Method::GET, problem["type"].as_str().unwrap()).send().await;
            assert_eq!((meaning.status, &meaning.json()["status"]), (200, &json!(status)), "{problem}");
        }
    }
}

#[tokio::test]
async fn a_request_id_is_taken_over_or_made() {
    let server = server().await;
    let answer = server.call(Method::GET, "/health").header("x-request-id", "mine-1").send().await;
    assert_eq!(answer.header("x-request-id"), "mine-1");
    let answer = server.call(Method::GET, "/nothing").header("x-request-id", "a b").send().await;
    assert_eq!(answer.header("x-request-id").len(), 36);
    answer.problem();
}

#[tokio::test]
async fn every_route_is_below_api_too() {
    let server = server().await;
    for path in
        ["/pipelines", "/health", "/pipelines/diamond/dag", "/dag/diamond", "/runs", "/ui/", "/openapi.json"]
    {
        let (plain, below) = (server.get(path).await, server.get(&format!("/api{path}")).await);
        assert_eq!((plain.status, below.status), (200, 200), "{path}");
        assert_eq!(plain.bytes, below.bytes, "{path}");
    }
    let execute = json!({});
    let plain = server.post("/pipelines/diamond/execute", execute.clone()).await;
    assert!(plain.header("location").starts_with("/runs/"));
    let below = server.post("/api/pipelines/diamond/execute", execute).await;
    assert!(below.header("location").starts_with("/api/runs/"));
    assert_eq!(server.get(below.header("location")).await.status, 200);
}

#[tokio::test]
async fn paths_and_methods_that_do_not_exist() {
    let server = server().await;
    for path in [
        "/nothing",
        "/pipelines/",
        "/pipelines/diamond/",
        "/api",
        "/api/nothing",
        "/pipelines/a/b/c/d",
        "//",
        "/%ff",
    ] {
        assert_eq!(server.get(path).await.problem()["status"], 404, "{path}");
    }
    assert_eq!(server.get("/pipelines/%ff").await.status, 400);
    for (method, path, allowed) in [
        (Method::DELETE, "/pipelines", "GET,HEAD"),
        (Method::GET, "/runs/x/cancel", "POST"),
        (Method::TRACE, "/pipelines", "GET,HEAD"),
        (Method::OPTIONS, "/me", "GET,HEAD"),
        (Method::from_bytes(b"BREW").unwrap(), "/me", "GET,HEAD"),
        (Method::PATCH, "/pipelines/diamond", "GET,HEAD,POST,PUT,DELETE"),
    ] {
        let answer = server.call(method.clone(), path).send().await;
        assert_eq!((answer.status, answer.header("allow")), (405, allowed), "{method} {path}");
        answer.problem();
    }
    let head = server.call(Method::HEAD, "/nothing").send().await;
    assert_eq!((head.status, head.bytes.len()), (404, 0));
    let head = server.call(Method::HEAD, "/pipelines").key("admin-key").send().await;
    assert_eq!((head.status, head.bytes.len()), (200, 0));
}

#[tokio::test]
async fn pages_of_allowed_origins_may_call_and_no_others() {
    let server =
        server_with(|setup| setup.security.allowed_origins = vec!["https://ops.example.com".to_owned()])
            .await;
    let call = |origin: &str, method: Method| {
        server.call(method, "/me").header("origin", origin).header("access-control-request-method", "GET")
    };
    let preflight = call("https://ops.example.com", Method::OPTIONS).send().await;
    assert_eq!(preflight.status, 204);
    assert_eq!(preflight.header("access-control-allow-origin"), "https://ops.example.com");
    assert!(preflight.header("access-control-allow-headers").contains("x-api-key"));
    let answer = call("https://ops.example.com", Method::GET).key("admin-key").send().await;
    assert_eq!(answer.header("access-control-allow-origin"), "https://ops.example.com");
    assert!(answer.header("vary").contains("origin"));
    assert!(answer.header("access-control-expose-headers").contains("retry-after"));
    for origin in ["https://evil.example", "null", "http://ops.example.com"] {
        assert_eq!(call(origin, Method::OPTIONS).send().await.status, 405, "{origin}");
        let answer = call(origin, Method::GET).key("admin-key").send().await;
        assert!(!answer.headers.contains_key("access-control-allow-origin"), "{origin}");
        assert!(answer.header("vary").contains("origin"), "a cache must not give it to others: {origin}");
    }
    // Credentials of a browser's own (cookies, certificates) are never asked for by foreign pages, and nobody is `*`.
    assert!(!preflight.headers.contains_key("access-control-allow-credentials"));
    for header in
        ["access-control-allow-origin", "access-control-allow-headers", "access-control-allow-methods"]
    {
        assert!(!preflight.header(header).contains('*'), "{header}");
    }
    assert!(preflight.header("vary").contains("origin"));
}

#[tokio::test]
async fn the_root_sends_browsers_to_the_page() {
    let server = server().await;
    let browser = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";
    for root in ["/", "/api/"] {
        let answer = server.call(Method::GET, root).header("accept", browser).send().await;
        assert_eq!((answer.status, answer.header("location")), (303, "/ui/"));
        let answer = server.call(Method::GET, root).header("accept", "*/*").send().await;
        assert_eq!((answer.status, &answer.json()["ui"]), (200, &json!("/ui/")));
    }
    let page = server.call(Method::GET, "/ui/").send().await.text();
    assert!(!page.contains("style=") && !page.contains("onclick") && !page.contains("<script>"));
    for file in ["app.js", "style.css"] {
        assert!(page.contains(file), "{file}");
    }
}

#[tokio::test]
async fn every_route_that_takes_a_body_takes_json_alone() {
    let server = server().await;
    let bodies = [
        (Method::POST, "/pipelines/new"),
        (Method::PUT, "/pipelines/new"),
        (Method::POST, "/pipelines/diamond/execute"),
        (Method::POST, "/schedules"),
    ];
    for (method, path) in bodies {
        for media_types in [
            &[][..],
            &["text/plain"],
            &["application/x-www-form-urlencoded"],
            &["multipart/form-data; boundary=x"],
            &["application/jsonx"],
            &["application/json", "text/plain"],
            &["text/plain", "application/json"],
        ] {
            let mut call = server.call(method.clone(), path).key("admin-key").body("{\"parameters\": {}}");
            for media_type in media_types {
                call = call.header("content-type", media_type);
            }
            let answer = call.send().await;
            assert_eq!(answer.status, 415, "{method} {path} {media_types:?}: {}", answer.text());
            answer.problem();
        }
    }
}
