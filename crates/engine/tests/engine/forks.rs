//! Runs that begin where another one was.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use serde_json::{Map, json};
use taskiq_flow_broker::InMemoryBroker;
use taskiq_flow_core::load::load_json;
use taskiq_flow_core::run::{RunStatus, StepStatus};
use taskiq_flow_engine::{ControlError, EngineOptions, Fork, SubmitError};
use taskiq_flow_store::{DeadLetterFilter, Origin, Store, Trigger};

use crate::faulty::FaultyStore;
use crate::support::{SOON, engine, request, start};

fn statuses(view: &taskiq_flow_core::run::RunView) -> Vec<StepStatus> {
    view.steps.iter().map(|step| step.state.status).collect()
}

#[tokio::test]
async fn a_fork_does_again_what_it_is_told_and_what_needs_that() {
    let fixture = engine(json!({"id": "p", "tasks": [
        {"name": "a", "expression": "n + 1", "inputs": ["n"]},
        {"name": "b", "expression": "a * m", "inputs": ["a", "m"]},
        {"name": "c", "expression": "b + 1", "inputs": ["b"]},
    ]}))
    .await;
    let first = fixture.run("p", json!({"n": 1, "m": 10})).await;
    assert_eq!(**first.result.as_ref().unwrap(), json!({"c": 21}));

    let parameters = json!({"m": 100, "n": 1}).as_object().cloned().unwrap();
    let fork = Fork { from: None, parameters };
    let forked = fixture.engine.fork(first.run_id, fork, "ops", None).await.unwrap();
    let view = fixture.ended(forked.run_id).await;
    assert_eq!(**view.result.as_ref().unwrap(), json!({"c": 201}));
    assert_eq!(statuses(&view), [StepStatus::Cached, StepStatus::Completed, StepStatus::Completed]);
    let record = fixture.engine.record(forked.run_id).await.unwrap();
    let expected = Trigger::Fork { run_id: first.run_id, from: None, principal: "ops".into() };
    assert_eq!(record.trigger, expected);

    let fork = Fork { from: Some("c".into()), parameters: Map::new() };
    let forked = fixture.engine.fork(first.run_id, fork, "ops", None).await.unwrap();
    let view = fixture.ended(forked.run_id).await;
    assert_eq!(statuses(&view), [StepStatus::Cached, StepStatus::Cached, StepStatus::Completed]);
    assert_eq!(view.status, RunStatus::Completed);
}

#[tokio::test]
async fn a_fork_follows_the_version_by_which_it_was_reckoned() {
    let version = |names: &[&str]| {
        let tasks: Vec<_> = names.iter().map(|name| json!({"name": name, "expression": "1"})).collect();
        json!({"id": "p", "tasks": tasks})
    };
    let store = Arc::new(FaultyStore::default());
    let options = EngineOptions { shards: 1, ..EngineOptions::default() };
    let shared: Arc<dyn Store> = store.clone();
    let fixture = start(shared, InMemoryBroker::new(), version(&["a", "b", "c"]), options).await;
    let (first, mut ending) = fixture.engine.submit_to_end(request("p", json!({})), None).await.unwrap();
    ending.wait(SOON).await.unwrap().unwrap();
    let (held, reads) = (store.reading.lock().await, store.reads.load(Ordering::SeqCst));
    let forked = tokio::spawn({
        let engine = fixture.engine.clone();
        let fork = Fork { from: Some("c".into()), parameters: Map::new() };
        async move { engine.fork(first.run_id, fork, "ops", None).await }
    });
    while store.reads.load(Ordering::SeqCst) == reads {
        tokio::task::yield_now().await;
    }
    // The values of its second step would be taken for those of a step that the new version does not have.
    let newer = load_json(json!([version(&["z"])])).unwrap().remove(0);
    fixture.engine.register(newer, Origin::Api).await.unwrap();
    drop(held);
    let forked = forked.await.unwrap().unwrap();
    let view = fixture.ended(forked.run_id).await;
    assert_eq!(statuses(&view), [StepStatus::Cached, StepStatus::Cached, StepStatus::Completed]);
    assert_eq!(fixture.engine.record(forked.run_id).await.unwrap().version, 1);
}

#[tokio::test]
async fn a_fork_that_cannot_be_is_refused_with_the_reason() {
    let definition = json!({"id": "p", "tasks": [
        {"name": "a", "expression": "n", "inputs": ["n"]}, {"name": "w", "wait": {"signal": "go"}}
    ]});
    let fixture = engine(definition).await;
    let run_id = fixture.submit("p", json!({"n": 1})).await;
    let fork = |from: Option<&str>, parameters: serde_json::Value| {
        let parameters = parameters.as_object().cloned().unwrap();
        fixture.engine.fork(run_id, Fork { from: from.map(str::to_owned), parameters }, "ops", None)
    };
    let running = fork(None, json!({})).await.unwrap_err();
    assert!(matches!(running, ControlError::Illegal { action: "be forked", .. }), "{running}");
    fixture.engine.cancel(run_id, "enough").await.unwrap();
    fixture.ended(run_id).await;
    let unknown = fork(Some("z"), json!({})).await.unwrap_err();
    assert!(matches!(&unknown, ControlError::UnknownStep(name) if name == "z"), "{unknown}");
    let wrong = fork(None, json!({"z": 1})).await.unwrap_err();
    assert!(matches!(&wrong, ControlError::Submit(SubmitError::Parameters(_))), "{wrong}");
}

#[tokio::test]
async fn a_dead_letter_is_replayed_and_dropped() {
    let flag = tempfile::tempdir().unwrap();
    let file = flag.path().join("ready");
    let script = format!("test -e {} && echo 5", file.display());
    let fixture = engine(json!({"id": "p", "tasks": [
        {"name": "before", "expression": "n", "inputs": ["n"]},
        {"name": "bad", "command": ["sh", "-c", script], "inputs": ["before"], "on_error": "dead_letter"},
        {"name": "after", "expression": "bad + before", "inputs": ["bad", "before"]},
    ]}))
    .await;
    let failed = fixture.run("p", json!({"n": 1})).await;
    assert_eq!(failed.status, RunStatus::Failed);
    let all = || fixture.engine.dead_letters(DeadLetterFilter { limit: 10, ..DeadLetterFilter::default() });
    let page = all().await.unwrap();
    let [letter] = page.letters.as_slice() else { panic!("one letter: {page:?}") };
    assert_eq!((letter.run_id, letter.step_run, &*letter.step), (failed.run_id, 1, "bad"));
    assert_eq!((&*letter.error, &*letter.inputs), ("exited with status 1", &json!({"before": 1})));
    assert_eq!((letter.replayed_by, page.next), (None, None));

    std::fs::write(&file, "").unwrap();
    let replayed = fixture.engine.replay_dead_letter(failed.run_id, 1, "ops", None).await.unwrap();
    let view = fixture.ended(replayed.run_id).await;
    assert_eq!(**view.result.as_ref().unwrap(), json!({"after": 6}));
    assert_eq!(statuses(&view), [StepStatus::Cached, StepStatus::Completed, StepStatus::Completed]);
    assert_eq!(all().await.unwrap().letters[0].replayed_by, Some(replayed.run_id));
    let trigger = fixture.engine.record(replayed.run_id).await.unwrap().trigger;
    assert!(matches!(&trigger, Trigger::Fork { from: Some(from), .. } if from == "bad"), "{trigger:?}");

    fixture.engine.drop_dead_letter(failed.run_id, 1).await.unwrap();
    assert!(all().await.unwrap().letters.is_empty());
    let gone = fixture.engine.replay_dead_letter(failed.run_id, 1, "ops", None).await.unwrap_err();
    assert!(matches!(gone, ControlError::UnknownDeadLetter(_, 1)), "{gone}");
    let gone = fixture.engine.drop_dead_letter(failed.run_id, 1).await.unwrap_err();
    assert!(matches!(gone, ControlError::UnknownDeadLetter(_, 1)), "{gone}");
}

#[tokio::test]
async fn a_failed_run_undoes_its_steps_with_real_work() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let note = |what: &str| json!(["sh", "-c", format!("echo {what} >> {}", log.display())]);
    let fixture = engine(json!({"id": "p", "tasks": [
        {"name": "one", "command": note("one"), "compensate": {"command": note("undo-one")}},
        {"name": "two", "command": note("two"), "inputs": ["one"], "compensate": {"command": note("undo-two")}},
        {"name": "bad", "command": ["false"], "inputs": ["two"]},
    ]}))
    .await;
    let view = fixture.run("p", json!({})).await;
    assert_eq!(view.status, RunStatus::Failed);
    assert_eq!(std::fs::read_to_string(&log).unwrap(), "one\ntwo\nundo-two\nundo-one\n");
    let undone: Vec<_> = view.compensation.iter().map(|step| step.id.to_string()).collect();
    assert_eq!(undone, ["undo two", "undo one"]);
    let retried = fixture.engine.retry(view.run_id, "ops", None).await.unwrap();
    let again = fixture.ended(retried.run_id).await;
    assert_eq!(statuses(&again), [StepStatus::Completed, StepStatus::Completed, StepStatus::Failed]);
}
