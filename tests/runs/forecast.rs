//! When a run will have ended, and what more workers would do, by what earlier runs took.

use serde_json::{Value, json};
use taskiq_flow_testkit::{Cli, until};

use crate::support::*;

const FAN: &str = "id: fan\ntasks:\n  - { name: one, command: [sleep, \"0.2\"], output: a }\n  \
    - { name: two, command: [sleep, \"0.2\"], output: b }\n  \
    - { name: join, wait: { signal: go }, inputs: [a, b], output: c }\n";

async fn what_if(client: &taskiq_flow_testkit::Client, workers: u32) -> Value {
    client.get(&format!("/pipelines/fan/what-if?workers={workers}")).await.expect(200).json()
}

#[tokio::test]
async fn earlier_runs_tell_what_the_next_one_takes() {
    let server = server().pipeline(FAN).start().await;
    let client = client(&server);
    let first = start(&client, "fan", json!({})).await;
    client.post(&format!("/runs/{first}/signals/go"), &json!(1)).await.expect(202);
    assert_eq!(ended(&client, &first).await["status"], "completed");
    let known = until(LIMIT, async || {
        let found = what_if(&client, 1).await;
        (found["unmeasured"] == json!([])).then_some(found)
    });
    // One after the other on one worker, both at once on two.
    let alone = known.await.expect("the durations are kept");
    assert!(alone["duration_ms"].as_u64() >= Some(400), "{alone}");
    let both = what_if(&client, 2).await;
    let path = both["critical_path_ms"].as_u64().unwrap();
    assert!(path >= 200 && both["duration_ms"].as_u64() == Some(path), "{both}");
    assert!(both["duration_ms"].as_u64() < alone["duration_ms"].as_u64(), "{both} {alone}");
    assert!(["one", "two"].map(|task| json!(task)).contains(&alone["speed_up"][0]["task"]), "{alone}");

    let second = start(&client, "fan", json!({})).await;
    let estimate = client.get(&format!("/runs/{second}/estimate")).await.expect(200).json();
    assert_eq!(estimate["basis"], "draws", "{estimate}");
    assert!(estimate["finish_at"].as_str() >= estimate["at"].as_str(), "{estimate}");
    let cli = Cli::new(PROGRAM).env("TASKIQ_FLOW_API_KEY", "k");
    let shown = cli.run(["runs", "show", &second, "--url", &server.url()]).await;
    assert!(shown.stdout.contains("ends      about 2"), "{}", shown.output());
    // A file of the pipeline and what the server knows of it.
    let file = cli.file("fan.yaml", FAN);
    let durations = cli.file("known.json", &both.to_string());
    let here = cli
        .run([
            "dag",
            file.to_str().unwrap(),
            "--what-if",
            "2",
            "--durations",
            durations.to_str().unwrap(),
            "--format",
            "json",
        ])
        .await;
    let here: Value = serde_json::from_str(&here.stdout).unwrap();
    assert_eq!(here["duration_ms"], both["critical_path_ms"], "{here}");
}
