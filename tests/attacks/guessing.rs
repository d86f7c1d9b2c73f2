//! Guessing credentials: one after another, all at once, over sockets.

use std::time::Duration;

use serde_json::json;

use crate::support::builder;

#[tokio::test]
async fn guesses_are_bounded_however_they_come() {
    let server = builder().env("TASKIQ_FLOW_AUTH_FAILURE_LIMIT", "5/hour").start().await;
    // One subscriber has a /64: many addresses, one bucket.
    let mut statuses = Vec::new();
    for n in 0..12 {
        let from = server.plain_client().from_ip(&format!("2001:db8:5:5::{n:x}"));
        statuses.push(from.key(&format!("guess-{n}")).get("/me").await.status);
    }
    assert_eq!(statuses.iter().filter(|status| **status == 403).count(), 5, "{statuses:?}");
    assert!(statuses[5..].iter().all(|status| *status == 429), "{statuses:?}");

    // All at once: each guess under way when the bucket becomes empty may still be looked at, and no more.
    let mut guesses = Vec::new();
    for n in 0..100 {
        let client = server.plain_client().from_ip("198.51.100.7").key(&format!("guess-{n}"));
        guesses.push(tokio::spawn(async move { client.get("/me").await.status }));
    }
    let mut looked_at = 0;
    for guess in guesses {
        looked_at += usize::from(guess.await.unwrap() == 403);
    }
    assert!((5..=12).contains(&looked_at), "{looked_at} of 100");

    // A socket is good for one guess, and its guess counts.
    let mut told = Vec::new();
    for n in 0..8 {
        let headers = [("X-Forwarded-For", "198.51.100.8")];
        let Ok(mut socket) = server.socket("/ws", &headers).await else { continue };
        socket.send(&json!({"type": "connect", "auth": format!("guess-{n}")})).await;
        told.push(socket.expect("error").await["code"].as_str().unwrap_or_default().to_owned());
        assert_eq!(socket.expect_close(Duration::from_secs(10)).await.0, 1008);
    }
    assert_eq!(told.iter().filter(|code| *code == "invalid-key").count(), 5, "{told:?}");
}
