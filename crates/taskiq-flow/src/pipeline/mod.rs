//! Pipelines put together in Rust.
//!
//! In the dataflow style tasks are joined by names: a task's inputs are outputs of other tasks, or parameters.
//!
//! ```
//! use taskiq_flow::pipeline::{Pipeline, expr};
//! use taskiq_flow::task;
//!
//! #[task(output = "sum")]
//! async fn add(a: i64, b: i64) -> i64 {
//!     a + b
//! }
//!
//! let registry = taskiq_flow::task::TaskRegistry::default();
//! let pipeline = Pipeline::dataflow("totals")
//!     .input("a", "integer")
//!     .input("b", serde_json::json!({ "type": "integer", "minimum": 0 }))
//!     .task(add)
//!     .task(expr("double", "sum * factor").inputs(["sum"]).with("factor", 2))
//!     .max_parallel(4)
//!     .build_with(&registry)?;
//! assert_eq!(pipeline.tasks[1].inputs[0].source, "sum");
//! assert_eq!(registry.names(), ["add"]);
//! # Ok::<(), taskiq_flow::core::diagnostic::Diagnostics>(())
//! ```
//!
//! In the chained style each step is given what the step before it made, as `value`:
//!
//! ```
//! use taskiq_flow::pipeline::{Pipeline, expr, expression};
//! use taskiq_flow::task;
//!
//! #[task]
//! async fn shout(word: String) -> String {
//!     word.to_uppercase()
//! }
//!
//! let pipeline = Pipeline::chain("words")
//!     .input("text", "string")
//!     .call(expression("text | split"))
//!     .map(shout)
//!     .filter(expression("value | length > 3"))
//!     .group([expr("first", "value[0]"), expr("count", "value | length")])
//!     .build()?;
//! assert_eq!(pipeline.tasks.len(), 4);
//! # Ok::<(), taskiq_flow::core::diagnostic::Diagnostics>(())
//! ```
//!
//! A Rust task is wired by the names of its parameters; one of type `Option` is left out where nothing makes it.
//! [`TaskSpec`] wires and names it otherwise.
//!
//! Rules: a builder writes the same definition a file would hold, and [`build`](PipelineBuilder::build) loads it, so
//! everything that is refused in a file is refused here with the same words, and what was built can be stored, shown
//! and loaded again. Rust tasks are named in it by name: whoever runs the pipeline must know them, which
//! [`build_with`](PipelineBuilder::build_with) sees to.

mod kinds;
mod spec;

use std::collections::HashSet;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value, json};
use taskiq_flow_broker::TaskRegistry;
use taskiq_flow_core::definition::{self, OnError, OnFull, RetryPolicy, ScheduleSpec, Timing};
use taskiq_flow_core::diagnostic::{Diagnostic, Diagnostics, SourceText};
use taskiq_flow_core::document::Document;
use taskiq_flow_core::load::load_document;
use taskiq_flow_core::time::format_duration;

use crate::task::{TaskDef, register};

pub use self::kinds::{
    command, expr, expression, filter, group, http, kind, map, reduce, sub_pipeline, wait_for,
    wait_for_signal,
};
use self::spec::LeftOut;
pub use self::spec::TaskSpec;

/// Where builders begin. What they make is a [`definition::Pipeline`].
#[derive(Debug, Clone, Copy)]
pub enum Pipeline {}

/// A pipeline being put together.
#[derive(Debug, Clone)]
#[must_use = "a builder makes nothing until it is built"]
pub struct PipelineBuilder<Style> {
    id: String,
    /// The fields of the definition beside `id`, `inputs` and the tasks.
    fields: Map<String, Value>,
    inputs: Map<String, Value>,
    tasks: Vec<TaskSpec>,
    style: PhantomData<Style>,
}

/// The style that joins tasks by names.
#[derive(Debug, Clone, Copy)]
pub enum Dataflow {}

/// The style that hands a value from step to step.
#[derive(Debug, Clone, Copy)]
pub enum Chained {}

impl Pipeline {
    /// A pipeline of tasks that are joined by the names of inputs and outputs.
    pub fn dataflow(id: impl Into<String>) -> PipelineBuilder<Dataflow> {
        PipelineBuilder::new(id.into())
    }

    /// A pipeline of steps, each given what the one before it made.
    pub fn chain(id: impl Into<String>) -> PipelineBuilder<Chained> {
        PipelineBuilder::new(id.into())
    }
}

impl<Style> PipelineBuilder<Style> {
    fn new(id: String) -> Self {
        Self { id, fields: Map::new(), inputs: Map::new(), tasks: Vec::new(), style: PhantomData }
    }

    /// One line for people.
    pub fn description(self, text: impl Into<String>) -> Self {
        self.field("description", text.into())
    }

    /// Declares a parameter: its JSON Schema, or only the name of its type such as `integer`. It is required unless
    /// the schema has a `default`. Once one is declared, all must be.
    pub fn input(mut self, name: impl Into<String>, schema: impl Into<Value>) -> Self {
        let schema = match schema.into() {
            Value::String(kind) => json!({ "type": kind }),
            schema => schema,
        };
        self.inputs.insert(name.into(), schema);
        self
    }

    /// What a failing task does to the rest of the run.
    pub fn on_error(self, rule: OnError) -> Self {
        self.field("on_error", rule.as_str())
    }

    /// At most so many attempts of one run at once; at least 1.
    pub fn max_parallel(self, count: u32) -> Self {
        self.field("max_parallel", count)
    }

    /// How urgent its runs are: 0 to 9, the higher the sooner; else 5.
    pub fn priority(self, priority: u8) -> Self {
        self.field("priority", priority)
    }

    /// At most so many runs of the pipeline at once; further ones wait.
    pub fn max_runs(self, count: u32) -> Self {
        self.limit(json!({ "max": count }))
    }

    /// At most so many runs at once that have the same value of `key`, an expression over the parameters.
    pub fn max_runs_per(self, key: impl Into<String>, count: u32, on_full: OnFull) -> Self {
        self.limit(json!({ "max": count, "key": key.into(), "on_full": spec::on_full(on_full) }))
    }

    fn limit(mut self, limit: Value) -> Self {
        match self.fields.get_mut("concurrency") {
            Some(Value::Array(limits)) => limits.push(limit),
            _ => drop(self.fields.insert("concurrency".to_owned(), json!([limit]))),
        }
        self
    }

    /// The longest a run may take.
    pub fn timeout(self, limit: Duration) -> Self {
        self.field("timeout", format_duration(limit))
    }

    /// How often and how soon a failed attempt is repeated, of tasks that do not say it themselves.
    pub fn retry(self, policy: RetryPolicy) -> Self {
        self.field("retry", spec::retry(&policy))
    }

    /// The longest an attempt may take, of tasks that do not say it themselves and do not wait.
    pub fn step_timeout(self, limit: Duration) -> Self {
        self.field("step_timeout", format_duration(limit))
    }

    /// Undoes what was done when a run is cancelled too, not only when it fails.
    pub fn compensate_on_cancel(self) -> Self {
        self.field("compensate_on_cancel", true)
    }

    /// The webhooks that are told of its events, by the names they have in the configuration.
    pub fn on_event<S: Into<String>>(self, webhooks: impl IntoIterator<Item = S>) -> Self {
        self.field("on_event", webhooks.into_iter().map(Into::into).collect::<Vec<String>>())
    }

    /// When the pipeline runs by itself.
    pub fn schedule(mut self, schedule: ScheduleSpec) -> Self {
        let (name, when) = match schedule.timing {
            Timing::Cron(text) => ("cron", text),
            Timing::Interval(every) => ("interval", format_duration(every)),
            Timing::At(time) => ("at", time.to_string()),
        };
        let mut entry = json!({
            "id": schedule.id, name: when, "timezone": schedule.timezone, "parameters": schedule.parameters,
            "enabled": schedule.enabled,
        });
        if let (Value::Object(entry), Value::Object(rules)) = (&mut entry, json!(schedule.rules)) {
            entry.extend(rules);
        }
        match self.fields.get_mut("schedule") {
            Some(Value::Array(entries)) => entries.push(entry),
            _ => drop(self.fields.insert("schedule".to_owned(), json!([entry]))),
        }
        self
    }

    /// Makes the Rust tasks of the pipeline known.
    pub fn register(&self, registry: &TaskRegistry) {
        for task in self.rust_tasks() {
            register(Arc::clone(task), registry);
        }
    }

    fn field(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.fields.insert(name.to_owned(), value.into());
        self
    }

    fn rust_tasks(&self) -> impl Iterator<Item = &Arc<dyn TaskDef>> {
        self.tasks.iter().flat_map(TaskSpec::rust_tasks)
    }

    fn finish(&self, list: &str, tasks: Vec<Value>) -> Result<definition::Pipeline, Diagnostics> {
        self.check_names()?;
        self.check_undoing(list)?;
        let mut source = Map::new();
        source.insert("id".to_owned(), Value::from(self.id.as_str()));
        if !self.inputs.is_empty() {
            source.insert("inputs".to_owned(), Value::Object(self.inputs.clone()));
        }
        source.insert(list.to_owned(), Value::Array(tasks));
        source.extend(self.fields.clone());
        let document = Document::from_json(&self.source_name(), Value::Object(source))?;
        let pipelines = load_document(&document)?;
        pipelines
            .into_iter()
            .next()
            .ok_or_else(|| self.mistake("", "there is no pipeline", "name its tasks").into())
    }

    /// Two functions of one name: only one of them would ever be called.
    fn check_names(&self) -> Result<(), Diagnostics> {
        let tasks: Vec<_> = self.rust_tasks().map(|task| task.info()).collect();
        for (place, task) in tasks.iter().enumerate() {
            let other = tasks[..place]
                .iter()
                .any(|other| other.name() == task.name() && !std::ptr::eq(*other, *task));
            if other {
                let message = format!("two Rust tasks are called `{}`", task.name());
                return Err(self
                    .mistake("", message, "give one of them another name: `#[task(name = \"...\")]`")
                    .into());
            }
        }
        Ok(())
    }

    /// What undoes a Rust task is part of its attribute, and must not be dropped where there is no place for it.
    fn check_undoing(&self, list: &str) -> Result<(), Diagnostics> {
        let left_out = self
            .tasks
            .iter()
            .enumerate()
            .flat_map(|(place, task)| task.left_out().map(move |left_out| (place, left_out)));
        let mistakes = left_out.map(|(place, LeftOut { task, within })| {
            let message = format!(
                "what undoes the Rust task `{task}` (`compensate`) has no place inside {within}: nothing would undo it there"
            );
            let help = "make it a task of its own, say what undoes the whole by `.compensate(...)`, or that nothing does by \
                        `.without_compensation()` of the inner one";
            self.mistake(&format!("/{list}/{place}"), message, help)
        });
        Diagnostics::from_vec(mistakes.collect()).map_or(Ok(()), Err)
    }

    fn mistake(&self, pointer: &str, message: impl Into<String>, help: &str) -> Diagnostic {
        Diagnostic::new(SourceText::named(self.source_name()), message).pointing_to(pointer).help(help)
    }

    fn source_name(&self) -> String {
        format!("pipeline {:?}", self.id)
    }
}

impl PipelineBuilder<Dataflow> {
    /// Adds a task: a Rust task, or one that a function of this module makes.
    pub fn task(mut self, task: impl Into<TaskSpec>) -> Self {
        self.tasks.push(task.into());
        self
    }

    /// The names that make up the result; else every output that no other task uses.
    pub fn outputs<S: Into<String>>(self, names: impl IntoIterator<Item = S>) -> Self {
        self.field("outputs", names.into_iter().map(Into::into).collect::<Vec<String>>())
    }

    /// The pipeline.
    ///
    /// # Errors
    /// Every mistake that the loader of pipeline files would find.
    pub fn build(self) -> Result<definition::Pipeline, Diagnostics> {
        let made: HashSet<String> = self.tasks.iter().flat_map(TaskSpec::makes).collect();
        let known =
            |name: &str| self.inputs.is_empty() || self.inputs.contains_key(name) || made.contains(name);
        self.finish("tasks", self.tasks.iter().map(|task| task.to_task(known)).collect())
    }

    /// The pipeline; its Rust tasks are made known to `registry`.
    ///
    /// # Errors
    /// As [`build`](Self::build); nothing is made known then.
    pub fn build_with(self, registry: &TaskRegistry) -> Result<definition::Pipeline, Diagnostics> {
        let pipeline = self.clone().build()?;
        self.register(registry);
        Ok(pipeline)
    }
}

impl PipelineBuilder<Chained> {
    /// Adds a step that does something with the value.
    pub fn call(mut self, step: impl Into<TaskSpec>) -> Self {
        self.tasks.push(step.into());
        self
    }

    /// Adds a step that does something with each item of the value, a list; it makes the list of the results.
    pub fn map(self, each: impl Into<TaskSpec>) -> Self {
        self.call(kinds::each("map", None, each.into()))
    }

    /// Adds a step that keeps the items of the value, a list, for which `keep` is true.
    pub fn filter(self, keep: impl Into<TaskSpec>) -> Self {
        self.call(kinds::each("filter", None, keep.into()))
    }

    /// Adds a step that puts the items of the value, a list, together one after another. `join` is given what the
    /// items before came to (its first parameter; `acc` in an expression) and the item (its second; `value`).
    pub fn reduce(self, initial: impl Into<Value>, join: impl Into<TaskSpec>) -> Self {
        self.call(kinds::fold(None, initial.into(), join.into()))
    }

    /// Adds a step that does several things with the value at once; it makes an object of their results by name.
    pub fn group<T: Into<TaskSpec>>(self, members: impl IntoIterator<Item = T>) -> Self {
        self.call(kinds::group(members))
    }

    /// The pipeline.
    ///
    /// # Errors
    /// Every mistake that the loader of pipeline files would find, and a Rust task that would miss an input.
    pub fn build(self) -> Result<definition::Pipeline, Diagnostics> {
        let mut missing = Vec::new();
        for (place, step) in self.tasks.iter().enumerate() {
            let declared: Vec<&str> = self.inputs.keys().map(String::as_str).collect();
            let given = if place == 0 && !declared.is_empty() { declared } else { vec!["value"] };
            for name in step.misses(&given) {
                let message = format!("the step is not given the input `{name}` of its Rust task");
                let help =
                    "a step is given `value`, the first one the parameters; add a constant by `.with(...)`";
                missing.push(self.mistake(&format!("/steps/{place}"), message, help));
            }
        }
        if let Some(missing) = Diagnostics::from_vec(missing) {
            return Err(missing);
        }
        let mut taken: Vec<String> = Vec::new();
        self.finish("steps", self.tasks.iter().map(|step| step.to_step(&mut taken)).collect())
    }

    /// The pipeline; its Rust tasks are made known to `registry`.
    ///
    /// # Errors
    /// As [`build`](Self::build); nothing is made known then.
    pub fn build_with(self, registry: &TaskRegistry) -> Result<definition::Pipeline, Diagnostics> {
        let pipeline = self.clone().build()?;
        self.register(registry);
        Ok(pipeline)
    }
}
