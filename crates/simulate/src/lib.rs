//! Deterministic simulation of runs: what may happen to a pipeline, and whether the promises hold.
//!
//! The state machine and the store are the real ones; the world around them is made up. Time is a number, tasks are
//! carried out by nobody and end as the seed has it: well, badly, slowly, twice, or not at all because the process that
//! drove them died. Whatever happens, [`checks`] must hold. The same seed makes the same world, so what was found once
//! is found again.
//!
//! ```
//! use taskiq_flow_core::load::load_json;
//! use taskiq_flow_simulate::{Scenario, simulate};
//!
//! let definition = serde_json::json!({"id": "p", "tasks": [{"name": "a", "expression": "1"}]});
//! let scenario = Scenario::of(load_json(definition).unwrap().remove(0));
//! let outcome = simulate(7, &scenario);
//! assert!(outcome.violation.is_none());
//! assert_eq!(simulate(7, &scenario), outcome);
//! ```
//!
//! | to | go to |
//! |---|---|
//! | add a promise | [`checks`] |
//! | add something that the world does | `world.rs`, and its switch in [`Faults`] |
//! | add a kind of task to the random pipelines | `pipelines.rs` |
//! | change what tasks are said to return | `values.rs` |

pub mod checks;
mod driver;
mod pipelines;
mod random;
mod report;
mod scenario;
mod values;
mod world;

pub use checks::Violation;
pub use driver::{Machine, RealMachine, Shared};
pub use pipelines::random_pipeline;
pub use report::{ErrorReport, Report, StepReport, Stuck};
pub use scenario::{Faults, Scenario};
pub use world::{Outcome, RunEnd, StepEnd};

use std::sync::Arc;

use taskiq_flow_store::MemoryStore;

/// What is simulated, so that a test can put something broken in its place.
#[derive(Debug)]
pub struct Parts {
    /// How runs decide.
    pub machine: Box<dyn Machine>,
    /// Where their logs are kept.
    pub store: Arc<dyn Shared>,
}

impl Parts {
    /// The product's own.
    pub fn real() -> Self {
        Self { machine: Box::new(RealMachine), store: Arc::new(MemoryStore::new()) }
    }
}

/// Plays one world to its end.
pub fn simulate(seed: u64, scenario: &Scenario) -> Outcome {
    simulate_with(seed, scenario, Parts::real())
}

/// As [`simulate`], over other parts than the product's.
pub fn simulate_with(seed: u64, scenario: &Scenario, parts: Parts) -> Outcome {
    world::World::new(seed, scenario, parts, false).play()
}

/// As [`simulate_with`], and says what happened, line by line: [`Outcome::trace`].
pub fn trace(seed: u64, scenario: &Scenario, parts: Parts) -> Outcome {
    world::World::new(seed, scenario, parts, true).play()
}

/// The scenario with as few kinds of fault as still break the promise that `seed` breaks in it. Without a broken promise
/// it is the scenario itself.
pub fn shrink(seed: u64, scenario: &Scenario, parts: impl Fn() -> Parts) -> Scenario {
    let breaks = |scenario: &Scenario| simulate_with(seed, scenario, parts()).violation.is_some();
    let mut smallest = scenario.clone();
    if !breaks(&smallest) {
        return smallest;
    }
    for runs in 1..smallest.runs {
        let fewer = Scenario { runs, ..smallest.clone() };
        if breaks(&fewer) {
            smallest = fewer;
            break;
        }
    }
    for place in 0..Faults::NAMES.len() {
        let mut fewer = smallest.clone();
        if fewer.faults.take(place) && breaks(&fewer) {
            smallest = fewer;
        }
    }
    smallest
}
