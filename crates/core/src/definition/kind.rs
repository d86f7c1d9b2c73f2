//! The kinds of task. A new kind is a variant here, its decoding in `load`, and an executor in the engine.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Map, Value};

use crate::expr::{Expr, Template};
use crate::id::PipelineId;

/// What a task, or one item of a map, does.
#[derive(Debug, Clone)]
pub struct Body {
    /// The function.
    pub kind: TaskKind,
    /// Constant inputs, beside those of the task.
    pub with: Map<String, Value>,
}

/// The function of a task.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum TaskKind {
    /// Evaluates an expression over the inputs.
    Expression(Expr),
    /// Starts a process.
    Command(CommandSpec),
    /// Sends one HTTP request.
    Http(Box<HttpSpec>),
    /// Calls a registered Rust task by name.
    Task(String),
    /// Sends a task to Python taskiq workers.
    Taskiq(TaskiqSpec),
    /// Runs another pipeline; the inputs are its parameters, its result is the value.
    Pipeline(PipelineId),
    /// Waits for a signal or for time to pass.
    Wait(WaitSpec),
    /// Runs the body for each item of a list; the value is the list of results, in order.
    Map(MapSpec),
    /// Runs the body for each item of a list; the value is the list of the items for which it was true.
    Filter(MapSpec),
    /// Runs the body for each item of a list, one after another, handing on an accumulator.
    Reduce(ReduceSpec),
    /// Runs several bodies on the same inputs at once. Named members make an object, unnamed ones a list.
    Group(Vec<GroupMember>),
}

/// A process: no shell is involved. It is given its inputs as one JSON object on standard input, and prints its
/// value as JSON on standard output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandSpec {
    /// The program and its arguments.
    pub argv: Vec<String>,
    /// Environment variables to set, beside the few that are passed on.
    pub env: BTreeMap<String, String>,
    /// Names of further variables of the server's environment to pass on.
    pub pass_env: Vec<String>,
    /// The working directory; none: the server's own.
    pub cwd: Option<PathBuf>,
}

/// One HTTP request. The texts are templates over the inputs.
#[derive(Debug, Clone)]
pub struct HttpSpec {
    /// The method.
    pub method: HttpMethod,
    /// The address, `http://` or `https://`.
    pub url: Template,
    /// Query parameters, added to those of the address.
    pub query: Vec<(String, Template)>,
    /// Request headers.
    pub headers: Vec<(String, Template)>,
    /// An expression whose value is sent as the JSON body.
    pub json: Option<Expr>,
    /// What the task's value is.
    pub response: HttpResponse,
}

/// The methods an HTTP task may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "they are the methods of RFC 9110 by their names")]
pub enum HttpMethod {
    Get,
    Head,
    Post,
    Put,
    Patch,
    Delete,
}

/// What the value of an HTTP task is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum HttpResponse {
    /// The body: parsed when it is JSON, else its text.
    #[default]
    Body,
    /// `{status, headers, body}`; a status of 400 or more is then no failure.
    Full,
}

/// A task of a Python taskiq worker.
#[derive(Debug, Clone, PartialEq)]
pub struct TaskiqSpec {
    /// The task's name there, such as `module:function`.
    pub task: String,
    /// Positional arguments.
    pub args: Vec<Argument>,
    /// Keyword arguments.
    pub kwargs: Vec<(String, Argument)>,
}

/// An argument of a taskiq task.
#[derive(Debug, Clone, PartialEq)]
pub enum Argument {
    /// The value of the input of that name.
    Input(String),
    /// A constant.
    Constant(Value),
}

/// A pause in a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WaitSpec {
    /// What ends it.
    pub until: WaitFor,
    /// A wait for a signal that is longer than this times the step out.
    pub timeout: Option<Duration>,
}

impl WaitSpec {
    /// How long it may take, when that is known.
    pub fn limit(&self) -> Option<Duration> {
        match self.until {
            WaitFor::Duration(duration) => Some(duration),
            WaitFor::Signal(_) => self.timeout,
        }
    }
}

/// What ends a wait.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WaitFor {
    /// A signal of that name; its value is the step's value.
    Signal(String),
    /// Time; the value is null.
    Duration(Duration),
}

/// A body for each item of a list.
#[derive(Debug, Clone)]
pub struct MapSpec {
    /// The input that holds the list.
    pub over: String,
    /// The name under which the body sees the item.
    pub item: String,
    /// At most so many items at once; where they come in chunks, so many chunks.
    pub max_parallel: Option<NonZeroU32>,
    /// How many items one attempt carries out; none: one.
    pub chunk: Option<Chunk>,
    /// What the failure of an item does.
    pub on_item_error: OnItemError,
    /// What is done with an item.
    pub body: Box<Body>,
}

/// How many items one attempt carries out, one after another. Each has its own state, value, error and retries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Chunk {
    /// So many.
    Of(NonZeroU32),
    /// By how many there are, and how many chunks may be under way at once.
    Auto,
}

impl Chunk {
    /// The most items of a chunk whose size is not given.
    const MOST: u32 = 1000;
    /// So many chunks there are for each that may be under way at once, where the size is not given: those that take
    /// longer than others then hold up little.
    const EACH: u32 = 4;
    /// How many are taken to be under way at once, where no limit says.
    const WIDTH: u32 = 16;

    /// How many items a chunk has of so many in all, of which `width` chunks may be under way at once; none: any number.
    pub fn size(self, items: u32, width: Option<u32>) -> u32 {
        match self {
            Self::Of(size) => size.get(),
            Self::Auto => {
                let chunks = width.unwrap_or(Self::WIDTH).max(1).saturating_mul(Self::EACH);
                items.div_ceil(chunks).clamp(1, Self::MOST)
            }
        }
    }
}

/// What the failure of an item does to its map or filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnItemError {
    /// The map fails with it; items under way are cancelled.
    #[default]
    Fail,
    /// The others go on; the item is left out of the value.
    Skip,
    /// The others go on; the value has null in its place. Not of a filter, which leaves out what is not true.
    Collect,
}

/// A fold over a list.
#[derive(Debug, Clone)]
pub struct ReduceSpec {
    /// The input that holds the list.
    pub over: String,
    /// The name under which the body sees the item.
    pub item: String,
    /// The name under which the body sees what the items before came to.
    pub accumulator: String,
    /// The accumulator of the first item, and the value for an empty list.
    pub initial: Value,
    /// How many items one attempt goes through; none: one. Such a chunk is one item of the step run, which fails and is
    /// repeated as a whole.
    pub chunk: Option<NonZeroU32>,
    /// Makes the next accumulator.
    pub body: Box<Body>,
}

/// One member of a group.
#[derive(Debug, Clone)]
pub struct GroupMember {
    /// The key of its value; a group names all of its members or none.
    pub name: Option<String>,
    /// What it does.
    pub body: Body,
}

impl From<TaskKind> for Body {
    fn from(kind: TaskKind) -> Self {
        Self { kind, with: Map::new() }
    }
}

impl TaskKind {
    /// The name of the kind as pipeline files write it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Expression(_) => "expression",
            Self::Command(_) => "command",
            Self::Http(_) => "http",
            Self::Task(_) => "task",
            Self::Taskiq(_) => "taskiq",
            Self::Pipeline(_) => "pipeline",
            Self::Wait(_) => "wait",
            Self::Map(_) => "map",
            Self::Filter(_) => "filter",
            Self::Reduce(_) => "reduce",
            Self::Group(_) => "group",
        }
    }

    /// Whether it reads the input `name` by that name, as an expression, a template or an argument does. A process,
    /// a registered task and a pipeline are handed whatever there is.
    pub fn names_input(&self, name: &str) -> bool {
        let has = |names: &[String]| names.iter().any(|known| known == name);
        let argument = |argument: &Argument| matches!(argument, Argument::Input(input) if input == name);
        match self {
            Self::Expression(expr) => has(expr.names()),
            Self::Http(spec) => {
                let parts = spec.query.iter().chain(&spec.headers).map(|(_, template)| template);
                parts.chain([&spec.url]).any(|template| has(template.names()))
                    || spec.json.as_ref().is_some_and(|expr| has(expr.names()))
            }
            Self::Taskiq(spec) => {
                spec.args.iter().any(argument) || spec.kwargs.iter().any(|(_, value)| argument(value))
            }
            composite => {
                composite.inner().iter().any(|body| body.kind.names_input(name)) || composite.iterates(name)
            }
        }
    }

    /// Whether it is a map, filter or reduce over the input `name`.
    fn iterates(&self, name: &str) -> bool {
        match self {
            Self::Map(spec) | Self::Filter(spec) => spec.over == name,
            Self::Reduce(spec) => spec.over == name,
            _ => false,
        }
    }

    /// The signal that ends it, of a `wait` for one.
    pub fn awaited_signal(&self) -> Option<&str> {
        match self {
            Self::Wait(WaitSpec { until: WaitFor::Signal(name), .. }) => Some(name),
            _ => None,
        }
    }

    /// What it waits for, if it is a wait.
    pub fn wait(&self) -> Option<&WaitSpec> {
        match self {
            Self::Wait(wait) => Some(wait),
            _ => None,
        }
    }

    /// Whether it is a wait, or has one inside.
    pub fn waits(&self) -> bool {
        matches!(self, Self::Wait(_)) || self.inner().iter().any(|body| body.kind.waits())
    }

    /// Whether an attempt takes a worker, as against waiting for time, for people or for its own items.
    pub fn takes_worker(&self) -> bool {
        !matches!(self, Self::Map(_) | Self::Filter(_) | Self::Reduce(_) | Self::Group(_) | Self::Wait(_))
    }

    /// The bodies inside this one: of a map and the like its body, of a group its members.
    pub fn inner(&self) -> Vec<&Body> {
        match self {
            Self::Map(spec) | Self::Filter(spec) => vec![&spec.body],
            Self::Reduce(spec) => vec![&spec.body],
            Self::Group(members) => members.iter().map(|member| &member.body).collect(),
            _ => Vec::new(),
        }
    }
}
