//! Authentication.

use std::time::Duration;

use serde_json::{Value, json};
use taskiq_flow_testkit::{jwt, raw};

use crate::support::*;

/// Guide: "TaskIQ-Flow supports two authentication methods:"
#[tokio::test]
async fn two_authentication_methods_are_supported() {
    let server = guide().start().await;
    assert_eq!(server.client().key("admin-key").get("/pipelines").await.status, 200);
    assert_eq!(server.client().token(&token("a", &["admin"])).get("/pipelines").await.status, 200);
    // A third is not, and both at once leave open who is asking.
    let basic = server.client().header("Authorization", "Basic YWRtaW46YWRtaW4=");
    assert_eq!(basic.get("/pipelines").await.status, 401);
    let both = server.client().key("admin-key").token(&token("a", &["admin"]));
    assert_eq!(both.get("/pipelines").await.status, 400);
}

/// Guide: "Clients must include their API key in the X-API-Key header for HTTP requests or in the auth field of WebSocket connect messages."
#[tokio::test]
async fn clients_must_include_their_api_key_in_the_header_or_the_auth_field() {
    let server = guide().start().await;
    assert_eq!(server.client().key("viewer-key").get("/pipelines").await.status, 200);
    // Nowhere else.
    assert_eq!(server.client().get("/pipelines?api_key=viewer-key&X-API-Key=viewer-key").await.status, 401);
    assert_eq!(server.client().header("Cookie", "X-API-Key=viewer-key").get("/pipelines").await.status, 401);
    let mut socket = server.socket("/ws", &[]).await.unwrap();
    assert!(is_silent(&mut socket).await, "it is told nothing before it has said who it is");
    socket.send(&json!({ "type": "connect", "auth": "viewer-key" })).await;
    socket.expect("connected").await;
    assert_eq!(subscribe(&mut socket, "pipeline1").await["type"], "subscribed");
    let mut socket = server.socket("/ws", &[]).await.unwrap();
    socket.send(&json!({ "type": "connect", "auth": "no-key" })).await;
    expect_denied(&mut socket).await;
}

/// Guide: "GET /api/pipelines X-API-Key: admin-key"
#[tokio::test]
async fn the_example_request_is_answered() {
    let server = guide().start().await;
    let request = b"GET /api/pipelines HTTP/1.1\r\nHost: localhost\r\nX-Forwarded-Proto: https\r\nX-API-Key: admin-key\r\n\
        Connection: close\r\n\r\n";
    let answer = raw::send(server.address(), request, Duration::from_secs(5)).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.contains("\"pipeline1\""), "{answer}");
    // The guide's own tests leave /api out: both are the same.
    let client = server.client().key("admin-key");
    for path in ["/pipelines", "/pipelines/pipeline1", "/pipelines/pipeline1/dag", "/runs", "/me", "/health"]
    {
        let (bare, api) = (client.get(path).await, client.get(&format!("/api{path}")).await);
        assert_eq!((bare.status, api.status), (200, 200), "{path}");
        assert_eq!(bare.json(), api.json(), "{path}");
    }
    assert_eq!(client.post("/api/pipelines/pipeline1/execute", &json!({})).await.status, 202);
}

/// Guide: "If a JWT secret is configured (via jwt_secret), clients can authenticate using a JSON Web Token (JWT) in the Authorization header:"
#[tokio::test]
async fn if_a_jwt_secret_is_configured_clients_can_authenticate_using_a_token() {
    let server = guide().start().await;
    let good = token("alice", &["admin"]);
    assert_eq!(server.client().token(&good).get("/pipelines").await.status, 200);
    let server = guide_with(&[("jwt_secret = \"your-jwt-secret\"", "")]).start().await;
    assert_eq!(server.client().token(&good).get("/pipelines").await.status, 401);
    assert_eq!(server.client().key("admin-key").get("/pipelines").await.status, 200);
}

/// Guide: "Authorization: Bearer <jwt-token>"
#[tokio::test]
async fn the_token_stands_in_authorization_bearer() {
    let server = guide().start().await;
    let good = token("alice", &["admin"]);
    for scheme in ["Bearer", "bearer", "BEARER"] {
        let client = server.client().header("Authorization", &format!("{scheme} {good}"));
        assert_eq!(client.get("/pipelines").await.status, 200, "{scheme}");
    }
    assert_eq!(server.client().header("Authorization", &good).get("/pipelines").await.status, 401);
    assert_eq!(server.client().key(&good).get("/pipelines").await.status, 403, "a token is no key");
    assert_eq!(server.client().get(&format!("/pipelines?access_token={good}")).await.status, 401);
    let bad = server.client().token(&format!("{good}x")).get("/pipelines").await.expect(401);
    assert!(bad.header("WWW-Authenticate").contains("error=\"invalid_token\""));
}

/// Guide: "The JWT must contain a sub (subject) field identifying the user and a roles list."
#[tokio::test]
async fn the_jwt_must_contain_a_sub_and_a_roles_list() {
    let off = [("rate_limit_enabled = true", "rate_limit_enabled = false\nauth_failure_limit = \"\"")];
    let server = guide_with(&off).start().await;
    let status = async |token: String| server.client().token(&token).get("/pipelines").await.status;
    let with = |field: &str, value: Value| {
        let mut claims = claims("alice", &["admin"]);
        match value {
            Value::Null => claims.as_object_mut().map(|claims| claims.remove(field)),
            value => claims.as_object_mut().map(|claims| claims.insert(field.to_owned(), value)),
        };
        claims
    };
    assert_eq!(status(jwt::hs256(GUIDE_SECRET, &claims("alice", &["admin"]))).await, 200);
    let year = jwt::from_now(Duration::ZERO) - 60;
    for (field, value) in [
        ("sub", Value::Null),
        ("sub", json!("")),
        ("sub", json!(7)),
        ("roles", Value::Null),
        ("roles", json!("admin")),
        ("roles", json!([1])),
        ("roles", json!({ "admin": true })),
        ("exp", Value::Null),
        ("exp", json!(year)),
        ("exp", json!("tomorrow")),
        ("exp", json!(1e300)),
        ("nbf", json!(jwt::from_now(Duration::from_secs(600)))),
    ] {
        let claims = with(field, value.clone());
        assert_eq!(status(jwt::hs256(GUIDE_SECRET, &claims)).await, 401, "{field}: {value}");
    }
    // A signature must be one, of the algorithm that the server expects.
    let good = claims("alice", &["admin"]);
    for algorithm in ["none", "None", "NONE", "hs256", "HS384", "RS256"] {
        let header = json!({ "alg": algorithm, "typ": "JWT" });
        assert_eq!(status(jwt::unsigned(&header, &good)).await, 401, "{algorithm}");
        assert_eq!(status(jwt::signed(GUIDE_SECRET, &header, &good)).await, 401, "{algorithm}");
    }
    // The user is who `sub` says, with the roles of the list.
    let me =
        server.client().token(&jwt::hs256(GUIDE_SECRET, &claims("alice", &["admin", "x"]))).get("/me").await;
    let me = me.expect(200).text();
    assert!(me.contains("\"alice\"") && me.contains("\"admin\"") && me.contains("\"x\""), "{me}");
}
