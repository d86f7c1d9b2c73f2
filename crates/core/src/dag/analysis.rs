//! What holds a run up: the critical path and the slack of everything else.

use super::Dag;
use super::adjacency::index;

/// The longest path through a graph.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct CriticalPath {
    /// The nodes on it, from one that needs nothing to one that nobody needs; empty for an empty graph.
    pub path: Vec<u32>,
    /// What it is the longest by.
    pub weight: Weight,
    /// The sum of the durations on it, in milliseconds; none where edges were counted.
    pub duration_ms: Option<u64>,
    /// By node: how much later it could start without making the whole longer. In milliseconds, or in edges where
    /// edges were counted; 0 on the path.
    pub slack: Vec<u64>,
}

/// What a path is measured by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Weight {
    /// The number of its edges.
    Edges,
    /// The sum of the durations of its nodes.
    Duration,
}

impl Weight {
    /// The name as JSON has it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Edges => "edges",
            Self::Duration => "duration",
        }
    }
}

impl Dag {
    /// The longest path, and the slack of every node.
    ///
    /// Without weights it is the path with the most edges. With weights, which are durations in milliseconds by
    /// node (a missing one counts 0), it is the path that takes longest. Of several, it is the one that comes first
    /// when they are compared node by node in the order of the definition.
    ///
    /// Slack is the latest start less the earliest start, by the forward and backward pass of the critical path
    /// method (Kelley and Walker, "Critical-Path Planning and Scheduling", 1959), with nothing but the edges to
    /// hold a node up. Sums that do not fit into 64 bits stop at the largest number.
    pub fn critical_path(&self, weights: Option<&[u64]>) -> CriticalPath {
        // A path of k edges has k + 1 nodes, so counting nodes ranks paths as counting edges does.
        let weight_of = |node: u32| match weights {
            Some(weights) => weights.get(node as usize).copied().unwrap_or(0),
            None => 1,
        };
        let count = self.nodes().len();
        let mut head = vec![0_u64; count];
        for &node in self.topological_order() {
            let finish = |source: &u32| head[*source as usize].saturating_add(weight_of(*source));
            head[node as usize] = self.predecessors(node).iter().map(finish).max().unwrap_or(0);
        }
        let mut tail = vec![0_u64; count];
        for &node in self.topological_order().iter().rev() {
            let after = self.successors(node).iter().map(|target| tail[*target as usize]).max().unwrap_or(0);
            tail[node as usize] = after.saturating_add(weight_of(node));
        }
        let total = tail.iter().copied().max().unwrap_or(0);
        let slack =
            head.iter().zip(&tail).map(|(head, tail)| total.saturating_sub(head.saturating_add(*tail)));
        CriticalPath {
            path: self.longest_path(&tail),
            weight: if weights.is_some() { Weight::Duration } else { Weight::Edges },
            duration_ms: weights.map(|_| total),
            slack: slack.collect(),
        }
    }

    /// Follows the largest tail from a root, the lowest index among equals, down to a node without successors.
    fn longest_path(&self, tail: &[u64]) -> Vec<u32> {
        let first_longest = |nodes: &mut dyn Iterator<Item = u32>| {
            nodes.reduce(|best, node| if tail[node as usize] > tail[best as usize] { node } else { best })
        };
        let roots = (0..index(tail.len())).filter(|node| self.predecessors(*node).is_empty());
        let mut path = Vec::new();
        let mut next = first_longest(&mut { roots });
        while let Some(node) = next {
            path.push(node);
            next = first_longest(&mut self.successors(node).iter().copied());
        }
        path
    }
}
