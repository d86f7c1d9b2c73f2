//! A pipeline: tasks and the names that join them.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::{Concurrency, InputSchema, Priority, ScheduleSpec, Task};
use crate::id::PipelineId;

/// A directed acyclic graph of tasks under one id.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Pipeline {
    /// The id under which it is executed, shown and guarded.
    pub id: PipelineId,
    /// One line for people.
    pub description: Option<String>,
    /// The external parameters.
    pub inputs: InputSchema,
    /// The tasks, in the order of the file; a step's index is its place here.
    pub tasks: Vec<Arc<Task>>,
    /// The names that make up the result; none: every output that no other task consumes.
    pub outputs: Option<Vec<String>>,
    /// How the tasks were joined.
    pub style: Style,
    /// What a failing task does to the rest of the run.
    pub on_error: OnError,
    /// At most so many attempts of one run at once; none: as many as the engine has room for.
    pub max_parallel: Option<NonZeroU32>,
    /// How urgent its runs are, unless one says otherwise.
    pub priority: Priority,
    /// How many of its runs may be under way at once; none: as many as the engine has room for.
    pub concurrency: Vec<Concurrency>,
    /// The longest a run may take, from its start.
    pub timeout: Option<Duration>,
    /// Whether what was done is undone when a run is cancelled, as it is when one fails.
    pub compensate_on_cancel: bool,
    /// The webhooks that are told of its events, by name. Where they are and which events they take is configured.
    pub on_event: Vec<String>,
    /// When it runs by itself.
    pub schedules: Vec<ScheduleSpec>,
    /// The definition as its author wrote it (YAML and TOML converted to JSON): what is stored and shown.
    pub source: Value,
}

/// How the tasks of a pipeline were joined.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// `tasks:`, joined by the names of outputs and inputs. The result is an object of outputs.
    Dataflow,
    /// `steps:`, each given the value of the one before. The result is the last step's value.
    Chained,
}

/// What a failing task does to the rest of its run. Either way the run ends `failed`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnError {
    /// Running steps are cancelled and what has not started is skipped.
    #[default]
    Fail,
    /// What does not need the failed task's output goes on.
    Continue,
    /// As `Continue`, and the step is kept as a dead letter, which can be replayed.
    DeadLetter,
}

impl OnError {
    /// The word for it in a pipeline file.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Fail => "fail",
            Self::Continue => "continue",
            Self::DeadLetter => "dead_letter",
        }
    }
}
