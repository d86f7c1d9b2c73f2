//! The field `cache` of a task.

use std::collections::HashSet;

use super::reader::Reader;
use super::scope::Scope;
use crate::definition::{Body, Cache, Task, TaskKind};
use crate::document::Node;

impl Reader<'_> {
    /// That the values of `task`, which is whole but for this, are kept.
    pub(super) fn cache(&mut self, node: &Node, scope: &Scope, task: &Task) -> Option<Cache> {
        let help = "write `cache: { ttl: 1h }`";
        let fields = self.mapping(node, "how values are kept (a mapping)", help)?;
        self.unknown_fields(fields, "a cache", &["ttl", "key", "version"]);
        if task.body.kind.waits() {
            let message = format!("{} waits, and what ends a wait is not kept", scope.owner);
            self.wrong(node, message, "leave `cache` out, or make a task of its own of the wait");
            return None;
        }
        if task.compensate.is_some() {
            let message =
                format!("{} does something that `compensate` undoes, and has a `cache`", scope.owner);
            let help = "where a kept value is taken nothing is done: leave one of them out";
            self.wrong(node, message, help);
            return None;
        }
        if has_chunks(&task.body.kind) {
            let message = format!("{} has `chunk`, and values are cached item by item", scope.owner);
            self.wrong(node, message, "leave one of them out");
            return None;
        }
        let ttl = fields.get("ttl").and_then(|ttl| self.time_limit(ttl));
        let key = fields.get("key").and_then(|key| {
            let all: HashSet<String> = scope.names.iter().chain(task.body.with.keys()).cloned().collect();
            let names = visible(&task.body.kind, all.clone());
            let expr = self.expr(key)?;
            if let Some(list) = expr.names().iter().find(|name| all.contains(*name) && !names.contains(*name))
            {
                let message = format!("what is cached of {} is not given `{list}`", scope.owner);
                let help =
                    "write what tells one item from another; an item has the list where it reads it itself";
                let error = self.document().error_within(key, expr.place_of(list), message);
                self.fail(error.help(help));
                return None;
            }
            let inside = Scope {
                owner: format!("what is cached of {}", scope.owner),
                names,
                locals: Vec::new(),
                implied: Vec::new(),
                chained: scope.chained,
            };
            self.check_names(key, expr.names(), |name| expr.place_of(name), &inside);
            Some(expr)
        });
        let version = fields.get("version").and_then(|version| self.name(version));
        Some(Cache { ttl, key, version })
    }
}

/// Whether some of its items come in chunks.
fn has_chunks(kind: &TaskKind) -> bool {
    let own = match kind {
        TaskKind::Map(spec) | TaskKind::Filter(spec) => spec.chunk.is_some(),
        TaskKind::Reduce(spec) => spec.chunk.is_some(),
        _ => false,
    };
    own || kind.inner().iter().any(|body| has_chunks(&body.kind))
}

/// Of the names around a body those, and of the names bound in it, that everything in it sees which has values that are
/// kept: the key is made for each of them.
fn visible(kind: &TaskKind, mut names: HashSet<String>) -> HashSet<String> {
    let within = |body: &Body, mut names: HashSet<String>| {
        names.extend(body.with.keys().cloned());
        visible(&body.kind, names)
    };
    let (over, bound, body) = match kind {
        TaskKind::Map(spec) | TaskKind::Filter(spec) => (&spec.over, vec![&spec.item], &spec.body),
        TaskKind::Reduce(spec) => (&spec.over, vec![&spec.item, &spec.accumulator], &spec.body),
        TaskKind::Group(members) => {
            let each = members.iter().map(|member| within(&member.body, names.clone()));
            return each.reduce(|all, one| &all & &one).unwrap_or_default();
        }
        _ => return names,
    };
    // An item is given the list where its body reads it, and not for the key alone.
    if !body.kind.names_input(over) {
        names.remove(over);
    }
    names.extend(bound.into_iter().cloned());
    within(body, names)
}
