//! `run`, `dag`, `audit` and `completions`: data on standard output, everything else on standard error.

use serde_json::{Value, json};
use taskiq_flow_testkit::{Cli, Server};

use crate::PROGRAM;

const DIAMOND: &str = "id: diamond\ninputs:\n  x: { type: integer }\n  word: { type: string, default: hi }\ntasks:\n  \
    - { name: top, expression: x, inputs: [x], output: a }\n  \
    - { name: left, expression: a + 1, inputs: [a], output: b }\n  \
    - { name: right, expression: a * 10, inputs: [a], output: c }\n  \
    - { name: bottom, expression: \"word ~ (b + c)\", inputs: [word, b, c], output: d }\n";

#[tokio::test]
async fn run_prints_the_result_as_json() {
    let cli = Cli::new(PROGRAM);
    cli.file("diamond.yaml", DIAMOND);
    let exit = cli.run(["run", "diamond.yaml", "-p", "x=4", "-p", "word=17"]).await;
    assert_eq!(exit.code, Some(0), "{}", exit.stderr);
    // A declared string stays one, even when it looks like a number.
    assert_eq!(serde_json::from_str::<Value>(&exit.stdout).unwrap(), json!({ "d": "1745" }));
    let by_id = cli.run(["run", "diamond", "--pipelines", ".", "-p", "x=4"]).await;
    assert_eq!(serde_json::from_str::<Value>(&by_id.stdout).unwrap(), json!({ "d": "hi45" }));
    cli.file("input.json", r#"{"x": 1}"#);
    let from_file = cli.run(["run", "diamond.yaml", "--input", "input.json", "--json"]).await;
    let whole: Value = serde_json::from_str(&from_file.stdout).unwrap();
    assert_eq!((&whole["status"], &whole["result"]["d"]), (&json!("completed"), &json!("hi12")), "{whole}");
    assert_eq!(whole["steps"].as_array().map(Vec::len), Some(4));
    let piped = cli.run_with_input(["run", "diamond.yaml", "--input", "-"], r#"{"x": 1}"#).await;
    assert_eq!(piped.code, Some(0), "{}", piped.stderr);
    // No server state is made where it ran.
    let names: Vec<_> =
        std::fs::read_dir(cli.dir()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names.len(), 2, "{names:?}");
}

#[tokio::test]
async fn exit_codes_tell_a_failed_run_from_a_wrong_call() {
    let cli = Cli::new(PROGRAM);
    cli.file("diamond.yaml", DIAMOND);
    cli.file("bad.yaml", "id: bad\ntasks:\n  - { name: boom, command: [sh, \"-c\", \"echo reason >&2; exit 3\"], output: x }\n");
    let exit = cli.run(["run", "bad.yaml"]).await;
    assert_eq!((exit.code, exit.stdout.as_str()), (Some(1), ""), "{}", exit.stderr);
    assert!(exit.stderr.contains("boom") && exit.stderr.contains("reason"), "{}", exit.stderr);
    for (arguments, words) in [
        (vec!["run", "diamond.yaml"], vec!["x"]),
        (vec!["run", "diamond.yaml", "-p", "x=four"], vec!["x", "integer"]),
        (vec!["run", "diamond.yaml", "-p", "x=1", "-p", "y=2"], vec!["y"]),
        (vec!["run", "diamond.yaml", "-p", "x"], vec!["NAME=VALUE"]),
        (vec!["run", "missing.yaml"], vec!["missing.yaml"]),
        (vec!["dag", "missing.yaml"], vec!["missing.yaml"]),
        (vec!["dag", "diamond.yaml", "--format", "png"], vec!["png", "svg"]),
        (vec!["audit", "verify", "missing.jsonl"], vec!["missing.jsonl"]),
        (vec!["dance"], vec!["dance"]),
        (vec![], vec!["serve"]),
    ] {
        let exit = cli.run(&arguments).await;
        assert_eq!((exit.code, exit.stdout.as_str()), (Some(2), ""), "{arguments:?}: {}", exit.stderr);
        for word in words {
            assert!(exit.stderr.contains(word), "{arguments:?}: no {word}: {}", exit.stderr);
        }
    }
    let version = cli.run(["--version"]).await;
    assert!(version.code == Some(0) && version.stdout.starts_with("taskiq-flow "), "{version:?}");
}

#[tokio::test]
async fn dag_draws_in_every_format() {
    let cli = Cli::new(PROGRAM);
    cli.file("diamond.yaml", DIAMOND);
    for (format, begin) in [
        ("json", "{"),
        ("cytoscape", "{"),
        ("dot", "digraph"),
        ("mermaid", "flowchart"),
        ("svg", "<svg"),
        ("ascii", ""),
    ] {
        let exit = cli.run(["dag", "diamond.yaml", "--format", format]).await;
        assert_eq!(exit.code, Some(0), "{format}: {}", exit.stderr);
        assert!(exit.stdout.trim_start().starts_with(begin), "{format}: {}", exit.stdout);
        for task in ["top", "left", "right", "bottom"] {
            assert!(exit.stdout.contains(task), "{format}: no {task}: {}", exit.stdout);
        }
    }
    let exit = cli.run(["dag", "diamond.yaml", "--format", "json"]).await;
    let dag: Value = serde_json::from_str(&exit.stdout).unwrap();
    assert_eq!(dag["levels"], json!([["top"], ["left", "right"], ["bottom"]]));
    // The server draws the same.
    let keys = r#"{"k": {"role": "r", "permissions": ["read"]}}"#;
    let server = Server::builder(PROGRAM).env("TASKIQ_FLOW_API_KEYS", keys).pipeline(DIAMOND).start().await;
    let client = server.client().key("k");
    assert_eq!(client.get("/pipelines/diamond/dag").await.expect(200).json()["levels"], dag["levels"]);
    for (format, media_type) in [("dot", "text/vnd.graphviz"), ("svg", "image/svg+xml")] {
        let path = format!("/pipelines/diamond/dag?format={format}");
        let drawn = client.clone().header("Accept", media_type).get(&path).await.expect(200);
        let exit = cli.run(["dag", "diamond.yaml", "--format", format]).await;
        assert_eq!(drawn.text().trim(), exit.stdout.trim(), "{format}");
    }
}

#[tokio::test]
async fn audit_show_prints_the_newest_first_and_filters() {
    let keys = r#"{"k": {"id": "ops", "role": "r", "pipelines": ["diamond"], "permissions": ["read"]}}"#;
    let server = Server::builder(PROGRAM).env("TASKIQ_FLOW_API_KEYS", keys).pipeline(DIAMOND).start().await;
    assert_eq!(server.client().get("/pipelines").await.status, 401);
    assert_eq!(server.client().key("k").get("/pipelines/diamond").await.status, 200);
    assert_eq!(server.client().key("k").get("/pipelines/other").await.status, 403);
    let (_, directory) = server.stop_and_keep().await;
    let file = directory.path().join("audit.jsonl").display().to_string();
    let cli = Cli::new(PROGRAM);
    let show = async |more: &[&str]| {
        let exit = cli.run([&["audit", "show", &file, "--json"], more].concat()).await;
        assert_eq!(exit.code, Some(0), "{}", exit.stderr);
        exit.stdout.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()).collect::<Vec<_>>()
    };
    let all = show(&[]).await;
    let numbers: Vec<u64> = all.iter().map(|record| record["seq"].as_u64().unwrap()).collect();
    assert!(numbers.is_sorted_by(|a, b| a > b) && numbers.len() >= 4, "{numbers:?}");
    assert_eq!(all[0]["event"], "audit.stop");
    let denied = show(&["--event", "authorization.denied"]).await;
    assert!(denied.len() == 1 && denied[0]["pipeline_id"] == "other", "{denied:?}");
    let ops = show(&["--principal", "ops"]).await;
    assert!(!ops.is_empty() && ops.iter().all(|record| record["principal"]["id"] == "ops"), "{ops:?}");
    assert_eq!(show(&["--limit", "1"]).await.len(), 1);
    let text = cli.run(["audit", "show", &file]).await;
    assert!(text.stdout.contains("authorization.denied") && text.stdout.contains("ops"), "{}", text.stdout);
    assert_eq!(cli.run(["audit", "show", &file, "--event", "nothing"]).await.code, Some(2));
}

#[tokio::test]
async fn audit_verify_finds_what_was_done_to_the_file() {
    let server = Server::builder(PROGRAM).start().await;
    for _ in 0..4 {
        assert_eq!(server.client().get("/pipelines").await.status, 401);
    }
    let (_, directory) = server.stop_and_keep().await;
    let text = std::fs::read_to_string(directory.path().join("audit.jsonl")).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines.len() >= 5, "{text}");
    let cli = Cli::new(PROGRAM);
    let verify = async |lines: &[&str], more: &[&str]| {
        cli.file("audit.jsonl", &format!("{}\n", lines.join("\n")));
        cli.run([&["audit", "verify", "audit.jsonl", "--json"], more].concat()).await
    };
    let sound = verify(&lines, &[]).await;
    assert_eq!(sound.code, Some(0), "{}", sound.output());
    let report: Value = serde_json::from_str(&sound.stdout).unwrap();
    assert_eq!((&report["sound"], &report["records"]), (&json!(true), &json!(lines.len())));
    let edited = lines[2].replace("127.0.0.1", "127.0.0.9");
    let swapped = [&lines[..1], &[lines[2], lines[1]], &lines[3..]].concat();
    for (what, changed) in [
        ("edited", [&lines[..2], &[edited.as_str()], &lines[3..]].concat()),
        ("removed", [&lines[..2], &lines[3..]].concat()),
        ("swapped", swapped),
        ("doubled", [&lines[..3], &lines[2..]].concat()),
    ] {
        let exit = verify(&changed, &[]).await;
        assert_eq!(exit.code, Some(1), "{what}: {}", exit.output());
        assert!(exit.stderr.contains("audit.jsonl:"), "{what}: {}", exit.stderr);
    }
    // A cut-off end is found by what an earlier check said of it.
    let checkpoint = report["checkpoint"].as_str().unwrap();
    let cut = verify(&lines[..3], &["--checkpoint", checkpoint]).await;
    assert_eq!(cut.code, Some(1), "{}", cut.output());
    assert_eq!(verify(&lines, &["--checkpoint", checkpoint]).await.code, Some(0));
}

#[tokio::test]
async fn completions_are_scripts() {
    let cli = Cli::new(PROGRAM);
    for shell in ["bash", "zsh", "fish"] {
        let exit = cli.run(["completions", shell]).await;
        assert!(exit.code == Some(0) && exit.stdout.contains("taskiq-flow"), "{shell}: {}", exit.output());
    }
}

#[tokio::test]
async fn dag_says_what_more_workers_would_do() {
    let cli = Cli::new(PROGRAM);
    cli.file("diamond.yaml", DIAMOND);
    cli.file("known.json", r#"{"top": 1000, "left": [60000, 60000, 61000], "right": 30000, "bottom": 500}"#);
    let rounds = cli.run(["dag", "diamond.yaml", "--what-if", "1"]).await;
    assert_eq!(rounds.code, Some(0), "{}", rounds.output());
    assert!(
        rounds.stdout.starts_with("4 with 1 worker; 4 of work, 3 along the critical path\n"),
        "{}",
        rounds.stdout
    );
    let known = cli.run(["dag", "diamond.yaml", "--what-if", "2", "--durations", "known.json"]).await;
    let lines: Vec<Vec<&str>> = known.stdout.lines().map(|line| line.split_whitespace().collect()).collect();
    assert!(known.stdout.starts_with("1m1s500ms with 2 workers; 1m31s500ms of work"), "{}", known.output());
    assert_eq!(lines[2], ["left", "1m", "0s", "30s"]);
    assert_eq!(lines[5], ["right", "30s", "30s", "-"]);
    cli.file("partly.json", r#"{"top": 1000}"#);
    let partly = cli.run(["dag", "diamond.yaml", "--what-if", "2", "--durations", "partly.json"]).await;
    assert!(partly.code == Some(0) && partly.stderr.contains("left, right, bottom"), "{}", partly.output());
    for (text, word) in
        [(r#"{"tpo": 1}"#, "tpo"), (r#"{"top": "1s"}"#, "milliseconds"), ("[]", "JSON object")]
    {
        cli.file("bad.json", text);
        let exit = cli.run(["dag", "diamond.yaml", "--what-if", "2", "--durations", "bad.json"]).await;
        assert!(exit.code == Some(2) && exit.stderr.contains(word), "{text}: {}", exit.output());
    }
    let none = cli.run(["dag", "diamond.yaml", "--what-if", "0"]).await;
    assert_eq!(none.code, Some(2), "{}", none.output());
}
