//! Kept values: looked for, found, and not found.

use std::num::NonZeroU32;

use serde_json::json;

use super::driver::{World, expression, pipeline, task};
use super::{expr, map};
use crate::definition::{
    Cache, GroupMember, Input as TaskInput, MapSpec, OnItemError, Pipeline, RetryPolicy, Task, TaskKind,
};
use crate::expr::Expr;
use crate::run::{CacheOutcome, Fact, Failure, Input, RunStatus, StepStatus};

fn kept(mut task: Task) -> Task {
    task.cache = Some(Box::default());
    task
}

fn kept_under(key: &str, task: Task) -> Task {
    let cache = Cache { key: Some(Expr::compile(key).unwrap()), ..Cache::default() };
    Task { cache: Some(Box::new(cache)), ..task }
}

/// Two tasks, of which the second needs the first.
fn two() -> Pipeline {
    pipeline(vec![kept(expression("a", "x + 1", &["x"])), expression("b", "a * 2", &["a"])])
}

/// A map over `list` whose items are kept.
fn rows(spec: MapSpec) -> Task {
    let mut rows = kept(task("rows", TaskKind::Map(spec)));
    rows.inputs = vec![TaskInput::required("list")];
    rows
}

fn each() -> MapSpec {
    map("list", "x", expr("10 // x"))
}

fn states(world: &World) -> Vec<StepStatus> {
    world.run().step_states().collect()
}

/// The starts of step runs, and whether a value was looked for in vain before.
fn starts(world: &World) -> Vec<(String, bool)> {
    let start = |fact: &Fact| match fact {
        Fact::StepStart { step, cache, .. } => {
            Some((step.step.to_string(), *cache == Some(CacheOutcome::Miss)))
        }
        _ => None,
    };
    world.events().iter().filter_map(|event| start(&event.fact)).collect()
}

#[test]
fn a_kept_value_takes_the_place_of_an_attempt() {
    let mut world = World::new(two(), json!({"x": 1}));
    world.start();
    assert_eq!((world.lookups(), world.waiting().len()), (vec![0], 0), "nothing is carried out yet");
    assert_eq!(states(&world)[0], StepStatus::Queued);
    world.look(0, Some(json!(40)));
    assert_eq!(states(&world)[0], StepStatus::Cached);
    world.finish("b");
    assert_eq!(**world.run().result().unwrap(), json!({"b": 80}));
    assert_eq!(starts(&world), [("b".to_owned(), false)]);
    let view = world.run().view();
    assert_eq!((view.steps[0].state.attempt, view.steps[0].state.started_at), (0, None));
}

#[test]
fn what_is_not_kept_is_carried_out_and_says_so() {
    let mut world = World::new(two(), json!({"x": 1}));
    world.start();
    world.look(0, None);
    world.finish_all();
    assert_eq!(**world.run().result().unwrap(), json!({"b": 4}));
    assert_eq!(starts(&world), [("a".to_owned(), true), ("b".to_owned(), false)]);
    let shown = serde_json::to_value(&world.events()[1]).unwrap();
    assert_eq!((&shown["type"], &shown["cache"]), (&json!("StepStartEvent"), &json!("miss")));
}

#[test]
fn it_is_looked_for_once_whatever_happens_to_the_attempts() {
    let mut definition = two();
    let retry = RetryPolicy { max_attempts: NonZeroU32::new(3).unwrap(), ..RetryPolicy::default() };
    definition.tasks[0] = Task { retry, ..Task::clone(&definition.tasks[0]) }.into();
    let mut world = World::new(definition, json!({"x": 1}));
    world.start();
    world.crash();
    assert_eq!(world.lookups(), [0], "that it was looked for is no fact");
    world.look(0, None);
    world.fail("a", Failure::error("no"));
    world.advance_timers();
    assert!(world.lookups().is_empty() && world.waiting() == ["a"], "the second attempt is made");
    world.crash();
    assert!(world.lookups().is_empty() && world.waiting() == ["a"], "and the third");
    world.look(0, Some(json!("late")));
    world.finish_all();
    assert_eq!(**world.run().result().unwrap(), json!({"b": 4}));
}

#[test]
fn a_key_says_what_the_value_depends_on_and_its_failure_fails_the_step() {
    let a = kept_under("{'x': x // 10}", expression("a", "x + 1", &["x"]));
    let mut world = World::new(pipeline(vec![a]), json!({"x": 17}));
    world.start();
    assert_eq!(world.key("a"), Some(&json!({"x": 1})));

    let retry = RetryPolicy { max_attempts: NonZeroU32::new(3).unwrap(), ..RetryPolicy::default() };
    let a = Task { retry, ..kept_under("x.y.z", expression("a", "x + 1", &["x"])) };
    let mut world = World::new(pipeline(vec![a]), json!({"x": 17}));
    world.start();
    assert_eq!(world.run().status(), RunStatus::Failed, "at once: it would fail the same way again");
    let error = world.run().error().unwrap();
    assert!(error.message.starts_with("`cache.key: x.y.z`: "), "{}", error.message);
    assert_eq!(world.run().view().steps[0].state.code.as_deref(), Some("expression"));
}

#[test]
fn items_are_kept_each_for_itself() {
    let mut definition = pipeline(vec![rows(each())]);
    definition.tasks[0] = kept_under("[x, list | default([])]", Task::clone(&definition.tasks[0])).into();
    let mut world = World::new(definition, json!({"list": [1, 2, 5]}));
    world.start();
    assert_eq!(world.key("rows[1]"), Some(&json!([2, []])), "an item has no list that it does not read");
    let looks = world.lookups();
    assert_eq!(looks.len(), 3, "the map itself looks for nothing");
    world.look(looks[1], Some(json!("kept")));
    world.look(looks[0], None);
    world.look(looks[2], Some(json!("too")));
    assert_eq!(world.waiting(), ["rows[0]"]);
    world.finish_all();
    assert_eq!(**world.run().result().unwrap(), json!({"rows": [10, "kept", "too"]}));
    let counts = world.run().view().steps[0].item_counts.clone();
    assert_eq!(counts, [("cached", 2), ("completed", 1)].into_iter().collect());
}

#[test]
fn a_map_of_kept_items_completes_and_what_is_inside_composites_is_kept_too() {
    let members = ["x + 1", "x + 2"].map(|text| GroupMember { name: None, body: expr(text).into() });
    let spec = map("list", "x", TaskKind::Group(members.into()));
    let mut world = World::new(pipeline(vec![rows(spec)]), json!({"list": [1, 2]}));
    world.start();
    for (place, id) in world.lookups().into_iter().enumerate() {
        world.look(id, Some(json!(place)));
    }
    assert_eq!(**world.run().result().unwrap(), json!({"rows": [[0, 1], [2, 3]]}));
    assert_eq!(world.replayed().view().counts, world.run().view().counts);
}

#[test]
fn looking_takes_the_room_of_the_attempt_that_may_follow() {
    let mut definition = pipeline(vec![rows(each())]);
    definition.max_parallel = NonZeroU32::new(1);
    let mut world = World::new(definition, json!({"list": [1, 2, 5]}));
    world.start();
    let first = world.lookups();
    assert_eq!(first.len(), 1, "one at a time");
    world.look(first[0], None);
    assert!(world.lookups().is_empty() && world.waiting() == ["rows[0]"]);
    world.finish("rows[0]");
    assert_eq!(world.lookups().len(), 1);
    world.look(world.lookups()[0], Some(json!(5)));
    assert_eq!(world.lookups().len(), 1, "a hit gives the room back");
    world.look(world.lookups()[0], None);
    world.finish_all();
    assert_eq!(**world.run().result().unwrap(), json!({"rows": [10, 5, 2]}));
}

#[test]
fn a_paused_run_takes_what_is_found_and_looks_again_for_what_is_not() {
    let definition = pipeline(vec![
        kept(expression("a", "1", &[])),
        kept(expression("b", "1", &[])),
        expression("c", "a + b", &["a", "b"]),
    ]);
    let mut world = World::new(definition, json!({}));
    world.start();
    world.input(Input::Pause).unwrap();
    world.look(0, Some(json!(5)));
    world.look(1, None);
    assert_eq!(states(&world)[..2], [StepStatus::Cached, StepStatus::Queued]);
    assert!(world.lookups().is_empty() && world.waiting().is_empty(), "nothing new is started");
    world.input(Input::Resume).unwrap();
    assert_eq!(world.lookups(), [1]);
    world.look(1, Some(json!(7)));
    world.finish_all();
    assert_eq!(**world.run().result().unwrap(), json!({"c": 12}));
}

#[test]
fn what_was_found_too_late_changes_nothing() {
    let spec = MapSpec { on_item_error: OnItemError::Fail, ..each() };
    let mut definition = pipeline(vec![rows(spec), kept(expression("other", "1", &[]))]);
    definition.on_error = crate::definition::OnError::Continue;
    let mut world = World::new(definition, json!({"list": [1, 2]}));
    world.start();
    let looks = world.lookups();
    let (items, other) = (&looks[1..], looks[0]);
    world.look(items[0], None);
    world.fail("rows[0]", Failure::permanent("no"));
    assert_eq!(world.lookups(), [other], "an item whose map has failed wants nothing");
    let seq = world.run().seq();
    world.look(items[1], Some(json!(1)));
    world.look(items[1], None);
    assert_eq!(world.run().seq(), seq);
    world.input(Input::Cancel { reason: "enough".into() }).unwrap();
    world.look(other, Some(json!(1)));
    assert_eq!(world.run().status(), RunStatus::Cancelled);
    assert_eq!(states(&world), [StepStatus::Failed, StepStatus::Cancelled]);
}

#[test]
fn a_value_without_the_outputs_of_the_task_is_no_good() {
    let mut a = kept(expression("a", "{'low': 1, 'high': 2}", &[]));
    a.outputs = vec!["low".into(), "high".into()];
    let mut world = World::new(pipeline(vec![a]), json!({}));
    world.start();
    world.look(0, Some(json!({"low": 7})));
    assert_eq!(world.waiting(), ["a"], "it is made anew");
    world.finish_all();
    assert_eq!(**world.run().result().unwrap(), json!({"low": 1, "high": 2}));
}

#[test]
fn a_step_may_be_told_to_start_afresh() {
    let mut world = World::afresh(two(), json!({"x": 1}), 0);
    world.start();
    assert!(world.lookups().is_empty() && world.waiting() == ["a"]);
    world.crash_with(0);
    world.start();
    assert_eq!(world.waiting(), ["a"]);
    assert_eq!(starts(&world), [("a".to_owned(), false)]);
}

#[test]
fn what_undoes_a_step_is_never_looked_for() {
    // The loader refuses this; a definition that is built otherwise must not skip its undoing.
    let mut a = kept(expression("a", "1", &[]));
    a.compensate = Some(Box::new(crate::definition::Compensation {
        body: expr("result").into(),
        timeout: None,
        retry: RetryPolicy::default(),
    }));
    let mut world = World::new(pipeline(vec![a, expression("b", "a.x", &["a"])]), json!({}));
    world.start();
    world.look(0, None);
    world.finish("a");
    world.fail("b", Failure::error("no"));
    assert!(world.lookups().is_empty() && world.waiting() == ["undo a"]);
}

#[test]
fn an_event_of_an_earlier_program_has_no_word_of_it() {
    let mut world = World::new(two(), json!({"x": 1}));
    world.start();
    world.look(0, None);
    let mut event = serde_json::to_value(&world.events()[1]).unwrap();
    event.as_object_mut().unwrap().remove("cache");
    let event: crate::run::Event = serde_json::from_value(event).unwrap();
    assert!(matches!(event.fact, Fact::StepStart { cache: None, .. }));
}
