//! Callbacks that are told of events.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::json;
use taskiq_flow_broker::InMemoryBroker;
use taskiq_flow_core::run::RunStatus;
use taskiq_flow_engine::{BeforeStart, EngineOptions, EventFilter};
use taskiq_flow_store::MemoryStore;
use tokio::sync::{Notify, mpsc};

use crate::support::{SOON, engine, start};

const TWO: &str = r#"[
    {"id": "good", "tasks": [{"name": "a", "expression": "1"}]},
    {"id": "bad", "tasks": [{"name": "a", "expression": "1 / 0"}]}
]"#;

async fn next<T>(receiver: &mut mpsc::UnboundedReceiver<T>) -> T {
    tokio::time::timeout(SOON, receiver.recv()).await.unwrap().unwrap()
}

#[tokio::test]
async fn a_hook_is_told_of_what_passes_its_filter_in_order() {
    let fixture = engine(serde_json::from_str(TWO).unwrap()).await;
    let (told, mut heard) = mpsc::unbounded_channel();
    let (also, mut also_heard) = mpsc::unbounded_channel();
    let good = EventFilter::all().pipelines(["goo*"]).unwrap();
    let failures = EventFilter::all().types(["*ErrorEvent"]).unwrap();
    let hook = fixture.engine.on(good, move |event| _ = told.send(event.event.fact.type_name()));
    let other = fixture.engine.on_async(failures, move |event| {
        let also = also.clone();
        async move {
            tokio::task::yield_now().await;
            _ = also.send((event.pipeline_id.to_string(), event.event.fact.type_name()));
        }
    });
    for pipeline in ["bad", "good"] {
        fixture.run(pipeline, json!({})).await;
    }
    let expected = ["PipelineStartEvent", "StepStartEvent", "StepCompleteEvent", "PipelineCompleteEvent"];
    for name in expected {
        assert_eq!(next(&mut heard).await, name);
    }
    for name in ["StepErrorEvent", "PipelineErrorEvent"] {
        assert_eq!(next(&mut also_heard).await, ("bad".to_owned(), name));
    }
    fixture.engine.shutdown().await;
    assert_eq!((hook.told(), other.told(), hook.panics(), hook.gaps()), (4, 2, 0, 0));
    assert!(heard.recv().await.is_none(), "the callback is gone with the engine");
}

#[tokio::test]
async fn a_hook_that_does_not_return_delays_nobody() {
    let fixture = engine(serde_json::from_str(TWO).unwrap()).await;
    let (let_go, held) = std::sync::mpsc::channel::<()>();
    let blocked = fixture.engine.on(EventFilter::all(), move |_| _ = held.recv());
    let waiting = Arc::new(Notify::new());
    let waits = Arc::clone(&waiting);
    let pending = fixture.engine.on_async(EventFilter::all(), move |_| {
        let waits = Arc::clone(&waits);
        async move { waits.notified().await }
    });
    let (told, mut heard) = mpsc::unbounded_channel();
    fixture
        .engine
        .on(EventFilter::all().types(["PipelineCompleteEvent"]).unwrap(), move |_| _ = told.send(()));
    for _ in 0..20 {
        let view = fixture.run("good", json!({})).await;
        assert_eq!(view.status, RunStatus::Completed);
        next(&mut heard).await;
    }
    assert_eq!((blocked.told(), pending.told()), (0, 0), "both are in their first call");
    // Stopped, they are called no more; what they are in ends by itself.
    blocked.stop();
    pending.stop();
    drop(let_go);
    waiting.notify_one();
    fixture.engine.shutdown().await;
    assert_eq!((blocked.told(), pending.told()), (1, 1));
}

#[tokio::test]
async fn a_panic_ends_nothing_but_its_call() {
    let fixture = engine(serde_json::from_str(TWO).unwrap()).await;
    let (told, mut heard) = mpsc::unbounded_channel();
    let (also, mut also_heard) = mpsc::unbounded_channel();
    let ends = || EventFilter::all().types(["PipelineCompleteEvent"]).unwrap();
    let mut calls = 0;
    let hook = fixture.engine.on(ends(), move |_| {
        calls += 1;
        assert!(calls > 1, "the first call of this hook panics, as the test wants it");
        _ = told.send(calls);
    });
    let count = Arc::new(AtomicUsize::new(0));
    let other = fixture.engine.on_async(ends(), move |_| {
        // One panics before there is a future, one within it.
        let call = count.fetch_add(1, Ordering::Relaxed);
        assert!(call > 0, "the first call of this hook panics, as the test wants it");
        let also = also.clone();
        async move {
            assert!(call > 1, "the second call of this hook panics, as the test wants it");
            _ = also.send(call);
        }
    });
    for _ in 0..3 {
        fixture.run("good", json!({})).await;
    }
    assert_eq!((next(&mut heard).await, next(&mut heard).await, next(&mut also_heard).await), (2, 3, 2));
    fixture.engine.shutdown().await;
    assert_eq!((hook.panics(), hook.told(), other.panics(), other.told()), (1, 3, 2, 3));
}

#[tokio::test]
async fn a_hook_that_is_set_before_the_start_sees_the_first_event() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let (before_start, sees) = (BeforeStart::default(), Arc::clone(&seen));
    before_start.add(move |engine| {
        engine.on(EventFilter::all(), move |event| sees.lock().push(event.event.fact.type_name()));
    });
    let options = EngineOptions { before_start, ..EngineOptions::default() };
    let store = Arc::new(MemoryStore::new());
    let definition = serde_json::from_str(TWO).unwrap();
    let fixture = start(store, InMemoryBroker::new(), definition, options).await;
    fixture.engine.shutdown().await;
    assert_eq!(*seen.lock(), ["DAGUpdatedEvent", "DAGUpdatedEvent"]);
}

#[tokio::test]
async fn a_hook_that_falls_behind_counts_what_it_misses_and_goes_on() {
    let options = EngineOptions { watcher_backlog: 4, ..EngineOptions::default() };
    let store = Arc::new(MemoryStore::new());
    let definition = serde_json::from_str(TWO).unwrap();
    let fixture = start(store, InMemoryBroker::new(), definition, options).await;
    let (let_go, held) = std::sync::mpsc::channel::<()>();
    let (told, mut heard) = mpsc::unbounded_channel();
    let hook = fixture.engine.on(EventFilter::all(), move |event| {
        _ = held.recv();
        _ = told.send(event.event.fact.type_name());
    });
    for _ in 0..5 {
        fixture.run("good", json!({})).await;
    }
    drop(let_go);
    let last = async {
        while hook.gaps() == 0 {
            next(&mut heard).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), last).await.unwrap();
    fixture.engine.shutdown().await;
    assert!(hook.told() < 20, "of 20 events {}", hook.told());
}
