//! What a later run takes over.

use serde_json::json;

use super::driver::{World, expression, pipeline, task};
use super::expr;
use crate::definition::{Input as TaskInput, OnError};
use crate::expr::Expr;
use crate::run::{Failure, Input, RunStatus};

/// `a` needs the parameter `n`, `b` needs `a`; `c` the parameter `m`; `d` needs `b` and `c`.
fn diamond() -> World {
    let tasks = vec![
        expression("a", "n", &["n"]),
        expression("b", "a", &["a"]),
        expression("c", "m", &["m"]),
        expression("d", "b + c", &["b", "c"]),
    ];
    let mut world = World::new(pipeline(tasks), json!({"n": 1, "m": 2}));
    world.start();
    world
}

fn taken(world: &World, again: &[u32], changed: &str) -> Vec<u32> {
    world
        .run()
        .taken_over(world.run().plan(), again, |name| name == changed)
        .into_iter()
        .map(|(step, _)| step)
        .collect()
}

#[test]
fn what_needs_a_step_that_is_done_again_is_done_again() {
    let mut world = diamond();
    world.finish_all();
    assert_eq!(taken(&world, &[], ""), [0, 1, 2, 3]);
    assert_eq!(taken(&world, &[1], ""), [0, 2]);
    assert_eq!(taken(&world, &[], "n"), [2]);
    assert_eq!(taken(&world, &[], "m"), [0, 1]);
    assert_eq!(taken(&world, &[0], "m"), [] as [u32; 0]);
    assert_eq!(taken(&world, &[77], ""), [0, 1, 2, 3], "a step that is none is none");
}

#[test]
fn values_of_a_run_that_was_stopped_are_taken_over() {
    let mut world = diamond();
    world.finish("c");
    world.finish("a");
    world.input(Input::Cancel { reason: "enough".into() }).unwrap();
    assert_eq!(taken(&world, &[], ""), [0, 2]);
}

#[test]
fn what_went_on_without_a_failed_step_is_done_again_with_it() {
    let mut guarded = expression("guarded", "1", &[]);
    guarded.when = Some(Expr::compile("false").unwrap());
    let mut joins = task("joins", expr("1"));
    joins.inputs = vec![TaskInput::optional("bad")];
    let mut other = task("other", expr("1"));
    other.inputs = vec![TaskInput::optional("guarded")];
    let mut definition = pipeline(vec![expression("bad", "1", &[]), guarded, joins, other]);
    definition.on_error = OnError::Continue;
    let mut world = World::new(definition, json!({}));
    world.start();
    world.fail("bad", Failure::error("no"));
    world.finish_all();
    assert_eq!(taken(&world, &[], ""), [3], "a condition comes to the same again, a failure need not");
}

#[test]
fn values_that_do_not_fit_the_plan_are_refused_and_the_state_is_that_of_the_log() {
    let value = || std::sync::Arc::new(json!(1));
    let fresh =
        || World::new(pipeline(vec![expression("a", "1", &[]), expression("b", "1", &[])]), json!({}));
    let mut beyond = fresh();
    let error = beyond.input(Input::Start { reuse: vec![(0, value()), (2, value())] }).unwrap_err();
    assert!(error.to_string().contains("a value of step 2, and its pipeline has 2"), "{error}");
    assert_eq!((beyond.run().status(), beyond.run().seq()), (RunStatus::Queued, 0), "nothing has changed");
    beyond.start();
    let mut twice = fresh();
    twice.input(Input::Start { reuse: vec![(0, value()), (0, value())] }).unwrap_err();
    assert_eq!(twice.events().len(), 2, "what was recorded before the refusal is told");
    assert_eq!(twice.replayed().seq(), twice.run().seq());
}

#[test]
fn of_another_version_what_is_as_it_was_is_taken_over() {
    let version = |b: &str, more: &str| {
        let text = format!(
            "id: p\ntasks:\n{more}  - {{ name: a, expression: n, inputs: [n] }}\n  - {{ name: b, expression: {b}, inputs: [a] }}\n  \
             - {{ name: c, expression: 'a + 1', inputs: [a] }}\n  - {{ name: d, expression: b, inputs: [b] }}\n"
        );
        let pipelines = crate::load::load_text("p.yaml", &text, crate::document::Format::Yaml).unwrap();
        pipelines.into_iter().next().unwrap()
    };
    let mut world = World::new(version("a", ""), json!({"n": 1}));
    world.start();
    world.finish_all();
    let taken = |definition: crate::definition::Pipeline| {
        let plan = crate::plan::Plan::new(std::sync::Arc::new(definition)).unwrap();
        let taken = world.run().taken_over(&plan, &[], |_| false).into_iter();
        taken.map(|(step, _)| plan.steps()[step as usize].name.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(taken(version("a", "")), ["a", "b", "c", "d"]);
    assert_eq!(taken(version("a * 2", "")), ["a", "c"], "b is another, and d needs it");
    let before = "  - { name: z, expression: 1 }\n";
    assert_eq!(taken(version("a", before)), ["a", "b", "c", "d"], "the place does not matter");
    let other = "  - { name: z, expression: 1, output: n }\n";
    assert_eq!(taken(version("a", other)), [] as [&str; 0], "a is given something else");
}
