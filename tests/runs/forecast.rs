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

const LIST: &str = "id: list\ninputs: { xs: { type: array } }\ntasks:\n  - name: ys\n    inputs: [xs]\n    \
    map: { over: xs, as: x, command: [sleep, \"0.2\"] }\n    output: ys\n";

/// What a server answers is what its file tells here: a map is its items, here as there.
#[tokio::test]
async fn a_servers_answer_tells_of_items_too() {
    let server = server().pipeline(LIST).start().await;
    let client = client(&server);
    let run = start(&client, "list", json!({"xs": [1, 2, 3, 4]})).await;
    assert_eq!(ended(&client, &run).await["status"], "completed");
    let answer = until(LIMIT, async || {
        let found = client.get("/pipelines/list/what-if?workers=1").await.expect(200).json();
        (found["unmeasured"] == json!([])).then_some(found)
    });
    let answer = answer.await.expect("the durations are kept");
    assert_eq!(answer["items"]["ys"]["count"], 4, "{answer}");
    assert!(answer["duration_ms"].as_u64() >= Some(800), "one after the other: {answer}");
    let cli = Cli::new(PROGRAM);
    cli.file("list.yaml", LIST);
    cli.file("known.json", &answer.to_string());
    let what_if = ["dag", "list.yaml", "--what-if", "1", "--durations", "known.json", "--format", "json"];
    let exit = cli.run(what_if).await;
    let here: Value = serde_json::from_str(&exit.stdout).unwrap();
    let item = answer["items"]["ys"]["duration_ms"].as_u64().unwrap();
    assert_eq!(here["duration_ms"], 4 * item, "{here}");
    assert_eq!((&here["work_ms"], &here["items"]), (&answer["work_ms"], &answer["items"]));
    let mut broken = answer.clone();
    broken["items"]["ys"]["count"] = json!("many");
    cli.file("known.json", &broken.to_string());
    let exit = cli.run(what_if).await;
    assert!(exit.code == Some(2) && exit.stderr.contains("`count`"), "{}", exit.output());
}
