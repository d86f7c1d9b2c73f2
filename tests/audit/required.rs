//! `audit_mode = "required"`: what cannot be recorded is not done, and what was done can be found.

use std::fs;
use std::os::unix::fs::symlink;

use serde_json::{Value, json};
use taskiq_flow_testkit::{Client, Server, ServerBuilder, until};

use crate::support::*;

fn required(log: &Value) -> ServerBuilder {
    server().env("TASKIQ_FLOW_AUDIT_MODE", "required").env("TASKIQ_FLOW_AUDIT_LOG", log.to_string())
}

async fn execute(client: &Client) -> u16 {
    client.post("/pipelines/p/execute", &json!({ "parameters": {} })).await.status
}

/// How many runs there are, asked of the server's own store.
async fn runs(server: &Server) -> usize {
    let list = admin(server).get("/runs?limit=100").await.expect(200).json();
    list["runs"].as_array().map_or(0, Vec::len)
}

#[tokio::test]
async fn with_a_full_disk_nothing_is_executed_and_the_answer_is_503() {
    let folder = tempfile::tempdir().unwrap();
    let (file, link) = (folder.path().join("audit.jsonl"), folder.path().join("link"));
    symlink(&file, &link).unwrap();
    let server = required(&json!([link])).start().await;
    let admin = admin(&server);
    assert_eq!(execute(&admin).await, 202);
    assert_eq!(runs(&server).await, 1);

    fs::remove_file(&link).unwrap();
    symlink("/dev/full", &link).unwrap();
    for _ in 0..5 {
        let refused = admin.post("/pipelines/p/execute", &json!({ "parameters": {} })).await;
        assert_eq!(refused.status, 503, "{}", refused.text());
        assert_eq!(refused.json()["title"], "Audit log unavailable");
        // What cannot be recorded is not shown either, and a denial says the same.
        assert_eq!(admin.get("/pipelines").await.status, 503);
        assert_eq!(server.client().key("wrong").get("/pipelines").await.status, 503);
    }
    // Probes go on, and say what is wrong.
    assert_eq!(server.client().get("/health").await.status, 200);
    assert_eq!(server.client().get("/ready").await.status, 503);

    fs::remove_file(&link).unwrap();
    symlink(&file, &link).unwrap();
    let back = until(LIMIT, async || (admin.get("/pipelines").await.status == 200).then_some(())).await;
    assert!(back.is_some(), "{}", server.stderr());
    assert_eq!(runs(&server).await, 1, "none of the refused executions was done");
    let metrics = admin.get("/metrics").await.text();
    assert!(metrics.contains("taskiq_flow_audit_refused_total"), "{metrics}");
    let found = records(&fs::read_to_string(&file).unwrap());
    let gap = of(&found, "audit.gap");
    assert_eq!(gap.len(), 1, "{gap:?}");
    assert!(gap[0]["detail"].as_str().unwrap().contains("refused requests "), "{gap:?}");
    server.stop().await;
    assert_eq!(verify(&file).await, Some(0));
}

#[tokio::test]
async fn a_start_that_cannot_be_recorded_is_refused() {
    let exit = required(&json!(["/dev/full"])).try_start().await.unwrap_err();
    assert!(exit.code.is_some_and(|code| code != 0), "{}", exit.output());
    assert!(exit.stderr.contains("audit log"), "{}", exit.stderr);
}

#[tokio::test]
async fn with_two_sinks_one_dead_it_goes_on_and_marks_the_gap() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let (good, bad, link) = (path("good.jsonl"), path("bad.jsonl"), path("link"));
    symlink(&bad, &link).unwrap();
    let server = required(&json!([link, good])).start().await;
    let admin = admin(&server);
    assert_eq!(execute(&admin).await, 202);
    fs::remove_file(&link).unwrap();
    symlink("/dev/full", &link).unwrap();
    for _ in 0..5 {
        assert_eq!(execute(&admin).await, 202);
    }
    fs::remove_file(&link).unwrap();
    symlink(&bad, &link).unwrap();
    let marked = until(LIMIT, async || {
        assert_eq!(admin.get("/pipelines").await.status, 200);
        let found = records(&fs::read_to_string(&bad).unwrap());
        of(&found, "audit.gap").first().map(|gap| gap["detail"].as_str().unwrap().to_owned())
    })
    .await;
    let marked = marked.unwrap_or_else(|| panic!("{}", server.stderr()));
    assert!(marked.starts_with("missed ") && marked.contains("sink link"), "{marked}");
    server.stop().await;
    assert_eq!((verify(&good).await, verify(&bad).await), (Some(0), Some(0)));
    let executions = |file| of(&records(&fs::read_to_string(file).unwrap()), "pipeline.execute").len();
    assert_eq!(executions(&good), 12, "announced and answered, six times");
    assert!(executions(&bad) < 12);
}

#[tokio::test]
async fn a_death_between_deed_and_record_leaves_the_announcement() {
    let pipeline = "id: slow\ntasks:\n  - name: sleep\n    command: [\"sleep\", \"60\"]\n    output: out\n";
    let mut server = server().env("TASKIQ_FLOW_AUDIT_MODE", "required").pipeline(pipeline).start().await;
    let admin = admin(&server);
    assert_eq!(execute(&admin).await, 202);
    let waiting = {
        let admin = admin.clone();
        let body = json!({ "parameters": {}, "wait": true, "timeout": 30 });
        tokio::spawn(async move { admin.post("/pipelines/slow/execute", &body).await })
    };
    // It is announced, its run is started, and its answer is not given yet.
    let announced = until(LIMIT, async || {
        let all = records(&server.audit());
        let announced =
            of(&all, "pipeline.execute").into_iter().find(|record| record["pipeline_id"] == "slow");
        (runs(&server).await == 2).then(|| announced.cloned()).flatten()
    })
    .await
    .unwrap();
    assert!(!waiting.is_finished());
    waiting.abort();
    server.kill9().await;
    assert_eq!((&announced["detail"], &announced["status"]), (&json!("requested"), &Value::Null));
    server.restart().await;
    let all = records(&server.audit());
    let slow: Vec<_> =
        of(&all, "pipeline.execute").into_iter().filter(|record| record["pipeline_id"] == "slow").collect();
    assert_eq!(slow.len(), 1, "the intent is there, the outcome is not: {slow:?}");
    // One that was answered has both, under one request id.
    let quick: Vec<_> =
        of(&all, "pipeline.execute").into_iter().filter(|record| record["pipeline_id"] == "p").collect();
    assert_eq!(quick.len(), 2, "{quick:?}");
    assert_eq!(quick[0]["request_id"], quick[1]["request_id"]);
    assert_eq!((&quick[0]["detail"], &quick[1]["status"]), (&json!("requested"), &json!(202)));
    let log = server.audit_path();
    let (_, _directory) = server.stop_and_keep().await;
    assert_eq!(verify(&log).await, Some(0));
}
