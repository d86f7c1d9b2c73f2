//! The elements of the Cytoscape.js library.

use serde_json::{Value, json};

use super::{Dag, States};
use crate::dag::adjacency::index;

/// `{"elements":{"nodes":[{"data":{..}}],"edges":[{"data":{id,source,target,label}}]}}`. Nodes and edges share one
/// space of ids there, so an edge is called by its number and its ends, and made to differ from every node if a node
/// should have that very name.
pub(super) fn draw(dag: &Dag, states: States<'_>) -> Value {
    let taken: std::collections::HashSet<&str> = dag.nodes().iter().map(|node| node.id.as_str()).collect();
    let nodes: Vec<Value> = (0..index(dag.nodes().len()))
        .zip(dag.nodes())
        .map(|(place, node)| {
            json!({"data": {
                "id": node.id,
                "label": node.label,
                "kind": node.kind,
                "level": dag.level_of(place),
                "state": states.of(place),
                "inputs": node.inputs,
                "outputs": node.outputs,
            }})
        })
        .collect();
    let id = |node: u32| dag.nodes()[node as usize].id.as_str();
    let edges: Vec<Value> = dag
        .edges()
        .iter()
        .enumerate()
        .map(|(number, edge)| {
            let (source, target) = (id(edge.source), id(edge.target));
            let mut name = format!("{number}: {source} -> {target}");
            while taken.contains(name.as_str()) {
                name.push('\'');
            }
            json!({"data": {"id": name, "source": source, "target": target, "label": edge.data}})
        })
        .collect();
    json!({"elements": {"nodes": nodes, "edges": edges}})
}
