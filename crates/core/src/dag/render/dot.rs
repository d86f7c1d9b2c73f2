//! The language of Graphviz.

use std::fmt::Write as _;

use super::text::{is_shown, shown};
use super::{Dag, States, lines};
use crate::dag::adjacency::index;

/// A digraph from left to right whose nodes have the ids of the tasks; nodes of one level share a rank.
pub(super) fn draw(dag: &Dag, states: States<'_>) -> String {
    let mut out = String::from(
        "digraph pipeline {\n  \
         rankdir=LR;\n  \
         node [shape=box, style=\"rounded,filled\", fillcolor=\"#ffffff\", color=\"#94a3b8\", fontname=\"sans-serif\"];\n  \
         edge [color=\"#64748b\", fontname=\"sans-serif\", fontsize=10];\n",
    );
    for (place, node) in (0..index(dag.nodes().len())).zip(dag.nodes()) {
        let _ =
            write!(out, "  {} [label={}, tooltip={}", id(&node.id), label(&node.label), label(&node.kind));
        if let Some(state) = states.of(place) {
            let _ = write!(out, ", class={}", label(state));
        }
        if let Some(look) = states.look(place) {
            let _ = write!(out, ", fillcolor=\"{}\", color=\"{}\"", look.light[0], look.light[1]);
        }
        out.push_str("];\n");
    }
    let name = |node: u32| id(&dag.nodes()[node as usize].id);
    for level in dag.levels().iter().filter(|level| level.len() > 1) {
        let names: Vec<String> = level.iter().map(|node| name(*node)).collect();
        let _ = writeln!(out, "  {{ rank=same; {}; }}", names.join("; "));
    }
    for ((source, target), data) in lines(dag) {
        let _ = writeln!(out, "  {} -> {} [label={}];", name(source), name(target), label(&data.join(", ")));
    }
    out.push_str("}\n");
    out
}

/// A quoted id. Graphviz takes only `\"` for an escape in an id, so a doubled backslash stays two, which keeps ids
/// apart all the same: different texts give different ids, and characters that cannot be seen are spelled out.
fn id(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            c if is_shown(c) => quoted.push(c),
            c => {
                let _ = write!(quoted, "\\u{{{:x}}}", u32::from(c));
            }
        }
    }
    quoted.push('"');
    quoted
}

/// A quoted label. Labels know more escapes (`\n`, `\N`) and HTML entities; a quoted text is never HTML.
fn label(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in shown(text).chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '&' => quoted.push_str("&amp;"),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}
