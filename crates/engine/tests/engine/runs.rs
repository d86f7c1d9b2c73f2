//! Runs from request to result.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde_json::json;
use taskiq_flow_broker::{Broker, InMemoryBroker, TaskError};
use taskiq_flow_core::id::PipelineId;
use taskiq_flow_core::run::{RunStatus, StepStatus};
use taskiq_flow_engine::{EngineOptions, SubmitError};
use taskiq_flow_store::MemoryStore;

use crate::support::{engine, request, start};

fn sums() -> serde_json::Value {
    json!({
        "id": "sums",
        "inputs": {"a": {"type": "integer"}, "b": {"type": "integer", "default": 2}},
        "tasks": [
            {"name": "sum", "expression": "a + b", "inputs": ["a", "b"]},
            {"name": "double", "expression": "sum * 2", "inputs": ["sum"]}
        ]
    })
}

#[tokio::test]
async fn a_run_completes_with_its_result_steps_and_events() {
    let fixture = engine(sums()).await;
    let view = fixture.run("sums", json!({"a": 1})).await;
    assert_eq!(view.status, RunStatus::Completed);
    assert_eq!(**view.result.as_ref().unwrap(), json!({"double": 6}));
    assert_eq!((view.steps_completed, view.total_steps), (2, 2));
    assert!(view.started_at.is_some() && view.finished_at.is_some());
    let events = fixture.engine.events(view.run_id, 0, 100).await.unwrap();
    let seqs: Vec<_> = events.iter().map(|event| event.event.seq).collect();
    assert_eq!(seqs, (1..=seqs.len() as u64).collect::<Vec<_>>());
    assert_eq!(fixture.engine.events(view.run_id, 2, 2).await.unwrap().len(), 2);
    let medians = fixture.engine.median_durations(&"sums".parse().unwrap()).await.unwrap();
    assert_eq!(medians.len(), 2);
}

#[tokio::test]
async fn parameters_that_do_not_fit_are_refused_before_anything_starts() {
    let fixture = engine(sums()).await;
    for parameters in [json!({}), json!({"a": "x"}), json!({"a": 1, "c": 1})] {
        let refused = fixture.engine.submit(request("sums", parameters)).await.unwrap_err();
        assert!(matches!(refused, SubmitError::Parameters(_)), "{refused}");
    }
    let unknown = fixture.engine.submit(request("nope", json!({}))).await.unwrap_err();
    assert!(matches!(unknown, SubmitError::UnknownPipeline(_)));
    assert!(
        fixture
            .engine
            .runs(taskiq_flow_store::RunFilter { limit: 10, ..Default::default() })
            .await
            .unwrap()
            .runs
            .is_empty()
    );
}

#[tokio::test]
async fn the_same_idempotency_key_gets_the_same_run() {
    let fixture = engine(sums()).await;
    let mut first = request("sums", json!({"a": 1}));
    first.idempotency_key = Some("k".into());
    let one = fixture.engine.submit(first.clone()).await.unwrap();
    let two = fixture.engine.submit(first.clone()).await.unwrap();
    assert_eq!(one.run_id, two.run_id);
    assert!(one.created && !two.created);
    first.idempotency_key = Some("other".into());
    assert_ne!(fixture.engine.submit(first).await.unwrap().run_id, one.run_id);
    let both = (0..20).map(|_| {
        let mut same = request("sums", json!({"a": 1}));
        same.idempotency_key = Some("at once".into());
        fixture.engine.submit(same)
    });
    let answers: Vec<_> =
        futures_util::future::join_all(both).await.into_iter().map(|r| r.unwrap().run_id).collect();
    assert!(answers.windows(2).all(|pair| pair[0] == pair[1]), "{answers:?}");
}

#[tokio::test]
async fn registered_tasks_are_called_retried_and_their_panics_caught() {
    let broker = InMemoryBroker::new();
    let calls = Arc::new(AtomicU32::new(0));
    let seen = Arc::clone(&calls);
    broker.registry().register("flaky", move |call| {
        let seen = Arc::clone(&seen);
        async move {
            assert_eq!(call.inputs.get("n").map(|n| (**n).clone()), Some(json!(5)));
            match seen.fetch_add(1, Ordering::SeqCst) {
                0 => Err(TaskError::new("not yet").code("not_ready")),
                1 => panic!("oh"),
                _ => Ok(json!(call.context.attempt)),
            }
        }
    });
    let definition = json!({"id": "p", "tasks": [{
        "name": "t", "task": "flaky", "inputs": ["n"],
        "retry": {"max_attempts": 3, "delay": "10ms"}
    }]});
    let fixture = start(Arc::new(MemoryStore::new()), broker, definition, EngineOptions::default()).await;
    let view = fixture.run("p", json!({"n": 5})).await;
    assert_eq!(**view.result.as_ref().unwrap(), json!({"t": 3}));
    let kinds: Vec<_> = fixture.engine.events(view.run_id, 0, 100).await.unwrap();
    let errors: Vec<_> =
        kinds.iter().filter(|event| event.event.fact.type_name() == "StepErrorEvent").collect();
    let codes: Vec<_> =
        errors.iter().map(|event| serde_json::to_value(event).unwrap()["code"].clone()).collect();
    assert_eq!(codes, [json!("not_ready"), json!("panic")]);
}

#[tokio::test]
async fn what_cannot_run_here_is_refused_with_the_reason() {
    let fixture = engine(json!([
        {"id": "py", "tasks": [{"name": "add", "taskiq": {"task": "tasks:add"}}]},
        {"id": "rust", "tasks": [{"name": "r", "task": "nobody"}]},
        {"id": "a", "tasks": [{"name": "b", "pipeline": "b"}]},
        {"id": "b", "tasks": [{"name": "a", "map": {"over": "xs", "pipeline": "a"}}]},
    ]))
    .await;
    for (pipeline, expected) in [
        ("py", "the broker in use (`broker_url`)"),
        ("rust", "no Rust task `nobody`"),
        ("a", "in a circle: a -> b -> a"),
    ] {
        let error = fixture.engine.submit(request(pipeline, json!({}))).await.unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
    }
}

#[tokio::test]
async fn a_pipeline_can_be_a_step_of_another() {
    let fixture = engine(json!([
        sums(),
        {"id": "outer", "inputs": {"xs": {"type": "array"}}, "tasks": [
            {"name": "each", "map": {"over": "xs", "as": "a", "pipeline": "sums"}, "output": "each"},
        ]},
        {"id": "bad", "tasks": [{"name": "in", "pipeline": "fails"}]},
        {"id": "fails", "tasks": [{"name": "x", "expression": "1 / 0"}]},
    ]))
    .await;
    let view = fixture.run("outer", json!({"xs": [1, 2]})).await;
    assert_eq!(view.error, None);
    assert_eq!(**view.result.as_ref().unwrap(), json!({"each": [{"double": 6}, {"double": 8}]}));
    let view = fixture.run("bad", json!({})).await;
    assert_eq!(view.status, RunStatus::Failed);
    assert!(view.error.unwrap().message.contains("of `fails` is failed"), "the inner run is named");
}

#[tokio::test]
async fn runs_beyond_the_room_wait_and_all_complete() {
    let options = EngineOptions { max_concurrent_runs: 2, shards: 1, ..Default::default() };
    let broker = InMemoryBroker::new();
    let (now, most) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
    let (counted, peak) = (Arc::clone(&now), Arc::clone(&most));
    broker.registry().register("busy", move |_| {
        let (now, most) = (Arc::clone(&counted), Arc::clone(&peak));
        async move {
            most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            tokio::time::sleep(Duration::from_millis(5)).await;
            now.fetch_sub(1, Ordering::SeqCst);
            Ok(json!(null))
        }
    });
    let definition = json!({"id": "p", "tasks": [{"name": "t", "task": "busy"}]});
    let fixture = start(Arc::new(MemoryStore::new()), broker, definition, options).await;
    let mut runs = Vec::new();
    for _ in 0..20 {
        runs.push(fixture.submit("p", json!({})).await);
    }
    for run in runs {
        assert_eq!(fixture.ended(run).await.status, RunStatus::Completed);
    }
    assert_eq!(most.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn watchers_see_the_events_of_a_run_in_order() {
    let fixture = engine(sums()).await;
    let mut watcher = fixture.engine.watch("sums".parse::<PipelineId>().unwrap());
    let run_id = fixture.submit("sums", json!({"a": 1})).await;
    let mut seqs = Vec::new();
    loop {
        let event = watcher.recv().await.unwrap();
        assert_eq!(event.run_id, Some(run_id));
        seqs.push(event.event.seq);
        if event.event.fact.ends_run() {
            break;
        }
    }
    assert_eq!(seqs, (1..=seqs.len() as u64).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_timeout_ends_an_attempt_and_its_step() {
    let broker = InMemoryBroker::new();
    broker.registry().register("sleep", |_| async {
        tokio::time::sleep(Duration::from_secs(60)).await;
        Ok(json!(null))
    });
    let definition = json!({"id": "p", "tasks": [{"name": "t", "task": "sleep", "timeout": "50ms"}]});
    let fixture = start(Arc::new(MemoryStore::new()), broker, definition, EngineOptions::default()).await;
    let view = fixture.run("p", json!({})).await;
    assert_eq!(view.status, RunStatus::Failed);
    assert_eq!(view.steps[0].state.status, StepStatus::TimedOut);
    assert_eq!(&*view.error.unwrap().message, "took longer than 50ms");
}

#[tokio::test]
async fn a_value_that_no_store_can_keep_fails_its_run_and_hangs_nobody() {
    let broker = InMemoryBroker::new();
    broker.registry().register("deep", |_| async { Ok((0..1000).fold(json!(1), |inner, _| json!([inner]))) });
    let definition = json!({"id": "p", "tasks": [{"name": "t", "task": "deep"}]});
    let dir = tempfile::tempdir().unwrap();
    let options = taskiq_flow_store::SqliteOptions::new(dir.path().join("runs.db"));
    let store = taskiq_flow_store::SqliteStore::open(options).unwrap();
    let fixture = start(Arc::new(store), broker, definition, EngineOptions::default()).await;
    let view = fixture.run("p", json!({})).await;
    assert_eq!(view.status, RunStatus::Failed);
    let message = view.error.unwrap().message;
    assert!(message.contains("levels"), "it says why: {message}");
}
