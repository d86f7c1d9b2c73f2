//! Order without data: `after`, and steps whose value is dropped.

use serde_json::json;

use super::driver::{World, expression, pipeline};
use super::statuses;
use crate::definition::Pipeline;
use crate::document::Format;
use crate::load::load_text;
use crate::plan::Plan;
use crate::run::{Failure, RunStatus, StepStatus};

fn chain(steps: &str) -> Pipeline {
    let text = format!("id: p\ninputs: {{ n: {{ type: integer }} }}\nsteps:\n{steps}");
    load_text("p.yaml", &text, Format::Yaml).unwrap().remove(0)
}

#[test]
fn a_task_comes_after_others_without_their_values() {
    let mut last = expression("last", "1", &[]);
    last.after = vec!["one".into(), "two".into()];
    let mut world = World::new(
        pipeline(vec![last, expression("one", "1", &[]), expression("two", "one", &["one"])]),
        json!({}),
    );
    world.start();
    world.finish("one");
    assert_eq!(world.waiting(), ["two"]);
    world.finish("two");
    assert_eq!(world.waiting(), ["last"]);
    assert!(world.work("last").inputs.to_json_object().is_empty());
    world.finish("last");
    assert_eq!(**world.run().result().unwrap(), json!({"last": 1, "two": 1}));
    let edges: Vec<_> =
        world.run().plan().dag().edges().iter().map(|edge| (edge.source, edge.target, &*edge.data)).collect();
    assert_eq!(edges, [(1, 0, ""), (2, 0, ""), (1, 2, "one")]);
}

#[test]
fn what_comes_after_a_failed_task_is_skipped() {
    let mut last = expression("last", "1", &[]);
    last.after = vec!["bad".into()];
    let mut definition = pipeline(vec![expression("bad", "1", &[]), last]);
    definition.on_error = crate::definition::OnError::Continue;
    let mut world = World::new(definition, json!({}));
    world.start();
    world.fail("bad", Failure::error("no"));
    assert_eq!(statuses(&world)[1].1, StepStatus::Skipped);
    assert_eq!(world.run().view().steps[1].state.reason.as_deref(), Some("needs `bad`, which is failed"));
}

#[test]
fn tasks_that_come_after_each_other_are_a_circle() {
    let mut one = expression("one", "1", &[]);
    one.after = vec!["two".into()];
    let errors =
        Plan::new(std::sync::Arc::new(pipeline(vec![one, expression("two", "one", &["one"])]))).unwrap_err();
    assert!(errors[0].message.contains("circle"), "{errors:?}");
}

#[test]
fn the_value_goes_past_a_step_that_keeps_it() {
    let definition = chain(
        "  - { name: log, call: { expression: \"n * 100\" }, keep: true }\n  - call: { expression: \"n + 1\" }\n  \
         - { name: tell, expression: \"value * 100\", keep: true }\n  - { name: tell-more, expression: \"value\", keep: true }\n  \
         - call: { expression: \"value + 1\" }\n  - { name: end, expression: \"value\", keep: true }\n",
    );
    let mut world = World::new(definition, json!({"n": 1}));
    world.start();
    let mut order = Vec::new();
    while let [step] = world.waiting().as_slice() {
        order.push(step.clone());
        world.finish(step);
    }
    assert_eq!(order, ["log", "step-2", "tell", "tell-more", "step-5", "end"], "one after another");
    assert_eq!(world.run().status(), RunStatus::Completed);
    assert_eq!(**world.run().result().unwrap(), json!(3));
}
