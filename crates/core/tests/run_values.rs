//! Which values a run hands to its attempts, and that it hands out no copies.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value, json};
use taskiq_flow_core::id::RunId;
use taskiq_flow_core::load::load_json;
use taskiq_flow_core::plan::Plan;
use taskiq_flow_core::run::{Command, Effects, Input, Outcome, Run, RunStatus, Work};
use taskiq_flow_core::time::Timestamp;

fn now() -> Timestamp {
    Timestamp::from_millis(1_000_000)
}

fn run_of(definition: Value) -> Run {
    let pipeline = load_json(definition).unwrap().remove(0);
    let plan = Arc::new(Plan::new(Arc::new(pipeline)).unwrap());
    Run::new(plan, RunId::new(), &Map::new(), now())
}

fn works(effects: Effects) -> Vec<Work> {
    let work = |command| match command {
        Command::Dispatch(work) => Some(*work),
        _ => None,
    };
    effects.commands.into_iter().filter_map(work).collect()
}

fn completed(work: &Work, value: Value) -> Input {
    let outcome = Outcome::Completed(Arc::new(value));
    Input::Finished { step_run: work.step_run, attempt: work.attempt, outcome, duration: Duration::ZERO }
}

#[test]
fn an_output_of_several_is_shared_by_all_who_need_it() {
    let mut run = run_of(json!({"id": "p", "tasks": [
        {"name": "make", "expression": "0", "outputs": ["list", "rest"]},
        {"name": "a", "expression": "list", "inputs": ["list"]},
        {"name": "b", "expression": "list", "inputs": {"list": "list", "rest": "rest"}},
    ]}));
    let make = works(run.handle(Input::Start { reuse: Vec::new() }, now()).unwrap()).remove(0);
    let next = works(run.handle(completed(&make, json!({"list": [1, 2], "rest": 3})), now()).unwrap());
    let lists: Vec<_> = next.iter().map(|work| work.inputs.get("list").unwrap()).collect();
    assert_eq!(**lists[0], json!([1, 2]));
    // A copy for each item of a map over it would make the work grow with its square.
    assert!(Arc::ptr_eq(lists[0], lists[1]));
    assert_eq!(**next[1].inputs.get("rest").unwrap(), json!(3));
}

#[test]
fn a_wait_whose_value_is_taken_over_leaves_the_signal_to_the_next() {
    let mut run = run_of(json!({"id": "p", "tasks": [
        {"name": "first", "wait": {"signal": "go"}},
        {"name": "second", "wait": {"signal": "go"}, "inputs": ["first"]},
    ]}));
    run.handle(Input::Signal { name: "go".into(), value: Arc::new(json!(2)), by: None }, now()).unwrap();
    run.handle(Input::Start { reuse: vec![(0, Arc::new(json!(1)))] }, now()).unwrap();
    assert_eq!(run.status(), RunStatus::Completed);
    assert_eq!(**run.result().unwrap(), json!({"second": 2}));
}
