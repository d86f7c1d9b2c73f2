//! A Mermaid flowchart.

use std::fmt::Write as _;

use super::text::shown;
use super::{Dag, LOOKS, States, lines};
use crate::dag::adjacency::index;

/// A flowchart from left to right. Nodes are called `n0`, `n1` and so on: the names of tasks appear in quoted labels
/// only, where all but letters, digits and the plainest punctuation is written as an entity.
pub(super) fn draw(dag: &Dag, states: States<'_>) -> String {
    let mut out = String::from("flowchart LR\n");
    for (place, node) in (0..index(dag.nodes().len())).zip(dag.nodes()) {
        let _ = write!(out, "  n{place}[\"{}\"]", label(&node.label));
        if let Some(look) = states.look(place) {
            let _ = write!(out, ":::{}", look.state);
        }
        out.push('\n');
    }
    for ((source, target), data) in lines(dag) {
        let names = label(&data.join(", "));
        if names.is_empty() {
            let _ = writeln!(out, "  n{source} --> n{target}");
        } else {
            let _ = writeln!(out, "  n{source} -->|\"{names}\"| n{target}");
        }
    }
    let places = || 0..index(dag.nodes().len());
    for look in &LOOKS {
        if places().any(|node| states.of(node) == Some(look.state)) {
            let [fill, stroke] = look.light;
            let _ = writeln!(out, "  classDef {} fill:{fill},stroke:{stroke},color:#0f172a", look.state);
        }
    }
    out
}

/// Everything that Mermaid or the Markdown in its labels could read as more than text becomes `#code;`, its way to
/// write an entity. So do `ﬂ` and `ß`, from which it makes its own marks for entities while it works.
fn label(text: &str) -> String {
    let text = shown(text);
    let mut escaped = String::with_capacity(text.len());
    let mut rest = text.chars().peekable();
    let mut before = ' ';
    while let Some(c) = rest.next() {
        let within = before.is_alphanumeric() && rest.peek().is_some_and(|next| next.is_alphanumeric());
        let plain = match c {
            'ﬂ' | 'ß' => false,
            ' ' => true,
            ',' => before.is_alphanumeric(),
            '-' | '.' | '_' => within,
            c => c.is_alphanumeric(),
        };
        if plain {
            escaped.push(c);
        } else {
            let _ = write!(escaped, "#{};", u32::from(c));
        }
        before = c;
    }
    escaped
}
