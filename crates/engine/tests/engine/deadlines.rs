//! Limits that hold although whoever carries the work out does not keep them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;
use taskiq_flow_broker::{Broker, InMemoryBroker};
use taskiq_flow_core::run::{ItemFilter, RunStatus, StepStatus};
use taskiq_flow_engine::{ControlError, EngineOptions};
use taskiq_flow_store::MemoryStore;

use crate::support::{engine, start};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_task_that_never_lets_go_does_not_hold_its_run_up() {
    let broker = InMemoryBroker::new();
    let released = Arc::new(AtomicBool::new(false));
    let ended = Arc::new(AtomicUsize::new(0));
    let (release, end) = (Arc::clone(&released), Arc::clone(&ended));
    broker.registry().register("stubborn", move |_| {
        let (release, end) = (Arc::clone(&release), Arc::clone(&end));
        async move {
            // It never awaits, so that nothing can interrupt it.
            let began = Instant::now();
            while !release.load(Ordering::SeqCst) && began.elapsed() < Duration::from_secs(60) {
                std::thread::sleep(Duration::from_millis(5));
            }
            end.fetch_add(1, Ordering::SeqCst);
            Ok(json!("late"))
        }
    });
    let definition = json!({"id": "p", "tasks": [{"name": "t", "task": "stubborn", "timeout": "50ms"}]});
    let fixture = start(Arc::new(MemoryStore::new()), broker, definition, EngineOptions::default()).await;
    let view = fixture.run("p", json!({})).await;
    assert_eq!(view.status, RunStatus::Failed);
    assert_eq!(view.steps[0].state.status, StepStatus::TimedOut);
    assert_eq!(
        view.steps[0].state.error.as_deref(),
        Some("took longer than 50ms, and its worker did not say so")
    );
    let seq = fixture.engine.record(view.run_id).await.unwrap().last_seq;
    released.store(true, Ordering::SeqCst);
    while ended.load(Ordering::SeqCst) == 0 || fixture.engine.attempts_under_way() > 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(fixture.engine.record(view.run_id).await.unwrap().last_seq, seq, "its end changes nothing");
}

#[tokio::test]
async fn a_whole_map_is_stopped_at_its_limit_and_its_items_can_be_read() {
    let fixture = engine(json!({"id": "p", "tasks": [{
        "name": "rows", "total_timeout": "300ms",
        "map": {"over": "xs", "command": ["sh", "-c", "read x; case $x in *1*) echo 1;; *) sleep 60;; esac"]}
    }]}))
    .await;
    let view = fixture.run("p", json!({"xs": [1, 2]})).await;
    assert_eq!(view.steps[0].state.status, StepStatus::TimedOut);
    let filter = ItemFilter { limit: 10, ..ItemFilter::default() };
    let page = fixture.engine.items(view.run_id, "rows", filter).await.unwrap();
    assert_eq!(page.items[1].state.status, StepStatus::Cancelled);
    let unknown = fixture.engine.items(view.run_id, "no", filter).await.unwrap_err();
    assert!(matches!(unknown, ControlError::UnknownStep(_)), "{unknown}");
}
