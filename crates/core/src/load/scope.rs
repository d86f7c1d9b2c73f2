//! What a task may be, and the names that its expressions may read.

use std::collections::HashSet;

use crate::diagnostic::nearest;

/// The kinds, by the fields that name them.
pub(super) const KINDS: &[&str] = &[
    "expression",
    "command",
    "http",
    "task",
    "taskiq",
    "pipeline",
    "wait",
    "map",
    "filter",
    "reduce",
    "group",
];

/// The names that the expressions of a task may read.
pub(super) struct Scope {
    /// What errors call the task.
    pub(super) owner: String,
    /// The task's inputs and constants.
    pub(super) names: HashSet<String>,
    /// The names bound by the maps around the body at hand, and its own constants.
    pub(super) locals: Vec<String>,
    /// Inputs that the task did not list but has, because a map goes over them.
    pub(super) implied: Vec<String>,
    /// Whether it is a step of the chained style.
    pub(super) chained: bool,
}

impl Scope {
    pub(super) fn has(&self, name: &str) -> bool {
        self.names.contains(name) || self.locals.iter().any(|local| local == name)
    }

    pub(super) fn nearest(&self, name: &str) -> Option<&str> {
        let locals = self.locals.iter().map(String::as_str);
        nearest(name, self.names.iter().map(String::as_str).chain(locals))
    }
}
