//! Finds a cycle, and one that is short enough to be read.

use std::collections::VecDeque;

use super::adjacency::Adjacency;

/// Nodes that need each other, so that none of them could ever start.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the tasks need each other in a circle: {}", path.join(" -> "))]
pub struct CycleError {
    /// The ids on the cycle in the direction of the data, the first one repeated at the end: `a`, `b`, `a`.
    pub path: Vec<String>,
}

/// From so many nodes of the first cycle found, a shorter one is looked for.
const SHORTENING_STARTS: usize = 16;

/// A cycle in the graph of the nodes `0..node_count` and the edges `(source, target)`, if there is one: its nodes in
/// the direction of the edges, each once, the lowest index first.
///
/// The cycle is short, though not always the shortest of all: it is the shortest through any of 16 nodes of the
/// first cycle found. Edges from or to a node outside the range are part of no cycle. Takes time in proportion to
/// nodes and edges.
pub fn find_cycle(node_count: usize, edges: &[(u32, u32)]) -> Option<Vec<u32>> {
    let known = |node: u32| (node as usize) < node_count;
    let edges = || edges.iter().copied().filter(|&(source, target)| known(source) && known(target));
    let successors = Adjacency::new(node_count, edges());
    let stuck = stuck_nodes(node_count, &successors);
    let any = cycle_among(&stuck, edges(), node_count)?;
    let shortest = any
        .iter()
        .take(SHORTENING_STARTS)
        .filter_map(|&node| shortest_through(node, &successors, &stuck))
        .min_by_key(Vec::len)
        .unwrap_or(any);
    Some(lowest_first(shortest))
}

/// Marks the nodes that Kahn's algorithm cannot take away: those on cycles and those behind them.
fn stuck_nodes(node_count: usize, successors: &Adjacency) -> Vec<bool> {
    let mut waiting = vec![0_u32; node_count];
    for &target in successors.all() {
        waiting[target as usize] += 1;
    }
    let mut ready: Vec<u32> =
        (0_u32..).zip(&waiting).filter(|(_, count)| **count == 0).map(|(node, _)| node).collect();
    while let Some(node) = ready.pop() {
        for &target in successors.of(node) {
            waiting[target as usize] -= 1;
            if waiting[target as usize] == 0 {
                ready.push(target);
            }
        }
    }
    waiting.into_iter().map(|count| count > 0).collect()
}

/// Walks against the edges. Every stuck node has a stuck predecessor, so the walk must come back to itself.
fn cycle_among(
    stuck: &[bool],
    edges: impl Iterator<Item = (u32, u32)>,
    node_count: usize,
) -> Option<Vec<u32>> {
    const NONE: u32 = u32::MAX;
    let mut predecessor = vec![NONE; node_count];
    for (source, target) in edges {
        if stuck[source as usize] && predecessor[target as usize] == NONE {
            predecessor[target as usize] = source;
        }
    }
    let mut node = (0_u32..).zip(stuck).find(|(_, stuck)| **stuck)?.0;
    let mut place = vec![NONE; node_count];
    let mut walk: Vec<u32> = Vec::new();
    while place[node as usize] == NONE {
        place[node as usize] = super::adjacency::index(walk.len());
        walk.push(node);
        node = predecessor[node as usize];
        if node == NONE {
            return None;
        }
    }
    let mut cycle = walk.split_off(place[node as usize] as usize);
    cycle.reverse();
    Some(cycle)
}

/// Breadth-first search from the node back to itself.
fn shortest_through(start: u32, successors: &Adjacency, stuck: &[bool]) -> Option<Vec<u32>> {
    let mut reached_from: Vec<Option<u32>> = vec![None; stuck.len()];
    let mut queue = VecDeque::from([start]);
    while let Some(node) = queue.pop_front() {
        for &target in successors.of(node) {
            if target == start {
                let mut cycle = vec![node];
                let mut at = node;
                while at != start {
                    at = reached_from[at as usize]?;
                    cycle.push(at);
                }
                cycle.reverse();
                return Some(cycle);
            }
            if stuck[target as usize] && reached_from[target as usize].is_none() {
                reached_from[target as usize] = Some(node);
                queue.push_back(target);
            }
        }
    }
    None
}

fn lowest_first(mut cycle: Vec<u32>) -> Vec<u32> {
    if let Some((place, _)) = cycle.iter().enumerate().min_by_key(|(_, node)| **node) {
        cycle.rotate_left(place);
    }
    cycle
}
