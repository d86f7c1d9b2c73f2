//! What a world is made of: pipelines, how many runs, and what may go wrong.

use std::sync::Arc;

use taskiq_flow_core::definition::Pipeline;

/// What is played.
#[derive(Debug, Clone)]
pub struct Scenario {
    /// The pipelines; each run follows one of them.
    pub pipelines: Vec<Arc<Pipeline>>,
    /// Runs of one world.
    pub runs: usize,
    /// Runs that are under way at once; others wait their turn.
    pub room: usize,
    /// What may go wrong.
    pub faults: Faults,
}

/// What may go wrong, or be asked for, in a world.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Faults {
    /// Attempts fail: for now, for good, or by taking too long.
    pub failures: bool,
    /// The process that drives the runs dies: while nothing happens, before it has written what it decided, or after
    /// that and before it has done anything about it.
    pub crashes: bool,
    /// Attempts are lost with their worker, and nobody says so until the next crash.
    pub losses: bool,
    /// Ends of attempts are reported twice.
    pub duplicates: bool,
    /// Reports and timers come in another order than they should, and timers before their time.
    pub disorder: bool,
    /// The store writes and its answer is lost.
    pub lost_answers: bool,
    /// A driver that is taken for dead lives on beside the one that has taken its runs over.
    pub takeovers: bool,
    /// Each process has a clock that is wrong by up to two seconds.
    pub clocks: bool,
    /// Somebody pauses, resumes and cancels runs, and sends signals that no step waits for.
    pub operators: bool,
    /// Signals that steps wait for are sometimes not sent.
    pub silence: bool,
}

impl Scenario {
    /// One run of one pipeline, in which all may go wrong that an operator cannot help.
    pub fn of(pipeline: Pipeline) -> Self {
        let faults = Faults { operators: false, ..Faults::ALL };
        Self { pipelines: vec![Arc::new(pipeline)], runs: 1, room: 1, faults }
    }

    /// Several runs of random pipelines that follow from the seed, in which everything may go wrong.
    pub fn random(seed: u64) -> Self {
        let pipelines =
            (0..1 + seed % 2).map(|place| Arc::new(crate::random_pipeline(seed, place))).collect();
        let runs = 1 + usize::try_from(seed / 2 % 4).unwrap_or(0);
        Self { pipelines, runs, room: 2, faults: Faults::ALL }
    }
}

impl Faults {
    /// Everything.
    pub const ALL: Self = Self {
        failures: true,
        crashes: true,
        losses: true,
        duplicates: true,
        disorder: true,
        lost_answers: true,
        takeovers: true,
        clocks: true,
        operators: true,
        silence: true,
    };

    /// Nothing.
    pub const NONE: Self = Self {
        failures: false,
        crashes: false,
        losses: false,
        duplicates: false,
        disorder: false,
        lost_answers: false,
        takeovers: false,
        clocks: false,
        operators: false,
        silence: false,
    };

    /// The names of the fields.
    pub const NAMES: [&str; 10] = [
        "failures",
        "crashes",
        "losses",
        "duplicates",
        "disorder",
        "lost_answers",
        "takeovers",
        "clocks",
        "operators",
        "silence",
    ];

    /// The field of that name.
    pub fn named(&mut self, name: &str) -> Option<&mut bool> {
        Some(match name {
            "failures" => &mut self.failures,
            "crashes" => &mut self.crashes,
            "losses" => &mut self.losses,
            "duplicates" => &mut self.duplicates,
            "disorder" => &mut self.disorder,
            "lost_answers" => &mut self.lost_answers,
            "takeovers" => &mut self.takeovers,
            "clocks" => &mut self.clocks,
            "operators" => &mut self.operators,
            "silence" => &mut self.silence,
            _ => return None,
        })
    }

    /// The names of those that may happen.
    pub fn names(mut self) -> Vec<&'static str> {
        Self::NAMES.into_iter().filter(|name| self.named(name).is_some_and(|on| *on)).collect()
    }

    /// Takes one away, by the place of its name. Whether it was there.
    pub(crate) fn take(&mut self, place: usize) -> bool {
        Self::NAMES.get(place).and_then(|name| self.named(name)).is_some_and(std::mem::take)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_has_its_name() {
        let mut faults = Faults::ALL;
        assert_eq!(faults.names(), Faults::NAMES);
        assert!((0..Faults::NAMES.len()).all(|place| faults.take(place)));
        assert_eq!(faults, Faults::NONE);
        assert_eq!(faults.named("earthquakes"), None);
    }
}
