//! Stores of earlier programs: their runs are rebuilt, and those under way go on.

use std::sync::Arc;

use serde_json::{Value, json};
use taskiq_flow_broker::InMemoryBroker;
use taskiq_flow_core::id::RunId;
use taskiq_flow_core::run::{RunStatus, StepStatus};
use taskiq_flow_engine::EngineOptions;
use taskiq_flow_store::{SqliteOptions, SqliteStore};

use crate::support::{SOON, start};

#[tokio::test]
async fn the_runs_of_schema_2_are_rebuilt_and_go_on() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("t.db");
    std::fs::write(&path, include_bytes!("../../../store/src/sqlite/tests/old/schema-2.db")).unwrap();
    let expected: Value =
        serde_json::from_str(include_str!("../../../store/src/sqlite/tests/old/schema-2.json")).unwrap();
    let ids: Vec<RunId> = expected["runs"].as_array().unwrap().iter().map(id_of).collect();
    let [sums, items, broken, held, paused] = ids[..] else { panic!("{ids:?}") };

    let store = Arc::new(SqliteStore::open(SqliteOptions::new(path)).unwrap());
    let another = json!({"id": "another", "tasks": [{"name": "a", "expression": "1"}]});
    let fixture = start(store, InMemoryBroker::new(), another, EngineOptions::default()).await;
    let view = fixture.engine.run(sums).await.unwrap();
    assert_eq!((view.status, view.steps.len()), (RunStatus::Completed, 4));
    assert_eq!((view.steps[1].state.status, view.steps[1].state.attempt), (StepStatus::Completed, 2));
    assert_eq!(view.steps[3].state.status, StepStatus::Skipped);
    let view = fixture.engine.run(items).await.unwrap();
    assert_eq!(**view.result.as_ref().unwrap(), json!({"sum": (1..=270).sum::<u64>()}));
    let view = fixture.engine.run(broken).await.unwrap();
    assert_eq!((view.status, view.steps[0].state.status), (RunStatus::Failed, StepStatus::Failed));

    fixture.engine.signal(held, "go", json!(null), None).await.unwrap();
    let view = fixture.engine.wait(held, SOON).await.unwrap().unwrap();
    assert_eq!(**view.result.as_ref().unwrap(), json!({"last": 9}));
    assert_eq!(fixture.engine.run(paused).await.unwrap().status, RunStatus::Paused);
    fixture.engine.resume(paused).await.unwrap();
    fixture.engine.signal(paused, "go", json!(null), None).await.unwrap();
    let view = fixture.engine.wait(paused, SOON).await.unwrap().unwrap();
    assert_eq!(**view.result.as_ref().unwrap(), json!({"last": 11}));
}

fn id_of(run: &Value) -> RunId {
    run["record"]["run_id"].as_str().unwrap().parse().unwrap()
}
