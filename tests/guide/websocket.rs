//! WebSocket Security.

use std::time::Duration;

use serde_json::json;

use crate::support::*;

/// Guide: "WebSocket connections follow the same security model as HTTP:"
#[tokio::test]
async fn websocket_connections_follow_the_same_security_model_as_http() {
    let server =
        guide().env("TASKIQ_FLOW_RATE_LIMITS", r#"{"websocket_connect": "1000/second"}"#).start().await;
    let (good, bad) = (token("a", &["admin"]), "Bearer no.good.token".to_owned());
    let good = format!("Bearer {good}");
    for (headers, http) in [
        (vec![("X-API-Key", "viewer-key")], 200),
        (vec![("X-API-Key", "wrong")], 403),
        (vec![("Authorization", good.as_str())], 200),
        (vec![("Authorization", bad.as_str())], 401),
        (vec![("X-API-Key", "viewer-key"), ("Authorization", good.as_str())], 400),
    ] {
        let mut client = server.client();
        for (name, value) in &headers {
            client = client.header(name, value);
        }
        assert_eq!(client.get("/pipelines").await.status, http, "{headers:?}");
        let handshake = server.socket("/ws", &headers).await.map_or_else(|reply| reply.status, |_| 200);
        assert_eq!(handshake, http, "{headers:?}");
    }
    // HTTPS, too.
    let url = format!("ws://127.0.0.1:{}/ws", server.port());
    let plain = taskiq_flow_testkit::Socket::connect(&url, &[("X-API-Key", "viewer-key")]).await;
    assert_eq!(plain.unwrap_err().status, 403);
}

/// Guide: "During the WebSocket upgrade handshake, the client must authenticate via the X-API-Key header or a JWT in the Authorization header."
#[tokio::test]
async fn during_the_handshake_the_client_must_authenticate_via_a_header() {
    let server = guide().env("TASKIQ_FLOW_WEBSOCKET_HANDSHAKE_AUTH", "required").start().await;
    assert_eq!(server.socket("/ws", &[]).await.unwrap_err().status, 401);
    let mut by_key = server.socket("/ws", &[("X-API-Key", "viewer-key")]).await.unwrap();
    assert_eq!(subscribe(&mut by_key, "pipeline1").await["type"], "subscribed");
    let authorization = format!("Bearer {}", token("a", &["admin"]));
    let mut by_token = server.socket("/api/ws", &[("Authorization", authorization.as_str())]).await.unwrap();
    assert_eq!(subscribe(&mut by_token, "other").await["type"], "subscribed");

    // Unless that is demanded, a browser (which cannot set headers) may say it in its first message instead; until
    // then it is told nothing and may ask for nothing.
    let server = guide().start().await;
    let mut socket = server.socket("/ws", &[]).await.unwrap();
    assert!(is_silent(&mut socket).await);
    socket.send(&json!({ "type": "connect", "auth": token("a", &["admin"]) })).await;
    socket.expect("connected").await;
    assert_eq!(subscribe(&mut socket, "other").await["type"], "subscribed");
    let mut socket = server.socket("/ws", &[]).await.unwrap();
    socket.send(&json!({ "type": "ping" })).await;
    expect_denied(&mut socket).await;
}

/// Guide: "After authentication, each WebSocket subscription message is checked against the user’s pipeline ACLs."
#[tokio::test]
async fn each_subscription_message_is_checked_against_the_pipeline_acls() {
    let server =
        guide().env("TASKIQ_FLOW_RATE_LIMITS", r#"{"websocket_connect": "1000/second"}"#).start().await;
    let viewer = [("X-API-Key", "viewer-key")];
    let mut socket = server.socket("/ws", &viewer).await.unwrap();
    for pipeline in ["pipeline1", "pipeline2"] {
        let answer = subscribe(&mut socket, pipeline).await;
        assert_eq!((&answer["type"], &answer["pipeline_id"]), (&json!("subscribed"), &json!(pipeline)));
    }
    // Having been let in twice does not help with the third.
    socket.send(&json!({ "type": "subscribe", "pipeline_id": "other" })).await;
    expect_denied(&mut socket).await;
    // A pipeline that does not exist is refused alike.
    let mut socket = server.socket("/ws", &viewer).await.unwrap();
    socket.send(&json!({ "type": "subscribe", "pipeline_id": "missing" })).await;
    expect_denied(&mut socket).await;
    // The address that subscribes by itself is checked as well.
    let denied = server.socket("/ws/other", &viewer).await;
    match denied {
        Err(reply) => assert_eq!(reply.status, 403),
        Ok(mut socket) => expect_denied(&mut socket).await,
    }
    // By its role in the ACL, which lists `viewer` for pipeline1 alone.
    let authorization = format!("Bearer {}", token("v", &["viewer"]));
    let by_role = [("Authorization", authorization.as_str())];
    let mut socket = server.socket("/ws", &by_role).await.unwrap();
    assert_eq!(subscribe(&mut socket, "pipeline1").await["type"], "subscribed");
    socket.send(&json!({ "type": "subscribe", "pipeline_id": "pipeline2" })).await;
    expect_denied(&mut socket).await;
    // Everything is everything that the caller may read.
    let mut socket = server.socket("/ws", &viewer).await.unwrap();
    assert_eq!(subscribe(&mut socket, "*").await["type"], "subscribed");
    let admin = server.client().key("admin-key");
    run(&admin, "other", json!({})).await;
    run(&admin, "pipeline2", json!({})).await;
    let event = answer(&mut socket).await;
    assert_eq!(event["pipeline_id"], "pipeline2", "{event}");
}

/// Guide: "Unauthorized attempts result in an error message and connection termination."
#[tokio::test]
async fn unauthorized_attempts_result_in_an_error_message_and_connection_termination() {
    let server = guide().start().await;
    let mut socket = server.socket("/ws", &[("X-API-Key", "viewer-key")]).await.unwrap();
    socket.send(&json!({ "type": "subscribe", "pipeline_id": "other" })).await;
    let error = answer(&mut socket).await;
    assert_eq!(error["type"], "error", "{error}");
    assert!(error["code"].is_string() && error["detail"].is_string(), "{error}");
    assert!(!error.to_string().contains("viewer-key"));
    let (code, _) = socket.expect_close(Duration::from_secs(5)).await;
    assert_eq!(code, 1008);
    assert!(!recorded(&server, "websocket.denied").await.is_empty());
}

/// Guide: "For WebSocket testing, use a WebSocket client library and include the X-API-Key header during the upgrade request."
#[tokio::test]
async fn a_client_library_that_sends_the_header_sees_a_run_live() {
    let server = guide().start().await;
    let mut socket = server.socket("/ws", &[("X-API-Key", "viewer-key")]).await.unwrap();
    assert_eq!(subscribe(&mut socket, "pipeline1").await["type"], "subscribed");
    let done = run(&server.client().key("admin-key"), "pipeline1", json!({ "x": 41 })).await;
    let mut kinds = Vec::new();
    while kinds.last().is_none_or(|kind| kind != "PipelineCompleteEvent") {
        let event = answer(&mut socket).await;
        assert_eq!(
            (&event["pipeline_id"], &event["run_id"]),
            (&json!("pipeline1"), &done["run_id"]),
            "{event}"
        );
        kinds.push(event["type"].as_str().unwrap().to_owned());
    }
    assert_eq!(kinds, ["PipelineStartEvent", "StepStartEvent", "StepCompleteEvent", "PipelineCompleteEvent"]);
}
