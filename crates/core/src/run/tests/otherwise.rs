//! Steps of a chain that say what becomes of the value where their condition is not true.

use serde_json::{Value, json};

use super::driver::World;
use super::statuses;
use crate::definition::Pipeline;
use crate::document::Format;
use crate::load::load_text;
use crate::plan::Plan;
use crate::run::{Failure, RunStatus, StepStatus};

fn chain(steps: &str) -> Pipeline {
    let text = format!("id: p\non_error: continue\nsteps:\n{steps}");
    load_text("p.yaml", &text, Format::Yaml).unwrap_or_else(|errors| panic!("{errors}")).remove(0)
}

/// Carries out what waits until nothing does, in order; gives the names.
fn carried_out(world: &mut World) -> Vec<String> {
    let mut order = Vec::new();
    while let Some(step) = world.waiting().first().cloned() {
        order.push(step.clone());
        world.finish(&step);
    }
    order
}

fn result_of(steps: &str, value: Value) -> (Value, Vec<String>) {
    let mut world = World::new(chain(steps), json!({ "value": value }));
    world.start();
    let order = carried_out(&mut world);
    assert_eq!(world.run().status(), RunStatus::Completed);
    (Value::clone(world.run().result().unwrap()), order)
}

#[test]
fn the_value_passes_or_something_else_is_done() {
    let pass = "  - { name: halve, when: \"value > 10\", call: { expression: \"value // 2\" }, otherwise: pass }\n  \
                - call: { expression: \"[value]\" }\n";
    assert_eq!(result_of(pass, json!(20)).0, json!([10]));
    assert_eq!(result_of(pass, json!(3)).0, json!([3]));
    let other = "  - { name: halve, when: \"value > 10\", expression: \"value // 2\", \
                 otherwise: { expression: \"value * factor\", with: { factor: 100 } } }\n";
    assert_eq!(result_of(other, json!(20)), (json!(10), vec!["halve".to_owned(), "halve-either".to_owned()]));
    assert_eq!(
        result_of(other, json!(3)),
        (json!(300), vec!["halve-otherwise".to_owned(), "halve-either".to_owned()])
    );
    // A value that is null is a value.
    let null = "  - { when: \"value > 10\", call: { expression: \"none\" }, otherwise: pass }\n  \
                - call: { expression: \"value is none\" }\n";
    assert_eq!(result_of(null, json!(20)).0, json!(true));
}

/// Null is what the other way makes of a step that has failed: it must not go on as a value.
#[test]
fn nothing_goes_on_where_the_chosen_way_fails() {
    let steps = "  - { name: risky, when: \"value > 10\", call: { expression: \"value\" }, otherwise: pass }\n  \
                 - { name: next, call: { expression: \"value\" } }\n";
    let mut world = World::new(chain(steps), json!({ "value": 20 }));
    world.start();
    world.fail("risky", Failure::permanent("no"));
    assert!(carried_out(&mut world).is_empty());
    assert_eq!(world.run().status(), RunStatus::Failed);
    let expected = [
        ("risky", StepStatus::Failed),
        ("risky-otherwise", StepStatus::Skipped),
        ("risky-either", StepStatus::Skipped),
        ("next", StepStatus::Skipped),
    ];
    assert_eq!(statuses(&world), expected.map(|(name, status)| (name.to_owned(), status)));
    let reason = "needs `risky`, which is failed; needs `risky-otherwise`, which is skipped";
    assert_eq!(world.run().view().steps[2].state.reason.as_deref(), Some(reason));
}

/// A step of the definition is several steps of the run; what a fork takes over goes by the definition.
#[test]
fn a_fork_knows_the_steps_of_a_changed_definition() {
    let steps = |last: &str| {
        format!(
            "  - {{ name: first, when: \"value > 10\", expression: \"value\", otherwise: pass }}\n  \
             - {{ name: second, expression: \"value + 1\" }}\n  - {{ name: third, expression: \"{last}\" }}\n"
        )
    };
    let mut world = World::new(chain(&steps("value")), json!({ "value": 20 }));
    world.start();
    carried_out(&mut world);
    let changed = Plan::new(std::sync::Arc::new(chain(&steps("value * 2")))).unwrap();
    let taken = world.run().taken_over(&changed, &[], |_| false);
    let names: Vec<_> = taken.iter().map(|(place, _)| &*changed.steps()[*place as usize].name).collect();
    assert_eq!(names, ["first", "first-either", "second"], "all but what was changed and what was skipped");
}

#[test]
fn what_makes_no_sense_is_refused_where_it_stands() {
    for (step, message) in [
        ("{ call: { expression: \"value\" }, otherwise: pass }", "has `otherwise` and no condition"),
        ("{ when: \"true\", call: { expression: \"value\" }, otherwise: stop }", "expected something to do"),
        ("{ when: \"true\", keep: true, call: { expression: \"1\" }, otherwise: pass }", "drops its value"),
        (
            "{ when: \"true\", call: { expression: \"1\" }, otherwise: { expression: \"values\" } }",
            "`values` is no input",
        ),
    ] {
        let text = format!("id: p\nsteps:\n  - {step}\n");
        let errors = load_text("p.yaml", &text, Format::Yaml).unwrap_err().to_string();
        assert!(errors.contains(message), "{errors}");
    }
    let first =
        "id: p\ninputs: { n: {} }\nsteps:\n  - { when: \"n > 1\", expression: \"n\", otherwise: pass }\n";
    let errors = load_text("p.yaml", first, Format::Yaml).unwrap_err().to_string();
    assert!(errors.contains("is given no `value` that could pass"), "{errors}");
    let task = "id: p\ntasks:\n  - { name: a, when: \"true\", expression: \"1\", otherwise: pass }\n";
    assert!(load_text("p.yaml", task, Format::Yaml).is_err(), "only a chain has one value that goes on");
}

#[test]
fn a_mistake_behind_one_is_shown_at_its_step() {
    let text = "id: p\nsteps:\n  - { name: first, when: \"value > 1\", expression: value, otherwise: pass }\n  \
                - { name: twice, expression: value }\n  - { name: twice, expression: value }\n  \
                - { name: last, expression: value }\n";
    let errors = load_text("p.yaml", text, Format::Yaml).unwrap_err().to_string();
    assert!(errors.contains("--> p.yaml:5:"), "{errors}");
}

#[test]
fn what_one_makes_counts_as_tasks() {
    let with = "{\"when\":\"true\",\"expression\":\"value\",\"otherwise\":\"pass\"},";
    let load = |steps: usize| {
        let text = format!("{{\"id\":\"p\",\"steps\":[{}{{\"expression\":\"value\"}}]}}", with.repeat(steps));
        load_text("p.json", &text, Format::Json).map(|_| ())
    };
    let most = crate::load::MAX_TASKS;
    let errors = load(most / 3 + 1).unwrap_err().to_string();
    assert!(
        errors.contains(&format!("a pipeline has at most {most} tasks, this one has {}", most + 3)),
        "{errors}"
    );
    load(10).unwrap();
}
