//! TLS that ends in the server.

use std::time::Duration;

use serde_json::json;
use taskiq_flow_testkit::{Socket, raw};

use crate::support::{secured, service};

#[tokio::test]
async fn requests_over_tls_are_secure_and_others_are_told_so() {
    let directory = tempfile::tempdir().unwrap();
    let (builder, _) = secured(directory.path());
    let server = builder.start().await;
    let client = server.tls_client().key("admin-key");
    let reply = client.get("/pipelines").await.expect(200);
    assert_eq!(reply.version, http::Version::HTTP_2, "chosen by ALPN");
    assert_eq!(reply.header("Strict-Transport-Security"), "max-age=31536000; includeSubDomains");
    assert_eq!(reply.json()["pipelines"][0]["id"], "hello");
    let run = client.post("/pipelines/hello/execute", &json!({ "wait": true })).await.expect(200).json();
    assert_eq!(run["result"], json!({ "one": 1 }));
    assert_eq!(server.tls_client().get("/pipelines").await.status, 401);
    assert_eq!(server.tls_client().key("wrong").get("/pipelines").await.status, 403);
    let missing = server.tls_client().get("/nothing").await.expect(404);
    assert_eq!(missing.header("Strict-Transport-Security"), "max-age=31536000; includeSubDomains");

    // In the clear on the same port: a readable answer, no secret asked for, no redirect; probes get theirs.
    let plain = server.plain_client().key("admin-key").get("/pipelines").await.expect(400);
    assert!(plain.json()["detail"].as_str().unwrap().contains("https"), "{}", plain.text());
    assert_eq!((plain.header("Strict-Transport-Security"), plain.header("X-Frame-Options")), ("", "DENY"));
    // A proxy on this machine may speak for others, but not in the clear where TLS is spoken.
    assert_eq!(server.client().key("admin-key").get("/pipelines").await.status, 400);
    assert_eq!(server.plain_client().get("/health").await.status, 200);
    // Neither TLS nor HTTP: closed without a word.
    let answer = raw::send(server.address(), b"\x00\x01\x02 hello\r\n\r\n", Duration::from_secs(5)).await;
    assert_eq!(answer, "");
    // HTTP/2 by prior knowledge in the clear is not spoken.
    let answer = raw::send(
        server.address(),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0",
        Duration::from_secs(2),
    )
    .await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{answer}");
}

#[tokio::test]
async fn websockets_and_event_streams_run_over_tls() {
    let directory = tempfile::tempdir().unwrap();
    let (builder, pair) = secured(directory.path());
    let server = builder.start().await;
    let url = format!("wss://localhost:{}/ws", server.port());
    let mut socket = Socket::connect_tls(&url, server.address(), &pair.pem(), &[("X-API-Key", "admin-key")])
        .await
        .unwrap();
    assert_eq!(socket.recv().await["type"], "connected");
    socket.send(&json!({ "type": "subscribe", "pipeline_id": "hello" })).await;
    assert_eq!(socket.expect("subscribed").await["pipeline_id"], "hello");
    let client = server.tls_client().key("admin-key");
    let run = client.post("/pipelines/hello/execute", &json!({ "wait": true })).await.expect(200).json();
    assert_eq!(socket.expect("PipelineStartEvent").await["run_id"], run["run_id"]);
    // Asked for over HTTP/2, as this client asks for everything, it is the same as over HTTP/1.1.
    let told = client.get("/ws").await.expect(426);
    assert_eq!(told.header("Content-Type"), "application/problem+json", "{}", told.text());
    let events = client.header("Accept", "text/event-stream");
    let events = events.get(&format!("/runs/{}/events", run["run_id"].as_str().unwrap())).await.expect(200);
    assert!(events.text().contains("PipelineCompleteEvent"), "{}", events.text());
    let refused =
        Socket::connect_tls(&url, server.address(), &pair.pem(), &[("X-API-Key", "bad")]).await.unwrap_err();
    assert_eq!(refused.status, 403);
    // A page of the server's own origin may open one; the origin is https now.
    let own = format!("https://localhost:{}", server.port());
    let headers = [("X-API-Key", "admin-key"), ("Origin", own.as_str())];
    assert!(Socket::connect_tls(&url, server.address(), &pair.pem(), &headers).await.is_ok());
    let plain = own.replace("https", "http");
    let headers = [("X-API-Key", "admin-key"), ("Origin", plain.as_str())];
    let refused = Socket::connect_tls(&url, server.address(), &pair.pem(), &headers).await.unwrap_err();
    assert_eq!(refused.status, 403);
}

#[tokio::test]
async fn an_open_tls_server_stops_in_time() {
    let directory = tempfile::tempdir().unwrap();
    let (builder, pair) = secured(directory.path());
    let server = builder.start().await;
    // An idle connection of HTTP/2, and one that never finishes its handshake.
    let client = server.tls_client().key("admin-key");
    client.get("/me").await.expect(200);
    let _silent = tokio::net::TcpStream::connect(server.address()).await.unwrap();
    let url = format!("wss://localhost:{}/ws", server.port());
    let mut socket = Socket::connect_tls(&url, server.address(), &pair.pem(), &[("X-API-Key", "admin-key")])
        .await
        .unwrap();
    socket.expect("connected").await;
    // It panics when this takes longer than 5 seconds.
    let exit = server.stop().await;
    assert_eq!(exit.code, Some(0), "{}", exit.stderr);
    assert!(!exit.stderr.contains("were cut off"), "{}", exit.stderr);
}

#[tokio::test]
async fn one_address_has_no_room_for_ever_more_connections() {
    // Nobody is a proxy: the loopback counts as any other address.
    let server = service()
        .env("TASKIQ_FLOW_TRUSTED_PROXIES", "[]")
        .env("TASKIQ_FLOW_MAX_CONNECTIONS_PER_ADDRESS", "3")
        .start()
        .await;
    let open = async || {
        let mut stream = tokio::net::TcpStream::connect(server.address()).await.unwrap();
        let asked =
            tokio::io::AsyncWriteExt::write_all(&mut stream, b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
                .await;
        let mut first = [0; 12];
        let answered = tokio::io::AsyncReadExt::read_exact(&mut stream, &mut first).await;
        (asked.is_ok() && answered.is_ok() && &first == b"HTTP/1.1 200").then_some(stream)
    };
    // That of the start's own probe may still be open.
    let held = taskiq_flow_testkit::until(Duration::from_secs(15), async || {
        let held = [open().await, open().await, open().await];
        held.iter().all(Option::is_some).then_some(held)
    });
    let held = held.await.expect("room for three");
    assert!(open().await.is_none(), "a fourth is closed");
    assert!(server.stderr().contains("max_connections_per_address"), "{}", server.stderr());
    drop(held);
    let again = taskiq_flow_testkit::until(Duration::from_secs(5), open);
    assert!(again.await.is_some(), "closed ones make room");
}
