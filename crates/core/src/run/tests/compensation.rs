//! What was done is undone when a run ends without success.

use std::num::NonZeroU32;
use std::time::Duration;

use serde_json::{Value, json};

use super::driver::{World, expression, pipeline, task};
use super::{expr, map, types};
use crate::definition::{
    Body, Compensation, Input as TaskInput, OnError, Pipeline, RetryPolicy, Task, TaskKind,
};
use crate::run::{Fact, Failure, Input, Outcome, RunStatus, StepStatus};

fn undone_by(mut task: Task, kind: TaskKind) -> Task {
    let mut body = Body::from(kind);
    body.with.insert("sign".into(), json!("-"));
    task.compensate = Some(Box::new(Compensation { body, timeout: None, retry: RetryPolicy::default() }));
    task
}

/// `book` then `charge` then `ship`; the first two can be undone, and so can `mail`, which needs none of them.
fn order() -> Pipeline {
    let mut charge = expression("charge", "book ~ amount", &["book"]);
    charge.body.with.insert("amount".into(), json!(5));
    pipeline(vec![
        undone_by(expression("book", "'b' ~ n", &["n"]), expr("sign ~ result")),
        undone_by(charge, expr("sign ~ result ~ book ~ amount")),
        undone_by(expression("mail", "'m'", &[]), expr("sign ~ result")),
        expression("ship", "charge", &["charge"]),
    ])
}

fn world(definition: Pipeline) -> World {
    let mut world = World::new(definition, json!({"n": 1}));
    world.start();
    world
}

fn fail_at_ship(world: &mut World) {
    for step in ["book", "mail", "charge"] {
        world.finish(step);
    }
    world.fail("ship", Failure::error("no stock"));
}

fn undo_states(world: &World) -> Vec<(String, StepStatus)> {
    let view = world.run().view();
    view.compensation.iter().map(|step| (step.id.to_string(), step.state.status)).collect()
}

fn result_of(world: &World, step: &str) -> Value {
    let found = world.events().iter().find_map(|event| match &event.fact {
        Fact::StepComplete { step: of, result, .. } if *of.step == *step => Some(Value::clone(result)),
        _ => None,
    });
    found.unwrap_or_else(|| panic!("{step} has no value"))
}

#[test]
fn a_failed_run_undoes_its_steps_one_by_one_the_last_first() {
    let mut world = world(order());
    fail_at_ship(&mut world);
    assert_eq!(world.run().status(), RunStatus::Running, "it has not ended before all is undone");
    for (step, value) in [("undo charge", "-b15b15"), ("undo mail", "-m"), ("undo book", "-b1")] {
        assert_eq!(world.waiting(), [step]);
        world.finish(step);
        assert_eq!(result_of(&world, step), json!(value), "it sees inputs, constants and the step's value");
    }
    assert_eq!(world.run().status(), RunStatus::Failed);
    let error = world.run().error().unwrap();
    assert_eq!((error.step.as_deref(), error.not_undone.len()), (Some("ship"), 0));
    let started = types(&world).iter().filter(|name| **name == "CompensationStartEvent").count();
    assert_eq!((started, types(&world).last()), (1, Some(&"PipelineErrorEvent")));
    let view = world.run().view();
    assert_eq!((view.steps.len(), view.steps_completed, view.total_steps), (4, 4, 4));
    assert_eq!(view.steps[0].state.status, StepStatus::Completed, "what a step has come to is not rewritten");
    assert!(undo_states(&world).iter().all(|(_, status)| *status == StepStatus::Completed));
    assert!(
        world.run().taken_over(world.run().plan(), &[], |_| false).is_empty(),
        "a retry of the run does again what was undone"
    );
}

#[test]
fn a_run_that_completes_undoes_nothing() {
    let mut world = world(order());
    world.finish_all();
    assert_eq!(world.run().status(), RunStatus::Completed);
    assert!(undo_states(&world).is_empty());
}

#[test]
fn nothing_that_was_not_completed_is_undone() {
    let mut world = world(order());
    world.finish("mail");
    world.fail("book", Failure::error("full"));
    assert_eq!(world.waiting(), ["undo mail"]);
    world.finish("undo mail");
    assert_eq!(undo_states(&world), [("undo mail".to_owned(), StepStatus::Completed)]);
    assert_eq!(world.run().status(), RunStatus::Failed);
}

#[test]
fn with_continue_the_rest_goes_on_first() {
    let mut definition = order();
    definition.on_error = OnError::Continue;
    let mut world = world(definition);
    world.fail("book", Failure::error("full"));
    assert_eq!(world.waiting(), ["mail"]);
    world.finish("mail");
    assert_eq!(world.waiting(), ["undo mail"]);
}

#[test]
fn an_undoing_that_fails_is_repeated_by_its_own_rule_then_named_and_passed_over() {
    let mut definition = order();
    let charge = std::sync::Arc::make_mut(&mut definition.tasks[1]);
    charge.compensate.as_mut().unwrap().retry =
        RetryPolicy { max_attempts: NonZeroU32::new(2).unwrap(), jitter: false, ..Default::default() };
    let mut world = world(definition);
    fail_at_ship(&mut world);
    world.fail("undo charge", Failure::error("bank away"));
    assert_eq!(world.advance_timers(), [Duration::from_secs(1)]);
    world.fail("undo charge", Failure::error("bank away"));
    world.finish("undo mail");
    world.finish("undo book");
    assert_eq!(world.run().status(), RunStatus::Failed);
    let error = world.run().error().unwrap();
    assert_eq!(&*error.message, "no stock", "the first error is the run's");
    assert_eq!(error.not_undone.iter().map(|name| &**name).collect::<Vec<_>>(), ["charge"]);
    assert_eq!(undo_states(&world)[0], ("undo charge".to_owned(), StepStatus::Failed));
}

#[test]
fn a_crash_at_any_point_undoes_nothing_twice() {
    let mut world = world(order());
    fail_at_ship(&mut world);
    world.finish("undo charge");
    let lost = world.work("undo mail");
    world.crash();
    assert_eq!((world.waiting(), world.work("undo mail").attempt), (vec!["undo mail".to_owned()], 2));
    world.report(&lost, Outcome::Completed(json!("late").into()));
    assert_eq!(world.waiting(), ["undo mail"], "a superseded attempt changes nothing");
    world.finish("undo mail");
    world.crash();
    world.finish("undo book");
    assert_eq!(world.run().status(), RunStatus::Failed);
    let shown = |run: &crate::run::Run| serde_json::to_value(run.view()).unwrap();
    assert_eq!(shown(&world.replayed()), shown(world.run()));
}

#[test]
fn a_run_out_of_time_undoes_without_being_cut_off_again() {
    let mut definition = order();
    definition.timeout = Some(Duration::from_secs(10));
    let mut world = world(definition);
    world.finish("book");
    world.advance_timers();
    assert_eq!(world.waiting(), ["undo book"]);
    world.input(Input::RunTimer).unwrap();
    assert_eq!(world.waiting(), ["undo book"]);
    world.finish("undo book");
    assert_eq!(world.run().status(), RunStatus::TimedOut);
}

#[test]
fn a_cancelled_run_undoes_only_where_it_says_so() {
    let cancel = || Input::Cancel { reason: "enough".into() };
    let mut plain = world(order());
    plain.finish("book");
    plain.input(cancel()).unwrap();
    assert_eq!(plain.run().status(), RunStatus::Cancelled);
    assert_eq!(
        plain.run().taken_over(plain.run().plan(), &[], |_| false).len(),
        1,
        "what was not undone can be taken over"
    );

    let mut definition = order();
    definition.compensate_on_cancel = true;
    let mut undoing = world(definition.clone());
    undoing.finish("book");
    undoing.input(Input::Pause).unwrap();
    undoing.input(cancel()).unwrap();
    assert_eq!(undoing.waiting(), ["undo book"], "a pause does not hold it up");
    undoing.finish("undo book");
    assert_eq!((undoing.run().status(), undoing.run().error()), (RunStatus::Cancelled, None));
    let last = &undoing.events().last().unwrap().fact;
    assert!(matches!(last, Fact::PipelineCancel { reason, .. } if **reason == *"enough"), "{last:?}");

    let mut superseded = world(definition.clone());
    superseded.finish("book");
    let supersede = || Input::Supersede { reason: "a newer one".into() };
    superseded.input(supersede()).unwrap();
    superseded.input(supersede()).unwrap();
    assert_eq!(superseded.waiting(), ["undo book"], "whoever takes its place does not stop the undoing");
    superseded.finish("undo book");
    superseded.input(supersede()).unwrap_err();

    let mut stopped = world(definition);
    stopped.finish("book");
    stopped.finish("mail");
    stopped.input(cancel()).unwrap();
    stopped.input(cancel()).unwrap();
    assert_eq!(stopped.run().status(), RunStatus::Cancelled, "asked twice, it stops for good");
    let last = &stopped.events().last().unwrap().fact;
    assert!(matches!(last, Fact::PipelineCancel { not_undone, .. } if not_undone.len() == 2), "{last:?}");
    assert!(stopped.waiting().is_empty());
}

#[test]
fn steps_within_one_millisecond_are_undone_against_the_direction_of_the_graph() {
    let tasks = (0..6).map(|place| {
        let before = (place > 0).then(|| format!("t{}", place - 1));
        let inputs: Vec<&str> = before.as_deref().into_iter().collect();
        undone_by(expression(&format!("t{place}"), "1", &inputs), expr("result"))
    });
    let mut tasks: Vec<_> = tasks.collect();
    tasks.reverse();
    tasks.push(expression("last", "t5", &["t5"]));
    let mut world = World::new(pipeline(tasks), json!({}));
    world.start();
    while world.waiting() != ["last"] {
        let work = world.works().next().unwrap();
        let (step_run, attempt, outcome) = (work.step_run, work.attempt, Outcome::Completed(json!(1).into()));
        world.report_at_once(step_run, attempt, outcome);
    }
    world.fail("last", Failure::error("no"));
    let order: Vec<_> = undo_states(&world).into_iter().map(|(name, _)| name).collect();
    assert_eq!(order, ["undo t5", "undo t4", "undo t3", "undo t2", "undo t1", "undo t0"]);
}

#[test]
fn only_what_a_run_has_carried_out_itself_is_undone() {
    let mut stands = world(order());
    stands.finish_all();
    assert_eq!(stands.run().status(), RunStatus::Completed);
    let mut cancelled = world(order());
    cancelled.finish("book");
    cancelled.finish("charge");
    cancelled.input(Input::Cancel { reason: "enough".into() }).unwrap();
    // A fork of a run that stands, and a retry of one that was cancelled and can be retried once more.
    for (earlier, again, own) in [(&stands, vec![2, 3], "undo mail"), (&cancelled, vec![], "undo mail")] {
        let reuse = earlier.run().taken_over(earlier.run().plan(), &again, |_| false);
        assert_eq!(reuse.iter().map(|(step, _)| *step).collect::<Vec<_>>(), [0, 1], "book and charge");
        let mut later = World::new(order(), json!({"n": 1}));
        later.input(Input::Start { reuse }).unwrap();
        later.finish("mail");
        later.fail("ship", Failure::error("no stock"));
        assert_eq!(later.waiting(), [own], "what the other run has paid is not paid back");
        later.finish(own);
        assert_eq!(later.run().status(), RunStatus::Failed);
        let again = later.run().taken_over(later.run().plan(), &[], |_| false);
        assert_eq!(
            again.into_iter().map(|(step, _)| step).collect::<Vec<_>>(),
            [0, 1],
            "and is there once more"
        );
    }
}

#[test]
fn a_pause_holds_no_undoing_up() {
    let mut definition = order();
    definition.timeout = Some(Duration::from_secs(10));
    let mut late = world(definition.clone());
    late.finish("book");
    late.input(Input::Pause).unwrap();
    late.advance_timers();
    assert_eq!(late.waiting(), ["undo book"], "its time is over, and nobody need let it go on");
    let mut failed = world(definition);
    failed.finish("mail");
    failed.input(Input::Pause).unwrap();
    failed.fail("book", Failure::error("full"));
    assert_eq!(failed.waiting(), ["undo mail"]);
    failed.crash();
    failed.finish("undo mail");
    assert_eq!(failed.run().status(), RunStatus::Failed);
}

#[test]
fn what_is_left_behind_is_what_was_done_and_not_undone() {
    let left = |world: &World| world.run().left_behind().iter().map(ToString::to_string).collect::<Vec<_>>();
    let mut world = world(order());
    assert!(left(&world).is_empty());
    fail_at_ship(&mut world);
    assert_eq!(left(&world), ["charge", "mail", "book"]);
    world.finish("undo charge");
    assert_eq!(left(&world), ["mail", "book"]);
    world.finish("undo mail");
    world.finish("undo book");
    assert!(left(&world).is_empty());
}

#[test]
fn a_step_whose_undoing_failed_stands_and_is_taken_over() {
    let taken = |world: &World| {
        let taken = world.run().taken_over(world.run().plan(), &[], |_| false).into_iter();
        taken.map(|(step, _)| step).collect::<Vec<_>>()
    };
    // `charge` was undone and needs `book`, which was not: what is not undone is not done twice.
    let mut failed = world(order());
    fail_at_ship(&mut failed);
    failed.finish("undo charge");
    failed.finish("undo mail");
    failed.fail("undo book", Failure::error("hotel away"));
    assert_eq!(failed.run().error().unwrap().not_undone.len(), 1);
    assert_eq!(taken(&failed), [0]);
    // What an undoing that was stopped has not come to stands, too; what needs something undone is done again.
    let mut stopped = world(order());
    fail_at_ship(&mut stopped);
    stopped.finish("undo charge");
    stopped.input(Input::Cancel { reason: "enough".into() }).unwrap();
    assert_eq!(taken(&stopped), [0, 2]);
    let mut needed = world(order());
    fail_at_ship(&mut needed);
    needed.fail("undo charge", Failure::error("bank away"));
    needed.finish("undo mail");
    needed.finish("undo book");
    assert_eq!(taken(&needed), [] as [u32; 0]);
}

#[test]
fn what_undoes_may_be_a_map_of_its_own() {
    let mut many = task("many", TaskKind::Map(map("list", "x", expr("x"))));
    many.inputs = vec![TaskInput::required("list")];
    let many = undone_by(many, TaskKind::Map(map("result", "x", expr("sign ~ x"))));
    let bad = expression("bad", "many", &["many"]);
    let mut world = World::new(pipeline(vec![many, bad]), json!({"list": [1, 2]}));
    world.start();
    world.finish("many[0]");
    world.finish("many[1]");
    world.fail("bad", Failure::error("no"));
    assert_eq!(world.waiting(), ["undo many[0]", "undo many[1]"]);
    world.finish_all();
    assert_eq!(world.run().status(), RunStatus::Failed);
    assert_eq!(result_of(&world, "undo many"), json!(["-1", "-2"]));
}
