//! Authorization.

use serde_json::json;
use taskiq_flow_testkit::{Client, Server};

use crate::support::*;

/// A server that knows these keys, all of whose pipelines are open to keys that may.
async fn with_keys(keys: &serde_json::Value) -> Server {
    pipelines(Server::builder(PROGRAM)).env("TASKIQ_FLOW_API_KEYS", keys.to_string()).start().await
}

/// Guide: "Once authenticated, users are assigned a role and permissions."
#[tokio::test]
async fn once_authenticated_users_are_assigned_a_role_and_permissions() {
    let server = guide().start().await;
    let me = server.client().key("viewer-key").get("/me").await.expect(200).json();
    let text = me.to_string();
    assert!(text.contains("\"viewer\"") && text.contains("\"read\""), "{text}");
    assert!(!text.contains("\"execute\"") && !text.contains("\"admin\""), "{text}");
    // Before that they are nobody.
    assert_eq!(server.client().get("/me").await.status, 401);
}

/// Guide: "The system checks these permissions against the requested action and resource using two mechanisms:"
#[tokio::test]
async fn permissions_are_checked_against_action_and_resource_by_both_mechanisms() {
    // The four combinations of whitelist and ACL: a request needs both, and the permission itself.
    let keys = json!({
        "listed": key("member", &["guarded", "open"], &["read"]),
        "not-in-acl": key("stranger", &["guarded", "open"], &["read"]),
        "not-whitelisted": key("member", &["open"], &["read"]),
        "neither": key("stranger", &["open"], &["read"]),
    });
    let server = Server::builder(PROGRAM)
        .pipeline(&pipeline("guarded"))
        .pipeline(&pipeline("open"))
        .env("TASKIQ_FLOW_API_KEYS", keys.to_string())
        .env("TASKIQ_FLOW_PIPELINE_ACLS", r#"{"guarded": {"read": ["member"], "execute": ["member"]}}"#)
        .start()
        .await;
    for (name, expected) in [("listed", 200), ("not-in-acl", 403), ("not-whitelisted", 403), ("neither", 403)]
    {
        let client = server.client().key(name);
        assert_eq!(read(&client, "guarded").await, expected, "{name}");
        assert_eq!(read(&client, "open").await, 200, "{name}");
        assert_eq!(execute(&client, "guarded").await, 403, "{name}: an ACL gives a key no permission");
    }
}

/// Guide: "Pipeline ACLs (pipeline_acls) — per-pipeline, per-permission access control."
#[tokio::test]
async fn pipeline_acls_are_per_pipeline_and_per_permission() {
    let keys = json!({
        "reader": key("reader", &[], &["read", "execute"]),
        "runner": key("runner", &[], &["read", "execute"]),
        "admin": key("boss", &[], &["admin"]),
    });
    let acls = json!({
        "pipeline1": { "read": ["reader", "runner"], "execute": ["runner"] },
        "pipeline2": { "read": ["reader"], "execute": [] },
    });
    let server = pipelines(Server::builder(PROGRAM))
        .env("TASKIQ_FLOW_API_KEYS", keys.to_string())
        .env("TASKIQ_FLOW_PIPELINE_ACLS", acls.to_string())
        .start()
        .await;
    let rights = async |client: &Client, pipeline: &str| {
        (read(client, pipeline).await, execute(client, pipeline).await)
    };
    for (name, one, two, other) in [
        ("reader", (200, 403), (200, 403), (200, 202)),
        ("runner", (200, 202), (403, 403), (200, 202)),
        ("admin", (200, 202), (200, 202), (200, 202)),
    ] {
        let client = server.client().key(name);
        assert_eq!(rights(&client, "pipeline1").await, one, "{name}");
        assert_eq!(rights(&client, "pipeline2").await, two, "{name}");
        assert_eq!(rights(&client, "other").await, other, "{name}");
    }
    assert_eq!(listed(&server.client().key("runner")).await, ["other", "pipeline1"]);
}

/// Guide: "Pipeline whitelist (pipelines key in each API key entry) — simple allow-list of pipeline IDs; "*" means all pipelines."
#[tokio::test]
async fn the_pipeline_whitelist_is_an_allow_list_of_pipeline_ids() {
    let keys = json!({
        "one": key("r", &["pipeline1"], &["read", "execute", "admin"]),
        "all": key("r", &["*"], &["read"]),
        "some": key("r", &["pipeline*"], &["read"]),
        "absent": key("r", &["missing"], &["read"]),
    });
    let server = with_keys(&keys).await;
    assert_eq!(listed(&server.client().key("all")).await, ["other", "pipeline1", "pipeline2"]);
    assert_eq!(listed(&server.client().key("some")).await, ["pipeline1", "pipeline2"]);
    assert_eq!(listed(&server.client().key("one")).await, ["pipeline1"]);
    // Not even an admin gets past it.
    let one = server.client().key("one");
    assert_eq!((read(&one, "pipeline1").await, read(&one, "pipeline2").await), (200, 403));
    assert_eq!(one.get("/security/config").await.status, 403);
    assert_eq!(listed(&server.client().key("absent")).await, [""; 0]);
}

/// Guide: "read: View pipeline metadata, status, and results."
#[tokio::test]
async fn read_is_to_view_pipeline_metadata_status_and_results() {
    let keys = json!({ "reader": key("r", &["*"], &["read"]), "runner": key("r", &["*"], &["execute"]) });
    let server = with_keys(&keys).await;
    let (reader, runner) = (server.client().key("reader"), server.client().key("runner"));
    let started = runner.post("/pipelines/pipeline1/execute", &json!({ "parameters": { "x": 41 } })).await;
    let run_id = started.expect(202).json()["run_id"].as_str().unwrap().to_owned();
    let status = taskiq_flow_testkit::until(std::time::Duration::from_secs(10), async || {
        let status = reader.get("/pipelines/pipeline1/status").await.expect(200).json();
        (status["status"] == "completed").then_some(status)
    });
    let status = status.await.unwrap();
    assert_eq!((&status["run_id"], &status["result"]), (&json!(run_id), &json!({ "y": 42 })), "{status}");
    assert_eq!(reader.get("/pipelines/pipeline1").await.expect(200).json()["id"], "pipeline1");
    for path in ["/pipelines", "/runs", &format!("/runs/{run_id}"), &format!("/runs/{run_id}/events")] {
        assert_eq!(reader.get(path).await.status, 200, "{path}");
        assert_eq!(runner.get(path).await.status, 403, "{path}");
    }
    assert_eq!(execute(&reader, "pipeline1").await, 403);
}

/// Guide: "execute: Trigger pipeline execution."
#[tokio::test]
async fn execute_is_to_trigger_pipeline_execution() {
    let keys = json!({
        "runner": key("r", &["*"], &["execute"]),
        "reader": key("r", &["*"], &["read"]),
        "nothing": key("r", &["*"], &[]),
    });
    let server = with_keys(&keys).await;
    for (name, expected) in [("runner", 202), ("reader", 403), ("nothing", 403)] {
        assert_eq!(execute(&server.client().key(name), "pipeline1").await, expected, "{name}");
    }
    // Who may only start a pipeline does not see what came of it.
    assert_eq!(read(&server.client().key("runner"), "pipeline1").await, 403);
    assert_eq!(server.client().key("runner").get("/pipelines/pipeline1/status").await.status, 403);
}

/// Guide: "admin: Full access to all features, including security configuration."
#[tokio::test]
async fn admin_is_full_access_to_all_features_including_security_configuration() {
    let keys = json!({
        "admin": key("r", &["*"], &["admin"]),
        "worker": key("r", &["*"], &["read", "execute"]),
    });
    let server = with_keys(&keys).await;
    let (admin, worker) = (server.client().key("admin"), server.client().key("worker"));
    assert_eq!((read(&admin, "pipeline1").await, execute(&admin, "pipeline1").await), (200, 202));
    let config = admin.get("/security/config").await.expect(200).text();
    assert!(config.contains("require_https") && config.contains("pipeline_acls"), "{config}");
    assert_eq!(worker.get("/security/config").await.status, 403);
    let definition = json!({ "tasks": [{ "name": "one", "expression": "1", "output": "one" }] });
    assert_eq!(worker.post("/pipelines/new", &definition).await.status, 403);
    assert_eq!(admin.post("/pipelines/new", &definition).await.status, 201);
    assert_eq!(run(&admin, "new", json!({})).await["result"], json!({ "one": 1 }));
    assert_eq!(worker.delete("/pipelines/new").await.status, 403);
    assert!(matches!(admin.delete("/pipelines/new").await.status, 200 | 204));
}

/// Guide: "Each API key entry may specify a pipelines list of pipeline IDs the key is allowed to access."
#[tokio::test]
async fn each_api_key_entry_may_specify_a_list_of_pipelines() {
    let server = guide().start().await;
    let viewer = server.client().key("viewer-key");
    for (pipeline, expected) in [("pipeline1", 200), ("pipeline2", 200), ("other", 403), ("missing", 403)] {
        assert_eq!(read(&viewer, pipeline).await, expected, "{pipeline}");
        assert_eq!(viewer.get(&format!("/pipelines/{pipeline}/dag")).await.status, expected, "{pipeline}");
    }
}

/// Guide: "If the list is empty or contains "*", the key can access all pipelines."
#[tokio::test]
async fn if_the_list_is_empty_or_contains_a_star_the_key_can_access_all_pipelines() {
    let keys = json!({
        "empty": key("r", &[], &["read"]),
        "star": key("r", &["*"], &["read"]),
        "star-among-others": key("r", &["pipeline1", "*"], &["read"]),
        "absent": { "role": "r", "permissions": ["read"] },
    });
    let server = with_keys(&keys).await;
    for name in ["empty", "star", "star-among-others", "absent"] {
        let client = server.client().key(name);
        assert_eq!(listed(&client).await, ["other", "pipeline1", "pipeline2"], "{name}");
        assert_eq!(read(&client, "other").await, 200, "{name}");
    }
}
