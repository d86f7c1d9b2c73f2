//! What is left of a run when the server is killed, or stopped.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use taskiq_flow_testkit::{is_alive, until};

use crate::support::*;

/// How many steps the run has, one after the other.
const STEPS: usize = 20;

/// A pipeline whose steps each write their name to a file, after a short while.
fn row(file: &Path) -> String {
    let mut yaml = "id: row\ntasks:\n".to_owned();
    for n in 0..STEPS {
        let script = format!("sleep 0.05; echo step{n} >> {}; echo {n}", file.display());
        let inputs = if n == 0 { String::new() } else { format!("    inputs: [out{}]\n", n - 1) };
        let command = json!(["sh", "-c", script]);
        yaml.push_str(&format!("  - name: step{n}\n    command: {command}\n{inputs}    output: out{n}\n"));
    }
    yaml
}

/// How often each step has written its name.
fn written(file: &Path) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for line in std::fs::read_to_string(file).unwrap_or_default().lines() {
        *counts.entry(line.to_owned()).or_insert(0) += 1;
    }
    counts
}

#[tokio::test]
async fn a_run_goes_on_after_kill_9_and_finished_steps_are_not_run_again() {
    let builder = server();
    let file = builder.dir().join("written");
    let yaml = row(&file);
    let mut server = builder.pipeline(&yaml).start().await;
    let run_id = start(&client(&server), "row", json!({})).await;
    // Twice in one run, early and late. What had finished then, and how often each step had been run by then.
    let mut at_kill: BTreeMap<String, usize> = BTreeMap::new();
    for at in [5, 12] {
        let wanted = |view: &Value| view["steps_completed"].as_u64() >= Some(at);
        let view = view_when(&client(&server), &run_id, "under way", wanted).await;
        let counts = written(&file);
        for step in view["steps"].as_array().unwrap().iter().filter(|step| step["status"] == "completed") {
            let step = step["id"].as_str().unwrap();
            at_kill.insert(step.to_owned(), counts[step]);
        }
        server.kill9().await;
        server.restart().await;
    }
    let view = ended(&client(&server), &run_id).await;
    assert_eq!(view["status"], "completed", "{view:#}");
    assert_eq!((&view["steps_completed"], &view["total_steps"]), (&json!(STEPS), &json!(STEPS)));
    assert_eq!(view["result"], json!({ "out19": 19 }));
    let written = written(&file);
    assert_eq!(written.len(), STEPS, "{written:?}");
    // What was seen to be finished was not run again; what was under way at a kill may have been, once each.
    assert!(at_kill.len() >= 12);
    for (step, count) in &at_kill {
        assert_eq!(written[step], *count, "{step} had finished: {written:?}");
    }
    let again: Vec<_> = written.iter().filter(|(_, count)| **count > 1).collect();
    assert!(again.len() <= 2 && again.iter().all(|(_, count)| **count == 2), "{again:?}");
    // Its log is one: every event once, in order.
    let events = client(&server).get(&format!("/runs/{run_id}/events?limit=1000")).await.expect(200).json();
    let numbers: Vec<u64> =
        events["events"].as_array().unwrap().iter().map(|e| e["seq"].as_u64().unwrap()).collect();
    assert_eq!(numbers, (1..=numbers.len() as u64).collect::<Vec<_>>());
}

#[tokio::test]
async fn sigterm_stops_the_server_within_five_seconds_while_a_run_is_under_way() {
    let builder = server();
    let pid_file = builder.dir().join("pid");
    let long = script("long", &format!("echo $$ > {}; sleep 600", pid_file.display()), "");
    let mut server = builder.pipeline(&long).start().await;
    let run_id = start(&client(&server), "long", json!({})).await;
    let pid = until(LIMIT, async || std::fs::read_to_string(&pid_file).ok()?.trim().parse::<u32>().ok())
        .await
        .unwrap();
    let (watcher, path) = (client(&server), format!("/runs/{run_id}/events"));
    let stream = taskiq_flow_testkit::EventStream::open(&watcher, &path, None).await.unwrap();
    let _socket = server.socket("/ws", &[("X-API-Key", "k")]).await.unwrap();
    let begun = Instant::now();
    let exit = server.stop_and_restart().await;
    assert_eq!(exit.code, Some(0), "{}", exit.stderr);
    assert!(begun.elapsed() < Duration::from_secs(5) + Duration::from_secs(3), "{:?}", begun.elapsed());
    drop(stream);
    let gone = until(Duration::from_secs(3), async || (!is_alive(pid)).then_some(())).await;
    assert!(gone.is_some(), "the process of the step outlived the server");
    // The run goes on.
    let view =
        view_when(&client(&server), &run_id, "under way again", |view| view["status"] == "running").await;
    assert_eq!(
        client(&server).post(&format!("/runs/{run_id}/cancel"), &json!({})).await.status,
        202,
        "{view:#}"
    );
    assert_eq!(ended(&client(&server), &run_id).await["status"], "cancelled");
}

#[tokio::test]
async fn what_was_finished_before_a_restart_is_still_there() {
    let mut server = server().pipeline(&script("quick", "echo '\"done\"'", "")).start().await;
    let run_id = start(&client(&server), "quick", json!({})).await;
    let before = ended(&client(&server), &run_id).await;
    server.kill9().await;
    server.restart().await;
    assert_eq!(view(&client(&server), &run_id).await, before);
    let status = client(&server).get("/pipelines/quick/status").await.expect(200).json();
    assert_eq!((&status["run_id"], &status["result"]), (&json!(run_id), &json!({ "out": "done" })));
}
