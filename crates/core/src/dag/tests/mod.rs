//! Tests of the graph, its analysis and its drawings.

mod analysis;
mod drawings;
mod forecast;
mod model;
mod scanners;

use super::*;

/// Nodes called by their names, edges as `(source, target, data)`.
fn dag(nodes: &[&str], edges: &[(u32, u32, &str)]) -> Dag {
    let nodes = nodes.iter().map(|name| DagNode::new(*name, "expression")).collect();
    let edges = edges.iter().map(|(source, target, data)| edge(*source, *target, data)).collect();
    Dag::new(nodes, edges).unwrap()
}

fn edge(source: u32, target: u32, data: &str) -> DagEdge {
    DagEdge { source, target, data: data.to_owned() }
}

fn diamond() -> Dag {
    let edges = [(0, 1, "lines"), (0, 2, "lines"), (1, 3, "total"), (2, 3, "ranked")];
    dag(&["load", "count", "rank", "report"], &edges)
}

/// Nodes `t0`, `t1` and so on, joined by the edges.
fn numbered(count: u32, edges: impl IntoIterator<Item = (u32, u32)>) -> Dag {
    let nodes = (0..count).map(|node| DagNode::new(format!("t{node}"), "command")).collect();
    Dag::new(nodes, edges.into_iter().map(|(source, target)| edge(source, target, "x")).collect()).unwrap()
}

/// One task before and one after `width` tasks side by side.
fn fan(width: u32) -> Dag {
    numbered(width + 2, (1..=width).flat_map(|node| [(0, node), (node, width + 1)]))
}
