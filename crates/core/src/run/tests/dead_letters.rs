//! Steps that are kept when they fail for good.

use serde_json::json;

use super::driver::{World, expression, pipeline};
use super::types;
use crate::definition::OnError;
use crate::run::{Event, Fact, Failure, RunStatus, StepStatus};

#[test]
fn a_failed_step_is_kept_and_what_does_not_need_it_goes_on() {
    let mut bad = expression("bad", "n", &["n"]);
    bad.body.with.insert("limit".into(), json!(3));
    bad.on_error = Some(OnError::DeadLetter);
    let tasks = vec![bad, expression("after", "bad", &["bad"]), expression("other", "1", &[])];
    let mut world = World::new(pipeline(tasks), json!({"n": 7}));
    world.start();
    world.fail("bad", Failure::error("no luck"));
    assert_eq!(world.waiting(), ["other"]);
    world.finish("other");
    assert_eq!(world.run().status(), RunStatus::Failed);
    let letters = world.events().iter().filter_map(|event| match &event.fact {
        Fact::StepDeadLetter { step, attempt, error } => Some((step.step_run, *attempt, error.to_string())),
        _ => None,
    });
    assert_eq!(letters.collect::<Vec<_>>(), [(0, 1, "no luck".to_owned())]);
    assert_eq!(types(&world)[4], "StepDeadLetterEvent", "right behind the error: {:?}", types(&world));
    assert_eq!(world.run().inputs_of(0), json!({"n": 7, "limit": 3}).as_object().cloned());
    assert_eq!(world.run().inputs_of(99), None);
    assert_eq!(world.run().view().steps[0].state.status, StepStatus::Failed);
    assert_eq!(world.replayed().status(), RunStatus::Failed);
}

#[test]
fn a_letter_of_a_step_that_has_not_failed_is_refused() {
    let mut world = World::new(pipeline(vec![expression("a", "1", &[])]), json!({}));
    world.start();
    let step = world.events().iter().find_map(|event| event.fact.step()).unwrap().clone();
    let fact = Fact::StepDeadLetter { step, attempt: 1, error: "no".into() };
    let event = Event { seq: world.run().seq() + 1, timestamp: world.events()[0].timestamp, fact };
    assert!(world.run().clone().apply(&event).unwrap_err().why.contains("has not failed"));
}
