//! What callers may pile up, and what watchers are told of what was not carried out.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use serde_json::{Value, json};
use taskiq_flow_broker::InMemoryBroker;
use taskiq_flow_core::definition::{ScheduleRules, Timing};
use taskiq_flow_core::id::PipelineId;
use taskiq_flow_core::load::load_json;
use taskiq_flow_core::run::{Fact, MAX_WAITING_SIGNALS, RunStatus};
use taskiq_flow_core::time::Timestamp;
use taskiq_flow_engine::{
    ControlError, EngineOptions, FiringGate, RegisterError, ScheduleError, ScheduleRequest, SubmitError,
    Watcher,
};
use taskiq_flow_store::{MemoryStore, Origin, RunFilter};

use crate::support::{Fixture, SOON, engine, request, start};

fn id(pipeline: &str) -> PipelineId {
    pipeline.parse().unwrap()
}

fn gate() -> Value {
    json!({"id": "gate", "tasks": [{"name": "wait", "wait": {"signal": "go"}}]})
}

async fn started(definition: Value, options: EngineOptions) -> Fixture {
    start(Arc::new(MemoryStore::new()), InMemoryBroker::new(), definition, options).await
}

async fn next(watcher: &mut Watcher) -> (PipelineId, Fact) {
    let event = tokio::time::timeout(SOON, watcher.recv()).await.expect("in time").unwrap();
    (event.pipeline_id.clone(), event.event.fact.clone())
}

#[tokio::test]
async fn signals_that_no_step_has_taken_are_bounded_and_a_step_that_waits_takes_its_own() {
    let definition = json!({"id": "p", "tasks": [
        {"name": "first", "wait": {"signal": "one"}},
        {"name": "second", "wait": {"signal": "two"}, "inputs": ["first"]},
    ]});
    let fixture = engine(definition).await;
    let run_id = fixture.submit("p", json!({})).await;
    for n in 0..MAX_WAITING_SIGNALS {
        fixture.engine.signal(run_id, "two", json!(n), None).await.unwrap();
    }
    let refused = fixture.engine.signal(run_id, "two", json!(0), None).await.unwrap_err();
    assert!(matches!(refused, ControlError::TooManySignals), "{refused}");
    fixture.engine.signal(run_id, "one", json!("mine"), None).await.unwrap();
    let view = fixture.ended(run_id).await;
    assert_eq!(view.status, RunStatus::Completed);
    assert_eq!(**view.result.as_ref().unwrap(), json!({"second": 0}));
}

fn hourly(id: &str) -> ScheduleRequest {
    ScheduleRequest {
        id: Some(id.into()),
        pipeline_id: "gate".parse().unwrap(),
        timing: Timing::Interval(Duration::from_secs(3600)),
        timezone: "UTC".into(),
        parameters: serde_json::Map::new(),
        enabled: true,
        rules: ScheduleRules::default(),
    }
}

#[tokio::test]
async fn a_pipeline_has_only_so_many_schedules_wherever_they_come_from() {
    let options = EngineOptions { max_schedules: 2, ..EngineOptions::default() };
    let fixture =
        started(json!([gate(), {"id": "other", "tasks": [{"name": "a", "expression": "1"}]}]), options).await;
    for id in ["one", "two"] {
        fixture.engine.create_schedule(hourly(id)).await.unwrap();
    }
    let refused = fixture.engine.create_schedule(hourly("three")).await.unwrap_err();
    assert!(matches!(refused, ScheduleError::TooMany { most: 2, .. }), "{refused}");
    let other = ScheduleRequest { pipeline_id: "other".parse().unwrap(), ..hourly("others") };
    fixture.engine.create_schedule(other).await.unwrap();
    // A definition brings schedules too.
    let with = |ids: &[&str]| {
        let schedules: Vec<_> = ids.iter().map(|id| json!({"id": id, "cron": "0 0 1 1 *"})).collect();
        let mut definition = gate();
        definition["schedule"] = json!(schedules);
        load_json(definition).unwrap().remove(0)
    };
    let refused = fixture.engine.register(with(&["a"]), Origin::Api).await.unwrap_err();
    assert!(matches!(refused, RegisterError::Schedule(ScheduleError::TooMany { .. })), "{refused}");
    fixture.engine.delete_schedule("one").await.unwrap();
    fixture.engine.register(with(&["a"]), Origin::Api).await.unwrap();
    // Another one in the place of it is no more than before.
    fixture.engine.register(with(&["b"]), Origin::Api).await.unwrap();
    assert!(fixture.engine.register(with(&["b", "c"]), Origin::Api).await.is_err());
}

#[tokio::test]
async fn unfinished_runs_of_a_pipeline_can_be_bounded() {
    let fixture = engine(gate()).await;
    let submit = || fixture.engine.submit_within(request("gate", json!({})), Some(2));
    let (one, two) = (submit().await.unwrap().run_id, submit().await.unwrap().run_id);
    let refused = submit().await.unwrap_err();
    assert!(matches!(refused, SubmitError::TooManyOpen { most: 2, .. }), "{refused}");
    // A refused request counts for nothing, nor does one that is refused for another reason.
    assert!(fixture.engine.submit(request("gate", json!({"no": 1}))).await.is_err());
    fixture.engine.signal(one, "go", json!(null), None).await.unwrap();
    fixture.ended(one).await;
    let three = submit().await.unwrap().run_id;
    assert!(submit().await.is_err());
    fixture.engine.cancel(two, "enough").await.unwrap();
    let retried = fixture.engine.retry(two, "me", Some(2)).await.unwrap().run_id;
    let refused = fixture.engine.retry(two, "me", Some(2)).await.unwrap_err();
    assert!(matches!(refused, ControlError::Submit(SubmitError::TooManyOpen { .. })), "{refused}");
    for run in [three, retried] {
        fixture.engine.cancel(run, "enough").await.unwrap();
    }
}

#[tokio::test]
async fn no_more_runs_wait_than_may() {
    let options =
        EngineOptions { max_concurrent_runs: 1, max_queued_runs: 3, shards: 1, ..EngineOptions::default() };
    let fixture = started(gate(), options).await;
    // All at once: the first is let in, two wait; a third place is left to other pipelines.
    let submissions = (0..5).map(|_| fixture.engine.submit(request("gate", json!({}))));
    let answers = futures_util::future::join_all(submissions).await;
    let busy = answers.iter().filter(|answer| matches!(answer, Err(SubmitError::Busy))).count();
    assert_eq!((busy, answers.iter().filter(|answer| answer.is_ok()).count()), (2, 3), "{answers:?}");
    let runs = fixture.engine.runs(RunFilter { limit: 10, ..RunFilter::default() }).await.unwrap().runs;
    assert_eq!(runs.len(), 3, "what was refused is not kept");
}

/// Two pipelines of one run at a time each, `greedy` and `other`, and a line of twenty.
async fn greedy_and_other() -> Fixture {
    let mut greedy = gate();
    (greedy["id"], greedy["concurrency"]) = (json!("greedy"), json!(1));
    let mut other = greedy.clone();
    other["id"] = json!("other");
    let options = EngineOptions { max_queued_runs: 20, ..EngineOptions::default() };
    started(json!([greedy, other]), options).await
}

#[tokio::test]
async fn runs_that_wait_for_their_own_pipeline_leave_room_to_others() {
    let fixture = greedy_and_other().await;
    let submit = |pipeline| fixture.engine.submit(request(pipeline, json!({})));
    let mut waiting = 0;
    let refused = loop {
        match submit("greedy").await {
            Ok(_) => waiting += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(refused, SubmitError::Busy), "{refused}");
    assert_eq!(waiting, 1 + 10, "one under way, and half of the line");
    for _ in 0..3 {
        submit("other").await.unwrap();
    }
}

#[tokio::test]
async fn a_backfill_leaves_room_to_others() {
    let fixture = greedy_and_other().await;
    let timing = Timing::Cron("0 * * * *".into());
    let schedule = ScheduleRequest { pipeline_id: id("greedy"), timing, ..hourly("hours") };
    fixture.engine.create_schedule(schedule).await.unwrap();
    let now = Timestamp::now();
    let from = Timestamp::from_millis(now.as_millis() - 100 * 3_600_000);
    let times = fixture.engine.backfill("hours", from, now, 1000).await.unwrap().times;
    assert!(times.len() >= 99, "{}", times.len());
    let mut started = 0;
    let refused = loop {
        match fixture.engine.backfill_time("hours", times[started].time, None).await {
            Ok(_) => started += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(refused, ScheduleError::Submit(SubmitError::Busy)), "{refused}");
    assert_eq!(started, 1 + 10);
    for _ in 0..3 {
        fixture.engine.submit(request("other", json!({}))).await.unwrap();
    }
}

#[tokio::test]
async fn who_watches_an_inner_pipeline_is_told_that_it_was_skipped() {
    let definitions = json!([
        {"id": "inner", "inputs": {"wanted": {"type": "boolean"}}, "tasks": [
            {"name": "a", "expression": "wanted", "inputs": ["wanted"]}
        ]},
        {"id": "outer", "inputs": {"wanted": {"type": "boolean"}}, "tasks": [
            {"name": "whole", "pipeline": "inner", "when": "wanted", "inputs": ["wanted"]}
        ]},
    ]);
    let fixture = engine(definitions).await;
    let mut watcher = fixture.engine.watch(id("inner"));
    let view = fixture.run("outer", json!({"wanted": false})).await;
    assert_eq!(view.status, RunStatus::Completed);
    let (pipeline, fact) = next(&mut watcher).await;
    assert_eq!(pipeline, id("inner"));
    assert!(
        matches!(&fact, Fact::PipelineSkip { reason } if &**reason == "the step that would have run it was skipped"),
        "{fact:?}"
    );
    fixture.run("outer", json!({"wanted": true})).await;
    assert!(matches!(next(&mut watcher).await.1, Fact::PipelineStart { .. }));
}

/// Lets through so many firings, each while at most one run is unfinished.
#[derive(Debug)]
struct Few {
    left: Mutex<usize>,
    skipped: Mutex<Vec<String>>,
}

#[async_trait]
impl FiringGate for Few {
    async fn admit(&self, _: &PipelineId) -> Result<Option<usize>, String> {
        let mut left = self.left.lock();
        *left = left.checked_sub(1).ok_or("its quota is used up")?;
        Ok(Some(1))
    }

    fn skipped(&self, pipeline: &PipelineId, schedule: &str, reason: &str) {
        self.skipped.lock().push(format!("{pipeline} {schedule}: {reason}"));
    }
}

#[tokio::test]
async fn a_firing_that_the_gate_or_an_unfinished_run_forbids_is_skipped_and_told() {
    let gate_keeper = Arc::new(Few { left: Mutex::new(2), skipped: Mutex::default() });
    let options = EngineOptions { firing_gate: Some(gate_keeper.clone()), ..EngineOptions::default() };
    let fixture = started(gate(), options).await;
    let mut watcher = fixture.engine.watch(id("gate"));
    let soon = |id: &str| ScheduleRequest {
        timing: Timing::At(Timestamp::now().plus(Duration::from_millis(50))),
        ..hourly(id)
    };
    fixture.engine.create_schedule(soon("first")).await.unwrap();
    let run_id = loop {
        let event = tokio::time::timeout(SOON, watcher.recv()).await.unwrap().unwrap();
        if matches!(event.event.fact, Fact::StepStart { .. }) {
            break event.run_id.unwrap();
        }
    };
    fixture.engine.create_schedule(soon("overlapping")).await.unwrap();
    let (_, fact) = next(&mut watcher).await;
    let Fact::PipelineSkip { reason } = fact else { panic!("{fact:?}") };
    assert!(
        reason.starts_with("schedule `overlapping` did not start a run: pipeline `gate` has"),
        "{reason}"
    );
    fixture.engine.cancel(run_id, "enough").await.unwrap();
    while !matches!(next(&mut watcher).await.1, Fact::PipelineCancel { .. }) {}
    fixture.engine.create_schedule(soon("late")).await.unwrap();
    let (_, fact) = next(&mut watcher).await;
    let Fact::PipelineSkip { reason } = fact else { panic!("{fact:?}") };
    assert_eq!(&*reason, "schedule `late` did not start a run: its quota is used up");
    let skipped = gate_keeper.skipped.lock().clone();
    assert_eq!(skipped.len(), 2, "{skipped:?}");
    assert_eq!(skipped[1], "gate late: its quota is used up");
    // A firing that was skipped is dealt with: it does not come again.
    assert_eq!(fixture.engine.schedule("late").unwrap().next_fire_at, None);
}
