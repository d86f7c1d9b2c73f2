//! What is recorded of WebSockets: who came, what they asked for, and why they went.

use std::time::Duration;

use serde_json::json;
use taskiq_flow_testkit::until;

use crate::support::*;

const CONFIG: &str = r#"
rate_limit_enabled = false
require_https = false
[api_keys.k]
id = "admin"
role = "admin"
pipelines = ["*"]
permissions = ["read", "execute", "admin"]
"#;
const READER: &str =
    "[api_keys.r]\nid = \"reader\"\nrole = \"viewer\"\npipelines = [\"p\"]\npermissions = [\"read\"]\n";

#[tokio::test]
async fn coming_asking_being_sent_away_and_leaving_are_recorded() {
    let server = server()
        .without_env("TASKIQ_FLOW_API_KEYS")
        .without_env("TASKIQ_FLOW_RATE_LIMIT_ENABLED")
        .config_toml(&format!("{CONFIG}{READER}"))
        .start()
        .await;
    let mut stays = server.socket("/ws", &[("X-API-Key", "r")]).await.unwrap();
    stays.expect("connected").await;
    stays.send(&json!({ "type": "subscribe", "pipeline_id": "p" })).await;
    stays.expect("subscribed").await;
    let mut asks = server.socket("/ws", &[("X-API-Key", "r")]).await.unwrap();
    asks.expect("connected").await;
    asks.send(&json!({ "type": "subscribe", "pipeline_id": "other" })).await;
    asks.expect("error").await;
    assert_eq!(asks.expect_close(Duration::from_secs(5)).await.0, 1008);
    // The key is taken away: the socket is sent away.
    std::fs::write(server.dir().join("taskiq-flow.test.toml"), CONFIG).unwrap();
    server.hangup();
    stays.expect("error").await;
    assert_eq!(stays.expect_close(Duration::from_secs(5)).await.0, 1008);
    let mut leaves = server.socket("/ws", &[("X-API-Key", "k")]).await.unwrap();
    leaves.expect("connected").await;
    leaves.close().await;

    let all = until(LIMIT, async || {
        let all = records(&server.audit());
        (of(&all, "websocket.close").len() == 3).then_some(all)
    })
    .await
    .unwrap_or_else(|| panic!("{}\n{}", server.audit(), server.stderr()));
    let connects = of(&all, "websocket.connect");
    assert_eq!(connects.len(), 3);
    let subscribed = of(&all, "websocket.subscribe");
    assert_eq!(subscribed.len(), 1);
    assert_eq!(
        (&subscribed[0]["pipeline_id"], &subscribed[0]["principal"]["id"]),
        (&json!("p"), &json!("reader"))
    );
    let denied = of(&all, "websocket.denied");
    assert!(
        denied.iter().any(|record| record["pipeline_id"] == "other" && record["outcome"] == "denied"),
        "{denied:?}"
    );
    let closes = of(&all, "websocket.close");
    let reason = |id: &serde_json::Value| {
        let close = closes.iter().find(|close| close["request_id"] == *id).unwrap();
        (close["status"].clone(), close["detail"].as_str().unwrap().to_owned())
    };
    let (code, why) = reason(&subscribed[0]["request_id"]);
    assert!(code == json!(1008) && why.contains("credential"), "{code} {why}");
    let changed = of(&all, "security.config_change");
    assert!(
        changed
            .iter()
            .any(|change| change["detail"].as_str().is_some_and(|detail| detail.contains("api_keys")))
    );
}
