//! Pipelines out of files and API bodies.
//!
//! ```
//! use taskiq_flow_core::document::Format;
//! use taskiq_flow_core::load::load_text;
//!
//! let text = "
//! id: greet
//! inputs: { name: { type: string } }
//! tasks:
//!   - name: greeting
//!     expression: \"'Hello, ' ~ name\"
//!     inputs: [name]
//! ";
//! let pipelines = load_text("greet.yaml", text, Format::Yaml).unwrap();
//! assert_eq!(pipelines[0].tasks[0].outputs, ["greeting"]);
//!
//! let wrong = text.replace("~ name", "~ nmae");
//! let mistakes = load_text("greet.yaml", &wrong, Format::Yaml).unwrap_err().to_string();
//! assert!(mistakes.contains("greet.yaml:6:30") && mistakes.contains("did you mean `name`?"), "{mistakes}");
//! ```
//!
//! A document holds one pipeline or a list of them. All mistakes are reported at once, each with its place and its
//! fix; a pipeline that loads has been through [`Plan::new`], so its wiring is sound.
//!
//! Fields of a pipeline: `id`, `description`, `inputs`, `tasks` or `steps`, `outputs`, `on_error`, `max_parallel`,
//! `priority`, `concurrency`, `timeout`, `compensate_on_cancel`, `schedule`, and for its tasks `retry` and `step_timeout`.
//! Fields of a task: `name`, `description`, one kind, `inputs`, `optional_inputs`, `after`, `output` or `outputs`, `when`,
//! `timeout`, `total_timeout`, `retry`, `resources`, `cache`, `on_error`, `compensate`, `with`. A step of the chained style may
//! `keep` its value to itself, and has no inputs and outputs:
//! it is given `value`, what the step before it made; the first one is given the pipeline's parameters.

mod admission;
mod cache;
mod chain;
mod command;
mod compensate;
mod http;
mod kind;
mod pipeline;
mod reader;
mod resources;
mod retry;
mod schedule;
mod scope;
mod task;
mod taskiq;
mod wiring;

use std::collections::HashSet;
use std::sync::Arc;

use serde_json::Value;

use crate::definition::Pipeline;
use crate::diagnostic::Diagnostics;
use crate::document::{Document, Format, Node, NodeValue};
use crate::plan::Plan;

use self::reader::Reader;

/// The most tasks of one pipeline.
pub const MAX_TASKS: usize = 100_000;

/// Reads the pipelines of a text, which its author knows as `source_name`.
///
/// # Errors
/// Every mistake found, at most 100: of the syntax, of fields and their values, of the wiring.
pub fn load_text(source_name: &str, text: &str, format: Format) -> Result<Vec<Pipeline>, Diagnostics> {
    load_document(&Document::parse(source_name, text, format)?)
}

/// Reads the pipelines of a JSON value, such as the body of a request or a stored [`Pipeline::source`].
///
/// # Errors
/// As [`load_text`]; mistakes name their field by a JSON pointer.
pub fn load_json(value: Value) -> Result<Vec<Pipeline>, Diagnostics> {
    load_document(&Document::from_json("definition", value)?)
}

/// Reads the pipelines of a document.
///
/// # Errors
/// As [`load_text`].
pub fn load_document(document: &Document) -> Result<Vec<Pipeline>, Diagnostics> {
    let mut reader = Reader::new(document);
    let root = document.root();
    let nodes = match &root.value {
        NodeValue::Sequence(items) if !items.is_empty() => items.as_slice(),
        _ => std::slice::from_ref(root),
    };
    let mut ids = HashSet::new();
    let mut pipelines = Vec::with_capacity(nodes.len());
    for node in nodes {
        let Some(pipeline) = load_node(&mut reader, node) else { continue };
        if !ids.insert(pipeline.id.clone()) {
            let place = node.get("id").unwrap_or(node);
            let message = format!("two pipelines are called `{}`", pipeline.id);
            reader.fail(document.error(place, message).help("give one of them another id"));
        }
        pipelines.push(pipeline);
    }
    match Diagnostics::from_vec(reader.into_errors()) {
        Some(diagnostics) => Err(diagnostics),
        None => Ok(pipelines),
    }
}

/// None when the reader was told of a mistake.
fn load_node(reader: &mut Reader<'_>, node: &Node) -> Option<Pipeline> {
    let before = reader.count();
    let pipeline = reader.pipeline(node)?;
    if reader.count() > before {
        return None;
    }
    let pipeline = Arc::new(pipeline);
    let plan = match Plan::new(Arc::clone(&pipeline)) {
        Ok(plan) => plan,
        Err(errors) => {
            wiring::report(reader, node, &pipeline.tasks, errors);
            return None;
        }
    };
    for (place, schedule) in pipeline.schedules.iter().enumerate() {
        let entry = node.get("schedule").and_then(|list| list.as_sequence()?.get(place)).unwrap_or(node);
        if let Err(errors) = plan.check_parameters(schedule.parameters.clone()) {
            let parameters = entry.get("parameters").unwrap_or(entry);
            for error in errors {
                let name = error.field.split('.').next().unwrap_or_default();
                let place = parameters.get(name).unwrap_or(parameters);
                let message = format!("the parameters of schedule `{}` do not fit: {error}", schedule.id);
                reader.fail(reader.document().error(place, message));
            }
        }
    }
    drop(plan);
    (reader.count() == before).then(|| Arc::unwrap_or_clone(pipeline))
}
