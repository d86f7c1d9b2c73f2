//! Thousands of worlds, each from a seed; and worlds in which something is broken on purpose, which must be seen.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use taskiq_flow_simulate::{Parts, Scenario, shrink, simulate, trace};

mod broken;

/// Plays a quarter of the ten thousand worlds that `make test` plays.
fn play(quarter: u64) {
    for seed in quarter * 2_500..(quarter + 1) * 2_500 {
        let scenario = Scenario::random(seed);
        if let Some(violation) = simulate(seed, &scenario).violation {
            let smallest = shrink(seed, &scenario, Parts::real);
            let shown = trace(seed, &smallest, Parts::real());
            panic!("seed {seed} with {:?}: {violation}\n{}", smallest.faults.names(), shown.trace.join("\n"));
        }
    }
}

#[test]
fn worlds_keep_every_promise_1_of_4() {
    play(0);
}

#[test]
fn worlds_keep_every_promise_2_of_4() {
    play(1);
}

#[test]
fn worlds_keep_every_promise_3_of_4() {
    play(2);
}

#[test]
fn worlds_keep_every_promise_4_of_4() {
    play(3);
}

#[test]
fn worlds_differ_and_each_is_the_same_again() {
    let played = |seed| trace(seed, &Scenario::random(seed), Parts::real());
    let mut statuses = std::collections::BTreeSet::new();
    let mut crashes = 0;
    for seed in 0..200 {
        let first = played(seed);
        assert_eq!(first, played(seed), "seed {seed}");
        statuses.extend(first.runs.iter().map(|run| run.status.as_str()));
        crashes += first.crashes;
    }
    assert_eq!(statuses.into_iter().collect::<Vec<_>>(), ["cancelled", "completed", "failed", "timed_out"]);
    assert!(crashes > 100, "{crashes} crashes");
}

/// Looks for a world that shows what is broken, and says which faults it takes.
#[track_caller]
fn found(broken: impl Fn() -> Parts, promise: &str) -> Vec<&'static str> {
    for seed in 0..3000 {
        let scenario = Scenario::random(seed);
        let outcome = trace(seed, &scenario, broken());
        let Some(violation) = outcome.violation else { continue };
        assert!(
            violation.to_string().starts_with(promise),
            "seed {seed}: {violation}\n{}",
            outcome.trace.join("\n")
        );
        assert!(simulate(seed, &scenario).violation.is_none(), "the product itself breaks it in seed {seed}");
        let smallest = shrink(seed, &scenario, &broken);
        assert!(trace(seed, &smallest, broken()).violation.is_some());
        return smallest.faults.names();
    }
    panic!("no world shows it");
}

#[test]
fn a_store_without_fences_is_seen() {
    let faults =
        found(|| Parts { store: broken::unfenced(), ..Parts::real() }, "what was superseded changed a run");
    assert!(faults.contains(&"takeovers"), "{faults:?}");
}

#[test]
fn a_store_that_loses_an_event_is_seen() {
    let _ = found(|| Parts { store: broken::forgetful(), ..Parts::real() }, "");
}

#[test]
fn a_machine_that_takes_reports_of_old_attempts_is_seen() {
    let _ = found(|| Parts { machine: Box::new(broken::Credulous), ..Parts::real() }, "");
}

#[test]
fn a_machine_that_forgets_its_timers_at_recovery_is_seen() {
    let faults = found(|| Parts { machine: Box::new(broken::Timeless), ..Parts::real() }, "a run is stuck");
    assert!(faults.contains(&"crashes") || faults.contains(&"takeovers"), "{faults:?}");
}

#[test]
fn a_machine_that_hands_an_attempt_out_twice_is_seen() {
    let _ = found(
        || Parts { machine: Box::new(broken::Generous), ..Parts::real() },
        "attempts are not as the log has them",
    );
}
