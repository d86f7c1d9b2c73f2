//! Numbers that follow from a seed, the same on every machine and in every version.

use std::time::Duration;

use taskiq_flow_core::random::SplitMix64;

/// What is drawn from them.
#[derive(Debug, Clone)]
pub(crate) struct Random(SplitMix64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(SplitMix64::new(seed))
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0.next_number()
    }

    /// A number below `end`; 0 where there is none.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        let end = u64::try_from(end).unwrap_or(u64::MAX).max(1);
        usize::try_from(self.next() % end).unwrap_or(0)
    }

    /// True so many times out of a thousand.
    pub(crate) fn permille(&mut self, chance: u64) -> bool {
        self.next() % 1000 < chance
    }

    /// One of these.
    pub(crate) fn pick<'a, T>(&mut self, choices: &'a [T]) -> Option<&'a T> {
        choices.get(self.below(choices.len()))
    }

    /// A time between a millisecond and ten minutes: short ones as often as long ones.
    pub(crate) fn duration(&mut self) -> Duration {
        let magnitude = 1_u64 << self.below(20);
        Duration::from_millis((magnitude + self.next() % magnitude).min(600_000))
    }
}
