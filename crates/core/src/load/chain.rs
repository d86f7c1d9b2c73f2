//! The chained style: each step is given the value of the one before it.

use std::sync::Arc;

use crate::definition::{Input, InputSchema, Task};
use crate::document::Node;

use super::reader::Reader;

/// The name under which a step sees what the step before it made.
pub(super) const VALUE: &str = "value";

impl Reader<'_> {
    /// The steps as tasks. The first is given the declared parameters, or one called `value` where none are declared. What
    /// a step with `keep` makes is dropped: the step behind it is given the same as it, and comes after it.
    pub(super) fn steps(&mut self, nodes: &[Node], inputs: Option<&InputSchema>) -> Vec<Arc<Task>> {
        let mut given = match inputs {
            Some(schema) if schema.declared() => schema.names().map(Input::required).collect(),
            _ => vec![Input::required(VALUE)],
        };
        let mut before: Option<String> = None;
        let mut tasks: Vec<Arc<Task>> = Vec::with_capacity(nodes.len());
        for (place, node) in nodes.iter().enumerate() {
            let task = self.step(node, format!("step-{}", place + 1), given.clone());
            let keeps = task.as_ref().is_some_and(|task| task.keep);
            if !keeps {
                // After a step that could not be read, the next one is still checked, as if it had been there.
                let output = task.as_ref().and_then(|task| task.outputs.first().cloned());
                given = vec![Input::required(output.unwrap_or_else(|| VALUE.to_owned())).named(VALUE)];
            }
            if let Some(mut task) = task {
                task.after = before.take().into_iter().collect();
                before = keeps.then(|| task.name.clone());
                tasks.push(Arc::new(task));
            }
        }
        if !tasks.is_empty()
            && tasks.iter().all(|task| task.keep)
            && let Some(last) = nodes.last()
        {
            let place = last.get("keep").unwrap_or(last);
            self.wrong(place, "every step drops its value, so that there is no result", "remove one `keep`");
        }
        tasks
    }
}
