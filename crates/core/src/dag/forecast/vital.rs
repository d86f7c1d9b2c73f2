//! What to speed up first where nothing but the edges holds a node up.

use std::collections::BinaryHeap;

use super::super::Dag;
use super::ranked;

impl Dag {
    /// By how many milliseconds the longest path would be shorter if a node took no time: nodes that gain something, the
    /// largest gain first. `weights` are durations in milliseconds by node; a missing one counts 0.
    ///
    /// Exact, and for all nodes at once: without the node the longest path either goes through it and takes its duration
    /// less, or it passes it by. In a topological order the paths that pass a place by end before it, begin behind it, or
    /// have an edge that leaps over it, and the longest such edge is kept in a heap while the places are gone through
    /// (after Malik, Mittal and Gupta, "The k most vital arcs in the shortest path problem", 1989).
    pub fn speed_up(&self, weights: &[u64]) -> Vec<(u32, u64)> {
        let weight_of = |node: u32| weights.get(node as usize).copied().unwrap_or(0);
        let order = self.topological_order();
        let mut place_of = vec![0_usize; order.len()];
        for (place, node) in order.iter().enumerate() {
            place_of[*node as usize] = place;
        }
        // The longest path that ends with a node, and the longest that begins with it.
        let (mut head, mut tail) = (vec![0_u64; order.len()], vec![0_u64; order.len()]);
        for &node in order {
            let before = self.predecessors(node).iter().map(|source| head[*source as usize]).max();
            head[node as usize] = before.unwrap_or(0).saturating_add(weight_of(node));
        }
        for &node in order.iter().rev() {
            let after = self.successors(node).iter().map(|target| tail[*target as usize]).max();
            tail[node as usize] = after.unwrap_or(0).saturating_add(weight_of(node));
        }
        let total = tail.iter().copied().max().unwrap_or(0);
        // The longest path that begins behind a place.
        let mut behind = vec![0_u64; order.len() + 1];
        for (place, node) in order.iter().enumerate().rev() {
            behind[place] = behind[place + 1].max(tail[*node as usize]);
        }
        let mut leaps: BinaryHeap<(u64, usize)> = BinaryHeap::new();
        let mut before = 0;
        let mut gains = Vec::new();
        for (place, &node) in order.iter().enumerate() {
            while leaps.peek().is_some_and(|(_, end)| *end <= place) {
                leaps.pop();
            }
            let through = head[node as usize].saturating_add(tail[node as usize]);
            let through = through.saturating_sub(weight_of(node));
            if through == total && weight_of(node) > 0 {
                let over = leaps.peek().map_or(0, |(length, _)| *length);
                let without = before.max(over).max(behind[place + 1]).max(through - weight_of(node));
                gains.push((node, total.saturating_sub(without)));
            }
            before = before.max(head[node as usize]);
            for &target in
                self.successors(node).iter().filter(|target| place_of[**target as usize] > place + 1)
            {
                let length = head[node as usize].saturating_add(tail[target as usize]);
                leaps.push((length, place_of[target as usize]));
            }
        }
        ranked(gains)
    }
}
