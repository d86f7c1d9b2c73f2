//! Docker Deployment: the environment of the guide's compose file, as it stands, and a Redis with a password.

use serde_json::json;
use taskiq_flow_testkit::{Redis, Server, ServerBuilder};

use crate::support::*;

/// The `environment:` lines of the guide's `web` service.
const ENVIRONMENT: [&str; 5] = [
    "TASKIQ_FLOW_SECURITY_ENABLED=true",
    "TASKIQ_FLOW_AUTH_PROVIDER=api_key",
    "TASKIQ_FLOW_API_KEYS={\"admin-key\":{\"role\":\"admin\",\"pipelines\":[\"*\"],\"permissions\":[\"read\",\"execute\",\"admin\"]}}",
    "TASKIQ_FLOW_RATE_LIMIT_ENABLED=true",
    "REDIS_URL=redis://redis:6379",
];

fn web() -> ServerBuilder {
    ENVIRONMENT.iter().fold(pipelines(Server::builder(PROGRAM)), |server, line| {
        let (name, value) = line.split_once('=').unwrap();
        server.env(name, value)
    })
}

/// Guide: "- TASKIQ_FLOW_API_KEYS={"admin-key":{"role":"admin","pipelines":["*"],"permissions":["read","execute","admin"]}}"
/// Guide: "- TASKIQ_FLOW_SECURITY_ENABLED=true"
/// Guide: "- TASKIQ_FLOW_AUTH_PROVIDER=api_key"
/// Guide: "- TASKIQ_FLOW_RATE_LIMIT_ENABLED=true"
#[tokio::test]
async fn the_environment_of_the_compose_file_works_as_it_stands() {
    // No host is called `redis` here: the server counts by itself then, and does not stand still.
    let server = web().start().await;
    let admin = server.client().key("admin-key");
    assert_eq!(server.client().get("/pipelines").await.status, 401);
    assert_eq!(listed(&admin).await, ["other", "pipeline1", "pipeline2"]);
    assert_eq!(execute(&admin, "other").await, 202);
    assert_eq!(admin.get("/security/config").await.status, 200);
    for _ in 0..9 {
        execute(&admin, "other").await;
    }
    assert_eq!(execute(&admin, "other").await, 429);
}

/// Guide: "- REDIS_URL=redis://redis:6379"
#[tokio::test]
async fn redis_url_is_where_replicas_count_requests_together() {
    let redis = Redis::start("").await;
    let url = format!("redis://127.0.0.1:{}", redis.port());
    let limits = r#"{"list_runs": "3/hour"}"#;
    let replica = || web().env("REDIS_URL", url.clone()).env("TASKIQ_FLOW_RATE_LIMITS", limits);
    let (one, two) = (replica().start().await, replica().start().await);
    let call = async |server: &Server| server.client().key("admin-key").get("/runs").await.status;
    assert_eq!((call(&one).await, call(&two).await, call(&one).await), (200, 200, 200));
    assert_eq!((call(&one).await, call(&two).await), (429, 429), "three an hour for both together");
    let keys = redis.command(&["KEYS", "*"]).await;
    assert!(!keys.starts_with("*0") && !keys.contains("admin-key"), "{keys}");
}

/// Guide: "command: redis-server --requirepass your-redis-password"
#[tokio::test]
async fn a_redis_that_requires_a_password_is_given_it() {
    let redis = Redis::start("your-redis-password").await;
    let limits = r#"{"list_runs": "2/hour"}"#;
    let right = web().env("REDIS_URL", redis.url()).env("TASKIQ_FLOW_RATE_LIMITS", limits).start().await;
    let admin = right.client().key("admin-key");
    for expected in [200, 200, 429] {
        assert_eq!(admin.get("/runs").await.status, expected);
    }
    assert!(!redis.command(&["KEYS", "*"]).await.starts_with("*0"), "it counts in Redis");
    // The guide's own REDIS_URL has no password: Redis refuses it, and whoever wants no local counting is refused.
    let url = format!("redis://127.0.0.1:{}", redis.port());
    let wrong = web().env("REDIS_URL", url).env("TASKIQ_FLOW_RATE_LIMIT_ON_ERROR", "deny").start().await;
    let reply = wrong.client().key("admin-key").get("/runs").await;
    assert!(matches!(reply.status, 429 | 503), "{} {}", reply.status, reply.text());
    let (exit, _) = right.stop_and_keep().await;
    assert!(!exit.output().contains("your-redis-password"), "{}", exit.output());
}

/// Guide: "CMD ["uvicorn", "my_app:app", "--host", "0.0.0.0", "--port", "8000"]"
/// Guide: "- "8000:8000""
#[tokio::test]
async fn it_listens_on_every_address_when_told_to() {
    let server = web().arg("--host").arg("0.0.0.0").start().await;
    // 127.0.0.2 is this machine too, and not the default's address.
    let elsewhere = taskiq_flow_testkit::Client::new(format!("http://127.0.0.2:{}", server.port()));
    assert_eq!(elsewhere.get("/health").await.json(), json!({ "status": "healthy" }));
    let server = web().start().await;
    let elsewhere = taskiq_flow_testkit::Client::new(format!("http://127.0.0.2:{}", server.port()));
    assert!(elsewhere.try_get("/health").await.is_none(), "by default it listens on 127.0.0.1 alone");
}
