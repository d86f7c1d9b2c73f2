//! The fields of a pipeline.

use std::collections::HashSet;
use std::sync::Arc;

use crate::definition::{InputSchema, OnError, Pipeline, ScheduleSpec, Style, Task, Timing};
use crate::document::Node;
use crate::id::PipelineId;
use crate::time::Timestamp;

use super::MAX_TASKS;
use super::reader::{Defaults, Fields, Reader, listed};

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
    "schedule",
];

const SCHEDULE_FIELDS: &[&str] = &["id", "cron", "interval", "at", "timezone", "parameters", "enabled"];

/// The most attempts of one run, or items of one map, at once.
pub(super) const MAX_PARALLEL: u32 = 1_000_000;

/// What `on_error` may say.
pub(super) const ON_ERROR: &[(&str, OnError)] = &[("fail", OnError::Fail), ("continue", OnError::Continue)];

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
        let schedules = fields.get("schedule").map(|schedule| self.schedules(schedule)).unwrap_or_default();
        self.defaults = Defaults {
            retry: fields.get("retry").and_then(|retry| self.retry(retry)).unwrap_or_default(),
            step_timeout: fields.get("step_timeout").and_then(|timeout| self.time_limit(timeout)),
        };
        let (style, tasks) = self.tasks_or_steps(fields, inputs.as_ref())?;
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
        if nodes.len() > MAX_TASKS {
            self.wrong(
                list,
                format!("a pipeline has at most {MAX_TASKS} tasks, this one has {}", nodes.len()),
                "",
            );
            return None;
        }
        if style == Style::Dataflow {
            let tasks = nodes.iter().filter_map(|node| self.task(node)).map(Arc::new);
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

    fn schedules(&mut self, node: &Node) -> Vec<ScheduleSpec> {
        let Some(entries) = self.sequence(node, "a list of schedules", "start the entry with `- `") else {
            return Vec::new();
        };
        let mut ids = HashSet::new();
        let mut schedules = Vec::with_capacity(entries.len());
        for (place, entry) in entries.iter().enumerate() {
            let Some(schedule) = self.schedule(entry, place) else { continue };
            if !ids.insert(schedule.id.clone()) {
                let message = format!("two schedules are called `{}`", schedule.id);
                self.wrong(entry.get("id").unwrap_or(entry), message, "give one of them another id");
            }
            schedules.push(schedule);
        }
        schedules
    }

    fn schedule(&mut self, node: &Node, place: usize) -> Option<ScheduleSpec> {
        let fields = self.fields(node, "a schedule", SCHEDULE_FIELDS)?;
        let id = match fields.get("id") {
            // The id of a schedule stands in URLs as that of a pipeline does.
            Some(id) => self.pipeline_id(id).map(String::from),
            None => Some(format!("schedule-{}", place + 1)),
        };
        let timing = self.timing(fields);
        let timezone = match fields.get("timezone") {
            Some(zone) => self.timezone(zone),
            None => Some("UTC".to_owned()),
        };
        let parameters = self.constants(fields.get("parameters"));
        let enabled = fields.get("enabled").map_or(Some(true), |enabled| self.flag(enabled));
        Some(ScheduleSpec { id: id?, timing: timing?, timezone: timezone?, parameters, enabled: enabled? })
    }

    fn timing(&mut self, fields: Fields<'_>) -> Option<Timing> {
        const TIMINGS: [&str; 3] = ["cron", "interval", "at"];
        let given: Vec<_> = TIMINGS.iter().filter_map(|name| Some((*name, fields.get(name)?))).collect();
        let (name, node) = match given.as_slice() {
            [one] => *one,
            [] => {
                let help = "add `cron: \"0 2 * * *\"`, `interval: 5m` or `at: 2030-01-01T00:00:00Z`";
                self.wrong(fields.node, format!("a schedule needs one of {}", listed(&TIMINGS)), help);
                return None;
            }
            [_, (_, second), ..] => {
                self.wrong(
                    second,
                    format!("a schedule has only one of {}", listed(&TIMINGS)),
                    "make two entries",
                );
                return None;
            }
        };
        match name {
            "cron" => {
                let text = self.text(node)?;
                if !matches!(text.split_whitespace().count(), 5 | 6) {
                    let help = "such as `0 2 * * *`: minute, hour, day of month, month, day of week; seconds may stand first";
                    self.wrong(node, "a cron expression has 5 or 6 fields", help);
                    return None;
                }
                Some(Timing::Cron(text.to_owned()))
            }
            "interval" => self.time_limit(node).map(Timing::Interval),
            _ => {
                let text = self.text(node)?;
                let time = text.parse::<Timestamp>().map(Timing::At);
                let help = "write date, time and offset, such as `2030-01-01T12:00:00Z`";
                time.map_err(|_| self.wrong(node, "this is no point in time (RFC 3339)", help)).ok()
            }
        }
    }

    fn timezone(&mut self, node: &Node) -> Option<String> {
        let name = self.text(node)?;
        if jiff::tz::TimeZone::get(name).is_err() {
            let help = "use a name of the IANA time zone database, such as `Europe/Paris` or `UTC`";
            self.wrong(node, format!("unknown time zone `{name}`"), help);
            return None;
        }
        Some(name.to_owned())
    }
}
