//! A graph in rows: which row a node is in, and in which order the nodes of a row stand.
//!
//! The method is that of Sugiyama, Tagawa and Toda ("Methods for Visual Understanding of Hierarchical System
//! Structures", 1981): rows by level, waypoints where a line passes a row, and sweeps that sort each row by the
//! barycentres of its neighbours. Where the vertices of a row stand is decided in [`super::place`].

use crate::dag::adjacency::index;

/// A graph in rows.
#[derive(Debug)]
pub(super) struct Layout {
    /// The nodes, by index, and after them the waypoints.
    pub(super) vertices: Vec<Vertex>,
    /// The vertices of each row, in order.
    pub(super) rows: Vec<Vec<u32>>,
    /// Edges that were given no waypoints, because a graph may have more of them than anything else.
    pub(super) unrouted: Vec<(u32, u32)>,
    nodes: u32,
    stems: Vec<Option<u32>>,
}

/// A node or a waypoint. All lines from one node share their waypoints, so these form a stem from which each target
/// branches off in the row before its own.
#[derive(Debug, Default)]
pub(super) struct Vertex {
    pub(super) row: u32,
    /// Neighbours in the row before.
    pub(super) up: Vec<u32>,
    /// Neighbours in the row after.
    pub(super) down: Vec<u32>,
}

impl Layout {
    /// From the level of each node, and its successors, which are on higher levels.
    pub(super) fn new<'a>(levels: &[u32], successors: impl Fn(u32) -> &'a [u32]) -> Self {
        let nodes = index(levels.len());
        let depth = levels.iter().max().map_or(0, |level| *level as usize + 1);
        let mut layout = Self {
            vertices: levels.iter().map(|level| Vertex { row: *level, ..Vertex::default() }).collect(),
            rows: vec![Vec::new(); depth],
            unrouted: Vec::new(),
            nodes,
            stems: vec![None; levels.len()],
        };
        let mut budget = 1_000 + 4 * levels.len();
        for source in 0..nodes {
            layout.connect(source, successors(source), &mut budget);
        }
        layout.order();
        layout
    }

    /// Whether a vertex is a waypoint.
    pub(super) fn is_waypoint(&self, vertex: u32) -> bool {
        vertex >= self.nodes
    }

    /// The waypoints of a node's lines, in order.
    pub(super) fn stem(&self, source: u32) -> impl Iterator<Item = u32> {
        let mut next = self.stems[source as usize];
        std::iter::from_fn(move || {
            let waypoint = next?;
            next =
                self.vertices[waypoint as usize].down.iter().copied().find(|below| self.is_waypoint(*below));
            Some(waypoint)
        })
    }

    /// The vertex from which the last piece of the line to a target starts: the source, or a waypoint of its stem.
    pub(super) fn branch(&self, source: u32, target: u32) -> Option<u32> {
        let row = |vertex: u32| self.vertices[vertex as usize].row;
        let distance = row(target).checked_sub(row(source) + 1)?;
        if distance == 0 {
            return Some(source);
        }
        // The waypoints of a stem were made one after another.
        self.stems[source as usize].map(|first| first + distance - 1)
    }

    /// How often lines cross (Barth, Mutzel and Juenger, "Simple and Efficient Bilayer Cross Counting", 2002).
    pub(super) fn crossings(&self) -> u64 {
        let place = self.places();
        let pairs = self.rows.iter().zip(self.rows.iter().skip(1));
        pairs.map(|(upper, lower)| self.crossings_between(upper, lower.len(), &place)).sum()
    }

    fn connect(&mut self, source: u32, targets: &[u32], budget: &mut usize) {
        let row = self.vertices[source as usize].row;
        let last = targets.iter().map(|target| self.vertices[*target as usize].row).max().unwrap_or(row);
        let length = last.saturating_sub(row + 1);
        let affordable = length as usize <= *budget;
        if affordable && length > 0 {
            *budget -= length as usize;
            self.stems[source as usize] = Some(index(self.vertices.len()));
            let mut before = source;
            for row in row + 1..last {
                let waypoint = index(self.vertices.len());
                self.vertices.push(Vertex { row, ..Vertex::default() });
                self.link(before, waypoint);
                before = waypoint;
            }
        }
        for &target in targets {
            match self.branch(source, target) {
                Some(branch) => self.link(branch, target),
                None => self.unrouted.push((source, target)),
            }
        }
    }

    fn link(&mut self, upper: u32, lower: u32) {
        self.vertices[upper as usize].down.push(lower);
        self.vertices[lower as usize].up.push(upper);
    }

    /// Sorts the rows, up and down in turn, and keeps the order with the fewest crossings.
    fn order(&mut self) {
        for vertex in 0..index(self.vertices.len()) {
            self.rows[self.vertices[vertex as usize].row as usize].push(vertex);
        }
        let sweeps = match self.vertices.len() {
            0..=2_000 => 24,
            2_001..=20_000 => 8,
            _ => 2,
        };
        let mut place = self.places();
        let mut best: Option<(u64, Vec<Vec<u32>>)> = None;
        for sweep in 0..sweeps {
            let downwards = sweep % 2 == 0;
            for step in 0..self.rows.len() {
                let row = if downwards { step } else { self.rows.len() - 1 - step };
                self.sort_row(row, downwards, &mut place);
            }
            let crossings = self.crossings();
            if best.as_ref().is_none_or(|(fewest, _)| crossings < *fewest) {
                best = Some((crossings, self.rows.clone()));
            }
            if crossings == 0 {
                break;
            }
        }
        if let Some((_, rows)) = best {
            self.rows = rows;
        }
    }

    fn sort_row(&mut self, row: usize, by_upper: bool, place: &mut [u32]) {
        let mut keyed: Vec<(f64, u32)> = self.rows[row]
            .iter()
            .map(|&vertex| {
                let Vertex { up, down, .. } = &self.vertices[vertex as usize];
                let neighbours = if by_upper { up } else { down };
                let own = f64::from(place[vertex as usize]);
                (mean(neighbours.iter().map(|near| f64::from(place[*near as usize]))).unwrap_or(own), vertex)
            })
            .collect();
        keyed.sort_by(|a, b| a.0.total_cmp(&b.0));
        self.rows[row] = keyed.into_iter().map(|(_, vertex)| vertex).collect();
        for (position, vertex) in (0..).zip(&self.rows[row]) {
            place[*vertex as usize] = position;
        }
    }

    fn places(&self) -> Vec<u32> {
        let mut place = vec![0; self.vertices.len()];
        for row in &self.rows {
            for (position, vertex) in (0..).zip(row) {
                place[*vertex as usize] = position;
            }
        }
        place
    }

    /// Counts, for each line from left to right above, the lines before it that end further right below.
    fn crossings_between(&self, upper: &[u32], lower: usize, place: &[u32]) -> u64 {
        let mut tree = vec![0_u64; lower + 1];
        let mut lines = 0;
        let mut crossings = 0;
        let mut ends: Vec<usize> = Vec::new();
        for vertex in upper {
            ends.clear();
            ends.extend(self.vertices[*vertex as usize].down.iter().map(|end| place[*end as usize] as usize));
            for end in &ends {
                let mut at = end + 1;
                let mut not_right = 0;
                while at > 0 {
                    not_right += tree[at];
                    at &= at - 1;
                }
                crossings += lines - not_right;
            }
            for end in &ends {
                let mut at = end + 1;
                while at <= lower {
                    tree[at] += 1;
                    at += at & at.wrapping_neg();
                }
                lines += 1;
            }
        }
        crossings
    }
}

/// The mean, if there is anything.
pub(super) fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (sum, count) = values.fold((0.0, 0.0), |(sum, count), value| (sum + value, count + 1.0));
    (count > 0.0).then(|| sum / count)
}
