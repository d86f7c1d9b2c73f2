//! The fields of a pipeline.

use std::collections::HashSet;
use std::sync::Arc;

use crate::definition::{InputSchema, OnError, Pipeline, Style, Task};
use crate::document::Node;
use crate::id::PipelineId;

use super::reader::{Defaults, Fields, Reader};
use super::{MAX_TASKS, chain};

const PIPELINE_FIELDS: &[&str] = &[
    "id",
    "description",
    "inputs",
    "tasks",
    "steps",
    "outputs",
    "on_error",
    "max_parallel",
    "priority",
    "concurrency",
    "timeout",
    "retry",
    "step_timeout",
    "compensate_on_cancel",
    "on_event",
    "schedule",
];

/// The most attempts of one run, or items of one map, at once.
pub(super) const MAX_PARALLEL: u32 = 1_000_000;

/// What `on_error` may say.
pub(super) const ON_ERROR: &[(&str, OnError)] = &[
    ("fail", OnError::Fail),
    ("continue", OnError::Continue),
    ("skip_dependants", OnError::Continue),
    ("dead_letter", OnError::DeadLetter),
];

impl Reader<'_> {
    /// A pipeline; it is whole only if no mistake was noted meanwhile.
    pub(super) fn pipeline(&mut self, node: &Node) -> Option<Pipeline> {
        let fields = self.fields(node, "a pipeline", PIPELINE_FIELDS)?;
        let id = match fields.get("id") {
            Some(id) => self.pipeline_id(id),
            None => {
                self.missing(fields, "id", "add `id:` with the name under which the pipeline is executed");
                None
            }
        };
        let inputs = match fields.get("inputs") {
            Some(inputs) => self.inputs_schema(inputs),
            None if fields.entry("inputs").is_some() => InputSchema::from_fields(Vec::new()).ok(),
            None => Some(InputSchema::undeclared()),
        };
        let outputs = fields.get("outputs").and_then(|outputs| self.names(outputs));
        let on_error =
            fields.get("on_error").and_then(|rule| self.choice(rule, ON_ERROR)).unwrap_or_default();
        let max_parallel = fields.get("max_parallel").and_then(|count| self.count_up_to(count, MAX_PARALLEL));
        let priority = fields.get("priority").and_then(|priority| self.priority(priority));
        let concurrency = fields.get("concurrency").map(|limits| self.concurrency(limits, inputs.as_ref()));
        let timeout = fields.get("timeout").and_then(|timeout| self.time_limit(timeout));
        let description = fields.get("description").and_then(|text| self.text(text)).map(str::to_owned);
        let on_event = fields.get("on_event").and_then(|names| self.webhooks(names)).unwrap_or_default();
        let schedules = fields.get("schedule").map(|schedule| self.schedules(schedule)).unwrap_or_default();
        self.defaults = Defaults {
            retry: fields.get("retry").and_then(|retry| self.retry(retry)).unwrap_or_default(),
            step_timeout: fields.get("step_timeout").and_then(|timeout| self.time_limit(timeout)),
        };
        let on_cancel = fields.get("compensate_on_cancel").and_then(|flag| self.flag(flag));
        let compensate_on_cancel = on_cancel.unwrap_or_default();
        let (style, tasks) = self.tasks_or_steps(fields, inputs.as_ref())?;
        if compensate_on_cancel && !tasks.iter().any(|task| task.compensate.is_some()) {
            let place = fields.get("compensate_on_cancel").unwrap_or(node);
            let help = "give a task a `compensate:`, or leave this out";
            self.wrong(place, "no task of this pipeline can be undone", help);
        }
        Some(Pipeline {
            id: id?,
            description,
            inputs: inputs?,
            tasks,
            outputs,
            style,
            on_error,
            max_parallel,
            priority: priority.unwrap_or_default(),
            concurrency: concurrency.unwrap_or_default(),
            timeout,
            compensate_on_cancel,
            on_event,
            schedules,
            source: node.to_json(),
        })
    }

    pub(super) fn pipeline_id(&mut self, node: &Node) -> Option<PipelineId> {
        let text = self.text(node)?;
        text.parse().map_err(|error: crate::id::IdError| self.wrong(node, error.to_string(), "")).ok()
    }

    /// A list of names, each once.
    pub(super) fn names(&mut self, node: &Node) -> Option<Vec<String>> {
        let mut seen = HashSet::new();
        let mut names = Vec::new();
        for item in self.sequence(node, "a list of names", "write `[name]`")? {
            let Some(name) = self.name(item) else { continue };
            if !seen.insert(name.clone()) {
                self.wrong(item, format!("`{name}` stands here twice"), "remove one");
            }
            names.push(name);
        }
        Some(names)
    }

    /// Names of webhooks. An address is none: where events go is not for the definition to say.
    fn webhooks(&mut self, node: &Node) -> Option<Vec<String>> {
        for item in node.as_sequence().unwrap_or_default() {
            if item.as_str().is_some_and(|text| text.contains("://")) {
                let help = "write the name of a webhook of the server's configuration (`webhooks`)";
                self.wrong(item, "an address cannot stand here", help);
            }
        }
        self.names(node)
    }

    fn tasks_or_steps(
        &mut self,
        fields: Fields<'_>,
        inputs: Option<&InputSchema>,
    ) -> Option<(Style, Vec<Arc<Task>>)> {
        let (style, list) = match (fields.get("tasks"), fields.get("steps")) {
            (Some(tasks), None) => (Style::Dataflow, tasks),
            (None, Some(steps)) => (Style::Chained, steps),
            (Some(_), Some(steps)) => {
                let help =
                    "use `tasks:` to join tasks by names, or `steps:` to hand a value from one to the next";
                self.wrong(steps, "a pipeline has `tasks:` or `steps:`, not both", help);
                return None;
            }
            (None, None) => {
                self.missing(fields, "tasks", "list its tasks under `tasks:`, or its steps under `steps:`");
                return None;
            }
        };
        let nodes = self.sequence(list, "a list", "start each entry with `- `")?;
        let tasks = match style {
            Style::Dataflow => nodes.len(),
            Style::Chained => chain::count(nodes),
        };
        if tasks > MAX_TASKS {
            self.wrong(list, format!("a pipeline has at most {MAX_TASKS} tasks, this one has {tasks}"), "");
            return None;
        }
        if style == Style::Dataflow {
            let tasks = nodes.iter().enumerate().filter_map(|(entry, node)| {
                let task = self.task(node)?;
                Some(Arc::new(Task { entry, ..task }))
            });
            return Some((style, tasks.collect()));
        }
        if let Some(outputs) = fields.get("outputs") {
            let help = "remove `outputs:`; the result is what the last step makes";
            self.wrong(outputs, "a pipeline of `steps:` has no named outputs", help);
        }
        Some((style, self.steps(nodes, inputs)))
    }

    fn inputs_schema(&mut self, node: &Node) -> Option<InputSchema> {
        let help = "write `inputs: { name: { type: string } }`";
        let fields = self.mapping(node, "parameters and their schemas (a mapping)", help)?;
        for (key, value) in fields.entries {
            self.check_key(key, value);
        }
        let schemas = fields.entries.iter().map(|(key, value)| (key.text.clone(), value.to_json()));
        match InputSchema::collect(schemas.collect()) {
            Ok(schema) => Some(schema),
            Err(errors) => {
                for error in errors {
                    let Some((name, schema)) = fields.entry(&error.field) else { continue };
                    let message = format!("bad schema of parameter `{}`: {}", name.text, error.message);
                    let mut entries = schema.as_mapping().unwrap_or_default().iter();
                    let within = entries.find(|(key, _)| Some(key.text.as_str()) == error.key.as_deref());
                    match within {
                        Some((key, value)) => self.fail(self.document().error_at_key(key, value, message)),
                        None => self.wrong(schema, message, ""),
                    }
                }
                None
            }
        }
    }
}
