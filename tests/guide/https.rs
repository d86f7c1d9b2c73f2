//! HTTPS Enforcement.

use serde_json::json;

use crate::support::*;

/// Guide: "When require_https is True (default), the :class:~taskiq_flow.security.https.HTTPSEnforcementMiddleware rejects all plain HTTP requests with HTTP 403."
#[tokio::test]
async fn all_plain_http_requests_are_rejected_with_403() {
    // The default: nothing says require_https here.
    let server = guide_with(&[("require_https = true", "")]).start().await;
    let plain = server.plain_client();
    for (client, who) in
        [(plain.clone(), "nobody"), (plain.clone().key("admin-key"), "admin"), (plain.key("bad"), "bad")]
    {
        for path in [
            "/pipelines",
            "/api/pipelines",
            "/pipelines/pipeline1/dag",
            "/runs",
            "/me",
            "/metrics",
            "/missing",
        ] {
            let reply = client.get(path).await;
            assert_eq!(
                (reply.status, reply.header("Content-Type")),
                (403, "application/problem+json"),
                "{who} {path}"
            );
            assert_eq!(reply.json()["title"], "HTTPS required", "{who} {path}");
            assert_eq!(reply.header("Location"), "", "no redirect");
        }
        let reply = client.post("/pipelines/pipeline1/execute", &json!({})).await;
        assert_eq!(reply.status, 403, "{who}");
        // Probes of load balancers carry no secret.
        assert_eq!(client.get("/health").await.status, 200, "{who}");
    }
    let url = format!("ws://127.0.0.1:{}/ws", server.port());
    let refused =
        taskiq_flow_testkit::Socket::connect(&url, &[("X-API-Key", "admin-key")]).await.unwrap_err();
    assert_eq!(refused.status, 403);
    let runs = server.client().key("admin-key").get("/runs").await.expect(200).json();
    assert_eq!(runs["runs"], json!([]), "nothing was started");
}

/// Guide: "The middleware respects the X-Forwarded-Proto header so deployments behind a TLS-terminating reverse proxy continue to work correctly."
#[tokio::test]
async fn the_x_forwarded_proto_header_is_respected() {
    let server = guide().start().await;
    let client = server.plain_client().key("admin-key");
    let with = async |value: &str| client.clone().header("X-Forwarded-Proto", value).get("/pipelines").await;
    let secure = with("https").await.expect(200);
    assert!(secure.header("Strict-Transport-Security").contains("max-age="), "{:?}", secure.headers);
    assert_eq!(with("http").await.status, 403);
    assert_eq!(with("").await.status, 403);
    // Of several proxies only the one that the trusted one vouches for counts.
    assert_eq!(with("https, http").await.status, 403);
    let socket = server.socket("/ws", &[("X-API-Key", "admin-key")]).await;
    assert!(socket.is_ok(), "a WebSocket is no exception");

    // Anybody can write the header: it counts only from the proxies that are trusted.
    let distrustful = guide().env("TASKIQ_FLOW_TRUSTED_PROXIES", r#"["192.0.2.0/24"]"#).start().await;
    let reply = distrustful.client().key("admin-key").get("/pipelines").await;
    assert_eq!(reply.status, 403, "{}", reply.text());
    let refused = distrustful.socket("/ws", &[("X-API-Key", "admin-key")]).await.unwrap_err();
    assert_eq!(refused.status, 403);
}
