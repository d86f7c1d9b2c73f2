//! A task: a named function of named inputs.

use std::time::Duration;

use super::{Body, Cache, OnError, OnItemError, Resources, RetryPolicy, TaskKind};
use crate::expr::Expr;

/// One task of a pipeline. Each run of the pipeline has one step for it.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Task {
    /// Unique within the pipeline.
    pub name: String,
    /// One line for people.
    pub description: Option<String>,
    /// What it does.
    pub body: Body,
    /// What it is given.
    pub inputs: Vec<Input>,
    /// The tasks that must have been completed before it, beside those that make its inputs.
    pub after: Vec<String>,
    /// Of a step of the chained style: whether its value is dropped, and that of the step before it goes on.
    pub keep: bool,
    /// Whether at least one of its optional inputs must be there; else it is skipped.
    pub needs_any: bool,
    /// The place of what it was made from in the list of the definition. Of a step with `otherwise`, several are made.
    pub entry: usize,
    /// The names it makes. One name: its whole value. Several: it returns an object with these keys.
    pub outputs: Vec<String>,
    /// The step is skipped when this is not true of its inputs.
    pub when: Option<Expr>,
    /// The longest one attempt may take; inside a map, filter, reduce or group: the attempt of one item.
    pub timeout: Option<Duration>,
    /// The longest the whole step may take from its first start, with all its attempts and items.
    pub total_timeout: Option<Duration>,
    /// How often and how soon a failed attempt is repeated; inside a map and the like: of one item.
    pub retry: RetryPolicy,
    /// What one attempt takes of the machine; inside a map and the like: the attempt of one item.
    pub resources: Resources,
    /// Whether its values are kept for later runs.
    pub cache: Option<Box<Cache>>,
    /// Overrides the pipeline's rule for a failure of this task.
    pub on_error: Option<OnError>,
    /// What undoes it when its run ends without success.
    pub compensate: Option<Box<Compensation>>,
}

/// What undoes a step that was completed, when its run fails after all. It sees the step's inputs and, as `result`, its
/// value.
#[derive(Debug, Clone)]
pub struct Compensation {
    /// What it does.
    pub body: Body,
    /// The longest one attempt may take.
    pub timeout: Option<Duration>,
    /// How often and how soon a failed attempt is repeated.
    pub retry: RetryPolicy,
}

/// One input of a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Input {
    /// The name under which the task sees it.
    pub name: String,
    /// Where it comes from: the name of another task's output, else of an external parameter.
    pub source: String,
    /// Whether the task runs without it: it then sees null.
    pub optional: bool,
}

impl Task {
    /// A task called `name` that does `body`, without inputs, whose value is the output `name`.
    pub fn new(name: impl Into<String>, body: impl Into<Body>) -> Self {
        let name = name.into();
        Self {
            outputs: vec![name.clone()],
            name,
            description: None,
            body: body.into(),
            inputs: Vec::new(),
            after: Vec::new(),
            keep: false,
            needs_any: false,
            entry: 0,
            when: None,
            timeout: None,
            total_timeout: None,
            retry: RetryPolicy::default(),
            resources: Resources::default(),
            cache: None,
            on_error: None,
            compensate: None,
        }
    }
}

impl Task {
    /// What it does, and what undoes it.
    pub fn bodies(&self) -> impl Iterator<Item = &Body> {
        std::iter::once(&self.body).chain(self.compensate.iter().map(|undo| &undo.body))
    }

    /// The name of a further output, of a map that goes on past failed items: the list of what went wrong with which.
    pub fn errors_output(&self) -> Option<String> {
        let (TaskKind::Map(spec) | TaskKind::Filter(spec)) = &self.body.kind else { return None };
        let tolerant = spec.on_item_error != OnItemError::Fail;
        let output = self.outputs.first().filter(|_| tolerant && self.outputs.len() == 1)?;
        Some(format!("{output}_errors"))
    }
}

impl Input {
    /// A required input that the task sees under the name of its source.
    pub fn required(name: impl Into<String>) -> Self {
        let name = name.into();
        Self { source: name.clone(), name, optional: false }
    }

    /// An input that the task can do without.
    pub fn optional(name: impl Into<String>) -> Self {
        Self { optional: true, ..Self::required(name) }
    }

    /// The same input under another name.
    pub fn named(self, name: impl Into<String>) -> Self {
        Self { name: name.into(), ..self }
    }
}
