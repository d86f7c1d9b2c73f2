//! Runs that ended long ago go, and those beyond how many are kept.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use taskiq_flow_broker::InMemoryBroker;
use taskiq_flow_engine::EngineOptions;
use taskiq_flow_store::{MemoryStore, RunFilter, Store};

use crate::support::{RuntimeClock, SOON, start, start_at};

fn definition() -> Value {
    json!({"id": "p", "tasks": [{"name": "a", "expression": "1", "output": "x"}]})
}

fn store() -> Arc<MemoryStore> {
    // It lets nothing go by itself here.
    Arc::new(MemoryStore::with_room(usize::MAX))
}

#[tokio::test(start_paused = true)]
async fn a_run_is_removed_once_it_ended_long_ago() {
    let store = store();
    let day = Duration::from_secs(86_400);
    let options = EngineOptions { retention: Some(day), ..EngineOptions::default() };
    let clock = Arc::new(RuntimeClock::new());
    let fixture = start_at(store.clone(), InMemoryBroker::new(), definition(), options, clock).await;
    let old = fixture.run("p", json!({})).await.run_id;
    tokio::time::sleep(day / 2).await;
    let young = fixture.run("p", json!({})).await.run_id;
    tokio::time::sleep(day / 2 - Duration::from_secs(60)).await;
    assert!(store.run(old).await.unwrap().is_some(), "a minute is missing to a day");
    // Old runs are looked for every hour.
    tokio::time::sleep(Duration::from_secs(3700)).await;
    assert!(store.run(old).await.unwrap().is_none());
    assert!(store.run(young).await.unwrap().is_some());
}

#[tokio::test]
async fn runs_beyond_a_number_are_removed_soon() {
    let store = store();
    let options = EngineOptions { retention_runs: Some(20), ..EngineOptions::default() };
    let fixture = start(store.clone(), InMemoryBroker::new(), definition(), options).await;
    let mut ids = Vec::new();
    for _ in 0..100 {
        ids.push(fixture.run("p", json!({})).await.run_id);
    }
    let filter = RunFilter { limit: 1000, ..RunFilter::default() };
    let begun = std::time::Instant::now();
    loop {
        let left: Vec<_> =
            store.runs(filter.clone()).await.unwrap().iter().map(|run| run.run_id).rev().collect();
        if left.len() <= 20 {
            assert_eq!(left, ids[80..], "those that ended last");
            return;
        }
        assert!(begun.elapsed() < SOON, "{} are left", left.len());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
