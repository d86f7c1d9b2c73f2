//! Timers that ring twice, or before their time.

use std::num::NonZeroU32;
use std::time::Duration;

use serde_json::json;

use super::driver::{World, expression, pipeline, task};
use super::{statuses, types};
use crate::definition::{OnError, RetryPolicy, TaskKind, WaitFor, WaitSpec};
use crate::run::{Failure, Input, RunStatus, StepStatus};

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
