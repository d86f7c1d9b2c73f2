//! What every store must do, as a suite that any implementation can be put through.
//!
//! A failed promise is a panic that says which one.

#![allow(clippy::unwrap_used, reason = "a test suite: it is there to panic")]

mod beside;
mod catalog;
mod leases;
mod lists;
mod runs;

use std::sync::Arc;

use async_trait::async_trait;
use serde::Serialize;
use serde_json::{Map, Value, json};
use taskiq_flow_core::id::{PipelineId, RunId};
use taskiq_flow_core::run::{CacheOutcome, Event, Fact, RunError, RunStatus, StepRef};
use taskiq_flow_core::time::Timestamp;
use uuid::Uuid;

#[cfg(test)]
pub(crate) use catalog::definition;

use crate::{
    Append, Beside, Fence, Retention, RunRecord, RunRow, RunSummary, RunWrite, Store, StoreError, Trigger,
    WriteError, Written,
};

/// How the suite comes by stores of one kind.
#[async_trait]
pub trait Subject: Sync {
    /// The kind.
    type Store: Store;

    /// A store with nothing in it.
    async fn empty(&self) -> Self::Store;

    /// The store as it is found after the process that used it is gone.
    async fn restart(&self, store: Self::Store) -> Self::Store;
}

/// Puts a kind of store through everything.
///
/// # Panics
/// When it breaks a promise.
pub async fn check_all<S: Subject>(subject: &S) {
    runs::check(subject).await;
    leases::check(subject).await;
    lists::check(subject).await;
    catalog::check(subject).await;
    beside::check(subject).await;
    closing(&subject.empty().await).await;
}

async fn closing(store: &impl Store) {
    let run = record("p", 0);
    let id = run.run_id;
    created(store, run, Uuid::now_v7()).await;
    store.check().await.unwrap();
    store.close().await;
    let run = Box::new(record("p", 0));
    let late =
        store.write(vec![RunWrite::Create { run, owner: Uuid::now_v7(), firing: None, replays: None }]).await;
    assert_eq!(late.unwrap_err(), StoreError::Closed, "a write after the end");
    assert_eq!(store.prune(Retention::before(at(9)), 1).await.unwrap_err(), StoreError::Closed);
    match store.run(id).await {
        Ok(run) => assert!(run.is_some(), "a read after the end is right, or refused"),
        Err(error) => assert_eq!(error, StoreError::Closed),
    }
    assert_eq!(store.check().await.unwrap_err(), StoreError::Closed, "it is not ready any more");
    store.close().await;
}

/// A time, some milliseconds after another.
fn at(millis: i64) -> Timestamp {
    Timestamp::from_millis(1_760_000_000_000 + millis)
}

fn pipeline(id: &str) -> PipelineId {
    id.parse().unwrap()
}

/// A queued run.
pub(crate) fn record(pipeline_id: &str, millis: i64) -> RunRecord {
    let parameters = Map::from_iter([("path".to_owned(), json!("README.md"))]);
    let trigger = Trigger::Request { principal: "ci".to_owned() };
    RunRecord::queued(RunId::new(), pipeline(pipeline_id), 1, parameters, trigger, at(millis))
}

/// What a run in this state has come to.
fn summary(status: RunStatus) -> RunSummary {
    RunSummary {
        status,
        started_at: (status != RunStatus::Queued).then(|| at(1)),
        finished_at: status.is_terminal().then(|| at(2)),
        error: None,
        result: None,
    }
}

fn fact(fact: Fact, seq: u64) -> Event {
    Event { seq, timestamp: at(seq as i64), fact }
}

/// Events with these numbers.
fn pauses(seqs: impl IntoIterator<Item = u64>) -> Vec<Event> {
    seqs.into_iter().map(|seq| fact(Fact::PipelinePause, seq)).collect()
}

/// A write of events with these numbers, and nothing else.
pub(crate) fn append(run_id: RunId, fence: Fence, seqs: impl IntoIterator<Item = u64>) -> Append {
    Append {
        run_id,
        fence,
        events: pauses(seqs).into(),
        logs: Vec::new(),
        summary: summary(RunStatus::Running),
        durations: Vec::new(),
        beside: Beside::default(),
    }
}

/// A write that ends a run.
pub(crate) fn ending(run_id: RunId, fence: Fence, seq: u64, status: RunStatus) -> Append {
    Append { summary: summary(status), ..append(run_id, fence, [seq]) }
}

async fn write_one(store: &impl Store, write: RunWrite) -> Result<Written, WriteError> {
    let mut answers = store.write(vec![write]).await.unwrap();
    assert_eq!(answers.len(), 1, "an answer for each write");
    answers.remove(0)
}

async fn created(store: &impl Store, run: RunRecord, owner: Uuid) -> Fence {
    let id = run.run_id;
    match write_one(store, RunWrite::Create { run: Box::new(run), owner, firing: None, replays: None }).await
    {
        Ok(Written::Created(fence)) => {
            assert_eq!(fence.owner, owner);
            fence
        }
        other => panic!("the new run {id} was not created: {other:?}"),
    }
}

async fn appended(store: &impl Store, append: Append) {
    let answer = write_one(store, RunWrite::Append(Box::new(append))).await;
    assert!(matches!(answer, Ok(Written::Appended)), "{answer:?}");
}

async fn refused(store: &impl Store, append: Append) -> WriteError {
    write_one(store, RunWrite::Append(Box::new(append))).await.unwrap_err()
}

/// Creates a run and ends it.
async fn finished(store: &impl Store, run: RunRecord, status: RunStatus) -> RunId {
    let id = run.run_id;
    let fence = created(store, run, Uuid::now_v7()).await;
    appended(store, ending(id, fence, 1, status)).await;
    id
}

/// Records and events compare by what they are as JSON.
fn same<T: Serialize>(left: &T, right: &T, what: &str) {
    assert_eq!(serde_json::to_value(left).unwrap(), serde_json::to_value(right).unwrap(), "{what}");
}

fn ids(runs: &[RunRow]) -> Vec<RunId> {
    runs.iter().map(|run| run.run_id).collect()
}

/// Values that storage likes to change: numbers at the ends of their range, empty and odd texts, order of keys, depth.
fn odd_values() -> Value {
    let deep = (0..120).fold(json!(0.1), |value, _| json!([value]));
    json!({
        "z": [0.1 + 0.2, 5e-324, 1.797_693_134_862_315_7e308, -0.0, 2.638_344_616_030_823e-256],
        "a": [u64::MAX, i64::MIN, 0, null, true],
        "text": "a\u{0}b \"quoted\" \\ \u{1f980} \u{2028} é",
        "": {},
        "deep": deep,
    })
}

/// One event of each kind.
pub(crate) fn every_fact() -> Vec<Event> {
    let step = || StepRef::new(3, 1, "square[2]", "square");
    let error = RunError {
        step: Some("a".into()),
        attempt: Some(2),
        message: "\u{7}no".into(),
        timed_out: true,
        not_undone: vec!["b".into()],
    };
    let odd = || Arc::new(odd_values());
    let facts = [
        Fact::PipelineStart { task_count: 3 },
        Fact::StepStart {
            step: step(),
            attempt: 1,
            max_attempts: 2,
            wait_ms: 5,
            items: Some(7),
            cache: None,
            chunk: None,
        },
        Fact::StepStart {
            step: step(),
            attempt: 1,
            max_attempts: 2,
            wait_ms: 5,
            items: None,
            cache: Some(CacheOutcome::Miss),
            chunk: None,
        },
        Fact::StepStart {
            step: step(),
            attempt: 1,
            max_attempts: 2,
            wait_ms: 5,
            items: None,
            cache: None,
            chunk: Some(2),
        },
        Fact::StepComplete { step: step(), attempt: 1, duration_ms: 5, result: odd(), cached: false },
        Fact::StepComplete {
            step: step(),
            attempt: 1,
            duration_ms: 0,
            result: Arc::new(Value::Null),
            cached: true,
        },
        Fact::StepError {
            step: step(),
            attempt: 1,
            max_attempts: 2,
            duration_ms: u64::MAX,
            error: "it broke".into(),
            timed_out: false,
            will_retry: true,
            code: Some("exit:1".into()),
        },
        Fact::StepDeadLetter { step: step(), attempt: 2, error: "it broke".into() },
        Fact::StepRetry { step: step(), attempt: 2, max_attempts: 2, wait_ms: 100, error: "it broke".into() },
        Fact::StepSkip { step: step(), reason: "`when` is false".into() },
        Fact::StepCancel { step: step(), reason: "stopped".into() },
        Fact::Signal { name: "go".into(), value: odd(), by: Some("ops".into()) },
        Fact::PipelinePause,
        Fact::PipelineResume,
        Fact::PipelineSkip { reason: "`when` is false".into() },
        Fact::PipelineCancel { reason: "stopped".into(), duration_ms: 1, not_undone: vec!["a".into()] },
        Fact::CompensationStart {
            steps: vec!["b".into(), "a".into()],
            step_indexes: vec![1, 0],
            error: Some(Box::new(error.clone())),
            reason: None,
        },
        Fact::PipelineError { error: Box::new(error), duration_ms: 9 },
        Fact::PipelineComplete { result: odd(), duration_ms: 9 },
    ];
    facts.into_iter().zip(1..).map(|(kind, seq)| fact(kind, seq)).collect()
}
