//! What a task does: the kinds and their fields.

use std::collections::HashSet;
use std::num::NonZeroU32;

use crate::definition::{
    Body, Chunk, GroupMember, MapSpec, OnItemError, ReduceSpec, TaskKind, WaitFor, WaitSpec,
};
use crate::diagnostic::nearest;
use crate::document::{Key, Node};

use super::chain::VALUE;
use super::pipeline::MAX_PARALLEL;
use super::reader::{Fields, Reader, listed};
use super::scope::{KINDS, Scope};

/// What `on_item_error` may say; of a filter all but the last, as it leaves out what is not true.
const ON_ITEM_ERROR: &[(&str, OnItemError)] =
    &[("fail", OnItemError::Fail), ("skip", OnItemError::Skip), ("collect", OnItemError::Collect)];

/// The most items of one attempt.
const MAX_CHUNK: u32 = 10_000;

impl Reader<'_> {
    /// A mapping with one kind, `with:` and `further` fields.
    pub(super) fn body(
        &mut self,
        node: &Node,
        what: &str,
        further: &[&'static str],
        scope: &mut Scope,
    ) -> Option<Body> {
        let help = format!("write one of {}", listed(KINDS));
        let fields = self.mapping(node, "something to do (a mapping)", &help)?;
        self.inner_body(fields, what, further, scope)
    }

    /// The one kind among the fields of a task, step, body or member.
    pub(super) fn kind(
        &mut self,
        fields: Fields<'_>,
        what: &str,
        known: &[&'static str],
        scope: &mut Scope,
    ) -> Option<TaskKind> {
        let mut kinds = fields.entries.iter().filter(|(key, _)| KINDS.contains(&key.text.as_str()));
        let (first, second) = (kinds.next(), kinds.next());
        let Some((key, node)) = first else {
            self.no_kind(fields, what, known);
            return None;
        };
        self.unknown_fields(fields, what, known);
        if let Some((other, value)) = second {
            let message = format!("{what} has two kinds, `{}` and `{}`", key.text, other.text);
            self.fail(self.document().error_at_key(other, value, message).help("make two tasks of it"));
            return None;
        }
        match key.text.as_str() {
            "expression" => self.checked_expr(node, scope).map(TaskKind::Expression),
            "command" => self.command(node).map(TaskKind::Command),
            "http" => self.http(node, scope).map(|spec| TaskKind::Http(Box::new(spec))),
            "task" => self.name(node).map(TaskKind::Task),
            "taskiq" => self.taskiq(node, scope).map(TaskKind::Taskiq),
            "pipeline" => self.pipeline_id(node).map(TaskKind::Pipeline),
            "wait" => self.wait(node).map(TaskKind::Wait),
            "map" => self.map(node, "a map", ON_ITEM_ERROR, scope).map(TaskKind::Map),
            "filter" => self.map(node, "a filter", &ON_ITEM_ERROR[..2], scope).map(TaskKind::Filter),
            "reduce" => self.reduce(node, scope).map(TaskKind::Reduce),
            _ => self.group(node, scope).map(TaskKind::Group),
        }
    }

    fn no_kind(&mut self, fields: Fields<'_>, what: &str, known: &[&'static str]) {
        let help = format!("the kinds are {}", listed(KINDS));
        let unknown = || fields.entries.iter().filter(|(key, _)| !known.contains(&key.text.as_str()));
        // A word that looks like one of the other fields is that field, misspelt.
        let kind =
            |key: &Key| nearest(&key.text, known.iter().copied()).is_none_or(|near| KINDS.contains(&near));
        let meant = unknown().position(|(key, _)| kind(key));
        for (place, (key, value)) in unknown().enumerate() {
            if meant != Some(place) {
                self.unknown_field(key, value, what, known);
                continue;
            }
            let error = self.document().error_at_key(key, value, format!("unknown task kind `{}`", key.text));
            let near = nearest(&key.text, KINDS.iter().copied());
            let error =
                if let Some(near) = near { error.label(format!("did you mean `{near}`?")) } else { error };
            self.fail(error.help(help.clone()));
        }
        if meant.is_none() {
            self.wrong(
                fields.node,
                format!("{what} says nothing to do"),
                format!("give it one kind; {help}"),
            );
        }
    }

    pub(super) fn inner_body(
        &mut self,
        fields: Fields<'_>,
        what: &str,
        further: &[&'static str],
        scope: &mut Scope,
    ) -> Option<Body> {
        let with = self.constants(fields.get("with"));
        let known = [further, &["with"], KINDS].concat();
        let outer = scope.locals.len();
        scope.locals.extend(with.keys().cloned());
        let kind = self.kind(fields, what, &known, scope);
        scope.locals.truncate(outer);
        Some(Body { kind: kind?, with })
    }

    fn wait(&mut self, node: &Node) -> Option<WaitSpec> {
        let fields = self.fields(node, "a wait", &["signal", "duration", "timeout"])?;
        let timeout = fields.get("timeout").map(|timeout| (timeout, self.time_limit(timeout)));
        match (fields.get("signal"), fields.get("duration")) {
            (Some(signal), None) => {
                let signal = self.name(signal)?;
                let timeout = match timeout {
                    Some((_, limit)) => Some(limit?),
                    None => None,
                };
                Some(WaitSpec { until: WaitFor::Signal(signal), timeout })
            }
            (None, Some(duration)) => {
                if let Some((timeout, _)) = timeout {
                    self.wrong(timeout, "a wait for a duration has no timeout", "it ends by itself");
                }
                let duration = self.time_limit(duration)?;
                Some(WaitSpec { until: WaitFor::Duration(duration), timeout: None })
            }
            (None, None) => {
                self.wrong(
                    fields.node,
                    "a wait needs `signal` or `duration`",
                    "write `wait: { signal: approval }` or `wait: { duration: 10s }`",
                );
                None
            }
            (Some(_), Some(duration)) => {
                self.wrong(
                    duration,
                    "a wait is for a signal or for a duration",
                    "for a limit of a signal write `timeout:`",
                );
                None
            }
        }
    }

    fn map(
        &mut self,
        node: &Node,
        what: &str,
        rules: &[(&'static str, OnItemError)],
        scope: &mut Scope,
    ) -> Option<MapSpec> {
        let help = "write `{ over: names, as: name, expression: ... }`";
        let fields = self.mapping(node, &format!("{what} (a mapping)"), help)?;
        let over = self.over(fields, scope);
        let item = self.bound_name(fields, "as", if scope.chained { VALUE } else { "item" });
        let max_parallel = fields.get("max_parallel").and_then(|count| self.count_up_to(count, MAX_PARALLEL));
        let rule = fields.get("on_item_error").and_then(|rule| self.choice(rule, rules));
        let further = ["over", "as", "max_parallel", "on_item_error", "chunk"];
        let body = self.bound_body(fields, what, &further, scope, item.iter());
        let chunk = fields.get("chunk").and_then(|chunk| {
            let size = match chunk.as_str() {
                Some("auto") => Some(Chunk::Auto),
                _ => self.chunk_size(chunk, ", or `auto`").map(Chunk::Of),
            };
            size.filter(|_| self.can_be_chunked(chunk, body.as_ref()))
        });
        Some(MapSpec {
            over: over?,
            item: item?,
            max_parallel,
            chunk,
            on_item_error: rule.unwrap_or_default(),
            body: Box::new(body?),
        })
    }

    fn reduce(&mut self, node: &Node, scope: &mut Scope) -> Option<ReduceSpec> {
        let help = "write `{ over: numbers, as: n, into: acc, initial: 0, expression: ... }`";
        let fields = self.mapping(node, "a reduce (a mapping)", help)?;
        let over = self.over(fields, scope);
        let item = self.bound_name(fields, "as", if scope.chained { VALUE } else { "item" });
        let accumulator = self.bound_name(fields, "into", "acc");
        if item.is_some() && item == accumulator {
            let message = "the item and what is made of the items before it have the same name";
            self.wrong(
                fields.get("into").or(fields.get("as")).unwrap_or(node),
                message,
                "give `as:` and `into:` different names",
            );
        }
        let initial = fields.entry("initial").map(|(_, initial)| initial.to_json());
        if initial.is_none() {
            self.missing(
                fields,
                "initial",
                "it is what the first item is put together with, and the value for an empty list",
            );
        }
        let further = ["over", "as", "into", "initial", "chunk"];
        let body = self.bound_body(fields, "a reduce", &further, scope, item.iter().chain(&accumulator));
        let chunk = fields.get("chunk").and_then(|chunk| {
            self.chunk_size(chunk, "").filter(|_| self.can_be_chunked(chunk, body.as_ref()))
        });
        Some(ReduceSpec {
            over: over?,
            item: item?,
            accumulator: accumulator?,
            initial: initial?,
            chunk,
            body: Box::new(body?),
        })
    }

    /// How many items one attempt carries out.
    fn chunk_size(&mut self, node: &Node, or: &str) -> Option<NonZeroU32> {
        match node.as_str() {
            Some(_) => {
                self.wrong(node, format!("expected a whole number from 1 to {MAX_CHUNK}{or}"), "");
                None
            }
            None => self.count_up_to(node, MAX_CHUNK),
        }
    }

    /// Whether one attempt can carry out several of these, one after another.
    fn can_be_chunked(&mut self, node: &Node, body: Option<&Body>) -> bool {
        let Some(kind) = body.map(|body| &body.kind) else { return false };
        let can = matches!(
            kind,
            TaskKind::Expression(_)
                | TaskKind::Command(_)
                | TaskKind::Http(_)
                | TaskKind::Task(_)
                | TaskKind::Taskiq(_)
        );
        if !can {
            let message = format!("a chunk is carried out by one worker, and a `{}` is not", kind.name());
            self.wrong(node, message, "leave `chunk` out");
        }
        can
    }

    fn bound_name(&mut self, fields: Fields<'_>, field: &str, default: &str) -> Option<String> {
        match fields.get(field) {
            Some(name) => self.name(name),
            None => Some(default.to_owned()),
        }
    }

    /// The body of a map and the like, which sees `bound` beside everything around it.
    fn bound_body<'a>(
        &mut self,
        fields: Fields<'_>,
        what: &str,
        further: &[&'static str],
        scope: &mut Scope,
        bound: impl Iterator<Item = &'a String>,
    ) -> Option<Body> {
        let outer = scope.locals.len();
        scope.locals.extend(bound.cloned());
        let body = self.inner_body(fields, what, further, scope);
        scope.locals.truncate(outer);
        body
    }

    /// The name of the list. In the chained style it is what the step before made, if nothing else is said; in the
    /// dataflow style it becomes an input of the task if it is none yet.
    fn over(&mut self, fields: Fields<'_>, scope: &mut Scope) -> Option<String> {
        let Some(node) = fields.get("over") else {
            if scope.chained && scope.has(VALUE) {
                return Some(VALUE.to_owned());
            }
            if let (true, 1) = (scope.chained, scope.names.len()) {
                return scope.names.iter().next().cloned();
            }
            self.missing(fields, "over", "name the input that holds the list");
            return None;
        };
        let over = self.name(node)?;
        if scope.has(&over) {
            return Some(over);
        }
        if scope.chained {
            let help = "leave `over:` out: it is then the value of the step before";
            self.wrong(node, format!("`{over}` is no input of {}", scope.owner), help);
            return None;
        }
        scope.names.insert(over.clone());
        scope.implied.push(over.clone());
        Some(over)
    }

    fn group(&mut self, node: &Node, scope: &mut Scope) -> Option<Vec<GroupMember>> {
        let help = "write `- { name: sum, expression: ... }` for each member";
        let nodes = self.sequence(node, "the members of a group (a list)", help)?;
        if nodes.is_empty() {
            self.wrong(node, "a group needs at least one member", help);
            return None;
        }
        let mut names = HashSet::new();
        let mut members = Vec::with_capacity(nodes.len());
        for node in nodes {
            let Some(fields) = self.mapping(node, "a member of a group (a mapping)", help) else { continue };
            let name = fields.get("name").and_then(|name| self.name(name));
            if let Some(name) = &name
                && !names.insert(name.clone())
            {
                let place = fields.get("name").unwrap_or(node);
                self.wrong(
                    place,
                    format!("two members are called `{name}`"),
                    "give one of them another name",
                );
            }
            if let Some(body) = self.inner_body(fields, "a member of a group", &["name"], scope) {
                members.push(GroupMember { name, body });
            }
        }
        let unnamed = nodes.iter().find(|node| node.get("name").is_none());
        if let (Some(unnamed), false) = (unnamed, names.is_empty()) {
            let help =
                "named members make a mapping, unnamed ones a list; add a `name:`, or remove the others";
            self.wrong(unnamed, "a group names all of its members or none, and this one has no name", help);
        }
        Some(members)
    }
}
