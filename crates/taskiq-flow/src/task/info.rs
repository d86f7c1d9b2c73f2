//! What pipelines have to know about a task.

use std::time::Duration;

use serde_json::{Map, Value, json};
use taskiq_flow_core::time::format_duration;

/// A task's name, inputs, outputs, and the settings its author gave it.
#[derive(Debug)]
pub struct TaskInfo {
    name: &'static str,
    description: Option<&'static str>,
    inputs: &'static [InputInfo],
    outputs: &'static [&'static str],
    retry: Option<Retry>,
    timeout: Option<Duration>,
    cache: Option<CacheInfo>,
    on_error: Option<&'static str>,
}

/// One input of a task.
#[derive(Debug)]
pub struct InputInfo {
    name: &'static str,
    type_name: &'static str,
    optional: bool,
}

/// How its values are kept.
#[derive(Debug)]
struct CacheInfo {
    ttl: Duration,
    version: Option<&'static str>,
}

/// Durations in milliseconds; none: as the loader of pipelines has it.
#[derive(Debug)]
struct Retry {
    max_attempts: u32,
    delay: Option<u64>,
    backoff: Option<f64>,
    jitter: Option<bool>,
    max_delay: Option<u64>,
    max_time: Option<u64>,
    /// Empty: as the loader has it.
    retry_on: &'static [&'static str],
    not_on: &'static [&'static str],
}

impl TaskInfo {
    /// The name pipelines call it by.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// One line for people.
    pub fn about(&self) -> Option<&'static str> {
        self.description
    }

    /// The inputs, in the order of the parameters.
    pub fn inputs(&self) -> &'static [InputInfo] {
        self.inputs
    }

    /// The names it makes.
    pub fn outputs(&self) -> &'static [&'static str] {
        self.outputs
    }

    #[doc(hidden)]
    pub const fn new(
        name: &'static str,
        inputs: &'static [InputInfo],
        outputs: &'static [&'static str],
    ) -> Self {
        Self {
            name,
            description: None,
            inputs,
            outputs,
            retry: None,
            timeout: None,
            cache: None,
            on_error: None,
        }
    }

    #[doc(hidden)]
    pub const fn description(mut self, description: &'static str) -> Self {
        self.description = Some(description);
        self
    }

    #[doc(hidden)]
    pub const fn retry(
        mut self,
        max_attempts: u32,
        delay: Option<u64>,
        backoff: Option<f64>,
        jitter: Option<bool>,
        max_delay: Option<u64>,
    ) -> Self {
        self.retry = Some(Retry {
            max_attempts,
            delay,
            backoff,
            jitter,
            max_delay,
            max_time: None,
            retry_on: &[],
            not_on: &[],
        });
        self
    }

    #[doc(hidden)]
    pub const fn retry_rules(
        mut self,
        max_time: Option<u64>,
        retry_on: &'static [&'static str],
        not_on: &'static [&'static str],
    ) -> Self {
        if let Some(retry) = &mut self.retry {
            retry.max_time = max_time;
            retry.retry_on = retry_on;
            retry.not_on = not_on;
        }
        self
    }

    #[doc(hidden)]
    pub const fn timeout(mut self, millis: u64) -> Self {
        self.timeout = Some(Duration::from_millis(millis));
        self
    }

    #[doc(hidden)]
    pub const fn cache(mut self, ttl_millis: u64, version: Option<&'static str>) -> Self {
        self.cache = Some(CacheInfo { ttl: Duration::from_millis(ttl_millis), version });
        self
    }

    #[doc(hidden)]
    pub const fn on_error(mut self, rule: &'static str) -> Self {
        self.on_error = Some(rule);
        self
    }

    /// The settings as fields of a task in a pipeline file.
    pub(crate) fn settings(&self) -> Map<String, Value> {
        let mut fields = Map::new();
        if let Some(description) = self.description {
            fields.insert("description".to_owned(), description.into());
        }
        if let Some(retry) = &self.retry {
            fields.insert("retry".to_owned(), Value::Object(retry.to_json()));
        }
        if let Some(timeout) = self.timeout {
            fields.insert("timeout".to_owned(), format_duration(timeout).into());
        }
        if let Some(CacheInfo { ttl, version }) = &self.cache {
            let mut cache = json!({ "ttl": format_duration(*ttl) });
            if let Some(version) = version {
                cache["version"] = (*version).into();
            }
            fields.insert("cache".to_owned(), cache);
        }
        if let Some(rule) = self.on_error {
            fields.insert("on_error".to_owned(), rule.into());
        }
        fields
    }
}

impl InputInfo {
    /// The name.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Its Rust type, as the parameter has it; of an optional input the type inside the `Option`.
    pub fn type_name(&self) -> &'static str {
        self.type_name
    }

    /// Whether the task does without it.
    pub fn is_optional(&self) -> bool {
        self.optional
    }

    #[doc(hidden)]
    pub const fn new(name: &'static str, type_name: &'static str, optional: bool) -> Self {
        Self { name, type_name, optional }
    }
}

impl Retry {
    fn to_json(&self) -> Map<String, Value> {
        let millis = |millis: u64| Value::from(format_duration(Duration::from_millis(millis)));
        let rules = |rules: &'static [&'static str]| (!rules.is_empty()).then(|| Value::from(rules.to_vec()));
        let fields = [
            ("max_attempts", Some(json!(self.max_attempts))),
            ("delay", self.delay.map(millis)),
            ("backoff", self.backoff.map(Value::from)),
            ("jitter", self.jitter.map(Value::from)),
            ("max_delay", self.max_delay.map(millis)),
            ("max_time", self.max_time.map(millis)),
            ("retry_on", rules(self.retry_on)),
            ("not_on", rules(self.not_on)),
        ];
        fields.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
    }
}
