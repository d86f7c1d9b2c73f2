//! Definitions that are made to hurt.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use taskiq_flow_broker::{Broker, InMemoryBroker, TaskError};
use taskiq_flow_core::load::load_json;
use taskiq_flow_engine::{EngineOptions, RegisterError, ScheduleError, SubmitError};
use taskiq_flow_store::{MemoryStore, Origin};

use crate::support::{engine, request, start};

/// `p0` runs `p1` twice, that one `p2` twice, and so on.
fn doubling(depth: usize) -> Value {
    let call =
        |name: &str, next: usize| json!({"name": name, "pipeline": format!("p{next}"), "output": name});
    let one = |at: usize| match at == depth {
        true => json!({"id": format!("p{at}"), "tasks": [{"name": "a", "expression": "1", "output": "a"}]}),
        false => json!({"id": format!("p{at}"), "tasks": [call("a", at + 1), call("b", at + 1)]}),
    };
    Value::Array((0..=depth).map(one).collect())
}

#[tokio::test]
async fn pipelines_that_call_each_other_are_looked_at_once_each() {
    let fixture = engine(doubling(30)).await;
    let registered = fixture.engine.pipeline(&"p0".parse().unwrap()).unwrap();
    let started = Instant::now();
    fixture.engine.check_runnable(&registered).unwrap();
    // Looked at once for each way that leads there, it would be a thousand million times.
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
}

#[tokio::test]
async fn whether_a_pipeline_can_run_is_looked_at_again_when_what_it_needs_is_gone_or_there() {
    let broker = InMemoryBroker::new();
    let tasks = broker.registry().clone();
    let definitions = json!([
        {"id": "outer", "tasks": [{"name": "a", "pipeline": "inner", "output": "a"}]},
        {"id": "needs_task", "tasks": [{"name": "a", "task": "late", "output": "a"}]},
    ]);
    let store = Arc::new(MemoryStore::new());
    let fixture = start(store, broker, definitions, EngineOptions::default()).await;
    let engine = &fixture.engine;
    let refused = async |pipeline: &str| match engine.submit(request(pipeline, json!({}))).await {
        Ok(_) => false,
        Err(SubmitError::NotRunnable(_)) => true,
        Err(error) => panic!("{error}"),
    };
    let inner =
        || load_json(json!({"id": "inner", "tasks": [{"name": "a", "expression": "1"}]})).unwrap().remove(0);
    for _ in 0..2 {
        assert!(refused("outer").await);
        engine.register(inner(), Origin::Api).await.unwrap();
        assert!(!refused("outer").await && !refused("outer").await);
        engine.unregister(&"inner".parse().unwrap()).await.unwrap();
    }
    assert!(refused("outer").await && refused("needs_task").await);
    tasks.register("late", |_| async { Ok::<_, TaskError>(Value::Null) });
    assert!(!refused("needs_task").await);
}

#[tokio::test]
async fn pipelines_nest_only_so_deep() {
    let fixture = engine(doubling(70)).await;
    let refused = fixture.engine.submit(request("p0", json!({}))).await.unwrap_err();
    let SubmitError::NotRunnable(message) = &refused else { panic!("{refused:?}") };
    assert!(message.contains("more than 32"), "{message}");
}

#[tokio::test]
async fn a_definition_takes_no_schedule_of_another_pipeline() {
    let scheduled = |id: &str, schedule: &str, cron: &str| {
        json!({"id": id, "tasks": [{"name": "a", "expression": "1", "output": "a"}],
            "schedule": [{"id": schedule, "cron": cron}]})
    };
    let fixture = engine(scheduled("mine.x", "y", "0 0 1 1 *")).await;
    for cron in ["0 0 1 1 *", "* * * * *"] {
        let other = load_json(scheduled("mine", "x.y", cron)).unwrap().remove(0);
        let refused = fixture.engine.register(other, Origin::Api).await.unwrap_err();
        assert!(matches!(refused, RegisterError::Schedule(ScheduleError::Exists(_))), "{refused:?}");
    }
    assert_eq!(fixture.engine.schedule("mine.x.y").unwrap().pipeline_id.as_str(), "mine.x");
}
