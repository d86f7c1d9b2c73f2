//! Runs: lists, control, logs.

use http::Method;
use serde_json::{Value, json};

use crate::support::{Server, server, until};

async fn status_of(server: &Server, run: &str) -> Value {
    server.get(&format!("/runs/{run}")).await.json()["status"].clone()
}

async fn reaches(server: &Server, run: &str, status: &str) {
    until(async || (status_of(server, run).await == status).then_some(())).await;
}

fn ids(page: &Value) -> Vec<String> {
    page["runs"].as_array().unwrap().iter().map(|run| run["run_id"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn a_list_is_newest_first_filtered_and_paged() {
    let server = server().await;
    let mut diamonds = Vec::new();
    for _ in 0..3 {
        diamonds.push(server.run("diamond", json!({})).await);
    }
    diamonds.reverse();
    let failed = server.run("failing", json!({})).await;
    let all = server.get("/runs").await.json();
    assert_eq!(ids(&all), [vec![failed.clone()], diamonds.clone()].concat());
    assert_eq!(all["runs"][1]["trigger"], json!({"kind": "request", "principal": "admin"}));
    assert_eq!(ids(&server.get("/runs?pipeline_id=diamond").await.json()), diamonds);
    assert_eq!(ids(&server.get("/runs?status=failed").await.json()), [failed.as_str()]);
    assert!(ids(&server.get("/runs?status=failed&pipeline_id=diamond").await.json()).is_empty());
    let first = server.get("/runs?pipeline_id=diamond&limit=2").await.json();
    let cursor = first["next_cursor"].as_str().unwrap();
    let second = server.get(&format!("/runs?pipeline_id=diamond&limit=2&cursor={cursor}")).await.json();
    assert_eq!([ids(&first), ids(&second)].concat(), diamonds);
    assert_eq!(second["next_cursor"], Value::Null);
    let seen = server.call(Method::GET, "/runs").key("viewer-key").send().await.json();
    assert_eq!(ids(&seen), diamonds, "the viewer may not read `failing`");
}

#[tokio::test]
async fn runs_of_a_removed_pipeline_are_still_seen_by_who_may_see_all() {
    let server = server().await;
    let definition = json!({"tasks": [{"name": "one", "expression": "1", "output": "x"}]});
    assert_eq!(server.post("/pipelines/new", definition).await.status, 201);
    let run = server.run("new", json!({})).await;
    assert_eq!(server.call(Method::DELETE, "/pipelines/new").key("admin-key").send().await.status, 204);
    assert_eq!(ids(&server.get("/runs").await.json()), [run.as_str()]);
    assert_eq!(status_of(&server, &run).await, "completed");
    let seen = server.call(Method::GET, "/runs").key("viewer-key").send().await.json();
    assert!(ids(&seen).is_empty());
}

#[tokio::test]
async fn a_run_is_paused_resumed_and_cancelled() {
    let server = server().await;
    let run = server.start("gate", json!({})).await;
    reaches(&server, &run, "running").await;
    let control = async |what: &str| server.post(&format!("/runs/{run}/{what}"), json!({})).await;
    let paused = control("pause").await;
    assert_eq!(
        (paused.status, paused.json()),
        (202, json!({"run_id": run, "pipeline_id": "gate", "status": "paused"}))
    );
    assert_eq!(control("pause").await.problem()["status"], 409);
    assert_eq!(control("resume").await.json()["status"], "running");
    assert_eq!(control("resume").await.status, 409);
    assert_eq!(control("retry").await.status, 409, "it is under way");
    let reason = server.post(&format!("/runs/{run}/cancel"), json!({"reason": "x".repeat(1001)})).await;
    assert_eq!(reason.fields(), ["reason"]);
    assert_eq!(server.post(&format!("/runs/{run}/cancel"), json!({"why": "x"})).await.status, 400);
    let cancelled = server.post(&format!("/runs/{run}/cancel"), json!({"reason": "enough"})).await;
    assert_eq!((cancelled.status, &cancelled.json()["status"]), (202, &json!("cancelled")));
    assert_eq!(control("cancel").await.status, 409);
    let events = server.get(&format!("/runs/{run}/events")).await.text();
    assert!(events.contains("enough"), "{events}");
}

#[tokio::test]
async fn a_signal_needs_a_step_that_waits_for_it() {
    let server = server().await;
    let run = server.start("gate", json!({})).await;
    assert_eq!(server.post(&format!("/runs/{run}/signals/stop"), json!(1)).await.problem()["status"], 404);
    let taken = server.post(&format!("/runs/{run}/signals/go"), json!([1, {"deep": null}])).await;
    assert_eq!((taken.status, taken.json()), (202, json!({"run_id": run, "signal": "go"})));
    reaches(&server, &run, "completed").await;
    let shown = server.get(&format!("/runs/{run}")).await.json();
    assert_eq!(shown["result"], json!({"result": [[1, {"deep": null}], 1]}));
    assert_eq!(server.post(&format!("/runs/{run}/signals/go"), json!(1)).await.status, 409);
    // Without a body it is null.
    let other = server.start("gate", json!({})).await;
    let bare = server.call(Method::POST, &format!("/runs/{other}/signals/go")).key("admin-key").send().await;
    assert_eq!(bare.status, 202);
    reaches(&server, &other, "completed").await;
}

#[tokio::test]
async fn a_retry_is_a_new_run() {
    let server = server().await;
    let run = server.run("failing", json!({})).await;
    let retried = server.post(&format!("/runs/{run}/retry"), json!({})).await;
    assert_eq!(retried.status, 202);
    let new = retried.json()["run_id"].as_str().unwrap().to_owned();
    assert_ne!(new, run);
    assert_eq!(retried.header("location"), format!("/runs/{new}"));
    reaches(&server, &new, "failed").await;
    let shown = server.get(&format!("/runs/{new}")).await.json();
    assert_eq!(shown["steps"][0]["status"], "cached", "what was finished is taken over: {shown}");
    let listed = server.get("/runs?limit=1").await.json();
    assert_eq!(listed["runs"][0]["trigger"], json!({"kind": "retry", "run_id": run, "principal": "admin"}));
}

#[tokio::test]
async fn the_audit_log_names_the_run_that_a_retry_fork_or_replay_has_started() {
    let server = server().await;
    let definition = json!({"tasks": [{"name": "bad", "expression": "1 / 0", "on_error": "dead_letter"}]});
    assert_eq!(server.post("/pipelines/dead", definition).await.status, 201);
    let run = server.run("dead", json!({})).await;
    for (action, path) in [
        ("retry_run", format!("/runs/{run}/retry")),
        ("fork_run", format!("/runs/{run}/fork")),
        ("replay_dead_letter", format!("/dead-letters/{run}/0/replay")),
    ] {
        let answer = server.post(&path, json!({})).await;
        assert_eq!(answer.status, 202, "{answer:?}");
        let new = answer.json()["run_id"].as_str().unwrap().to_owned();
        let record =
            until(async || server.audit().into_iter().find(|record| record["action"] == action)).await;
        assert_eq!(record["event"], "run.control");
        assert_eq!(
            (&record["run_id"], &record["detail"]),
            (&json!(run), &json!(format!("started run {new}")))
        );
    }
    // One that starts none names none.
    assert_eq!(server.post(&format!("/runs/{run}/cancel"), json!({})).await.status, 409);
    let record =
        until(async || server.audit().into_iter().find(|record| record["action"] == "cancel_run")).await;
    assert_eq!((&record["status"], &record["detail"]), (&json!(409), &Value::Null));
}

#[tokio::test]
async fn logs_are_those_of_the_attempts() {
    let server = server().await;
    let run = server.run("diamond", json!({})).await;
    assert_eq!(server.get(&format!("/runs/{run}/logs")).await.json(), json!({"logs": []}));
}

#[tokio::test]
async fn the_items_of_a_step_are_read_in_pages() {
    let server = server().await;
    let definition = json!({"tasks": [{
        "name": "rows", "map": {"over": "xs", "expression": "10 / item", "on_item_error": "collect"}
    }]});
    assert_eq!(server.post("/pipelines/items", definition).await.status, 201);
    let run = server.run("items", json!({"xs": [1, "two", 5]})).await;
    let items = |query: &str| format!("/runs/{run}/steps/rows/items{query}");
    let first = server.get(&items("?limit=2")).await.json();
    assert_eq!(first["counts"], json!({"completed": 2, "failed": 1}));
    assert_eq!(first["items"][0]["step"], "rows[0]");
    assert_eq!(first["items"][0]["result"], 10.0);
    assert_eq!(first["items"][1]["status"], "failed");
    assert_eq!(first["items"][1]["code"], "expression");
    let cursor = first["next_cursor"].as_str().unwrap();
    let second = server.get(&items(&format!("?limit=2&cursor={cursor}"))).await.json();
    assert_eq!((&second["items"][0]["index"], &second["next_cursor"]), (&json!(2), &Value::Null));
    let failed = server.get(&items("?status=failed")).await.json();
    assert_eq!(failed["items"].as_array().map(Vec::len), Some(1));
    let shown = server.get(&format!("/runs/{run}")).await.json();
    assert_eq!(shown["status"], "completed");
    assert_eq!(shown["result"]["rows_errors"][0]["index"], 1);
    assert_eq!(shown["steps"][0]["item_counts"], json!({"completed": 2, "failed": 1}));
    assert_eq!(server.get(&items("?status=odd")).await.status, 422);
    assert_eq!(server.get(&items("?cursor=odd")).await.status, 422);
    assert_eq!(server.get(&format!("/runs/{run}/steps/nothing/items")).await.status, 404);
    for more in [".rows".repeat(400), "[0]".repeat(600)] {
        assert_eq!(server.get(&format!("/runs/{run}/steps/rows{more}/items")).await.status, 404);
    }
}

#[tokio::test]
async fn a_run_is_forked_with_other_parameters() {
    let server = server().await;
    let definition = json!({"tasks": [
        {"name": "a", "expression": "n", "inputs": ["n"]}, {"name": "b", "expression": "a + m", "inputs": ["a", "m"]}
    ]});
    assert_eq!(server.post("/pipelines/forks", definition).await.status, 201);
    let run = server.run("forks", json!({"n": 1, "m": 2})).await;
    let answer = server.post(&format!("/runs/{run}/fork"), json!({"parameters": {"m": 5}})).await;
    assert_eq!(answer.status, 202);
    let forked = answer.json()["run_id"].as_str().unwrap().to_owned();
    reaches(&server, &forked, "completed").await;
    let shown = server.get(&format!("/runs/{forked}")).await.json();
    assert_eq!((&shown["result"], &shown["steps"][0]["status"]), (&json!({"b": 6}), &json!("cached")));
    let unknown = server.post(&format!("/runs/{run}/fork"), json!({"from": "z"})).await;
    assert_eq!(unknown.status, 422);
    assert_eq!(unknown.json()["errors"][0]["field"], "from");
    assert_eq!(server.post(&format!("/runs/{run}/fork"), json!({"form": "a"})).await.status, 400);
}

#[tokio::test]
async fn dead_letters_are_listed_replayed_and_dropped_by_who_may() {
    let server = server().await;
    let definition = json!({"tasks": [
        {"name": "bad", "expression": "1 / n", "inputs": ["n"], "on_error": "dead_letter"}
    ]});
    assert_eq!(server.post("/pipelines/dead", definition).await.status, 201);
    let first = server.run("dead", json!({"n": "no number"})).await;
    let second = server.run("dead", json!({"n": "nor this"})).await;
    let page = server.get("/dead-letters?limit=1").await.json();
    assert_eq!(page["dead_letters"][0]["run_id"], second.as_str());
    assert_eq!(page["dead_letters"][0]["inputs"], json!({"n": "nor this"}));
    let cursor = page["next_cursor"].as_str().unwrap();
    let rest = server.get(&format!("/dead-letters?cursor={cursor}&pipeline_id=dead")).await.json();
    assert_eq!(rest["dead_letters"].as_array().map(Vec::len), Some(1));
    assert_eq!((&rest["dead_letters"][0]["run_id"], &rest["next_cursor"]), (&json!(first), &Value::Null));
    let shown = server.call(Method::GET, "/dead-letters").key("reader-key").send().await.json();
    let shown = shown["dead_letters"].as_array().unwrap();
    assert_eq!((shown.len(), shown[0].get("inputs")), (2, None), "a reader sees no parameters of runs");
    let hidden = server.call(Method::GET, "/dead-letters").key("viewer-key").send().await.json();
    assert_eq!(hidden["dead_letters"], json!([]), "the viewer may not read `dead`");
    let asked = server.call(Method::GET, "/dead-letters?pipeline_id=dead").key("viewer-key").send().await;
    assert_eq!(asked.status, 403);

    let replayed = server.post(&format!("/dead-letters/{first}/0/replay"), json!({})).await;
    assert_eq!(replayed.status, 202);
    let run = replayed.json()["run_id"].clone();
    reaches(&server, run.as_str().unwrap(), "failed").await;
    let open = server.get("/dead-letters?replayed=false").await.json();
    let runs: Vec<_> =
        open["dead_letters"].as_array().unwrap().iter().map(|letter| &letter["run_id"]).collect();
    assert_eq!(runs, [&run, &json!(second)], "the replay has failed too, and is a letter of its own");
    let gone =
        server.call(Method::DELETE, &format!("/dead-letters/{second}/0")).key("admin-key").send().await;
    assert_eq!(gone.status, 204);
    let gone =
        server.call(Method::DELETE, &format!("/dead-letters/{second}/0")).key("admin-key").send().await;
    assert_eq!(gone.status, 404);
    assert_eq!(server.post(&format!("/dead-letters/{second}/x/replay"), json!({})).await.status, 404);
}
