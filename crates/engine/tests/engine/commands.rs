//! Processes and requests.

use std::time::Duration;

use serde_json::{Value, json};
use taskiq_flow_core::run::RunStatus;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::engine;

fn shell(script: &str, more: Value) -> Value {
    let mut task = json!({"name": "t", "command": ["/bin/sh", "-c", script]});
    for (key, value) in more.as_object().unwrap() {
        task[key] = value.clone();
    }
    json!({"id": "p", "tasks": [task]})
}

async fn error_of(definition: Value) -> String {
    let view = engine(definition).await.run("p", json!({})).await;
    assert_eq!(view.status, RunStatus::Failed, "{view:?}");
    view.error.unwrap().message.to_string()
}

#[tokio::test]
async fn a_process_reads_its_inputs_as_json_and_prints_its_value() {
    let fixture = engine(shell("cat; echo note >&2", json!({"inputs": ["a"], "with": {"b": [1]}}))).await;
    let view = fixture.run("p", json!({"a": "ü\n"})).await;
    assert_eq!(**view.result.as_ref().unwrap(), json!({"t": {"a": "ü\n", "b": [1]}}));
    let logs = fixture.engine.logs(view.run_id).await.unwrap();
    assert_eq!((logs.len(), logs[0].text.as_str(), &*logs[0].step), (1, "note\n", "t"));
}

#[tokio::test]
async fn a_process_sees_few_variables_and_never_the_servers_secrets() {
    let definition = shell(
        r#"env | cut -d= -f1 | sort | python3 -c 'import json,sys; print(json.dumps(sys.stdin.read().split()))'"#,
        json!({}),
    );
    let fixture = engine(definition).await;
    let view = fixture.run("p", json!({})).await;
    let names: Vec<String> = serde_json::from_value(view.result.unwrap()["t"].clone()).unwrap();
    let known = |name: &String| {
        ["PATH", "HOME", "USER", "LANG", "TZ", "TMPDIR", "PWD", "OLDPWD", "SHLVL", "_"]
            .contains(&name.as_str())
            || name.starts_with("LC_")
            || name.starts_with("TASKIQ_FLOW_")
    };
    assert!(names.iter().all(known), "{names:?}");
    for own in ["PIPELINE_ID", "RUN_ID", "STEP", "ATTEMPT", "TASK_ID"] {
        assert!(names.contains(&format!("TASKIQ_FLOW_{own}")), "{own}");
    }
    let message = error_of(json!({"id": "p", "tasks": [
        {"name": "t", "command": {"argv": ["true"], "pass_env": ["TASKIQ_FLOW_JWT_SECRET"]}}
    ]}))
    .await;
    assert!(message.contains("pass_env"), "{message}");
}

#[tokio::test]
async fn failures_say_what_happened() {
    let cases = [
        (shell("echo first >&2; echo why >&2; exit 3", json!({})), "exited with status 3: why", "exit:3"),
        (shell("kill -9 $$", json!({})), "was ended: signal: 9", "signal:9"),
        (shell("echo hello", json!({})), "is not one JSON value", "output"),
        (
            json!({"id": "p", "tasks": [{"name": "t", "command": ["no-such-program-here"]}]}),
            "no program `no-such-program-here`",
            "command:start",
        ),
        (
            json!({"id": "p", "tasks": [{"name": "t", "command": {"argv": ["true"], "cwd": "/no/such/dir"}}]}),
            "working directory `/no/such/dir`",
            "command:start",
        ),
    ];
    for (definition, expected, code) in cases {
        let view = engine(definition).await.run("p", json!({})).await;
        let message = view.error.unwrap().message;
        assert!(message.contains(expected), "{message}");
        assert_eq!(view.steps[0].state.code.as_deref(), Some(code), "{message}");
    }
}

#[tokio::test]
async fn rules_about_errors_see_how_a_process_ended() {
    let retry = json!({"retry": {"max_attempts": 3, "delay": "1ms", "retry_on": ["exit:75"]}});
    for (status, attempts) in [(75, 3), (76, 1)] {
        let view = engine(shell(&format!("exit {status}"), retry.clone())).await.run("p", json!({})).await;
        assert_eq!(view.steps[0].state.attempt, attempts, "exit {status}");
    }
}

#[tokio::test]
async fn a_timeout_kills_the_whole_process_group() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("alive");
    let script = format!("(sleep 2; touch {0}) & sleep 60; echo $!", file.display());
    let message = error_of(shell(&script, json!({"timeout": "100ms"}))).await;
    assert!(message.contains("took longer than 100ms"), "{message}");
    tokio::time::sleep(Duration::from_millis(2300)).await;
    assert!(!file.exists(), "a process of the group outlived its attempt");
}

#[tokio::test]
async fn what_a_process_leaves_behind_does_not_hold_up_its_step() {
    let fixture = engine(shell("sleep 60 & echo 1", json!({}))).await;
    let view = fixture.run("p", json!({})).await;
    assert_eq!(**view.result.as_ref().unwrap(), json!({"t": 1}));
}

#[tokio::test]
async fn large_inputs_and_outputs_pass_and_nobody_needs_to_read() {
    let text = "x".repeat(1 << 20);
    let fixture = engine(shell("cat", json!({"inputs": ["text"]}))).await;
    let view = fixture.run("p", json!({"text": text})).await;
    assert_eq!(view.result.unwrap()["t"]["text"].as_str().unwrap().len(), 1 << 20);
    let fixture = engine(shell("exec 0<&-; echo 5", json!({"inputs": ["text"]}))).await;
    assert_eq!(*fixture.run("p", json!({"text": text})).await.result.unwrap(), json!({"t": 5}));
}

/// Answers every request with what `answer` makes of it.
async fn service(answer: impl Fn(String) -> String + Send + Sync + 'static) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let mut bytes = vec![0; 65536];
            let mut text = String::new();
            loop {
                let count = socket.read(&mut bytes).await.unwrap_or(0);
                text.push_str(&String::from_utf8_lossy(&bytes[..count]));
                let length = text.to_lowercase().split("content-length: ").nth(1).map_or(0, |rest| {
                    rest.split_once("\r\n").map_or(0, |(number, _)| number.parse().unwrap_or(0))
                });
                let body = text.split_once("\r\n\r\n").map_or(0, |(_, body)| body.len());
                if count == 0 || (text.contains("\r\n\r\n") && body >= length) {
                    break;
                }
            }
            let _ = socket.write_all(answer(text).as_bytes()).await;
        }
    });
    format!("http://{address}")
}

fn answer(status: &str, kind: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
    )
}

#[tokio::test]
async fn a_request_is_made_of_templates_and_its_body_is_the_value() {
    let base = service(|request| {
        let first = request.lines().next().unwrap().to_owned();
        let body = request.split_once("\r\n\r\n").unwrap().1.to_owned();
        let header = request
            .lines()
            .find(|line| line.to_lowercase().starts_with("x-token"))
            .unwrap_or_default()
            .to_owned();
        answer(
            "200 OK",
            "application/json",
            &json!({"first": first, "body": body, "header": header}).to_string(),
        )
    })
    .await;
    let fixture = engine(json!({"id": "p", "tasks": [{
        "name": "t", "inputs": ["id"],
        "http": {
            "method": "POST", "url": format!("{base}/items/{{{{ id }}}}"), "query": {"q": "a&b {{ id }}"},
            "headers": {"x-token": "t{{ id }}"}, "json": "{'id': id}"
        }
    }]}))
    .await;
    let view = fixture.run("p", json!({"id": 7})).await;
    assert_eq!(view.error, None);
    let value = &view.result.unwrap()["t"];
    assert_eq!(value["first"], "POST /items/7?q=a%26b+7 HTTP/1.1");
    assert_eq!(value["body"], "{\"id\":7}");
    assert_eq!(value["header"], "x-token: t7");
}

#[tokio::test]
async fn whoever_starts_a_run_does_not_choose_where_its_secrets_go() {
    let base = service(|_| answer("200 OK", "text/plain", "")).await;
    let leak = base.trim_start_matches("http://").to_owned();
    for (url, value) in [
        ("http://api.example.com{{ v }}", format!("@{leak}/")),
        ("http://127.0.0.1/users/{{ v }}", "../admin".to_owned()),
    ] {
        let http = json!({"url": url, "headers": {"authorization": "Bearer secret"}});
        let definition = json!({"id": "p", "tasks": [{"name": "t", "inputs": ["v"], "http": http}]});
        let view = engine(definition).await.run("p", json!({"v": value})).await;
        let message = view.error.unwrap().message;
        assert!(message.contains("a value"), "{message}");
    }
}

#[tokio::test]
async fn a_status_of_400_or_more_is_a_failure_unless_the_whole_answer_is_wanted() {
    let base = service(|_| answer("404 Not Found", "text/plain", "nothing")).await;
    let http = |more: Value| {
        let mut http = json!({"url": base});
        if let Some(response) = more.get("response") {
            http["response"] = response.clone();
        }
        json!({"id": "p", "tasks": [{"name": "t", "http": http}]})
    };
    assert_eq!(error_of(http(json!({}))).await, "the service answered 404 Not Found");
    let failed = engine(http(json!({}))).await.run("p", json!({})).await;
    assert_eq!(failed.steps[0].state.code.as_deref(), Some("http:404"));
    let view = engine(http(json!({"response": "full"}))).await.run("p", json!({})).await;
    let value = &view.result.unwrap()["t"];
    assert_eq!((&value["status"], &value["body"]), (&json!(404), &json!("nothing")));
}

#[tokio::test]
async fn link_local_addresses_are_not_reached_and_redirects_not_followed() {
    for url in [
        "http://169.254.169.254/latest",
        "http://[fe80::1]/",
        "http://[::ffff:169.254.1.1]/",
        "http://100.100.100.200/",
        "http://[fd00:ec2::254]/",
    ] {
        let message = error_of(json!({"id": "p", "tasks": [{"name": "t", "http": {"url": url}}]})).await;
        assert!(message.contains("link-local"), "{message}");
    }
    let base = service(|_| {
        "HTTP/1.1 302 Found\r\nlocation: /x\r\ncontent-length: 0\r\nconnection: close\r\n\r\n".to_owned()
    })
    .await;
    let message = error_of(json!({"id": "p", "tasks": [{"name": "t", "http": {"url": base}}]})).await;
    assert_eq!(message, "the service answered 302 Found");
}
