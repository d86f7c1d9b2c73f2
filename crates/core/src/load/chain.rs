//! The chained style: each step is given the value of the one before it.

use std::sync::Arc;

use crate::definition::{Body, Input, InputSchema, Task, TaskKind};
use crate::document::Node;
use crate::expr::{Expr, ExprError};

use super::reader::Reader;

/// What stands behind the name of a step in that of what is done in its place, and of what goes on with either's value.
const OTHERWISE: &str = "-otherwise";
const EITHER: &str = "-either";

/// The name under which a step sees what the step before it made.
pub(super) const VALUE: &str = "value";

/// How many tasks are made of these steps.
pub(super) fn count(nodes: &[Node]) -> usize {
    let with_otherwise = nodes.iter().filter(|node| node.get("otherwise").is_some()).count();
    nodes.len() + 2 * with_otherwise
}

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
            let mut other = None;
            let task = self.step(node, format!("step-{}", place + 1), given.clone(), &mut other);
            let keeps = task.as_ref().is_some_and(|task| task.keep);
            if !keeps {
                // After a step that could not be read, the next one is still checked, as if it had been there.
                let output = task.as_ref().and_then(|task| task.outputs.first().cloned());
                given = vec![Input::required(output.unwrap_or_else(|| VALUE.to_owned())).named(VALUE)];
            }
            if let Some(mut task) = task {
                task.entry = place;
                task.after = before.take().into_iter().collect();
                before = keeps.then(|| task.name.clone());
                let either = other.map(|other| either(&task, other));
                tasks.push(Arc::new(task));
                if let Some(Err(error)) = &either {
                    self.wrong(node.get("when").unwrap_or(node), error.to_string(), "make it shorter");
                }
                if let Some(Ok([other, either])) = either {
                    given = vec![Input::required(&*either.name).named(VALUE)];
                    tasks.extend([other, either].map(Arc::new));
                }
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

/// What is done where the condition of a step is not true, and what goes on with the value of whichever was done: one of
/// the two is null, since it was skipped, so that the other is the value, whatever it is.
fn either(task: &Task, body: Body) -> Result<[Task; 2], ExprError> {
    let other = Task {
        inputs: task.inputs.clone(),
        after: task.after.clone(),
        when: task.when.as_ref().map(Expr::negated).transpose()?,
        timeout: task.timeout.filter(|_| !body.kind.waits()),
        total_timeout: task.total_timeout,
        retry: task.retry.clone(),
        on_error: task.on_error,
        entry: task.entry,
        ..Task::new(format!("{}{OTHERWISE}", task.name), body)
    };
    let pick = Expr::compile("first if first is not none else second")?;
    let optional = |source: &str, name: &str| Input::optional(source).named(name);
    let either = Task {
        inputs: vec![optional(&task.name, "first"), optional(&other.name, "second")],
        needs_any: true,
        entry: task.entry,
        ..Task::new(format!("{}{EITHER}", task.name), TaskKind::Expression(pick))
    };
    Ok([other, either])
}
