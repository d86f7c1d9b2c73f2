//! A drawing for a terminal, never wider than 80 columns.
//!
//! Boxes joined by lines while that stays readable; tasks that need the same and are needed by the same share one
//! box if there is no room for each; else a list by level, in which each task names what it needs.

mod boxes;
mod canvas;
mod channel;
mod list;

use super::{Dag, States};

const WIDTH: usize = 80;

pub(super) fn draw(dag: &Dag, states: States<'_>) -> String {
    if dag.nodes().is_empty() {
        return "(no tasks)\n".to_owned();
    }
    let each = || boxes::draw(dag, states, boxes::each(dag));
    let twins = || boxes::draw(dag, states, boxes::twins(dag));
    each().or_else(twins).unwrap_or_else(|| list::draw(dag, states))
}
