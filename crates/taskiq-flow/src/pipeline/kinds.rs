//! What tasks can do, apart from Rust functions.

use std::time::Duration;

use serde_json::{Map, Value, json};
use taskiq_flow_core::time::format_duration;

use super::TaskSpec;

/// Evaluates an expression over the inputs; the task is called `name`.
pub fn expr(name: impl Into<String>, source: impl Into<String>) -> TaskSpec {
    expression(source).named(name)
}

/// Evaluates an expression over the inputs.
pub fn expression(source: impl Into<String>) -> TaskSpec {
    TaskSpec::new("expression", source.into())
}

/// Starts a process, without a shell: the program and its arguments. It is given its inputs as one JSON object on
/// standard input and prints its value as JSON.
pub fn command<S: Into<String>>(argv: impl IntoIterator<Item = S>) -> TaskSpec {
    TaskSpec::new("command", argv.into_iter().map(Into::into).collect::<Vec<String>>())
}

/// Sends one HTTP request, described as in a pipeline file: `{ "method": "POST", "url": "https://...", ... }`.
pub fn http(request: impl Into<Value>) -> TaskSpec {
    TaskSpec::new("http", request)
}

/// Any kind of task, described as in a pipeline file.
pub fn kind(name: impl Into<String>, description: impl Into<Value>) -> TaskSpec {
    TaskSpec::new(name, description)
}

/// Runs another pipeline; the inputs are its parameters, its result is the value.
pub fn sub_pipeline(id: impl Into<String>) -> TaskSpec {
    TaskSpec::new("pipeline", id.into())
}

/// Waits for a signal, at most `limit`; the signal's value is the task's.
pub fn wait_for_signal(name: impl Into<String>, limit: Option<Duration>) -> TaskSpec {
    let mut wait = json!({ "signal": name.into() });
    if let (Some(limit), Value::Object(fields)) = (limit, &mut wait) {
        fields.insert("timeout".to_owned(), format_duration(limit).into());
    }
    TaskSpec::new("wait", wait)
}

/// Waits for time to pass.
pub fn wait_for(time: Duration) -> TaskSpec {
    TaskSpec::new("wait", json!({ "duration": format_duration(time) }))
}

/// Does something with each item of a list, which an input holds; makes the list of the results. A Rust task is given
/// the item by its first parameter, an expression as `item`.
pub fn map(over: impl Into<String>, each: impl Into<TaskSpec>) -> TaskSpec {
    self::each("map", Some(over.into()), each.into())
}

/// Keeps the items of a list for which `keep` is true.
pub fn filter(over: impl Into<String>, keep: impl Into<TaskSpec>) -> TaskSpec {
    each("filter", Some(over.into()), keep.into())
}

/// Puts the items of a list together one after another. A Rust task is given what the items before came to by its
/// first parameter and the item by its second, an expression as `acc` and `item`.
pub fn reduce(over: impl Into<String>, initial: impl Into<Value>, join: impl Into<TaskSpec>) -> TaskSpec {
    fold(Some(over.into()), initial.into(), join.into())
}

/// Does several things with the same inputs at once. Named members make an object, unnamed ones a list. The settings
/// of the group count for each member; what the attribute of a Rust task says about retries and time does not.
pub fn group<T: Into<TaskSpec>>(members: impl IntoIterator<Item = T>) -> TaskSpec {
    let members: Vec<TaskSpec> = members.into_iter().map(Into::into).collect();
    let group = TaskSpec::new("group", members.iter().map(TaskSpec::to_member).collect::<Vec<_>>());
    members.iter().fold(group, |group, member| group.around(member, &[], false))
}

pub(super) fn each(kind: &str, over: Option<String>, body: TaskSpec) -> TaskSpec {
    let mut fields = Map::new();
    let mut bound = Vec::new();
    if let Some(item) = body.needs.first() {
        fields.insert("as".to_owned(), item.name.into());
        bound.push(item.name.to_owned());
    }
    fields.extend(over.map(|over| ("over".to_owned(), Value::String(over))));
    body.to_body(&mut fields);
    TaskSpec::new(kind, fields).around(&body, &bound, true)
}

pub(super) fn fold(over: Option<String>, initial: Value, body: TaskSpec) -> TaskSpec {
    let mut fields = Map::new();
    let mut bound = Vec::new();
    if let [accumulator, item, ..] = body.needs.as_slice() {
        fields.insert("into".to_owned(), accumulator.name.into());
        fields.insert("as".to_owned(), item.name.into());
        bound.extend([accumulator.name.to_owned(), item.name.to_owned()]);
    }
    fields.extend(over.map(|over| ("over".to_owned(), Value::String(over))));
    fields.insert("initial".to_owned(), initial);
    body.to_body(&mut fields);
    TaskSpec::new("reduce", fields).around(&body, &bound, true)
}
