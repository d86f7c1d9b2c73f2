//! Pipelines: lists, definitions, starting runs.

use http::Method;
use serde_json::{Value, json};

use crate::support::{server, until};

fn ids(page: &Value) -> Vec<&str> {
    page["pipelines"].as_array().unwrap().iter().map(|row| row["id"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn a_list_shows_what_may_be_read() {
    let server = server().await;
    let list = async |key: &str| server.call(Method::GET, "/pipelines").key(key).send().await;
    assert_eq!(ids(&list("admin-key").await.json()), ["diamond", "failing", "gate", "python", "secret"]);
    assert_eq!(ids(&list("reader-key").await.json()), ["diamond", "failing", "gate", "python"]);
    assert_eq!(ids(&list("viewer-key").await.json()), ["diamond", "gate"]);
    assert_eq!(list("runner-key").await.status, 403);
}

#[tokio::test]
async fn a_list_comes_in_pages() {
    let server = server().await;
    let mut seen = Vec::new();
    let mut path = "/pipelines?limit=2".to_owned();
    loop {
        let page = server.get(&path).await.json();
        assert!(ids(&page).len() <= 2);
        seen.extend(ids(&page).into_iter().map(str::to_owned));
        match page["next_cursor"].as_str() {
            Some(cursor) => path = format!("/pipelines?limit=2&cursor={cursor}"),
            None => break,
        }
    }
    assert_eq!(seen, ["diamond", "failing", "gate", "python", "secret"]);
    assert_eq!(server.get("/pipelines?limit=5").await.json()["next_cursor"], Value::Null);
}

#[tokio::test]
async fn a_row_counts_tasks_and_edges_and_shows_the_last_run() {
    let server = server().await;
    let row = async || server.get("/pipelines?limit=1").await.json()["pipelines"][0].clone();
    let before = row().await;
    assert_eq!(before["last_run"], Value::Null);
    let expected = json!({"id": "diamond", "description": "A diamond", "version": 1, "task_count": 4, "node_count": 4, "edge_count": 4, "has_dag": true, "last_run": null});
    assert_eq!(before, expected);
    let run = server.run("diamond", json!({})).await;
    let last = &row().await["last_run"];
    assert_eq!((&last["run_id"], &last["status"]), (&json!(run), &json!("completed")));
}

#[tokio::test]
async fn a_pipeline_is_shown_with_its_inputs_as_json_schema() {
    let server = server().await;
    let shown = server.get("/pipelines/diamond").await.json();
    assert_eq!(
        shown["inputs"]["properties"]["number"],
        json!({"type": "integer", "default": 2, "minimum": 0})
    );
    assert_eq!(
        (&shown["style"], &shown["origin"], &shown["outputs"]),
        (&json!("dataflow"), &json!("program"), &json!(["total"]))
    );
    assert_eq!(shown["tasks"][3]["inputs"], json!(["doubled", "tripled"]));
    assert_eq!(shown["definition"]["tasks"][0]["expression"], "number + 1");
    let undeclared = server.get("/pipelines/secret").await.json();
    assert_eq!(undeclared["inputs"]["required"], json!(["name"]));
}

#[tokio::test]
async fn a_run_is_accepted_or_waited_for() {
    let server = server().await;
    let answer = server.post("/pipelines/diamond/execute", json!({"parameters": {"number": 1}})).await;
    assert_eq!(answer.status, 202);
    let accepted = answer.json();
    assert_eq!((&accepted["pipeline_id"], &accepted["status"]), (&json!("diamond"), &json!("queued")));
    assert_eq!(answer.header("location"), format!("/runs/{}", accepted["run_id"].as_str().unwrap()));
    let done =
        server.post("/pipelines/diamond/execute", json!({"parameters": {"number": 1}, "wait": true})).await;
    assert_eq!(done.status, 200);
    assert_eq!(
        (&done.json()["status"], &done.json()["result"]),
        (&json!("completed"), &json!({"total": 10}))
    );
    let failed = server.post("/pipelines/failing/execute", json!({"wait": true})).await;
    assert_eq!((failed.status, &failed.json()["status"]), (200, &json!("failed")));
    assert_eq!(failed.json()["error"]["step"], "bad");
    // It has not ended by the timeout, and goes on.
    let waiting = server.post("/pipelines/gate/execute", json!({"wait": true, "timeout": 0.05})).await;
    assert_eq!((waiting.status, &waiting.json()["status"]), (202, &json!("running")));
    assert_eq!(server.post("/pipelines/missing/execute", json!({})).await.status, 404);
    let python = server.post("/pipelines/python/execute", json!({})).await.problem();
    assert_eq!((&python["status"], &python["type"]), (&json!(409), &json!("/docs/errors/not-runnable")));
    assert!(python["detail"].as_str().unwrap().contains("broker_url"), "{python}");
}

#[tokio::test]
async fn more_than_the_priority_of_the_pipeline_is_for_its_administrators() {
    let server = server().await;
    let with = |key: &'static str, priority: u8| {
        let call = server.call(Method::POST, "/pipelines/diamond/execute").key(key);
        call.json(&json!({"priority": priority})).send()
    };
    assert_eq!(with("runner-key", 5).await.status, 202);
    let refused = with("runner-key", 6).await;
    assert_eq!((refused.status, refused.fields()), (422, vec!["priority".to_owned()]));
    assert_eq!(with("admin-key", 9).await.status, 202);
}

#[tokio::test]
async fn who_may_start_and_not_read_is_told_no_result() {
    let server = server().await;
    let body = json!({"wait": true});
    let answer =
        server.call(Method::POST, "/pipelines/diamond/execute").key("runner-key").json(&body).send().await;
    assert_eq!((answer.status, &answer.json()["status"]), (200, &json!("completed")));
    assert_eq!(answer.json()["result"], Value::Null);
}

#[tokio::test]
async fn a_status_is_that_of_the_newest_run() {
    let server = server().await;
    let status = async || server.get("/pipelines/gate/status").await.json();
    let never = status().await;
    assert_eq!(
        (&never["status"], &never["run_id"], &never["total_steps"]),
        (&json!("registered"), &Value::Null, &json!(2))
    );
    let run = server.start("gate", json!({})).await;
    let running =
        until(async || Some(status().await).filter(|shown| shown["steps"][0]["status"] == "running")).await;
    assert_eq!(
        (&running["run_id"], &running["status"], &running["steps_completed"]),
        (&json!(run), &json!("running"), &json!(0))
    );
    assert_eq!(server.post(&format!("/runs/{run}/signals/go"), json!(7)).await.status, 202);
    let done = until(async || Some(status().await).filter(|shown| shown["status"] == "completed")).await;
    assert_eq!((&done["result"], &done["steps_completed"]), (&json!({"result": [7, 1]}), &json!(2)));
    assert_eq!(done["steps"][1]["attempt"], 1);
    assert!(done["steps"][1]["duration_ms"].is_u64());
}
