//! Whatever the order, whatever fails, wherever it crashes: the promises hold.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::driver::{World, pipeline, task};
use super::{expr, map};
use crate::definition::{
    Body, Cache, Chunk, Compensation, GroupMember, Input as TaskInput, MapSpec, OnError, OnItemError,
    Pipeline, ReduceSpec, RetryPolicy, TaskKind, WaitFor, WaitSpec,
};
use crate::expr::Expr;
use crate::run::line::Line;
use crate::run::state::Unit;
use crate::run::{Event, Fact, Failure, Input, Outcome, Run, RunStatus, StepStatus, Work};

/// The names of signals that somebody may send. Steps wait for the first two.
const SIGNALS: [&str; 3] = ["go", "stop", "nobody waits for this"];

/// One thing that the world does.
#[derive(Debug, Clone)]
enum Move {
    Finish(usize),
    Fail(usize),
    TimeOut(usize),
    /// An attempt of several items ends with some of them, one of which has failed.
    Part(usize),
    FailForGood(usize),
    /// An attempt that has been superseded reports.
    Late(usize),
    /// An attempt that has reported does so again, as a broker that delivers twice would have it.
    Again(usize, bool),
    /// One timer rings at its time, whatever others are set to before it.
    Timer(usize),
    Timers,
    UnsteadyTimers,
    Signal(usize),
    /// A kept value is found, or none.
    Looked(usize, bool),
    /// A worker says that it has taken up an attempt.
    Began(usize),
    Crash,
    /// What was decided last was not written yet.
    CrashBeforeWrite,
    Pause,
    Resume,
    Cancel,
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let place = any::<usize>;
    let one = prop_oneof![
        24 => place().prop_map(Move::Finish),
        6 => place().prop_map(Move::Fail),
        2 => place().prop_map(Move::TimeOut),
        4 => place().prop_map(Move::Part),
        1 => place().prop_map(Move::FailForGood),
        3 => place().prop_map(Move::Late),
        3 => (place(), any::<bool>()).prop_map(|(place, good)| Move::Again(place, good)),
        6 => place().prop_map(Move::Timer),
        1 => Just(Move::Timers),
        2 => Just(Move::UnsteadyTimers),
        5 => place().prop_map(Move::Signal),
        8 => (place(), any::<bool>()).prop_map(|(place, good)| Move::Looked(place, good)),
        4 => place().prop_map(Move::Began),
        4 => Just(Move::Crash),
        3 => Just(Move::CrashBeforeWrite),
        2 => Just(Move::Pause),
        4 => Just(Move::Resume),
        1 => Just(Move::Cancel),
    ];
    prop::collection::vec(one, 0..70)
}

/// What a task or an item does: often an expression, and whatever else there is to a depth of three.
fn bodies() -> impl Strategy<Value = TaskKind> {
    let wait = |until, timeout| TaskKind::Wait(WaitSpec { until, timeout });
    let signal = move |(name, limited): (usize, bool)| {
        wait(WaitFor::Signal(SIGNALS[name].into()), limited.then_some(Duration::from_secs(40)))
    };
    let leaf = prop_oneof![
        6 => Just(expr("1")),
        1 => Just(TaskKind::Pipeline("inner".parse().unwrap())),
        1 => Just(wait(WaitFor::Duration(Duration::from_secs(20)), None)),
        1 => (0..2_usize, any::<bool>()).prop_map(signal),
    ];
    leaf.prop_recursive(2, 8, 3, |inner| {
        let rule = prop_oneof![
            2 => Just(OnItemError::Fail),
            1 => Just(OnItemError::Skip),
            1 => Just(OnItemError::Collect),
        ];
        let chunk = |size: u32, body: &TaskKind| match (size, body) {
            (3.., TaskKind::Expression(_)) => Some(Chunk::Auto),
            (size, TaskKind::Expression(_)) => NonZeroU32::new(size).map(Chunk::Of),
            _ => None,
        };
        let spec =
            (inner.clone(), 0..3_u32, rule, 0..4_u32).prop_map(move |(body, most, on_item_error, size)| {
                MapSpec {
                    on_item_error,
                    chunk: chunk(size, &body),
                    max_parallel: NonZeroU32::new(most),
                    ..map("list", "x", body)
                }
            });
        let members = prop::collection::vec(inner.clone(), 1..4);
        prop_oneof![
            2 => spec.clone().prop_map(TaskKind::Map),
            1 => spec.prop_map(TaskKind::Filter),
            1 => (inner, 0..3_u32).prop_map(|(body, size)| TaskKind::Reduce(ReduceSpec {
                chunk: NonZeroU32::new(size).filter(|_| matches!(body, TaskKind::Expression(_))),
                over: "list".into(),
                item: "x".into(),
                accumulator: "sum".into(),
                initial: json!(0),
                body: Box::new(Body::from(body)),
            })),
            1 => (members, any::<bool>()).prop_map(|(bodies, named)| {
                let member = |(place, body): (usize, TaskKind)| GroupMember {
                    name: named.then(|| format!("m{place}")),
                    body: body.into(),
                };
                TaskKind::Group(bodies.into_iter().enumerate().map(member).collect())
            }),
        ]
    })
}

/// Whether one attempt carries out several of its items.
fn chunked(kind: &TaskKind) -> bool {
    let own = match kind {
        TaskKind::Map(spec) | TaskKind::Filter(spec) => spec.chunk.is_some(),
        TaskKind::Reduce(spec) => spec.chunk.is_some(),
        _ => false,
    };
    own || kind.inner().iter().any(|body| chunked(&body.kind))
}

/// A pipeline whose task `t<n>` needs some of those before it.
fn pipelines() -> impl Strategy<Value = Pipeline> {
    let rule = prop_oneof![
        3 => Just(None),
        1 => Just(Some(OnError::Fail)),
        1 => Just(Some(OnError::Continue)),
        1 => Just(Some(OnError::DeadLetter)),
    ];
    let rare = || prop::bool::weighted(0.2);
    let one = (any::<u16>(), 1..4_u32, bodies(), rare(), rare(), rule);
    let limit = prop::option::weighted(0.2, 30..120_u64);
    (prop::collection::vec(one, 1..9), any::<bool>(), 0..4_u32, limit).prop_map(
        |(shapes, go_on, most, limit)| {
            let mut tasks = Vec::new();
            for (place, (needs, attempts, kind, optional, guarded, rule)) in shapes.into_iter().enumerate() {
                let before = (0..place).filter(|n| needs >> n & 1 == 1).map(|n| format!("t{n}"));
                let mut made = task(&format!("t{place}"), kind);
                made.inputs = vec![TaskInput::required("list")];
                made.inputs.extend(before.map(|name| TaskInput { optional, ..TaskInput::required(name) }));
                made.retry = RetryPolicy {
                    max_attempts: NonZeroU32::new(attempts).unwrap(),
                    max_time: (needs % 3 == 0).then_some(Duration::from_secs(2)),
                    not_on: if needs % 5 == 0 { vec!["exit:1".parse().unwrap()] } else { Vec::new() },
                    ..Default::default()
                };
                made.timeout = (needs % 4 == 0).then_some(Duration::from_secs(15));
                made.total_timeout = (needs % 7 == 0).then_some(Duration::from_secs(25));
                // What is undone is not kept, and neither is what ends a wait.
                let kept =
                    needs % 3 != 1 && needs & 8 == 0 && !made.body.kind.waits() && !chunked(&made.body.kind);
                made.cache = kept.then(|| Box::new(Cache::default()));
                made.compensate = (needs % 3 == 1).then(|| {
                    let each = TaskKind::Map(map("list", "x", expr("x")));
                    let body = Body::from(if needs % 2 == 0 { expr("result") } else { each });
                    let max_attempts = NonZeroU32::new(attempts).unwrap();
                    let retry = RetryPolicy { max_attempts, ..Default::default() };
                    Box::new(Compensation { body, timeout: None, retry })
                });
                made.when = guarded.then(|| Expr::compile("false").unwrap());
                made.on_error = rule;
                tasks.push(made);
            }
            let mut definition = pipeline(tasks);
            definition.on_error = if go_on { OnError::Continue } else { OnError::Fail };
            definition.max_parallel = NonZeroU32::new(most);
            definition.compensate_on_cancel = most == 1;
            definition.timeout = limit.map(Duration::from_secs);
            definition
        },
    )
}

/// A world, and what it has seen.
struct Play {
    world: World,
    reuse: Vec<(u32, Arc<Value>)>,
    /// Attempts that have reported, or were lost in a crash.
    old: Vec<Work>,
    /// How long the log was after each turn.
    turns: Vec<usize>,
    /// How the run was shown when it had ended.
    end: Option<Value>,
}

impl Play {
    fn pick(&self, place: usize) -> Option<Work> {
        let waiting = self.world.waiting();
        (!waiting.is_empty()).then(|| self.world.work(&waiting[place % waiting.len()]))
    }

    fn report(&mut self, place: usize, outcome: Outcome) {
        if let Some(work) = self.pick(place) {
            self.world.report(&work, outcome);
            self.old.push(work);
        }
    }

    fn nothing_changes(&mut self, why: &str, change: impl FnOnce(&mut World)) {
        let seq = self.world.run().seq();
        change(&mut self.world);
        assert_eq!(self.world.run().seq(), seq, "{why}");
    }

    fn play(&mut self, step: &Move) {
        let status = self.world.run().status();
        let possible = |wanted| if status == wanted { Ok(()) } else { Err(()) };
        match step {
            Move::Finish(place) => self.report(*place, Outcome::Completed(json!(1).into())),
            Move::Fail(place) => {
                let failure = Failure::error("failed").code(format!("exit:{}", place % 3));
                self.report(*place, Outcome::Failed(failure));
            }
            Move::TimeOut(place) => self.report(*place, Outcome::Failed(Failure::timeout("too long"))),
            Move::Part(place) => {
                if let Some(work) = self.pick(*place).filter(|work| work.chunk.is_some()) {
                    let count = 1 + place % work.members().count();
                    let outcome = |n| match n == place % 3 {
                        true => Outcome::Failed(Failure::error("failed").code("exit:1")),
                        false => Outcome::Completed(json!(n).into()),
                    };
                    self.world.report_chunk(&work, (0..count).map(outcome).collect());
                    self.old.push(work);
                }
            }
            Move::FailForGood(place) => self.report(*place, Outcome::Failed(Failure::permanent("failed"))),
            Move::Late(place) => {
                if let Some(mut old) = self.pick(*place) {
                    old.attempt = old.attempt.saturating_sub(1);
                    for item in old.chunk.iter_mut().flat_map(|chunk| &mut chunk.items) {
                        item.attempt = item.attempt.saturating_sub(1);
                    }
                    let late = Outcome::Completed(json!("late").into());
                    self.nothing_changes("a superseded attempt", |world| world.report(&old, late));
                }
            }
            Move::Again(place, good) => {
                if let Some(old) = self.old.get(place % self.old.len().max(1)).cloned() {
                    let again = match good {
                        true => Outcome::Completed(json!("again").into()),
                        false => Outcome::Failed(Failure::error("again")),
                    };
                    // One whose end was lost with a crash has been started anew under the next number.
                    self.nothing_changes("an attempt that is over", |world| world.report(&old, again));
                }
            }
            Move::Timer(place) => self.world.advance_timer(*place),
            Move::Timers => drop(self.world.advance_timers()),
            Move::UnsteadyTimers => self.world.advance_unsteady_timers(),
            Move::Signal(place) => {
                let name = SIGNALS[place % SIGNALS.len()].into();
                let taken =
                    self.world.input(Input::Signal { name, value: Arc::new(json!("said")), by: None });
                assert_eq!(taken.is_err(), status.is_terminal());
            }
            Move::Looked(place, good) => {
                let lookups = self.world.lookups();
                let found = good.then(|| json!("kept"));
                if !lookups.is_empty() {
                    self.world.look(lookups[place % lookups.len()], found);
                } else {
                    let id = (place % self.world.run().units.len()) as u32;
                    self.nothing_changes("nothing was looked for", |world| world.look(id, found));
                }
            }
            Move::Began(place) => {
                if let Some(work) = self.pick(*place) {
                    let began = Input::Began { step_run: work.step_run, attempt: work.attempt };
                    self.world.input(began).unwrap();
                }
            }
            Move::Crash => self.crash(self.world.events().len()),
            Move::CrashBeforeWrite => {
                let kept = self.turns.iter().rev().find(|kept| **kept < self.world.events().len());
                self.crash(kept.copied().unwrap_or(0));
            }
            Move::Pause => {
                assert_eq!(self.world.input(Input::Pause).map_err(drop), possible(RunStatus::Running));
            }
            Move::Resume => {
                assert_eq!(self.world.input(Input::Resume).map_err(drop), possible(RunStatus::Paused));
            }
            Move::Cancel => {
                let cancelled = self.world.input(Input::Cancel { reason: "test".into() });
                assert_eq!(cancelled.is_err(), status.is_terminal());
            }
        }
        self.turns.push(self.world.events().len());
    }

    fn crash(&mut self, kept: usize) {
        self.old.extend(self.world.waiting().iter().map(|step| self.world.work(step)));
        self.turns.retain(|turn| *turn <= kept);
        self.end = self.end.take().filter(|_| kept == self.world.events().len());
        let started = |event: &Event| match &event.fact {
            Fact::StepStart { step, attempt, .. } => Some((step.step_run, *attempt)),
            _ => None,
        };
        let started: HashSet<_> = self.world.events()[..kept].iter().filter_map(started).collect();
        // No worker was given an attempt whose start was not durable.
        self.old.retain(|work| work.members().all(|member| started.contains(&member)));
        self.world.crash_with(kept);
        if kept == 0 {
            self.world.input(Input::Start { reuse: self.reuse.clone() }).unwrap();
        }
    }

    /// Lets everything that was begun come to its end.
    fn finish(&mut self) {
        for _ in 0..300 {
            if self.world.run().status().is_terminal() {
                break;
            }
            let _ = self.world.input(Input::Resume);
            for name in &SIGNALS[..2] {
                let _ =
                    self.world.input(Input::Signal { name: (*name).into(), value: Arc::default(), by: None });
            }
            self.world.advance_timer(0);
            for id in self.world.lookups() {
                self.world.look(id, None);
            }
            while self.pick(0).is_some() {
                self.report(0, Outcome::Completed(json!(1).into()));
            }
            self.check();
        }
        assert!(self.world.run().status().is_terminal(), "every run ends: {:#?}", self.world.run().view());
    }

    fn check(&mut self) {
        let run = self.world.run();
        assert_eq!(state(run), state(&self.world.replayed()), "the log alone makes the state");
        let gapless = self.world.events().iter().zip(1..).all(|(event, seq)| event.seq == seq);
        assert!(gapless, "events are counted without a gap");
        check_order(run, self.world.events());
        check_units(&self.world);
        let shown = || serde_json::to_value(run.view()).unwrap();
        if !run.status().is_terminal() {
            assert!(self.end.is_none(), "what has ended stays so");
            return;
        }
        assert_eq!(*self.end.get_or_insert_with(shown), shown(), "what has ended stays so");
        check_undone(run);
        assert!(self.world.waiting().is_empty(), "nothing goes on after the end");
        assert!(run.step_states().all(StepStatus::is_terminal), "no step is left open");
        assert_eq!(self.world.events().iter().filter(|event| event.fact.ends_run()).count(), 1);
        assert!(in_line(run).next().is_none() && run.occupied == 0 && run.awaited.is_empty());
        assert!(run.looking == 0 && self.world.lookups().is_empty(), "nothing is looked for any more");
    }
}

/// All that a replay must bring back. When a retry is due, and that its time has come, is no fact, and neither is that a
/// kept value is looked for.
fn state(run: &Run) -> String {
    let unit = |unit: &Unit| {
        let items = unit.items.as_ref();
        let items = items
            .map(|items| (items.first, items.count, items.queued, items.done, items.accumulator.clone()));
        format!(
            "{:?} {} {} {} {:?} {:?} {items:?}",
            unit.status, unit.attempt, unit.failures, unit.waiting, unit.value, unit.chunk
        )
    };
    let line = |line: &Line| {
        let fixed = |id: &u32| {
            run.units[*id as usize].status == StepStatus::Queued && run.plan_body(*id).cache().is_none()
        };
        let queued = line.iter().filter(fixed);
        queued.collect::<Vec<_>>()
    };
    let signals: BTreeMap<_, _> = run.signals.iter().filter(|(_, values)| !values.is_empty()).collect();
    let early: usize = signals.values().map(|values| values.len()).sum();
    assert_eq!(early, run.early_signals, "signals that no step has taken are counted");
    let awaited: BTreeMap<_, _> = run.awaited.iter().collect();
    let units: Vec<String> = run.units.iter().map(unit).collect();
    let lines = (line(&run.ready_work), line(&run.ready_free));
    let shown = serde_json::to_string(&run.view()).unwrap();
    format!(
        "{units:#?} {lines:?} {} {} {} {signals:?} {awaited:?} {shown}",
        run.seq, run.occupied, run.open_steps
    )
}

/// What was done is undone where it must be, each once, and nothing else is.
fn check_undone(run: &Run) {
    let undoes = match run.status() {
        RunStatus::Failed | RunStatus::TimedOut => true,
        RunStatus::Cancelled => run.undo.is_some(),
        _ => false,
    };
    let steps = run.plan().steps().iter().zip(&run.units);
    // What was taken over is another run's to undo.
    let carried_out = |unit: &Unit| unit.status == StepStatus::Completed;
    let done = steps.filter(|(step, unit)| step.task.compensate.is_some() && carried_out(unit));
    let mut expected: Vec<u32> = done.map(|(_, unit)| unit.place).filter(|_| undoes).collect();
    let mut undone: Vec<u32> = run.undo_units().iter().map(|unit| unit.place).collect();
    undone.sort_unstable();
    expected.sort_unstable();
    assert_eq!(undone, expected, "what has something to undo is undone");
    assert!(run.undo_units().iter().all(|unit| unit.status.is_terminal()));
}

/// No step starts before what it needs, and none completes twice.
fn check_order(run: &Run, events: &[Event]) {
    let needs: HashMap<&str, Vec<(&str, bool)>> = (run.plan().steps().iter())
        .map(|step| {
            let inputs = step.task.inputs.iter().filter(|input| input.source != "list");
            (&*step.name, inputs.map(|input| (input.source.as_str(), input.optional)).collect())
        })
        .collect();
    let (mut done, mut ended) = (HashSet::new(), HashSet::new());
    for event in events {
        match &event.fact {
            Fact::StepStart { step, attempt: 1, .. } if *step.step == *step.task_name => {
                for (source, optional) in &needs[&*step.task_name] {
                    let there = if *optional { ended.contains(*source) } else { done.contains(*source) };
                    assert!(there, "{} started before {source}", step.step);
                }
            }
            Fact::StepComplete { step, .. } => {
                assert!(done.insert(step.step.to_string()), "{} completed twice", step.step);
                ended.insert(step.step.to_string());
            }
            Fact::StepError { step, will_retry: false, .. }
            | Fact::StepSkip { step, .. }
            | Fact::StepCancel { step, .. } => drop(ended.insert(step.step.to_string())),
            _ => {}
        }
    }
}

/// Those that wait to start. A map that stands in line for its items is none of them, and they are.
fn in_line(run: &Run) -> impl Iterator<Item = u32> {
    let waits = |id: &u32| run.units[*id as usize].items.is_none();
    let items = run.units.iter().filter_map(|unit| unit.items.as_ref()).flat_map(|items| items.in_line());
    run.ready_work.iter().filter(waits).chain(run.ready_free.iter()).chain(items)
}

/// How many attempts of items a composite allows at once.
fn most_at_once(kind: &TaskKind) -> usize {
    match kind {
        TaskKind::Map(spec) | TaskKind::Filter(spec) => {
            spec.max_parallel.map_or(usize::MAX, |most| most.get() as usize)
        }
        TaskKind::Reduce(_) => 1,
        _ => usize::MAX,
    }
}

/// Every step run is where its state says it is, so that none can be stuck.
fn check_units(world: &World) {
    let run = world.run();
    let live = !run.status().is_terminal();
    let line: Vec<u32> = in_line(run).collect();
    let in_line = |id: u32| line.iter().filter(|other| **other == id).count();
    let under_way = |id: u32| {
        let members = world.works().flat_map(|work| work.members());
        members.filter(|(member, _)| *member == id).map(|(_, attempt)| attempt).collect::<Vec<_>>()
    };
    let (mut occupied, mut chunks) = (0, HashSet::new());
    for (id, unit) in (0_u32..).zip(&run.units) {
        let name = run.name(id);
        let kind = &run.body(id).kind;
        let is_wait = matches!(kind, TaskKind::Wait(_));
        match unit.status {
            StepStatus::Pending if unit.parent.is_none() && !run.is_undo(id) => {
                assert!(!live || run.started_at.is_none() || unit.waiting > 0, "{name} waits for nothing");
            }
            StepStatus::Queued => {
                let looks = world.lookups().contains(&id);
                assert_eq!(looks, unit.looking, "{name} is looked for where it says so");
                assert_eq!(in_line(id) + usize::from(looks), 1, "{name} is in line once, or looked for");
            }
            StepStatus::Retrying => {
                let timed = world.awaits(id, unit.attempt + 1);
                assert!(
                    in_line(id) == 1 || in_line(id) == 0 && timed,
                    "{name} waits for its time or for room"
                );
            }
            StepStatus::Running if unit.items.is_some() => {
                let items = unit.items.as_ref().unwrap();
                let mut items = run.units[items.first as usize..][..items.count as usize].iter();
                let under_way = items.clone().zip(unit.items.as_ref().unwrap().range());
                let under_way = under_way.filter(|(item, _)| item.status == StepStatus::Running);
                // Items of one chunk count as one.
                let attempts: HashSet<u32> = under_way.map(|(item, id)| item.chunk.unwrap_or(id)).collect();
                assert!(attempts.len() <= most_at_once(kind), "{name} has more under way than it allows");
                if let Some(chunks) = &unit.items.as_ref().unwrap().chunks {
                    assert_eq!(chunks.live as usize, attempts.len(), "{name} knows what is under way");
                    let may = attempts.len() < most_at_once(kind) && !chunks.ready.is_empty();
                    assert_eq!(unit.in_line.is_some(), may && live, "{name} is in line while it may go on");
                }
                let open = items.any(|item| !item.status.is_terminal() && item.status != StepStatus::Pending);
                assert!(open, "{name} has items that go on");
            }
            StepStatus::Running if is_wait => {
                let timed = run.wait_limit(id).is_none() || world.awaits(id, unit.attempt);
                assert!(timed, "{name} waits for its time");
            }
            StepStatus::Running => {
                let attempts = under_way(id);
                match unit.chunk.is_some_and(|chunk| run.left_over.contains(&chunk)) {
                    true => assert!(attempts.is_empty() && run.status() == RunStatus::Paused, "{name} waits"),
                    false => assert_eq!(attempts, [unit.attempt], "{name} has one live attempt"),
                }
                // Items of one chunk take the room of one.
                let first = unit.chunk.is_none_or(|chunk| chunks.insert(chunk));
                occupied += u32::from(run.needs_room(id) && first);
            }
            _ => {}
        }
        if unit.status != StepStatus::Running {
            assert!(under_way(id).is_empty(), "{name} is {} and under way", unit.status);
        }
    }
    assert_eq!(run.chunks.len(), chunks.len(), "what is known of chunks is what is under way of them");
    let ended = |unit: &&Unit| unit.status.is_terminal() && !unit.status.has_value();
    let without_value = run.units.iter().take(run.plan().steps().len()).filter(ended).count();
    assert_eq!(run.without_value as usize, without_value, "what has ended without a value is counted");
    assert_eq!(run.occupied, occupied, "room is taken by what is under way and by nothing else");
    let most = run.plan().pipeline().max_parallel.map_or(u32::MAX, NonZeroU32::get);
    let looking = run.units.iter().filter(|unit| unit.looking).count();
    assert_eq!(run.looking as usize, looking, "room is kept for what is looked for");
    assert!(looking == world.lookups().len() && (!live || looking == 0 || occupied + run.looking <= most));
    assert!(occupied <= most, "no more under way than allowed");
    if run.status() == RunStatus::Running {
        let waits = |unit: &Unit| unit.status == StepStatus::Running && unit.items.is_none();
        assert!(
            run.units.iter().any(waits) || world.timers() > 0 || looking > 0,
            "it has something to go on with"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn any_order_any_failure_any_crash(
        definition in pipelines(),
        reused in any::<u8>(),
        moves in moves(),
        cut in any::<prop::sample::Index>(),
    ) {
        let steps = definition.tasks.len();
        let mut world = World::new(definition, json!({"list": [1, 2, 3]}));
        // A quarter of the runs take over values of an earlier one.
        let reuse = (0..steps as u32).filter(|place| reused < 64 && reused >> (place % 6) & 1 == 1);
        let reuse: Vec<_> = reuse.map(|place| (place, Arc::new(json!("earlier")))).collect();
        world.input(Input::Start { reuse: reuse.clone() }).unwrap();
        let turns = vec![world.events().len()];
        let mut play = Play { world, reuse, old: Vec::new(), turns, end: None };
        play.check();
        for step in &moves {
            play.play(step);
            play.check();
        }
        play.finish();
        // The log up to the end of any turn makes a run that can be taken up, and ends.
        let kept = *cut.get(&play.turns);
        play.crash(kept);
        play.check();
        play.finish();
    }
}
