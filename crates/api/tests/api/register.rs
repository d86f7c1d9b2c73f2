//! Registering, changing and removing pipelines.

use http::Method;
use serde_json::{Value, json};

use crate::support::{Answer, Server, server, server_with};

fn definition() -> Value {
    json!({"inputs": {"n": {"type": "integer"}}, "tasks": [{"name": "double", "expression": "n * 2", "inputs": ["n"], "output": "twice"}]})
}

async fn send(server: &Server, method: Method, id: &str, key: &str, body: &Value) -> Answer {
    server.call(method, &format!("/pipelines/{id}")).key(key).json(body).send().await
}

#[tokio::test]
async fn a_pipeline_can_be_made_changed_run_and_removed() {
    let server = server().await;
    let mut wanted = definition();
    let made = send(&server, Method::POST, "new", "admin-key", &wanted).await;
    assert_eq!((made.status, made.header("location")), (201, "/pipelines/new"));
    assert_eq!(made.json(), json!({"id": "new", "version": 1, "changed": true}));
    assert_eq!(send(&server, Method::POST, "new", "admin-key", &wanted).await.problem()["status"], 409);
    let done = server.post("/pipelines/new/execute", json!({"parameters": {"n": 4}, "wait": true})).await;
    assert_eq!(done.json()["result"], json!({"twice": 8}));
    let same = send(&server, Method::PUT, "new", "admin-key", &wanted).await;
    assert_eq!((same.status, same.json()), (200, json!({"id": "new", "version": 1, "changed": false})));
    wanted["tasks"][0]["expression"] = json!("n * 3");
    let changed = send(&server, Method::PUT, "new", "admin-key", &wanted).await;
    assert_eq!((changed.status, changed.json()), (201, json!({"id": "new", "version": 2, "changed": true})));
    assert_eq!(server.get("/pipelines/new").await.json()["origin"], "api");
    let removed = server.call(Method::DELETE, "/pipelines/new").key("admin-key").send().await;
    assert_eq!((removed.status, removed.bytes.len()), (204, 0));
    assert_eq!(server.get("/pipelines/new").await.status, 404);
    let again = server.call(Method::DELETE, "/pipelines/new").key("admin-key").send().await;
    assert_eq!(again.status, 404);
}

#[tokio::test]
async fn what_comes_with_the_server_stays_as_it_is() {
    let server = server().await;
    for answer in [
        send(&server, Method::PUT, "diamond", "admin-key", &definition()).await,
        send(&server, Method::POST, "diamond", "admin-key", &definition()).await,
        server.call(Method::DELETE, "/pipelines/diamond").key("admin-key").send().await,
    ] {
        assert_eq!(answer.problem()["status"], 409);
    }
}

#[tokio::test]
async fn only_an_admin_of_that_pipeline_may() {
    let server = server().await;
    for (key, id, status) in [
        ("viewer-key", "new", 403),
        ("runner-key", "diamond", 403),
        ("reader-key", "new", 403),
        ("limited-admin-key", "other", 403),
        ("limited-admin-key", "new-one", 201),
    ] {
        assert_eq!(send(&server, Method::POST, id, key, &definition()).await.status, status, "{key} {id}");
    }
}

#[tokio::test]
async fn a_command_however_deep_is_refused_unless_allowed() {
    let deep = json!({"tasks": [{"name": "each", "inputs": ["list"], "output": "all",
        "map": {"over": "list", "as": "item", "group": [{"name": "a", "expression": "item"}, {"name": "b", "command": ["true"]}]}}]});
    let flat = json!({"tasks": [{"name": "run", "command": ["true"], "output": "out"}]});
    let undoing = json!({"tasks": [{"name": "a", "expression": "1", "output": "x", "compensate": {"command": ["true"]}}]});
    let undoing_deep = json!({"tasks": [{"name": "a", "expression": "1", "output": "x",
        "compensate": {"group": [{"name": "b", "command": ["true"]}]}}]});
    let server = server().await;
    for body in [&deep, &flat, &undoing, &undoing_deep] {
        let answer = send(&server, Method::POST, "new", "admin-key", body).await;
        assert_eq!(answer.problem()["type"], "/docs/errors/remote-command", "{body}");
        assert_eq!(answer.status, 403);
        assert_eq!(send(&server, Method::PUT, "new", "admin-key", body).await.status, 403);
    }
    assert_eq!(server.get("/pipelines/new").await.status, 404);
    let allowing = server_with(|setup| setup.api.allow_remote_commands = true).await;
    for (id, body) in [("a", &deep), ("b", &flat), ("c", &undoing), ("d", &undoing_deep)] {
        let answer = send(&allowing, Method::POST, id, "admin-key", body).await;
        assert_eq!(answer.status, 201, "{}", answer.text());
    }
}

#[tokio::test]
async fn a_bad_definition_is_refused_field_by_field() {
    let server = server().await;
    let post = async |id: &str, body: Value| send(&server, Method::POST, id, "admin-key", &body).await;
    let unknown = post("new", json!({"tasks": [{"name": "a", "expresion": "1"}]})).await;
    assert!(unknown.fields().iter().any(|field| field.starts_with("tasks.0")), "{}", unknown.text());
    let circle = json!({"tasks": [{"name": "a", "expression": "y", "inputs": ["y"], "output": "x"}, {"name": "b", "expression": "x", "inputs": ["x"], "output": "y"}]});
    let circle = post("new", circle).await;
    assert_eq!(circle.status, 422);
    assert!(circle.text().contains("circle") || circle.text().contains("cycle"), "{}", circle.text());
    let bad_expression =
        post("new", json!({"tasks": [{"name": "a", "expression": "1 +", "output": "x"}]})).await;
    assert!(bad_expression.fields()[0].starts_with("tasks.0.expression"), "{}", bad_expression.text());
    let mut other = definition();
    other["id"] = json!("another");
    assert_eq!(post("new", other).await.fields(), ["id"]);
    let mut named = definition();
    named["id"] = json!("new");
    assert_eq!(post("new", named).await.status, 201);
    assert_eq!(post("-bad-", definition()).await.fields(), ["id"]);
    assert_eq!(post("new2", json!([definition()])).await.status, 400);
}
