//! The forecast's machine against the run state machine: with the same durations they start the same steps at the same
//! times.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use serde_json::{Value, json};
use taskiq_flow_core::dag::{Cost, Job};
use taskiq_flow_core::definition::Pipeline;
use taskiq_flow_core::document::Format;
use taskiq_flow_core::forecast::{costs, count_of_items, of_items, stages};
use taskiq_flow_core::id::RunId;
use taskiq_flow_core::load::load_text;
use taskiq_flow_core::plan::Plan;
use taskiq_flow_core::run::{Command, Effects, Fact, Input, Outcome, Run};
use taskiq_flow_core::time::Timestamp;

const START: i64 = 1_000_000;

/// A run whose attempts take what they are told to take, in time that is only counted.
struct Played {
    run: Run,
    /// When each step started and ended, in milliseconds from the start of the run.
    start: HashMap<String, u64>,
    finish: HashMap<String, u64>,
}

fn since_start(at: Timestamp) -> u64 {
    u64::try_from(at.as_millis() - START).unwrap()
}

/// Plays a run; `millis` says what a step run of a name takes. Stops after `until`.
fn play(plan: &Arc<Plan>, parameters: &Value, millis: impl Fn(&str) -> u64, until: Option<u64>) -> Played {
    let parameters = plan.check_parameters(parameters.as_object().unwrap().clone()).unwrap();
    let mut now = Timestamp::from_millis(START);
    let mut run = Run::new(Arc::clone(plan), RunId::new(), &parameters, now);
    let mut under_way = BinaryHeap::new();
    let mut works = HashMap::new();
    let (mut start, mut finish) = (HashMap::new(), HashMap::new());
    let mut input = Some(Input::Start { reuse: Vec::new() });
    while let Some(next) = input.take() {
        let Effects { events, commands, .. } = run.handle(next, now).unwrap();
        for event in events {
            let at = since_start(event.timestamp);
            match &event.fact {
                Fact::StepStart { step, .. } => drop(start.insert(step.step.to_string(), at)),
                Fact::StepComplete { step, .. } => drop(finish.insert(step.step.to_string(), at)),
                _ => {}
            }
        }
        for command in commands {
            let Command::Dispatch(work) = command else { panic!("not expected here") };
            let takes = millis(&work.step);
            under_way.push(Reverse((since_start(now) + takes, works.len(), takes)));
            works.insert(works.len(), work);
        }
        if let Some(Reverse((at, number, takes))) = under_way.pop()
            && until.is_none_or(|until| at <= until)
        {
            now = Timestamp::from_millis(START + i64::try_from(at).unwrap());
            let work = &works[&number];
            input = Some(Input::Finished {
                step_run: work.step_run,
                attempt: work.attempt,
                outcome: Outcome::Completed(Arc::new(json!(1))),
                duration: Duration::from_millis(takes),
            });
        }
    }
    Played { run, start, finish }
}

fn plan(text: &str) -> Arc<Plan> {
    let pipeline: Pipeline = load_text("p.yaml", text, Format::Yaml).unwrap().remove(0);
    Arc::new(Plan::new(Arc::new(pipeline)).unwrap())
}

/// Tasks `t0`, `t1` and so on that need what the edges say.
fn text(count: usize, edges: &[(usize, usize)], max_parallel: u32) -> String {
    let mut text = format!("id: p\nmax_parallel: {max_parallel}\ntasks:\n");
    for node in 0..count {
        let mut needs: Vec<String> =
            edges.iter().filter(|(_, to)| *to == node).map(|(from, _)| format!("o{from}")).collect();
        needs.sort();
        needs.dedup();
        text.push_str(&format!(
            "  - {{ name: t{node}, expression: \"1\", output: o{node}, inputs: [{}] }}\n",
            needs.join(", ")
        ));
    }
    text
}

proptest! {
    #[test]
    fn steps_start_when_the_state_machine_starts_them(
        count in 1_usize..14,
        pairs in proptest::collection::vec((0_usize..14, 0_usize..14), 0..24),
        millis in proptest::collection::vec(1_u64..7, 14),
        max_parallel in 1_u32..5,
    ) {
        let edges: Vec<(usize, usize)> = pairs
            .into_iter()
            .map(|(a, b)| (a % count, b % count))
            .filter(|(a, b)| a != b)
            .map(|(a, b)| (a.min(b), a.max(b)))
            .collect();
        let plan = plan(&text(count, &edges, max_parallel));
        let takes = |step: &str| millis[step[1..].parse::<usize>().unwrap()];
        let real = play(&plan, &json!({}), takes, None);
        let jobs: Vec<Job> =
            millis[..count].iter().map(|millis| Job::One { millis: *millis, occupies: true, running: false }).collect();
        let played = plan.dag().schedule(&jobs, NonZeroU32::new(max_parallel));
        for node in 0..count {
            prop_assert_eq!(real.start[&format!("t{node}")], played.start_ms[node], "start of t{}", node);
            prop_assert_eq!(real.finish[&format!("t{node}")], played.finish_ms[node], "end of t{}", node);
        }
        // Stopped on the way, what is left takes as long as it takes.
        let until = played.makespan_ms / 2;
        let half = play(&plan, &json!({}), takes, Some(until));
        let known: Vec<Cost> = millis[..count].iter().map(|millis| Cost::of_work(vec![*millis])).collect();
        let now = Timestamp::from_millis(START + i64::try_from(until).unwrap());
        let stages = stages(&half.run.view(), now);
        let left = plan.dag().forecast(&known, &stages, NonZeroU32::new(max_parallel));
        // The order in which steps got in line is not kept in what is shown of a run, so that with few workers the rest
        // may be played in another order.
        if u64::from(max_parallel) >= count as u64 {
            prop_assert_eq!(until + left.median_ms, played.makespan_ms);
        }
        prop_assert!(left.median_ms <= millis[..count].iter().sum::<u64>());
    }

    #[test]
    fn items_start_when_the_state_machine_starts_them(
        millis in proptest::collection::vec(1_u64..7, 0..9),
        at_once in 1_u32..5,
        max_parallel in 1_u32..5,
    ) {
        let text = format!(
            "id: p\nmax_parallel: {max_parallel}\ntasks:\n  \
               - {{ name: before, expression: \"1\", output: b, inputs: [list] }}\n  \
               - {{ name: each, inputs: [list, b], output: e, map: {{ over: list, max_parallel: {at_once}, expression: item }} }}\n  \
               - {{ name: beside, inputs: [b], output: x, expression: b }}\n  \
               - {{ name: after, inputs: [e], output: a, expression: \"1\" }}\n"
        );
        let plan = plan(&text);
        let takes = |step: &str| match step.strip_prefix("each[") {
            Some(place) => millis[place.trim_end_matches(']').parse::<usize>().unwrap()],
            None => 4,
        };
        let real = play(&plan, &json!({ "list": millis }), takes, None);
        let one = Job::One { millis: 4, occupies: true, running: false };
        let each =
            Job::Items { running: vec![], waiting: millis.clone(), at_once: NonZeroU32::new(at_once), occupies: true };
        let jobs = [one.clone(), each, one.clone(), one];
        let played = plan.dag().schedule(&jobs, NonZeroU32::new(max_parallel));
        for (node, name) in ["before", "each", "beside", "after"].into_iter().enumerate() {
            prop_assert_eq!(real.start[name], played.start_ms[node], "start of {}", name);
            prop_assert_eq!(real.finish[name], played.finish_ms[node], "end of {}", name);
        }
    }
}

#[test]
fn what_a_run_took_is_what_the_next_is_taken_to_take() {
    let plan = plan(
        "id: p\ntasks:\n  \
           - { name: each, inputs: [list], output: e, map: { over: list, max_parallel: 2, expression: item } }\n  \
           - { name: both, inputs: [e], output: g, group: [{ name: x, expression: e }, { name: y, expression: e }] }\n  \
           - { name: last, inputs: [g], expression: g }\n",
    );
    let list: Vec<u64> = (0..100).collect();
    let takes = |step: &str| if step.starts_with("each[") { 10 } else { 50 };
    let real = play(&plan, &json!({ "list": list }), takes, None);
    let mut durations: HashMap<String, Vec<u64>> = HashMap::new();
    for (name, millis) in real.run.measured_durations() {
        durations.entry(name.to_string()).or_default().push(millis);
    }
    assert_eq!(durations[&count_of_items("each")], [100]);
    assert_eq!(durations[&of_items("each")], [10; 8]);
    assert_eq!(
        (&durations["each"], &durations["both"], &durations["last"]),
        (&vec![500], &vec![50], &vec![50])
    );
    let costs = costs(&plan, &durations);
    assert!(costs.iter().all(Cost::is_measured));
    assert_eq!(plan.dag().forecast(&costs, &[], None).median_ms, 600);
    // One worker: the items one after another, and the members of the group too.
    assert_eq!(plan.dag().forecast(&costs, &[], NonZeroU32::new(1)).median_ms, 1000 + 100 + 50);
    // In the middle of the map.
    let half = play(&plan, &json!({ "list": list }), takes, Some(250));
    let stages = stages(&half.run.view(), Timestamp::from_millis(START + 255));
    assert_eq!(plan.dag().forecast(&costs, &stages, None).median_ms, 345);
}
