//! The chained style: each step is given the value of the one before it.

use std::sync::Arc;

use crate::definition::{Input, InputSchema, Task};
use crate::document::Node;

use super::reader::Reader;

/// The name under which a step sees what the step before it made.
pub(super) const VALUE: &str = "value";

impl Reader<'_> {
    /// The steps as tasks. The first is given the declared parameters, or one called `value` where none are declared.
    pub(super) fn steps(&mut self, nodes: &[Node], inputs: Option<&InputSchema>) -> Vec<Arc<Task>> {
        let mut before: Option<String> = None;
        let mut tasks = Vec::with_capacity(nodes.len());
        for (place, node) in nodes.iter().enumerate() {
            let given = match (before.take(), inputs) {
                (Some(source), _) => vec![Input::required(source).named(VALUE)],
                (None, Some(schema)) if schema.declared() => schema.names().map(Input::required).collect(),
                (None, _) => vec![Input::required(VALUE)],
            };
            let task = self.step(node, format!("step-{}", place + 1), given);
            // After a step that could not be read, the next one is still checked, as if it had been there.
            let output = task.as_ref().and_then(|task| task.outputs.first().cloned());
            before = Some(output.unwrap_or_else(|| VALUE.to_owned()));
            tasks.extend(task.map(Arc::new));
        }
        tasks
    }
}
