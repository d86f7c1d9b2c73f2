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

/// The id that differs from `run_id` in its last bits at most and belongs to that part of `parts`.
pub fn in_part(run_id: RunId, part: usize, parts: usize) -> RunId {
    let (part, parts) = (part as u64, parts.max(1) as u64);
    let mut bytes = *run_id.as_bytes();
    let bits = random_bits(&bytes);
    let first = bits - bits % parts;
    // The last one of the range may end before that part.
    let bits = first.checked_add(part % parts).unwrap_or(first - parts + part % parts);
    bytes[8..].copy_from_slice(&bits.to_be_bytes());
    RunId::from_bytes(bytes)
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
        for (run, parts) in runs.iter().zip((1..=7).cycle()) {
            let moved: HashSet<_> = (0..parts).map(|part| in_part(*run, part, parts)).collect();
            assert!((0..parts).all(|part| part_of(in_part(*run, part, parts), parts) == part));
            assert_eq!(moved.len(), parts);
            assert!(moved.iter().all(|moved| moved.as_bytes()[..8] == run.as_bytes()[..8]));
        }
        let last = RunId::from_bytes([u8::MAX; 16]);
        assert!((0..7).all(|part| part_of(in_part(last, part, 7), 7) == part));
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
