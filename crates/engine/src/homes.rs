//! On which thread each shard worked last, so that what begins on a thread is given to a shard that is there.
//!
//! Two processors that take turns at the memory of one shard are hardly faster than one. Shards go where they are woken;
//! new runs go to the shard that is near, and so keep it there.

use std::sync::atomic::{AtomicUsize, Ordering};

/// The threads of all shards, by their numbers.
#[derive(Debug)]
pub(crate) struct Homes(Box<[AtomicUsize]>);

/// No thread has this number.
const NOWHERE: usize = usize::MAX;

impl Homes {
    pub(crate) fn new(shards: usize) -> Self {
        Self((0..shards).map(|_| AtomicUsize::new(NOWHERE)).collect())
    }

    /// Notes that the shard works on this thread.
    pub(crate) fn note(&self, shard: usize) {
        let thread = this_thread();
        if let Some(home) = self.0.get(shard)
            && home.load(Ordering::Relaxed) != thread
        {
            home.store(thread, Ordering::Relaxed);
        }
    }

    /// A shard that worked last on this thread; else one that shares its thread with another, which it may leave to that
    /// one. None: there is neither, or none that `has_room`.
    pub(crate) fn near(&self, has_room: impl Fn(usize) -> bool) -> Option<usize> {
        let (thread, homes) = (this_thread(), &*self.0);
        let home = |shard: usize| homes[shard].load(Ordering::Relaxed);
        let here = (0..homes.len()).find(|shard| home(*shard) == thread && has_room(*shard));
        let is_second = |shard: &usize| (0..*shard).any(|other| home(other) == home(*shard));
        here.or_else(|| (1..homes.len()).find(|shard| is_second(shard) && has_room(*shard)))
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
        homes.note(0);
        assert_eq!(homes.near(|_| true), Some(0));
        homes.note(2);
        assert_eq!(homes.near(|shard| shard != 0), Some(2), "where the first is full");
        std::thread::scope(|scope| {
            let elsewhere = scope.spawn(|| {
                let before = homes.near(|_| true);
                homes.note(2);
                (before, homes.near(|_| true))
            });
            assert_eq!(elsewhere.join().unwrap(), (Some(2), Some(2)), "it leaves the other to its thread");
        });
        assert_eq!(homes.near(|_| true), Some(0));
        assert_eq!(homes.near(|_| false), None);
        assert_eq!(Homes::new(1).near(|_| true), None);
    }
}
