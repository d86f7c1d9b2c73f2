//! The elements of the Cytoscape.js library.

use std::collections::HashSet;

use serde::{Serialize, Serializer};

use super::json::{Node, Nodes, write};
use super::{Dag, States};

#[derive(Serialize)]
struct Document<'a> {
    elements: Elements<'a>,
}

#[derive(Serialize)]
struct Elements<'a> {
    nodes: Wrapped<'a>,
    edges: Edges<'a>,
}

struct Wrapped<'a>(Nodes<'a>);

struct Edges<'a>(&'a Dag);

#[derive(Serialize)]
struct Element<T> {
    data: T,
}

#[derive(Serialize)]
struct Edge<'a> {
    id: String,
    source: &'a str,
    target: &'a str,
    label: &'a str,
}

/// `{"elements":{"nodes":[{"data":{..}}],"edges":[{"data":{id,source,target,label}}]}}`.
pub(super) fn draw(dag: &Dag, states: States<'_>) -> String {
    write(&Document { elements: Elements { nodes: Wrapped(Nodes(dag, states)), edges: Edges(dag) } })
}

impl Serialize for Wrapped<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(|data: Node<'_>| Element { data }))
    }
}

/// Nodes and edges share one space of ids there, so an edge is called by its number and its ends, and made to differ
/// from every node if a node should have that very name.
impl Serialize for Edges<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let dag = self.0;
        let taken: HashSet<&str> = dag.nodes().iter().map(|node| node.id.as_str()).collect();
        let name = |node: u32| dag.nodes()[node as usize].id.as_str();
        serializer.collect_seq(dag.edges().iter().enumerate().map(|(number, edge)| {
            let (source, target) = (name(edge.source), name(edge.target));
            let mut id = format!("{number}: {source} -> {target}");
            while taken.contains(id.as_str()) {
                id.push('\'');
            }
            Element { data: Edge { id, source, target, label: &edge.data } }
        }))
    }
}
