//! What is inside a step: the inputs of items within items, and steps that wait for the same thing.

use serde_json::{Value, json};

use super::driver::{World, expression, pipeline, task};
use super::{expr, map};
use crate::definition::{Body, GroupMember, Input as TaskInput, ReduceSpec, TaskKind, WaitFor, WaitSpec};
use crate::run::{Fact, Failure, Input, RunStatus, StepStatus};

/// A registered task: it is handed whatever there is.
fn call() -> TaskKind {
    TaskKind::Task("anything".into())
}

fn with(kind: TaskKind, constants: Value) -> Body {
    Body { kind, with: constants.as_object().unwrap().clone() }
}

fn inputs(world: &World, step: &str) -> Value {
    Value::Object(world.work(step).inputs.to_json_object())
}

#[test]
fn items_see_what_is_around_them_and_the_nearest_name_counts() {
    let cells = TaskKind::Map(crate::definition::MapSpec {
        body: Box::new(with(call(), json!({"deep": 3, "unit": "cell"}))),
        ..map("row", "cell", call())
    });
    let group = TaskKind::Group(vec![
        GroupMember { name: Some("cells".into()), body: with(cells, json!({"unit": "row", "wide": 2})) },
        GroupMember { name: Some("size".into()), body: call().into() },
    ]);
    let mut rows = task("rows", TaskKind::Map(map("table", "row", group)));
    rows.body.with = json!({"unit": "table", "n": 9}).as_object().unwrap().clone();
    rows.inputs = ["table", "n", "other"].map(TaskInput::required).into();
    let parameters = json!({"table": [[1, 2], []], "n": 1, "other": "o"});
    let mut world = World::new(pipeline(vec![rows]), parameters);
    world.start();
    // The empty row is done at once, and its size is asked for as any other.
    let waiting = ["rows[0].size", "rows[1].size", "rows[0].cells[0]", "rows[0].cells[1]"];
    assert_eq!(world.waiting(), waiting);
    // The table is not handed to each row, and a row not to each of its cells.
    let around = json!({"n": 9, "other": "o", "unit": "table", "row": [1, 2]});
    assert_eq!(inputs(&world, "rows[0].size"), around);
    let around = json!({"n": 9, "other": "o", "unit": "cell", "wide": 2, "cell": 2, "deep": 3});
    assert_eq!(inputs(&world, "rows[0].cells[1]"), around);
    assert_eq!(world.work("rows[0].cells[1]").task().name, "rows");
}

#[test]
fn a_body_that_names_the_list_is_given_it_and_a_constant_may_be_the_list() {
    let share = map("list", "x", expr("x / (list | sum)"));
    let over_constant = Body {
        kind: TaskKind::Reduce(ReduceSpec {
            over: "steps".into(),
            item: "step".into(),
            accumulator: "acc".into(),
            initial: json!(0),
            chunk: None,
            body: Box::new(call().into()),
        }),
        with: json!({"steps": [5, 6]}).as_object().unwrap().clone(),
    };
    let mut shares = task("shares", TaskKind::Map(share));
    shares.inputs = vec![TaskInput::required("list")];
    let outer = TaskKind::Map(crate::definition::MapSpec {
        body: Box::new(over_constant),
        ..map("list", "x", call())
    });
    let mut sums = task("sums", outer);
    sums.inputs = vec![TaskInput::required("list")];
    let mut world = World::new(pipeline(vec![shares, sums]), json!({"list": [1, 3]}));
    world.start();
    assert_eq!(inputs(&world, "shares[1]"), json!({"list": [1, 3], "x": 3}));
    assert_eq!(inputs(&world, "sums[1][0]"), json!({"x": 3, "step": 5, "acc": 0}));
}

#[test]
fn a_failing_item_stops_what_is_inside_its_siblings() {
    let inner = TaskKind::Map(map("row", "cell", expr("cell")));
    let mut rows = task("rows", TaskKind::Map(map("table", "row", inner)));
    rows.inputs = vec![TaskInput::required("table")];
    let mut world = World::new(pipeline(vec![rows]), json!({"table": [[1, 2], [3, 4], []]}));
    world.start();
    world.finish("rows[1][0]");
    world.fail("rows[0][1]", Failure::error("no luck"));
    assert_eq!(world.run().status(), RunStatus::Failed);
    let mut cancelled = world.cancelled();
    cancelled.sort_unstable();
    assert_eq!(cancelled, ["rows[0][0]", "rows[1][1]"]);
    assert!(world.waiting().is_empty());
}

#[test]
fn steps_that_wait_for_one_signal_take_it_in_their_order() {
    let wait = || TaskKind::Wait(WaitSpec { until: WaitFor::Signal("go".into()), timeout: None });
    let names = ["a", "b", "c"];
    let mut world = World::new(pipeline(names.map(|name| task(name, wait())).into()), json!({}));
    world.start();
    let states = |world: &World| world.run().step_states().collect::<Vec<_>>();
    let go = |value: u32| Input::Signal { name: "go".into(), value: json!(value).into(), by: None };
    world.input(go(1)).unwrap();
    assert_eq!(states(&world), [StepStatus::Completed, StepStatus::Running, StepStatus::Running]);
    // A driver that takes the run up again knows who waits.
    world.crash_with(world.events().len());
    world.input(go(2)).unwrap();
    assert_eq!(states(&world), [StepStatus::Completed, StepStatus::Completed, StepStatus::Running]);
    world.input(go(3)).unwrap();
    assert_eq!(**world.run().result().unwrap(), json!({"a": 1, "b": 2, "c": 3}));
}

#[test]
fn a_log_whose_items_are_not_those_of_the_definition_is_refused() {
    let group = TaskKind::Group(vec![
        GroupMember { name: None, body: call().into() },
        GroupMember { name: None, body: call().into() },
    ]);
    let mut world = World::new(pipeline(vec![task("both", group), expression("one", "1", &[])]), json!({}));
    world.start();
    let fresh = || World::new(pipeline(vec![task("both", call()), task("one", call())]), json!({}));
    let refused = fresh().run().clone().replay(world.events()).unwrap_err().to_string();
    assert!(refused.contains("step `both` is a `task`, and starts with Some(2) items"), "{refused}");
    let mut events = world.events().to_vec();
    for event in &mut events {
        if let Fact::StepStart { items: Some(items), .. } = &mut event.fact {
            *items = 3;
        }
    }
    let before = World::new(world.run().plan().pipeline().as_ref().clone(), json!({})).run().clone();
    assert!(before.replay(&events).unwrap_err().to_string().contains("starts with Some(3) items"));
}
