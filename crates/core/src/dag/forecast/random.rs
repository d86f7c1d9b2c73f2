//! Numbers that look random and are the same each time.

use crate::random::SplitMix64;

#[derive(Debug)]
pub(super) struct Random(SplitMix64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(SplitMix64::new(seed))
    }

    /// A number below `bound`; 0 for 0.
    pub(super) fn below(&mut self, bound: usize) -> usize {
        // The upper half of the product: as even as 64 bits are, without a division.
        ((u128::from(self.0.next_number()) * bound as u128) >> 64) as usize
    }
}
