//! Who is next to whom, in one list.

/// Neighbours of every node in one list, ascending, each once.
#[derive(Debug, Clone, Default)]
pub(super) struct Adjacency {
    ends: Vec<usize>,
    neighbours: Vec<u32>,
}

impl Adjacency {
    /// From pairs `(node, neighbour)` with both below `count`. Two counting passes order them without comparing.
    pub(super) fn new(count: usize, pairs: impl Iterator<Item = (u32, u32)> + Clone) -> Self {
        let by_neighbour = bucket(count, pairs.map(|(node, neighbour)| (neighbour, node)));
        let by_node = bucket(count, by_neighbour.into_iter().map(|(neighbour, node)| (node, neighbour)));
        let mut ends = vec![0; count];
        let mut neighbours = Vec::with_capacity(by_node.len());
        let mut last = None;
        for pair in by_node {
            if last != Some(pair) {
                neighbours.push(pair.1);
                last = Some(pair);
            }
            ends[pair.0 as usize] = neighbours.len();
        }
        for node in 1..count {
            ends[node] = ends[node].max(ends[node - 1]);
        }
        Self { ends, neighbours }
    }

    pub(super) fn of(&self, node: u32) -> &[u32] {
        let node = node as usize;
        let Some(&end) = self.ends.get(node) else { return &[] };
        let start = if node == 0 { 0 } else { self.ends[node - 1] };
        &self.neighbours[start..end]
    }

    pub(super) fn all(&self) -> &[u32] {
        &self.neighbours
    }
}

/// Orders pairs by their first element, keeping the order of equals.
fn bucket(count: usize, pairs: impl Iterator<Item = (u32, u32)> + Clone) -> Vec<(u32, u32)> {
    let mut next = vec![0_usize; count + 1];
    for (key, _) in pairs.clone() {
        next[key as usize + 1] += 1;
    }
    for key in 0..count {
        next[key + 1] += next[key];
    }
    let mut ordered = vec![(0, 0); next[count]];
    for pair in pairs {
        let place = &mut next[pair.0 as usize];
        ordered[*place] = pair;
        *place += 1;
    }
    ordered
}

/// Nodes are counted in 32 bits; more of them would not fit into memory.
pub(super) fn index(position: usize) -> u32 {
    u32::try_from(position).unwrap_or(u32::MAX)
}
