//! Definitions, schedules and security records.

use std::time::Duration;

use taskiq_flow_core::definition::{CatchUp, Overlap, ScheduleRules, Timing};

use super::*;
use crate::{Origin, PipelineRecord, ScheduleRecord, SecurityChange, SecurityRecord};

pub(super) async fn check<S: Subject>(subject: &S) {
    versions(subject).await;
    deleting(subject).await;
    schedules(subject).await;
    security(subject).await;
}

pub(crate) fn definition(id: &str, version: u32) -> PipelineRecord {
    let origin = if version.is_multiple_of(2) { Origin::Program } else { Origin::Api };
    let source = Arc::new(json!({"id": id, "version": version, "odd": odd_values()}));
    PipelineRecord { id: pipeline(id), version, source, origin, created_at: at(version.into()) }
}

async fn versions<S: Subject>(subject: &S) {
    let store = subject.empty().await;
    assert!(store.pipelines().await.unwrap().is_empty());
    assert_eq!(store.pipeline_version(&pipeline("p")).await.unwrap(), 0, "none yet");
    for (id, version) in [("p", 1), ("p", 2), ("q", 1), ("p", 5), ("a", 1)] {
        store.put_pipeline(definition(id, version)).await.unwrap();
    }
    for version in [0, 1, 3, 5] {
        let error = store.put_pipeline(definition("p", version)).await.unwrap_err();
        assert_eq!(error, StoreError::Conflict { id: pipeline("p"), version, newest: 5 });
    }
    let store = subject.restart(store).await;
    let current = vec![definition("a", 1), definition("p", 5), definition("q", 1)];
    same(&store.pipelines().await.unwrap(), &current, "the newest of each, by id");
    for version in [1, 2, 5] {
        let kept = store.pipeline(&pipeline("p"), version).await.unwrap();
        same(&kept, &Some(definition("p", version)), "an earlier version");
    }
    assert!(store.pipeline(&pipeline("p"), 3).await.unwrap().is_none());
    assert!(store.pipeline(&pipeline("nobody"), 1).await.unwrap().is_none());
    assert_eq!(store.pipeline_version(&pipeline("p")).await.unwrap(), 5);
}

async fn deleting<S: Subject>(subject: &S) {
    let store = subject.empty().await;
    let id = pipeline("p");
    assert!(!store.delete_pipeline(&id).await.unwrap(), "there is none");
    store.put_pipeline(definition("p", 1)).await.unwrap();
    let run = record("p", 0);
    let run_id = run.run_id;
    let fence = created(&store, run, Uuid::now_v7()).await;
    let durations = vec![("old".into(), 5)];
    appended(&store, Append { durations, ..append(run_id, fence, [1]) }).await;
    assert!(store.delete_pipeline(&id).await.unwrap());
    assert!(!store.delete_pipeline(&id).await.unwrap(), "only once");
    let store = subject.restart(store).await;
    assert!(store.pipelines().await.unwrap().is_empty());
    assert!(store.pipeline(&id, 1).await.unwrap().is_some(), "a run follows it");
    assert_eq!(store.pipeline_version(&id).await.unwrap(), 1, "numbers are not used again");
    assert!(store.run(run_id).await.unwrap().is_some());
    assert!(store.durations(&id, 9).await.unwrap().is_empty(), "its tasks are not those of a later namesake");
    assert!(matches!(store.put_pipeline(definition("p", 1)).await.unwrap_err(), StoreError::Conflict { .. }));
    store.put_pipeline(definition("p", 2)).await.unwrap();
    same(&store.pipelines().await.unwrap(), &vec![definition("p", 2)], "it is there again");
}

async fn schedules<S: Subject>(subject: &S) {
    let store = subject.empty().await;
    assert!(store.schedules().await.unwrap().is_empty());
    let schedule = |id: &str, timing| ScheduleRecord {
        id: id.to_owned(),
        pipeline_id: pipeline("p"),
        timing,
        timezone: "Europe/Vienna".to_owned(),
        parameters: Map::from_iter([("odd".to_owned(), odd_values())]),
        enabled: true,
        rules: ScheduleRules::default(),
        created_at: at(1),
        next_fire_at: Some(at(2)),
        last_fire_at: None,
    };
    let mut expected = vec![
        schedule("'; DROP TABLE schedules; --", Timing::At(at(3))),
        schedule("every", Timing::Interval(Duration::from_millis(1500))),
        schedule("nightly", Timing::Cron("0 3 * * *".to_owned())),
    ];
    expected[2].rules = ScheduleRules {
        catch_up: CatchUp::All,
        overlap: Overlap::CancelPrevious,
        jitter: Some(Duration::from_millis(1500)),
        from: Some(at(1)),
        until: Some(at(9)),
    };
    for record in expected.iter().rev() {
        store.put_schedule(record.clone()).await.unwrap();
    }
    let store = subject.restart(store).await;
    assert_eq!(store.schedules().await.unwrap(), expected, "by id");
    expected[1] = ScheduleRecord { enabled: false, next_fire_at: None, ..expected[1].clone() };
    store.put_schedule(expected[1].clone()).await.unwrap();
    assert_eq!(store.schedules().await.unwrap(), expected, "replaced");
    assert!(store.delete_schedule("every").await.unwrap());
    assert!(!store.delete_schedule("every").await.unwrap());
    expected.remove(1);
    assert_eq!(store.schedules().await.unwrap(), expected);
}

async fn security<S: Subject>(subject: &S) {
    let store = subject.empty().await;
    assert!(store.security_records().await.unwrap().is_empty());
    store.change_security(Vec::new()).await.unwrap();
    let record = |kind: &str, id: &str, millis| SecurityRecord {
        kind: kind.to_owned(),
        id: id.to_owned(),
        body: json!({"id": id, "odd": odd_values()}),
        updated_at: at(millis),
    };
    let put = |kind: &str, id: &str, millis| SecurityChange::Put(record(kind, id, millis));
    let delete = |kind: &str, id: &str| SecurityChange::Delete { kind: kind.to_owned(), id: id.to_owned() };
    let first = vec![put("key", "b", 1), put("key", "a", 1), put("acl", "a", 1), put("key", "'; --", 1)];
    store.change_security(first).await.unwrap();
    let store = subject.restart(store).await;
    let mut expected =
        vec![record("acl", "a", 1), record("key", "'; --", 1), record("key", "a", 1), record("key", "b", 1)];
    same(&store.security_records().await.unwrap(), &expected, "by kind and id");
    // One call is one change: what it ends with holds, and kinds are apart.
    let second = vec![
        put("key", "a", 2),
        put("key", "c", 2),
        delete("key", "c"),
        delete("acl", "b"),
        delete("key", "'; --"),
    ];
    store.change_security(second).await.unwrap();
    expected[2] = record("key", "a", 2);
    expected.remove(1);
    let store = subject.restart(store).await;
    same(&store.security_records().await.unwrap(), &expected, "changed");
    store.close().await;
    assert_eq!(store.change_security(vec![delete("key", "a")]).await.unwrap_err(), StoreError::Closed);
}
