//! Reading values of the expected types out of nodes, collecting mistakes.

use std::num::NonZeroU32;
use std::time::Duration;

use serde_json::{Map, Value};

use crate::definition::RetryPolicy;
use crate::diagnostic::{Diagnostic, nearest};
use crate::document::{Document, Key, Node, NodeValue};
use crate::expr::{Expr, ExprError, Template};
use crate::time::parse_duration;

/// The most mistakes that are reported at once.
const MAX_ERRORS: usize = 100;

/// The longest name of a task, input, output, signal, in bytes.
const MAX_NAME: usize = 128;

/// Reads nodes of one document. What returns an option returns none after it has noted a mistake.
pub(super) struct Reader<'d> {
    document: &'d Document,
    errors: Vec<Diagnostic>,
    /// Mistakes found, those beyond the limit included.
    count: usize,
    /// What the pipeline at hand says for those of its tasks that say nothing.
    pub(super) defaults: Defaults,
}

/// What a pipeline says for its tasks.
#[derive(Default)]
pub(super) struct Defaults {
    pub(super) retry: RetryPolicy,
    pub(super) step_timeout: Option<Duration>,
}

/// A mapping whose keys are known.
#[derive(Clone, Copy)]
pub(super) struct Fields<'n> {
    pub(super) node: &'n Node,
    pub(super) entries: &'n [(Key, Node)],
}

impl<'n> Fields<'n> {
    /// The value of a field; a field without a value is as good as none.
    pub(super) fn get(self, field: &str) -> Option<&'n Node> {
        self.entry(field).map(|(_, value)| value).filter(|value| !matches!(value.value, NodeValue::Null))
    }

    /// A field as it is.
    pub(super) fn entry(self, field: &str) -> Option<&'n (Key, Node)> {
        self.entries.iter().find(|(key, _)| key.text == field)
    }
}

impl<'d> Reader<'d> {
    pub(super) fn new(document: &'d Document) -> Self {
        Self { document, errors: Vec::new(), count: 0, defaults: Defaults::default() }
    }

    pub(super) fn document(&self) -> &'d Document {
        self.document
    }

    pub(super) fn count(&self) -> usize {
        self.count
    }

    pub(super) fn into_errors(self) -> Vec<Diagnostic> {
        self.errors
    }

    /// Whether further mistakes are only counted. What places and explains a mistake need not be worked out then.
    pub(super) fn is_full(&self) -> bool {
        self.errors.len() >= MAX_ERRORS
    }

    /// Counts a mistake that is not reported.
    pub(super) fn count_only(&mut self) {
        self.count += 1;
    }

    pub(super) fn fail(&mut self, diagnostic: Diagnostic) {
        self.count += 1;
        if !self.is_full() {
            self.errors.push(diagnostic);
        }
    }

    /// Notes a mistake in `node`; what to do about it goes into `help`, unless it is empty.
    pub(super) fn wrong(&mut self, node: &Node, message: impl Into<String>, help: impl Into<String>) {
        if self.is_full() {
            return self.count_only();
        }
        let (diagnostic, help) = (self.document.error(node, message), help.into());
        self.fail(if help.is_empty() { diagnostic } else { diagnostic.help(help) });
    }

    pub(super) fn wrong_type(&mut self, node: &Node, expected: &str, help: &str) {
        self.wrong(node, format!("expected {expected}, found {}", node.kind()), help);
    }

    pub(super) fn missing(&mut self, fields: Fields<'_>, field: &str, help: &str) {
        self.wrong(fields.node, format!("missing field `{field}`"), help);
    }

    /// A mapping with any keys.
    pub(super) fn mapping<'n>(&mut self, node: &'n Node, expected: &str, help: &str) -> Option<Fields<'n>> {
        match &node.value {
            NodeValue::Mapping(entries) => Some(Fields { node, entries }),
            _ => {
                self.wrong_type(node, expected, help);
                None
            }
        }
    }

    /// A mapping with these fields; others are noted as mistakes.
    pub(super) fn fields<'n>(
        &mut self,
        node: &'n Node,
        what: &str,
        known: &[&'static str],
    ) -> Option<Fields<'n>> {
        let help = format!("write it with the fields {}", listed(known));
        let fields = self.mapping(node, &format!("{what} (a mapping)"), &help)?;
        self.unknown_fields(fields, what, known);
        Some(fields)
    }

    pub(super) fn unknown_fields(&mut self, fields: Fields<'_>, what: &str, known: &[&'static str]) {
        for (key, value) in fields.entries {
            if !known.contains(&key.text.as_str()) {
                self.unknown_field(key, value, what, known);
            }
        }
    }

    pub(super) fn unknown_field(&mut self, key: &Key, value: &Node, what: &str, known: &[&'static str]) {
        let message = format!("unknown field `{}` in {what}", key.text);
        let diagnostic = self.document.error_at_key(key, value, message);
        self.fail(match nearest(&key.text, known.iter().copied()) {
            Some(near) => diagnostic.label(format!("did you mean `{near}`?")),
            None => diagnostic.help(format!("its fields are {}", listed(known))),
        });
    }

    pub(super) fn sequence<'n>(&mut self, node: &'n Node, expected: &str, help: &str) -> Option<&'n [Node]> {
        let items = node.as_sequence();
        if items.is_none() {
            self.wrong_type(node, expected, help);
        }
        items
    }

    pub(super) fn text<'n>(&mut self, node: &'n Node) -> Option<&'n str> {
        let text = node.as_str();
        if text.is_none() {
            let help = match &node.value {
                NodeValue::Bool(_) | NodeValue::Number(_) => "write it in quotes",
                _ => "",
            };
            self.wrong_type(node, "text", help);
        }
        text
    }

    /// The name of something: short, on one line, without space around it.
    pub(super) fn name(&mut self, node: &Node) -> Option<String> {
        let name = self.text(node)?;
        let Some(complaint) = bad_name(name) else { return Some(name.to_owned()) };
        self.wrong(node, complaint, "");
        None
    }

    pub(super) fn flag(&mut self, node: &Node) -> Option<bool> {
        match &node.value {
            NodeValue::Bool(value) => Some(*value),
            _ => {
                self.wrong_type(node, "true or false", "");
                None
            }
        }
    }

    pub(super) fn number(&mut self, node: &Node) -> Option<f64> {
        match &node.value {
            NodeValue::Number(number) => number.as_f64(),
            _ => {
                self.wrong_type(node, "a number", "");
                None
            }
        }
    }

    /// A whole number from 1 to `most`.
    pub(super) fn count_up_to(&mut self, node: &Node, most: u32) -> Option<NonZeroU32> {
        let number = match &node.value {
            NodeValue::Number(number) => number.as_u64(),
            _ => {
                self.wrong_type(node, &format!("a whole number from 1 to {most}"), "");
                return None;
            }
        };
        let count = number.and_then(|number| u32::try_from(number).ok()).filter(|count| *count <= most);
        let count = count.and_then(NonZeroU32::new);
        if count.is_none() {
            self.wrong(node, format!("expected a whole number from 1 to {most}"), "");
        }
        count
    }

    pub(super) fn duration(&mut self, node: &Node) -> Option<Duration> {
        match &node.value {
            NodeValue::String(text) => match parse_duration(text) {
                Ok(duration) => Some(duration),
                Err(error) => {
                    self.wrong(node, error.to_string(), "");
                    None
                }
            },
            NodeValue::Number(number) => {
                self.wrong(
                    node,
                    "a duration needs a unit",
                    format!("write `{number}s` for seconds; units are ms, s, m, h, d"),
                );
                None
            }
            _ => {
                self.wrong_type(node, "a duration such as `30s`", "");
                None
            }
        }
    }

    /// A duration that is not zero.
    pub(super) fn time_limit(&mut self, node: &Node) -> Option<Duration> {
        let duration = self.duration(node)?;
        if duration < Duration::from_millis(1) {
            self.wrong(node, "expected a duration of at least 1ms", "leave the field out for no limit");
            return None;
        }
        Some(duration)
    }

    /// One of some words.
    pub(super) fn choice<T: Copy>(&mut self, node: &Node, choices: &[(&'static str, T)]) -> Option<T> {
        let text = self.text(node)?;
        if let Some((_, value)) = choices.iter().find(|(word, _)| *word == text) {
            return Some(*value);
        }
        let words: Vec<_> = choices.iter().map(|(word, _)| *word).collect();
        let help = nearest(text, words.iter().copied()).map(|near| format!("did you mean `{near}`?"));
        self.wrong(node, format!("expected one of {}", listed(&words)), help.unwrap_or_default());
        None
    }

    /// An expression; a number or a truth value is one by itself.
    pub(super) fn expr(&mut self, node: &Node) -> Option<Expr> {
        let compiled = match &node.value {
            NodeValue::String(text) => Expr::compile(text),
            NodeValue::Bool(_) | NodeValue::Number(_) => Expr::compile(&node.to_json().to_string()),
            _ => {
                let help = "write the expression as one text, in quotes where YAML would read it as a list or mapping";
                self.wrong_type(node, "an expression", help);
                return None;
            }
        };
        compiled.map_err(|error| self.bad_expression(node, &error)).ok()
    }

    /// A template; a number or a truth value is text here.
    pub(super) fn template(&mut self, node: &Node) -> Option<Template> {
        let compiled = match &node.value {
            NodeValue::String(text) => Template::compile(text),
            NodeValue::Bool(_) | NodeValue::Number(_) => Template::compile(&node.to_json().to_string()),
            _ => {
                self.wrong_type(node, "text", "");
                return None;
            }
        };
        compiled.map_err(|error| self.bad_expression(node, &error)).ok()
    }

    /// A mapping of names to any JSON values.
    pub(super) fn constants(&mut self, node: Option<&Node>) -> Map<String, Value> {
        let Some(node) = node else { return Map::new() };
        let Some(fields) = self.mapping(node, "names and their values", "write `{ name: value }`") else {
            return Map::new();
        };
        for (key, value) in fields.entries {
            self.check_key(key, value);
        }
        fields.entries.iter().map(|(key, value)| (key.text.clone(), value.to_json())).collect()
    }

    pub(super) fn check_key(&mut self, key: &Key, value: &Node) -> bool {
        let Some(complaint) = bad_name(&key.text) else { return true };
        self.fail(self.document.error_at_key(key, value, complaint));
        false
    }

    fn bad_expression(&mut self, node: &Node, error: &ExprError) {
        let mut found =
            self.document.error_within(node, error.offset.clone(), format!("bad expression: {error}"));
        if error.message.starts_with("syntax error") {
            found = found
                .help("expressions are written as in Jinja: `a + 1`, `rows | length`, `x if ready else y`");
        }
        self.fail(found);
    }
}

/// Names one after another, as messages show them.
pub(super) fn listed(names: &[&str]) -> String {
    let quoted: Vec<_> = names.iter().map(|name| format!("`{name}`")).collect();
    quoted.join(", ")
}

fn bad_name(name: &str) -> Option<String> {
    if name.is_empty() {
        Some("a name cannot be empty".to_owned())
    } else if name.len() > MAX_NAME {
        Some(format!("a name has at most {MAX_NAME} bytes"))
    } else if name.trim() != name || name.chars().any(char::is_control) {
        Some("a name has no control characters, and no space around it".to_owned())
    } else {
        None
    }
}
