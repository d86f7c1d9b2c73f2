//! The elements of the Cytoscape.js library.

use serde_json::{Value, json};

use super::{Dag, States};

/// `{"elements":{"nodes":[{"data":{..}}],"edges":[{"data":{id,source,target,label}}]}}`. Nodes and edges share one
/// space of ids there, so an edge is called by its number and its ends, and made to differ from every node if a node
/// should have that very name.
pub(super) fn draw(dag: &Dag, states: States<'_>) -> Value {
    let taken: std::collections::HashSet<&str> = dag.nodes().iter().map(|node| node.id.as_str()).collect();
    let nodes: Vec<Value> =
        super::json::nodes(dag, states).into_iter().map(|node| json!({"data": node})).collect();
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
