//! The graph as the API gives it.

use serde::{Serialize, Serializer};

use super::{Dag, States};
use crate::dag::adjacency::index;

#[derive(Serialize)]
struct Document<'a> {
    nodes: Nodes<'a>,
    edges: Edges<'a>,
    levels: Vec<Vec<&'a str>>,
}

/// What is said of each node.
pub(super) struct Nodes<'a>(pub(super) &'a Dag, pub(super) States<'a>);

/// What is said of one node.
#[derive(Serialize)]
pub(super) struct Node<'a> {
    id: &'a str,
    label: &'a str,
    kind: &'a str,
    level: Option<u32>,
    state: Option<&'a str>,
    inputs: &'a [String],
    outputs: &'a [String],
}

struct Edges<'a>(&'a Dag);

#[derive(Serialize)]
struct Edge<'a> {
    source: &'a str,
    target: &'a str,
    data: &'a str,
}

/// `{"nodes":[{id,label,kind,level,state,inputs,outputs}],"edges":[{source,target,data}],"levels":[[id]]}`. The state
/// of a node that has none is null.
pub(super) fn draw(dag: &Dag, states: States<'_>) -> String {
    write(&Document { nodes: Nodes(dag, states), edges: Edges(dag), levels: dag.parallel_groups() })
}

/// Written as it is walked through: of a large graph, a tree of values would cost more than all the rest.
pub(super) fn write(document: &impl Serialize) -> String {
    // Writing texts, numbers and lists into memory cannot fail.
    serde_json::to_string(document).unwrap_or_default()
}

impl<'a> Nodes<'a> {
    pub(super) fn iter(&self) -> impl Iterator<Item = Node<'a>> {
        let Self(dag, states) = *self;
        (0..index(dag.nodes().len())).zip(dag.nodes()).map(move |(place, node)| Node {
            id: &node.id,
            label: &node.label,
            kind: &node.kind,
            level: dag.level_of(place),
            state: states.of(place),
            inputs: &node.inputs,
            outputs: &node.outputs,
        })
    }
}

impl Serialize for Nodes<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter())
    }
}

impl Serialize for Edges<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let id = |node: u32| self.0.nodes()[node as usize].id.as_str();
        serializer.collect_seq(self.0.edges().iter().map(|edge| Edge {
            source: id(edge.source),
            target: id(edge.target),
            data: &edge.data,
        }))
    }
}
