//! The fields of a task, apart from what it does.

use std::collections::HashSet;

use serde_json::Map;

use crate::definition::{Body, Input, Task, TaskKind, WaitFor, WaitSpec};
use crate::document::{Node, NodeValue};
use crate::expr::Expr;
use crate::time::format_duration;

use super::chain::VALUE;
use super::pipeline::ON_ERROR;
use super::reader::{Fields, Reader};
use super::scope::{KINDS, Scope};

/// The fields that tasks and steps share, apart from the kinds.
const SHARED_FIELDS: &[&str] = &[
    "name",
    "description",
    "when",
    "timeout",
    "total_timeout",
    "retry",
    "resources",
    "cache",
    "on_error",
    "compensate",
    "with",
];

/// What `otherwise` says to hand the value on.
const PASS: &str = "pass";

const WIRING_FIELDS: &[&str] = &["inputs", "optional_inputs", "after", "output", "outputs"];

impl Reader<'_> {
    /// A task of the dataflow style.
    pub(super) fn task(&mut self, node: &Node) -> Option<Task> {
        let fields =
            self.mapping(node, "a task (a mapping)", "write `- name: ...` and what the task does")?;
        let known = [SHARED_FIELDS, WIRING_FIELDS, KINDS].concat();
        let name = match fields.get("name") {
            Some(name) => self.name(name),
            None => {
                self.missing(fields, "name", "every task has a name of its own");
                None
            }
        };
        let what = name.as_ref().map_or_else(|| "a task".to_owned(), |name| format!("task `{name}`"));
        let mut inputs = self.inputs(fields.get("inputs"), false);
        inputs.extend(self.inputs(fields.get("optional_inputs"), true));
        let mut scope = self.scope(fields, &inputs, what.clone(), false);
        let kind = self.kind(fields, &what, &known, &mut scope);
        let after = fields.get("after").and_then(|names| self.names(names)).unwrap_or_default();
        let outputs = self.outputs(fields);
        let mut task = Task::new(name?, kind?);
        self.shared(fields, &mut scope, &mut task);
        // Those of the map that undoes it, too: it is given what the task is given.
        inputs.extend(scope.implied.into_iter().map(Input::required));
        task.inputs = inputs;
        task.after = after;
        task.outputs = outputs.unwrap_or(task.outputs);
        Some(task)
    }

    /// A step of the chained style that is given `inputs`.
    /// What it does where its condition is not true, is put into `other`.
    pub(super) fn step(
        &mut self,
        node: &Node,
        default_name: String,
        inputs: Vec<Input>,
        other: &mut Option<Body>,
    ) -> Option<Task> {
        let help = "write `- call: { expression: ... }`, or a kind such as `- map: ...`";
        let fields = self.mapping(node, "a step (a mapping)", help)?;
        // The wiring of tasks is refused below, with the reason.
        let known = [SHARED_FIELDS, &["call", "keep", "otherwise"], KINDS, WIRING_FIELDS].concat();
        let name = match fields.get("name") {
            Some(name) => self.name(name),
            None => Some(default_name),
        };
        let what = name.as_ref().map_or_else(|| "a step".to_owned(), |name| format!("step `{name}`"));
        for field in WIRING_FIELDS {
            if let Some((key, value)) = fields.entry(field) {
                let error = self.document().error_at_key(key, value, format!("a step has no `{field}`"));
                self.fail(error.help(
                    "a step is given what the step before it made, as `value`; use `tasks:` to join by names",
                ));
            }
        }
        let mut scope = self.scope(fields, &inputs, what.clone(), true);
        let kind = match fields.entry("call") {
            Some((_, call)) => self.call(fields, call, &what, &known, &mut scope),
            None => self.kind(fields, &what, &known, &mut scope).map(Body::from),
        };
        let keep = fields.get("keep").and_then(|keep| self.flag(keep)).unwrap_or_default();
        let mut task = Task::new(name?, kind?);
        self.shared(fields, &mut scope, &mut task);
        *other =
            fields.get("otherwise").and_then(|node| self.otherwise(node, fields, &what, keep, &mut scope));
        if let Some(other) = other {
            let constants = task.body.with.clone();
            other.with = constants.into_iter().chain(std::mem::take(&mut other.with)).collect();
        }
        task.inputs = inputs;
        task.keep = keep;
        Some(task)
    }

    /// What a step does where its condition is not true: `pass` hands the value on as it is.
    fn otherwise(
        &mut self,
        node: &Node,
        fields: Fields<'_>,
        what: &str,
        keep: bool,
        scope: &mut Scope,
    ) -> Option<Body> {
        if fields.get("when").is_none() {
            let help = "add `when:`, an expression over `value`";
            self.wrong(node, format!("{what} has `otherwise` and no condition"), help);
            return None;
        }
        if keep {
            let help = "remove one of them: the value before goes on in any case";
            self.wrong(node, format!("{what} drops its value, and says what becomes of it otherwise"), help);
            return None;
        }
        if node.as_str() != Some(PASS) {
            return self.body(node, &format!("the `otherwise` of {what}"), &[], scope);
        }
        if !scope.has(VALUE) {
            let help = "only a step behind another one, or of a pipeline without `inputs`, is given one";
            self.wrong(node, format!("{what} is given no `{VALUE}` that could pass"), help);
            return None;
        }
        Expr::compile(VALUE).ok().map(|value| TaskKind::Expression(value).into())
    }

    /// Notes the names that `node`, an expression or template, reads although they are not in scope.
    pub(super) fn check_names(
        &mut self,
        node: &Node,
        names: &[String],
        place_of: impl Fn(&str) -> Option<std::ops::Range<usize>>,
        scope: &Scope,
    ) {
        for name in names.iter().filter(|name| !scope.has(name)) {
            if self.is_full() {
                return self.count_only();
            }
            let message = format!("`{name}` is no input of {}", scope.owner);
            let error = self.document().error_within(node, place_of(name), message);
            self.fail(match scope.nearest(name) {
                Some(near) => error.label(format!("did you mean `{near}`?")),
                None if scope.chained => {
                    error.help("a step sees `value`, the names of the map around it, and its `with:`")
                }
                None => error.help(format!(
                    "add `{name}` to the task's `inputs:`, or to its `with:` if it is a constant"
                )),
            });
        }
    }

    pub(super) fn checked_expr(&mut self, node: &Node, scope: &Scope) -> Option<Expr> {
        let expr = self.expr(node)?;
        self.check_names(node, expr.names(), |name| expr.place_of(name), scope);
        Some(expr)
    }

    fn call(
        &mut self,
        fields: Fields<'_>,
        call: &Node,
        what: &str,
        known: &[&'static str],
        scope: &mut Scope,
    ) -> Option<Body> {
        self.unknown_fields(fields, what, known);
        if let Some((key, value)) = fields.entries.iter().find(|(key, _)| KINDS.contains(&key.text.as_str()))
        {
            let message = format!("{what} has `call:` and a second thing to do, `{}`", key.text);
            self.fail(self.document().error_at_key(key, value, message).help("make two steps of it"));
            return None;
        }
        self.body(call, &format!("the call of {what}"), &[], scope)
    }

    fn scope(&mut self, fields: Fields<'_>, inputs: &[Input], owner: String, chained: bool) -> Scope {
        let mut names = HashSet::with_capacity(inputs.len());
        for input in inputs {
            if !names.insert(input.name.clone()) {
                let message = format!("{owner} has two inputs called `{}`", input.name);
                self.wrong(
                    fields.get("inputs").unwrap_or(fields.node),
                    message,
                    "remove one, or rename it: `inputs: { other_name: source }`",
                );
            }
        }
        if let Some(NodeValue::Mapping(constants)) = fields.get("with").map(|with| &with.value) {
            for (key, value) in constants {
                if !names.insert(key.text.clone()) {
                    let message =
                        format!("`{}` is an input of {owner} and a constant in its `with:`", key.text);
                    self.fail(self.document().error_at_key(key, value, message).help("rename one of them"));
                }
            }
        }
        Scope { owner, names, locals: Vec::new(), implied: Vec::new(), chained }
    }

    /// The fields that tasks and steps share.
    fn shared(&mut self, fields: Fields<'_>, scope: &mut Scope, task: &mut Task) {
        task.description = fields.get("description").and_then(|text| self.text(text)).map(str::to_owned);
        let with = self.constants(fields.get("with"));
        task.body.with = with.into_iter().chain(std::mem::take(&mut task.body.with)).collect::<Map<_, _>>();
        task.when = fields.get("when").and_then(|when| self.checked_expr(when, scope));
        task.timeout = match fields.get("timeout") {
            Some(timeout) => self.time_limit(timeout),
            None => self.defaults.step_timeout.filter(|_| !task.body.kind.waits()),
        };
        task.total_timeout = fields.get("total_timeout").and_then(|timeout| self.time_limit(timeout));
        if let (TaskKind::Wait(WaitSpec { until: WaitFor::Duration(duration), .. }), Some(limit)) =
            (&task.body.kind, task.timeout.into_iter().chain(task.total_timeout).min())
            && *duration > limit
        {
            let place = fields.get("timeout").or(fields.get("total_timeout")).unwrap_or(fields.node);
            let message = format!("the wait takes {}, which is longer", format_duration(*duration));
            self.wrong(place, message, "leave the limit out: a wait for a duration ends by itself");
        }
        task.retry = match fields.get("retry") {
            Some(retry) => self.retry(retry).unwrap_or_default(),
            None => self.defaults.retry.clone(),
        };
        task.resources = fields
            .get("resources")
            .map(|resources| self.resources(resources, &task.body.kind))
            .unwrap_or_default();
        task.compensate =
            fields.get("compensate").and_then(|undo| self.compensation(undo, scope)).map(Box::new);
        task.cache = fields.get("cache").and_then(|cache| self.cache(cache, scope, task)).map(Box::new);
        task.on_error = fields.get("on_error").and_then(|rule| self.choice(rule, ON_ERROR));
    }

    /// A list of names, or a mapping of the name in the task to the name outside.
    fn inputs(&mut self, node: Option<&Node>, optional: bool) -> Vec<Input> {
        let Some(node) = node else { return Vec::new() };
        let mut inputs = Vec::new();
        match &node.value {
            NodeValue::Sequence(items) => {
                for name in items.iter().filter_map(|item| self.name(item)) {
                    inputs.push(Input { source: name.clone(), name, optional });
                }
            }
            NodeValue::Mapping(entries) => {
                for (key, value) in entries {
                    if let (true, Some(source)) = (self.check_key(key, value), self.name(value)) {
                        inputs.push(Input { name: key.text.clone(), source, optional });
                    }
                }
            }
            _ => self.wrong_type(node, "a list of names", "write `[name]`, or `{ name_in_task: name }`"),
        }
        inputs
    }

    /// None when the task says nothing about them.
    fn outputs(&mut self, fields: Fields<'_>) -> Option<Vec<String>> {
        match (fields.get("output"), fields.get("outputs")) {
            (Some(output), None) => match &output.value {
                NodeValue::Sequence(_) => {
                    self.wrong(output, "`output` is one name", "use `outputs:` for several");
                    None
                }
                _ => self.name(output).map(|name| vec![name]),
            },
            (None, Some(outputs)) => {
                let names = self.names(outputs)?;
                if names.is_empty() {
                    self.wrong(
                        outputs,
                        "`outputs` has no names",
                        "leave it out: the output is then called as the task",
                    );
                }
                Some(names)
            }
            (Some(_), Some(outputs)) => {
                self.wrong(
                    outputs,
                    "a task has `output:` or `outputs:`, not both",
                    "put all names into `outputs:`",
                );
                None
            }
            (None, None) => None,
        }
    }
}
