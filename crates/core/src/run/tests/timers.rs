//! Timers that ring twice, or before their time.

use std::num::NonZeroU32;
use std::time::Duration;

use serde_json::json;

use super::driver::{World, expression, pipeline, task};
use super::{expr, map, statuses, types};
use crate::definition::{GroupMember, Input as TaskInput, OnError, RetryPolicy, TaskKind, WaitFor, WaitSpec};
use crate::run::{Failure, Input, Outcome, RunStatus, StepStatus};

#[test]
fn the_time_of_a_retry_that_comes_twice_starts_one_attempt() {
    let mut flaky = expression("flaky", "1", &[]);
    flaky.retry = RetryPolicy { max_attempts: NonZeroU32::new(5).unwrap(), ..Default::default() };
    let mut world = World::new(pipeline(vec![flaky]), json!({}));
    world.start();
    world.fail("flaky", Failure::error("first"));
    world.input(Input::Pause).unwrap();
    world.advance_timers();
    world.input(Input::Timer { step_run: 0, attempt: 2 }).unwrap();
    world.input(Input::Resume).unwrap();
    assert_eq!(world.work("flaky").attempt, 2);
    assert_eq!(types(&world).iter().filter(|name| **name == "StepStartEvent").count(), 2);
    world.finish("flaky");
    assert_eq!(world.run().status(), RunStatus::Completed);
}

#[test]
fn a_timer_that_rings_early_is_set_again() {
    let minute = Duration::from_secs(60);
    let wait = |until, timeout| TaskKind::Wait(WaitSpec { until, timeout });
    let mut flaky = expression("flaky", "1", &[]);
    flaky.retry = RetryPolicy { max_attempts: NonZeroU32::new(2).unwrap(), ..Default::default() };
    let mut definition = pipeline(vec![
        task("pause", wait(WaitFor::Duration(minute), None)),
        task("gate", wait(WaitFor::Signal("go".into()), Some(minute))),
        task("gateless", wait(WaitFor::Signal("never".into()), None)),
        flaky,
    ]);
    definition.timeout = Some(2 * minute);
    definition.on_error = OnError::Continue;
    let mut world = World::new(definition, json!({}));
    world.start();
    world.fail("flaky", Failure::error("first"));
    let (seq, timers) = (world.run().seq(), world.timers());
    assert_eq!(timers, 4);
    for step_run in 0..3 {
        world.input(Input::Timer { step_run, attempt: 1 }).unwrap();
    }
    world.input(Input::Timer { step_run: 3, attempt: 2 }).unwrap();
    world.input(Input::RunTimer).unwrap();
    assert_eq!(world.run().seq(), seq, "no time has come");
    assert_eq!(world.timers(), 2 * timers, "each is waited for again");
    world.advance_timers();
    assert_eq!(world.run().status(), RunStatus::TimedOut);
    let expected =
        [StepStatus::Completed, StepStatus::TimedOut, StepStatus::Cancelled, StepStatus::Cancelled];
    assert_eq!(statuses(&world).into_iter().map(|(_, status)| status).collect::<Vec<_>>(), expected);
}

#[test]
fn an_attempt_whose_worker_was_lost_times_out_and_its_end_changes_nothing() {
    let mut slow = expression("slow", "1", &[]);
    slow.timeout = Some(Duration::from_secs(30));
    slow.retry =
        RetryPolicy { max_attempts: NonZeroU32::new(2).unwrap(), jitter: false, ..Default::default() };
    let mut world = World::new(pipeline(vec![slow]), json!({}));
    world.start();
    assert_eq!(world.timers(), 0, "how long it waits for a worker does not count");
    let lost = world.work("slow");
    world.input(Input::Began { step_run: 0, attempt: 1 }).unwrap();
    assert_eq!(world.timers(), 1);
    assert_eq!(world.advance_timers(), [Duration::from_secs(35)], "its worker has 5 s more to say so itself");
    assert_eq!(world.cancelled(), ["slow"]);
    assert_eq!(statuses(&world)[0].1, StepStatus::Retrying);
    assert_eq!(world.run().view().steps[0].state.code.as_deref(), Some("timeout"));
    world.advance_timers();
    let seq = world.run().seq();
    world.report(&lost, Outcome::Completed(json!("late").into()));
    world.input(Input::Began { step_run: 0, attempt: 1 }).unwrap();
    world.input(Input::Timer { step_run: 0, attempt: 1 }).unwrap();
    assert_eq!((world.run().seq(), world.timers()), (seq, 0), "an attempt that is over changes nothing");
    world.finish("slow");
    assert_eq!(world.run().status(), RunStatus::Completed);
}

#[test]
fn a_task_without_a_limit_has_no_timer() {
    let mut world = World::new(pipeline(vec![expression("free", "1", &[])]), json!({}));
    world.start();
    world.input(Input::Began { step_run: 0, attempt: 1 }).unwrap();
    assert_eq!(world.timers(), 0);
}

#[test]
fn the_limit_of_a_task_is_one_of_its_wait() {
    let wait = |until, timeout| TaskKind::Wait(WaitSpec { until, timeout });
    let (short, long) = (Duration::from_secs(10), Duration::from_secs(60));
    let mut approve = task("approve", wait(WaitFor::Signal("go".into()), Some(long)));
    approve.timeout = Some(short);
    let mut pauses = task("pauses", TaskKind::Map(map("list", "x", wait(WaitFor::Duration(long), None))));
    pauses.inputs = vec![TaskInput::required("list")];
    pauses.timeout = Some(short);
    let mut definition = pipeline(vec![approve, pauses]);
    definition.on_error = OnError::Continue;
    let mut world = World::new(definition, json!({"list": [1]}));
    world.start();
    assert_eq!(world.advance_timers()[0], short);
    assert_eq!(statuses(&world)[0].1, StepStatus::TimedOut);
    assert_eq!(statuses(&world)[1].1, StepStatus::TimedOut);
}

#[test]
fn a_whole_step_has_a_limit_over_its_items_and_attempts() {
    let limit = Some(Duration::from_secs(10));
    let mut mapped = task("mapped", TaskKind::Map(map("list", "x", expr("x"))));
    mapped.inputs = vec![TaskInput::required("list")];
    mapped.total_timeout = limit;
    let member = |kind: TaskKind| GroupMember { name: None, body: kind.into() };
    let wait = TaskKind::Wait(WaitSpec { until: WaitFor::Signal("go".into()), timeout: None });
    let mut both = task("both", TaskKind::Group(vec![member(wait), member(expr("1"))]));
    both.total_timeout = limit;
    let mut flaky = expression("flaky", "1", &[]);
    flaky.total_timeout = limit;
    flaky.retry =
        RetryPolicy { max_attempts: NonZeroU32::new(50).unwrap(), jitter: false, ..Default::default() };
    let mut definition = pipeline(vec![mapped, both, flaky]);
    definition.on_error = OnError::Continue;
    let mut world = World::new(definition, json!({"list": [1, 2]}));
    world.start();
    world.finish("mapped[0]");
    world.fail("flaky", Failure::error("first"));
    // A restart sets the timers again, and does not give the steps more time.
    world.crash();
    let waits = world.advance_timers();
    assert!(waits.iter().all(|wait| *wait < Duration::from_secs(10)), "{waits:?}");
    assert_eq!(statuses(&world).iter().filter(|(_, status)| *status == StepStatus::TimedOut).count(), 3);
    assert_eq!(world.run().status(), RunStatus::Failed);
    let view = world.run().view();
    assert_eq!(view.steps[0].state.error.as_deref(), Some("the whole step took longer than 10s"));
    assert_eq!(view.steps[0].items[0].status, StepStatus::Completed, "what was done stays done");
    assert_eq!(view.steps[0].items[1].status, StepStatus::Cancelled);
    assert!(world.waiting().is_empty());
}

#[test]
fn no_attempt_is_waited_for_that_the_limit_of_the_step_would_cut_off() {
    let mut flaky = expression("flaky", "1", &[]);
    flaky.total_timeout = Some(Duration::from_millis(900));
    flaky.retry =
        RetryPolicy { max_attempts: NonZeroU32::new(5).unwrap(), jitter: false, ..Default::default() };
    let mut world = World::new(pipeline(vec![flaky]), json!({}));
    world.start();
    world.fail("flaky", Failure::error("broken"));
    assert_eq!(world.run().status(), RunStatus::Failed);
    assert_eq!(&*world.run().error().unwrap().message, "broken");
}
