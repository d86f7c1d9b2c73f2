//! What a run has left behind: its log, and the lines of its commands.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;

use serde_json::Value;
use taskiq_flow_testkit::{Client, Received};

/// How often each attempt of each step of each run was carried out.
#[derive(Debug, Default)]
pub(crate) struct Effects(HashMap<String, BTreeMap<(String, u64), u32>>);

impl Effects {
    pub(crate) fn read(file: &Path) -> Self {
        let mut effects = Self::default();
        for line in std::fs::read_to_string(file).unwrap().lines() {
            let words: Vec<&str> = line.split(' ').collect();
            let [run_id, step, attempt] = words.as_slice() else { panic!("no line of ours: {line:?}") };
            let of_run = effects.0.entry((*run_id).to_owned()).or_default();
            *of_run.entry(((*step).to_owned(), attempt.parse().unwrap())).or_default() += 1;
        }
        effects
    }
}

/// A run that was accepted has ended as it should, each step was completed once, and none was carried out again after
/// that.
pub(crate) async fn check_run(client: &Client, run_id: &str, wanted: &str, effects: &Effects) {
    let view = client.get(&format!("/runs/{run_id}")).await.expect(200).json();
    assert_eq!(view["status"], wanted, "{view:#}");
    let page = client.get(&format!("/runs/{run_id}/events?limit=1000")).await.expect(200).json();
    let events = page["events"].as_array().unwrap();
    let numbers: Vec<u64> = events.iter().map(|event| event["seq"].as_u64().unwrap()).collect();
    assert_eq!(numbers, (1..=events.len() as u64).collect::<Vec<_>>(), "{run_id}: a gap in the log");
    let of_type = |name: &str| events.iter().filter(|event| event["type"] == name).collect::<Vec<_>>();
    let ends = ["PipelineCompleteEvent", "PipelineErrorEvent", "PipelineCancelEvent"]
        .map(|name| of_type(name).len());
    assert_eq!(ends.iter().sum::<usize>(), 1, "{run_id} ended {ends:?} times");
    let mut completed: BTreeMap<&str, u64> = BTreeMap::new();
    for event in of_type("StepCompleteEvent") {
        let step = event["step"].as_str().unwrap();
        let before = completed.insert(step, event["attempt"].as_u64().unwrap());
        assert_eq!(before, None, "`{step}` of {run_id} completed twice: {events:#?}");
    }
    let mut started = BTreeSet::new();
    for event in of_type("StepStartEvent") {
        let start = (event["step"].as_str().unwrap(), event["attempt"].as_u64().unwrap());
        assert!(started.insert(start), "{start:?} of {run_id} started twice: {events:#?}");
    }
    let nothing = BTreeMap::new();
    let carried_out = effects.0.get(run_id).unwrap_or(&nothing);
    for ((step, attempt), times) in carried_out {
        assert_eq!(*times, 1, "attempt {attempt} of `{step}` of {run_id} was carried out {times} times");
        assert!(
            started.contains(&(step.as_str(), *attempt)),
            "attempt {attempt} of `{step}` of {run_id} is in no log"
        );
        let last = completed.get(step.as_str());
        assert!(
            last.is_none_or(|last| attempt <= last),
            "`{step}` of {run_id} was carried out again after its end: {carried_out:?} {events:#?}"
        );
    }
    if wanted == "completed" {
        let steps = view["steps"].as_array().unwrap();
        assert!(steps.iter().all(|step| completed.contains_key(step["id"].as_str().unwrap())), "{view:#}");
        let commands = carried_out.keys().map(|(step, _)| step.as_str()).collect::<BTreeSet<_>>();
        for step in commands {
            let last = (step.to_owned(), completed[step]);
            assert!(carried_out.contains_key(&last), "`{step}` of {run_id} has a value that nobody made");
        }
    }
}

/// The ids under which the end of each run was told, by run.
pub(crate) fn told(received: &[Received]) -> BTreeMap<String, BTreeSet<String>> {
    let mut told: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for request in received {
        let run_id = request.json()["event"]["run_id"].as_str().unwrap().to_owned();
        told.entry(run_id).or_default().insert(request.header("x-taskiq-flow-delivery").to_owned());
    }
    told
}

/// Each step that is a run of that pipeline has one such run, and it has completed.
pub(crate) async fn check_triggers(client: &Client, pipeline: &str, effects: &Effects) {
    let mut seen = BTreeSet::new();
    for run in runs(client, pipeline).await {
        let trigger = &run["trigger"];
        let step = (trigger["run_id"].to_string(), trigger["step_run"].to_string());
        assert!(seen.insert(step), "two runs of one step: {run:#}");
        check_run(client, run["run_id"].as_str().unwrap(), "completed", effects).await;
    }
}

/// Each time for which the schedule fired has one run.
pub(crate) async fn check_schedule(client: &Client, pipeline: &str, effects: &Effects) {
    let mut seen = BTreeSet::new();
    for run in runs(client, pipeline).await {
        let due = run["trigger"]["fire_at"].as_str().unwrap().to_owned();
        assert!(seen.insert(due), "two runs for one time: {run:#}");
        if run["status"] != "running" && run["status"] != "queued" {
            check_run(client, run["run_id"].as_str().unwrap(), "completed", effects).await;
        }
    }
    assert!(!seen.is_empty(), "the schedule never fired");
}

/// The newest runs of a pipeline.
async fn runs(client: &Client, pipeline: &str) -> Vec<Value> {
    let page = client.get(&format!("/runs?pipeline_id={pipeline}&limit=100")).await.expect(200).json();
    page["runs"].as_array().unwrap().clone()
}
