//! What many worlds came to.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use crate::checks::Violation;
use crate::world::{Outcome, RunEnd};

/// What became of a pipeline in many worlds.
#[derive(Debug, Default, Serialize)]
pub struct Report {
    /// Runs that were played.
    pub runs: u32,
    /// How they ended: states and how often.
    pub statuses: BTreeMap<&'static str, u32>,
    /// The errors that runs ended with, the most frequent first once [`Report::finish`] was called.
    pub errors: Vec<ErrorReport>,
    /// The steps, in the order of the definition.
    pub steps: Vec<StepReport>,
    /// Waits that nothing but a signal could end, and nobody sent it.
    pub stuck: Vec<Stuck>,
    /// Deaths of the process that drove the runs.
    pub crashes: u32,
    /// How long runs took in the time of their worlds, in milliseconds: the shortest, the median and the longest.
    pub took_ms: [u64; 3],
    /// Seeds that broke a promise, and which.
    pub violations: Vec<(u64, String)>,
    #[serde(skip)]
    took: Vec<Duration>,
}

/// An error that runs ended with.
#[derive(Debug, Serialize)]
pub struct ErrorReport {
    /// What the run said.
    pub error: String,
    /// How often.
    pub runs: u32,
    /// The first seed in which it happened.
    pub seed: u64,
}

/// What became of a step.
#[derive(Debug, Serialize)]
pub struct StepReport {
    /// The task's name.
    pub step: String,
    /// How it ended: states and how often.
    pub statuses: BTreeMap<&'static str, u32>,
    /// Attempts in all, its items included.
    pub attempts: u64,
    /// The most attempts in one run, its items included.
    pub most_attempts: u32,
}

/// A wait that nobody ended.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Stuck {
    /// The task's name.
    pub step: String,
    /// The signal it waited for.
    pub signal: String,
    /// How often.
    pub runs: u32,
    /// A seed in which it happened.
    pub seed: u64,
}

impl Report {
    /// Adds what became of one world.
    pub fn add(&mut self, outcome: &Outcome) {
        self.crashes += outcome.crashes;
        if let Some(violation) = &outcome.violation {
            self.violations.push((outcome.seed, Violation::to_string(violation)));
        }
        for run in &outcome.runs {
            self.add_run(outcome.seed, run);
        }
    }

    fn add_run(&mut self, seed: u64, run: &RunEnd) {
        self.runs += 1;
        *self.statuses.entry(run.status.as_str()).or_default() += 1;
        self.took.push(run.took);
        if let Some(error) = &run.error {
            match self.errors.iter_mut().find(|known| known.error == *error) {
                Some(known) => known.runs += 1,
                None => self.errors.push(ErrorReport { error: error.clone(), runs: 1, seed }),
            }
        }
        for (place, step) in run.steps.iter().enumerate() {
            if place == self.steps.len() {
                let statuses = BTreeMap::new();
                self.steps.push(StepReport {
                    step: step.name.clone(),
                    statuses,
                    attempts: 0,
                    most_attempts: 0,
                });
            }
            let known = &mut self.steps[place];
            *known.statuses.entry(step.status.as_str()).or_default() += 1;
            known.attempts += u64::from(step.attempts);
            known.most_attempts = known.most_attempts.max(step.attempts);
        }
        for (step, signal) in &run.stuck {
            match self.stuck.iter_mut().find(|known| known.step == *step && known.signal == *signal) {
                Some(known) => known.runs += 1,
                None => {
                    let (step, signal) = (step.clone(), signal.clone());
                    self.stuck.push(Stuck { step, signal, runs: 1, seed });
                }
            }
        }
    }

    /// Works out what only the whole can say.
    pub fn finish(&mut self) {
        self.errors.sort_by(|a, b| b.runs.cmp(&a.runs).then_with(|| a.error.cmp(&b.error)));
        self.took.sort_unstable();
        let millis = |took: Option<&Duration>| {
            took.map_or(0, |took| u64::try_from(took.as_millis()).unwrap_or(u64::MAX))
        };
        self.took_ms = [self.took.first(), self.took.get(self.took.len() / 2), self.took.last()].map(millis);
    }
}
