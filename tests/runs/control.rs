//! Cancel, pause, retry, timeouts, and what a failure leaves.

use std::time::Duration;

use serde_json::json;
use taskiq_flow_testkit::{is_alive, until};

use crate::support::*;

#[tokio::test]
async fn cancel_kills_the_whole_process_group() {
    let builder = server();
    let pids = builder.dir().join("pids");
    // A child of the shell that does not care for SIGTERM.
    let body = format!(
        "(trap '' TERM; echo $$ > {0}; sh -c 'trap \"\" TERM; echo $$ >> {0}; while :; do sleep 1; done')",
        pids.display()
    );
    let server = builder.pipeline(&script("stubborn", &body, "")).start().await;
    let client = client(&server);
    let run_id = start(&client, "stubborn", json!({})).await;
    let found = until(LIMIT, async || {
        let text = std::fs::read_to_string(&pids).ok()?;
        let pids: Vec<u32> = text.lines().filter_map(|line| line.parse().ok()).collect();
        (pids.len() == 2).then_some(pids)
    });
    let found = found.await.expect("the processes started");
    assert!(found.iter().all(|pid| is_alive(*pid)));
    assert_eq!(client.post(&format!("/runs/{run_id}/cancel"), &json!({})).await.status, 202);
    let view = ended(&client, &run_id).await;
    assert_eq!(view["status"], "cancelled");
    assert_eq!(step(&view, "script")["status"], "cancelled", "{view:#}");
    let gone =
        until(Duration::from_secs(5), async || (!found.iter().any(|pid| is_alive(*pid))).then_some(()));
    assert!(gone.await.is_some(), "processes of the step are still there");
    // What has ended cannot be cancelled.
    assert_eq!(client.post(&format!("/runs/{run_id}/cancel"), &json!({})).await.status, 409);
    assert_eq!(
        client.post("/runs/0190a000-0000-7000-8000-000000000000/cancel", &json!({})).await.status,
        404
    );
}

#[tokio::test]
async fn a_step_and_a_run_that_take_too_long_are_ended() {
    let of_step = "id: step-limit\ntasks:\n  - name: slow\n    command: [\"sleep\", \"60\"]\n    output: out\n    timeout: 300ms\n";
    let of_run = script("run-limit", "sleep 60", "timeout: 300ms\n");
    let server = server().pipeline(of_step).pipeline(&of_run).start().await;
    let client = client(&server);
    let run_id = start(&client, "step-limit", json!({})).await;
    let view = ended(&client, &run_id).await;
    assert_eq!(
        (&view["status"], &step(&view, "slow")["status"]),
        (&json!("failed"), &json!("timed_out")),
        "{view:#}"
    );
    let run_id = start(&client, "run-limit", json!({})).await;
    let view = ended(&client, &run_id).await;
    assert_eq!(view["status"], "timed_out", "{view:#}");
}

#[tokio::test]
async fn a_failure_skips_what_depends_on_it_and_keeps_what_was_finished() {
    let yaml = "id: broken\ntasks:\n  - name: good\n    expression: \"1\"\n    output: one\n  - name: bad\n    \
        command: [\"sh\", \"-c\", \"echo the reason >&2; exit 3\"]\n    inputs: [one]\n    output: two\n  - name: after\n    \
        expression: two\n    inputs: [two]\n    output: three\n";
    let server = server().pipeline(yaml).start().await;
    let client = client(&server);
    let run_id = start(&client, "broken", json!({})).await;
    let view = ended(&client, &run_id).await;
    assert_eq!(view["status"], "failed");
    let states = ["good", "bad", "after"].map(|id| step(&view, id)["status"].clone());
    assert_eq!(states, ["completed", "failed", "skipped"]);
    let error = view["error"].to_string();
    assert!(error.contains("bad") && error.contains("status 3") && error.contains("the reason"), "{error}");
    let retried = client.post(&format!("/runs/{run_id}/retry"), &json!({})).await;
    assert_eq!(retried.status, 202, "{}", retried.text());
}

#[tokio::test]
async fn a_failed_attempt_is_made_again_as_often_as_it_may_be() {
    let builder = server();
    let count = builder.dir().join("count");
    // Succeeds the third time.
    let body = format!("echo x >> {0}; test $(wc -l < {0}) -ge 3 && echo 1", count.display());
    let retry = "    retry: { max_attempts: 3, delay: 10ms, jitter: false }\n";
    let good = format!("{}{retry}", script("third-time", &body, ""));
    let never = format!("{}{retry}", script("never", "exit 1", ""));
    let server = builder.pipeline(&good).pipeline(&never).start().await;
    let client = client(&server);
    let view = ended(&client, &start(&client, "third-time", json!({})).await).await;
    assert_eq!(
        (&view["status"], &step(&view, "script")["attempt"]),
        (&json!("completed"), &json!(3)),
        "{view:#}"
    );
    let view = ended(&client, &start(&client, "never", json!({})).await).await;
    assert_eq!(
        (&view["status"], &step(&view, "script")["attempt"]),
        (&json!("failed"), &json!(3)),
        "{view:#}"
    );
}

#[tokio::test]
async fn a_paused_run_starts_nothing_until_it_is_resumed() {
    let yaml = "id: two\ntasks:\n  - name: first\n    command: [\"sleep\", \"0.4\"]\n    output: a\n  - name: second\n    \
        expression: \"2\"\n    inputs: [a]\n    output: b\n";
    let server = server().pipeline(yaml).start().await;
    let client = client(&server);
    let run_id = start(&client, "two", json!({})).await;
    let control = async |what: &str| client.post(&format!("/runs/{run_id}/{what}"), &json!({})).await.status;
    view_when(&client, &run_id, "running", |view| view["status"] == "running").await;
    assert_eq!(control("pause").await, 202);
    let first_done = |view: &serde_json::Value| step(view, "first")["status"] == "completed";
    let paused = view_when(&client, &run_id, "done with its first step", first_done).await;
    assert_eq!(paused["status"], "paused", "{paused:#}");
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(step(&view(&client, &run_id).await, "second")["status"] != "completed");
    assert_eq!(control("pause").await, 409, "it is paused already");
    assert_eq!(control("resume").await, 202);
    assert_eq!(ended(&client, &run_id).await["result"], json!({ "b": 2 }));
    assert_eq!(control("resume").await, 409);
}
