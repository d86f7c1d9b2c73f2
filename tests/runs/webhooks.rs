//! Webhooks of the built program: what is told arrives, whatever is killed when.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use serde_json::{Value, json};
use taskiq_flow_testkit::{Reaction, Received, Receiver, Server, ServerBuilder, until};

use crate::support::*;

const SECRET: &str = "a secret of the webhook";
const QUICK: &str = "id: quick\ninputs: { n: { type: integer } }\ntasks: [{ name: twice, expression: \"n * 2\", inputs: [n] }]\n";

/// A server that tells the receiver of the ends of runs.
fn telling(receiver: &Receiver) -> ServerBuilder {
    let webhook = json!([{
        "name": "ops", "url": receiver.url(), "secret": SECRET, "events": ["PipelineCompleteEvent"],
        "pipelines": ["*"], "allow_internal": true, "timeout": "5s",
    }]);
    server().env("TASKIQ_FLOW_WEBHOOKS", webhook.to_string()).pipeline(QUICK)
}

/// How often the end of each run was told, by run.
fn told(received: &[Received]) -> HashMap<String, HashSet<String>> {
    let mut told: HashMap<String, HashSet<String>> = HashMap::new();
    for request in received {
        assert!(request.is_signed_by(SECRET), "{request:?}");
        let run = request.json()["event"]["run_id"].as_str().unwrap().to_owned();
        told.entry(run).or_default().insert(request.header("x-taskiq-flow-delivery").to_owned());
    }
    told
}

async fn webhook_when(server: &Server, what: &str, test: impl Fn(&Value) -> bool) -> Value {
    let mut last = Value::Null;
    let found = until(LIMIT, async || {
        last = client(server).get("/webhooks").await.expect(200).json()["webhooks"][0].clone();
        Some(last.clone()).filter(&test)
    })
    .await;
    found.unwrap_or_else(|| panic!("the webhook is not {what}: {last:#}"))
}

/// The receiver is away for the first half and slow to come back; the server is killed again and again while runs end.
#[tokio::test]
async fn no_event_is_lost_by_kill_9() {
    let receiver = Receiver::start().await;
    receiver.react(Reaction::status(503));
    let mut server = telling(&receiver).start().await;
    let mut runs = HashSet::new();
    for round in 0..6 {
        if round == 3 {
            receiver.react(Reaction::status(204));
        }
        for n in 0..10 {
            runs.insert(start(&client(&server), "quick", json!({ "n": n })).await);
        }
        // At whatever point they are.
        server.kill9().await;
        server.restart().await;
    }
    for run in &runs {
        assert_eq!(ended(&client(&server), run).await["status"], "completed");
    }
    let all = until(LIMIT, async || (told(&receiver.received()).len() == runs.len()).then_some(())).await;
    assert!(all.is_some(), "{} of {} runs were told of", told(&receiver.received()).len(), runs.len());
    webhook_when(&server, "done", |webhook| webhook["waiting"] == 0 && webhook["dead"] == 0).await;
    // What came twice came under the same id, so that it can be dropped.
    let told = told(&receiver.received());
    assert_eq!(told.keys().cloned().collect::<HashSet<_>>(), runs);
    assert!(told.values().all(|ids| ids.len() == 1), "{told:?}");
}

#[tokio::test]
async fn nothing_secret_of_a_webhook_is_logged_and_its_state_is_measured() {
    let receiver = Receiver::start().await;
    receiver.react(Reaction::Answer(500, Vec::new(), "hunter2".to_owned()));
    let webhook = json!([{
        "name": "ops", "url": format!("{}/hunter2?key=hunter2", receiver.url()), "secret": "hunter2-and-some-more",
        "events": ["*"], "pipelines": ["*"], "headers": {"Authorization": "hunter2"}, "allow_internal": true,
    }]);
    let builder =
        server().env("TASKIQ_FLOW_WEBHOOKS", webhook.to_string()).env("TASKIQ_FLOW_LOG_LEVEL", "debug");
    let server = builder.pipeline(QUICK).start().await;
    let run = start(&client(&server), "quick", json!({ "n": 1 })).await;
    ended(&client(&server), &run).await;
    webhook_when(&server, "failing", |webhook| webhook["status"] == "failing").await;
    let shown = client(&server).get("/security/config").await.expect(200).text();
    let metrics = client(&server).get("/metrics").await.expect(200).text();
    assert!(metrics.contains(r#"taskiq_flow_webhook_deliveries_waiting{webhook="ops"} 4"#), "{metrics}");
    assert!(
        metrics.contains(r#"taskiq_flow_webhook_deliveries_total{webhook="ops",outcome="failed"}"#),
        "{metrics}"
    );
    let (audit, exit) = (server.audit(), server.stop().await);
    assert!(exit.stderr.contains("a webhook could not be delivered"), "{}", exit.output());
    for text in [shown, metrics, audit, exit.output()] {
        assert!(!text.contains("hunter2"), "{text}");
    }
}

#[tokio::test]
async fn an_address_within_is_refused_unless_it_is_allowed() {
    let receiver = Receiver::start().await;
    let address = receiver.url().replace("http://127.0.0.1", "https://127.0.0.1");
    let webhook =
        json!([{"name": "ops", "url": address, "secret": SECRET, "events": ["*"], "pipelines": ["*"]}]);
    let exit = taskiq_flow_testkit::Cli::new(PROGRAM)
        .env("TASKIQ_FLOW_WEBHOOKS", webhook.to_string())
        .run(["serve"])
        .await;
    assert_eq!(exit.code, Some(2), "{}", exit.output());
    assert!(exit.stderr.contains("`url` of item 1 of `webhooks`"), "{}", exit.stderr);
    assert!(exit.stderr.contains("`allow_internal: true`"), "{}", exit.stderr);
    // A name that leads within is found when it is resolved.
    let name = receiver.url().replace("http://127.0.0.1", "https://localhost");
    let webhook =
        json!([{"name": "ops", "url": name, "secret": SECRET, "events": ["*"], "pipelines": ["*"]}]);
    let server = server().env("TASKIQ_FLOW_WEBHOOKS", webhook.to_string()).pipeline(QUICK).start().await;
    let tested = client(&server).post("/webhooks/ops/test", &json!({})).await.expect(200).json();
    assert_eq!(tested["delivered"], false);
    let error = tested["error"].as_str().unwrap();
    assert!(error.contains("has no address that may be reached"), "{error}");
    assert!(receiver.received().is_empty());
}

/// The snippets of docs/guide/webhooks.md, on what the server sends.
#[tokio::test]
async fn receivers_verify_as_the_guide_says() {
    let receiver = Receiver::start().await;
    let server = telling(&receiver).start().await;
    let run = start(&client(&server), "quick", json!({ "n": 21 })).await;
    ended(&client(&server), &run).await;
    let request = receiver.wait_for(1, LIMIT).await.remove(0);
    let guide = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/guide/webhooks.md");
    let guide = std::fs::read_to_string(guide).unwrap();
    let snippet = |language: &str| {
        let begin = format!("<!-- A test runs this. -->\n```{language}\n");
        guide.split(&begin).nth(1).and_then(|rest| rest.split("```").next()).unwrap().to_owned()
    };
    let dir = tempfile::tempdir().unwrap();
    let header = request.header("x-taskiq-flow-signature").to_owned();
    let old = header.replacen("t=", "t=1", 1);
    for (header, body, secret, expected) in [
        (&header, request.body.clone(), SECRET, true),
        (&header, request.body.replace("42", "43"), SECRET, false),
        (&header, request.body.clone(), "another secret of it", false),
        (&old, request.body.clone(), SECRET, false),
    ] {
        std::fs::write(dir.path().join("body"), &body).unwrap();
        let python = format!(
            "{}\nimport os, sys\nbody = open('body', 'rb').read()\n\
             sys.exit(0 if is_genuine(os.environ['SECRET'].encode(), os.environ['header'], body) else 1)\n",
            snippet("python")
        );
        let shell = format!("set -e\n{}", snippet("sh"));
        for (program, flag, script) in [("python3", "-c", &python), ("sh", "-c", &shell)] {
            let run = std::process::Command::new(program)
                .args([flag, script])
                .current_dir(dir.path())
                .env("SECRET", secret)
                .env("header", header)
                .output()
                .unwrap();
            let stderr = String::from_utf8_lossy(&run.stderr);
            assert_eq!(run.status.code(), Some(if expected { 0 } else { 1 }), "{program}: {stderr}");
        }
    }
    assert!(request.body.contains("42"));
}
