//! Runs, their events and what they print.

use std::sync::Arc;

use serde_json::{Map, Value, json};
use taskiq_flow_core::id::RunId;
use taskiq_flow_core::run::{RunError, RunStatus};
use uuid::Uuid;

use super::*;
use crate::{RunFilter, StepLog};

pub(super) async fn check<S: Subject>(subject: &S) {
    comes_back_as_it_was(subject).await;
    each_write_stands_by_itself(&subject.empty().await).await;
    events_follow_without_a_gap(&subject.empty().await).await;
    one_run_for_one_key(&subject.empty().await).await;
    one_run_for_one_id(subject).await;
    pages_of_events(&subject.empty().await).await;
    odd_results(subject).await;
    unknown_run(&subject.empty().await).await;
}

/// Everything of a run is read back, before and after a restart.
async fn comes_back_as_it_was<S: Subject>(subject: &S) {
    let store = subject.empty().await;
    let owner = Uuid::now_v7();
    let parent = RunId::new();
    let triggers = [
        Trigger::Request { principal: "ci".to_owned() },
        Trigger::Schedule { id: "nightly".to_owned(), fire_at: at(5) },
        Trigger::Step { run_id: parent, step_run: 4 },
        Trigger::Retry { run_id: parent, principal: "ci".to_owned() },
    ];
    let mut expected = Vec::new();
    for trigger in triggers {
        let mut run = record("odd", 7);
        run.version = 3;
        run.trigger = trigger;
        run.parameters = Arc::new(Map::from_iter([("odd".to_owned(), odd_values())]));
        run.reuse = vec![(0, Arc::new(odd_values())), (u32::MAX, Arc::new(Value::Null))];
        run.idempotency_key = Some(format!("key {}", run.run_id));
        let fence = created(&store, run.clone(), owner).await;
        same(&store.run(run.run_id).await.unwrap().unwrap(), &run, "a new run");
        let log = |attempt, text: &str| StepLog {
            step_run: 3,
            step: "square[2]".into(),
            attempt,
            at: at(9),
            text: text.to_owned(),
        };
        let error = RunError {
            step: None,
            attempt: None,
            message: "too long\n\u{0}".into(),
            timed_out: true,
            not_undone: vec!["a".into()],
        };
        let ended = RunSummary {
            error: Some(error),
            result: Some(Arc::new(odd_values())),
            ..summary(RunStatus::TimedOut)
        };
        let mut last = append(run.run_id, fence, []);
        last.events = every_fact().into();
        last.logs = vec![log(1, "first"), log(2, "")];
        last.summary = ended.clone();
        appended(&store, last).await;
        let late =
            Append { logs: vec![log(3, "late")], summary: ended.clone(), ..append(run.run_id, fence, []) };
        appended(&store, late).await;
        run.summary = ended;
        run.last_seq = every_fact().len() as u64;
        expected.push((run, vec![log(1, "first"), log(2, ""), log(3, "late")]));
    }
    compare(&store, &expected).await;
    compare(&subject.restart(store).await, &expected).await;
}

async fn compare(store: &impl Store, expected: &[(RunRecord, Vec<StepLog>)]) {
    let listed = store.runs(RunFilter { limit: 100, ..RunFilter::default() }).await.unwrap();
    let rows: Vec<_> = expected.iter().rev().map(|(run, _)| RunRow::from(run)).collect();
    same(&listed, &rows, "as a list shows them");
    for (run, logs) in expected {
        same(&store.run(run.run_id).await.unwrap().unwrap(), run, "a finished run");
        same(&store.events(run.run_id, 0, 100).await.unwrap(), &every_fact(), "its events");
        assert_eq!(&store.logs(run.run_id).await.unwrap(), logs);
    }
}

/// A refused write leaves the others of its call alone, and those of one run take effect in order.
async fn each_write_stands_by_itself(store: &impl Store) {
    let owner = Uuid::now_v7();
    let (good, other) = (record("p", 0), record("p", 0));
    let (id, other_id) = (good.run_id, other.run_id);
    let fence = Fence { owner, token: 1 };
    let stranger = Fence { owner: Uuid::now_v7(), token: 1 };
    let writes = vec![
        RunWrite::Append(Box::new(append(id, fence, [1]))),
        RunWrite::Create { run: Box::new(good), owner, firing: None, replays: None },
        RunWrite::Append(Box::new(append(id, fence, [1, 2]))),
        RunWrite::Append(Box::new(append(id, stranger, [3]))),
        RunWrite::Append(Box::new(append(id, fence, [4]))),
        RunWrite::Create { run: Box::new(other), owner, firing: None, replays: None },
        RunWrite::Append(Box::new(append(id, fence, [3]))),
        RunWrite::Append(Box::new(ending(id, fence, 4, RunStatus::Failed))),
    ];
    let answers = store.write(writes).await.unwrap();
    assert_eq!(answers.len(), 8);
    assert_eq!(
        *answers[0].as_ref().unwrap_err(),
        WriteError::NotFound { run_id: id },
        "before it is created"
    );
    assert!(matches!(answers[1], Ok(Written::Created(first)) if first == fence), "the first token is 1");
    assert!(matches!(answers[2], Ok(Written::Appended)), "created in the same call");
    assert_eq!(*answers[3].as_ref().unwrap_err(), WriteError::Fenced { run_id: id });
    assert_eq!(*answers[4].as_ref().unwrap_err(), WriteError::Gap { run_id: id, expected: 3, found: 2 });
    assert!(answers[5..].iter().all(Result::is_ok), "{answers:?}");
    let run = store.run(id).await.unwrap().unwrap();
    assert_eq!((run.last_seq, run.summary.status), (4, RunStatus::Failed));
    same(&store.events(id, 0, 10).await.unwrap(), &pauses(1..=4), "only what was accepted");
    assert_eq!(store.run(other_id).await.unwrap().unwrap().summary.status, RunStatus::Queued);
    assert!(store.write(Vec::new()).await.unwrap().is_empty(), "nothing asked, nothing answered");
}

async fn events_follow_without_a_gap(store: &impl Store) {
    let run = record("p", 0);
    let id = run.run_id;
    let fence = created(store, run, Uuid::now_v7()).await;
    let gap = |expected, found| WriteError::Gap { run_id: id, expected, found };
    assert_eq!(refused(store, append(id, fence, [2])).await, gap(1, 0), "the first is 1");
    appended(store, append(id, fence, [1, 2])).await;
    assert_eq!(refused(store, append(id, fence, [2, 3])).await, gap(1, 2), "a repetition");
    assert_eq!(refused(store, append(id, fence, [3, 5])).await, gap(4, 2), "a gap within");
    assert_eq!(refused(store, append(id, fence, [4])).await, gap(3, 2), "a gap before");
    let stale = Fence { token: fence.token + 1, ..fence };
    assert_eq!(
        refused(store, append(id, stale, [3])).await,
        WriteError::Fenced { run_id: id },
        "no such token"
    );
    appended(store, append(id, fence, [])).await;
    appended(store, append(id, fence, [3])).await;
    same(&store.events(id, 0, 10).await.unwrap(), &pauses(1..=3), "the log");
}

async fn one_run_for_one_key(store: &impl Store) {
    let owner = Uuid::now_v7();
    let keyed = |pipeline_id, key: &str| {
        let mut run = record(pipeline_id, 0);
        run.idempotency_key = Some(key.to_owned());
        run
    };
    let first = keyed("p", "k");
    let first_id = first.run_id;
    let fence = created(store, first, owner).await;
    appended(store, append(first_id, fence, [1])).await;
    let second = keyed("p", "k");
    let second_id = second.run_id;
    match write_one(store, RunWrite::Create { run: Box::new(second), owner, firing: None, replays: None })
        .await
    {
        Ok(Written::Exists(run)) => {
            assert_eq!((run.run_id, run.last_seq), (first_id, 1));
            assert_eq!(run.summary.status, RunStatus::Running, "as it is now");
        }
        other => panic!("the key was taken: {other:?}"),
    }
    assert!(store.run(second_id).await.unwrap().is_none(), "nothing was written");
    let by_key = async |pipeline: &str, key: &str| {
        let found = store.run_by_key(&pipeline.parse().unwrap(), key).await.unwrap();
        found.map(|run| (run.run_id, run.last_seq))
    };
    assert_eq!(by_key("p", "k").await, Some((first_id, 1)));
    assert_eq!((by_key("q", "k").await, by_key("p", "l").await), (None, None));
    created(store, keyed("p", "other"), owner).await;
    created(store, keyed("q", "k"), owner).await;
    created(store, record("p", 0), owner).await;
    created(store, record("p", 0), owner).await;

    // Two with one key in one call.
    let (a, b) = (keyed("p", "new"), keyed("p", "new"));
    let (a_id, b_id) = (a.run_id, b.run_id);
    let create = |run| RunWrite::Create { run: Box::new(run), owner, firing: None, replays: None };
    let follow = |id| RunWrite::Append(Box::new(append(id, Fence { owner, token: 1 }, [1])));
    let answers = store.write(vec![create(a), follow(a_id), create(b), follow(b_id)]).await.unwrap();
    assert!(
        matches!(&answers[2], Ok(Written::Exists(run)) if run.run_id == a_id && run.last_seq == 1),
        "{answers:?}"
    );
    assert_eq!(*answers[3].as_ref().unwrap_err(), WriteError::NotFound { run_id: b_id });
}

/// A run that is asked for again, as after an answer that was lost, is there once, whatever has become of it.
async fn one_run_for_one_id<S: Subject>(subject: &S) {
    let mut store = subject.empty().await;
    let owner = Uuid::now_v7();
    let runs: Vec<RunRecord> = (0..6).map(|_| record("p", 0)).collect();
    // Ids are not always written in their order.
    for place in [3, 1, 5, 0, 4] {
        created(&store, runs[place].clone(), owner).await;
    }
    for round in 0..3 {
        match round {
            0 => {}
            1 => {
                appended(&store, ending(runs[5].run_id, Fence { owner, token: 1 }, 1, RunStatus::Failed))
                    .await
            }
            _ => store = subject.restart(store).await,
        }
        for place in [0, 1, 3, 4, 5] {
            let run = Box::new(runs[place].clone());
            let again = write_one(&store, RunWrite::Create { run, owner, firing: None, replays: None }).await;
            let there = matches!(&again, Ok(Written::Exists(there)) if there.run_id == runs[place].run_id);
            assert!(there, "{round}, {place}: {again:?}");
        }
    }
    created(&store, runs[2].clone(), owner).await;
    let all = store.runs(RunFilter { limit: 9, ..RunFilter::default() }).await.unwrap();
    assert_eq!(all.len(), runs.len());
}

async fn pages_of_events(store: &impl Store) {
    let run = record("p", 0);
    let id = run.run_id;
    let fence = created(store, run, Uuid::now_v7()).await;
    for seqs in [1..=1, 2..=6, 7..=7, 8..=10] {
        appended(store, append(id, fence, seqs)).await;
    }
    for (after, limit, expected) in
        [(0, 100, 1..=10), (0, 3, 1..=3), (3, 4, 4..=7), (6, 1, 7..=7), (9, 5, 10..=10)]
    {
        same(&store.events(id, after, limit).await.unwrap(), &pauses(expected), "a page");
    }
    for (after, limit) in [(10, 5), (u64::MAX, 5), (0, 0)] {
        assert!(store.events(id, after, limit).await.unwrap().is_empty(), "{after}, {limit}");
    }
}

/// No result is not the same as the result `null`.
async fn odd_results<S: Subject>(subject: &S) {
    let store = subject.empty().await;
    let mut expected = Vec::new();
    for result in [None, Some(Value::Null), Some(json!(false)), Some(json!("")), Some(json!([]))] {
        let run = record("p", 0);
        let id = run.run_id;
        let fence = created(&store, run, Uuid::now_v7()).await;
        let result = result.map(Arc::new);
        let mut last = ending(id, fence, 1, RunStatus::Completed);
        last.summary.result = result.clone();
        appended(&store, last).await;
        expected.push((id, result));
    }
    let store = subject.restart(store).await;
    for (id, result) in expected {
        assert_eq!(store.run(id).await.unwrap().unwrap().summary.result, result);
    }
}

async fn unknown_run(store: &impl Store) {
    let id = RunId::new();
    assert!(store.run(id).await.unwrap().is_none());
    assert!(store.events(id, 0, 10).await.unwrap().is_empty());
    assert!(store.logs(id).await.unwrap().is_empty());
    let fence = Fence { owner: Uuid::now_v7(), token: 1 };
    assert_eq!(refused(store, append(id, fence, [1])).await, WriteError::NotFound { run_id: id });
}
