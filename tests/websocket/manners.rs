//! What a client must not do, and what becomes of it.

use std::time::Duration;

use serde_json::json;
use taskiq_flow_testkit::{Incoming, Socket, raw};

use crate::support::*;

/// Sees `error`, then close 1008.
async fn expect_ended(socket: &mut Socket, what: &str) {
    let error = next(socket).await;
    assert_eq!(error["type"], "error", "{what}: {error}");
    let (code, _) = socket.expect_close(Duration::from_secs(5)).await;
    assert_eq!(code, 1008, "{what}");
}

#[tokio::test]
async fn anything_but_connect_before_authentication_ends_the_socket() {
    let server = server().start().await;
    for text in [
        r#"{"type":"subscribe","pipeline_id":"row"}"#,
        r#"{"type":"ping"}"#,
        r#"{"type":"unsubscribe","pipeline_id":"row"}"#,
        r#"{"type":"connect"}"#,
        r#"{"type":"connect","auth":""}"#,
        r#"{"type":"connect","auth":7}"#,
        r#"{"type":"Connect","auth":"k"}"#,
        r#"{"auth":"k"}"#,
        "hello",
        "",
    ] {
        let mut socket = server.socket("/ws", &[]).await.unwrap();
        socket.send_text(text).await;
        expect_ended(&mut socket, text).await;
    }
}

#[tokio::test]
async fn connect_in_a_message_is_as_good_as_in_the_handshake() {
    let server = server().start().await;
    let mut socket = server.socket("/ws", &[]).await.unwrap();
    socket.send(&json!({ "type": "connect", "auth": "row-only" })).await;
    socket.expect("connected").await;
    assert_eq!(subscribe(&mut socket, json!({ "pipeline_id": "row" })).await["type"], "subscribed");
    run(&server.client().key("k"), "row").await;
    assert_eq!(next(&mut socket).await["type"], "PipelineStartEvent");
    let mut socket = server.socket("/ws", &[]).await.unwrap();
    socket.send(&json!({ "type": "connect", "auth": "row-only" })).await;
    socket.expect("connected").await;
    socket.send(&json!({ "type": "subscribe", "pipeline_id": "other" })).await;
    expect_ended(&mut socket, "a foreign pipeline").await;
}

#[tokio::test]
async fn what_is_no_message_does_not_hurt_the_server() {
    let server = server().start().await;
    for text in ["{", "[]", "null", r#"{"type":7}"#, r#"{"type":"dance"}"#, r#"{"type":"subscribe"}"#] {
        let mut socket = socket(&server, "k").await;
        socket.send_text(text).await;
        let answer = next(&mut socket).await;
        assert_eq!(answer["type"], "error", "{text}: {answer}");
        assert!(answer["code"].is_string(), "{text}: {answer}");
    }
    let mut large = socket(&server, "k").await;
    large.send_text(&format!("{{\"type\":\"ping\",\"x\":\"{}\"}}", "x".repeat(1 << 20))).await;
    loop {
        match large.next(Duration::from_secs(5)).await {
            Some(Incoming::Message(message)) => assert_ne!(message["type"], "pong", "a megabyte was read"),
            Some(Incoming::Closed(..) | Incoming::Lost(_)) => break,
            None => panic!("a megabyte was swallowed"),
        }
    }
    assert_eq!(server.client().get("/health").await.status, 200);
}

#[tokio::test]
async fn pages_of_foreign_origins_may_not_connect() {
    let allowed = r#"["https://dashboard.example.com"]"#;
    let server = server().env("TASKIQ_FLOW_ALLOWED_ORIGINS", allowed).start().await;
    let own = format!("https://127.0.0.1:{}", server.port());
    for (origin, expected) in [
        ("https://evil.example.com", 403),
        ("null", 403),
        ("https://dashboard.example.com.evil.example", 403),
        ("http://dashboard.example.com", 403),
        ("https://dashboard.example.com", 101),
        (own.as_str(), 101),
    ] {
        let headers = [("X-API-Key", "k"), ("Origin", origin)];
        let status = server.socket("/ws", &headers).await.map_or_else(|reply| reply.status, |_| 101);
        assert_eq!(status, expected, "{origin}");
        // Whether or not it has a credential: that may come later, in a message.
        let status = server.socket("/ws", &headers[1..]).await.map_or_else(|reply| reply.status, |_| 101);
        assert_eq!(status, expected, "{origin} without credential");
    }
}

#[tokio::test]
async fn a_request_that_is_no_handshake_is_answered_as_http() {
    let server = server().start().await;
    let reply = server.client().key("k").get("/ws").await;
    assert!(matches!(reply.status, 400 | 426), "{} {}", reply.status, reply.text());
    // A version that nobody speaks.
    let request = "GET /ws HTTP/1.1\r\nHost: localhost\r\nX-Forwarded-Proto: https\r\nX-API-Key: k\r\n\
        Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 8\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n";
    let answer = raw::send(server.address(), request.as_bytes(), Duration::from_millis(500)).await;
    assert!(answer.starts_with("HTTP/1.1 4"), "{answer}");
    assert_eq!(server.client().get("/health").await.status, 200);
}
