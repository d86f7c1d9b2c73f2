//! What is kept by run: in which part it is, and in which bucket of a table.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use crate::id::RunId;

/// A table by run. The ids of runs are made by this program and end with random bits, so that they need no hashing
/// that is safe against chosen keys.
pub type ByRun<V> = HashMap<RunId, V, BuildHasherDefault<RunHasher>>;

/// Which of `parts` a run belongs to.
pub fn part_of(run_id: RunId, parts: usize) -> usize {
    // The remainder is below `parts`.
    (random_bits(run_id.as_bytes()) % (parts.max(1) as u64)) as usize
}

/// The last eight bytes. The later they are in a UUID version 7, the more of them is random: it begins with the time, and
/// then it counts.
fn random_bits(id: &[u8]) -> u64 {
    id.iter().skip(id.len().saturating_sub(8)).fold(0, |bits, byte| bits << 8 | u64::from(*byte))
}

/// Hashes what holds the id of a run.
#[derive(Debug, Default, Clone, Copy)]
pub struct RunHasher(u64);

/// 2^64 divided by the golden ratio: spreads what was mixed in over all bits (Knuth, The Art of Computer Programming 3, 6.4).
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

impl Hasher for RunHasher {
    fn write(&mut self, bytes: &[u8]) {
        self.write_u64(random_bits(bytes));
    }

    fn write_u32(&mut self, number: u32) {
        self.write_u64(number.into());
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = (self.0.rotate_left(5) ^ number).wrapping_mul(SPREAD);
    }

    fn write_usize(&mut self, _length: usize) {}

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::hash::{BuildHasher, BuildHasherDefault};

    use super::*;

    #[test]
    fn runs_are_spread_over_parts_and_buckets() {
        let runs: Vec<_> = (0..4000).map(|_| RunId::new()).collect();
        for parts in 1..=7 {
            let mut counts = vec![0; parts];
            runs.iter().for_each(|run| counts[part_of(*run, parts)] += 1);
            assert!(counts.iter().all(|count| count * parts > 3000), "{counts:?}");
        }
        let hasher = BuildHasherDefault::<RunHasher>::default();
        // Tables take the lowest bits for the bucket and the highest to tell its entries apart.
        for bits in [|hash: u64| hash & 0xfff, |hash| hash >> 52] {
            let buckets: HashSet<_> = runs.iter().map(|run| bits(hasher.hash_one(run))).collect();
            assert!(buckets.len() > 2000, "{} of 4096 buckets", buckets.len());
            let attempts = (0..4000_u32).map(|step| bits(hasher.hash_one((runs[0], step, 1_u32))));
            assert!(attempts.collect::<HashSet<_>>().len() > 2000);
        }
    }
}
