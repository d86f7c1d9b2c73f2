//! What keeps the server busy: pipelines whose commands each leave a line behind, and clients that ask for runs until the
//! server is gone.

use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::{Value, json};
use taskiq_flow_testkit::Client;

/// Clients that ask at the same time.
const CLIENTS: usize = 3;

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Load {
    /// Runs with steps in a row, items at once, and an attempt that fails.
    Work,
    /// Runs that are cancelled while they go.
    Cancelled,
    /// Runs that wait for a signal.
    Signalled,
    /// Runs whose step is a run of another pipeline.
    Inner,
    /// Nothing: a schedule fires each second.
    Scheduled,
    /// Runs that an earlier death has left unfinished; they are taken up at the start. They wait for a signal that comes when
    /// no more deaths do, so that none of them can have ended before.
    Unfinished,
    /// Runs that ended so long ago that they are removed at the start.
    Aged,
    /// Runs with a map whose items are carried out several at a time.
    Chunked,
    /// Runs of whose ends a webhook is told.
    Told,
    /// Runs of Rust tasks that are over in an instant.
    Instant,
}

/// What clients asked for, and were told.
#[derive(Debug, Default)]
pub(crate) struct Asked {
    /// Of accepted runs: the id, and the pipeline.
    pub(crate) accepted: Vec<(String, &'static str)>,
    /// Requests that were not answered: the path, the idempotency key of a new run, the body.
    pub(crate) unanswered: Vec<(String, Option<String>, Value)>,
    /// Runs whose cancel was answered.
    pub(crate) cancelled: Vec<String>,
    keys: u32,
}

/// The pipelines, each as YAML. Every command appends its run, step and attempt to the file.
pub(crate) fn pipelines(load: Load, effects: &Path) -> Vec<String> {
    let script = |then: &str| {
        let line = "$TASKIQ_FLOW_RUN_ID $TASKIQ_FLOW_STEP $TASKIQ_FLOW_ATTEMPT";
        json!(["sh", "-c", format!("echo \"{line}\" >> '{}'; {then}", effects.display())])
    };
    let one = script("echo 1");
    let flaky = script("test \"$TASKIQ_FLOW_ATTEMPT\" -ge 2 && echo 1");
    let work = format!(
        "id: work\ninputs:\n  list: {{ type: array, default: [1, 2] }}\ntasks:\n  - {{ name: first, command: {one} }}\n  \
         - name: each\n    inputs: [first, list]\n    map: {{ over: list, as: x, command: {one} }}\n  \
         - name: flaky\n    inputs: [first]\n    command: {flaky}\n    \
         retry: {{ max_attempts: 5, delay: 20ms, jitter: false }}\n  \
         - {{ name: last, inputs: [each, flaky], command: {one} }}\n"
    );
    let row = |id: &str, schedule: &str| {
        format!(
            "id: {id}\ntasks:\n  - {{ name: first, command: {one} }}\n  \
             - {{ name: last, inputs: [first], command: {one} }}\n{schedule}"
        )
    };
    let slow = script("sleep 600");
    match load {
        Load::Work | Load::Aged | Load::Told => vec![work],
        Load::Chunked => vec![format!(
            "id: chunks\ninputs:\n  list: {{ type: array, default: [1, 2, 3, 4, 5] }}\ntasks:\n  - name: each\n    \
             inputs: [list]\n    map: {{ over: list, as: x, chunk: 2, max_parallel: 2, command: {one} }}\n  \
             - {{ name: last, inputs: [each], command: {one} }}\n"
        )],
        Load::Instant => vec![
            "id: instant\ntasks:\n  - { name: first, task: note }\n  - { name: left, inputs: [first], task: note }\n  \
             - { name: right, inputs: [first], task: note }\n  - { name: last, inputs: [left, right], task: note }\n"
                .to_owned(),
        ],
        Load::Cancelled => vec![format!("id: slow\ntasks:\n  - {{ name: first, command: {slow} }}\n")],
        Load::Signalled | Load::Unfinished => vec![format!(
            "id: ask\ntasks:\n  - {{ name: first, command: {one} }}\n  \
             - {{ name: gate, inputs: [first], wait: {{ signal: go }} }}\n  \
             - {{ name: last, inputs: [gate], command: {one} }}\n"
        )],
        Load::Inner => vec![
            row("inner", ""),
            format!(
                "id: outer\ntasks:\n  - {{ name: first, command: {one} }}\n  \
                 - {{ name: within, inputs: [], pipeline: inner }}\n  \
                 - {{ name: last, inputs: [first, within], command: {one} }}\n"
            ),
        ],
        Load::Scheduled => vec![row("tick", "schedule:\n  - { id: tick, interval: 1s }\n")],
    }
}

/// Asks for runs, and controls them, until the server does not answer any more. Nothing is asked for where a schedule
/// does that.
pub(crate) async fn ask_until_gone(load: Load, client: &Client, asked: &Arc<Mutex<Asked>>) {
    if load == Load::Scheduled {
        return;
    }
    let clients = (0..CLIENTS).map(|_| {
        let (client, asked) = (client.clone(), Arc::clone(asked));
        async move { while ask(load, &client, &asked).await {} }
    });
    let mut tasks = tokio::task::JoinSet::new();
    clients.for_each(|asking| drop(tasks.spawn(asking)));
    while let Some(ended) = tasks.join_next().await {
        ended.unwrap();
    }
}

/// One request for a run and what goes with it. Whether it was answered.
pub(crate) async fn ask(load: Load, client: &Client, asked: &Mutex<Asked>) -> bool {
    let pipeline = match load {
        Load::Cancelled => "slow",
        Load::Signalled | Load::Unfinished => "ask",
        Load::Inner => "outer",
        Load::Chunked => "chunks",
        Load::Instant => "instant",
        _ => "work",
    };
    let key = {
        let mut asked = asked.lock();
        asked.keys += 1;
        format!("key-{}", asked.keys)
    };
    let path = format!("/pipelines/{pipeline}/execute");
    let Some(run_id) = post(client, &path, Some(&key), &json!({}), asked).await else { return false };
    asked.lock().accepted.push((run_id.clone(), pipeline));
    match load {
        Load::Cancelled => {
            let answered = post(client, &format!("/runs/{run_id}/cancel"), None, &json!({}), asked).await;
            if answered.is_some() {
                asked.lock().cancelled.push(run_id);
                return true;
            }
            false
        }
        Load::Signalled => {
            post(client, &format!("/runs/{run_id}/signals/go"), None, &json!(true), asked).await.is_some()
        }
        _ => true,
    }
}

/// The run of the answer, which must be 202.
async fn post(
    client: &Client,
    path: &str,
    key: Option<&str>,
    body: &Value,
    asked: &Mutex<Asked>,
) -> Option<String> {
    let keyed = match key {
        Some(key) => client.clone().header("Idempotency-Key", key),
        None => client.clone(),
    };
    match keyed.try_post(path, body).await {
        Some(reply) => {
            assert_eq!(reply.status, 202, "{path}: {}", reply.text());
            Some(reply.json()["run_id"].as_str().unwrap_or_default().to_owned())
        }
        None => {
            let unanswered = (path.to_owned(), key.map(str::to_owned), body.clone());
            asked.lock().unanswered.push(unanswered);
            None
        }
    }
}

/// Asks again what was not answered. A run that had been accepted after all is the same run, and what cannot be done any
/// more had been done.
pub(crate) async fn ask_again(client: &Client, asked: &mut Asked) {
    for (path, key, body) in std::mem::take(&mut asked.unanswered) {
        let Some(key) = key else {
            let reply = client.post(&path, &body).await;
            assert!([202, 409].contains(&reply.status), "{path}: {}", reply.text());
            continue;
        };
        let pipeline = match path.as_str() {
            "/pipelines/slow/execute" => "slow",
            "/pipelines/ask/execute" => "ask",
            "/pipelines/outer/execute" => "outer",
            "/pipelines/chunks/execute" => "chunks",
            "/pipelines/instant/execute" => "instant",
            _ => "work",
        };
        let keyed = client.clone().header("Idempotency-Key", &key);
        let run_id = keyed.post(&path, &body).await.expect(202).json()["run_id"].as_str().unwrap().to_owned();
        assert!(asked.accepted.iter().all(|(known, _)| *known != run_id), "{key} has the run of another key");
        match pipeline {
            "slow" => {
                client.post(&format!("/runs/{run_id}/cancel"), &json!({})).await.expect(202);
                asked.cancelled.push(run_id.clone());
            }
            "ask" => drop(client.post(&format!("/runs/{run_id}/signals/go"), &json!(true)).await.expect(202)),
            _ => {}
        }
        asked.accepted.push((run_id, pipeline));
    }
}
