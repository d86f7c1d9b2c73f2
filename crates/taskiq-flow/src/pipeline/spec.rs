//! One task of a pipeline being put together.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value, json};
use taskiq_flow_core::definition::{ErrorRule, OnError, OnFull, OnItemError, RetryPolicy};
use taskiq_flow_core::time::format_duration;

use crate::task::{TaskDef, TaskInfo};

/// The name under which a step of the chained style is given what the step before it made.
const CHAINED: &str = "value";

/// Where what is done in place of a step stands.
const OTHERWISE: &str = "an `otherwise`";

/// A task of a pipeline: what it does, what it is given and what it makes.
///
/// ```
/// use std::time::Duration;
/// use taskiq_flow::pipeline::{Pipeline, command, expr};
///
/// let pipeline = Pipeline::dataflow("report")
///     .task(command(["wc", "-w"]).named("count").inputs(["text"]).output("words").timeout(Duration::from_secs(5)))
///     .task(expr("verdict", "'long' if words > limit else 'short'").inputs(["words"]).with("limit", 100))
///     .build()?;
/// assert_eq!(pipeline.tasks[0].outputs, ["words"]);
/// # Ok::<(), taskiq_flow::core::diagnostic::Diagnostics>(())
/// ```
#[derive(Debug, Clone)]
#[must_use = "a task does nothing until it is part of a pipeline"]
pub struct TaskSpec {
    name: Option<String>,
    kind: String,
    pub(super) what: Value,
    with: Map<String, Value>,
    /// What its author said about inputs and outputs; none: what the Rust tasks in it say.
    inputs: Option<Vec<Wire>>,
    outputs: Option<Vec<String>>,
    /// What the Rust tasks in it need, and what is told them beside the name.
    pub(super) needs: Vec<Need>,
    /// `when`, `timeout` and the like, by their names in a file.
    settings: Map<String, Value>,
    /// The same, as the attribute of a Rust task has them.
    defaults: Map<String, Value>,
    rust: Vec<Arc<dyn TaskDef>>,
    /// The Rust tasks that undo it.
    undoing: Vec<Arc<dyn TaskDef>>,
    /// The Rust tasks of what is done in its place.
    others: Vec<Arc<dyn TaskDef>>,
    /// What would undo Rust tasks in it, if there were a place for that.
    left_out: Vec<LeftOut>,
}

/// A Rust task that brings what undoes it to where nothing is undone.
#[derive(Debug, Clone)]
pub(super) struct LeftOut {
    pub(super) task: &'static str,
    /// Inside what.
    pub(super) within: String,
}

#[derive(Debug, Clone)]
struct Wire {
    name: String,
    source: String,
    optional: bool,
    /// Whether the pipeline's author said so, or only a Rust task asks for it.
    said: bool,
}

/// An input of a Rust task.
#[derive(Debug, Clone)]
pub(super) struct Need {
    pub(super) name: &'static str,
    optional: bool,
    /// Whether the chained value will do.
    first: bool,
}

impl TaskSpec {
    pub(super) fn new(kind: impl Into<String>, what: impl Into<Value>) -> Self {
        Self {
            name: None,
            kind: kind.into(),
            what: what.into(),
            with: Map::new(),
            inputs: None,
            outputs: None,
            needs: Vec::new(),
            settings: Map::new(),
            defaults: Map::new(),
            rust: Vec::new(),
            undoing: Vec::new(),
            others: Vec::new(),
            left_out: Vec::new(),
        }
    }

    /// Its name, unique within the pipeline.
    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// One line for people.
    pub fn description(self, text: impl Into<String>) -> Self {
        self.set("description", text.into())
    }

    /// What it is given: outputs of other tasks, or parameters, under their own names. Replaces what a Rust task asks
    /// for.
    pub fn inputs<S: Into<String>>(mut self, names: impl IntoIterator<Item = S>) -> Self {
        let wire = |name: S| {
            let name = name.into();
            Wire { source: name.clone(), name, optional: false, said: true }
        };
        let optional = self.inputs.take().into_iter().flatten().filter(|wire| wire.optional);
        let optional: Vec<_> = optional.collect();
        self.inputs = Some(names.into_iter().map(wire).chain(optional).collect());
        self
    }

    /// What it is given where it is there, and null where it is not.
    pub fn optional_inputs<S: Into<String>>(mut self, names: impl IntoIterator<Item = S>) -> Self {
        for name in names {
            let name = name.into();
            self.put(Wire { source: name.clone(), name, optional: true, said: true });
        }
        self
    }

    /// Gives it `source`, an output or a parameter, under the name `input`.
    pub fn wire(mut self, input: impl Into<String>, source: impl Into<String>) -> Self {
        let (name, source) = (input.into(), source.into());
        let known = self.wires().into_iter().find(|wire| wire.name == name);
        let optional = known.is_some_and(|wire| wire.optional);
        self.put(Wire { name, source, optional, said: true });
        self
    }

    /// The tasks that must have been completed before it, whether or not it needs what they make.
    pub fn after<S: Into<String>>(self, names: impl IntoIterator<Item = S>) -> Self {
        self.set("after", names.into_iter().map(Into::into).collect::<Vec<String>>())
    }

    /// Of a step of the chained style: its value is dropped, and that of the step before it goes on.
    pub fn keep(self) -> Self {
        self.set("keep", true)
    }

    /// Gives it a constant.
    pub fn with(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        self.with.insert(name.into(), value.into());
        self
    }

    /// The name of what it makes.
    pub fn output(self, name: impl Into<String>) -> Self {
        self.outputs([name.into()])
    }

    /// The names of what it makes: it then makes an object with these keys.
    pub fn outputs<S: Into<String>>(mut self, names: impl IntoIterator<Item = S>) -> Self {
        self.outputs = Some(names.into_iter().map(Into::into).collect());
        self
    }

    /// An expression over its inputs; the step is skipped when it is not true.
    pub fn when(self, condition: impl Into<String>) -> Self {
        self.set("when", condition.into())
    }

    /// The longest an attempt may take.
    pub fn timeout(self, limit: Duration) -> Self {
        self.set("timeout", format_duration(limit))
    }

    /// The longest the whole step may take, with all its attempts and items.
    pub fn total_timeout(self, limit: Duration) -> Self {
        self.set("total_timeout", format_duration(limit))
    }

    /// So many attempts more when one fails, with the usual waits between them.
    pub fn retries(self, count: u32) -> Self {
        self.set("retry", json!({ "max_attempts": u64::from(count) + 1 }))
    }

    /// How often and how soon a failed attempt is repeated.
    pub fn retry(self, policy: RetryPolicy) -> Self {
        self.set("retry", retry(&policy))
    }

    /// Keeps its values for later runs with the same inputs; of a map and the like those of its items. Each is good for
    /// `ttl`; none: as long as it is kept.
    pub fn cache(self, ttl: impl Into<Option<Duration>>) -> Self {
        let ttl = ttl.into().map(format_duration);
        self.cache_field("ttl", ttl.map(Value::from))
    }

    /// An expression over its inputs: what a kept value depends on, instead of all of them.
    pub fn cache_key(self, key: impl Into<String>) -> Self {
        self.cache_field("key", Some(key.into().into()))
    }

    /// Another version makes all values that were kept so far count no longer.
    pub fn cache_version(self, version: impl Into<String>) -> Self {
        self.cache_field("version", Some(version.into().into()))
    }

    /// What its failure does to the rest of the run.
    pub fn on_error(self, rule: OnError) -> Self {
        self.set("on_error", rule.as_str())
    }

    /// What undoes it when its run fails after it was completed: it sees the task's inputs and, as `result`, its value.
    /// Its own `retry` and `timeout` count; other settings have no place there.
    pub fn compensate(mut self, undo: impl Into<Self>) -> Self {
        let undo = undo.into();
        let fields = undo.to_undo();
        self.undoing = undo.rust;
        self.set("compensate", fields)
    }

    /// Does not have it undone by what its attribute says (`#[task(compensate = ...)]`): such as inside a map, where nothing
    /// is undone item by item.
    pub fn without_compensation(mut self) -> Self {
        self.defaults.remove("compensate");
        self.undoing.clear();
        self
    }

    /// What a step does in place of this where its condition ([`TaskSpec::when`]) is not true, in the chained style.
    pub fn otherwise(mut self, other: impl Into<Self>) -> Self {
        let other = other.into();
        let mut fields = Map::new();
        other.to_body(&mut fields);
        self.leave_out(&other, OTHERWISE);
        self.others.extend(other.rust);
        self.set("otherwise", Value::Object(fields))
    }

    /// Hands the value on as it is where the condition ([`TaskSpec::when`]) is not true, in the chained style.
    pub fn or_pass(self) -> Self {
        self.set("otherwise", "pass")
    }

    /// As what undoes another.
    fn to_undo(&self) -> Value {
        let mut fields = Map::new();
        let defaults = self.defaults.iter().filter(|(name, _)| matches!(name.as_str(), "retry" | "timeout"));
        fields.extend(defaults.map(|(name, value)| (name.clone(), value.clone())));
        self.to_body(&mut fields);
        Value::Object(fields)
    }

    fn of(task: Arc<dyn TaskDef>) -> Self {
        let info: &'static TaskInfo = task.info();
        let mut spec = Self::new("task", info.name());
        spec.defaults = info.settings();
        let needs = info.inputs().iter().enumerate().map(|(place, input)| Need {
            name: input.name(),
            optional: input.is_optional(),
            first: place == 0,
        });
        spec.needs = needs.collect();
        if let Some(undo) = task.compensation() {
            spec.defaults.insert("compensate".to_owned(), Self::of_undo(Arc::clone(&undo)).to_undo());
            spec.undoing.push(undo);
        }
        spec.rust.push(task);
        spec
    }

    /// A task that undoes another: nothing undoes it.
    fn of_undo(task: Arc<dyn TaskDef>) -> Self {
        let mut spec = Self::new("task", task.info().name());
        spec.defaults = task.info().settings();
        spec
    }

    /// The name under which a map, filter or reduce shows the item.
    pub fn item(self, name: impl Into<String>) -> Self {
        self.within("as", name.into())
    }

    /// The name under which a reduce shows what the items before came to.
    pub fn accumulator(self, name: impl Into<String>) -> Self {
        self.within("into", name.into())
    }

    /// At most so many items of a map or filter at once.
    pub fn max_parallel(self, count: u32) -> Self {
        self.within("max_parallel", count)
    }

    /// So many items of a map or filter are carried out by one attempt; of a reduce gone through in one.
    pub fn chunk(self, size: u32) -> Self {
        self.within("chunk", size)
    }

    /// As many items of a map or filter are carried out by one attempt as suit their number.
    pub fn chunk_auto(self) -> Self {
        self.within("chunk", "auto")
    }

    /// What the failure of an item of a map or filter does. Unless it fails the map, there is a further output, called
    /// as the task's with `_errors` behind it: what went wrong with which item.
    pub fn on_item_error(self, rule: OnItemError) -> Self {
        let rule = match rule {
            OnItemError::Fail => "fail",
            OnItemError::Skip => "skip",
            OnItemError::Collect => "collect",
        };
        self.within("on_item_error", rule)
    }

    pub(super) fn rust_tasks(&self) -> impl Iterator<Item = &Arc<dyn TaskDef>> {
        self.rust.iter().chain(&self.undoing).chain(&self.others)
    }

    /// What would undo Rust tasks in it, and is dropped.
    pub(super) fn left_out(&self) -> impl Iterator<Item = &LeftOut> {
        let of_the_whole = self.settings.contains_key("compensate");
        self.left_out.iter().filter(move |left_out| !of_the_whole || left_out.within == OTHERWISE)
    }

    /// Notes what would undo something in it. Where the whole of that is undone, so is what is in it.
    fn leave_out(&mut self, inner: &Self, within: &str) {
        self.left_out.extend(inner.left_out().cloned());
        if inner.defaults.contains_key("compensate") {
            let tasks = inner.rust.iter().map(|task| task.info().name());
            self.left_out.extend(tasks.map(|task| LeftOut { task, within: within.to_owned() }));
        }
    }

    /// Takes over what the Rust tasks of a body need and are, but for the names that are bound around it.
    pub(super) fn around(mut self, body: &Self, bound: &[String], with_defaults: bool) -> Self {
        let free = body
            .needs
            .iter()
            .filter(|need| !bound.iter().any(|name| name == need.name) && !body.with.contains_key(need.name));
        for need in free {
            if !self.needs.iter().any(|known| known.name == need.name) {
                self.needs.push(Need { first: need.first && bound.is_empty(), ..need.clone() });
            }
        }
        let within = format!("a `{}`", self.kind);
        self.leave_out(body, &within);
        self.rust.extend(body.rust.iter().cloned());
        if with_defaults {
            let of_the_whole = ["description", "compensate"];
            let defaults = body.defaults.iter().filter(|(name, _)| !of_the_whole.contains(&name.as_str()));
            self.defaults.extend(defaults.map(|(name, value)| (name.clone(), value.clone())));
        }
        self
    }

    /// The required inputs of Rust tasks that are not among the names given to a step.
    pub(super) fn misses(&self, given: &[&str]) -> Vec<&'static str> {
        let has = |need: &Need| {
            given.contains(&need.name)
                || self.with.contains_key(need.name)
                || (need.first && (given.contains(&CHAINED) || self.with.contains_key(CHAINED)))
        };
        self.needs.iter().filter(|need| !need.optional && !has(need)).map(|need| need.name).collect()
    }

    /// As an entry of `tasks:`. What a Rust task can do without is left out unless it is `known`.
    pub(super) fn to_task(&self, known: impl Fn(&str) -> bool) -> Value {
        let mut fields = Map::new();
        if let Some(name) = self.name.clone().or_else(|| self.rust_name()) {
            fields.insert("name".to_owned(), name.into());
        }
        self.do_what(&mut fields);
        let wires =
            self.wires().into_iter().filter(|wire| wire.said || !wire.optional || known(&wire.source));
        let (optional, required): (Vec<_>, Vec<_>) = wires.partition(|wire| wire.optional);
        for (field, wires) in [("inputs", required), ("optional_inputs", optional)] {
            if !wires.is_empty() {
                fields.insert(field.to_owned(), wiring(&wires));
            }
        }
        self.make(&mut fields, self.outputs.as_deref().or(self.made_by_rust().as_deref()));
        self.be_set(&mut fields);
        Value::Object(fields)
    }

    /// The names it makes.
    pub(super) fn makes(&self) -> Vec<String> {
        let own = || self.name.clone().or_else(|| self.rust_name()).into_iter().collect();
        self.outputs.clone().or_else(|| self.made_by_rust()).unwrap_or_else(own)
    }

    /// As an entry of `steps:`. Names of Rust tasks serve as names of steps as long as they are not taken.
    pub(super) fn to_step(&self, taken: &mut Vec<String>) -> Value {
        let mut fields = Map::new();
        let free = |name: &String| !taken.contains(name);
        let name = self.name.clone().or_else(|| self.rust_name().filter(free));
        if let Some(name) = name {
            taken.push(name.clone());
            fields.insert("name".to_owned(), name.into());
        }
        self.do_what(&mut fields);
        self.be_wired(&mut fields);
        self.be_set(&mut fields);
        Value::Object(fields)
    }

    /// As what a map and the like does, into the fields of the map. What does not belong there stays, so that the
    /// loader says so.
    pub(super) fn to_body(&self, fields: &mut Map<String, Value>) {
        self.do_what(fields);
        self.be_wired(fields);
        fields.extend(self.settings.clone());
    }

    /// As a member of a group.
    pub(super) fn to_member(&self) -> Value {
        let mut fields = Map::new();
        if let Some(name) = self.name.clone().or_else(|| self.rust_name()) {
            fields.insert("name".to_owned(), name.into());
        }
        self.to_body(&mut fields);
        Value::Object(fields)
    }

    fn do_what(&self, fields: &mut Map<String, Value>) {
        fields.insert(self.kind.clone(), self.what.clone());
        if !self.with.is_empty() {
            fields.insert("with".to_owned(), Value::Object(self.with.clone()));
        }
    }

    /// Only what the author said: where there is no wiring, the loader refuses it.
    fn be_wired(&self, fields: &mut Map<String, Value>) {
        if let Some(wires) = &self.inputs {
            fields.insert("inputs".to_owned(), wiring(wires));
        }
        self.make(fields, self.outputs.as_deref());
    }

    fn make(&self, fields: &mut Map<String, Value>, outputs: Option<&[String]>) {
        match outputs {
            Some([one]) => drop(fields.insert("output".to_owned(), one.as_str().into())),
            Some(several) => drop(fields.insert("outputs".to_owned(), several.to_vec().into())),
            None => {}
        }
    }

    fn be_set(&self, fields: &mut Map<String, Value>) {
        fields.extend(self.defaults.clone());
        fields.extend(self.settings.clone());
    }

    /// Of a Rust task that is not inside a map and the like.
    fn rust_info(&self) -> Option<&'static TaskInfo> {
        self.rust.first().filter(|_| self.kind == "task").map(|task| task.info())
    }

    fn rust_name(&self) -> Option<String> {
        self.rust_info().map(|info| info.name().to_owned())
    }

    /// The outputs a Rust task names, unless it is called by another name: then its output is called so too.
    fn made_by_rust(&self) -> Option<Vec<String>> {
        let info = self.rust_info()?;
        let renamed = self.name.as_deref().is_some_and(|name| name != info.name());
        let own = info.outputs() != [info.name()];
        (own || !renamed).then(|| info.outputs().iter().map(|name| (*name).to_owned()).collect())
    }

    fn wires(&self) -> Vec<Wire> {
        let need = |need: &Need| {
            let name = need.name.to_owned();
            Wire { source: name.clone(), name, optional: need.optional, said: false }
        };
        let mut wires = self.inputs.clone().unwrap_or_else(|| self.needs.iter().map(need).collect());
        wires.retain(|wire| wire.said || !self.with.contains_key(&wire.name));
        wires
    }

    fn put(&mut self, wire: Wire) {
        let mut wires = self.wires();
        match wires.iter_mut().find(|known| known.name == wire.name) {
            Some(known) => *known = wire,
            None => wires.push(wire),
        }
        self.inputs = Some(wires);
    }

    fn set(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.settings.insert(name.to_owned(), value.into());
        self
    }

    /// Sets one field of `cache`, beside those that the attribute of a Rust task has.
    fn cache_field(self, name: &str, value: Option<Value>) -> Self {
        let known = self.settings.get("cache").or(self.defaults.get("cache"));
        let mut cache = known.cloned().unwrap_or_else(|| json!({}));
        match value {
            Some(value) => cache[name] = value,
            None => drop(cache.as_object_mut().and_then(|fields| fields.remove(name))),
        }
        self.set("cache", cache)
    }

    fn within(mut self, name: &str, value: impl Into<Value>) -> Self {
        match &mut self.what {
            Value::Object(fields) => drop(fields.insert(name.to_owned(), value.into())),
            // The loader says that this kind has no such field.
            _ => drop(self.settings.insert(name.to_owned(), value.into())),
        }
        self
    }
}

impl<T: TaskDef> From<T> for TaskSpec {
    fn from(task: T) -> Self {
        Self::of(Arc::new(task))
    }
}

pub(super) fn retry(policy: &RetryPolicy) -> Value {
    let mut fields = json!({
        "max_attempts": policy.max_attempts,
        "delay": format_duration(policy.delay),
        "backoff": policy.backoff,
        "jitter": policy.jitter,
        "max_delay": format_duration(policy.max_delay),
    });
    let rules = |rules: &[ErrorRule]| rules.iter().map(ErrorRule::as_str).collect::<Value>();
    if let Some(limit) = policy.max_time {
        fields["max_time"] = format_duration(limit).into();
    }
    if let Some(only) = &policy.retry_on {
        fields["retry_on"] = rules(only);
    }
    if !policy.not_on.is_empty() {
        fields["not_on"] = rules(&policy.not_on);
    }
    fields
}

pub(super) fn on_full(rule: OnFull) -> &'static str {
    match rule {
        OnFull::Queue => "queue",
        OnFull::Skip => "skip",
        OnFull::CancelOldest => "cancel_oldest",
    }
}

fn wiring(wires: &[Wire]) -> Value {
    match wires.iter().all(|wire| wire.name == wire.source) {
        true => wires.iter().map(|wire| wire.name.as_str()).collect(),
        false => wires.iter().map(|wire| (wire.name.clone(), Value::from(wire.source.as_str()))).collect(),
    }
}
