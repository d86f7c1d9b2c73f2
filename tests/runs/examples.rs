//! The example pipelines: over HTTP and by `taskiq-flow run`, with the same result.

use std::path::Path;

use serde_json::{Value, json};
use taskiq_flow_testkit::{Cli, Server};

use crate::support::*;

/// Runs an example both ways; gives the result that both gave.
async fn both(server: &Server, file: &str, pipeline: &str, parameters: Value) -> Value {
    let body = json!({ "parameters": parameters, "wait": true, "timeout": 20 });
    let path = format!("/pipelines/{pipeline}/execute");
    let over_http = client(server).post(&path, &body).await.expect(200).json();
    assert_eq!(over_http["status"], "completed", "{file}: {over_http}");
    let cli = Cli::new(PROGRAM);
    let input = cli.file("parameters.json", &parameters.to_string());
    let file = examples().join(file);
    let exit = cli.run(["run".as_ref(), file.as_os_str(), "--input".as_ref(), input.as_os_str()]).await;
    assert_eq!(exit.code, Some(0), "{}", exit.stderr);
    let here: Value =
        serde_json::from_str(&exit.stdout).unwrap_or_else(|error| panic!("{error}: {}", exit.stdout));
    assert_eq!(here, over_http["result"], "{}", file.display());
    here
}

#[tokio::test]
async fn every_example_gives_the_same_result_over_http_and_by_run() {
    let server = server().pipelines(examples()).start().await;
    let text = "one two two three three three\nthree two\n";
    let file = server.dir().join("text.txt");
    std::fs::write(&file, text).unwrap();
    let stats = both(&server, "word-stats.yaml", "word-stats", json!({ "path": file, "top": 2 })).await;
    let expected = json!({ "report": { "words": 8, "lines": 2, "top": [["three", 4], ["two", 3]] } });
    assert_eq!(stats, expected);

    let squares = both(&server, "map-reduce.yaml", "squares", json!({ "numbers": [1, 2, 3, 4, 10] })).await;
    assert_eq!(squares, json!({ "total": 4 + 16 + 100 }));

    let small = both(&server, "branching.yaml", "triage", json!({ "amount": 10 })).await;
    assert_eq!(small, json!({ "decision": { "approved": true, "by": "rule" } }));

    let chain = both(&server, "sequential.yaml", "chain", json!({ "value": 1 })).await;
    // [1 + 1] * 4, each + 1, all at least 0: their sum and their number.
    assert_eq!(chain, json!({ "sum": 12, "length": 4 }));
}

#[tokio::test]
async fn the_projects_own_readme_is_counted_right() {
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../README.md").canonicalize().unwrap();
    let text = std::fs::read_to_string(&readme).unwrap();
    let server = server().pipelines(examples().join("word-stats.yaml")).start().await;
    let report = &both(&server, "word-stats.yaml", "word-stats", json!({ "path": readme })).await["report"];
    assert_eq!(report["lines"], text.matches('\n').count());
    assert_eq!(report["words"], text.split_whitespace().count());
    assert_eq!(report["top"].as_array().map(Vec::len), Some(3));
}

#[tokio::test]
async fn a_large_amount_waits_for_a_person() {
    let server = server().pipelines(examples().join("branching.yaml")).start().await;
    let client = client(&server);
    let run_id = start(&client, "triage", json!({ "amount": 5000 })).await;
    let waiting = |view: &Value| step(view, "ask-a-person")["status"] == "running";
    view_when(&client, &run_id, "waiting", waiting).await;
    let decision = json!({ "approved": false, "by": "a person" });
    assert_eq!(client.post(&format!("/runs/{run_id}/signals/approval"), &decision).await.status, 202);
    let view = ended(&client, &run_id).await;
    assert_eq!(view["result"], json!({ "decision": decision }), "{view:#}");
    assert_eq!(step(&view, "approve-automatically")["status"], "skipped");
}

#[tokio::test]
async fn tasks_of_python_workers_load_and_say_clearly_why_they_do_not_run() {
    let server = server().pipelines(examples()).start().await;
    let client = client(&server);
    let dag = client.get("/pipelines/python-etl/dag").await.expect(200).json();
    assert_eq!(dag["levels"], json!([["add"], ["double"]]));
    let body = json!({ "parameters": { "a": 1, "b": 2 }, "wait": true });
    let reply = client.post("/pipelines/python-etl/execute", &body).await;
    let text = reply.text();
    assert!(text.contains("broker"), "{} {text}", reply.status);
    assert!(reply.status == 409 || reply.json()["status"] == "failed", "{} {text}", reply.status);
    let exit = Cli::new(PROGRAM)
        .run([
            "run".as_ref(),
            examples().join("python-workers.yaml").as_os_str(),
            "-p".as_ref(),
            "a=1".as_ref(),
            "-p".as_ref(),
            "b=2".as_ref(),
        ])
        .await;
    assert!(
        matches!(exit.code, Some(1 | 2)) && exit.stderr.contains("broker"),
        "{:?} {}",
        exit.code,
        exit.stderr
    );
}
