//! Overview.

use serde_json::json;

use crate::support::*;

/// Guide: "When security is enabled (security_enabled = True), the following features are active:"
#[tokio::test]
async fn when_security_is_enabled_the_following_features_are_active() {
    // Nothing but the switch and two keys is configured.
    let config = "security_enabled = true\nrate_limits.list_runs = \"2/minute\"\n\
        api_keys.k = { role = \"r\", pipelines = [\"pipeline1\"], permissions = [\"read\"] }\n";
    let server = pipelines(taskiq_flow_testkit::Server::builder(PROGRAM)).config_toml(config).start().await;
    let (client, keyed) = (server.client(), server.client().key("k"));
    assert_eq!(client.get("/pipelines").await.status, 401, "authentication");
    assert_eq!(read(&keyed, "pipeline1").await, 200);
    assert_eq!(read(&keyed, "pipeline2").await, 403, "authorization");
    assert_eq!(server.plain_client().key("k").get("/pipelines").await.status, 403, "HTTPS enforcement");
    for expected in [200, 200, 429] {
        assert_eq!(keyed.get("/runs").await.status, expected, "rate limiting");
    }
    for event in ["authentication.failure", "authorization.denied", "rate_limit.exceeded"] {
        assert!(!recorded(&server, event).await.is_empty(), "audit logging: {event}");
    }
}

/// Guide: "Authentication: Verify client identities using API keys or JWT tokens."
#[tokio::test]
async fn verify_client_identities_using_api_keys_or_jwt_tokens() {
    let server = guide().start().await;
    let me = server.client().key("viewer-key").get("/me").await.expect(200).text();
    assert!(me.contains("viewer") && !me.contains("viewer-key"), "{me}");
    let me =
        server.client().token(&token("alice@example.com", &["admin"])).get("/me").await.expect(200).text();
    assert!(me.contains("alice@example.com"), "{me}");
    assert_eq!(server.client().get("/me").await.status, 401);
    assert_eq!(server.client().key("nobody").get("/me").await.status, 403);
    assert_eq!(server.client().token("no.token.atall").get("/me").await.status, 401);
}

/// Guide: "Authorization: Enforce access control lists (ACLs) on pipelines and tasks."
#[tokio::test]
async fn enforce_access_control_lists_on_pipelines_and_tasks() {
    let acl = ("execute = [\"admin\"]", "execute = [\"admin\"], admin = []");
    let key = (
        "api_keys.\"viewer-key\"",
        "api_keys.\"stranger-key\" = { role = \"stranger\", permissions = [\"read\", \"execute\"] }\napi_keys.\"viewer-key\"",
    );
    let server = guide_with(&[acl, key]).start().await;
    let (admin, stranger) = (server.client().key("admin-key"), server.client().key("stranger-key"));
    assert_eq!((read(&stranger, "pipeline1").await, execute(&stranger, "pipeline1").await), (403, 403));
    assert_eq!((read(&stranger, "other").await, execute(&stranger, "other").await), (200, 202));
    // The tasks of a guarded pipeline: their definition, their graph, their state and their results.
    let run = run(&admin, "pipeline1", json!({ "x": 41 })).await;
    let run_id = run["run_id"].as_str().unwrap();
    for path in [
        "/pipelines/pipeline1/dag".to_owned(),
        "/pipelines/pipeline1/critical-path".to_owned(),
        "/pipelines/pipeline1/parallel-groups".to_owned(),
        "/pipelines/pipeline1/status".to_owned(),
        format!("/runs/{run_id}"),
        format!("/runs/{run_id}/events"),
    ] {
        assert_eq!(admin.get(&path).await.status, 200, "{path}");
        assert_eq!(stranger.get(&path).await.status, 403, "{path}");
    }
    assert_eq!(stranger.post(&format!("/runs/{run_id}/cancel"), &json!({})).await.status, 403);
    assert_eq!(listed(&stranger).await, ["other", "pipeline2"]);
    let runs = stranger.get("/runs").await.expect(200).text();
    assert!(!runs.contains(run_id), "{runs}");
}

/// Guide: "HTTPS Enforcement: Block plain HTTP requests when require_https is True."
#[tokio::test]
async fn block_plain_http_requests_when_require_https_is_true() {
    let server = guide().start().await;
    let reply = server.plain_client().key("admin-key").get("/pipelines").await.expect(403);
    assert_eq!(reply.json()["title"], "HTTPS required");
    let server = guide_with(&[("require_https = true", "require_https = false")]).start().await;
    assert_eq!(server.plain_client().key("admin-key").get("/pipelines").await.status, 200);
}

/// Guide: "Rate Limiting: Limit the number of requests per client or IP address, per endpoint."
#[tokio::test]
async fn limit_the_number_of_requests_per_client_or_ip_address_per_endpoint() {
    let limits = (
        "rate_limit_enabled = true",
        "rate_limit_enabled = true\nrate_limits = { list_runs = \"3/hour\", me = \"3/hour\" }",
    );
    let server = guide_with(&[limits]).start().await;
    let admin = server.client().key("admin-key");
    for expected in [200, 200, 200, 429] {
        assert_eq!(admin.clone().from_ip("203.0.113.1").get("/runs").await.status, expected);
    }
    // Per client: the same key from another address.
    assert_eq!(admin.clone().from_ip("203.0.113.2").get("/runs").await.status, 429);
    // Per address: another key from the same address. And neither for another client at another address.
    let viewer = server.client().key("viewer-key");
    assert_eq!(viewer.clone().from_ip("203.0.113.1").get("/runs").await.status, 429);
    assert_eq!(viewer.from_ip("203.0.113.3").get("/runs").await.status, 200);
    // Per endpoint.
    assert_eq!(admin.from_ip("203.0.113.1").get("/me").await.status, 200);
}

/// Guide: "Audit Logging: Log security-relevant events for monitoring and compliance."
#[tokio::test]
async fn log_security_relevant_events_for_monitoring_and_compliance() {
    let server = guide().start().await;
    let reply =
        server.client().key("viewer-key").from_ip("203.0.113.7").get("/pipelines/other").await.expect(403);
    let denied = recorded(&server, "authorization.denied").await;
    // Who, what, where, when, with what outcome, and which request it was.
    let record = denied.last().unwrap();
    assert_eq!(record["outcome"], "denied");
    assert_eq!(record["principal"]["roles"], json!(["viewer"]));
    assert_eq!((&record["ip"], &record["method"]), (&json!("203.0.113.7"), &json!("GET")));
    assert_eq!((&record["pipeline_id"], &record["path"]), (&json!("other"), &json!("/pipelines/other")));
    assert_eq!(record["status"], 403);
    assert_eq!(record["request_id"], reply.header("X-Request-Id"));
    assert!(record["time"].as_str().unwrap().ends_with('Z'));
}
