//! On which thread each shard worked last, so that what begins on a thread is given to a shard that is there.
//!
//! Two processors that take turns at the memory of one shard are hardly faster than one. Shards go where they are woken;
//! new runs go to the shard that is near, and so keep it there.

use std::sync::atomic::{AtomicUsize, Ordering};

/// Where all shards are.
#[derive(Debug)]
pub(crate) struct Homes(Box<[Home]>);

/// The number of the thread on which a shard worked last, and the runs that it drives.
#[derive(Debug)]
struct Home {
    thread: AtomicUsize,
    runs: AtomicUsize,
}

/// Runs that a shard may drive, and times as many as the one that drives fewest, before new ones are given to others: runs
/// may last, and stay with their shard.
const MANY: usize = 256;
const TIMES: usize = 2;

/// No thread has this number.
const NOWHERE: usize = usize::MAX;

impl Homes {
    pub(crate) fn new(shards: usize) -> Self {
        Self(
            (0..shards)
                .map(|_| Home { thread: AtomicUsize::new(NOWHERE), runs: AtomicUsize::new(0) })
                .collect(),
        )
    }

    /// Notes that the shard works on this thread, and drives so many runs.
    pub(crate) fn note(&self, shard: usize, runs: usize) {
        let Some(home) = self.0.get(shard) else { return };
        // What others look at is written only where it has changed.
        for (place, now) in [(&home.thread, this_thread()), (&home.runs, runs)] {
            if place.load(Ordering::Relaxed) != now {
                place.store(now, Ordering::Relaxed);
            }
        }
    }

    /// A shard that worked last on this thread; else one that shares its thread with another, which it may leave to that
    /// one. None: there is neither, or none that `has_room`.
    pub(crate) fn near(&self, has_room: impl Fn(usize) -> bool) -> Option<usize> {
        let (here, homes) = (this_thread(), &*self.0);
        let thread = |shard: usize| homes[shard].thread.load(Ordering::Relaxed);
        let runs = |shard: usize| homes[shard].runs.load(Ordering::Relaxed);
        let fewest = (0..homes.len()).map(runs).min().unwrap_or(0);
        let may = |shard: usize| runs(shard) <= MANY.max(TIMES * fewest) && has_room(shard);
        let is_second = |shard: usize| (0..shard).any(|other| thread(other) == thread(shard));
        let near = (0..homes.len()).find(|shard| thread(*shard) == here && may(*shard));
        near.or_else(|| (1..homes.len()).find(|shard| is_second(*shard) && may(*shard)))
    }
}

/// A number that no other thread of this process has.
fn this_thread() -> usize {
    static THREADS: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static NUMBER: usize = THREADS.fetch_add(1, Ordering::Relaxed);
    }
    NUMBER.with(|number| *number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_begins_on_a_thread_goes_to_the_shard_that_is_there() {
        let homes = Homes::new(3);
        assert_eq!(homes.near(|_| true), Some(1), "nobody has worked yet: any but the first");
        homes.note(0, 0);
        assert_eq!(homes.near(|_| true), Some(0));
        homes.note(2, 0);
        assert_eq!(homes.near(|shard| shard != 0), Some(2), "where the first is full");
        std::thread::scope(|scope| {
            let elsewhere = scope.spawn(|| {
                let before = homes.near(|_| true);
                homes.note(2, 0);
                (before, homes.near(|_| true))
            });
            assert_eq!(elsewhere.join().unwrap(), (Some(2), Some(2)), "it leaves the other to its thread");
        });
        assert_eq!(homes.near(|_| true), Some(0));
        assert_eq!(homes.near(|_| false), None);
        homes.note(0, MANY + 1);
        assert_ne!(homes.near(|_| true), Some(0), "it drives many, and others none");
        assert_eq!(Homes::new(1).near(|_| true), None);
    }
}
