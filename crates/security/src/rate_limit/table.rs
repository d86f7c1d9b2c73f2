//! The buckets of one process, in memory that an address scan cannot grow.

use std::hash::{BuildHasher, RandomState};

use hashbrown::HashTable;
use parking_lot::Mutex;

use super::gcra::{Decision, gcra, gcra_peek};
use super::limit::{Limit, MAX_PARTS};

/// Longer keys are kept as a digest, so that a key cannot outgrow the memory bound.
pub(super) const MAX_KEY_BYTES: usize = 160;

pub(super) const SHARDS: usize = 16;
/// One part in eight of a full shard goes at once, which makes an insertion constant time on average.
const EVICTED_PART: usize = 8;

/// Most bytes that one bucket takes: its slot in a hash table that is at least half full, with a byte of the table's own,
/// and on the heap a key and as many stamps as a limit can have, each with an allocator's header and rounding.
pub(super) const MAX_ENTRY_BYTES: usize =
    2 * (size_of::<Entry>() + 1) + MAX_KEY_BYTES + MAX_PARTS * size_of::<Bucket>() + 2 * 16;

/// Buckets by key. Full, it forgets those that are full again, and then those that have the least taken: to
/// reset a bucket that is empty, an attacker must first empty nearly as many others as the table holds.
pub(crate) struct Table {
    shards: Vec<Mutex<Shard>>,
    hasher: RandomState,
    per_shard: usize,
}

/// The hash of a key finds its shard and its place there: it is made once.
type Shard = HashTable<Entry>;

struct Entry {
    key: Box<str>,
    buckets: Box<[Bucket]>,
}

#[derive(Clone, Copy)]
struct Bucket {
    tat_ns: u64,
    tolerance_ns: u64,
}

impl Table {
    pub(crate) fn new(max_entries: usize) -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            hasher: RandomState::new(),
            per_shard: (max_entries / SHARDS).max(EVICTED_PART),
        }
    }

    /// Takes one request from every quota of `limit`, or from none of them.
    pub(crate) fn check(&self, key: &str, limit: &Limit, now_ns: u64) -> Decision {
        let hash = self.hasher.hash_one(key);
        let mut shard = self.shard(hash).lock();
        if let Some(Entry { buckets, .. }) = shard.find_mut(hash, |entry| *entry.key == *key) {
            let decision = ask(buckets, limit, now_ns);
            if decision.allowed {
                if buckets.len() == limit.quotas().len() {
                    take(buckets, limit, now_ns);
                } else {
                    *buckets = taken_from(buckets, limit, now_ns);
                }
            }
            return decision;
        }
        let decision = ask(&[], limit, now_ns);
        if decision.allowed {
            if shard.len() >= self.per_shard {
                evict(&mut shard, now_ns);
            }
            let entry = Entry { key: key.into(), buckets: taken_from(&[], limit, now_ns) };
            shard.insert_unique(hash, entry, |entry| self.hasher.hash_one(&*entry.key));
        }
        decision
    }

    /// What [`Table::check`] would say; takes nothing and remembers nothing.
    pub(crate) fn peek(&self, key: &str, limit: &Limit, now_ns: u64) -> Decision {
        let hash = self.hasher.hash_one(key);
        let shard = self.shard(hash).lock();
        let old = shard.find(hash, |entry| *entry.key == *key).map_or(&[][..], |entry| &entry.buckets);
        let decisions = limit.quotas().enumerate().map(|(i, q)| gcra_peek(now_ns, stamp(old, i), q));
        tightest(decisions, limit)
    }

    pub(crate) fn len(&self) -> usize {
        self.shards.iter().map(|s| s.lock().len()).sum()
    }

    fn shard(&self, hash: u64) -> &Mutex<Shard> {
        // Bits that the table of a shard looks at last; the remainder keeps the index inside the vector.
        &self.shards[(hash >> 40) as usize % SHARDS]
    }
}

/// What all quotas together say to one request.
fn ask(buckets: &[Bucket], limit: &Limit, now_ns: u64) -> Decision {
    tightest(limit.quotas().enumerate().map(|(i, quota)| gcra(now_ns, stamp(buckets, i), quota).1), limit)
}

/// Takes a request that was allowed from each bucket; there is one for each quota.
fn take(buckets: &mut [Bucket], limit: &Limit, now_ns: u64) {
    for (bucket, quota) in buckets.iter_mut().zip(limit.quotas()) {
        let (tat_ns, _) = gcra(now_ns, bucket.tat_ns, quota);
        *bucket = Bucket { tat_ns, tolerance_ns: quota.tolerance_ns() };
    }
}

/// New buckets of a request that was allowed, going on from the old ones.
fn taken_from(old: &[Bucket], limit: &Limit, now_ns: u64) -> Box<[Bucket]> {
    let empty = |i| Bucket { tat_ns: stamp(old, i), tolerance_ns: 0 };
    let mut buckets: Box<[Bucket]> = (0..limit.quotas().len()).map(empty).collect();
    take(&mut buckets, limit, now_ns);
    buckets
}

fn stamp(old: &[Bucket], part: usize) -> u64 {
    old.get(part).map_or(0, |bucket| bucket.tat_ns)
}

pub(crate) fn tightest(decisions: impl Iterator<Item = Decision>, limit: &Limit) -> Decision {
    decisions
        .reduce(Decision::tighter)
        // A limit has at least one part; without any, refusing is the side to err on.
        .unwrap_or_else(|| Decision::refused(limit, std::time::Duration::from_secs(1)))
}

fn evict(shard: &mut Shard, now_ns: u64) {
    let before = shard.len();
    shard.retain(|entry| used(&entry.buckets, now_ns) > 0);
    let free = before - shard.len();
    let wanted = before.div_ceil(EVICTED_PART);
    if free >= wanted {
        return;
    }
    let mut levels: Vec<u64> = shard.iter().map(|entry| used(&entry.buckets, now_ns)).collect();
    let mut left = wanted - free;
    let (_, bound, _) = levels.select_nth_unstable(left - 1);
    let bound = *bound;
    shard.retain(|entry| {
        let goes = left > 0 && used(&entry.buckets, now_ns) <= bound;
        left -= usize::from(goes);
        !goes
    });
}

/// How much of the bucket is taken, in parts of 2^32: zero when it is full again. As shares fall with time,
/// the older of two equal users has the smaller one.
fn used(buckets: &[Bucket], now_ns: u64) -> u64 {
    let share = |b: &Bucket| {
        let ahead = u128::from(b.tat_ns.saturating_sub(now_ns));
        u64::try_from((ahead << 32).div_ceil(u128::from(b.tolerance_ns.max(1)))).unwrap_or(u64::MAX)
    };
    buckets.iter().map(share).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn limit(text: &str) -> Limit {
        text.parse().unwrap()
    }

    #[test]
    fn a_scan_neither_grows_the_table_nor_frees_a_limited_key() {
        let table = Table::new(1024);
        let ten = limit("10/minute");
        for _ in 0..10 {
            assert!(table.check("attacker", &ten, SECOND).allowed);
        }
        for address in 0..200_000u64 {
            assert!(table.check(&format!("scan {address}"), &ten, SECOND + address).allowed);
            if address % 1000 == 0 {
                assert!(!table.check("attacker", &ten, SECOND + address).allowed);
            }
        }
        assert!(table.len() <= 1024);
        assert!(!table.check("attacker", &ten, 2 * SECOND).allowed);
    }

    #[test]
    fn buckets_that_are_full_again_go_first() {
        let table = Table::new(SHARDS * 8);
        let one = limit("2/second");
        for n in 0..1000 {
            table.check(&format!("old {n}"), &one, 0);
        }
        for n in 0..40 {
            table.check(&format!("new {n}"), &limit("2/hour"), 5 * SECOND);
        }
        let kept =
            (0..40).filter(|n| table.peek(&format!("new {n}"), &limit("2/hour"), 5 * SECOND).remaining == 1);
        // A shard keeps at least seven of its eight, whatever else comes.
        assert!(kept.count() >= 30);
        assert!(table.len() <= SHARDS * 8);
    }

    #[test]
    fn several_parts_are_taken_together_or_not_at_all() {
        let table = Table::new(100);
        let both = limit("2/second;3/minute");
        assert!(table.check("k", &both, 0).allowed);
        assert!(table.check("k", &both, 0).allowed);
        let d = table.check("k", &both, 0);
        assert_eq!((d.allowed, d.limit), (false, 2));
        // The refusals above took nothing from the second part: one of its three is left.
        let d = table.check("k", &both, SECOND);
        assert_eq!((d.allowed, d.limit, d.remaining), (true, 3, 0));
        let d = table.check("k", &both, SECOND);
        assert_eq!((d.allowed, d.window.as_secs()), (false, 60));
    }

    #[test]
    fn peek_takes_and_keeps_nothing() {
        let table = Table::new(100);
        let one = limit("1/minute");
        for _ in 0..3 {
            assert!(table.peek("k", &one, 0).allowed);
        }
        assert_eq!(table.len(), 0);
        assert!(table.check("k", &one, 0).allowed);
        assert!(!table.peek("k", &one, 0).allowed);
    }

    #[test]
    fn a_refused_newcomer_is_impossible_and_a_refused_caller_is_not_stored_twice() {
        let table = Table::new(100);
        let one = limit("1/minute");
        table.check("k", &one, 0);
        for _ in 0..50 {
            table.check("k", &one, 1);
        }
        assert_eq!(table.len(), 1);
    }
}
