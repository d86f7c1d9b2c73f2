//! Items that one attempt carries out together.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde_json::json;
use taskiq_flow_broker::{Broker, InMemoryBroker, TaskError};
use taskiq_flow_core::run::{ItemFilter, RunStatus, StepStatus};
use taskiq_flow_engine::EngineOptions;
use taskiq_flow_store::MemoryStore;

use crate::support::{Fixture, engine, start};

/// `double` counts its calls; it fails once for a negative number, and for good for a text.
async fn counting(definition: serde_json::Value) -> (Fixture, Arc<AtomicU32>) {
    let (broker, count) = (InMemoryBroker::new(), Arc::new(AtomicU32::new(0)));
    let counted = Arc::clone(&count);
    broker.registry().register("double", move |call| {
        let counted = Arc::clone(&counted);
        async move {
            counted.fetch_add(1, Ordering::SeqCst);
            let x = call.inputs.get("x").cloned().unwrap_or_default();
            match x.as_i64() {
                Some(x) if x < 0 && call.context.attempt == 1 => Err(TaskError::new("not yet")),
                Some(x) => Ok(json!([x * 2, &*call.context.step, call.context.attempt])),
                None => Err(TaskError::permanent("no number").code("bad")),
            }
        }
    });
    let fixture = start(Arc::new(MemoryStore::new()), broker, definition, EngineOptions::default()).await;
    (fixture, count)
}

fn doubled(map: serde_json::Value) -> serde_json::Value {
    let mut all = json!({"over": "list", "as": "x", "task": "double", "chunk": 3});
    all.as_object_mut().unwrap().extend(map.as_object().unwrap().clone());
    json!({"id": "p", "tasks": [{"name": "rows", "map": all, "retry": {"max_attempts": 2, "delay": "1ms"}}]})
}

#[tokio::test]
async fn each_item_of_a_chunk_has_its_own_attempts_and_value() {
    let (fixture, count) = counting(doubled(json!({}))).await;
    let view = fixture.run("p", json!({"list": [1, -2, 3, 4, 5, 6, 7]})).await;
    let row = |value: i64, place: u32, attempt: u32| json!([value, format!("rows[{place}]"), attempt]);
    let expected = json!({"rows": [
        row(2, 0, 1), row(-4, 1, 2), row(6, 2, 1), row(8, 3, 1), row(10, 4, 1), row(12, 5, 1), row(14, 6, 1),
    ]});
    assert_eq!(**view.result.as_ref().unwrap(), expected);
    assert_eq!(count.load(Ordering::SeqCst), 8, "only what failed was done again");
}

#[tokio::test]
async fn a_chunk_goes_on_past_failed_items_only_where_its_map_does() {
    let list = json!({"list": [1, "a", 3, "b", 5, 6]});
    let (fixture, count) = counting(doubled(json!({"on_item_error": "skip"}))).await;
    let view = fixture.run("p", list.clone()).await;
    let rows = view.result.as_ref().unwrap()["rows"].as_array().unwrap().clone();
    let values: Vec<_> = rows.iter().map(|row| row[0].as_i64().unwrap()).collect();
    assert_eq!((values, count.load(Ordering::SeqCst)), (vec![2, 6, 10, 12], 6));
    let filter = ItemFilter { status: Some(StepStatus::Failed), limit: 9, ..ItemFilter::default() };
    let page = fixture.engine.items(view.run_id, "rows", filter).await.unwrap();
    let failed: Vec<_> = page.items.iter().map(|item| (&*item.name, item.state.code.as_deref())).collect();
    assert_eq!(failed, [("rows[1]", Some("bad")), ("rows[3]", Some("bad"))]);

    let (fixture, count) = counting(doubled(json!({"max_parallel": 1}))).await;
    let view = fixture.run("p", list).await;
    assert_eq!(
        (view.status, count.load(Ordering::SeqCst)),
        (RunStatus::Failed, 2),
        "the third was not begun"
    );
}

#[tokio::test]
async fn a_chunk_of_processes_is_stopped_with_its_run_and_limited_item_by_item() {
    let fixture = engine(json!({"id": "p", "tasks": [{
        "name": "rows", "timeout": "2s",
        "map": {"over": "list", "as": "x", "chunk": "auto", "max_parallel": 1, "on_item_error": "collect",
                "command": ["sh", "-c", "read line; case $line in *wait*) sleep 60;; esac; echo 1; echo said >&2"]},
    }]}))
    .await;
    let view = fixture.run("p", json!({"list": ["a", "b", "c", "d", "wait", "e"]})).await;
    assert_eq!(view.result.as_ref().unwrap()["rows"], json!([1, 1, 1, 1, null, 1]));
    assert_eq!(view.steps[0].item_counts, [("completed", 5), ("timed_out", 1)].into_iter().collect());
    let logs = fixture.engine.logs(view.run_id).await.unwrap();
    assert_eq!(logs.iter().filter(|log| log.text.contains("said")).count(), 5, "each item has its log");

    let fixture = engine(json!({"id": "p", "tasks": [
        {"name": "rows", "map": {"over": "list", "as": "x", "chunk": 2, "command": ["sleep", "60"]}},
    ]}))
    .await;
    let run = fixture.submit("p", json!({"list": [1, 2, 3, 4]})).await;
    fixture.until(run, |view| view.steps[0].item_counts.get("running") == Some(&4)).await;
    assert_eq!(fixture.engine.attempts_under_way(), 2);
    fixture.engine.cancel(run, "enough").await.unwrap();
    let stopped = async {
        while fixture.engine.attempts_under_way() > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(crate::support::SOON, stopped).await.expect("both are stopped");
}

#[tokio::test]
async fn expressions_and_reductions_come_in_chunks_too() {
    let fixture = engine(json!({"id": "p", "tasks": [
        {"name": "even", "filter": {"over": "list", "as": "x", "chunk": 7, "expression": "x % 2 == 0"}},
        {"name": "sum", "reduce": {"over": "even", "as": "x", "initial": 1000, "chunk": 8, "expression": "acc * 0.5 + x"}},
    ]}))
    .await;
    let list: Vec<i64> = (0..100).collect();
    let view = fixture.run("p", json!({"list": list})).await;
    let expected = (0..100).filter(|x| x % 2 == 0).fold(1000.0, |acc, x| acc * 0.5 + f64::from(x));
    assert_eq!(**view.result.as_ref().unwrap(), json!({"sum": expected}));
    assert_eq!(view.steps[1].item_counts, [("completed", 7)].into_iter().collect(), "fifty items by eight");

    let fixture = engine(json!({"id": "p", "tasks": [
        {"name": "sum", "reduce": {"over": "list", "initial": 0, "chunk": 3, "expression": "acc + 1 // item"}},
    ]}))
    .await;
    let failed = fixture.run("p", json!({"list": [1, 1, 1, 1, 0]})).await;
    let error = failed.error.unwrap();
    assert!(error.message.contains("item 1 of the chunk: "), "{}", error.message);
}

#[tokio::test]
async fn what_the_items_of_a_chunk_print_is_bounded_together() {
    let print = "head -c 65000 /dev/zero | tr '\\0' x >&2; echo the end >&2; echo 1";
    let fixture = engine(json!({"id": "p", "tasks": [
        {"name": "rows", "map": {"over": "list", "as": "x", "chunk": 10000, "command": ["sh", "-c", print]}},
    ]}))
    .await;
    let list: Vec<u32> = (0..200).collect();
    let view = fixture.run("p", json!({"list": list})).await;
    assert_eq!(view.status, RunStatus::Completed);
    let logs = fixture.engine.logs(view.run_id).await.unwrap();
    let bytes: usize = logs.iter().map(|log| log.text.len()).sum();
    assert!(bytes <= 8 << 20, "{bytes}");
    let told = |text: &str| text.starts_with("[the beginning was left out: ") && text.ends_with("xthe end\n");
    assert!(
        logs.len() == 200 && logs.iter().all(|log| told(&log.text)),
        "each has its part, and says what it lacks"
    );
}
