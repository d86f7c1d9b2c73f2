//! `runs` and `trigger` against a running server.

use std::time::Duration;

use serde_json::{Value, json};
use taskiq_flow_testkit::{Cli, Exit, Running, Server, ServerBuilder, until};

use crate::PROGRAM;

pub(crate) const LIMIT: Duration = Duration::from_secs(30);
const NO_RUN: &str = "0190a000-0000-7000-8000-000000000000";

const SUM: &str = "id: sum\ninputs:\n  a: { type: integer }\n  word: { type: string, default: w }\n\
    tasks:\n  - { name: add, expression: \"word ~ (a + 1)\", inputs: [a, word], output: out }\n";
const BROKEN: &str = "id: broken\ntasks:\n  - { name: good, expression: \"1\", output: one }\n  - name: bad\n    \
    command: [sh, \"-c\", \"echo first >&2; echo second >&2; exit 3\"]\n    output: two\n";
const ASK: &str = "id: ask\ntasks:\n  - { name: decide, wait: { signal: approve }, output: answer }\n  \
    - { name: after, expression: \"answer.by\", inputs: [answer], output: by }\n";

pub(crate) fn server() -> ServerBuilder {
    let keys = json!({
        "root": {"id": "boss", "role": "admin", "permissions": ["admin"]},
        "reader": {"id": "viewer-1", "role": "viewer", "permissions": ["read"]},
        "starter": {"id": "robot-1", "role": "robot", "permissions": ["execute"]},
    });
    Server::builder(PROGRAM)
        .env("TASKIQ_FLOW_API_KEYS", keys.to_string())
        .without_limits()
        .pipeline(SUM)
        .pipeline(BROKEN)
        .pipeline(ASK)
}

/// The command line of whoever has this key.
pub(crate) struct User {
    cli: Cli,
    url: String,
}

impl User {
    pub(crate) fn new(server: &Server, key: &str) -> Self {
        Self { cli: Cli::new(PROGRAM).env("TASKIQ_FLOW_API_KEY", key).limit(LIMIT), url: server.url() }
    }

    pub(crate) async fn run(&self, arguments: &[&str]) -> Exit {
        self.cli.run([arguments, &["--url", &self.url]].concat()).await
    }

    fn start(&self, arguments: &[&str]) -> Running {
        self.cli.start([arguments, &["--url", &self.url]].concat())
    }

    /// What a command that succeeds prints.
    pub(crate) async fn out(&self, arguments: &[&str]) -> String {
        let exit = self.run(arguments).await;
        assert_eq!(exit.code, Some(0), "{arguments:?}: {}", exit.output());
        exit.stdout.trim_end().to_owned()
    }

    pub(crate) async fn json(&self, arguments: &[&str]) -> Value {
        let text = self.out(&[arguments, &["--json"]].concat()).await;
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{arguments:?}: {error}: {text}"))
    }

    /// Waits until a step of a run is in a state.
    async fn until_step(&self, run: &str, step: &str, status: &str) {
        let found = until(LIMIT, async || {
            let view = self.json(&["runs", "show", run]).await;
            let mut steps = view["steps"].as_array()?.iter();
            (steps.find(|row| row["id"] == step)?["status"] == status).then_some(())
        });
        found.await.unwrap_or_else(|| panic!("{step} is never {status}"));
    }
}

#[tokio::test]
async fn trigger_starts_a_run_and_waits_for_what_comes_of_it() {
    let server = server().start().await;
    let user = User::new(&server, "root");
    // Without --wait: the id and nothing else, for scripts. A declared string stays one.
    let id = user.out(&["trigger", "sum", "-p", "a=4", "-p", "word=17"]).await;
    let watched = user.run(&["runs", "watch", &id]).await;
    assert_eq!(
        (watched.code, watched.stdout.trim_end()),
        (Some(0), r#"{"out":"175"}"#),
        "{}",
        watched.stderr
    );
    let waited = user.run(&["trigger", "sum", "-p", "a=1", "--wait"]).await;
    assert_eq!((waited.code, waited.stdout.trim_end()), (Some(0), r#"{"out":"w2"}"#), "{}", waited.stderr);
    assert!(waited.stderr.contains("add: completed in"), "{}", waited.stderr);
    let quiet = user.run(&["trigger", "sum", "-p", "a=1", "--wait", "--quiet"]).await;
    assert_eq!((quiet.code, quiet.stderr.as_str()), (Some(0), ""));
    let whole = user.json(&["trigger", "sum", "-p", "a=1", "--wait"]).await;
    assert_eq!((&whole["status"], &whole["steps"][0]["id"]), (&json!("completed"), &json!("add")), "{whole}");
    user.cli.file("input.json", r#"{"a": 7}"#);
    let of_file = user.out(&["trigger", "sum", "--input", "input.json", "--wait"]).await;
    assert_eq!(of_file, r#"{"out":"w8"}"#);
    // A failed run is no wrong call.
    let failed = user.run(&["trigger", "broken", "--wait"]).await;
    assert_eq!((failed.code, failed.stdout.as_str()), (Some(1), ""), "{}", failed.stderr);
    assert!(
        failed.stderr.contains("the run failed at `bad`") && failed.stderr.contains("status 3: second"),
        "{}",
        failed.stderr
    );
}

#[tokio::test]
async fn one_idempotency_key_starts_one_run() {
    let server = server().start().await;
    let user = User::new(&server, "root");
    let first = user.run(&["trigger", "sum", "-p", "a=4", "--idempotency-key", "monday"]).await;
    assert_eq!((first.code, first.stderr.as_str()), (Some(0), ""));
    let second = user.run(&["trigger", "sum", "-p", "a=4", "--idempotency-key", "monday"]).await;
    assert_eq!((second.code, &second.stdout), (Some(0), &first.stdout));
    assert!(second.stderr.contains("no other was started"), "{}", second.stderr);
    let other = user.out(&["trigger", "sum", "-p", "a=4", "--idempotency-key", "tuesday"]).await;
    assert_ne!(other, first.stdout.trim_end());
    assert_eq!(user.json(&["runs", "list"]).await["runs"].as_array().map(Vec::len), Some(2));
}

#[tokio::test]
async fn who_may_start_and_not_read_is_told_how_it_went() {
    let server = server().start().await;
    let user = User::new(&server, "starter");
    let done = user.run(&["trigger", "sum", "-p", "a=4", "--wait"]).await;
    assert_eq!((done.code, done.stdout.trim_end()), (Some(0), "null"), "{}", done.stderr);
    let failed = user.run(&["trigger", "broken", "--wait"]).await;
    assert_eq!((failed.code, failed.stdout.as_str()), (Some(1), ""), "{}", failed.stderr);
    assert!(!failed.stderr.contains("second"), "{}", failed.stderr);
    // Asking again while it waited started nothing more.
    let root = User::new(&server, "root");
    assert_eq!(root.json(&["runs", "list"]).await["runs"].as_array().map(Vec::len), Some(2));
}

#[tokio::test]
async fn runs_are_listed_and_shown() {
    let server = server().start().await;
    let user = User::new(&server, "root");
    let mut ids = Vec::new();
    for number in 0..3 {
        ids.push(user.out(&["trigger", "sum", "-p", &format!("a={number}")]).await);
    }
    let broken = user.json(&["trigger", "broken"]).await["run_id"].as_str().unwrap().to_owned();
    assert_eq!(user.run(&["runs", "watch", &broken]).await.code, Some(1));
    for id in &ids {
        user.out(&["runs", "watch", id]).await;
    }
    let table = user.out(&["runs", "list"]).await;
    let lines: Vec<&str> = table.lines().collect();
    assert_eq!(lines.len(), 5, "{table}");
    assert!(lines[0].starts_with("RUN ") && lines[1].starts_with(&broken), "newest first: {table}");
    assert!(lines[1].contains(" failed ") && lines[1].contains("bad: "), "{table}");
    assert!(
        lines[4].starts_with(&ids[0]) && lines[4].contains(" completed ") && lines[4].contains(" request "),
        "{table}"
    );
    let of_sum = user.json(&["runs", "list", "--pipeline", "sum", "--limit", "2"]).await;
    let listed: Vec<&str> =
        of_sum["runs"].as_array().unwrap().iter().map(|run| run["run_id"].as_str().unwrap()).collect();
    assert_eq!(listed, [ids[2].as_str(), ids[1].as_str()]);
    let failed = user.json(&["runs", "list", "--status", "failed"]).await;
    assert_eq!(failed["runs"].as_array().map(Vec::len), Some(1), "{failed}");

    let shown = user.out(&["runs", "show", &broken]).await;
    for words in ["status    failed", "error     bad: ", "outputs   {\"one\":1}", "steps     2 of 2 ended"] {
        assert!(shown.contains(words), "no {words:?}: {shown}");
    }
    let row = shown.lines().find(|line| line.starts_with("bad ")).unwrap();
    assert!(row.contains("command") && row.contains(" failed ") && row.contains(" 1 "), "{shown}");
    let shown = user.out(&["runs", "show", &ids[1]]).await;
    assert!(shown.contains("result    {\"out\":\"w2\"}"), "{shown}");
}

#[tokio::test]
async fn a_list_longer_than_a_page_is_whole() {
    let server = server().start().await;
    let user = User::new(&server, "root");
    let client = server.client().key("root");
    for number in 0..503 {
        client.post("/pipelines/sum/execute", &json!({ "parameters": { "a": number } })).await.expect(202);
    }
    let listed = user.json(&["runs", "list", "--limit", "1000"]).await;
    let ids: std::collections::HashSet<String> =
        listed["runs"].as_array().unwrap().iter().map(|run| run["run_id"].to_string()).collect();
    assert_eq!(ids.len(), 503);
    let listed = user.json(&["runs", "list", "--limit", "501"]).await;
    assert_eq!(listed["runs"].as_array().map(Vec::len), Some(501));
}

#[tokio::test]
async fn a_waiting_run_is_paused_resumed_and_approved() {
    let server = server().start().await;
    let user = User::new(&server, "root");
    let id = user.out(&["trigger", "ask"]).await;
    let watching = user.start(&["runs", "watch", &id]);
    let told = until(LIMIT, async || watching.stderr().contains("waits for signal `approve`").then_some(()));
    told.await.unwrap_or_else(|| panic!("not told: {}", watching.stderr()));
    assert!(watching.stderr().contains(&format!("runs signal {id} approve JSON")), "{}", watching.stderr());
    let shown = user.out(&["runs", "show", &id]).await;
    assert!(shown.contains("waits for signal approve"), "{shown}");
    user.out(&["runs", "pause", &id]).await;
    assert_eq!(user.json(&["runs", "show", &id]).await["status"], "paused");
    let again = user.run(&["runs", "pause", &id]).await;
    assert!(
        again.code == Some(1) && again.stderr.contains("409") && again.stderr.contains("paused"),
        "{}",
        again.output()
    );
    user.out(&["runs", "resume", &id]).await;
    let text = user.run(&["runs", "signal", &id, "approve", "yes"]).await;
    assert!(
        text.code == Some(2) && text.stderr.contains("no JSON") && text.stderr.contains("quotes"),
        "{}",
        text.output()
    );
    let sent = user.run(&["runs", "signal", &id, "approve", r#"{"by": "me"}"#]).await;
    assert!(sent.code == Some(0) && sent.stderr.contains("has the signal approve"), "{}", sent.output());
    let ended = until(LIMIT, async || watching.stdout().contains(r#"{"by":"me"}"#).then_some(()));
    ended.await.unwrap_or_else(|| panic!("{} {}", watching.stdout(), watching.stderr()));
    let late = user.run(&["runs", "signal", &id, "approve"]).await;
    assert!(late.code == Some(1) && late.stderr.contains("409"), "{}", late.output());
}

#[tokio::test]
async fn a_cancelled_run_can_be_retried() {
    let server = server().start().await;
    let user = User::new(&server, "root");
    let id = user.out(&["trigger", "ask"]).await;
    user.until_step(&id, "decide", "running").await;
    let watching = User::new(&server, "root");
    let watch = ["runs", "watch", &id];
    let cancel = ["runs", "cancel", &id, "--reason", "not today"];
    let (watched, cancelled) = tokio::join!(watching.run(&watch), user.run(&cancel));
    assert_eq!(cancelled.code, Some(0), "{}", cancelled.output());
    assert_eq!((watched.code, watched.stdout.as_str()), (Some(1), ""), "{}", watched.stderr);
    assert!(watched.stderr.contains("the run was cancelled"), "{}", watched.stderr);
    assert!(user.out(&["runs", "show", &id]).await.contains("not today"));
    let again = user.run(&["runs", "cancel", &id]).await;
    assert!(
        again.code == Some(1) && again.stderr.contains("409") && again.stderr.contains("cancelled"),
        "{}",
        again.output()
    );
    let second = user.out(&["runs", "retry", &id]).await;
    assert_ne!(second, id);
    user.out(&["runs", "signal", &second, "approve", r#"{"by": "you"}"#]).await;
    assert_eq!(user.out(&["runs", "watch", &second, "--quiet"]).await, r#"{"by":"you"}"#);
    let forked = user.out(&["runs", "fork", &second, "--from", "decide"]).await;
    user.out(&["runs", "signal", &forked, "approve", r#"{"by": "us"}"#]).await;
    assert_eq!(user.out(&["runs", "watch", &forked, "--quiet"]).await, r#"{"by":"us"}"#);
    let unknown = user.run(&["runs", "fork", &second, "--from", "nothing"]).await;
    assert!(unknown.code == Some(2) && unknown.stderr.contains("no step `nothing`"), "{}", unknown.output());
    let retried = user.run(&["runs", "retry", &second]).await;
    assert!(retried.code == Some(1) && retried.stderr.contains("completed"), "{}", retried.output());
}

#[tokio::test]
async fn watching_outlives_a_crash_of_the_server() {
    let mut server = server().start().await;
    let user = User::new(&server, "root");
    let id = user.out(&["trigger", "ask"]).await;
    let watching = user.start(&["runs", "watch", &id, "--json"]);
    let events = |count: usize| {
        let watching = &watching;
        until(LIMIT, async move || (watching.stdout().lines().count() >= count).then_some(()))
    };
    events(2).await.unwrap_or_else(|| panic!("{} {}", watching.stdout(), watching.stderr()));
    server.kill9().await;
    let lost = until(LIMIT, async || watching.stderr().contains("trying again").then_some(()));
    lost.await.expect("the loss is told");
    server.restart().await;
    user.out(&["runs", "signal", &id, "approve", r#"{"by": "me"}"#]).await;
    let ended = until(LIMIT, async || watching.stdout().contains("PipelineCompleteEvent").then_some(()));
    ended.await.unwrap_or_else(|| panic!("{} {}", watching.stdout(), watching.stderr()));
    let told = watching.stdout();
    let seqs: Vec<u64> = told
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["seq"].as_u64().unwrap())
        .collect();
    // Each once, none missing, over the crash.
    assert_eq!(seqs, (1..=seqs.len() as u64).collect::<Vec<_>>(), "{told}");
    let exit = watching.stop(LIMIT).await;
    assert_eq!(exit.stdout, told);
}

#[tokio::test]
async fn what_cannot_be_is_said_with_its_reason() {
    let server = server().start().await;
    let (root, reader) = (User::new(&server, "root"), User::new(&server, "reader"));
    let nobody = User::new(&server, "nobodys-key-of-this-test");
    let id = root.out(&["trigger", "ask"]).await;
    for (user, arguments, code, words) in [
        (&root, vec!["runs", "show", NO_RUN], 1, vec!["404", "no such run"]),
        (&root, vec!["runs", "watch", NO_RUN], 1, vec!["404"]),
        (&root, vec!["runs", "show", "monday"], 2, vec!["monday", "UUID"]),
        (&root, vec!["runs", "show", "."], 2, vec!["UUID"]),
        (&root, vec!["runs", "signal", &id, "aprove", "1"], 1, vec!["404", "aprove"]),
        (&root, vec!["runs", "list", "--status", "done"], 2, vec!["done", "completed"]),
        (&root, vec!["runs", "list", "--limit", "0"], 2, vec!["--limit"]),
        (&root, vec!["trigger", "none"], 1, vec!["404", "none"]),
        (&root, vec!["trigger", "../runs"], 2, vec!["../runs"]),
        (&root, vec!["trigger", "sum"], 2, vec!["422", "a"]),
        (&root, vec!["trigger", "sum", "-p", "a=x"], 2, vec!["a", "integer"]),
        (&root, vec!["trigger", "sum", "-p", "a"], 2, vec!["NAME=VALUE"]),
        (&reader, vec!["runs", "cancel", &id], 1, vec!["403", "security explain"]),
        (&reader, vec!["trigger", "sum", "-p", "a=1"], 1, vec!["403"]),
        (&nobody, vec!["runs", "list"], 1, vec!["403", "not accepted", "TASKIQ_FLOW_API_KEY"]),
    ] {
        let exit = user.run(&arguments).await;
        assert_eq!((exit.code, exit.stdout.as_str()), (Some(code), ""), "{arguments:?}: {}", exit.stderr);
        for word in words {
            assert!(exit.stderr.contains(word), "{arguments:?}: no {word}: {}", exit.stderr);
        }
    }
    assert_eq!(reader.json(&["runs", "show", &id]).await["pipeline_id"], "ask");
    let keyless = Cli::new(PROGRAM).run(["runs", "list"]).await;
    assert!(
        keyless.code == Some(2) && keyless.stderr.contains("TASKIQ_FLOW_API_KEY"),
        "{}",
        keyless.output()
    );
    let away = root.cli.run(["runs", "list", "--url", "http://127.0.0.1:1"]).await;
    assert!(away.code == Some(1) && away.stderr.contains("is the server running"), "{}", away.output());
}

#[tokio::test]
async fn runs_are_listed_and_counted_by_the_time_they_were_asked_for() {
    let server = server().start().await;
    let user = User::new(&server, "root");
    for pipeline in ["sum", "sum", "broken", "sum"] {
        let parameters: &[&str] = if pipeline == "sum" { &["-p", "a=1"] } else { &[] };
        user.run(&[&["trigger", pipeline, "--wait", "--quiet"], parameters].concat()).await;
    }
    let all = user.json(&["runs", "list"]).await;
    let asked: Vec<&str> =
        all["runs"].as_array().unwrap().iter().map(|run| run["created_at"].as_str().unwrap()).collect();
    assert_eq!(asked.len(), 4);
    let count = async |times: &[&str]| {
        let list = user.json(&[&["runs", "list"], times].concat()).await;
        list["runs"].as_array().unwrap().len()
    };
    // Newest first: the third is the second that was asked for.
    assert_eq!(count(&["--since", asked[2]]).await, 3);
    assert_eq!(count(&["--until", asked[2]]).await, 1);
    assert_eq!(count(&["--since", asked[2], "--until", asked[0]]).await, 2);
    assert_eq!((count(&["--since", "1h"]).await, count(&["--until", "1h"]).await), (4, 0));
    let sums = user.json(&["runs", "stats", "sum"]).await;
    assert_eq!((&sums["runs"], &sums["by_status"]), (&json!(3), &json!({ "completed": 3 })), "{sums}");
    assert_eq!((&sums["success_rate"], &sums["complete"]), (&json!(1.0), &json!(true)), "{sums}");
    let took = ["p50", "p95", "max"].map(|name| sums["duration_ms"][name].as_u64().unwrap());
    assert!(took.is_sorted(), "{sums}");
    let last = user.json(&["runs", "stats", "sum", "--since", asked[0]]).await;
    assert_eq!((&last["runs"], &last["since"]), (&json!(1), &json!(asked[0])), "{last}");
    let broken = user.json(&["runs", "stats", "broken", "--since", "1d"]).await;
    assert_eq!((&broken["success_rate"], &broken["duration_ms"]), (&json!(0.0), &Value::Null), "{broken}");
    let none = user.json(&["runs", "stats", "ask"]).await;
    assert_eq!((&none["runs"], &none["success_rate"]), (&json!(0), &Value::Null), "{none}");
    let text = user.out(&["runs", "stats", "sum"]).await;
    assert!(text.contains("success    100.0 %") && text.contains("95 of 100"), "{text}");
    assert_eq!(User::new(&server, "starter").run(&["runs", "stats", "sum"]).await.code, Some(1));
    assert_eq!(user.run(&["runs", "stats", "nothing"]).await.code, Some(1));
    assert_eq!(user.run(&["runs", "list", "--since", "yesterday"]).await.code, Some(2));
    let client = server.client().key("root");
    for path in ["/runs?since=yesterday", "/runs?until=", "/pipelines/sum/statistics?since=1h"] {
        client.get(path).await.expect(422);
    }
}
