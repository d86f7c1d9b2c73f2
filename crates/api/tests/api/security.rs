//! `/security`, `/me`, `/ready`.

use http::Method;
use serde_json::{Value, json};
use taskiq_flow_security::audit::AuditMode;

use crate::support::{SECRET, server, server_with};

#[tokio::test]
async fn the_configuration_is_shown_without_secrets() {
    let server = server().await;
    let answer = server.get("/security/config").await;
    let shown = answer.json();
    assert_eq!((&shown["require_https"], &shown["jwt_secret"]), (&json!(true), &json!("[redacted]")));
    assert!(shown["pipeline_acls"]["secret"].is_object());
    for secret in ["admin-key", "viewer-key", SECRET] {
        assert!(!answer.text().contains(secret), "{secret}");
    }
}

#[tokio::test]
async fn the_audit_log_is_read_and_verified() {
    // An answer comes after its record then.
    let server = server_with(|setup| setup.audit_mode = AuditMode::Required).await;
    for _ in 0..3 {
        server.call(Method::GET, "/pipelines/failing").key("viewer-key").send().await;
    }
    let page = server.get("/security/audit?event=authorization.denied&principal=viewer&limit=2").await.json();
    let records = page["records"].as_array().unwrap();
    assert_eq!(records.len(), 2);
    assert!(records[0]["seq"].as_u64() > records[1]["seq"].as_u64(), "newest first");
    let cursor = page["next_cursor"].as_str().unwrap();
    let path = format!("/security/audit?event=authorization.denied&principal=viewer&limit=2&cursor={cursor}");
    assert_eq!(server.get(&path).await.json()["records"].as_array().unwrap().len(), 1);
    let verified = server.get("/security/audit/verify").await.json();
    assert_eq!(verified["valid"], true, "{verified}");
    // Somebody edits a record.
    let file = server.folder.path().join("audit.jsonl");
    let text =
        std::fs::read_to_string(&file).unwrap().replacen("authorization.denied", "authentication.success", 1);
    std::fs::write(&file, text).unwrap();
    let broken = server.get("/security/audit/verify").await.json();
    assert_eq!((&broken["valid"], &broken["records"]), (&json!(false), &Value::Null));
    assert!(broken["line"].is_u64() && broken["fault"].as_str().unwrap().contains("edited"), "{broken}");
}

#[tokio::test]
async fn without_a_file_there_is_nothing_to_read() {
    let server = server_with(|setup| setup.audit_file = false).await;
    for path in ["/security/audit", "/security/audit/verify"] {
        assert_eq!(server.get(path).await.problem()["status"], 409, "{path}");
    }
}

#[tokio::test]
async fn everybody_is_told_who_they_are() {
    let server = server().await;
    let me = server.call(Method::GET, "/me").key("viewer-key").send().await.json();
    let expected = json!({"id": "viewer", "type": "api_key", "roles": ["viewer"], "pipelines": ["diamond", "gate"], "permissions": ["read"], "expires_at": null});
    assert_eq!(me, expected);
}

#[tokio::test]
async fn readiness_is_that_of_the_parts() {
    let server = server_with(|setup| setup.audit_mode = AuditMode::Required).await;
    let ready = server.call(Method::GET, "/ready").send().await;
    let checks = json!({"engine": "ok", "audit": "ok", "rate_limit": "ok", "tokens": "ok"});
    assert_eq!((ready.status, ready.json()), (200, json!({"status": "ready", "checks": checks})));
    server.state.engine().shutdown().await;
    let problem = server.call(Method::GET, "/ready").send().await.problem();
    assert_eq!((&problem["status"], &problem["detail"]), (&json!(503), &json!("Not ready: engine.")));
    assert_eq!(server.call(Method::GET, "/health").send().await.json(), json!({"status": "healthy"}));
}

#[tokio::test]
async fn a_server_without_the_keys_of_its_issuer_is_not_ready() {
    // Nobody listens there.
    let server =
        server_with(|setup| setup.security.jwks_url = Some("http://127.0.0.1:9/jwks.json".into())).await;
    let problem = server.call(Method::GET, "/ready").send().await.problem();
    assert_eq!((&problem["status"], &problem["detail"]), (&json!(503), &json!("Not ready: tokens.")));
}

#[tokio::test]
async fn measurements_name_pipelines_and_never_runs() {
    let server = server_with(|setup| {
        setup.api.metrics = Some(taskiq_flow_api::Metrics::install().unwrap());
        setup.api.metrics_path = "/internal/metrics".to_owned();
    })
    .await;
    let run = server.run("diamond", json!({})).await;
    server.get(&format!("/runs/{run}")).await;
    let metrics = server.call(Method::GET, "/internal/metrics").key("reader-key").send().await;
    assert_eq!(metrics.header("content-type"), "text/plain; version=0.0.4; charset=utf-8");
    let text = metrics.text();
    assert!(
        text.contains(
            "taskiq_flow_http_requests_total{endpoint=\"execute_pipeline\",method=\"POST\",status=\"200\"}"
        ),
        "{text}"
    );
    assert!(text.contains("taskiq_flow_http_request_duration_seconds_bucket"), "{text}");
    assert!(!text.contains(&run), "a run's id is a label");
    for (key, status) in [("viewer-key", 403), ("runner-key", 403), ("admin-key", 200)] {
        let answer = server.call(Method::GET, "/internal/metrics").key(key).send().await;
        assert_eq!(answer.status, status, "{key}");
    }
    assert_eq!(server.get("/metrics").await.status, 404);
}
