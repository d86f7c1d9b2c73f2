//! Audit Logging.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};
use taskiq_flow_testkit::{Cli, Server, until};

use crate::support::*;

/// Does something of every kind that the guide lists, but for a change of the configuration.
async fn do_everything(server: &Server) {
    let (admin, viewer) = (server.client().key("admin-key"), server.client().key("viewer-key"));
    assert_eq!(server.client().get("/pipelines").await.status, 401);
    assert_eq!(server.client().key("wrong").get("/pipelines").await.status, 403);
    assert_eq!(server.client().token("wrong").get("/pipelines").await.status, 401);
    assert_eq!(read(&viewer, "pipeline1").await, 200);
    assert_eq!(execute(&viewer, "pipeline1").await, 403);
    assert_eq!(run(&admin, "pipeline1", json!({ "x": 1 })).await["status"], "completed");
    for _ in 0..3 {
        admin.get("/runs").await;
    }
    let mut socket = server.socket("/ws", &[("X-API-Key", "viewer-key")]).await.unwrap();
    assert_eq!(subscribe(&mut socket, "pipeline1").await["type"], "subscribed");
    socket.send(&json!({ "type": "subscribe", "pipeline_id": "other" })).await;
    expect_denied(&mut socket).await;
}

fn limited() -> taskiq_flow_testkit::ServerBuilder {
    guide().env("TASKIQ_FLOW_RATE_LIMITS", r#"{"list_runs": "2/hour"}"#)
}

/// The records of one kind.
fn of<'a>(records: &'a [Value], event: &str) -> Vec<&'a Value> {
    records.iter().filter(|record| record["event"] == event).collect()
}

async fn expect_verified(server: Server) {
    let (exit, directory) = server.stop_and_keep().await;
    assert_eq!(exit.code, Some(0), "{}", exit.stderr);
    let file = directory.path().join("audit.jsonl");
    let exit = Cli::new(PROGRAM).run(["audit".as_ref(), "verify".as_ref(), file.as_os_str()]).await;
    assert_eq!(exit.code, Some(0), "{}", exit.output());
    // The same file with one letter changed.
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(text.contains("\"event\":\"audit.stop\""), "{text}");
    std::fs::write(&file, text.replacen("authentication.failure", "authentication.success", 1)).unwrap();
    let exit = Cli::new(PROGRAM).run(["audit".as_ref(), "verify".as_ref(), file.as_os_str()]).await;
    assert_eq!(exit.code, Some(1), "{}", exit.output());
}

/// Guide: "Security-relevant events are logged by :class:~taskiq_flow.security.audit.AuditLogger for later analysis."
#[tokio::test]
async fn security_relevant_events_are_logged_for_later_analysis() {
    let server = limited().start().await;
    do_everything(&server).await;
    recorded(&server, "websocket.close").await;
    let records = records(&server);
    let kinds: BTreeSet<&str> = records.iter().filter_map(|record| record["event"].as_str()).collect();
    for expected in [
        "audit.start",
        "authentication.success",
        "authentication.failure",
        "authorization.denied",
        "rate_limit.exceeded",
        "pipeline.read",
        "pipeline.execute",
        "websocket.connect",
        "websocket.subscribe",
        "websocket.denied",
        "websocket.close",
    ] {
        assert!(kinds.contains(expected), "no {expected} among {kinds:?}");
    }
    // Numbered without a hole, and each tied to the one before.
    for (index, record) in records.iter().enumerate() {
        assert_eq!(record["seq"].as_u64(), records[0]["seq"].as_u64().map(|first| first + index as u64));
        if index > 0 {
            assert_eq!(record["prev_hash"], records[index - 1]["hash"]);
        }
    }
    expect_verified(server).await;
}

/// Guide: "Authentication successes and failures"
#[tokio::test]
async fn authentication_successes_and_failures_are_logged() {
    let server = limited().start().await;
    do_everything(&server).await;
    recorded(&server, "websocket.close").await;
    let records = records(&server);
    let failures = of(&records, "authentication.failure");
    assert!(failures.len() >= 3, "{failures:?}");
    for failure in failures {
        assert_eq!(
            (&failure["outcome"], &failure["ip"]),
            (&json!("failure"), &json!("127.0.0.1")),
            "{failure}"
        );
        assert!(matches!(failure["status"].as_u64(), Some(401 | 403)), "{failure}");
    }
    let successes = of(&records, "authentication.success");
    assert!(
        successes.iter().any(|record| record["principal"]["roles"] == json!(["viewer"])),
        "{successes:?}"
    );
    assert!(successes.iter().all(|record| record["outcome"] == "success"), "{successes:?}");
}

/// Guide: "Authorization denials"
#[tokio::test]
async fn authorization_denials_are_logged() {
    let server = limited().start().await;
    do_everything(&server).await;
    recorded(&server, "websocket.close").await;
    let records = records(&server);
    let denials = of(&records, "authorization.denied");
    let found = denials.iter().any(|record| {
        record["pipeline_id"] == "pipeline1" && record["method"] == "POST" && record["status"] == 403
    });
    assert!(found, "{denials:?}");
}

/// Guide: "Rate limit throttling events"
#[tokio::test]
async fn rate_limit_throttling_events_are_logged() {
    let server = limited().start().await;
    do_everything(&server).await;
    recorded(&server, "websocket.close").await;
    let records = records(&server);
    let throttled = of(&records, "rate_limit.exceeded");
    assert!(!throttled.is_empty());
    for record in throttled {
        assert_eq!((&record["outcome"], &record["status"]), (&json!("throttled"), &json!(429)), "{record}");
        assert_eq!(record["path"], "/runs", "{record}");
    }
}

/// Guide: "Pipeline actions (read, execute)"
#[tokio::test]
async fn pipeline_actions_are_logged() {
    let server = limited().start().await;
    do_everything(&server).await;
    recorded(&server, "websocket.close").await;
    let records = records(&server);
    let reads = of(&records, "pipeline.read");
    assert!(
        reads.iter().any(|record| record["pipeline_id"] == "pipeline1" && record["outcome"] == "success"),
        "{reads:?}"
    );
    let executions = of(&records, "pipeline.execute");
    let [execution] = executions.as_slice() else { panic!("one execution, not {executions:?}") };
    assert_eq!((&execution["pipeline_id"], &execution["outcome"]), (&json!("pipeline1"), &json!("success")));
    assert!(execution["run_id"].as_str().is_some_and(|id| !id.is_empty()), "{execution}");
    assert_eq!(execution["status"], 200);
}

/// Guide: "Security configuration changes"
#[tokio::test]
async fn security_configuration_changes_are_logged() {
    let server = guide().start().await;
    let viewer = server.client().key("viewer-key");
    assert_eq!(read(&viewer, "other").await, 403);
    // The file is edited, and the server told to read it again.
    let changed =
        GUIDE_CONFIG.replace("pipelines = [\"pipeline1\", \"pipeline2\"]", "pipelines = [\"other\"]");
    std::fs::write(server.dir().join("taskiq-flow.test.toml"), changed).unwrap();
    server.hangup();
    let changes = recorded(&server, "security.config_change").await;
    assert!(!changes.is_empty(), "no record of the change; the log says: {}", server.stderr());
    assert!(changes[0]["detail"].as_str().is_some_and(|detail| detail.contains("api_keys")), "{changes:?}");
    // What is recorded acts within a second.
    let acts =
        until(Duration::from_secs(1), async || (read(&viewer, "other").await == 200).then_some(())).await;
    assert!(acts.is_some(), "{}", server.stderr());
    assert_eq!(read(&viewer, "pipeline1").await, 403);
}

/// Guide: "Audit entries are emitted as Python logging records with structured extra fields, making them easy to ship to a SIEM."
#[tokio::test]
async fn audit_entries_are_records_with_structured_fields() {
    // Here: one JSON object a line, the same fields in each, to standard output and a file.
    let server = limited().env("TASKIQ_FLOW_AUDIT_LOG", r#"["stdout", "audit.jsonl"]"#).start().await;
    do_everything(&server).await;
    recorded(&server, "websocket.close").await;
    let records = records(&server);
    let fields = "logger seq time event outcome principal action pipeline_id run_id ip request_id method path status \
                  detail prev_hash hash";
    for record in &records {
        let names: Vec<&str> = record.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(names.join(" "), fields.split_whitespace().collect::<Vec<_>>().join(" "));
    }
    let (exit, _directory) = server.stop_and_keep().await;
    let printed: Vec<Value> =
        exit.stdout.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let printed = of(&printed, "pipeline.execute");
    assert_eq!(printed.len(), 1, "standard output has them too: {}", exit.stdout);
    assert_eq!(printed[0]["request_id"], of(&records, "pipeline.execute")[0]["request_id"]);
}

/// Guide: "The built-in logger name is taskiq_flow.audit."
#[tokio::test]
async fn the_built_in_logger_name_is_taskiq_flow_audit() {
    let server = guide().start().await;
    assert_eq!(server.client().get("/pipelines").await.status, 401);
    recorded(&server, "authentication.failure").await;
    let records = records(&server);
    assert!(records.len() >= 2);
    assert!(records.iter().all(|record| record["logger"] == "taskiq_flow.audit"), "{records:?}");
}

/// Guide: "Audit logs are handled by :class:~taskiq_flow.security.audit.AuditLogger, instantiated automatically by the API (no configuration field needed)."
#[tokio::test]
async fn audit_logs_need_no_configuration() {
    let server = guide().without_env("TASKIQ_FLOW_AUDIT_LOG").start().await;
    assert_eq!(server.client().get("/pipelines").await.status, 401);
    let (exit, directory) = server.stop_and_keep().await;
    let file = std::fs::read_to_string(directory.path().join("taskiq-flow-audit.jsonl")).unwrap();
    for text in [&file, &exit.stdout] {
        assert!(text.contains("\"event\":\"authentication.failure\""), "{text}");
        assert!(text.contains("\"logger\":\"taskiq_flow.audit\""), "{text}");
    }
}

/// Guide: "Pipeline actions (read, execute)"
#[tokio::test]
async fn an_action_that_failed_is_not_logged_as_a_success() {
    let server = guide().start().await;
    let admin = server.client().key("admin-key");
    let body = json!({ "parameters": { "x": "no number" } });
    assert_eq!(admin.post("/pipelines/pipeline1/execute", &body).await.status, 422);
    assert_eq!(read(&admin, "missing").await, 404);
    for (event, status) in [("pipeline.execute", 422), ("pipeline.read", 404)] {
        let records = recorded(&server, event).await;
        let [record] = records.as_slice() else { panic!("one record, not {records:?}") };
        assert_eq!((&record["outcome"], &record["status"]), (&json!("failure"), &json!(status)), "{record}");
        assert_eq!(record["run_id"], Value::Null);
    }
}
