//! A list by level, for graphs whose lines could not be followed.

use std::fmt::Write as _;

use super::super::text::{columns, fit, shown};
use super::{Dag, States, WIDTH};

/// The names of a level stand in a column of at most this width.
const NAMES: usize = 36;

pub(super) fn draw(dag: &Dag, states: States<'_>) -> String {
    let mut out = String::new();
    for (level, nodes) in dag.levels().iter().enumerate() {
        let tasks = if nodes.len() == 1 { "task" } else { "tasks" };
        let _ = writeln!(out, "level {level} · {} {tasks}", nodes.len());
        let names: Vec<String> = nodes.iter().map(|node| name(dag, states, *node)).collect();
        let width = names.iter().map(|name| columns(name)).max().unwrap_or(0);
        for (place, (node, name)) in nodes.iter().zip(&names).enumerate() {
            let branch = if place + 1 == nodes.len() { "└─" } else { "├─" };
            let _ = write!(out, "{branch} {name}");
            let needs = dag.predecessors(*node);
            if !needs.is_empty() {
                let indent = width - columns(name);
                let _ = write!(out, "{:indent$}  ← ", "");
                out.push_str(&enumerate(dag, needs, WIDTH - width - 7));
            }
            out.push('\n');
        }
    }
    out
}

fn name(dag: &Dag, states: States<'_>, node: u32) -> String {
    let label = shown(&dag.nodes()[node as usize].label);
    match states.of(node) {
        Some(state) => {
            let state = format!(" · {}", fit(&shown(state), 12));
            format!("{}{state}", fit(&label, NAMES - columns(&state)))
        }
        None => fit(&label, NAMES).into_owned(),
    }
}

/// As many names as there is room for, and how many more there are.
fn enumerate(dag: &Dag, nodes: &[u32], room: usize) -> String {
    let mut text = String::new();
    for (place, node) in nodes.iter().enumerate() {
        let label = shown(&dag.nodes()[*node as usize].label);
        let left = nodes.len() - place;
        let more = format!(" +{left} more");
        let separator = if place == 0 { "" } else { ", " };
        let reserve = if left == 1 { 0 } else { columns(&more) };
        let free = room.saturating_sub(columns(&text) + separator.len() + reserve);
        if place == 0 {
            text.push_str(&fit(&label, free));
        } else if columns(&label) <= free {
            text.push_str(separator);
            text.push_str(&label);
        } else {
            text.push_str(&more);
            break;
        }
    }
    text
}
