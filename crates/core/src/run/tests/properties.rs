//! Whatever the order, whatever fails, wherever it crashes: the promises hold.

use std::collections::{HashMap, HashSet};
use std::num::NonZeroU32;

use proptest::prelude::*;
use serde_json::json;

use super::driver::{World, expression, pipeline, task};
use super::{expr, map};
use crate::definition::{Input as TaskInput, OnError, Pipeline, RetryPolicy, TaskKind};
use crate::expr::Expr;
use crate::run::{Fact, Failure, Input, Outcome, RunStatus};

/// One thing that the world does.
#[derive(Debug, Clone)]
enum Move {
    Finish(usize),
    Fail(usize),
    FailForGood(usize),
    Late(usize),
    Timers,
    UnsteadyTimers,
    Crash,
    Pause,
    Resume,
    Cancel,
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let one = prop_oneof![
        12 => any::<usize>().prop_map(Move::Finish),
        3 => any::<usize>().prop_map(Move::Fail),
        1 => any::<usize>().prop_map(Move::FailForGood),
        2 => any::<usize>().prop_map(Move::Late),
        2 => Just(Move::Timers),
        1 => Just(Move::UnsteadyTimers),
        3 => Just(Move::Crash),
        1 => Just(Move::Pause),
        2 => Just(Move::Resume),
        1 => Just(Move::Cancel),
    ];
    prop::collection::vec(one, 0..60)
}

/// A pipeline whose task `t<n>` needs some of those before it.
fn pipelines() -> impl Strategy<Value = Pipeline> {
    let one = (any::<u16>(), 1..4_u32, any::<u8>(), prop::bool::weighted(0.2), prop::bool::weighted(0.2));
    (prop::collection::vec(one, 1..9), any::<bool>(), 0..4_u32).prop_map(|(shapes, go_on, most)| {
        let mut tasks = Vec::new();
        for (place, (needs, attempts, kind, optional, guarded)) in shapes.into_iter().enumerate() {
            let name = format!("t{place}");
            let before: Vec<String> =
                (0..place).filter(|n| needs >> n & 1 == 1).map(|n| format!("t{n}")).collect();
            let mut made = if kind < 40 {
                let mut made = task(&name, TaskKind::Map(map("list", "x", expr("x"))));
                made.inputs.push(TaskInput::required("list"));
                made
            } else {
                expression(&name, "1", &[])
            };
            made.inputs
                .extend(before.into_iter().map(|name| TaskInput { optional, ..TaskInput::required(name) }));
            made.retry =
                RetryPolicy { max_attempts: NonZeroU32::new(attempts).unwrap(), ..Default::default() };
            made.when = guarded.then(|| Expr::compile("false").unwrap());
            tasks.push(made);
        }
        let mut definition = pipeline(tasks);
        definition.on_error = if go_on { OnError::Continue } else { OnError::Fail };
        definition.max_parallel = NonZeroU32::new(most);
        definition
    })
}

fn pick(world: &World, place: usize) -> Option<String> {
    let waiting = world.waiting();
    (!waiting.is_empty()).then(|| waiting[place % waiting.len()].clone())
}

fn play(world: &mut World, step: &Move) {
    let ended = world.run().status().is_terminal();
    match step {
        Move::Finish(place) => {
            if let Some(step) = pick(world, *place) {
                world.finish(&step);
            }
        }
        Move::Fail(place) => {
            if let Some(step) = pick(world, *place) {
                world.fail(&step, Failure::error("failed"));
            }
        }
        Move::FailForGood(place) => {
            if let Some(step) = pick(world, *place) {
                world.fail(&step, Failure::permanent("failed"));
            }
        }
        Move::Late(place) => {
            if let Some(step) = pick(world, *place) {
                let mut old = world.work(&step);
                old.attempt = old.attempt.saturating_sub(1);
                let seq = world.run().seq();
                world.report(&old, Outcome::Completed(json!("late").into()));
                assert_eq!(world.run().seq(), seq, "a superseded attempt changes nothing");
            }
        }
        Move::Timers => drop(world.advance_timers()),
        Move::UnsteadyTimers => world.advance_unsteady_timers(),
        Move::Crash => world.crash(),
        Move::Pause => drop(world.input(Input::Pause)),
        Move::Resume => drop(world.input(Input::Resume)),
        Move::Cancel => assert_eq!(world.input(Input::Cancel { reason: "test".into() }).is_err(), ended),
    }
}

fn check(world: &World) {
    let shown = |run: &crate::run::Run| serde_json::to_value(run.view()).unwrap();
    assert_eq!(shown(world.run()), shown(&world.replayed()), "the log alone makes the state");
    let plan = world.run().plan();
    let needs: HashMap<&str, Vec<(&str, bool)>> = plan
        .steps()
        .iter()
        .map(|step| {
            let inputs = step.task.inputs.iter().filter(|input| input.source != "list");
            (&*step.name, inputs.map(|input| (input.source.as_str(), input.optional)).collect())
        })
        .collect();
    let (mut done, mut ended) = (HashSet::new(), HashSet::new());
    for event in world.events() {
        match &event.fact {
            Fact::StepStart { step, attempt: 1, .. } if *step.step == *step.task_name => {
                for (source, optional) in &needs[&*step.task_name] {
                    let there = if *optional { ended.contains(*source) } else { done.contains(*source) };
                    assert!(there, "{} started before {source}", step.step);
                }
            }
            Fact::StepComplete { step, .. } => {
                assert!(done.insert(step.step.to_string()), "{} completed twice", step.step);
                ended.insert(step.step.to_string());
            }
            Fact::StepError { step, will_retry: false, .. }
            | Fact::StepSkip { step, .. }
            | Fact::StepCancel { step, .. } => drop(ended.insert(step.step.to_string())),
            _ => {}
        }
    }
    let most = plan.pipeline().max_parallel.map_or(usize::MAX, |most| most.get() as usize);
    assert!(world.waiting().len() <= most, "no more under way than allowed");
    if world.run().status().is_terminal() {
        assert!(world.waiting().is_empty(), "nothing goes on after the end");
        assert!(world.run().step_states().all(|state| state.is_terminal()), "no step is left open");
        assert_eq!(world.events().iter().filter(|event| event.fact.ends_run()).count(), 1);
    } else if world.run().status() == RunStatus::Running {
        assert!(
            !world.waiting().is_empty() || world.timers() > 0,
            "a run that goes on has something to go on with"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn any_order_any_failure_any_crash(definition in pipelines(), moves in moves()) {
        let listed = definition.tasks.iter().any(|task| task.inputs.iter().any(|input| input.source == "list"));
        let parameters = if listed { json!({"list": [1, 2, 3]}) } else { json!({}) };
        let mut world = World::new(definition, parameters);
        world.start();
        for step in &moves {
            play(&mut world, step);
            check(&world);
        }
        for _ in 0..200 {
            if world.run().status().is_terminal() {
                break;
            }
            let _ = world.input(Input::Resume);
            world.advance_timers();
            world.finish_all();
        }
        check(&world);
        prop_assert!(world.run().status().is_terminal(), "every run ends");
    }
}
