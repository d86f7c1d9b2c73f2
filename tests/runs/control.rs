//! Cancel, pause, retry, timeouts, and what a failure leaves.

use std::time::Duration;

use serde_json::json;
use taskiq_flow_testkit::{is_alive, until};

use crate::support::*;

/// How long after the answer to a cancel its processes may still be there: a promise to users.
const AFTER_CANCEL: Duration = Duration::from_secs(2);

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
    let gone = until(AFTER_CANCEL, async || (!found.iter().any(|pid| is_alive(*pid))).then_some(()));
    assert!(gone.await.is_some(), "processes of the step are still there");
    let view = ended(&client, &run_id).await;
    assert_eq!(view["status"], "cancelled");
    assert_eq!(step(&view, "script")["status"], "cancelled", "{view:#}");
    // What has ended cannot be cancelled.
    assert_eq!(client.post(&format!("/runs/{run_id}/cancel"), &json!({})).await.status, 409);
    assert_eq!(
        client.post("/runs/0190a000-0000-7000-8000-000000000000/cancel", &json!({})).await.status,
        404
    );
}

/// Runs that have room, runs that wait for it, and processes of a run.
const ROOM: usize = 12;
const WAITING: usize = 6;
const PROCESSES: usize = 3;

#[tokio::test]
async fn cancel_under_load_leaves_no_process_and_frees_every_place() {
    let builder = server().env("TASKIQ_FLOW_MAX_CONCURRENT_RUNS", ROOM.to_string());
    let pids = builder.dir().join("pids");
    // Half of them do not care for SIGTERM.
    let body =
        format!("test $x = 1 && trap '' TERM; echo $$ >> '{}'; while :; do sleep 1; done", pids.display());
    let argv = json!(["sh", "-c", format!("x=$(grep -o '\"x\": *[0-9]' | tail -c 2); {body}")]);
    let yaml = format!(
        "id: busy\ninputs:\n  xs: {{ type: array }}\ntasks:\n  - name: each\n    inputs: [xs]\n    \
         map: {{ over: xs, as: x, command: {argv} }}\n"
    );
    let server = builder.pipeline(&yaml).start().await;
    let client = client(&server);
    let items: Vec<usize> = (1..=PROCESSES).collect();
    let mut runs = Vec::new();
    for _ in 0..ROOM + WAITING {
        runs.push(start(&client, "busy", json!({ "xs": items })).await);
    }
    // Several times over: a place that was not given back would be missed the second time.
    const ROUNDS: usize = 3;
    for round in 1..=ROUNDS {
        let wanted = round * ROOM * PROCESSES;
        let found = until(LIMIT, async || {
            let text = std::fs::read_to_string(&pids).ok()?;
            let pids: Vec<u32> = text.lines().filter_map(|line| line.parse().ok()).collect();
            (pids.len() >= wanted).then_some(pids)
        });
        let found = found.await.unwrap_or_else(|| panic!("round {round}: not every place was free"));
        assert_eq!(found.len(), wanted, "no more runs under way than there is room");
        let cancel = async |run_id: String| {
            assert_eq!(client.post(&format!("/runs/{run_id}/cancel"), &json!({})).await.status, 202);
        };
        // Those that wait go first: a place that is given back would be theirs.
        for run_id in runs.split_off(ROOM) {
            cancel(run_id).await;
        }
        futures_util::future::join_all(runs.drain(..).map(cancel)).await;
        let left = async || {
            let alive = found.iter().filter(|pid| is_alive(**pid)).count();
            (alive == 0).then_some(())
        };
        assert!(until(AFTER_CANCEL, left).await.is_some(), "round {round}: processes are still there");
        // Nothing is begun that would outlive the server, which the end of the test kills.
        if round < ROUNDS {
            for _ in 0..ROOM {
                runs.push(start(&client, "busy", json!({ "xs": items })).await);
            }
        }
    }
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
