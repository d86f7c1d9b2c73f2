//! Rate Limiting: the table, with 130 quick calls to each endpoint.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use taskiq_flow_testkit::{Client, Reply, Server, raw};

use crate::support::*;

/// How many calls are made: more than any limit of the table.
const CALLS: u32 = 130;

/// Makes [`CALLS`] calls and sees that as many succeed as a bucket of `limit` a minute allows: the burst, and what
/// flows into it while the calls are made.
async fn expect_limit(limit: u32, endpoint: &str, call: impl AsyncFn() -> Reply) {
    let started = Instant::now();
    let mut accepted = 0;
    let mut refused = None;
    for _ in 0..CALLS {
        let reply = call().await;
        match reply.status {
            200 | 202 | 101 => accepted += 1,
            429 => refused = Some(reply),
            other => panic!("{endpoint}: {other} {}", reply.text()),
        }
    }
    let refill = (started.elapsed().as_secs_f64() * f64::from(limit) / 60.0).ceil();
    let most = f64::from(limit) + refill;
    assert!(accepted >= limit && f64::from(accepted) <= most, "{endpoint}: {accepted} of {limit} to {most}");
    let refused = refused.unwrap_or_else(|| panic!("{endpoint}: none was refused"));
    let wait: u64 = refused.header("Retry-After").parse().unwrap();
    assert!((1..=60).contains(&wait), "{endpoint}: Retry-After: {wait}");
    let policy = refused.header("RateLimit-Policy");
    assert!(policy.contains(&format!("q={limit};w=60")), "{endpoint}: {policy}");
    assert!(refused.header("RateLimit").contains("r=0;"), "{endpoint}: {}", refused.header("RateLimit"));
}

async fn expect_limit_of_get(limit: u32, path: &str) {
    let server = guide().start().await;
    let client = server.client().key("admin-key");
    expect_limit(limit, path, async || client.get(path).await).await;
    // Other endpoints do not feel it.
    assert_eq!(client.get("/me").await.status, 200);
}

/// Guide: "List pipelines | 60/minute"
#[tokio::test]
async fn list_pipelines_60_per_minute() {
    expect_limit_of_get(60, "/pipelines").await;
}

/// Guide: "Get DAG | 120/minute"
#[tokio::test]
async fn get_dag_120_per_minute() {
    expect_limit_of_get(120, "/pipelines/pipeline1/dag").await;
}

/// Guide: "Get critical path | 120/minute"
#[tokio::test]
async fn get_critical_path_120_per_minute() {
    expect_limit_of_get(120, "/pipelines/pipeline1/critical-path").await;
}

/// Guide: "Get parallel groups | 120/minute"
#[tokio::test]
async fn get_parallel_groups_120_per_minute() {
    expect_limit_of_get(120, "/pipelines/pipeline1/parallel-groups").await;
}

/// Guide: "Execute pipeline | 10/minute"
#[tokio::test]
async fn execute_pipeline_10_per_minute() {
    let server = guide().start().await;
    let client = server.client().key("admin-key");
    let call =
        async || client.post("/pipelines/pipeline2/execute", &json!({ "parameters": { "x": 1 } })).await;
    expect_limit(10, "execute", call).await;
    // What was refused was not started.
    let runs = client.get("/runs?limit=100").await.expect(200).json()["runs"].as_array().map_or(0, Vec::len);
    assert!((10..=20).contains(&runs), "{runs} runs");
}

/// Guide: "Get status | 30/minute"
#[tokio::test]
async fn get_status_30_per_minute() {
    expect_limit_of_get(30, "/pipelines/pipeline1/status").await;
}

/// Guide: "WebSocket connect | 5/minute"
#[tokio::test]
async fn websocket_connect_5_per_minute() {
    let server = guide().start().await;
    let call = async || match server.socket("/ws", &[("X-API-Key", "admin-key")]).await {
        Ok(socket) => {
            socket.close().await;
            Reply {
                version: http::Version::HTTP_11,
                status: 101,
                headers: http::HeaderMap::new(),
                body: Vec::new(),
            }
        }
        Err(reply) => *reply,
    };
    expect_limit(5, "websocket_connect", call).await;
}

/// Guide: "The default limit for unknown endpoints is rate_limit_default (default: "100/minute")."
#[tokio::test]
async fn the_default_limit_for_unknown_endpoints_is_rate_limit_default() {
    let server = guide_with(&[("rate_limit_default = \"100/minute\"", "")]).start().await;
    let client = server.client().key("admin-key");
    expect_limit(100, "/runs", async || client.get("/runs").await).await;
    let server = guide_with(&[("100/minute", "7/minute")]).start().await;
    let client = server.client().key("admin-key");
    expect_limit(7, "/runs", async || client.get("/runs").await).await;
    // The table's endpoints keep theirs.
    let policy = client.get("/pipelines").await.expect(200);
    assert!(policy.header("RateLimit-Policy").contains("q=60;w=60"), "{}", policy.header("RateLimit-Policy"));
}

/// Guide: "To prevent abuse, TaskIQ-Flow limits the number of requests per endpoint per client IP address."
#[tokio::test]
async fn the_number_of_requests_is_limited_per_endpoint_per_client_ip_address() {
    let keys: Value = (0..5)
        .map(|n| (format!("k{n}"), key("r", &["*"], &["read"])))
        .collect::<serde_json::Map<_, _>>()
        .into();
    let server = pipelines(Server::builder(PROGRAM))
        .env("TASKIQ_FLOW_API_KEYS", keys.to_string())
        .env("TASKIQ_FLOW_RATE_LIMITS", r#"{"list_pipelines": "4/hour", "get_dag": "4/hour"}"#)
        .start()
        .await;
    // Each request with another key: it is the address that is counted.
    let from = |ip: &str, n: usize| -> Client { server.client().key(&format!("k{}", n % 5)).from_ip(ip) };
    for (n, expected) in [200, 200, 200, 200, 429].into_iter().enumerate() {
        assert_eq!(from("203.0.113.1", n).get("/pipelines").await.status, expected, "call {n}");
    }
    assert_eq!(from("203.0.113.1", 0).get("/pipelines/pipeline1/dag").await.status, 200, "another endpoint");
    assert_eq!(from("203.0.113.2", 4).get("/pipelines").await.status, 200, "another address");
    // A client does not choose its address: what it writes itself stands before what the proxy saw.
    assert_eq!(from("198.51.100.9, 203.0.113.1", 1).get("/pipelines").await.status, 429);
    // A host has a /64 of IPv6 addresses.
    for (n, expected) in [200, 200, 200, 200, 429].into_iter().enumerate() {
        assert_eq!(
            from(&format!("2001:db8::{n:x}"), n).get("/pipelines/pipeline1/dag").await.status,
            expected,
            "call {n}"
        );
    }
}

/// Guide: "When the limit is exceeded, the server responds with HTTP 429 (Too Many Requests)."
#[tokio::test]
async fn when_the_limit_is_exceeded_the_server_responds_with_429_too_many_requests() {
    let server = guide().env("TASKIQ_FLOW_RATE_LIMITS", r#"{"list_pipelines": "1/second"}"#).start().await;
    let request = b"GET /pipelines HTTP/1.1\r\nHost: localhost\r\nX-Forwarded-Proto: https\r\nX-API-Key: viewer-key\r\n\
        Connection: close\r\n\r\n";
    let first = raw::send(server.address(), request, Duration::from_secs(5)).await;
    assert!(first.starts_with("HTTP/1.1 200 OK\r\n"), "{first}");
    let second = raw::send(server.address(), request, Duration::from_secs(5)).await;
    assert!(second.starts_with("HTTP/1.1 429 Too Many Requests\r\n"), "{second}");
    let lower = second.to_lowercase();
    assert!(
        lower.contains("retry-after: 1\r\n") && lower.contains("content-type: application/problem+json"),
        "{second}"
    );
    tokio::time::sleep(Duration::from_millis(1_050)).await;
    let third = raw::send(server.address(), request, Duration::from_secs(5)).await;
    assert!(third.starts_with("HTTP/1.1 200 OK\r\n"), "who waits as told is served: {third}");
}
