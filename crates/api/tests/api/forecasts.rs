//! Forecasts: `what-if`, `estimate`, and what to speed up first.

use serde_json::{Value, json};

use crate::support::{Server, server, until};

async fn until_ended(server: &Server, run: &str) {
    until(async || {
        (!server.get(&format!("/runs/{run}")).await.json()["finished_at"].is_null()).then_some(())
    })
    .await;
}

fn time(value: &Value) -> jiff::Timestamp {
    value.as_str().unwrap().parse().unwrap()
}

#[tokio::test]
async fn what_a_run_takes_follows_from_the_runs_before() {
    let server = server().await;
    let nothing = server.get("/pipelines/diamond/what-if").await.json();
    assert_eq!(nothing["unmeasured"], json!(["load", "left", "right", "join"]));
    assert_eq!((&nothing["duration_ms"], &nothing["workers"]), (&json!(0), &json!(256)));
    server.run("diamond", json!({})).await;
    let known = server.get("/pipelines/diamond/what-if?workers=3").await.json();
    assert_eq!((&known["pipeline_id"], &known["workers"]), (&json!("diamond"), &json!(3)));
    assert_eq!(known["unmeasured"], json!([]));
    assert_eq!(known["durations_ms"].as_object().unwrap().len(), 4);
    assert_eq!(known["slack_ms"].as_object().unwrap().len(), 4);
    // One sample a step: every draw is the same.
    assert_eq!(known["low_ms"], known["high_ms"]);
    let alone = server.get("/pipelines/diamond/what-if?workers=1").await.json();
    assert_eq!(alone["duration_ms"], alone["work_ms"]);
    for wrong in ["0", "100001", "many", ""] {
        let answer = server.get(&format!("/pipelines/diamond/what-if?workers={wrong}")).await;
        assert_eq!(answer.status, 422, "{wrong}");
    }
    assert_eq!(server.get("/pipelines/nothing/what-if").await.status, 404);
}

#[tokio::test]
async fn the_critical_path_says_what_to_speed_up_first() {
    let server = server().await;
    let edges = server.get("/pipelines/gate/critical-path").await.json();
    assert_eq!(edges["speed_up"], json!([]));
    let run = server.start("gate", json!({})).await;
    tokio::time::sleep(std::time::Duration::from_millis(60)).await;
    server.post(&format!("/runs/{run}/signals/go"), json!(1)).await;
    until_ended(&server, &run).await;
    let timed = server.get("/pipelines/gate/critical-path?weight=duration").await.json();
    assert_eq!(timed["speed_up"][0]["task"], "ask", "{timed}");
    assert_eq!(
        timed["speed_up"][0]["gain_ms"],
        timed["duration_ms"].as_u64().unwrap() - after(&timed),
        "{timed}"
    );
    assert!(timed["speed_up"][0]["gain_ms"].as_u64().unwrap() >= 60, "{timed}");
}

/// What `after` takes, by what the path is longer than its first task.
fn after(path: &Value) -> u64 {
    let gains = path["speed_up"].as_array().unwrap();
    gains.iter().find(|gain| gain["task"] == "after").map_or(0, |gain| gain["gain_ms"].as_u64().unwrap())
}

#[tokio::test]
async fn a_run_under_way_says_when_it_will_have_ended() {
    let server = server().await;
    let first = server.start("gate", json!({})).await;
    let unknown = server.get(&format!("/runs/{first}/estimate")).await.json();
    assert_eq!((&unknown["basis"], &unknown["finish_at"]), (&json!("unknown"), &Value::Null), "{unknown}");
    assert_eq!(unknown["unmeasured"], json!(["ask", "after"]));
    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    server.post(&format!("/runs/{first}/signals/go"), json!(1)).await;
    until_ended(&server, &first).await;
    let done = server.get(&format!("/runs/{first}/estimate")).await.json();
    let run = server.get(&format!("/runs/{first}")).await.json();
    assert_eq!((&done["basis"], &done["finish_at"]), (&json!("ended"), &run["finished_at"]));

    let second = server.start("gate", json!({})).await;
    let known = server.get(&format!("/runs/{second}/estimate")).await.json();
    assert_eq!((&known["basis"], &known["unmeasured"]), (&json!("draws"), &json!([])), "{known}");
    let [at, low, finish, high] = ["at", "low", "finish_at", "high"].map(|field| time(&known[field]));
    assert!(at <= low && low <= finish && finish <= high, "{known}");
    let overdue = async || server.get(&format!("/runs/{second}/estimate")).await.json();
    // It waits for longer than the first did.
    until(async || (overdue().await["overdue"] == json!(["ask"])).then_some(())).await;
    // Nobody can say when somebody will give the signal.
    let late = overdue().await;
    assert_eq!(
        (&late["basis"], &late["finish_at"], &late["high"]),
        (&json!("unknown"), &Value::Null, &Value::Null),
        "{late}"
    );
}
