//! Counting in a Redis server.

use std::time::Duration;

use taskiq_flow_testkit::{Redis, Server, ServerBuilder, until};

use crate::support::server;

fn counting_in(url: String) -> ServerBuilder {
    server()
        .env("TASKIQ_FLOW_RATE_LIMIT_STORAGE", url)
        .env("TASKIQ_FLOW_RATE_LIMITS", r#"{"list_pipelines": "6/hour", "me": "1000/second"}"#)
}

async fn list(server: &Server, ip: &str) -> u16 {
    server.client().key("k").from_ip(ip).get("/pipelines").await.status
}

#[tokio::test]
async fn two_replicas_share_a_limit_and_nobody_else_does() {
    let redis = Redis::start("a-password").await;
    let (one, two) = (counting_in(redis.url()).start().await, counting_in(redis.url()).start().await);
    let mut answers = Vec::new();
    for at in 0..8 {
        answers.push(list(if at % 2 == 0 { &one } else { &two }, "203.0.113.1").await);
    }
    assert_eq!(answers, [200, 200, 200, 200, 200, 200, 429, 429]);
    // One that counts for itself is full.
    let alone = counting_in("memory".to_owned()).start().await;
    assert_eq!(list(&alone, "203.0.113.1").await, 200);
    let keys = redis.command(&["KEYS", "*"]).await;
    assert!(keys.contains("taskiq-flow:rate:{list_pipelines|ip|203.0.113.1}"), "{keys}");
    assert!(!format!("{}{}", one.stderr(), one.stdout()).contains("a-password"));
}

#[tokio::test]
async fn while_the_storage_is_away_requests_are_counted_here_or_refused_and_then_shared_again() {
    let mut redis = Redis::start("").await;
    let local = counting_in(redis.url()).start().await;
    let deny = counting_in(redis.url()).env("TASKIQ_FLOW_RATE_LIMIT_ON_ERROR", "deny").start().await;
    assert_eq!((list(&local, "203.0.113.1").await, list(&deny, "203.0.113.2").await), (200, 200));
    redis.stop();
    // Its own buckets are full, and count.
    let mut answers = Vec::new();
    for _ in 0..8 {
        answers.push(list(&local, "203.0.113.1").await);
    }
    assert_eq!(answers, [200, 200, 200, 200, 200, 200, 429, 429]);
    let refused = deny.client().key("k").get("/pipelines").await;
    assert_eq!(refused.status, 429, "{}", refused.text());
    assert_eq!(refused.header("Retry-After"), "1");
    // Probes are answered either way: else every replica would be restarted for it.
    for server in [&local, &deny] {
        assert_eq!(server.plain_client().get("/health").await.status, 200);
    }
    assert_eq!(deny.client().get("/ready").await.status, 503);
    redis.restart().await;
    let back = until(Duration::from_secs(20), async || {
        (list(&deny, "203.0.113.3").await == 200 && list(&local, "203.0.113.4").await == 200).then_some(())
    });
    assert!(back.await.is_some(), "the storage is not used again: {}", deny.stderr());
    // Shared again: what one counts, the other sees. The server has forgotten what was before.
    let spent = until(Duration::from_secs(20), async || {
        while list(&local, "203.0.113.5").await == 200 {}
        (list(&deny, "203.0.113.5").await == 429).then_some(())
    });
    assert!(spent.await.is_some());
}

#[tokio::test]
async fn a_storage_behind_tls_is_trusted_by_its_certificate_only() {
    let redis = Redis::start_tls("a-password").await;
    let trusting = counting_in(redis.url()).env("SSL_CERT_FILE", redis.certificate().display().to_string());
    let trusting = trusting.env("TASKIQ_FLOW_RATE_LIMIT_ON_ERROR", "deny").start().await;
    assert_eq!(list(&trusting, "203.0.113.1").await, 200);
    assert_eq!(trusting.client().get("/ready").await.status, 200);
    let stranger = counting_in(redis.url()).env("TASKIQ_FLOW_RATE_LIMIT_ON_ERROR", "deny").start().await;
    assert_eq!(list(&stranger, "203.0.113.1").await, 429);
    assert!(stranger.stderr().contains("certificate"), "{}", stranger.stderr());
}
