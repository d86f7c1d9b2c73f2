//! Mistakes of the wiring, at the names in the document that make them.

use std::sync::Arc;

use crate::definition::Task;
use crate::document::{Node, NodeValue};
use crate::plan::WiringError;

use super::reader::Reader;

/// Notes what the plan of the pipeline at `node` found.
pub(super) fn report(reader: &mut Reader<'_>, node: &Node, tasks: &[Arc<Task>], errors: Vec<WiringError>) {
    for error in errors {
        if reader.is_full() {
            return reader.count_only();
        }
        // Several tasks may be made of one entry of the list.
        let entry = error.task.map(|index| tasks.get(index).map_or(index, |task| task.entry));
        let place = place_of(node, entry, &error);
        reader.wrong(place, error.message, error.help);
    }
}

fn place_of<'n>(pipeline: &'n Node, entry: Option<usize>, error: &WiringError) -> &'n Node {
    let tasks = pipeline.get("tasks").or_else(|| pipeline.get("steps"));
    let Some(entry) = entry else {
        let field = pipeline.get(error.field).or(tasks).unwrap_or(pipeline);
        return error.name.as_deref().and_then(|name| named(field, name)).unwrap_or(field);
    };
    let Some(task) = tasks.and_then(|tasks| tasks.as_sequence()?.get(entry)) else { return pipeline };
    let fields: &[&str] = match error.field {
        "output" | "outputs" => &["output", "outputs", "name"],
        "inputs" | "optional_inputs" => &["inputs", "optional_inputs"],
        "when" => &["when"],
        "after" => &["after"],
        _ => &["name"],
    };
    let candidates = || fields.iter().filter_map(|field| task.get(field));
    let exact = error.name.as_deref().and_then(|name| {
        let listed = candidates().find_map(|node| named(node, name));
        listed.or_else(|| over(task, name))
    });
    exact.or_else(|| candidates().next()).or_else(|| task.get("name")).unwrap_or(task)
}

/// The text `name` in a list, in the values of a mapping, or as it is.
fn named<'n>(node: &'n Node, name: &str) -> Option<&'n Node> {
    match &node.value {
        NodeValue::String(text) => (text == name).then_some(node),
        NodeValue::Sequence(items) => items.iter().find(|item| item.as_str() == Some(name)),
        NodeValue::Mapping(entries) => {
            entries.iter().map(|(_, value)| value).find(|value| value.as_str() == Some(name))
        }
        _ => None,
    }
}

/// The `over:` of a map within the task that names `name`.
fn over<'n>(node: &'n Node, name: &str) -> Option<&'n Node> {
    match &node.value {
        NodeValue::Mapping(entries) => entries.iter().find_map(|(key, value)| {
            let here = key.text == "over" && value.as_str() == Some(name);
            if here { Some(value) } else { over(value, name) }
        }),
        NodeValue::Sequence(items) => items.iter().find_map(|item| over(item, name)),
        _ => None,
    }
}
