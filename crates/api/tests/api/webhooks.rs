//! Webhooks: what administrators see of them and do with them.

use std::collections::BTreeMap;
use std::time::Duration;

use http::Method;
use serde_json::{Value, json};
use taskiq_flow_engine::{Webhook, WebhookSpec};
use taskiq_flow_testkit::{Reaction, Receiver};

use crate::support::{Server, server_with, until};

const SECRET: &str = "hunter2-and-some-more";

async fn with_webhook(receiver: &Receiver) -> Server {
    let spec = WebhookSpec {
        name: "ops".to_owned(),
        url: format!("{}?token=hunter2", receiver.url()).into(),
        secret: SECRET.into(),
        events: vec!["PipelineErrorEvent".to_owned()],
        pipelines: vec!["*".to_owned()],
        headers: BTreeMap::from([("Authorization".to_owned(), "hunter2".into())]),
        allow_internal: true,
        timeout: Some(Duration::from_secs(5)),
    };
    let webhooks = Some(vec![Webhook::new(spec).unwrap()]);
    server_with(|setup| setup.engine.webhooks = webhooks).await
}

async fn webhook_when(server: &Server, test: impl Fn(&Value) -> bool) -> Value {
    until(async || {
        let listed = server.get("/webhooks").await;
        assert!(!String::from_utf8_lossy(&listed.bytes).contains("hunter2"));
        Some(listed.json()["webhooks"][0].clone()).filter(&test)
    })
    .await
}

#[tokio::test]
async fn administrators_see_how_webhooks_fare_and_test_them() {
    let receiver = Receiver::start().await;
    let server = with_webhook(&receiver).await;
    let origin = receiver.url().trim_end_matches("/hook").to_owned();
    let listed = server.get("/webhooks").await.json();
    let expected = json!({"webhooks": [{
        "name": "ops", "status": "idle", "url": origin, "events": ["PipelineErrorEvent"], "pipelines": ["*"],
        "waiting": 0, "dead": 0, "delivered": 0, "failed": 0, "last_delivered_at": null, "last_error": null,
        "last_error_at": null,
    }]});
    assert_eq!(listed, expected);
    let shown = server.get("/security/config").await;
    assert!(!String::from_utf8_lossy(&shown.bytes).contains("hunter2"));
    let shown = &shown.json()["webhooks"][0];
    assert_eq!(
        (&shown["url"], &shown["secret"]),
        (&json!(format!("{origin}/[redacted]")), &json!("[redacted]"))
    );
    assert_eq!(shown["headers"], json!({"Authorization": "[redacted]"}));

    let tested = server.post("/webhooks/ops/test", json!({})).await.json();
    assert_eq!(
        (&tested["delivered"], &tested["status"], &tested["error"]),
        (&json!(true), &json!(204), &Value::Null)
    );
    let received = receiver.received();
    assert!(received[0].is_signed_by(SECRET));
    assert_eq!(
        (&received[0].json()["id"], &received[0].json()["event"]["type"]),
        (&tested["id"], &json!("TestEvent"))
    );
    receiver.react(Reaction::Answer(500, Vec::new(), "hunter2".to_owned()));
    let tested = server.post("/webhooks/ops/test", json!({})).await.json();
    assert_eq!((&tested["delivered"], &tested["status"]), (&json!(false), &json!(500)));
    assert_eq!(tested["error"], "the receiver answered 500 Internal Server Error");
    assert_eq!(server.post("/webhooks/other/test", json!({})).await.status, 404);
    for key in ["reader-key", "limited-admin-key"] {
        let refused = server.call(Method::POST, "/webhooks/ops/test").key(key).json(&json!({})).send().await;
        assert_eq!(refused.status, 403, "{key}");
        assert_eq!(server.call(Method::GET, "/webhooks").key(key).send().await.status, 403, "{key}");
    }
}

#[tokio::test]
async fn what_waits_is_listed_and_what_is_not_there_is_404() {
    let receiver = Receiver::start().await;
    receiver.react(Reaction::status(503));
    let server = with_webhook(&receiver).await;
    let run = server.run("failing", json!({})).await;
    let webhook = webhook_when(&server, |webhook| webhook["status"] == "failing").await;
    assert_eq!((&webhook["waiting"], &webhook["failed"]), (&json!(1), &json!(1)));
    assert_eq!(webhook["last_error"], "the receiver answered 503 Service Unavailable");
    let page = server.get("/webhooks/ops/deliveries?status=waiting&limit=1").await.json();
    let [delivery] = page["deliveries"].as_array().unwrap().as_slice() else { panic!("{page}") };
    assert_eq!((&delivery["event"], &delivery["run_id"]), (&json!("PipelineErrorEvent"), &json!(run)));
    assert_eq!((&delivery["status"], &delivery["pipeline_id"]), (&json!("waiting"), &json!("failing")));
    let id = delivery["id"].as_str().unwrap();
    assert_eq!(server.get("/webhooks/ops/deliveries").await.json()["deliveries"], json!([]), "none is dead");
    // It waits, and needs no replay.
    assert_eq!(server.post(&format!("/webhooks/ops/deliveries/{id}/replay"), json!({})).await.status, 404);
    assert_eq!(server.post("/webhooks/ops/deliveries/x/replay", json!({})).await.status, 404);
    assert_eq!(server.get("/webhooks/other/deliveries").await.status, 404);
    for query in ["status=lost", "cursor=x", "cursor=1_2", "limit=0"] {
        assert_eq!(server.get(&format!("/webhooks/ops/deliveries?{query}")).await.status, 422, "{query}");
    }
    receiver.react(Reaction::status(200));
    webhook_when(&server, |webhook| webhook["status"] == "ok" && webhook["waiting"] == 0).await;
}

#[tokio::test]
async fn a_definition_that_names_no_webhook_is_refused() {
    let server = server_with(|setup| setup.engine.webhooks = Some(Vec::new())).await;
    let definition = |names: Value| json!({"tasks": [{"name": "one", "expression": "1"}], "on_event": names});
    let refused = server.post("/pipelines/new", definition(json!(["ops"]))).await;
    assert_eq!((refused.status, &refused.json()["errors"][0]["field"]), (422, &json!("on_event")));
    let refused = server.post("/pipelines/new", definition(json!(["https://example.com/"]))).await.json();
    assert_eq!(refused["errors"][0]["message"], "an address cannot stand here");
    assert_eq!(server.get("/webhooks").await.json(), json!({"webhooks": []}));
    drop(server);
    let silent = crate::support::server().await;
    assert_eq!(silent.get("/webhooks").await.json(), json!({"webhooks": []}));
}
