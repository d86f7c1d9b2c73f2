//! Copies of the records in the words of others.

use std::fs;

use serde_json::json;
use taskiq_flow_testkit::until;

use crate::support::*;

#[tokio::test]
async fn every_record_is_there_in_each_format() {
    let log = r#"["audit.jsonl", "ocsf:audit.ocsf", "cef:audit.cef"]"#;
    let server = server().env("TASKIQ_FLOW_AUDIT_LOG", log).start().await;
    let admin = admin(&server);
    admin.post("/pipelines/p/execute", &json!({ "parameters": {}, "wait": true })).await.expect(200);
    assert_eq!(server.client().key("wrong").get("/pipelines").await.status, 403);
    // Rotated while the server runs: the copies go on too.
    let (export, old) = (server.dir().join("audit.ocsf"), server.dir().join("audit.ocsf.1"));
    let there = until(LIMIT, async || {
        fs::read_to_string(&export).is_ok_and(|text| text.contains("Logon")).then_some(())
    });
    assert!(there.await.is_some());
    fs::rename(&export, &old).unwrap();
    let moved = until(LIMIT, async || {
        admin.get("/pipelines").await.expect(200);
        fs::metadata(&export).is_ok_and(|meta| meta.len() > 0).then_some(())
    });
    assert!(moved.await.is_some());
    let (exit, directory) = server.stop_and_keep().await;
    assert_eq!(exit.code, Some(0), "{}", exit.stderr);
    let text = |name: &str| fs::read_to_string(directory.path().join(name)).unwrap();
    let found = records(&text("audit.jsonl"));
    let ocsf = records(&(text("audit.ocsf.1") + &text("audit.ocsf")));
    let cef = text("audit.cef");
    let cef: Vec<&str> = cef.lines().collect();
    assert_eq!((ocsf.len(), cef.len()), (found.len(), found.len()));
    for ((record, ocsf), cef) in found.iter().zip(&ocsf).zip(cef) {
        assert_eq!(
            (&ocsf["metadata"]["uid"], &ocsf["metadata"]["sequence"]),
            (&record["hash"], &record["seq"])
        );
        let event = record["event"].as_str().unwrap();
        assert!(
            cef.starts_with(&format!("CEF:0|TaskIQ-Flow|taskiq-flow|{}|{event}|", env!("CARGO_PKG_VERSION"))),
            "{cef}"
        );
        assert!(cef.contains(&format!("externalId={} ", record["seq"])), "{cef}");
        let class = match event {
            "authentication.success" | "authentication.failure" => 3002,
            "audit.start" | "audit.stop" | "audit.gap" => 6002,
            _ => 6003,
        };
        assert_eq!(ocsf["class_uid"], json!(class), "{ocsf}");
    }
    // The chain is in the JSON file alone.
    assert_eq!(verify(&directory.path().join("audit.jsonl")).await, Some(0));
    assert_eq!(verify(&directory.path().join("audit.ocsf")).await, Some(1));
}

#[tokio::test]
async fn a_copy_that_cannot_be_written_stops_nobody_and_catches_up() {
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join("later/audit.cef");
    let server = server()
        .env("TASKIQ_FLOW_AUDIT_MODE", "required")
        .env("TASKIQ_FLOW_AUDIT_LOG", json!(["audit.jsonl", format!("cef:{}", copy.display())]).to_string())
        .start()
        .await;
    let admin = admin(&server);
    for _ in 0..5 {
        admin.get("/pipelines").await.expect(200);
    }
    assert_eq!(server.client().get("/ready").await.status, 200, "the chain is written");
    fs::create_dir(folder.path().join("later")).unwrap();
    let recorded = records(&server.audit()).len();
    let caught_up = until(LIMIT, async || {
        fs::read_to_string(&copy).is_ok_and(|text| text.lines().count() >= recorded).then_some(())
    });
    assert!(caught_up.await.is_some(), "{}", server.stderr());
    assert!(of(&records(&server.audit()), "audit.gap").is_empty(), "nothing is missing");
}
