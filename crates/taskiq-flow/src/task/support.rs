//! What the code made by `#[task]` calls. Not for use by hand: it may change with every version.

use std::cell::Cell;
use std::fmt::{self, Display};

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use taskiq_flow_broker::TaskError;
use taskiq_flow_core::expr::Inputs;

use super::{InputInfo, TaskInfo};

/// The name under which a step of the chained style is given what the step before it made.
const CHAINED: &str = "value";

/// The input at a position, which must be there.
pub fn input<T: DeserializeOwned>(info: &TaskInfo, position: usize, inputs: &Inputs) -> Result<T, TaskError> {
    let Some(input) = info.inputs().get(position) else { return Err(no_such_input(info)) };
    match find(input, position, inputs) {
        Some(value) => read(info, input, value),
        None => {
            let (input, task) = (input.name(), info.name());
            Err(TaskError::permanent(format!("input `{input}` of task `{task}` is missing")))
        }
    }
}

/// The input at a position; none where it is missing or null.
pub fn optional_input<T: DeserializeOwned>(
    info: &TaskInfo,
    position: usize,
    inputs: &Inputs,
) -> Result<Option<T>, TaskError> {
    let Some(input) = info.inputs().get(position) else { return Err(no_such_input(info)) };
    match find(input, position, inputs) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => read(info, input, value).map(Some),
    }
}

/// Runs a function that may block on a thread of its own.
pub async fn blocking<T: Send + 'static>(
    function: impl FnOnce() -> T + Send + 'static,
) -> Result<T, TaskError> {
    match tokio::task::spawn_blocking(function).await {
        Ok(value) => Ok(value),
        Err(error) => match error.try_into_panic() {
            // Whoever carries out the attempt treats it as a panic of any other task.
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => Err(TaskError::new("the program is shutting down")),
        },
    }
}

/// What a function returned. Which of the traits below ends it is chosen by the compiler, the most special one first:
/// each is implemented for one reference less than the one before.
pub struct Outcome<T>(Cell<Option<T>>);

/// What was returned may be a secret.
impl<T> fmt::Debug for Outcome<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Outcome")
    }
}

impl<T> Outcome<T> {
    /// Takes up what was returned.
    pub fn new(returned: T) -> Self {
        Self(Cell::new(Some(returned)))
    }

    fn take(&self) -> Result<T, TaskError> {
        self.0.take().ok_or_else(|| TaskError::permanent("the task ended twice"))
    }
}

/// Ends a `Result` whose error says itself whether another attempt may help.
pub trait FinishError {
    /// The task's value.
    fn finish(&self, info: &TaskInfo) -> Result<Value, TaskError>;
}

impl<T: Serialize, E: Into<TaskError>> FinishError for &&&&Outcome<Result<T, E>> {
    fn finish(&self, info: &TaskInfo) -> Result<Value, TaskError> {
        self.take()?.map_err(Into::into).and_then(|value| write(info, &value))
    }
}

/// Ends a `Result` whose error is a text.
pub trait FinishResult {
    /// The task's value.
    fn finish(&self, info: &TaskInfo) -> Result<Value, TaskError>;
}

impl<T: Serialize, E: Display> FinishResult for &&&Outcome<Result<T, E>> {
    fn finish(&self, info: &TaskInfo) -> Result<Value, TaskError> {
        // The alternate form of `anyhow` errors, and of others like it, names the causes too.
        self.take()?
            .map_err(|error| TaskError::new(format!("{error:#}")))
            .and_then(|value| write(info, &value))
    }
}

/// Any other `Result` is refused by the compiler: to write it as a plain value would make a success of its error.
pub trait RefuseResult {
    /// Does not compile where a value is expected.
    fn finish(&self, info: &TaskInfo) -> ResultNeedsSerializeAndErrorNeedsDisplay;
}

/// The `Result` of a task needs a value that implements `serde::Serialize` and an error that implements
/// `std::fmt::Display` or `Into<TaskError>`.
#[derive(Debug)]
pub struct ResultNeedsSerializeAndErrorNeedsDisplay;

impl<T, E> RefuseResult for &&Outcome<Result<T, E>> {
    fn finish(&self, _: &TaskInfo) -> ResultNeedsSerializeAndErrorNeedsDisplay {
        ResultNeedsSerializeAndErrorNeedsDisplay
    }
}

/// Ends a plain value.
pub trait FinishValue {
    /// The task's value.
    fn finish(&self, info: &TaskInfo) -> Result<Value, TaskError>;
}

impl<T: Serialize> FinishValue for &Outcome<T> {
    fn finish(&self, info: &TaskInfo) -> Result<Value, TaskError> {
        write(info, &self.take()?)
    }
}

/// Any other value is refused by the compiler.
pub trait RefuseValue {
    /// Does not compile where a value is expected.
    fn finish(&self, info: &TaskInfo) -> ValueNeedsSerialize;
}

/// What a task returns must implement `serde::Serialize`.
#[derive(Debug)]
pub struct ValueNeedsSerialize;

impl<T> RefuseValue for Outcome<T> {
    fn finish(&self, _: &TaskInfo) -> ValueNeedsSerialize {
        ValueNeedsSerialize
    }
}

fn find<'a>(input: &InputInfo, position: usize, inputs: &'a Inputs) -> Option<&'a Value> {
    let chained = || if position == 0 { inputs.get(CHAINED) } else { None };
    inputs.get(input.name()).or_else(chained).map(AsRef::as_ref)
}

/// What serde says is left out: it would show the value.
fn read<T: DeserializeOwned>(info: &TaskInfo, input: &InputInfo, value: &Value) -> Result<T, TaskError> {
    T::deserialize(value).map_err(|_| {
        let (name, task, type_name) = (input.name(), info.name(), input.type_name());
        let found = kind(value);
        let message = match expected(type_name) {
            Some(expected) if expected == found => {
                let how = if found == "a whole number" { "out of its range" } else { "with other contents" };
                format!(
                    "input `{name}` of task `{task}` does not fit its type {type_name}: found {found} {how}"
                )
            }
            Some(expected) => {
                format!("input `{name}` of task `{task}` must be {expected} ({type_name}), found {found}")
            }
            None => {
                format!("input `{name}` of task `{task}` does not fit its type {type_name}, found {found}")
            }
        };
        TaskError::permanent(message)
    })
}

fn write<T: Serialize>(info: &TaskInfo, value: &T) -> Result<Value, TaskError> {
    let value = serde_json::to_value(value).map_err(|_| {
        let task = info.name();
        TaskError::permanent(format!(
            "what task `{task}` returned is no JSON: keys must be text, numbers finite"
        ))
    })?;
    match value {
        Value::Array(items) if info.outputs().len() > 1 && items.len() == info.outputs().len() => {
            let named = info.outputs().iter().map(|name| (*name).to_owned()).zip(items);
            Ok(Value::Object(named.collect::<Map<_, _>>()))
        }
        value => Ok(value),
    }
}

/// The JSON kind of a Rust type, as far as its name tells.
fn expected(type_name: &str) -> Option<&'static str> {
    let outer = type_name.split('<').next().unwrap_or_default();
    let last = outer.rsplit("::").next().unwrap_or_default();
    match last {
        "i8" | "i16" | "i32" | "i64" | "i128" | "isize" | "u8" | "u16" | "u32" | "u64" | "u128" | "usize" => {
            Some("a whole number")
        }
        "f32" | "f64" => Some("a number"),
        "String" => Some("text"),
        "bool" => Some("true or false"),
        "Vec" | "VecDeque" | "HashSet" | "BTreeSet" => Some("a list"),
        "HashMap" | "BTreeMap" | "Map" | "IndexMap" => Some("a mapping"),
        _ => None,
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "true or false",
        Value::Number(number) if number.is_f64() => "a number",
        Value::Number(_) => "a whole number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "a mapping",
    }
}

fn no_such_input(info: &TaskInfo) -> TaskError {
    TaskError::permanent(format!("task `{}` has another number of inputs", info.name()))
}
