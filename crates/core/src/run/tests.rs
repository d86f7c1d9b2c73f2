//! The state machine, driven by a small world that can crash.

mod cached;
mod chunks;
mod compensation;
mod dead_letters;
mod driver;
mod inside;
mod items;
mod order;
mod otherwise;
mod properties;
mod retries;
mod reuse;
mod timers;

use std::num::NonZeroU32;
use std::time::Duration;

use serde_json::json;

use super::{Fact, Failure, Input, Outcome, RunStatus, StepStatus};
use crate::definition::{
    GroupMember, Input as TaskInput, MapSpec, OnError, OnItemError, ReduceSpec, RetryPolicy, Style, TaskKind,
    WaitFor, WaitSpec,
};
use crate::expr::Expr;
use driver::{World, expression, pipeline, task};

fn expr(text: &str) -> TaskKind {
    TaskKind::Expression(Expr::compile(text).unwrap())
}

fn map(over: &str, item: &str, body: TaskKind) -> MapSpec {
    MapSpec {
        over: over.into(),
        item: item.into(),
        max_parallel: None,
        chunk: None,
        on_item_error: OnItemError::Fail,
        body: Box::new(body.into()),
    }
}

fn statuses(world: &World) -> Vec<(String, StepStatus)> {
    world.run().view().steps.iter().map(|step| (step.id.to_string(), step.state.status)).collect()
}

fn types(world: &World) -> Vec<&'static str> {
    world.events().iter().map(|event| event.fact.type_name()).collect()
}

#[test]
fn a_diamond_starts_each_step_when_its_last_input_is_there() {
    let tasks = vec![
        expression("load", "n + 1", &["n"]),
        expression("left", "load * 2", &["load"]),
        expression("right", "load * 3", &["load"]),
        expression("join", "left + right", &["left", "right"]),
    ];
    let mut world = World::new(pipeline(tasks), json!({"n": 1}));
    world.start();
    assert_eq!(world.waiting(), ["load"]);
    world.finish("load");
    assert_eq!(world.waiting(), ["left", "right"]);
    world.finish("right");
    assert_eq!(world.waiting(), ["left"]);
    world.finish("left");
    world.finish("join");
    assert_eq!(world.run().status(), RunStatus::Completed);
    assert_eq!(**world.run().result().unwrap(), json!({"join": 10}));
    assert_eq!(world.run().view().steps_completed, 4);
    assert_eq!(types(&world).first(), Some(&"PipelineStartEvent"));
    assert_eq!(types(&world).last(), Some(&"PipelineCompleteEvent"));
}

#[test]
fn a_failing_task_fails_its_run_and_skips_what_needs_it() {
    let tasks = vec![
        expression("bad", "1", &[]),
        expression("slow", "2", &[]),
        expression("after", "bad", &["bad"]),
        expression("other", "slow", &["slow"]),
    ];
    let mut world = World::new(pipeline(tasks), json!({}));
    world.start();
    world.fail("bad", Failure::error("no luck"));
    assert_eq!(world.run().status(), RunStatus::Failed);
    let expected = [
        ("bad", StepStatus::Failed),
        ("slow", StepStatus::Cancelled),
        ("after", StepStatus::Skipped),
        ("other", StepStatus::Skipped),
    ];
    assert_eq!(statuses(&world), expected.map(|(name, status)| (name.to_owned(), status)));
    assert_eq!(world.cancelled(), ["slow"]);
    let error = world.run().error().unwrap().clone();
    assert_eq!((error.step.as_deref(), error.attempt, &*error.message), (Some("bad"), Some(1), "no luck"));
    let reasons: Vec<_> =
        world.run().view().steps.iter().filter_map(|step| step.state.reason.clone()).collect();
    assert_eq!(
        reasons.iter().map(|r| &**r).collect::<Vec<_>>(),
        ["`bad` failed", "needs `bad`, which failed", "`bad` failed"]
    );
}

#[test]
fn with_continue_the_rest_goes_on_and_the_run_fails_at_its_end() {
    let mut definition = pipeline(vec![
        expression("bad", "1", &[]),
        expression("good", "2", &[]),
        expression("after", "bad", &["bad"]),
        expression("last", "good + 1", &["good"]),
    ]);
    definition.on_error = OnError::Continue;
    let mut world = World::new(definition, json!({}));
    world.start();
    world.fail("bad", Failure::error("no luck"));
    world.finish_all();
    assert_eq!(world.run().status(), RunStatus::Failed);
    assert_eq!(world.run().view().outputs["last"], json!(3), "finished outputs stay readable");
    assert_eq!(statuses(&world)[2], ("after".to_owned(), StepStatus::Skipped));
}

#[test]
fn retries_wait_and_keep_the_budget() {
    let retry =
        RetryPolicy { max_attempts: NonZeroU32::new(3).unwrap(), jitter: false, ..Default::default() };
    let mut flaky = expression("flaky", "1", &[]);
    flaky.retry = retry;
    let mut world = World::new(pipeline(vec![flaky]), json!({}));
    world.start();
    world.fail("flaky", Failure::error("first"));
    assert_eq!(statuses(&world)[0].1, StepStatus::Retrying);
    assert_eq!(world.advance_timers(), [Duration::from_secs(1)]);
    world.fail("flaky", Failure::error("second"));
    assert_eq!(world.advance_timers(), [Duration::from_secs(2)]);
    world.finish("flaky");
    assert_eq!(world.run().status(), RunStatus::Completed);
    assert_eq!(world.run().error(), None, "an error that a retry got over is none");

    let mut flaky = expression("flaky", "1", &[]);
    flaky.retry = RetryPolicy { max_attempts: NonZeroU32::new(3).unwrap(), ..Default::default() };
    let mut world = World::new(pipeline(vec![flaky]), json!({}));
    world.start();
    world.fail("flaky", Failure::permanent("never"));
    assert_eq!(world.run().status(), RunStatus::Failed, "a permanent failure is not tried again");
}

#[test]
fn a_late_completion_of_an_older_attempt_changes_nothing() {
    let mut flaky = expression("flaky", "1", &[]);
    flaky.retry = RetryPolicy { max_attempts: NonZeroU32::new(2).unwrap(), ..Default::default() };
    let mut world = World::new(pipeline(vec![flaky]), json!({}));
    world.start();
    let old = world.work("flaky");
    world.fail("flaky", Failure::timeout("slow"));
    world.advance_timers();
    let seq = world.run().seq();
    world.report(&old, Outcome::Completed(json!("late").into()));
    assert_eq!(world.run().seq(), seq);
    world.finish("flaky");
    assert_eq!(**world.run().result().unwrap(), json!({"flaky": 1}));
}

#[test]
fn a_guarded_off_task_is_skipped_and_optional_inputs_are_null() {
    let mut small = expression("small", "'s'", &["kind"]);
    small.when = Some(Expr::compile("kind == 'small'").unwrap());
    let mut large = expression("large", "'l'", &["kind"]);
    large.when = Some(Expr::compile("kind == 'large'").unwrap());
    let only = expression("only", "small", &["small"]);
    let mut record = task("record", expr("small or large"));
    record.inputs = vec![TaskInput::optional("small"), TaskInput::optional("large")];
    let mut world = World::new(pipeline(vec![small, large, only, record]), json!({"kind": "large"}));
    world.start();
    world.finish_all();
    assert_eq!(world.run().status(), RunStatus::Completed);
    assert_eq!(statuses(&world)[0].1, StepStatus::Skipped);
    assert_eq!(statuses(&world)[2].1, StepStatus::Skipped);
    assert_eq!(**world.run().result().unwrap(), json!({"only": null, "record": "l"}));
}

#[test]
fn items_that_wait_in_line_go_with_their_map_while_the_run_is_paused() {
    let inner = TaskKind::Pipeline("inner".parse().unwrap());
    let spec = MapSpec { max_parallel: NonZeroU32::new(2), ..map("list", "x", inner) };
    let mut each = task("each", TaskKind::Map(spec));
    each.inputs.push(TaskInput::required("list"));
    let mut definition = pipeline(vec![each, expression("other", "1", &[])]);
    definition.on_error = OnError::Continue;
    let mut world = World::new(definition, json!({"list": [1, 2, 3]}));
    world.start();
    world.input(Input::Pause).unwrap();
    world.report(&world.work("each[0]"), Outcome::Completed(json!(1).into()));
    world.fail("each[1]", Failure::permanent("no"));
    world.input(Input::Resume).unwrap();
    assert_eq!(world.waiting(), ["other"]);
    world.finish("other");
    assert_eq!(world.run().status(), RunStatus::Failed);
}

#[test]
fn a_run_has_only_so_many_items_however_they_are_nested() {
    let inner = TaskKind::Map(map("list", "b", expr("b")));
    let nested = task("each", TaskKind::Map(map("list", "a", inner)));
    let flat = task("each", TaskKind::Map(map("list", "a", expr("a"))));
    for (length, mut each) in [(100_001, flat), (400, nested)] {
        each.inputs = vec![TaskInput::required("list")];
        let mut world = World::new(pipeline(vec![each]), json!({"list": vec![0; length]}));
        world.start();
        assert_eq!(world.run().status(), RunStatus::Failed);
        let error = world.run().view().error.unwrap();
        assert!(error.message.contains("items are too many"), "{}", error.message);
    }
}

#[test]
fn map_filter_and_reduce_run_their_items_as_step_runs() {
    let mut keep = task("keep", TaskKind::Filter(map("numbers", "n", expr("n % 2 == 0"))));
    keep.inputs = vec![TaskInput::required("numbers")];
    let spec = MapSpec { max_parallel: NonZeroU32::new(2), ..map("keep", "n", expr("n * factor")) };
    let mut square = task("square", TaskKind::Map(spec));
    square.inputs = vec![TaskInput::required("keep"), TaskInput::required("factor")];
    let reduce = ReduceSpec {
        over: "square".into(),
        item: "n".into(),
        accumulator: "acc".into(),
        initial: json!(100),
        chunk: None,
        body: Box::new(expr("acc + n").into()),
    };
    let mut total = task("total", TaskKind::Reduce(reduce));
    total.inputs = vec![TaskInput::required("square")];
    let mut world =
        World::new(pipeline(vec![keep, square, total]), json!({"numbers": [1, 2, 3, 4, 6], "factor": 10}));
    world.start();
    assert_eq!(world.waiting().len(), 5);
    for name in world.waiting() {
        world.finish(&name);
    }
    assert_eq!(world.waiting(), ["square[0]", "square[1]"], "at most two at once");
    world.finish("square[1]");
    assert_eq!(world.waiting(), ["square[0]", "square[2]"]);
    world.finish_all();
    assert_eq!(**world.run().result().unwrap(), json!({"total": 220}));
    assert_eq!(world.run().view().total_steps, 3);
    assert_eq!(world.run().view().steps[1].items.len(), 3);
}

#[test]
fn an_empty_list_completes_at_once_and_no_list_is_an_error() {
    let mut each = task("each", TaskKind::Map(map("list", "x", expr("x"))));
    each.inputs = vec![TaskInput::required("list")];
    let mut world = World::new(pipeline(vec![each.clone()]), json!({"list": []}));
    world.start();
    assert_eq!(**world.run().result().unwrap(), json!({"each": []}));
    let mut world = World::new(pipeline(vec![each]), json!({"list": "abc"}));
    world.start();
    let error = world.run().error().unwrap().message.to_string();
    assert_eq!(error, "`list` must be a list for `map`, and is a string");
}

#[test]
fn an_item_that_fails_fails_its_map_and_stops_the_others() {
    let mut each = task("each", TaskKind::Map(map("list", "x", expr("x"))));
    each.inputs = vec![TaskInput::required("list")];
    let mut world = World::new(pipeline(vec![each]), json!({"list": [1, 2, 3]}));
    world.start();
    world.finish("each[0]");
    world.fail("each[1]", Failure::error("boom"));
    assert_eq!(world.run().status(), RunStatus::Failed);
    assert_eq!(world.cancelled(), ["each[2]"]);
    assert_eq!(world.run().error().unwrap().step.as_deref(), Some("each[1]"));
    let items: Vec<_> = world.run().view().steps[0].items.iter().map(|item| item.status).collect();
    assert_eq!(items, [StepStatus::Completed, StepStatus::Failed, StepStatus::Cancelled]);
}

#[test]
fn groups_make_objects_of_named_members_and_lists_of_others() {
    let member =
        |name: Option<&str>, text: &str| GroupMember { name: name.map(Into::into), body: expr(text).into() };
    let named = TaskKind::Group(vec![member(Some("sum"), "a + 1"), member(Some("twice"), "a * 2")]);
    let plain = TaskKind::Group(vec![member(None, "a"), member(None, "a - 1")]);
    let tasks = [("named", named), ("plain", plain)].map(|(name, kind)| {
        let mut group = task(name, kind);
        group.inputs = vec![TaskInput::required("a")];
        group
    });
    let mut world = World::new(pipeline(tasks.into()), json!({"a": 5}));
    world.start();
    assert_eq!(world.waiting(), ["named.sum", "named.twice", "plain[0]", "plain[1]"]);
    world.finish_all();
    assert_eq!(**world.run().result().unwrap(), json!({"named": {"sum": 6, "twice": 10}, "plain": [5, 4]}));
}

#[test]
fn composites_nest() {
    let inner = TaskKind::Map(map("row", "cell", expr("cell * 2")));
    let mut outer = task("rows", TaskKind::Map(map("table", "row", inner)));
    outer.inputs = vec![TaskInput::required("table")];
    let mut world = World::new(pipeline(vec![outer]), json!({"table": [[1, 2], [], [3]]}));
    world.start();
    assert_eq!(world.waiting(), ["rows[0][0]", "rows[0][1]", "rows[2][0]"]);
    world.finish_all();
    assert_eq!(**world.run().result().unwrap(), json!({"rows": [[2, 4], [], [6]]}));
}

#[test]
fn a_wait_takes_a_signal_before_or_after_it_begins_or_times_out() {
    let wait = |timeout| TaskKind::Wait(WaitSpec { until: WaitFor::Signal("go".into()), timeout });
    let mut gate = task("gate", wait(Some(Duration::from_secs(60))));
    gate.inputs = vec![TaskInput::required("first")];
    let definition = || pipeline(vec![expression("first", "1", &[]), gate.clone()]);
    let go = || Input::Signal { name: "go".into(), value: json!("yes").into(), by: None };

    let mut early = World::new(definition(), json!({}));
    early.start();
    early.input(go()).unwrap();
    early.finish("first");
    assert_eq!(**early.run().result().unwrap(), json!({"gate": "yes"}));

    let mut late = World::new(definition(), json!({}));
    late.start();
    late.finish("first");
    assert_eq!(late.run().status(), RunStatus::Running);
    late.input(go()).unwrap();
    assert_eq!(late.run().status(), RunStatus::Completed, "the waiting step takes it at once");

    let mut never = World::new(definition(), json!({}));
    never.start();
    never.finish("first");
    never.advance_timers();
    assert_eq!(statuses(&never)[1].1, StepStatus::TimedOut);
    assert_eq!(never.run().status(), RunStatus::Failed);
}

#[test]
fn pause_holds_back_new_steps_and_resume_lets_them_go() {
    let tasks = vec![expression("a", "1", &[]), expression("b", "a + 1", &["a"])];
    let mut world = World::new(pipeline(tasks), json!({}));
    world.start();
    world.input(Input::Pause).unwrap();
    assert!(world.input(Input::Pause).is_err(), "a paused run cannot be paused");
    world.finish("a");
    assert!(world.waiting().is_empty());
    assert_eq!(statuses(&world)[1].1, StepStatus::Queued);
    world.input(Input::Resume).unwrap();
    world.finish("b");
    assert_eq!(world.run().status(), RunStatus::Completed);
}

#[test]
fn cancel_stops_what_runs_and_terminal_states_never_change() {
    let tasks = vec![expression("a", "1", &[]), expression("b", "a + 1", &["a"])];
    let mut world = World::new(pipeline(tasks), json!({}));
    world.start();
    let work = world.work("a");
    world.input(Input::Cancel { reason: "enough".into() }).unwrap();
    assert_eq!(world.run().status(), RunStatus::Cancelled);
    assert_eq!(world.cancelled(), ["a"]);
    let seq = world.run().seq();
    world.report(&work, Outcome::Completed(json!(1).into()));
    for input in [Input::Cancel { reason: "again".into() }, Input::Pause, Input::Resume] {
        assert!(world.input(input).is_err());
    }
    assert_eq!((world.run().seq(), world.run().status()), (seq, RunStatus::Cancelled));
}

#[test]
fn a_run_that_takes_too_long_is_timed_out() {
    let mut definition = pipeline(vec![expression("a", "1", &[])]);
    definition.timeout = Some(Duration::from_secs(5));
    let mut world = World::new(definition, json!({}));
    world.start();
    world.advance_timers();
    assert_eq!(world.run().status(), RunStatus::TimedOut);
    assert_eq!(world.cancelled(), ["a"]);
}

#[test]
fn max_parallel_bounds_the_attempts_under_way() {
    let tasks = (0..5).map(|n| expression(&format!("t{n}"), "1", &[])).collect();
    let mut definition = pipeline(tasks);
    definition.max_parallel = NonZeroU32::new(2);
    let mut world = World::new(definition, json!({}));
    world.start();
    for left in [5, 4, 3, 2, 1] {
        assert_eq!(world.waiting().len(), left.min(2));
        let next = world.waiting()[0].clone();
        world.finish(&next);
    }
    assert_eq!(world.run().status(), RunStatus::Completed);
}

#[test]
fn several_outputs_are_keys_of_the_value() {
    let mut split = task("split", expr("{'low': n - 1, 'high': n + 1}"));
    split.inputs = vec![TaskInput::required("n")];
    split.outputs = vec!["low".into(), "high".into()];
    let sum = expression("sum", "low + high", &["low", "high"]);
    let mut world = World::new(pipeline(vec![split.clone(), sum]), json!({"n": 5}));
    world.start();
    world.finish_all();
    assert_eq!(**world.run().result().unwrap(), json!({"sum": 10}));

    split.body = expr("{'low': 1}").into();
    let mut world = World::new(pipeline(vec![split]), json!({"n": 5}));
    world.start();
    world.finish_all();
    assert!(world.run().error().unwrap().message.contains("`high`"));
}

#[test]
fn a_chain_hands_on_its_value() {
    let mut first = expression("step-1", "value + 1", &["value"]);
    first.outputs = vec!["step-1".into()];
    let mut second = task("step-2", expr("value * 10"));
    second.inputs = vec![TaskInput::required("step-1").named("value")];
    let mut definition = pipeline(vec![first, second]);
    definition.style = Style::Chained;
    let mut world = World::new(definition, json!({"value": 4}));
    world.start();
    world.finish_all();
    assert_eq!(**world.run().result().unwrap(), json!(50));
}

#[test]
fn reused_values_are_cached_and_not_made_again() {
    let tasks = vec![expression("a", "1", &[]), expression("b", "a + 1", &["a"])];
    let mut world = World::new(pipeline(tasks), json!({}));
    world.input(Input::Start { reuse: vec![(0, json!(41).into())] }).unwrap();
    assert_eq!(world.waiting(), ["b"]);
    world.finish_all();
    assert_eq!(**world.run().result().unwrap(), json!({"b": 42}));
    assert_eq!(statuses(&world)[0].1, StepStatus::Cached);
}

#[test]
fn a_log_with_a_gap_or_of_another_pipeline_is_refused() {
    let definition = || pipeline(vec![expression("a", "1", &[])]);
    let mut world = World::new(definition(), json!({}));
    world.start();
    world.finish_all();
    let events = world.events().to_vec();
    let fresh = || World::new(definition(), json!({})).run().clone();
    assert_eq!(fresh().replay(&events).unwrap().status(), RunStatus::Completed);
    assert!(fresh().replay(&events[1..]).unwrap_err().to_string().contains("the event before it is 0"));
    let mut twice = events.clone();
    twice.truncate(2);
    let mut again = events[1].clone();
    again.seq = 3;
    twice.push(again);
    assert!(fresh().replay(&twice).is_err(), "an attempt cannot start twice");
    for fact in [Fact::PipelinePause, Fact::PipelineResume] {
        let mut unasked = events[0].clone();
        unasked.fact = fact;
        assert!(fresh().replay(&[unasked]).is_err(), "a queued run is not paused and not resumed");
    }
}

#[test]
fn events_round_trip_as_json_with_the_names_watchers_know() {
    let tasks = vec![expression("a", "1", &[])];
    let mut world = World::new(pipeline(tasks), json!({}));
    world.start();
    world.finish_all();
    for event in world.events() {
        let text = serde_json::to_string(event).unwrap();
        let back: super::Event = serde_json::from_str(&text).unwrap();
        assert_eq!(serde_json::to_value(&back).unwrap(), serde_json::to_value(event).unwrap());
    }
    let complete =
        world.events().iter().find(|event| matches!(event.fact, Fact::StepComplete { .. })).unwrap();
    let view = super::EventView::of_run("p".parse().unwrap(), world.run().id(), complete.clone());
    let json = serde_json::to_value(&view).unwrap();
    for field in [
        "type",
        "seq",
        "pipeline_id",
        "run_id",
        "timestamp",
        "step_index",
        "step",
        "task_name",
        "task_id",
        "attempt",
        "duration_ms",
        "result",
    ] {
        assert!(json.get(field).is_some(), "{field} in {json}");
    }
    assert_eq!(json["type"], "StepCompleteEvent");
    let written = view.json().unwrap();
    assert_eq!(serde_json::from_slice::<serde_json::Value>(&written).unwrap(), json);
    assert_eq!(view.json().unwrap().as_ptr(), written.as_ptr(), "it is written once");
}
