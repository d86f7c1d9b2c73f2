//! Quotas of pipelines, and bounds on what callers may pile up.

use http::Method;
use serde_json::{Value, json};

use crate::support::{Answer, Server, server_with, until};

async fn limited(quotas: Value) -> Server {
    server_with(|setup| {
        setup.security.rate_limit_enabled = true;
        setup.security.rate_limits = ["execute_pipeline", "run_control", "schedules", "get_status"]
            .map(|endpoint| (endpoint.to_owned(), "100000/minute".to_owned()))
            .into();
        setup.security.pipeline_quotas = serde_json::from_value(quotas).unwrap();
        setup.engine.max_schedules = 2;
    })
    .await
}

fn refused(answer: &Answer, policy: &str) {
    assert_eq!(answer.status, 429, "{}", answer.text());
    let problem = answer.problem();
    assert_eq!(problem["type"], "/docs/errors/quota-exceeded");
    assert_eq!(problem["violated-policies"], json!([policy]));
    let text = |name: &str| answer.headers[name].to_str().unwrap().to_owned();
    assert!(text("retry-after").parse::<u64>().unwrap() >= 1);
    for header in ["ratelimit-policy", "ratelimit"] {
        assert!(text(header).contains(&format!("\"{policy}\";")), "{header}: {}", text(header));
    }
}

#[tokio::test]
async fn executions_are_counted_whatever_asks_for_them() {
    let server = limited(json!({"diamond": {"executions": "3/hour"}})).await;
    let schedule = json!({"id": "s", "pipeline_id": "diamond", "interval": "1h"});
    assert_eq!(server.post("/schedules", schedule).await.status, 201);
    // What cannot be carried out costs nothing.
    for _ in 0..5 {
        let bad = server.post("/pipelines/diamond/execute", json!({"parameters": {"no": 1}})).await;
        assert_eq!(bad.status, 422);
    }
    let keyed = async || {
        let call = server.call(Method::POST, "/pipelines/diamond/execute").key("admin-key");
        call.header("idempotency-key", "once").json(&json!({})).send().await
    };
    let first = keyed().await;
    assert_eq!(first.status, 202);
    assert_eq!(server.post("/schedules/s/trigger", json!(null)).await.status, 202);
    assert_eq!(server.post("/pipelines/diamond/execute", json!({})).await.status, 202);
    for path in ["/pipelines/diamond/execute", "/api/pipelines/diamond/execute", "/schedules/s/trigger"] {
        refused(&server.post(path, json!({})).await, "diamond.executions");
    }
    // Asked again, the same run is no execution.
    let again = keyed().await;
    assert_eq!((again.status, &again.json()["run_id"]), (202, &first.json()["run_id"]));
    let recorded = "quota diamond.executions (3/hour) exceeded";
    let log = || std::fs::read_to_string(server.folder.path().join("audit.jsonl")).unwrap();
    until(async || log().contains(recorded).then_some(())).await;
    let record = log().lines().find(|line| line.contains(recorded)).map(serde_json::from_str::<Value>);
    let record = record.unwrap().unwrap();
    assert_eq!((&record["event"], &record["outcome"]), (&json!("rate_limit.exceeded"), &json!("throttled")));
    assert_eq!((&record["pipeline_id"], &record["principal"]["id"]), (&json!("diamond"), &json!("admin")));
    let shown = server.get("/security/config").await.json();
    assert_eq!(shown["pipeline_quotas"], json!({"diamond": {"executions": "3/hour"}}));
    // Others are not touched.
    assert_eq!(server.post("/pipelines/failing/execute", json!({})).await.status, 202);
}

#[tokio::test]
async fn each_principal_has_its_own_part_and_a_retry_counts() {
    let server = limited(json!({"*": {"per_principal": "2/hour"}})).await;
    let failed = server.run("failing", json!({})).await;
    assert_eq!(server.post(&format!("/runs/{failed}/retry"), json!(null)).await.status, 202);
    refused(&server.post(&format!("/runs/{failed}/retry"), json!(null)).await, "failing.per_principal");
    refused(&server.post("/pipelines/failing/execute", json!({})).await, "failing.per_principal");
    let other = server.call(Method::POST, "/pipelines/diamond/execute").key("runner-key").json(&json!({}));
    assert_eq!(other.send().await.status, 202);
}

#[tokio::test]
async fn unfinished_runs_are_bounded_until_one_ends() {
    let server = limited(json!({"g*": {"concurrent_runs": 1}})).await;
    let run = server.start("gate", json!({})).await;
    refused(&server.post("/pipelines/gate/execute", json!({})).await, "gate.concurrent_runs");
    assert_eq!(server.post(&format!("/runs/{run}/signals/go"), json!(1)).await.status, 202);
    until(async || {
        let answer = server.post("/pipelines/gate/execute", json!({})).await;
        (answer.status == 202).then_some(())
    })
    .await;
}

#[tokio::test]
async fn signals_and_schedules_do_not_pile_up() {
    let server = limited(json!({})).await;
    for (id, expected) in [("one", 201), ("two", 201), ("three", 409)] {
        let schedule = json!({"id": id, "pipeline_id": "gate", "interval": "1h"});
        let answer = server.post("/schedules", schedule).await;
        assert_eq!(answer.status, expected, "{id}: {}", answer.text());
    }
    let two = json!({"tasks": [
        {"name": "first", "wait": {"signal": "one"}},
        {"name": "second", "wait": {"signal": "two"}, "inputs": ["first"]},
    ]});
    assert_eq!(server.post("/pipelines/two", two).await.status, 201);
    let run = server.start("two", json!({})).await;
    for n in 0..256 {
        assert_eq!(server.post(&format!("/runs/{run}/signals/two"), json!(n)).await.status, 202);
    }
    let answer = server.post(&format!("/runs/{run}/signals/two"), json!(0)).await;
    assert_eq!(answer.status, 409);
    assert!(answer.text().contains("256 signals wait"), "{}", answer.text());
    // The step that waits now gets its own all the same.
    assert_eq!(server.post(&format!("/runs/{run}/signals/one"), json!(0)).await.status, 202);
    until(async || (server.get(&format!("/runs/{run}")).await.json()["status"] == "completed").then_some(()))
        .await;
}

#[tokio::test]
async fn copies_of_the_store_do_not_pile_up() {
    let directory = tempfile::tempdir().unwrap();
    for name in ["a.db", "b.db"] {
        std::fs::write(directory.path().join(name), "").unwrap();
    }
    let server = server_with(|setup| {
        setup.api.backup_dir = Some(directory.path().to_owned());
        setup.api.max_backups = 2;
    })
    .await;
    let refused = server.post("/store/backup", json!({"name": "c.db"})).await;
    assert_eq!(refused.status, 409);
    let detail = refused.problem()["detail"].as_str().unwrap().to_owned();
    assert!(detail.contains("2 files") && detail.contains("max_backups"), "{detail}");
    // What takes the place of another is none more; a store in memory is not copied at all.
    let replaced = server.post("/store/backup", json!({"name": "b.db", "replace": true})).await;
    assert!(!replaced.problem()["detail"].as_str().unwrap().contains("max_backups"), "{replaced:?}");
}

#[tokio::test]
async fn priorities_over_the_api_have_a_highest() {
    let server = server_with(|setup| setup.api.max_priority = 6.try_into().unwrap()).await;
    let put = async |priority: u8| {
        let definition = json!({"priority": priority, "tasks": [{"name": "a", "expression": "1"}]});
        server.call(Method::PUT, "/pipelines/new").key("limited-admin-key").json(&definition).send().await
    };
    let refused = put(7).await;
    assert_eq!(refused.status, 422);
    let error = &refused.problem()["errors"][0];
    assert_eq!(
        (&error["field"], &error["message"]),
        (&json!("priority"), &json!("expected at most 6, the server's `max_priority`"))
    );
    assert_eq!(put(6).await.status, 201);
    let run = async |priority: u8| {
        server.post("/pipelines/new/execute", json!({"priority": priority})).await.status
    };
    assert_eq!((run(7).await, run(6).await), (422, 202));
}
