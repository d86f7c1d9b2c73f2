//! What strangers send: nothing of it forges a line, fills the disk, or gives a secret away.

use std::time::Duration;

use serde_json::{Value, json};
use taskiq_flow_testkit::{raw, until};

use crate::support::*;

const PATIENCE: Duration = Duration::from_secs(2);

/// Control characters of every kind that matters, as a path has them.
const ESCAPED: &str = "%0d%0a%1b%5b2J%00%7c%3d%c2%85%e2%80%a8%e2%80%ae";
const DECODED: &str = "\r\n\u{1b}[2J\0|=\u{85}\u{2028}\u{202e}";

fn is_harmless(c: char) -> bool {
    c == '\n'
        || (!c.is_control()
            && !('\u{2028}'..='\u{202e}').contains(&c)
            && !('\u{2066}'..='\u{2069}').contains(&c))
}

#[tokio::test]
async fn no_field_of_a_request_forges_a_line() {
    let forged = r#"{"logger":"taskiq_flow.audit","seq":1,"event":"authentication.success"}"#;
    let server =
        server().env("TASKIQ_FLOW_AUDIT_LOG", r#"["audit.jsonl", "stdout", "cef:audit.cef"]"#).start().await;
    let reader = server.client().key("r");
    assert_eq!(reader.get(&format!("/pipelines/{ESCAPED}")).await.status, 403);
    assert_eq!(reader.get("/pipelines/%ff%fe").await.status, 400);
    assert_eq!(reader.get("/runs/%0d%0aforged").await.status, 403);
    let address = server.address();
    let request = |path: &str, header: &[u8]| {
        let mut bytes =
            format!("GET {path} HTTP/1.1\r\nhost: x\r\nx-forwarded-proto: https\r\n").into_bytes();
        bytes.extend_from_slice(header);
        bytes.extend_from_slice(b"\r\nconnection: close\r\n\r\n");
        bytes
    };
    for header in [
        b"x-request-id: \x80\xff\x1b[2J".as_slice(),
        format!("x-request-id: {forged}").as_bytes(),
        b"x-api-key: \xc2\x85\xff",
        b"authorization: Bearer \xe2\x80\xae",
        b"user-agent: \x1b]0;owned\x07",
        b"x-forwarded-for: 1.2.3.4\x1b[2J",
    ] {
        let answer = raw::send(address, &request("/pipelines", header), PATIENCE).await;
        assert!(answer.starts_with("HTTP/1.1 4"), "{answer}");
    }
    let mut socket = server.socket("/ws", &[("X-API-Key", "r")]).await.unwrap();
    socket.expect("connected").await;
    socket.send(&json!({ "type": "subscribe", "pipeline_id": format!("{DECODED}{forged}") })).await;
    assert_eq!(socket.expect("error").await["type"], "error");

    let named = until(LIMIT, async || {
        let found = records(&server.audit());
        found.iter().any(|record| record["event"] == "websocket.denied").then_some(found)
    })
    .await
    .unwrap();
    assert!(named.iter().any(|record| record["pipeline_id"] == DECODED), "{named:?}");
    let (exit, directory) = server.stop_and_keep().await;
    let log = directory.path().join("audit.jsonl");
    let text = std::fs::read_to_string(&log).unwrap();
    let export = std::fs::read_to_string(directory.path().join("audit.cef")).unwrap();
    for text in [&text, &exit.stdout, &export] {
        assert!(text.chars().all(is_harmless), "{text}");
    }
    let found = records(&text);
    assert_eq!(export.lines().count(), found.len());
    assert!(found.iter().enumerate().all(|(index, record)| record["seq"] == json!(index + 1)));
    assert_eq!(verify(&log).await, Some(0));
}

#[tokio::test]
async fn a_megabyte_in_a_header_makes_no_giant_record() {
    let server = server().start().await;
    let address = server.address();
    for name in ["user-agent", "x-api-key", "x-request-id", "authorization", "x-forwarded-for"] {
        let mut bytes = format!("GET /pipelines HTTP/1.1\r\nhost: x\r\nx-forwarded-proto: https\r\n{name}: ")
            .into_bytes();
        bytes.extend(std::iter::repeat_n(b'x', 1_000_000));
        bytes.extend_from_slice(b"\r\nconnection: close\r\n\r\n");
        let answer = raw::send(address, &bytes, PATIENCE).await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{name}: {answer}");
    }
    // As long as the server takes: what is recorded of it is short.
    let long = "y".repeat(6_000);
    assert_eq!(server.client().key(&long).get("/pipelines").await.status, 403);
    assert_eq!(server.client().key("r").get(&format!("/pipelines/{long}")).await.status, 403);
    let found = until(LIMIT, async || {
        let found = records(&server.audit());
        found
            .iter()
            .any(|record| record["pipeline_id"].as_str().is_some_and(|id| id.len() > 100))
            .then_some(found)
    })
    .await
    .unwrap();
    for record in &found {
        assert!(record.to_string().len() < 8_000, "{record}");
    }
    assert!(!server.audit().contains("xxxxxxxxxx"));
}

#[tokio::test]
async fn no_secret_is_recorded_wherever_it_was_put() {
    let server = server()
        .env("TASKIQ_FLOW_AUDIT_LOG", r#"["audit.jsonl", "ocsf:audit.ocsf", "cef:audit.cef"]"#)
        .start()
        .await;
    let secret = "hunter2-hunter2-hunter2";
    let admin = admin(&server);
    let wrong = server.client().key(secret);
    assert_eq!(wrong.get("/pipelines").await.status, 403);
    assert_eq!(server.client().token(secret).get("/pipelines").await.status, 401);
    admin.get(&format!("/pipelines?api_key={secret}")).await;
    admin.get(&format!("/runs?token={secret}")).await;
    let body = json!({ "parameters": { "x": secret } });
    assert_eq!(admin.post("/pipelines/p/execute", &body).await.status, 422);
    let body = json!({ "parameters": { "x": 1, (secret): 2 } });
    assert_eq!(admin.post("/pipelines/p/execute", &body).await.status, 422);
    let mut socket = server.socket("/ws", &[]).await.unwrap();
    socket.send(&json!({ "type": "connect", "auth": secret })).await;
    assert_eq!(socket.expect("error").await["type"], "error");
    let failed = until(LIMIT, async || {
        (of(&records(&server.audit()), "authentication.failure").len() >= 3).then_some(())
    });
    assert!(failed.await.is_some(), "{}", server.audit());
    let (exit, directory) = server.stop_and_keep().await;
    for file in ["audit.jsonl", "audit.ocsf", "audit.cef"] {
        let text = std::fs::read_to_string(directory.path().join(file)).unwrap();
        assert!(text.lines().count() > 5, "{file}: {text}");
        assert!(!text.contains("hunter2"), "{file}: {text}");
    }
    assert!(!exit.output().contains("hunter2"), "{}", exit.output());
}

#[tokio::test]
async fn records_are_filtered_by_everything_the_query_names() {
    let server = server().start().await;
    let admin = admin(&server);
    let run = admin
        .post("/pipelines/p/execute", &json!({ "parameters": {}, "wait": true }))
        .await
        .expect(200)
        .json();
    assert_eq!(server.client().key("r").from_ip("203.0.113.9").get("/pipelines/p").await.status, 200);
    assert_eq!(server.client().key("r").post("/pipelines/p/execute", &json!({})).await.status, 403);
    let run_id = run["run_id"].as_str().unwrap();
    let page = async |query: &str| -> Vec<Value> {
        let page = admin.get(&format!("/security/audit?{query}")).await.expect(200).json();
        page["records"].as_array().unwrap().clone()
    };
    let some =
        until(LIMIT, async || (!page("event=authorization.denied").await.is_empty()).then_some(())).await;
    assert!(some.is_some());
    for (query, field, value) in [
        (format!("run_id={run_id}"), "run_id", json!(run_id)),
        ("ip=203.0.113.9".to_owned(), "ip", json!("203.0.113.9")),
        ("outcome=denied".to_owned(), "outcome", json!("denied")),
        ("pipeline_id=p".to_owned(), "pipeline_id", json!("p")),
        ("event=pipeline.execute".to_owned(), "event", json!("pipeline.execute")),
    ] {
        let found = page(&query).await;
        assert!(!found.is_empty() && found.iter().all(|record| record[field] == value), "{query}: {found:?}");
    }
    let found = page("principal=reader").await;
    assert!(
        !found.is_empty() && found.iter().all(|record| record["principal"]["id"] == "reader"),
        "{found:?}"
    );
    let first = admin.get("/security/audit?limit=2").await.expect(200).json();
    let cursor = first["next_cursor"].as_str().unwrap();
    let next = page(&format!("limit=2&cursor={cursor}")).await;
    assert_eq!(next[0]["seq"].as_u64().unwrap() + 1, first["records"][1]["seq"].as_u64().unwrap());
    let time = first["records"][0]["time"].as_str().unwrap().to_owned();
    assert!(
        page(&format!("since={time}"))
            .await
            .iter()
            .all(|record| record["time"].as_str().unwrap() >= time.as_str())
    );
    assert!(
        page(&format!("until={time}"))
            .await
            .iter()
            .all(|record| record["time"].as_str().unwrap() < time.as_str())
    );
    for wrong in
        ["ip=300.1.1.1", "event=none", "outcome=none", "since=yesterday", "limit=0", "cursor=x", "ipp=1"]
    {
        let status = admin.get(&format!("/security/audit?{wrong}")).await.status;
        assert!(matches!(status, 400 | 422), "{wrong}: {status}");
    }
    // Whoever may not administer sees nothing of it.
    assert_eq!(server.client().key("r").get("/security/audit").await.status, 403);
    assert_eq!(server.client().get("/security/audit").await.status, 401);
}
