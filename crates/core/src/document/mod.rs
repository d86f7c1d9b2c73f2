//! Documents in YAML, TOML or JSON as one kind of tree that remembers where each value stands in its text.
//!
//! ```
//! use taskiq_flow_core::document::{Document, Format, NodeValue};
//!
//! let document = Document::parse("c.toml", "port = 8000\n", Format::Toml).unwrap();
//! let port = document.root().get("port").unwrap();
//! assert!(matches!(&port.value, NodeValue::Number(number) if number.as_u64() == Some(8000)));
//! assert_eq!((port.span.start, port.span.end), (7, 11));
//! assert_eq!(document.pointer(port), "/port");
//! ```
//!
//! Whatever the format, a value is one that JSON can hold: a TOML date becomes its text, infinities and NaN are
//! refused. Keys are text; a key that is written twice is refused. Several YAML documents in one text make a list.
//!
//! Parsing never panics and is bounded: values nest at most [`MAX_DEPTH`] levels deep, a text has at most
//! [`MAX_TEXT`] bytes, and YAML anchors expand to at most 250,000 values.

mod json;
mod toml;
mod yaml;

#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::Arc;

use serde_json::{Map, Number, Value};

use crate::diagnostic::{Diagnostic, SourceText, Span};

/// The deepest nesting of lists and mappings.
pub const MAX_DEPTH: usize = 48;

/// The longest text, in bytes.
pub const MAX_TEXT: usize = 64 << 20;

/// The formats a document may be written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// YAML 1.2.
    Yaml,
    /// TOML 1.1.
    Toml,
    /// JSON (RFC 8259).
    Json,
}

/// A value with its place in the text.
#[derive(Debug, Clone)]
pub struct Node {
    /// The bytes of the text it was written in. Where the document has no text, this says nothing.
    pub span: Span,
    /// The value.
    pub value: NodeValue,
    /// Its number in a walk that visits a node before what is in it.
    id: usize,
}

/// What a node holds.
#[derive(Debug, Clone)]
pub enum NodeValue {
    /// Nothing.
    Null,
    /// A truth value.
    Bool(bool),
    /// A finite number.
    Number(Number),
    /// Text.
    String(String),
    /// A list.
    Sequence(Vec<Node>),
    /// Values under names, in the order of the text.
    Mapping(Vec<(Key, Node)>),
}

/// The name of a value in a mapping.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// The name.
    pub text: String,
    /// Where it stands.
    pub span: Span,
}

/// A parsed text.
#[derive(Debug, Clone)]
pub struct Document {
    source: Arc<SourceText>,
    root: Node,
}

impl Format {
    /// The format of a file by the extension of its name: `yaml`, `yml`, `toml` or `json`.
    pub fn of_path(path: &Path) -> Option<Self> {
        match path.extension()?.to_str()?.to_ascii_lowercase().as_str() {
            "yaml" | "yml" => Some(Self::Yaml),
            "toml" => Some(Self::Toml),
            "json" => Some(Self::Json),
            _ => None,
        }
    }
}

impl Document {
    /// Reads `text`, which its author knows as `source_name`.
    ///
    /// # Errors
    /// The first mistake of its syntax, a key written twice, or a limit of this module.
    pub fn parse(source_name: &str, text: &str, format: Format) -> Result<Self, Diagnostic> {
        Self::read(SourceText::new(source_name, without_mark(text)), format)
    }

    /// Reads a text that may hold secrets: no diagnostic about it, from here or from [`error`](Self::error), ever
    /// shows a piece of the text. It names the place, and what was expected there.
    ///
    /// # Errors
    /// As [`parse`](Self::parse).
    pub fn parse_confidential(source_name: &str, text: &str, format: Format) -> Result<Self, Diagnostic> {
        Self::read(SourceText::new(source_name, without_mark(text)).confidential(), format)
    }

    /// A document that was never text: its diagnostics name fields by JSON pointers.
    ///
    /// # Errors
    /// When it is nested too deep.
    pub fn from_json(source_name: &str, value: Value) -> Result<Self, Diagnostic> {
        let source = Arc::new(SourceText::named(source_name));
        let root = Node::from_json(value, 0).ok_or_else(|| too_deep(&source))?;
        Ok(Self::numbered(source, root))
    }

    /// The outermost value.
    pub fn root(&self) -> &Node {
        &self.root
    }

    /// The text.
    pub fn source(&self) -> &Arc<SourceText> {
        &self.source
    }

    /// The JSON pointer (RFC 6901) of a node of this document; empty for the outermost value.
    pub fn pointer(&self, node: &Node) -> String {
        let mut pointer = String::new();
        let mut here = &self.root;
        while here.id != node.id {
            // Ids grow along the walk, so the child that holds the node is the last one not beyond it.
            let next = match &here.value {
                NodeValue::Sequence(items) => {
                    let index = items.partition_point(|item| item.id <= node.id).checked_sub(1);
                    index.map(|index| (index.to_string(), &items[index]))
                }
                NodeValue::Mapping(entries) => {
                    let index = entries.partition_point(|(_, value)| value.id <= node.id).checked_sub(1);
                    index.map(|index| (escape_segment(&entries[index].0.text), &entries[index].1))
                }
                _ => None,
            };
            let Some((segment, child)) = next else { break };
            pointer.push('/');
            pointer.push_str(&segment);
            here = child;
        }
        pointer
    }

    /// A mistake in a value of this document.
    pub fn error(&self, node: &Node, message: impl Into<String>) -> Diagnostic {
        Diagnostic::new(Arc::clone(&self.source), message).at(node.span).pointing_to(self.pointer(node))
    }

    /// A mistake in the key under which `value` stands.
    pub fn error_at_key(&self, key: &Key, value: &Node, message: impl Into<String>) -> Diagnostic {
        Diagnostic::new(Arc::clone(&self.source), message).at(key.span).pointing_to(self.pointer(value))
    }

    /// A mistake in a part of a text value; `range` counts the bytes of the value. Where the value is not written in
    /// the document letter by letter (escapes, several lines), the place is the whole value.
    pub fn error_within(
        &self,
        node: &Node,
        range: Option<std::ops::Range<usize>>,
        message: impl Into<String>,
    ) -> Diagnostic {
        let diagnostic = self.error(node, message);
        let inner = || {
            let NodeValue::String(value) = &node.value else { return None };
            let range = range?;
            let written = node.span.slice(self.source.text()?);
            let start = node.span.start + written.find(value.as_str())? + range.start;
            (range.start <= range.end && range.end <= value.len()).then(|| start..start + range.len())
        };
        match inner() {
            Some(range) => diagnostic.at(range),
            None => diagnostic,
        }
    }

    fn read(source: SourceText, format: Format) -> Result<Self, Diagnostic> {
        let source = Arc::new(source);
        let text = source.text().unwrap_or("");
        if text.len() > MAX_TEXT {
            return Err(Diagnostic::new(source, format!("the text is longer than {} MiB", MAX_TEXT >> 20)));
        }
        let root = match format {
            Format::Yaml => yaml::parse(&source, text)?,
            Format::Toml => toml::parse(&source, text)?,
            Format::Json => json::parse(&source, text)?,
        };
        Ok(Self::numbered(source, root))
    }

    fn numbered(source: Arc<SourceText>, mut root: Node) -> Self {
        number(&mut root, &mut 0);
        Self { source, root }
    }
}

impl Node {
    fn new(span: impl Into<Span>, value: NodeValue) -> Self {
        Self { span: span.into(), value, id: 0 }
    }

    /// The value under `key`, if this is a mapping that has it.
    pub fn get(&self, key: &str) -> Option<&Node> {
        self.as_mapping()?.iter().find(|(name, _)| name.text == key).map(|(_, value)| value)
    }

    /// The text, if this is text.
    pub fn as_str(&self) -> Option<&str> {
        match &self.value {
            NodeValue::String(text) => Some(text),
            _ => None,
        }
    }

    /// The items, if this is a list.
    pub fn as_sequence(&self) -> Option<&[Node]> {
        match &self.value {
            NodeValue::Sequence(items) => Some(items),
            _ => None,
        }
    }

    /// The keys and values, if this is a mapping.
    pub fn as_mapping(&self) -> Option<&[(Key, Node)]> {
        match &self.value {
            NodeValue::Mapping(entries) => Some(entries),
            _ => None,
        }
    }

    /// What kind of value this is, as messages say it: `text`, `a list`, ...
    pub fn kind(&self) -> &'static str {
        match &self.value {
            NodeValue::Null => "nothing",
            NodeValue::Bool(_) => "true or false",
            NodeValue::Number(_) => "a number",
            NodeValue::String(_) => "text",
            NodeValue::Sequence(_) => "a list",
            NodeValue::Mapping(_) => "a mapping",
        }
    }

    /// The value without its places.
    pub fn to_json(&self) -> Value {
        match &self.value {
            NodeValue::Null => Value::Null,
            NodeValue::Bool(value) => Value::Bool(*value),
            NodeValue::Number(number) => Value::Number(number.clone()),
            NodeValue::String(text) => Value::String(text.clone()),
            NodeValue::Sequence(items) => items.iter().map(Self::to_json).collect(),
            NodeValue::Mapping(entries) => {
                let entries = entries.iter().map(|(key, value)| (key.text.clone(), value.to_json()));
                Value::Object(entries.collect::<Map<_, _>>())
            }
        }
    }

    /// None when it is nested too deep.
    fn from_json(value: Value, depth: usize) -> Option<Self> {
        if depth > MAX_DEPTH {
            return None;
        }
        let nowhere = Span::default();
        let value = match value {
            Value::Null => NodeValue::Null,
            Value::Bool(value) => NodeValue::Bool(value),
            Value::Number(number) => NodeValue::Number(number),
            Value::String(text) => NodeValue::String(text),
            Value::Array(items) => NodeValue::Sequence(
                items.into_iter().map(|item| Self::from_json(item, depth + 1)).collect::<Option<_>>()?,
            ),
            Value::Object(entries) => {
                let entry =
                    |(text, value)| Some((Key { text, span: nowhere }, Self::from_json(value, depth + 1)?));
                NodeValue::Mapping(entries.into_iter().map(entry).collect::<Option<_>>()?)
            }
        };
        Some(Self::new(nowhere, value))
    }
}

fn number(node: &mut Node, next: &mut usize) {
    node.id = *next;
    *next += 1;
    match &mut node.value {
        NodeValue::Sequence(items) => items.iter_mut().for_each(|item| number(item, next)),
        NodeValue::Mapping(entries) => entries.iter_mut().for_each(|(_, value)| number(value, next)),
        _ => {}
    }
}

fn escape_segment(segment: &str) -> String {
    segment.replace('~', "~0").replace('/', "~1")
}

/// Without the byte order mark, so that columns are those an editor shows.
fn without_mark(text: &str) -> &str {
    text.strip_prefix('\u{feff}').unwrap_or(text)
}

fn too_deep(source: &Arc<SourceText>) -> Diagnostic {
    Diagnostic::new(
        Arc::clone(source),
        format!("lists and mappings are nested deeper than {MAX_DEPTH} levels"),
    )
}

/// A number that JSON can hold.
fn finite(source: &Arc<SourceText>, number: f64, span: Span) -> Result<NodeValue, Diagnostic> {
    Number::from_f64(number).map(NodeValue::Number).ok_or_else(|| {
        Diagnostic::new(Arc::clone(source), "this number is not finite, or too large")
            .at(span)
            .help("write a finite number of at most 1.7e308, or text in quotes")
    })
}

fn duplicate_key(source: &Arc<SourceText>, key: Option<&str>, span: Span) -> Diagnostic {
    let message = match key.filter(|_| !source.is_confidential()) {
        Some(key) => format!("the key `{key}` is written twice in one mapping"),
        None => "a key is written twice in one mapping".to_owned(),
    };
    Diagnostic::new(Arc::clone(source), message).at(span).help("keep one of them, or rename one")
}
