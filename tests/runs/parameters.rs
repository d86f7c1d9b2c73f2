//! Parameters and idempotency keys.

use http::Method;
use serde_json::{Value, json};

use crate::support::*;

const TYPED: &str = "id: typed\ninputs:\n  count: { type: integer, minimum: 1 }\n  name: { type: string, default: x }\n\
    tasks:\n  - name: repeat\n    expression: name * count\n    inputs: [count, name]\n    output: text\n";

#[tokio::test]
async fn a_missing_unknown_or_ill_typed_parameter_is_422_and_starts_nothing() {
    let server = server().pipeline(TYPED).start().await;
    let client = client(&server);
    for (parameters, field) in [
        (json!({}), "count"),
        (json!({ "count": "three" }), "count"),
        (json!({ "count": 1.5 }), "count"),
        (json!({ "count": null }), "count"),
        (json!({ "count": 0 }), "count"),
        (json!({ "count": 1, "name": 2 }), "name"),
        (json!({ "count": 1, "nmae": "y" }), "nmae"),
    ] {
        let reply = client.post("/pipelines/typed/execute", &json!({ "parameters": parameters })).await;
        assert_eq!(reply.status, 422, "{parameters}: {}", reply.text());
        assert_eq!(reply.header("Content-Type"), "application/problem+json");
        let problem = reply.json();
        let errors = problem["errors"].as_array().cloned().unwrap_or_default();
        assert_eq!(errors.len(), 1, "{parameters}: {problem}");
        let named = errors[0]["field"].as_str().unwrap();
        assert!(named.contains(field), "{parameters}: {problem}");
        assert!(errors[0]["message"].as_str().is_some_and(|text| !text.is_empty()), "{problem}");
    }
    // All mistakes at once.
    let both =
        client.post("/pipelines/typed/execute", &json!({ "parameters": { "name": 2 } })).await.expect(422);
    assert_eq!(both.json()["errors"].as_array().map(Vec::len), Some(2), "{}", both.text());
    assert_eq!(runs(&client).await, 0, "nothing was started");
    let good = json!({ "parameters": { "count": 3 }, "wait": true });
    let done = client.post("/pipelines/typed/execute", &good).await.expect(200).json();
    assert_eq!(done["result"], json!({ "text": "xxx" }));
}

#[tokio::test]
async fn a_body_that_is_no_request_is_refused_for_what_it_is() {
    let server = server().pipeline(TYPED).env("TASKIQ_FLOW_MAX_BODY_BYTES", "4096").start().await;
    let client = client(&server);
    let path = "/pipelines/typed/execute";
    let send = async |media_type: &str, body: &str| {
        client.send_text(Method::POST, path, media_type, body).await.status
    };
    assert_eq!(send("application/json", "{\"parameters\":").await, 400);
    assert_eq!(send("application/json", "{\"parameters\":{\"count\":1},\"wiat\":true}").await, 400);
    assert!(matches!(send("application/json", "[]").await, 400 | 422));
    assert_eq!(send("text/plain", "{\"parameters\":{\"count\":1}}").await, 415);
    assert_eq!(
        send("application/json", &format!("{{\"parameters\":{{\"name\":\"{}\"}}}}", "x".repeat(5000))).await,
        413
    );
    assert_eq!(client.get(path).await.status, 405);
    assert_eq!(client.post("/pipelines/missing/execute", &json!({})).await.status, 404);
    assert_eq!(runs(&client).await, 0);
}

#[tokio::test]
async fn the_same_idempotency_key_is_the_same_run() {
    let server = server().pipeline(TYPED).start().await;
    let client = client(&server);
    let post = async |key: &str, count: u32| -> Value {
        let body = json!({ "parameters": { "count": count } });
        let reply =
            client.clone().header("Idempotency-Key", key).post("/pipelines/typed/execute", &body).await;
        assert!(matches!(reply.status, 200 | 202), "{}", reply.text());
        reply.json()["run_id"].clone()
    };
    let first = post("order-1", 2).await;
    assert_eq!(post("order-1", 2).await, first);
    assert_ne!(post("order-2", 2).await, first);
    // Ten at the same time are one run, too.
    let calls = (0..10).map(|_| post("order-3", 2));
    let mut ids = Vec::new();
    for id in futures_util::future::join_all(calls).await {
        ids.push(id.as_str().unwrap().to_owned());
    }
    ids.dedup();
    assert_eq!(ids.len(), 1, "{ids:?}");
    assert_eq!(runs(&client).await, 3);
}

#[tokio::test]
async fn waiting_has_an_end_and_the_run_goes_on() {
    let server = server().pipeline(&script("slow", "sleep 6; echo 1", "")).start().await;
    let client = client(&server);
    let body = json!({ "wait": true, "timeout": 1 });
    let begun = std::time::Instant::now();
    let reply = client.post("/pipelines/slow/execute", &body).await.expect(202).json();
    assert!(begun.elapsed() < std::time::Duration::from_secs(5), "{:?}", begun.elapsed());
    let view = ended(&client, reply["run_id"].as_str().unwrap()).await;
    assert_eq!((&view["status"], &view["result"]), (&json!("completed"), &json!({ "out": 1 })));
}
