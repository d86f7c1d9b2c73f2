//! Quotas of pipelines, and how many runs may wait.

use std::time::Duration;

use serde_json::json;
use taskiq_flow_testkit::until;

use crate::support::server;

#[tokio::test]
async fn a_quota_is_answered_with_its_name_and_when_to_come_back() {
    let server = server()
        .config_toml(
            "[pipeline_quotas.\"q*\"]\nexecutions = \"3/hour\"\n[pipeline_quotas.gate]\nconcurrent_runs = 1\n",
        )
        .start()
        .await;
    let client = server.client().key("k");
    let execute =
        async |pipeline: &str| client.post(&format!("/pipelines/{pipeline}/execute"), &json!({})).await;
    for _ in 0..3 {
        execute("quick").await.expect(202);
    }
    let refused = execute("quick").await.expect(429);
    assert_eq!(refused.json()["violated-policies"], json!(["quick.executions"]));
    assert_eq!(refused.json()["type"], "/docs/errors/quota-exceeded");
    let wait: u64 = refused.header("Retry-After").parse().unwrap();
    assert!((1..=1200).contains(&wait), "{wait}");
    let policy = refused.header("RateLimit-Policy");
    assert!(
        policy.starts_with("\"execute_pipeline\";q=1000;w=1, \"quick.executions\";q=3;w=3600"),
        "{policy}"
    );
    // One run at a time.
    let run = execute("gate").await.expect(202).json()["run_id"].as_str().unwrap().to_owned();
    let refused = execute("gate").await.expect(429);
    assert_eq!(refused.json()["violated-policies"], json!(["gate.concurrent_runs"]));
    client.post(&format!("/runs/{run}/cancel"), &json!({})).await.expect(202);
    execute("gate").await.expect(202);
    let logged = until(Duration::from_secs(5), async || {
        let log = server.audit();
        let denied = |policy: &str| log.contains(&format!("quota {policy} ("));
        (denied("quick.executions") && denied("gate.concurrent_runs")).then_some(())
    });
    assert!(logged.await.is_some(), "{}", server.audit());
    let shown = client.get("/security/config").await.expect(200).json();
    assert_eq!(shown["pipeline_quotas"]["q*"], json!({"executions": "3/hour"}));
}

#[tokio::test]
async fn a_schedule_skips_a_firing_while_its_pipeline_may_have_no_further_run() {
    let server = server().config_toml("[pipeline_quotas.gate]\nconcurrent_runs = 1\n").start().await;
    let client = server.client().key("k");
    let run = client.post("/pipelines/gate/execute", &json!({})).await.expect(202).json();
    let mut socket = server.socket("/ws/gate", &[("X-API-Key", "k")]).await.unwrap();
    let schedule = json!({"id": "often", "pipeline_id": "gate", "interval": "1s"});
    client.post("/schedules", &schedule).await.expect(201);
    let skipped = loop {
        let message = socket.recv().await;
        if message["type"] == "PipelineSkipEvent" {
            break message;
        }
    };
    assert_eq!(skipped["pipeline_id"], "gate");
    assert!(skipped.get("run_id").is_none(), "{skipped}");
    let reason = skipped["reason"].as_str().unwrap();
    assert!(reason.starts_with("schedule `often` did not start a run: pipeline `gate` has"), "{reason}");
    let run = run["run_id"].as_str().unwrap();
    client.post(&format!("/runs/{run}/signals/go"), &json!(1)).await.expect(202);
    // Then it fires.
    let fired = until(Duration::from_secs(15), async || {
        let runs = client.get("/runs?pipeline_id=gate").await.json();
        (runs["runs"].as_array().unwrap().len() == 2).then_some(())
    });
    assert!(fired.await.is_some());
    assert!(server.audit().contains("schedule often: pipeline `gate` has"), "{}", server.audit());
}

#[tokio::test]
async fn no_more_runs_wait_than_may() {
    let server = server()
        .env("TASKIQ_FLOW_MAX_CONCURRENT_RUNS", "1")
        // Of which one pipeline alone has half.
        .env("TASKIQ_FLOW_MAX_QUEUED_RUNS", "4")
        .start()
        .await;
    let client = server.client().key("k");
    let mut statuses = Vec::new();
    for _ in 0..6 {
        let answer = client.post("/pipelines/gate/execute", &json!({})).await;
        if answer.status == 503 {
            assert_eq!(answer.header("Retry-After"), "1");
        }
        statuses.push(answer.status);
    }
    assert_eq!(statuses, [202, 202, 202, 503, 503, 503]);
    let runs = client.get("/runs").await.expect(200).json();
    assert_eq!(runs["runs"].as_array().unwrap().len(), 3, "what was refused is not kept");
}
