//! Maps that go on past failed items, and the items of steps one by one.

use serde_json::json;

use super::driver::{World, expression, pipeline, task};
use super::{expr, map, statuses};
use crate::definition::{
    GroupMember, Input as TaskInput, MapSpec, OnError, OnItemError, Pipeline, RetryPolicy, Task, TaskKind,
};
use crate::run::{Failure, Input, ItemFilter, RunStatus, StepStatus};

fn mapped(rule: OnItemError) -> Task {
    let spec = MapSpec { on_item_error: rule, ..map("list", "x", expr("10 // x")) };
    let mut mapped = task("rows", TaskKind::Map(spec));
    mapped.inputs = vec![TaskInput::required("list")];
    mapped
}

fn with_errors(rule: OnItemError) -> Pipeline {
    let mut report = expression("report", "bad | length", &[]);
    report.inputs = vec![TaskInput::required("rows_errors").named("bad")];
    pipeline(vec![mapped(rule), report])
}

fn rows(world: &World) -> serde_json::Value {
    let view = world.run().view();
    serde_json::to_value(
        view.outputs.get("rows").or(world.run().result().and_then(|result| result.get("rows"))),
    )
    .unwrap()
}

#[test]
fn a_map_goes_on_past_failed_items_and_tells_which() {
    for (rule, value) in [(OnItemError::Skip, json!([10, 5])), (OnItemError::Collect, json!([10, null, 5]))] {
        let mut definition = with_errors(rule);
        definition.outputs = Some(vec!["rows".into(), "rows_errors".into(), "report".into()]);
        let mut world = World::new(definition, json!({"list": [1, 0, 2]}));
        world.start();
        world.finish("rows[0]");
        world.fail("rows[1]", Failure::error("by zero").code("math"));
        world.finish_all();
        assert_eq!(world.run().status(), RunStatus::Completed, "what a map puts up with fails no run");
        let errors = json!([{"index": 1, "error": "by zero", "code": "math"}]);
        let expected = json!({"rows": value, "rows_errors": errors, "report": 1});
        assert_eq!(**world.run().result().unwrap(), expected, "{rule:?}");
        assert_eq!(
            serde_json::to_value(world.replayed().view()).unwrap(),
            serde_json::to_value(world.run().view()).unwrap()
        );
    }
}

#[test]
fn the_width_is_kept_when_items_fail_and_all_may_fail() {
    let mut definition = pipeline(vec![{
        let mut rows = mapped(OnItemError::Skip);
        let TaskKind::Map(spec) = &mut rows.body.kind else { unreachable!() };
        spec.max_parallel = std::num::NonZeroU32::new(1);
        rows
    }]);
    definition.on_error = OnError::Fail;
    let mut world = World::new(definition, json!({"list": [0, 0, 0]}));
    world.start();
    for place in 0..3 {
        assert_eq!(world.waiting(), [format!("rows[{place}]")]);
        world.fail(&format!("rows[{place}]"), Failure::timeout("slow"));
    }
    assert_eq!(world.run().status(), RunStatus::Completed);
    assert_eq!(rows(&world), json!([]));
    assert_eq!(world.run().result().unwrap()["rows_errors"][2]["code"], json!("timeout"));
}

#[test]
fn a_filter_leaves_failed_items_out() {
    let spec = MapSpec { on_item_error: OnItemError::Skip, ..map("list", "x", expr("x > 1")) };
    let mut kept = task("rows", TaskKind::Filter(spec));
    kept.inputs = vec![TaskInput::required("list")];
    let mut world = World::new(pipeline(vec![kept]), json!({"list": [1, 2, 3]}));
    world.start();
    world.fail("rows[2]", Failure::permanent("no"));
    world.finish_all();
    assert_eq!(rows(&world), json!([2]));
}

#[test]
fn an_outer_map_puts_up_with_what_an_inner_one_does_not() {
    let inner = TaskKind::Map(map("x", "y", expr("y")));
    let spec = MapSpec { on_item_error: OnItemError::Collect, ..map("list", "x", inner) };
    let mut nested = task("rows", TaskKind::Map(spec));
    nested.inputs = vec![TaskInput::required("list")];
    let mut world = World::new(pipeline(vec![nested]), json!({"list": [[1, 2], [3]]}));
    world.start();
    world.fail("rows[0][0]", Failure::error("broken"));
    assert_eq!(world.cancelled(), ["rows[0][1]"]);
    world.crash();
    world.finish_all();
    assert_eq!((world.run().status(), world.run().error()), (RunStatus::Completed, None));
    assert_eq!(rows(&world), json!([null, [3]]));
    assert_eq!(world.run().result().unwrap()["rows_errors"][0]["error"], json!("rows[0][0]: broken"));
}

#[test]
fn without_a_rule_the_first_failed_item_fails_the_map() {
    let mut world = World::new(pipeline(vec![mapped(OnItemError::Fail)]), json!({"list": [1, 2]}));
    world.start();
    world.fail("rows[0]", Failure::error("broken"));
    assert_eq!(statuses(&world)[0].1, StepStatus::Failed);
    assert_eq!(world.run().error().unwrap().step.as_deref(), Some("rows[0]"));
}

#[test]
fn a_retry_does_a_map_again_whose_errors_somebody_uses() {
    let mut failing = expression("after", "report", &["report"]);
    failing.retry = RetryPolicy::default();
    let mut definition = with_errors(OnItemError::Skip);
    definition.tasks.push(std::sync::Arc::new(failing));
    let mut world = World::new(definition, json!({"list": [1, 0]}));
    world.start();
    world.finish("rows[0]");
    world.fail("rows[1]", Failure::error("by zero"));
    world.finish("report");
    world.fail("after", Failure::error("broken"));
    let taken = world.run().taken_over(world.run().plan(), &[], |_| false);
    assert!(taken.is_empty(), "the errors are no part of the value that is taken over");
}

#[test]
fn a_later_version_that_reads_the_errors_does_the_map_again() {
    let version = |report: &str| {
        let text = format!(
            "id: p\noutputs: [rows]\ntasks:\n  - name: rows\n    map: {{ over: list, as: x, on_item_error: skip, expression: 10 / x }}\n{report}"
        );
        let pipelines = crate::load::load_text("p.yaml", &text, crate::document::Format::Yaml).unwrap();
        pipelines.into_iter().next().unwrap()
    };
    let mut world = World::new(version(""), json!({"list": [1, 0]}));
    world.start();
    world.finish("rows[0]");
    world.fail("rows[1]", Failure::error("by zero"));
    assert_eq!(world.run().status(), RunStatus::Completed);
    let taken = |report: &str| {
        let plan = crate::plan::Plan::new(std::sync::Arc::new(version(report))).unwrap();
        world.run().taken_over(&plan, &[], |_| false).len()
    };
    let (value, errors) = (
        "  - { name: other, expression: rows, inputs: [rows] }\n",
        "  - { name: other, expression: rows_errors, inputs: [rows_errors] }\n",
    );
    assert_eq!((taken(value), taken(errors)), (1, 0));

    // A run that has taken it over has no items of it, and does not know what went wrong with them.
    let takes_over = |report: &str, value: serde_json::Value| {
        let mut later = World::new(version(report), json!({"list": [1, 0]}));
        later.input(Input::Start { reuse: vec![(0, value.into())] }).unwrap();
        later.finish_all();
        later
    };
    let second = takes_over("", json!([10]));
    let taken = |world: &World, report: &str| {
        let plan = crate::plan::Plan::new(std::sync::Arc::new(version(report))).unwrap();
        world.run().taken_over(&plan, &[], |_| false).len()
    };
    assert_eq!((taken(&second, value), taken(&second, errors)), (1, 0));
    // Where they were read before it was taken over because nothing had gone wrong.
    let third = takes_over(errors, json!([10]));
    assert_eq!(taken(&third, errors), 2);
}

#[test]
fn inner_runs_count_among_what_a_run_may_do_at_once() {
    let spec = map("list", "x", TaskKind::Pipeline("inner".parse().unwrap()));
    let mut runs = task("runs", TaskKind::Map(spec));
    runs.inputs = vec![TaskInput::required("list")];
    let mut definition = pipeline(vec![runs]);
    definition.max_parallel = std::num::NonZeroU32::new(2);
    let mut world = World::new(definition, json!({"list": [1, 2, 3]}));
    world.start();
    assert_eq!(world.waiting(), ["runs[0]", "runs[1]"]);
}

#[test]
fn items_are_read_in_pages_with_their_values_and_counts() {
    let both = TaskKind::Group(vec![
        GroupMember { name: Some("a.b".into()), body: expr("x").into() },
        GroupMember { name: Some("c".into()), body: expr("x + 1").into() },
    ]);
    let spec = MapSpec { on_item_error: OnItemError::Skip, ..map("list", "x", both) };
    let mut nested = task("odd.name[0]", TaskKind::Map(spec));
    nested.inputs = vec![TaskInput::required("list")];
    let mut world = World::new(pipeline(vec![nested]), json!({"list": [1, 2, 3]}));
    let all = ItemFilter { limit: 10, ..ItemFilter::default() };
    assert!(world.run().items("odd.name[0]", all).unwrap().items.is_empty(), "it has not started");
    world.start();
    world.fail("odd.name[0][1].c", Failure::error("broken"));
    world.finish_all();
    let items = |step: &str, filter| world.run().items(step, filter).unwrap();
    let first = items("odd.name[0]", ItemFilter { limit: 2, ..all });
    let places = |page: &crate::run::ItemPage| {
        page.items.iter().map(|item| item.state.index.unwrap()).collect::<Vec<_>>()
    };
    assert_eq!((places(&first), first.next), (vec![0, 1], Some(1)));
    assert_eq!(first.items[0].result.as_deref(), Some(&json!({"a.b": 1, "c": 2})));
    assert_eq!(first.counts.iter().collect::<Vec<_>>(), [(&"completed", &2), (&"failed", &1)]);
    let second = items("odd.name[0]", ItemFilter { limit: 2, after: first.next, ..all });
    assert_eq!((places(&second), second.next), (vec![2], None));
    let failed = items("odd.name[0]", ItemFilter { status: Some(StepStatus::Failed), ..all });
    assert_eq!((places(&failed), failed.next), (vec![1], None));
    let members = items("odd.name[0][2]", all);
    assert_eq!(&*members.items[0].name, "odd.name[0][2].a.b");
    assert!(items("odd.name[0][2].a.b", all).items.is_empty());
    for unknown in ["odd", "odd.name", "odd.name[0][3]", "odd.name[0][2].d", "odd.name[0][x]", ""] {
        assert!(world.run().items(unknown, all).is_none(), "{unknown}");
    }
    let view = world.run().view();
    assert_eq!(view.steps[0].item_counts, first.counts);
}

#[test]
fn what_many_are_given_is_made_once() {
    let spec = map("list", "x", TaskKind::Map(map("x", "y", expr("(x | length) + y"))));
    let mut nested = task("nested", TaskKind::Map(spec));
    nested.inputs = vec![TaskInput::required("list")];
    let mut definition = with_errors(OnItemError::Skip);
    let report = Task { name: "report_again".into(), ..Task::clone(&definition.tasks[1]) };
    definition.tasks.extend([std::sync::Arc::new(nested), std::sync::Arc::new(report)]);
    definition.tasks[3] =
        std::sync::Arc::new(Task { outputs: vec!["again".into()], ..Task::clone(&definition.tasks[3]) });
    let mut world = World::new(definition, json!({"list": [[0, 1], [2, 3]]}));
    world.start();
    let given = |world: &World, step: &str, name: &str| {
        let work = world.work(step);
        std::sync::Arc::as_ptr(work.inputs.get(name).unwrap())
    };
    assert_eq!(
        given(&world, "nested[1][0]", "x"),
        given(&world, "nested[1][1]", "x"),
        "one copy for each inner list"
    );
    assert_ne!(given(&world, "nested[0][0]", "x"), given(&world, "nested[1][0]", "x"));
    world.fail("rows[0]", Failure::error("no"));
    world.fail("rows[1]", Failure::error("no"));
    assert_eq!(given(&world, "report", "bad"), given(&world, "report_again", "bad"), "one list of errors");
}

#[test]
fn a_name_of_dots_and_brackets_costs_no_more_than_it_is_long() {
    let member = |name: &str, body: TaskKind| GroupMember { name: Some(name.into()), body: body.into() };
    let inner = || TaskKind::Group(vec![member("x", expr("1")), member("x.x", expr("1"))]);
    let both = TaskKind::Group(vec![member("x", inner()), member("x.x", inner())]);
    let mut world = World::new(pipeline(vec![task("x", both.clone()), task("x.x", both)]), json!({}));
    world.start();
    world.finish_all();
    let all = ItemFilter { limit: 10, ..ItemFilter::default() };
    let has = |name: &str| world.run().items(name, all).is_some();
    // Each try of an outer name doubled the work for every dot, and each bracket took another frame of the stack.
    for more in [".x".repeat(64), ".".repeat(7_000), "[0]".repeat(2_000), ".x".repeat(500_000)] {
        assert!(!has(&format!("x{more}")) && !has(&more), "{}", more.len());
    }
    for known in ["x", "x.x", "x.x.x", "x.x.x.x", "x.x.x.x.x", "x.x.x.x.x.x", "x[1].x.x", "x[0][1]"] {
        assert!(has(known), "{known}");
    }
    let names = |step: &str| {
        world.run().items(step, all).unwrap().items.into_iter().map(|item| item.name.to_string())
    };
    assert_eq!(
        names("x.x").collect::<Vec<_>>(),
        ["x.x.x", "x.x.x.x"],
        "the longest name counts: it is the step's"
    );
}

#[test]
fn a_long_list_is_shown_in_part() {
    let mut rows = mapped(OnItemError::Fail);
    rows.name = "rows".into();
    let list: Vec<u32> = (1..=250).collect();
    let mut world = World::new(pipeline(vec![rows]), json!({ "list": list }));
    world.start();
    let view = world.run().view();
    assert_eq!((view.steps[0].items.len(), view.steps[0].item_counts["running"]), (100, 250));
}
