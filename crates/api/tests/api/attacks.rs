//! Ways around the permissions that a caller might look for.

use http::Method;
use serde_json::{Value, json};

use crate::support::{Answer, Server, server, server_with};

/// A server with two callers that may run `diamond` and read what came of it.
async fn server_of_two() -> Server {
    server_with(|setup| {
        let key = |id: &str| {
            let fields = json!({"id": id, "role": "runner", "pipelines": ["diamond"], "permissions": ["read", "execute"]});
            serde_json::from_value(fields).unwrap()
        };
        setup.security.api_keys.insert("one-key", key("one"));
        setup.security.api_keys.insert("two-key", key("two"));
    })
    .await
}

async fn execute(server: &Server, key: &str, idempotency_key: &str, number: i64) -> Answer {
    let call = server.call(Method::POST, "/pipelines/diamond/execute").key(key);
    let body = json!({"parameters": {"number": number}, "wait": true});
    call.header("idempotency-key", idempotency_key).json(&body).send().await
}

#[tokio::test]
async fn a_pipeline_reaches_no_other_that_its_author_may_not_run() {
    let server = server().await;
    let inner = json!({"name": "in", "inputs": ["name"], "output": "out", "pipeline": "secret"});
    let deep = json!({"name": "in", "inputs": ["list"], "output": "out",
        "map": {"over": "list", "as": "name", "group": [{"name": "a", "expression": "name"}, {"name": "b", "pipeline": "secret"}]}});
    for (task, id) in [(&inner, "secret"), (&deep, "secret"), (&inner, "no-such-pipeline")] {
        let text = task.to_string().replace("\"secret\"", &json!(id).to_string());
        let body = json!({"tasks": [serde_json::from_str::<Value>(&text).unwrap()]});
        for method in [Method::POST, Method::PUT] {
            let answer =
                server.call(method, "/pipelines/new").key("limited-admin-key").json(&body).send().await;
            assert_eq!(answer.problem()["type"], "/docs/errors/forbidden", "{body}");
        }
    }
    assert_eq!(server.get("/pipelines/new").await.status, 404);
    let own =
        json!({"tasks": [{"name": "in", "inputs": ["number"], "output": "out", "pipeline": "diamond"}]});
    let made = server.call(Method::POST, "/pipelines/new").key("limited-admin-key").json(&own).send().await;
    assert_eq!(made.status, 201, "{}", made.text());
}

#[tokio::test]
async fn an_idempotency_key_finds_only_runs_of_the_same_caller() {
    let server = server_of_two().await;
    let first = execute(&server, "one-key", "daily", 1).await;
    let other = execute(&server, "two-key", "daily", 2).await;
    assert_eq!((other.status, other.header("idempotency-replayed")), (200, ""));
    assert_ne!(first.json()["run_id"], other.json()["run_id"]);
    let again = execute(&server, "one-key", "daily", 1).await;
    assert_eq!(again.header("idempotency-replayed"), "true");
    assert_eq!(first.json()["run_id"], again.json()["run_id"]);
}

#[tokio::test]
async fn an_idempotency_key_of_a_caller_does_not_take_the_place_of_a_firing() {
    let server = server_of_two().await;
    let due = jiff::Timestamp::from_millisecond(jiff::Timestamp::now().as_millisecond() + 400).unwrap();
    let due = format!("{due:.3}");
    let schedule =
        json!({"id": "nightly", "pipeline_id": "diamond", "at": due, "parameters": {"number": 70}});
    let made = server.post("/schedules", schedule).await;
    assert_eq!((made.status, &made.json()["next_fire_at"]), (201, &json!(due)));
    assert_eq!(execute(&server, "one-key", &format!("schedule:nightly:{due}"), 1).await.status, 200);
    let fired = async || {
        let runs = server.get("/runs?pipeline_id=diamond").await.json();
        runs["runs"].as_array().unwrap().iter().any(|run| run["trigger"]["kind"] == "schedule")
    };
    for _ in 0..40 {
        if fired().await {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    panic!("the schedule did not fire");
}

#[tokio::test]
async fn measurements_of_a_pipeline_are_for_those_who_may_read_it() {
    let server =
        server_with(|setup| setup.api.metrics = Some(taskiq_flow_api::Metrics::install().unwrap())).await;
    server.run("secret", json!({"name": "x"})).await;
    server.run("diamond", json!({})).await;
    let seen = async |key: &str, id: &str| {
        let answer = server.call(Method::GET, "/metrics").key(key).send().await;
        assert_eq!(answer.status, 200);
        answer.text().contains(&format!("pipeline_id=\"{id}\""))
    };
    assert!(seen("admin-key", "secret").await && seen("admin-key", "diamond").await);
    assert!(!seen("reader-key", "secret").await && seen("reader-key", "diamond").await);
}
