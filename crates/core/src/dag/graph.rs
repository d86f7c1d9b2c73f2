//! The graph itself: nodes, edges, neighbours, levels.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::adjacency::{Adjacency, index};
use super::cycle::{CycleError, find_cycle};

/// One node: a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DagNode {
    /// Unique within the graph.
    pub id: String,
    /// What drawings show.
    pub label: String,
    /// The kind of task.
    pub kind: String,
    /// The names it is given.
    pub inputs: Vec<String>,
    /// The names it makes.
    pub outputs: Vec<String>,
}

/// One name that goes from the task that makes it to a task that needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DagEdge {
    /// Index of the node that makes it.
    pub source: u32,
    /// Index of the node that needs it.
    pub target: u32,
    /// The name.
    pub data: String,
}

/// A graph without cycles.
#[derive(Debug, Clone, Default)]
pub struct Dag {
    nodes: Vec<DagNode>,
    edges: Vec<DagEdge>,
    successors: Adjacency,
    predecessors: Adjacency,
    order: Vec<u32>,
    level_of: Vec<u32>,
    levels: Vec<Vec<u32>>,
}

/// Why nodes and edges are no [`Dag`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DagError {
    /// There is a cycle.
    #[error(transparent)]
    Cycle(#[from] CycleError),
    /// An edge ends at a node that does not exist.
    #[error("edge {edge} names node {node}, but there are only {count} nodes, counted from 0")]
    NoSuchNode {
        /// Index of the edge.
        edge: usize,
        /// The index it names.
        node: u32,
        /// The number of nodes.
        count: usize,
    },
}

impl DagNode {
    /// A node whose label is its id, without inputs, whose one output has its name.
    pub fn new(id: impl Into<String>, kind: impl Into<String>) -> Self {
        let id = id.into();
        Self { label: id.clone(), outputs: vec![id.clone()], id, kind: kind.into(), inputs: Vec::new() }
    }
}

impl Dag {
    /// Joins nodes by edges. Two nodes may be joined by several edges.
    ///
    /// # Errors
    /// A cycle, with its path; an edge from or to a node that does not exist.
    pub fn new(nodes: Vec<DagNode>, edges: Vec<DagEdge>) -> Result<Self, DagError> {
        let count = nodes.len();
        for (edge, ends) in edges.iter().enumerate() {
            if let Some(node) = [ends.source, ends.target].into_iter().find(|node| *node as usize >= count) {
                return Err(DagError::NoSuchNode { edge, node, count });
            }
        }
        let pairs: Vec<(u32, u32)> = edges.iter().map(|edge| (edge.source, edge.target)).collect();
        let successors = Adjacency::new(count, pairs.iter().copied());
        let predecessors = Adjacency::new(count, pairs.iter().map(|&(source, target)| (target, source)));
        let order = topological_order(&successors, &predecessors, count);
        if order.len() < count {
            let cycle = find_cycle(count, &pairs).unwrap_or_default();
            let path = cycle.iter().chain(cycle.first());
            let path = path.map(|node| nodes[*node as usize].id.clone()).collect();
            return Err(CycleError { path }.into());
        }
        let (level_of, levels) = levels(&order, &predecessors);
        Ok(Self { nodes, edges, successors, predecessors, order, level_of, levels })
    }

    /// The nodes, by index.
    pub fn nodes(&self) -> &[DagNode] {
        &self.nodes
    }

    /// The edges, as they were given.
    pub fn edges(&self) -> &[DagEdge] {
        &self.edges
    }

    /// The nodes that need this one, ascending, each once; nothing for an index that does not exist.
    pub fn successors(&self, node: u32) -> &[u32] {
        self.successors.of(node)
    }

    /// The nodes this one needs, ascending, each once; nothing for an index that does not exist.
    pub fn predecessors(&self, node: u32) -> &[u32] {
        self.predecessors.of(node)
    }

    /// The nodes of each level, ascending. Level 0 needs nothing; any other node is one level above the highest
    /// that it needs.
    pub fn levels(&self) -> &[Vec<u32>] {
        &self.levels
    }

    /// The level of a node; none for an index that does not exist.
    pub fn level_of(&self, node: u32) -> Option<u32> {
        self.level_of.get(node as usize).copied()
    }

    /// Every node after all that it needs; of those that could come next, the first of the definition comes
    /// (Kahn 1962, with a heap of the ready ones).
    pub fn topological_order(&self) -> &[u32] {
        &self.order
    }

    /// The ids of each level: what can run at once if every level waits for the one before.
    pub fn parallel_groups(&self) -> Vec<Vec<&str>> {
        let id = |node: &u32| self.nodes[*node as usize].id.as_str();
        self.levels.iter().map(|level| level.iter().map(id).collect()).collect()
    }
}

/// Shorter than `count` if there is a cycle.
fn topological_order(successors: &Adjacency, predecessors: &Adjacency, count: usize) -> Vec<u32> {
    let mut waiting: Vec<usize> = (0..index(count)).map(|node| predecessors.of(node).len()).collect();
    let mut ready: BinaryHeap<Reverse<u32>> =
        (0..index(count)).filter(|node| waiting[*node as usize] == 0).map(Reverse).collect();
    let mut order = Vec::with_capacity(count);
    while let Some(Reverse(node)) = ready.pop() {
        order.push(node);
        for &target in successors.of(node) {
            waiting[target as usize] -= 1;
            if waiting[target as usize] == 0 {
                ready.push(Reverse(target));
            }
        }
    }
    order
}

fn levels(order: &[u32], predecessors: &Adjacency) -> (Vec<u32>, Vec<Vec<u32>>) {
    let mut level_of = vec![0; order.len()];
    let mut depth = 0;
    for &node in order {
        let before = predecessors.of(node).iter().map(|source| level_of[*source as usize] + 1);
        let level = before.max().unwrap_or(0);
        level_of[node as usize] = level;
        depth = depth.max(level as usize + 1);
    }
    let mut levels = vec![Vec::new(); depth];
    for (node, level) in (0_u32..).zip(&level_of) {
        levels[*level as usize].push(node);
    }
    (level_of, levels)
}
