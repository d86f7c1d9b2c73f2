//! Kept values: how many there are, and who may forget them.

use http::Method;
use serde_json::json;

use crate::support::server;

#[tokio::test]
async fn kept_values_are_counted_for_readers_and_forgotten_by_who_may_start_runs() {
    let server = server().await;
    let definition = json!({"tasks": [
        {"name": "a", "expression": "n + 1", "inputs": ["n"], "cache": {"ttl": "1h"}},
        {"name": "b", "expression": "a + 1", "inputs": ["a"], "cache": {"key": "a", "version": "2"}},
    ]});
    for id in ["kept", "other"] {
        assert_eq!(server.post(&format!("/pipelines/{id}"), definition.clone()).await.status, 201);
        server.run(id, json!({"n": 1})).await;
    }
    let empty = server.get("/pipelines/diamond/cache").await.json();
    assert_eq!(empty, json!({"pipeline_id": "diamond", "tasks": []}));
    let all = json!([{"task": "a", "entries": 1, "bytes": 1}, {"task": "b", "entries": 1, "bytes": 1}]);
    assert_eq!(server.get("/pipelines/kept/cache").await.json()["tasks"], all);
    let run = server.run("kept", json!({"n": 1})).await;
    let shown = server.get(&format!("/runs/{run}")).await.json();
    assert_eq!((&shown["counts"], &shown["result"]), (&json!({"cached": 2}), &json!({"b": 3})));

    let forget = |path: &str, key: &str| {
        let (path, key) = (path.to_owned(), key.to_owned());
        let server = &server;
        async move { server.call(Method::DELETE, &path).key(&key).send().await }
    };
    let viewer = forget("/pipelines/diamond/cache", "viewer-key").await;
    assert_eq!(viewer.status, 403, "who may only read forgets nothing");
    assert_eq!(forget("/pipelines/kept/cache?job=a", "admin-key").await.status, 400);
    assert_eq!(forget("/pipelines/nothing/cache", "admin-key").await.status, 404);
    let one = forget("/pipelines/kept/cache?task=a", "admin-key").await;
    assert_eq!((one.status, one.json()), (200, json!({"removed": 1})));
    assert_eq!(server.get("/pipelines/kept/cache").await.json()["tasks"][0]["task"], "b");
    assert_eq!(forget("/pipelines/kept/cache", "admin-key").await.json(), json!({"removed": 1}));
    assert_eq!(forget("/pipelines/kept/cache", "admin-key").await.json(), json!({"removed": 0}));
    assert_eq!(server.get("/pipelines/other/cache").await.json()["tasks"], all, "that of another pipeline");
}

#[tokio::test]
async fn who_may_not_see_a_pipeline_does_not_see_what_it_has_kept() {
    let server = server().await;
    let asked = server.call(Method::GET, "/pipelines/secret/cache").key("viewer-key").send().await;
    assert_eq!(asked.status, 403);
    let nothing = server.call(Method::GET, "/pipelines/nothing/cache").key("viewer-key").send().await;
    assert_eq!(nothing.status, 403, "nor whether it is there");
}
