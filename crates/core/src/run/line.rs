//! A line of step runs that wait to start.

use std::collections::VecDeque;

/// Who came first is at the front. Whoever leaves out of turn leaves a gap, so that leaving costs the same everywhere.
#[derive(Debug, Clone, Default)]
pub(super) struct Line {
    /// The first one is never a gap.
    waiting: VecDeque<Option<u32>>,
    /// How many have left the front, round and round.
    left: u32,
}

impl Line {
    /// Puts a step run at the end, and tells its place for when it leaves.
    pub(super) fn push(&mut self, id: u32) -> u32 {
        let place = self.left.wrapping_add(crate::plan::index(self.waiting.len()));
        self.waiting.push_back(Some(id));
        place
    }

    /// Who is next.
    pub(super) fn front(&self) -> Option<u32> {
        self.waiting.front().copied().flatten()
    }

    /// Takes the one at a place out.
    pub(super) fn remove(&mut self, place: u32) {
        if let Some(id) = self.waiting.get_mut(place.wrapping_sub(self.left) as usize) {
            *id = None;
        }
        while self.waiting.front() == Some(&None) {
            self.waiting.pop_front();
            self.left = self.left.wrapping_add(1);
        }
    }
}

#[cfg(test)]
impl Line {
    /// Everyone, in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = u32> {
        self.waiting.iter().copied().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_leaves_out_of_turn_changes_nothing_for_the_others() {
        let mut line = Line { left: u32::MAX - 1, ..Line::default() };
        let places: Vec<_> = (0..6).map(|id| line.push(id)).collect();
        for (leaves, next) in
            [(3, Some(0)), (0, Some(1)), (2, Some(1)), (1, Some(4)), (5, Some(4)), (4, None)]
        {
            line.remove(places[leaves]);
            assert_eq!(line.front(), next, "after {leaves} has left");
        }
        let place = line.push(7);
        assert_eq!(line.front(), Some(7));
        line.remove(place);
        assert!(line.waiting.is_empty(), "nothing is kept of those who have left");
    }
}
