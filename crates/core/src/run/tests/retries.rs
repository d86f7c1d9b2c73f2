//! Which failures are repeated, and for how long.

use std::num::NonZeroU32;
use std::time::Duration;

use serde_json::json;

use super::driver::{World, expression, pipeline, task};
use super::{expr, map, statuses};
use crate::definition::{Input as TaskInput, RetryPolicy, TaskKind};
use crate::expr::Expr;
use crate::run::{Event, Fact, Failure, RunStatus, StepStatus};

fn policy(attempts: u32) -> RetryPolicy {
    RetryPolicy { max_attempts: NonZeroU32::new(attempts).unwrap(), jitter: false, ..Default::default() }
}

fn world(retry: RetryPolicy) -> World {
    let mut flaky = expression("flaky", "1", &[]);
    flaky.retry = retry;
    let mut world = World::new(pipeline(vec![flaky]), json!({}));
    world.start();
    world
}

#[test]
fn rules_decide_which_failures_are_repeated() {
    let rules = RetryPolicy {
        retry_on: Some(vec!["exit:75".parse().unwrap(), "http:4*".parse().unwrap()]),
        not_on: vec!["message ~ never".parse().unwrap()],
        ..policy(3)
    };
    for (failure, repeated) in [
        (Failure::error("busy").code("exit:75"), true),
        (Failure::error("broken").code("exit:1"), false),
        (Failure::error("no code"), false),
        (Failure::permanent("the service answered 404").code("http:404"), true),
        (Failure::error("never again").code("exit:75"), false),
        (Failure::timeout("slow"), false),
    ] {
        let mut world = world(rules.clone());
        world.fail("flaky", failure.clone());
        let expected = if repeated { StepStatus::Retrying } else { world.run().view().steps[0].state.status };
        assert_eq!(statuses(&world)[0].1, expected, "{failure:?}");
        assert_eq!(world.run().status().is_terminal(), !repeated, "{failure:?}");
        let view = world.run().view();
        assert_eq!(view.steps[0].state.code, failure.code, "the step shows the code");
    }
}

#[test]
fn no_attempt_starts_after_the_total_time() {
    let limited = RetryPolicy { max_time: Some(Duration::from_millis(3_100)), ..policy(10) };
    let mut world = world(limited);
    world.fail("flaky", Failure::error("first"));
    assert_eq!(world.advance_timers(), [Duration::from_secs(1)]);
    world.fail("flaky", Failure::error("second"));
    // 1 s and 2 s and the 14 ms of two attempts are within 3.1 s; another 4 s are not. A crash does not start afresh.
    world.crash();
    world.advance_timers();
    world.fail("flaky", Failure::error("third"));
    assert_eq!(world.run().status(), RunStatus::Failed);
    assert_eq!(world.run().error().unwrap().attempt, Some(3));
}

#[test]
fn a_condition_that_cannot_be_evaluated_is_not_repeated_whatever_the_rules_say() {
    let mut guarded = expression("guarded", "1", &["n"]);
    guarded.when = Some(Expr::compile("n.a.b > 1").unwrap());
    guarded.retry = RetryPolicy { retry_on: Some(vec!["*".parse().unwrap()]), ..policy(3) };
    let mut world = World::new(pipeline(vec![guarded]), json!({"n": 1}));
    world.start();
    assert_eq!(world.run().status(), RunStatus::Failed);
    assert_eq!(world.run().view().steps[0].state.code.as_deref(), Some("expression"));
}

#[test]
fn the_rules_of_a_map_are_those_of_its_items() {
    let mut mapped = task("mapped", TaskKind::Map(map("list", "x", expr("x"))));
    mapped.inputs = vec![TaskInput::required("list")];
    mapped.retry = RetryPolicy { retry_on: Some(vec!["timeout".parse().unwrap()]), ..policy(3) };
    let mut world = World::new(pipeline(vec![mapped]), json!({"list": [1, 2]}));
    world.start();
    world.fail("mapped[0]", Failure::timeout("slow"));
    assert_eq!(world.run().status(), RunStatus::Running, "the item is tried again");
    world.fail("mapped[1]", Failure::error("broken").code("exit:2"));
    assert_eq!(world.run().status(), RunStatus::Failed, "and the other is not; the map itself never");
    let view = world.run().view();
    assert_eq!(view.steps[0].state.code.as_deref(), Some("exit:2"));
}

#[test]
fn events_of_before_there_were_codes_are_read() {
    let old = json!({
        "seq": 2, "timestamp": "2026-01-01T00:00:00.000Z", "type": "StepErrorEvent", "step_run": 0, "step_index": 0,
        "step": "flaky", "task_name": "flaky", "attempt": 1, "max_attempts": 1, "duration_ms": 3, "error": "no",
        "timed_out": false, "will_retry": false
    });
    let event: Event = serde_json::from_value(old.clone()).unwrap();
    assert!(matches!(event.fact, Fact::StepError { code: None, .. }));
    assert_eq!(serde_json::to_value(&event).unwrap(), old);
}
