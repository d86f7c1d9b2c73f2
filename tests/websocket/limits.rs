//! How many sockets there may be, and for how long.

use std::time::{Duration, Instant};

use serde_json::json;
use taskiq_flow_testkit::{jwt, raise_open_files, until};

use crate::support::*;

#[tokio::test]
async fn a_thousand_idle_sockets_are_held_and_the_next_is_refused() {
    raise_open_files(4096);
    let server = server().start().await;
    let mut sockets = Vec::new();
    while sockets.len() < 1000 {
        // Sixteen at a time: a thousand at once would overflow the listener's queue.
        let some = futures_util::future::join_all((0..16).map(|_| socket(&server, "k"))).await;
        sockets.extend(some.into_iter().take(1000 - sockets.len()));
        if sockets.len() == 992 {
            for _ in 0..8 {
                sockets.push(socket(&server, "k").await);
            }
        }
    }
    let refused = server.socket("/ws", &[("X-API-Key", "k")]).await.unwrap_err();
    assert_eq!((refused.status, refused.header("Content-Type")), (503, "application/problem+json"));
    // All of them live, and requests are served beside them.
    for index in [0, 499, 999] {
        sockets[index].send(&json!({ "type": "ping" })).await;
        assert_eq!(next(&mut sockets[index]).await["type"], "pong");
    }
    assert_eq!(server.client().key("k").get("/pipelines").await.status, 200);
    // One that closes makes room for one.
    sockets.pop().unwrap().close().await;
    let room =
        until(Duration::from_secs(5), async || server.socket("/ws", &[("X-API-Key", "k")]).await.ok()).await;
    assert!(room.is_some());
    assert_eq!(server.socket("/ws", &[("X-API-Key", "k")]).await.unwrap_err().status, 503);
    let exit = server.stop().await;
    assert_eq!(exit.code, Some(0), "{}", exit.stderr);
}

#[tokio::test]
async fn who_does_not_say_who_it_is_within_five_seconds_is_closed() {
    let server = server().start().await;
    let mut socket = server.socket("/ws", &[]).await.unwrap();
    let begun = Instant::now();
    let mut last = None;
    while let Some(incoming) = socket.next(Duration::from_secs(8)).await {
        match incoming {
            // It may be told why.
            taskiq_flow_testkit::Incoming::Message(message) => {
                assert_eq!(message["type"], "error", "{message}")
            }
            end => {
                last = Some(end);
                break;
            }
        }
    }
    let waited = begun.elapsed();
    assert!(matches!(last, Some(taskiq_flow_testkit::Incoming::Closed(1008, _))), "{last:?}");
    assert!(waited > Duration::from_millis(4500) && waited < Duration::from_millis(6500), "{waited:?}");
}

#[tokio::test]
async fn a_socket_does_not_outlive_its_token() {
    let secret = "a secret of at least thirty-two bytes";
    let server = server()
        .env("TASKIQ_FLOW_JWT_SECRET", secret)
        .env("TASKIQ_FLOW_JWT_LEEWAY_SECONDS", "0")
        .start()
        .await;
    let claims = json!({ "sub": "a", "roles": ["admin"], "exp": jwt::from_now(Duration::from_secs(2)) });
    let authorization = format!("Bearer {}", jwt::hs256(secret, &claims));
    let mut socket = server.socket("/ws", &[("Authorization", authorization.as_str())]).await.unwrap();
    assert_eq!(subscribe(&mut socket, json!({ "pipeline_id": "row" })).await["type"], "subscribed");
    loop {
        match socket.next(Duration::from_secs(5)).await {
            Some(taskiq_flow_testkit::Incoming::Message(message)) => {
                assert!(message["type"] == "error" || message["type"] == "heartbeat", "{message}");
            }
            Some(taskiq_flow_testkit::Incoming::Closed(code, _)) => break assert_eq!(code, 1008),
            other => panic!("{other:?}"),
        }
    }
}
