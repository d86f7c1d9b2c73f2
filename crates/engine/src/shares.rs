//! How room that all pipelines use is shared out among them.
//!
//! A pipeline may take more as long as it does not come to have more than would still be free: alone it takes half of the
//! room, two greedy ones a third each, and something is always left for one that has nothing (the dynamic thresholds by
//! which switches share out their memory: Choudhury and Hahne, 1998). So nothing that is there already must go for it.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::Hash;

/// What each has of one room, by the name of its pipeline.
#[derive(Debug)]
pub(crate) struct Shares<K> {
    room: u64,
    taken: u64,
    of: HashMap<K, u64>,
}

impl<K: Eq + Hash> Shares<K> {
    /// Of so much room.
    pub(crate) fn new(room: u64) -> Self {
        Self { room, taken: 0, of: HashMap::new() }
    }

    /// Whether the pipeline may have so much more.
    pub(crate) fn has_room<Q: Eq + Hash + ?Sized>(&self, pipeline: &Q, amount: u64) -> bool
    where
        K: Borrow<Q>,
    {
        let own = self.of.get(pipeline).copied().unwrap_or_default();
        own.saturating_add(amount) <= self.room.saturating_sub(self.taken)
    }

    /// Counts so much more, whether or not there is room for it.
    pub(crate) fn add<Q: Eq + Hash + ToOwned<Owned = K> + ?Sized>(&mut self, pipeline: &Q, amount: u64)
    where
        K: Borrow<Q>,
    {
        if amount > 0 {
            self.taken += amount;
            *self.of.entry(pipeline.to_owned()).or_default() += amount;
        }
    }

    /// Counts so much less; what was never added is not taken off.
    pub(crate) fn remove<Q: Eq + Hash + ?Sized>(&mut self, pipeline: &Q, amount: u64)
    where
        K: Borrow<Q>,
    {
        let Some(own) = self.of.get_mut(pipeline) else { return };
        let amount = amount.min(*own);
        *own -= amount;
        self.taken -= amount;
        if *own == 0 {
            self.of.remove(pipeline);
        }
    }

    /// Whether the pipeline has nothing of it.
    pub(crate) fn has_none<Q: Eq + Hash + ?Sized>(&self, pipeline: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        !self.of.contains_key(pipeline)
    }

    /// How much all of them have.
    pub(crate) fn taken(&self) -> u64 {
        self.taken
    }
}

#[cfg(test)]
mod tests {
    use taskiq_flow_core::id::PipelineId;

    use super::*;

    fn id(text: &str) -> PipelineId {
        text.parse().unwrap()
    }

    /// Takes one at a time, as often as it may.
    fn fill(shares: &mut Shares<PipelineId>, pipeline: &PipelineId) -> u64 {
        let mut count = 0;
        while shares.has_room(pipeline, 1) {
            shares.add(pipeline, 1);
            count += 1;
        }
        count
    }

    #[test]
    fn who_is_greedy_leaves_something_to_those_who_have_nothing() {
        let mut shares = Shares::new(100);
        assert_eq!(fill(&mut shares, &id("a")), 50);
        assert_eq!(fill(&mut shares, &id("b")), 25);
        assert_eq!(fill(&mut shares, &id("c")), 13);
        // What is let go of comes to those who have less.
        shares.remove(&id("a"), 30);
        assert_eq!((fill(&mut shares, &id("a")), fill(&mut shares, &id("c"))), (11, 9));
        assert!(shares.has_room(&id("d"), 1));
    }

    #[test]
    fn small_rooms_and_large_amounts() {
        for (room, alone) in [(0, 0), (1, 1), (2, 1), (3, 2)] {
            assert_eq!(fill(&mut Shares::new(room), &id("a")), alone, "{room}");
        }
        let mut shares = Shares::new(10);
        assert!(shares.has_room(&id("a"), 10) && !shares.has_room(&id("a"), 11));
        assert!(!shares.has_room(&id("a"), u64::MAX));
        shares.add(&id("a"), 20);
        assert!(!shares.has_room(&id("b"), 1));
        shares.remove(&id("b"), 5);
        shares.remove(&id("a"), 25);
        shares.remove(&id("a"), 1);
        assert_eq!((shares.taken(), shares.of.len()), (0, 0));
    }
}
