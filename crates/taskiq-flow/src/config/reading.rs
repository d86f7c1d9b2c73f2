//! Making raw values out of files, texts and the files that they name, and finding one's way in them.

use std::path::Path;

use taskiq_flow_core::diagnostic::Span;
use taskiq_flow_core::document::{Document, Format, Node, NodeValue};

use super::kind::Kind;
use super::mistake::{Mistake, Segment};
use super::raw::{Raw, RawKey, RawValue};

/// What marks a value that stands in a file of its own.
pub(super) const INDIRECTION: &str = "file:";

/// The longest file a value may stand in, in bytes.
const MAX_VALUE_FILE: u64 = 16 << 20;

impl Raw {
    /// A value of a configuration file.
    pub(super) fn of_node(node: &Node) -> Self {
        Self::convert(node, true)
    }

    /// A text that stands nowhere.
    pub(super) fn text(text: &str) -> Self {
        Self { value: RawValue::Text(text.to_owned()), span: None, file: None }
    }

    /// The text of an environment variable, of a flag or of a `file:` value, read as a field of this kind.
    pub(super) fn of_text(text: &str, kind: &Kind) -> Result<Self, Mistake> {
        let value = match kind {
            Kind::Flag => match text {
                "true" | "1" => RawValue::Flag(true),
                "false" | "0" => RawValue::Flag(false),
                _ => RawValue::Text(text.to_owned()),
            },
            Kind::Number { .. } => match text.parse::<u64>() {
                Ok(number) => RawValue::Number(number.into()),
                Err(_) => RawValue::Text(text.to_owned()),
            },
            Kind::Text { .. } | Kind::Choice(_) => RawValue::Text(text.to_owned()),
            Kind::TextOrList(_) | Kind::TextOrStruct(_) if !is_json(text, kind) => {
                RawValue::Text(text.to_owned())
            }
            Kind::TextOrList(_) | Kind::TextOrStruct(_) | Kind::List(_) | Kind::Map(_) | Kind::Struct(_) => {
                let document =
                    Document::parse_confidential("", text, Format::Json).map_err(|diagnostic| {
                        let place = match (diagnostic.line(), diagnostic.column()) {
                            (Some(line), Some(column)) => format!(" at line {line}, column {column}"),
                            _ => String::new(),
                        };
                        let reason = diagnostic.message();
                        let reason = reason.strip_prefix("this is not JSON: ").unwrap_or(reason);
                        Mistake::must(format!("be {} as JSON text: {reason}{place}", kind.expected()))
                            .help(format!("write it as JSON, such as {}", kind.sample()))
                    })?;
                return Ok(Self::convert(document.root(), false));
            }
        };
        Ok(Self { value, span: None, file: None })
    }

    /// Replaces every `file:` text by what the file holds. The outermost value is then read as a field of this kind.
    pub(super) fn resolve(self, kind: &Kind) -> Result<Self, Mistake> {
        let Some(path) = self.indirection() else { return self.resolve_within() };
        let text = read(path)?;
        let mut found = Self::of_text(&text, kind).map_err(|mistake| mistake.found_in(path))?;
        found = match found.value {
            RawValue::List(_) | RawValue::Map(_) => found.resolve_within()?,
            // What a file holds is the value, whatever it looks like.
            _ => found,
        };
        found.span = self.span;
        found.file = Some(path.into());
        Ok(found)
    }

    /// Whether a file of its own is needed to know the value.
    pub(super) fn is_indirect(&self) -> bool {
        match &self.value {
            RawValue::List(items) => items.iter().any(Self::is_indirect),
            RawValue::Map(entries) => entries.iter().any(|(_, value)| value.is_indirect()),
            _ => self.indirection().is_some(),
        }
    }

    /// The value a path leads to, or the innermost one on the way there.
    pub(super) fn find(&self, path: &[Segment]) -> &Self {
        let Some((first, rest)) = path.split_first() else { return self };
        let next = match (&self.value, first) {
            (RawValue::List(items), Segment::Item(index)) => items.get(*index),
            (RawValue::Map(entries), Segment::Entry(index)) => entries.get(*index).map(|(_, value)| value),
            (RawValue::Map(entries), Segment::Name(name)) => {
                entries.iter().find(|(key, _)| key.text == *name).map(|(_, value)| value)
            }
            _ => None,
        };
        next.map_or(self, |next| next.find(rest))
    }

    /// The place of the key that a path ends in.
    pub(super) fn key_span(&self, path: &[Segment]) -> Option<Span> {
        let (last, before) = path.split_last()?;
        let RawValue::Map(entries) = &self.find(before).value else { return None };
        let found = match last {
            Segment::Entry(index) => entries.get(*index),
            Segment::Name(name) => entries.iter().find(|(key, _)| key.text == *name),
            Segment::Item(_) => None,
        };
        found.and_then(|(key, _)| key.span)
    }

    /// The places of everything written in the value: keys and scalars.
    pub(super) fn written(&self, places: &mut Vec<Span>) {
        match &self.value {
            RawValue::List(items) => items.iter().for_each(|item| item.written(places)),
            RawValue::Map(entries) => {
                for (key, value) in entries {
                    places.extend(key.span);
                    value.written(places);
                }
            }
            _ => places.extend(self.span),
        }
    }

    fn convert(node: &Node, with_span: bool) -> Self {
        let value = match &node.value {
            NodeValue::Null => RawValue::Null,
            NodeValue::Bool(flag) => RawValue::Flag(*flag),
            NodeValue::Number(number) => RawValue::Number(number.clone()),
            NodeValue::String(text) => RawValue::Text(text.clone()),
            NodeValue::Sequence(items) => {
                RawValue::List(items.iter().map(|item| Self::convert(item, with_span)).collect())
            }
            NodeValue::Mapping(entries) => {
                let entry = |(key, value): &(taskiq_flow_core::document::Key, Node)| {
                    let key = RawKey { text: key.text.clone(), span: with_span.then_some(key.span) };
                    (key, Self::convert(value, with_span))
                };
                RawValue::Map(entries.iter().map(entry).collect())
            }
        };
        Self { value, span: with_span.then_some(node.span), file: None }
    }

    fn indirection(&self) -> Option<&str> {
        match &self.value {
            RawValue::Text(text) => text.strip_prefix(INDIRECTION),
            _ => None,
        }
    }

    fn resolve_within(mut self) -> Result<Self, Mistake> {
        match &mut self.value {
            RawValue::Text(text) => {
                if let Some(path) = text.strip_prefix(INDIRECTION) {
                    self.file = Some(path.into());
                    *text = read(path)?;
                }
            }
            RawValue::List(items) => {
                let resolved = std::mem::take(items).into_iter().enumerate().map(|(index, item)| {
                    item.resolve_within().map_err(|mistake| mistake.under(Segment::Item(index)))
                });
                *items = resolved.collect::<Result<_, _>>()?;
            }
            RawValue::Map(entries) => {
                // A key may be a secret: it is named by its position until somebody knows better.
                let resolved =
                    std::mem::take(entries).into_iter().enumerate().map(|(index, (key, value))| match value
                        .resolve_within()
                    {
                        Ok(value) => Ok((key, value)),
                        Err(mistake) => Err(mistake.under(Segment::Entry(index))),
                    });
                *entries = resolved.collect::<Result<_, _>>()?;
            }
            _ => {}
        }
        Ok(self)
    }
}

/// Whether the text of a field that may be one text begins as the other thing that it may be.
fn is_json(text: &str, kind: &Kind) -> bool {
    let list = matches!(kind, Kind::TextOrList(_));
    let mapping = matches!(kind, Kind::TextOrStruct(_) | Kind::TextOrList(Kind::TextOrStruct(_)));
    match text.trim_start().chars().next() {
        Some('[') => list,
        Some('{') => mapping,
        _ => false,
    }
}

/// The text of a file without the line break at its end.
fn read(path: &str) -> Result<String, Mistake> {
    let cannot = |reason: String| Mistake::must(format!("be in the file `{path}`, which {reason}"));
    if path.is_empty() {
        return Err(Mistake::must("name a file after `file:`").help("write it as `file:/run/secrets/name`"));
    }
    let metadata =
        std::fs::metadata(Path::new(path)).map_err(|error| cannot(format!("cannot be read: {error}")))?;
    if !metadata.is_file() {
        return Err(cannot("is no regular file".to_owned()));
    }
    if metadata.len() > MAX_VALUE_FILE {
        return Err(cannot(format!("is longer than {} MiB", MAX_VALUE_FILE >> 20)));
    }
    let bytes = std::fs::read(path).map_err(|error| cannot(format!("cannot be read: {error}")))?;
    let mut text = String::from_utf8(bytes).map_err(|_| cannot("is not UTF-8 text".to_owned()))?;
    if text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    Ok(text)
}
