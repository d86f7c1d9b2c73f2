//! Cancel, pause, resume, retry, signals, schedules.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde_json::json;
use taskiq_flow_broker::{Broker, InMemoryBroker, TaskError};
use taskiq_flow_core::definition::{ScheduleRules, Timing};
use taskiq_flow_core::run::{RunStatus, StepStatus};
use taskiq_flow_engine::{ControlError, EngineOptions, ScheduleChange, ScheduleRequest};
use taskiq_flow_store::{MemoryStore, RunFilter};

use crate::support::{engine, start};

#[tokio::test]
async fn cancel_stops_an_attempt_and_frees_the_run() {
    let fixture = engine(json!({"id": "p", "tasks": [
        {"name": "long", "command": ["sleep", "60"]},
        {"name": "after", "expression": "long", "inputs": ["long"]},
    ]}))
    .await;
    let run_id = fixture.submit("p", json!({})).await;
    fixture.until(run_id, |view| view.steps[0].state.status == StepStatus::Running).await;
    fixture.engine.cancel(run_id, "enough").await.unwrap();
    let view = fixture.ended(run_id).await;
    assert_eq!(view.status, RunStatus::Cancelled);
    assert!(view.steps.iter().all(|step| step.state.status == StepStatus::Cancelled));
    let again = fixture.engine.cancel(run_id, "enough").await.unwrap_err();
    assert!(matches!(again, ControlError::Illegal { status: RunStatus::Cancelled, .. }), "{again}");
}

#[tokio::test]
async fn a_signal_ends_a_wait_and_an_unknown_one_is_refused() {
    let fixture = engine(json!({"id": "p", "tasks": [
        {"name": "ask", "wait": {"signal": "approval", "timeout": "1h"}},
        {"name": "after", "expression": "ask.ok", "inputs": ["ask"]},
    ]}))
    .await;
    let run_id = fixture.submit("p", json!({})).await;
    let unknown = fixture.engine.signal(run_id, "nope", json!(1), None).await.unwrap_err();
    assert!(matches!(unknown, ControlError::UnknownSignal(_)));
    fixture.engine.signal(run_id, "approval", json!({"ok": true}), None).await.unwrap();
    assert_eq!(**fixture.ended(run_id).await.result.as_ref().unwrap(), json!({"after": true}));
}

#[tokio::test]
async fn a_paused_run_starts_nothing_until_it_is_resumed() {
    let fixture = engine(json!({"id": "p", "tasks": [
        {"name": "gate", "wait": {"signal": "go"}},
        {"name": "after", "expression": "1", "inputs": ["gate"]},
    ]}))
    .await;
    let run_id = fixture.submit("p", json!({})).await;
    fixture.until(run_id, |view| view.status == RunStatus::Running).await;
    fixture.engine.pause(run_id).await.unwrap();
    fixture.engine.signal(run_id, "go", json!(null), None).await.unwrap();
    let view = fixture.until(run_id, |view| view.steps[0].state.status == StepStatus::Completed).await;
    assert_eq!((view.status, view.steps[1].state.status), (RunStatus::Paused, StepStatus::Queued));
    fixture.engine.resume(run_id).await.unwrap();
    assert_eq!(fixture.ended(run_id).await.status, RunStatus::Completed);
}

#[tokio::test]
async fn a_retry_takes_over_what_was_done() {
    let broker = InMemoryBroker::new();
    let (first, second) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
    let (one, two) = (Arc::clone(&first), Arc::clone(&second));
    broker.registry().register("first", move |_| {
        one.fetch_add(1, Ordering::SeqCst);
        async { Ok(json!(7)) }
    });
    broker.registry().register("second", move |_| {
        let fails = two.fetch_add(1, Ordering::SeqCst) == 0;
        async move { if fails { Err(TaskError::permanent("broken")) } else { Ok(json!(8)) } }
    });
    let definition = json!({"id": "p", "tasks": [
        {"name": "a", "task": "first"}, {"name": "b", "task": "second", "inputs": ["a"]}
    ]});
    let fixture = start(Arc::new(MemoryStore::new()), broker, definition, EngineOptions::default()).await;
    let failed = fixture.run("p", json!({})).await;
    assert_eq!(failed.status, RunStatus::Failed);
    let retried = fixture.engine.retry(failed.run_id, "me", None).await.unwrap();
    assert_ne!(retried.run_id, failed.run_id);
    let view = fixture.ended(retried.run_id).await;
    assert_eq!(**view.result.as_ref().unwrap(), json!({"b": 8}));
    assert_eq!(view.steps[0].state.status, StepStatus::Cached);
    assert_eq!(first.load(Ordering::SeqCst), 1, "finished steps are not run again");
    let refused = fixture.engine.retry(retried.run_id, "me", None).await.unwrap_err();
    assert!(matches!(refused, ControlError::Illegal { .. }), "a completed run is not retried");
}

#[tokio::test]
async fn a_schedule_fires_once_for_its_time_and_can_be_paused_and_triggered() {
    let fixture = engine(json!({"id": "p", "inputs": {"n": {"type": "integer"}}, "tasks": [
        {"name": "t", "expression": "n", "inputs": ["n"]}
    ]}))
    .await;
    let soon = taskiq_flow_core::time::Timestamp::now().plus(Duration::from_millis(200));
    let request = |id: &str, timing| ScheduleRequest {
        id: Some(id.into()),
        pipeline_id: "p".parse().unwrap(),
        timing,
        timezone: "UTC".into(),
        parameters: json!({"n": 4}).as_object().unwrap().clone(),
        enabled: true,
        rules: ScheduleRules::default(),
    };
    let record = fixture.engine.create_schedule(request("once", Timing::At(soon))).await.unwrap();
    assert_eq!(record.next_fire_at, Some(soon));
    assert!(fixture.engine.create_schedule(request("once", Timing::At(soon))).await.is_err());
    let runs =
        || async { fixture.engine.runs(RunFilter { limit: 10, ..Default::default() }).await.unwrap().runs };
    for _ in 0..200 {
        if !runs().await.is_empty() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let fired = runs().await;
    assert_eq!(fired.len(), 1);
    assert_eq!(**fixture.ended(fired[0].run_id).await.result.as_ref().unwrap(), json!({"t": 4}));
    for _ in 0..100 {
        if fixture.engine.schedule("once").unwrap().last_fire_at.is_some() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(fixture.engine.schedule("once").unwrap().next_fire_at, None, "a one-off fires once");

    let hourly = request("hourly", Timing::Interval(Duration::from_secs(3600)));
    fixture.engine.create_schedule(hourly).await.unwrap();
    let off = ScheduleChange { enabled: Some(false), ..Default::default() };
    assert_eq!(fixture.engine.change_schedule("hourly", off).await.unwrap().next_fire_at, None);
    let run = fixture.engine.trigger_schedule("hourly", None).await.unwrap();
    assert_eq!(fixture.ended(run.run_id).await.status, RunStatus::Completed);
    fixture.engine.delete_schedule("hourly").await.unwrap();
    assert!(fixture.engine.schedule("hourly").is_none());
}
