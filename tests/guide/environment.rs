//! Configuration: the nine environment variables. Each is given a value that the file does not have.

use serde_json::json;
use taskiq_flow_testkit::{Server, jwt};

use crate::support::*;

/// Guide: "TASKIQ_FLOW_SECURITY_ENABLED | security_enabled | Enable/disable security (true/false)"
#[tokio::test]
async fn taskiq_flow_security_enabled() {
    let server = guide().env("TASKIQ_FLOW_SECURITY_ENABLED", "false").start().await;
    assert_eq!(server.plain_client().get("/pipelines").await.status, 200);
    let off = guide_with(&[("security_enabled = true", "security_enabled = false")]);
    let server = off.env("TASKIQ_FLOW_SECURITY_ENABLED", "true").start().await;
    assert_eq!(server.client().get("/pipelines").await.status, 401);
    let exit = guide().env("TASKIQ_FLOW_SECURITY_ENABLED", "perhaps").try_start().await.unwrap_err();
    assert_eq!(exit.code, Some(2), "{}", exit.stderr);
    assert!(exit.stderr.contains("TASKIQ_FLOW_SECURITY_ENABLED"), "{}", exit.stderr);
}

/// Guide: "TASKIQ_FLOW_AUTH_PROVIDER | auth_provider | Auth provider: api_key or jwt"
#[tokio::test]
async fn taskiq_flow_auth_provider() {
    let server = guide().env("TASKIQ_FLOW_AUTH_PROVIDER", "jwt").start().await;
    assert_eq!(server.client().key("admin-key").get("/pipelines").await.status, 401);
    assert_eq!(server.client().token(&token("a", &["admin"])).get("/pipelines").await.status, 200);
    let jwt = guide_with(&[("auth_provider = \"api_key\"", "auth_provider = \"jwt\"")]);
    let server = jwt.env("TASKIQ_FLOW_AUTH_PROVIDER", "api_key").start().await;
    assert_eq!(server.client().key("admin-key").get("/pipelines").await.status, 200);
}

/// Guide: "TASKIQ_FLOW_API_KEYS | api_keys | JSON string of API key configs"
#[tokio::test]
async fn taskiq_flow_api_keys() {
    let keys = json!({ "from-environment": key("operator", &["other"], &["read", "execute"]) }).to_string();
    let server = guide().env("TASKIQ_FLOW_API_KEYS", keys).start().await;
    let operator = server.client().key("from-environment");
    assert_eq!(listed(&operator).await, ["other"]);
    assert_eq!(execute(&operator, "other").await, 202);
    let exit =
        guide().env("TASKIQ_FLOW_API_KEYS", "{\"secret-key\": {\"role\":").try_start().await.unwrap_err();
    assert_eq!(exit.code, Some(2), "{}", exit.stderr);
    assert!(exit.stderr.contains("TASKIQ_FLOW_API_KEYS") && exit.stderr.contains("JSON"), "{}", exit.stderr);
    assert!(!exit.stderr.contains("secret-key"), "{}", exit.stderr);
}

/// Guide: "TASKIQ_FLOW_JWT_SECRET | jwt_secret | JWT signing secret"
#[tokio::test]
async fn taskiq_flow_jwt_secret() {
    let secret = "from the environment, and of forty bytes";
    let server = guide().env("TASKIQ_FLOW_JWT_SECRET", secret).start().await;
    let good = jwt::hs256(secret, &claims("a", &["admin"]));
    assert_eq!(server.client().token(&good).get("/pipelines").await.status, 200);
    assert_eq!(server.client().token(&token("a", &["admin"])).get("/pipelines").await.status, 401);
}

/// Guide: "TASKIQ_FLOW_REQUIRE_HTTPS | require_https | Enforce HTTPS (true/false)"
#[tokio::test]
async fn taskiq_flow_require_https() {
    let server = guide().env("TASKIQ_FLOW_REQUIRE_HTTPS", "false").start().await;
    assert_eq!(server.plain_client().key("admin-key").get("/pipelines").await.status, 200);
    let off = guide_with(&[("require_https = true", "require_https = false")]);
    let server = off.env("TASKIQ_FLOW_REQUIRE_HTTPS", "true").start().await;
    assert_eq!(server.plain_client().key("admin-key").get("/pipelines").await.status, 403);
}

/// Guide: "TASKIQ_FLOW_PIPELINE_ACLS | pipeline_acls | JSON string of pipeline ACLs"
#[tokio::test]
async fn taskiq_flow_pipeline_acls() {
    let acls = json!({ "pipeline2": { "read": ["admin"] } }).to_string();
    let server = guide().env("TASKIQ_FLOW_PIPELINE_ACLS", acls).start().await;
    let viewer = server.client().key("viewer-key");
    assert_eq!((read(&viewer, "pipeline1").await, read(&viewer, "pipeline2").await), (200, 403));
}

/// Guide: "TASKIQ_FLOW_RATE_LIMIT_ENABLED | rate_limit_enabled | Enable/disable rate limiting"
#[tokio::test]
async fn taskiq_flow_rate_limit_enabled() {
    let limits = r#"{"list_pipelines": "1/hour"}"#;
    for (value, expected) in [("true", 429), ("false", 200)] {
        let file = if value == "true" { "rate_limit_enabled = false" } else { "rate_limit_enabled = true" };
        let server = guide_with(&[("rate_limit_enabled = true", file)])
            .env("TASKIQ_FLOW_RATE_LIMIT_ENABLED", value)
            .env("TASKIQ_FLOW_RATE_LIMITS", limits)
            .start()
            .await;
        let client = server.client().key("admin-key");
        assert_eq!(client.get("/pipelines").await.status, 200);
        assert_eq!(client.get("/pipelines").await.status, expected, "{value}");
    }
}

/// Guide: "TASKIQ_FLOW_RATE_LIMIT_DEFAULT | rate_limit_default | Default rate limit string (e.g. "100/minute")"
#[tokio::test]
async fn taskiq_flow_rate_limit_default() {
    let server = guide().env("TASKIQ_FLOW_RATE_LIMIT_DEFAULT", "3/hour").start().await;
    let client = server.client().key("admin-key");
    for expected in [200, 200, 200, 429] {
        assert_eq!(client.get("/runs").await.status, expected);
    }
    let exit = guide().env("TASKIQ_FLOW_RATE_LIMIT_DEFAULT", "many").try_start().await.unwrap_err();
    assert_eq!(exit.code, Some(2), "{}", exit.stderr);
    // It says which field, or which variable.
    assert!(exit.stderr.to_lowercase().contains("rate_limit_default"), "{}", exit.stderr);
}

/// Guide: "TASKIQ_FLOW_WEBSOCKET_REQUIRE_AUTH | websocket_require_auth | Require auth on WebSocket connections"
#[tokio::test]
async fn taskiq_flow_websocket_require_auth() {
    let server = guide().env("TASKIQ_FLOW_WEBSOCKET_REQUIRE_AUTH", "false").start().await;
    let mut socket = server.socket("/ws", &[]).await.unwrap();
    assert_eq!(subscribe(&mut socket, "pipeline2").await["type"], "subscribed");
    let off = guide_with(&[("websocket_require_auth = true", "websocket_require_auth = false")]);
    let server = off.env("TASKIQ_FLOW_WEBSOCKET_REQUIRE_AUTH", "true").start().await;
    let mut socket = server.socket("/ws", &[]).await.unwrap();
    socket.send(&json!({ "type": "subscribe", "pipeline_id": "pipeline2" })).await;
    expect_denied(&mut socket).await;
}

/// Guide: "Alternatively, you can set environment variables:"
#[tokio::test]
async fn a_server_can_be_configured_by_environment_variables_alone() {
    let server = pipelines(Server::builder(PROGRAM))
        .env("TASKIQ_FLOW_SECURITY_ENABLED", "true")
        .env("TASKIQ_FLOW_AUTH_PROVIDER", "api_key")
        .env("TASKIQ_FLOW_API_KEYS", json!({ "k": key("ops", &["*"], &["read", "execute"]) }).to_string())
        .env("TASKIQ_FLOW_JWT_SECRET", GUIDE_SECRET)
        .env("TASKIQ_FLOW_REQUIRE_HTTPS", "false")
        .env("TASKIQ_FLOW_PIPELINE_ACLS", r#"{"pipeline1": {"read": ["admin"]}}"#)
        .env("TASKIQ_FLOW_RATE_LIMIT_ENABLED", "true")
        .env("TASKIQ_FLOW_RATE_LIMIT_DEFAULT", "2/hour")
        .env("TASKIQ_FLOW_WEBSOCKET_REQUIRE_AUTH", "false")
        .start()
        .await;
    let client = server.plain_client().key("k");
    assert_eq!(listed(&client).await, ["other", "pipeline2"]);
    assert_eq!(server.plain_client().token(&token("a", &["admin"])).get("/pipelines").await.status, 200);
    for expected in [200, 200, 429] {
        assert_eq!(client.get("/runs").await.status, expected);
    }
    let mut socket = server.socket("/ws", &[]).await.unwrap();
    assert_eq!(subscribe(&mut socket, "other").await["type"], "subscribed");
}
