//! Schedules over hours and days, by a clock that jumps to the next thing there is to do.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use taskiq_flow_broker::InMemoryBroker;
use taskiq_flow_core::calendar::Calendar;
use taskiq_flow_core::definition::{CatchUp, Overlap, ScheduleRules, Timing};
use taskiq_flow_core::id::PipelineId;
use taskiq_flow_core::load::load_json;
use taskiq_flow_core::run::{Fact, RunStatus, StepStatus};
use taskiq_flow_core::time::Timestamp;
use taskiq_flow_engine::{
    Clock, Engine, EngineOptions, FiringGate, ScheduleChange, ScheduleRequest, Watcher,
};
use taskiq_flow_store::{
    Firing, FiringFilter, FiringOutcome, MemoryStore, RunFilter, RunRow, Store, Trigger,
};
use tokio::time::Instant;

use crate::faulty::FaultyStore;
use crate::support::{Fixture, start_at};

const HOUR: Duration = Duration::from_secs(3600);
const MINUTE: Duration = Duration::from_secs(60);

/// Goes with the runtime's clock, which jumps whenever nothing is left to do before the next timer.
#[derive(Debug)]
struct Virtual {
    start: Timestamp,
    since: Instant,
}

impl Clock for Virtual {
    fn now(&self) -> Timestamp {
        self.start.plus(self.since.elapsed())
    }
}

/// A store, and a clock that begins at a time.
struct World {
    store: Arc<MemoryStore>,
    clock: Arc<Virtual>,
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

impl World {
    fn new(start: &str) -> Self {
        let clock = Arc::new(Virtual { start: at(start), since: Instant::now() });
        Self { store: Arc::new(MemoryStore::new()), clock }
    }

    /// An engine with the pipeline `p`, whose runs take so many minutes.
    async fn engine(&self, minutes: u32) -> Fixture {
        self.engine_with(json!({"id": "p", "tasks": [
            {"name": "pause", "wait": {"duration": format!("{}ms", u64::from(minutes) * 60_000 + 1)}},
        ]}))
        .await
    }

    async fn engine_with(&self, definition: Value) -> Fixture {
        let options = EngineOptions { shards: 2, retention: None, ..EngineOptions::default() };
        let (store, clock) = (self.store.clone(), self.clock.clone());
        start_at(store, InMemoryBroker::new(), definition, options, clock).await
    }

    /// What is kept of a schedule's times, by time.
    async fn history(&self, schedule: &str) -> Vec<Firing> {
        let filter =
            FiringFilter { schedule: Some(schedule.to_owned()), limit: 1000, ..FiringFilter::default() };
        let mut firings = self.store.firings(filter).await.unwrap();
        firings.sort_by_key(|firing| firing.due);
        firings
    }

    /// A crash: nothing goes on, and what the engine held is free.
    async fn crash(&self, fixture: Fixture) {
        drop(fixture);
        while Arc::strong_count(&self.store) > 1 {
            tokio::task::yield_now().await;
        }
        self.store.void_leases();
    }

    /// Lets time pass until then.
    async fn until(&self, time: &str) {
        tokio::time::sleep(at(time).since(self.clock.now())).await;
    }

    /// The runs that schedules started, in the order of their times.
    async fn fired(&self) -> Vec<(Timestamp, RunRow)> {
        let runs = self.store.runs(RunFilter { limit: 10_000, ..Default::default() }).await.unwrap();
        let mut fired: Vec<_> = runs
            .into_iter()
            .map(|run| match run.trigger {
                Trigger::Schedule { fire_at, .. } => (fire_at, run),
                _ => panic!("{run:?}"),
            })
            .collect();
        fired.sort_by_key(|(time, _)| *time);
        fired
    }

    /// Hour and minute of the times for which runs were started.
    async fn times(&self) -> Vec<String> {
        self.fired().await.iter().map(|(time, _)| time.to_string()[11..16].to_owned()).collect()
    }

    /// Hour and minute at which the runs were started.
    async fn starts(&self) -> Vec<String> {
        self.fired().await.iter().map(|(_, run)| run.created_at.to_string()[11..16].to_owned()).collect()
    }

    async fn states(&self) -> Vec<RunStatus> {
        self.fired().await.iter().map(|(_, run)| run.status).collect()
    }
}

fn every(id: &str, interval: Duration, rules: ScheduleRules) -> ScheduleRequest {
    ScheduleRequest {
        id: Some(id.into()),
        pipeline_id: "p".parse().unwrap(),
        timing: Timing::Interval(interval),
        timezone: "UTC".into(),
        parameters: serde_json::Map::new(),
        enabled: true,
        rules,
    }
}

fn catching_up(catch_up: CatchUp) -> ScheduleRules {
    ScheduleRules { catch_up, ..ScheduleRules::default() }
}

fn overlapping(overlap: Overlap, catch_up: CatchUp) -> ScheduleRules {
    ScheduleRules { overlap, catch_up, ..ScheduleRules::default() }
}

/// Why firings were left out so far.
async fn skips(watcher: &mut Watcher) -> Vec<String> {
    let mut skips = Vec::new();
    while let Ok(event) = tokio::time::timeout(Duration::ZERO, watcher.recv()).await {
        if let Fact::PipelineSkip { reason } = &event.unwrap().event.fact {
            skips.push(reason.to_string());
        }
    }
    skips
}

#[tokio::test(start_paused = true)]
async fn hours_of_downtime_are_made_up_for_as_the_schedule_says() {
    for (catch_up, expected) in [
        (CatchUp::Skip, &["01:00", "02:00", "08:00"][..]),
        (CatchUp::One, &["01:00", "02:00", "07:00", "08:00"]),
        (CatchUp::All, &["01:00", "02:00", "03:00", "04:00", "05:00", "06:00", "07:00", "08:00"]),
    ] {
        let world = World::new("2026-05-01T00:00:00Z");
        let before = world.engine(0).await;
        before.engine.create_schedule(every("s", HOUR, catching_up(catch_up))).await.unwrap();
        world.until("2026-05-01T02:30:00Z").await;
        world.crash(before).await;
        world.until("2026-05-01T07:20:00Z").await;
        let after = world.engine(0).await;
        world.until("2026-05-01T08:30:00Z").await;
        assert_eq!(world.times().await, expected, "{catch_up:?}");
        let record = after.engine.schedule("s").unwrap();
        assert_eq!(record.next_fire_at, Some(at("2026-05-01T09:00:00Z")));
        assert_eq!(record.last_fire_at, Some(at("2026-05-01T08:00:00Z")));
    }
}

#[tokio::test(start_paused = true)]
async fn a_restart_within_a_minute_of_the_time_is_in_time() {
    let world = World::new("2026-05-01T00:00:00Z");
    let before = world.engine(0).await;
    before.engine.create_schedule(every("s", HOUR, catching_up(CatchUp::Skip))).await.unwrap();
    world.until("2026-05-01T00:59:50Z").await;
    world.crash(before).await;
    world.until("2026-05-01T01:00:30Z").await;
    let _after = world.engine(0).await;
    world.until("2026-05-01T01:10:00Z").await;
    assert_eq!(world.times().await, ["01:00"]);
}

#[tokio::test(start_paused = true)]
async fn a_schedule_follows_its_zone_through_a_change_of_the_clock() {
    let world = World::new("2026-03-28T00:00:00Z");
    let fixture = world.engine(0).await;
    let timing = Timing::Cron("30 2 * * *".to_owned());
    let nightly =
        ScheduleRequest { timing, timezone: "Europe/Paris".into(), ..every("s", HOUR, Default::default()) };
    fixture.engine.create_schedule(nightly).await.unwrap();
    world.until("2026-03-31T00:00:00Z").await;
    let times: Vec<_> = world.fired().await.iter().map(|(time, _)| time.to_string()).collect();
    let expected = ["2026-03-28T01:30:00.000Z", "2026-03-29T01:00:00.000Z", "2026-03-30T00:30:00.000Z"];
    assert_eq!(times, expected, "02:30 before, 03:00 on the night that has no 02:30, 02:30 after");
}

#[tokio::test(start_paused = true)]
async fn jitter_puts_a_start_off_by_the_same_after_a_crash() {
    let world = World::new("2026-05-01T00:00:00Z");
    let rules = ScheduleRules { jitter: Some(30 * MINUTE), ..ScheduleRules::default() };
    let mut fixture = world.engine(0).await;
    let record = fixture.engine.create_schedule(every("s", HOUR, rules)).await.unwrap();
    let calendar = Calendar::new(&record.timing, &record.timezone, &record.rules, record.created_at).unwrap();
    let times: Vec<_> = calendar.between(at("2026-05-01T00:00:00Z"), at("2026-05-01T23:30:00Z")).collect();
    for time in &times {
        // After the time and before the start of its run.
        let start = calendar.start_of("s", *time);
        let between = Timestamp::from_millis(start.as_millis() - 1);
        tokio::time::sleep(between.since(world.clock.now())).await;
        let known = world.fired().await.len();
        world.crash(fixture).await;
        fixture = world.engine(0).await;
        assert_eq!(world.fired().await.len(), known, "{time} has not started yet");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let fired = world.fired().await;
    assert_eq!(fired.iter().map(|(time, _)| *time).collect::<Vec<_>>(), times);
    for (time, run) in fired {
        assert!(run.created_at.since(calendar.start_of("s", time)) <= Duration::from_millis(2), "{time}");
    }
    assert!(times.iter().any(|time| calendar.start_of("s", *time).since(*time) > MINUTE));
}

#[tokio::test(start_paused = true)]
async fn a_change_while_jitter_puts_a_start_off_loses_no_time() {
    let world = World::new("2026-05-01T00:00:00Z");
    let rules = ScheduleRules { jitter: Some(50 * MINUTE), ..ScheduleRules::default() };
    let fixture = world.engine(0).await;
    let record = fixture.engine.create_schedule(every("s", HOUR, rules)).await.unwrap();
    let calendar = Calendar::new(&record.timing, &record.timezone, &record.rules, record.created_at).unwrap();
    let time = record.next_fire_at.unwrap();
    assert!(calendar.start_of("s", time).since(time) > MINUTE, "the test needs some jitter");
    world.until("2026-05-01T01:00:30Z").await;
    let overlap = ScheduleChange { overlap: Some(Overlap::Skip), ..ScheduleChange::default() };
    assert_eq!(fixture.engine.change_schedule("s", overlap).await.unwrap().next_fire_at, Some(time));
    let catch_up = ScheduleChange { catch_up: Some(CatchUp::All), ..ScheduleChange::default() };
    assert_eq!(fixture.engine.change_schedule("s", catch_up).await.unwrap().next_fire_at, Some(time));
    let less = ScheduleChange { jitter: Some(Some(55 * MINUTE)), ..ScheduleChange::default() };
    assert_eq!(fixture.engine.change_schedule("s", less).await.unwrap().next_fire_at, Some(time));
    world.until("2026-05-01T01:59:00Z").await;
    assert_eq!(world.times().await, ["01:00"]);
    // Paused and resumed, it fires from then on.
    let enabled = |enabled| ScheduleChange { enabled: Some(enabled), ..ScheduleChange::default() };
    fixture.engine.change_schedule("s", enabled(false)).await.unwrap();
    world.until("2026-05-01T05:10:00Z").await;
    let resumed = fixture.engine.change_schedule("s", enabled(true)).await.unwrap();
    assert_eq!(resumed.next_fire_at, Some(at("2026-05-01T06:00:00Z")));
    assert_eq!(world.times().await, ["01:00"]);
}

#[tokio::test(start_paused = true)]
async fn an_interval_has_its_times_from_and_until() {
    let world = World::new("2026-05-01T00:10:00Z");
    let fixture = world.engine(0).await;
    let rules = ScheduleRules {
        from: Some(at("2026-05-01T03:00:00Z")),
        until: Some(at("2026-05-01T05:00:00Z")),
        ..ScheduleRules::default()
    };
    let record = fixture.engine.create_schedule(every("s", HOUR, rules)).await.unwrap();
    assert_eq!(record.next_fire_at, Some(at("2026-05-01T03:00:00Z")));
    world.until("2026-05-02T00:00:00Z").await;
    assert_eq!(world.times().await, ["03:00", "04:00", "05:00"]);
    assert_eq!(fixture.engine.schedule("s").unwrap().next_fire_at, None);
    let longer = ScheduleChange { until: Some(None), ..ScheduleChange::default() };
    let record = fixture.engine.change_schedule("s", longer).await.unwrap();
    assert_eq!(record.next_fire_at, Some(at("2026-05-02T01:00:00Z")));
}

/// Runs of 150 minutes, started each hour for eight hours: times, starts, states and what was left out.
async fn crowded(rules: ScheduleRules) -> (World, Fixture, Vec<String>) {
    let world = World::new("2026-05-01T00:00:00Z");
    let fixture = world.engine(150).await;
    let mut watcher = fixture.engine.watch(taskiq_flow_engine::Watched::All);
    fixture.engine.create_schedule(every("s", HOUR, rules)).await.unwrap();
    // Another one is not held up.
    let other =
        every("other", HOUR, ScheduleRules { until: Some(at("2026-05-01T02:00:00Z")), ..Default::default() });
    fixture.engine.create_schedule(other).await.unwrap();
    world.until("2026-05-01T02:10:00Z").await;
    assert_eq!(fixture.engine.schedule("other").unwrap().last_fire_at, Some(at("2026-05-01T02:00:00Z")));
    fixture.engine.delete_schedule("other").await.unwrap();
    world.until("2026-05-01T08:59:00Z").await;
    let skips = skips(&mut watcher).await;
    (world, fixture, skips)
}

impl World {
    async fn of(&self, schedule: &str) -> Vec<(String, String, RunStatus)> {
        let fired = self.fired().await.into_iter();
        fired
            .filter(|(_, run)| matches!(&run.trigger, Trigger::Schedule { id, .. } if id == schedule))
            .map(|(time, run)| (minute(time), minute(run.created_at), run.status))
            .collect()
    }
}

fn minute(time: Timestamp) -> String {
    time.to_string()[11..16].to_owned()
}

fn row(time: &str, start: &str, state: RunStatus) -> (String, String, RunStatus) {
    (time.to_owned(), start.to_owned(), state)
}

#[tokio::test(start_paused = true)]
async fn runs_may_overlap() {
    let (world, _fixture, skips) = crowded(overlapping(Overlap::Allow, CatchUp::One)).await;
    let runs = world.of("s").await;
    assert_eq!(runs.len(), 8);
    assert!(runs.iter().all(|(time, start, _)| time == start), "{runs:?}");
    assert_eq!(skips, [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_time_that_finds_the_run_before_unfinished_is_skipped() {
    let (world, _fixture, skips) = crowded(overlapping(Overlap::Skip, CatchUp::One)).await;
    let expected = [
        row("01:00", "01:00", RunStatus::Completed),
        row("04:00", "04:00", RunStatus::Completed),
        row("07:00", "07:00", RunStatus::Running),
    ];
    assert_eq!(world.of("s").await, expected);
    assert_eq!(skips.len(), 5, "{skips:?}");
    assert!(skips[0].starts_with("schedule `s` did not start a run: its run before, "), "{skips:?}");
}

#[tokio::test(start_paused = true)]
async fn the_last_of_the_times_that_wait_starts_when_the_run_before_has_ended() {
    let (world, _fixture, skips) = crowded(overlapping(Overlap::Queue, CatchUp::One)).await;
    let expected = [
        row("01:00", "01:00", RunStatus::Completed),
        row("03:00", "03:30", RunStatus::Completed),
        row("06:00", "06:00", RunStatus::Completed),
        row("08:00", "08:30", RunStatus::Running),
    ];
    assert_eq!(world.of("s").await, expected);
    assert_eq!(skips.len(), 3, "{skips:?}");
}

#[tokio::test(start_paused = true)]
async fn each_of_the_times_that_wait_starts_when_the_run_before_has_ended() {
    let (world, fixture, skips) = crowded(overlapping(Overlap::Queue, CatchUp::All)).await;
    let expected = [
        row("01:00", "01:00", RunStatus::Completed),
        row("02:00", "03:30", RunStatus::Completed),
        row("03:00", "06:00", RunStatus::Completed),
        row("04:00", "08:30", RunStatus::Running),
    ];
    assert_eq!(world.of("s").await, expected);
    assert_eq!(skips, [""; 0]);
    // So it is after a crash.
    world.crash(fixture).await;
    let fixture = world.engine(150).await;
    world.until("2026-05-01T11:30:00Z").await;
    let runs = world.of("s").await;
    assert_eq!(
        runs[3..],
        [row("04:00", "08:30", RunStatus::Completed), row("05:00", "11:00", RunStatus::Running)]
    );
    // A change acts on what waits.
    let allow = ScheduleChange { overlap: Some(Overlap::Allow), ..ScheduleChange::default() };
    fixture.engine.change_schedule("s", allow).await.unwrap();
    world.until("2026-05-01T11:31:00Z").await;
    let starts: Vec<_> = world.of("s").await.split_off(5).into_iter().map(|(_, start, _)| start).collect();
    assert_eq!(starts, ["11:30"; 6]);
}

#[tokio::test(start_paused = true)]
async fn the_run_before_is_cancelled() {
    let (world, _fixture, skips) = crowded(overlapping(Overlap::CancelPrevious, CatchUp::One)).await;
    let runs = world.of("s").await;
    assert!(runs.iter().all(|(time, start, _)| time == start), "{runs:?}");
    let states: Vec<_> = runs.iter().map(|(_, _, state)| *state).collect();
    assert_eq!(states[..7], [RunStatus::Cancelled; 7]);
    assert_eq!(states[7..], [RunStatus::Running]);
    assert_eq!(skips, [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn times_made_up_for_afterwards_do_not_hide_the_run_before() {
    let world = World::new("2026-05-01T00:00:00Z");
    let fixture = world.engine(150).await;
    let rules = overlapping(Overlap::Skip, CatchUp::One);
    fixture.engine.create_schedule(every("s", HOUR, rules)).await.unwrap();
    world.until("2026-05-01T01:10:00Z").await;
    world.crash(fixture).await;
    let own = world.history("s").await.remove(0);
    for hours in 1..=1000 {
        let due = Timestamp::from_millis(own.due.as_millis() - hours * 3_600_000);
        let outcome = FiringOutcome::Failed;
        world
            .store
            .note_firing(Firing { due, outcome, run_id: None, backfill: true, ..own.clone() })
            .await
            .unwrap();
    }
    assert!(world.history("s").await.iter().all(|firing| firing.backfill));
    let _fixture = world.engine(150).await;
    world.until("2026-05-01T02:10:00Z").await;
    assert_eq!(world.times().await, ["01:00"], "its run is under way still");
}

#[tokio::test(start_paused = true)]
async fn the_run_before_is_not_cancelled_for_one_that_cannot_be() {
    #[derive(Debug)]
    struct One;
    #[async_trait::async_trait]
    impl FiringGate for One {
        async fn admit(&self, _: &PipelineId) -> Result<Option<usize>, String> {
            Ok(Some(1))
        }
        fn skipped(&self, _: &PipelineId, _: &str, _: &str) {}
    }
    let world = World::new("2026-05-01T00:00:00Z");
    let options =
        EngineOptions { retention: None, firing_gate: Some(Arc::new(One)), ..EngineOptions::default() };
    let definition = json!({"id": "p", "tasks": [{"name": "ask", "wait": {"signal": "go"}}]});
    let (store, clock) = (world.store.clone(), world.clock.clone());
    let fixture = start_at(store, InMemoryBroker::new(), definition, options, clock).await;
    let rules = overlapping(Overlap::CancelPrevious, CatchUp::One);
    fixture.engine.create_schedule(every("s", HOUR, rules)).await.unwrap();
    world.until("2026-05-01T01:10:00Z").await;
    let asked = fixture.engine.submit(crate::support::request("p", json!({}))).await.unwrap().run_id;
    world.until("2026-05-01T02:10:00Z").await;
    let outcomes = async || {
        let history = world.history("s").await.into_iter();
        history.map(|firing| firing.outcome).collect::<Vec<_>>()
    };
    assert_eq!(outcomes().await, [FiringOutcome::Started, FiringOutcome::Skipped]);
    let first = world.history("s").await[0].run_id.unwrap();
    let status = async |run_id| fixture.engine.run(run_id).await.unwrap().status;
    assert_eq!(
        status(first).await,
        RunStatus::Running,
        "there was no room beside the run that was asked for"
    );
    fixture.engine.cancel(asked, "not needed").await.unwrap();
    world.until("2026-05-01T03:10:00Z").await;
    assert_eq!(status(first).await, RunStatus::Cancelled);
    assert_eq!(outcomes().await[2], FiringOutcome::Started);
}

#[tokio::test(start_paused = true)]
async fn a_run_that_undoes_its_steps_is_waited_for_and_not_cancelled_again() {
    for (catch_up, fails) in [(CatchUp::Skip, false), (CatchUp::One, false), (CatchUp::Skip, true)] {
        let world = World::new("2026-05-01T00:00:00Z");
        let last = if fails { "1 / 0" } else { "1" };
        let fixture = world
            .engine_with(json!({"id": "p", "compensate_on_cancel": true, "tasks": [
                {"name": "book", "expression": "1", "compensate": {"wait": {"duration": "20m"}}},
                {"name": "pause", "wait": {"duration": "50m"}, "inputs": ["book"]},
                {"name": "last", "expression": last, "inputs": ["pause"]},
                {"name": "ask", "wait": {"signal": "go"}, "inputs": ["last"]},
            ]}))
            .await;
        let rules = overlapping(Overlap::CancelPrevious, catch_up);
        fixture.engine.create_schedule(every("s", HOUR, rules)).await.unwrap();
        world.until("2026-05-01T02:30:00Z").await;
        let runs = world.of("s").await;
        let start = if fails { "02:10" } else { "02:20" };
        let state = if fails { RunStatus::Failed } else { RunStatus::Cancelled };
        assert_eq!(runs, [row("01:00", "01:00", state), row("02:00", start, RunStatus::Running)]);
        let first = fixture.engine.run(world.history("s").await[0].run_id.unwrap()).await.unwrap();
        assert_eq!(first.compensation[0].state.status, StepStatus::Completed, "{catch_up:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn schedules_that_are_due_together_start_together() {
    let world = World::new("2026-05-01T00:00:00Z");
    let fixture = world.engine(0).await;
    let rules = ScheduleRules { from: Some(at("2026-05-01T03:00:00Z")), ..ScheduleRules::default() };
    for n in 0..100 {
        fixture.engine.create_schedule(every(&format!("s{n}"), 24 * HOUR, rules.clone())).await.unwrap();
    }
    world.until("2026-05-01T03:01:00Z").await;
    assert_eq!(world.times().await, ["03:00"; 100]);
    assert_eq!(world.starts().await, ["03:00"; 100]);
    assert_eq!(world.states().await, [RunStatus::Completed; 100]);
}

#[tokio::test(start_paused = true)]
async fn a_definition_that_changes_a_schedule_keeps_its_past() {
    let world = World::new("2026-05-01T00:00:00Z");
    let with = |schedule: Value| {
        json!({"id": "p", "inputs": {"n": {"default": 1}}, "schedule": [schedule],
        "tasks": [{"name": "a", "expression": "n", "inputs": ["n"]}]})
    };
    let program = async |schedule| {
        let pipelines = load_json(with(schedule)).unwrap();
        let (store, clock) = (world.store.clone(), world.clock.clone());
        let options = EngineOptions { retention: None, ..EngineOptions::default() };
        let engine = Engine::start(store, Arc::new(InMemoryBroker::new()), clock, options, pipelines).await;
        Fixture { engine: engine.unwrap() }
    };
    let before = program(json!({"id": "s", "cron": "0 * * * *"})).await;
    world.until("2026-05-01T01:30:00Z").await;
    world.crash(before).await;
    // The server is down at 02:00, and comes back with other parameters.
    world.until("2026-05-01T02:30:00Z").await;
    let changed = json!({"id": "s", "cron": "0 * * * *", "parameters": {"n": 2}, "overlap": "skip"});
    let after = program(changed).await;
    world.until("2026-05-01T02:31:00Z").await;
    assert_eq!(world.times().await, ["01:00", "02:00"]);
    let second = world.fired().await[1].1.run_id;
    let second = world.store.run(second).await.unwrap().unwrap();
    assert_eq!(second.parameters["n"], 2);
    assert_eq!(after.engine.schedule("p.s").unwrap().rules.overlap, Overlap::Skip);
}

#[tokio::test(start_paused = true)]
async fn a_crash_between_any_two_steps_neither_loses_nor_doubles_a_time() {
    let definition = json!({"id": "p", "tasks": [{"name": "pause", "wait": {"duration": "20m"}}]});
    for overlap in [Overlap::Allow, Overlap::Skip, Overlap::Queue, Overlap::CancelPrevious] {
        let mut moments = 0;
        loop {
            let world = World::new("2026-05-01T00:00:00Z");
            let options = || EngineOptions { shards: 1, retention: None, ..EngineOptions::default() };
            let faulty = Arc::new(FaultyStore { inner: world.store.clone(), ..FaultyStore::default() });
            let (store, clock) = (faulty.clone(), world.clock.clone());
            let first = start_at(store, InMemoryBroker::new(), definition.clone(), options(), clock).await;
            first.engine.create_schedule(every("s", HOUR, overlapping(overlap, CatchUp::All))).await.unwrap();
            *faulty.life.lock() = Some(moments);
            while !faulty.is_dead() && world.clock.now() < at("2026-05-01T03:30:00Z") {
                tokio::time::sleep(MINUTE).await;
            }
            let died = faulty.is_dead();
            drop(first);
            world.store.void_leases();
            let (store, clock) = (world.store.clone(), world.clock.clone());
            let _second = start_at(store, InMemoryBroker::new(), definition.clone(), options(), clock).await;
            world.until("2026-05-01T06:50:00Z").await;
            let after = format!("{overlap:?}, dead after {moments} moments");
            let fired = world.fired().await;
            let history = world.history("s").await;
            let dues: Vec<_> = history.iter().map(|firing| minute(firing.due)).collect();
            assert_eq!(dues, ["01:00", "02:00", "03:00", "04:00", "05:00", "06:00"], "{after}");
            let kept: Vec<_> =
                history.iter().filter_map(|firing| Some((firing.due, firing.run_id?))).collect();
            let runs: Vec<_> = fired.iter().map(|(time, run)| (*time, run.run_id)).collect();
            assert_eq!(kept, runs, "{after}");
            let states: Vec<_> = fired.iter().map(|(_, run)| run.status).collect();
            assert_eq!(states, [RunStatus::Completed; 6], "{after}");
            if !died {
                assert!(moments > 12, "{moments} moments were tried");
                break;
            }
            moments += 1;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_history_says_what_came_of_each_time() {
    let world = World::new("2026-05-01T00:00:00Z");
    let before = world.engine(90).await;
    before.engine.create_schedule(every("s", HOUR, overlapping(Overlap::Skip, CatchUp::One))).await.unwrap();
    world.until("2026-05-01T02:30:00Z").await;
    world.crash(before).await;
    world.until("2026-05-01T06:10:00Z").await;
    let after = world.engine(90).await;
    world.until("2026-05-01T06:15:00Z").await;
    let history = world.history("s").await;
    let told: Vec<_> =
        history.iter().map(|firing| (minute(firing.due), minute(firing.at), firing.outcome)).collect();
    let expected = [
        ("01:00", "01:00", FiringOutcome::Started),
        ("02:00", "02:00", FiringOutcome::Skipped),
        ("05:00", "06:10", FiringOutcome::Missed),
        ("06:00", "06:10", FiringOutcome::Started),
    ];
    assert_eq!(told, expected.map(|(due, at, outcome)| (due.to_owned(), at.to_owned(), outcome)));
    let run_id = history[0].run_id.unwrap();
    assert_eq!(history[1].reason.as_deref(), Some(&*format!("its run before, {run_id}, has not ended")));
    let missed = "its times from 2026-05-01T03:00:00.000Z to 2026-05-01T05:00:00.000Z had passed";
    assert_eq!((history[2].reason.as_deref(), history[2].run_id), (Some(missed), None));
    // A run that somebody asked for is in it too, and is the run before of the next time.
    let asked = after.engine.trigger_schedule("s", None).await.unwrap().run_id;
    let again = after.engine.trigger_schedule("s", None).await.unwrap().run_id;
    assert_ne!(asked, again, "in the same millisecond");
    world.until("2026-05-01T07:01:00Z").await;
    let history = world.history("s").await;
    assert_eq!(
        history.iter().filter(|firing| [Some(asked), Some(again)].contains(&firing.run_id)).count(),
        2
    );
    let last = history.last().unwrap();
    assert_eq!(last.outcome, FiringOutcome::Skipped);
    assert_eq!(last.reason.as_deref(), Some(&*format!("its run before, {again}, has not ended")));
}

#[tokio::test(start_paused = true)]
async fn a_backfill_gives_times_their_runs_once() {
    let world = World::new("2026-05-01T00:00:00Z");
    let fixture = world.engine(0).await;
    let engine = &fixture.engine;
    let rules = ScheduleRules { from: Some(at("2026-04-30T20:00:00Z")), ..catching_up(CatchUp::Skip) };
    engine.create_schedule(every("s", HOUR, rules)).await.unwrap();
    world.until("2026-05-01T02:30:00Z").await;
    assert_eq!(world.times().await, ["01:00", "02:00"]);
    let (from, to) = (at("2026-04-30T00:00:00Z"), at("2026-06-01T00:00:00Z"));
    let plan = engine.backfill("s", from, to, 100).await.unwrap();
    let planned: Vec<_> = plan.times.iter().map(|time| (minute(time.time), time.had)).collect();
    let expected = [
        ("20:00", false),
        ("21:00", false),
        ("22:00", false),
        ("23:00", false),
        ("00:00", false),
        ("01:00", true),
        ("02:00", true),
    ];
    assert_eq!(planned, expected.map(|(time, had)| (time.to_owned(), had)), "nothing in the future");
    assert_eq!(plan.next_from, None);
    assert_eq!(world.times().await.len(), 2, "a plan starts nothing");
    let bounded = engine.backfill("s", from, to, 3).await.unwrap();
    assert_eq!((bounded.times.len(), bounded.next_from), (3, Some(at("2026-04-30T23:00:00Z"))));
    let mut runs = Vec::new();
    for _ in 0..2 {
        for time in &plan.times {
            runs.push(engine.backfill_time("s", time.time, None).await.unwrap().unwrap());
        }
    }
    assert_eq!(runs.iter().filter(|run| run.created).count(), 5);
    let fired = world.fired().await;
    assert_eq!(fired.len(), 7);
    let times: Vec<_> = plan.times.iter().map(|time| time.time).collect();
    assert_eq!(fired.iter().map(|(time, _)| *time).collect::<Vec<_>>(), times, "each for its time");
    let again = engine.backfill("s", from, to, 100).await.unwrap();
    assert!(again.times.iter().all(|time| time.had && time.run_id.is_some()), "{again:?}");
    let history = world.history("s").await;
    assert_eq!(history.iter().filter(|firing| firing.backfill).count(), 5);
    assert_eq!(engine.schedule("s").unwrap().last_fire_at, Some(at("2026-05-01T02:00:00Z")));
    // Its own times go on.
    world.until("2026-05-01T03:01:00Z").await;
    assert_eq!(world.fired().await.len(), 8);
}
