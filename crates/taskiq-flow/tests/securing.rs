//! The guide's complete example, as the example program has it, started and asked.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "../examples/securing_a_pipeline.rs"]
#[allow(dead_code, reason = "its `main` is for people")]
mod example;

use std::sync::Arc;

use serde_json::json;
use taskiq_flow::security::AuditLogger;
use taskiq_flow::store::MemoryStore;
use taskiq_flow_testkit::Client;
use tokio_util::sync::CancellationToken;

#[tokio::test]
async fn the_example_refuses_strangers_and_serves_its_processor() {
    let mut config = example::config();
    config.port = 0;
    let api = example::api(config, AuditLogger::new()).unwrap().store(Arc::new(MemoryStore::new()));
    let server = api.start().await.unwrap();
    let listener = server.bind().await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let stop = CancellationToken::new();
    let stopped = stop.clone();
    let serving = tokio::spawn(async move { server.serve_on(listener, stopped.cancelled_owned()).await });

    let client = Client::new(&base);
    assert_eq!(client.get("/pipelines").await.status, 403, "plain HTTP");
    let client = client.header("x-forwarded-proto", "https");
    assert_eq!(client.get("/pipelines").await.status, 401, "no key");
    assert_eq!(client.clone().key("invalid-key").get("/pipelines").await.status, 403, "an unknown key");
    let processor = client.clone().key("processor-key");
    assert_eq!(processor.get("/pipelines").await.status, 200);
    let body = json!({ "parameters": { "numbers": [1, -2, 3.5] }, "wait": true });
    let ended = processor.post("/pipelines/data-pipeline/execute", &body).await;
    assert_eq!(ended.json()["result"], json!({ "summary": { "count": 2, "sum": 4.5 } }));
    assert_eq!(processor.get("/security/config").await.status, 403, "it is no admin");
    assert_eq!(client.key("admin-key").get("/security/config").await.status, 200);

    stop.cancel();
    serving.await.unwrap();
}
