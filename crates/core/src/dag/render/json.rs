//! The graph as the API gives it.

use serde_json::{Value, json};

use super::{Dag, States};
use crate::dag::adjacency::index;

/// `{"nodes":[{id,label,kind,level,state,inputs,outputs}],"edges":[{source,target,data}],"levels":[[id]]}`. The state
/// of a node that has none is null.
pub(super) fn draw(dag: &Dag, states: States<'_>) -> Value {
    let id = |node: u32| dag.nodes()[node as usize].id.as_str();
    let edges: Vec<Value> = dag
        .edges()
        .iter()
        .map(|edge| json!({"source": id(edge.source), "target": id(edge.target), "data": edge.data}))
        .collect();
    json!({"nodes": nodes(dag, states), "edges": edges, "levels": dag.parallel_groups()})
}

/// What is said of each node.
pub(super) fn nodes(dag: &Dag, states: States<'_>) -> Vec<Value> {
    (0..index(dag.nodes().len()))
        .zip(dag.nodes())
        .map(|(place, node)| {
            json!({
                "id": node.id,
                "label": node.label,
                "kind": node.kind,
                "level": dag.level_of(place),
                "state": states.of(place),
                "inputs": node.inputs,
                "outputs": node.outputs,
            })
        })
        .collect()
}
