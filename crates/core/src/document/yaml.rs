//! YAML, by `serde-saphyr`. Everything that names that crate is in this file.

use std::fmt;
use std::sync::Arc;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::Number;
use serde_saphyr::{Error, Location, MessageFormatter, Spanned, UserMessageFormatter};

use super::{Key, MAX_DEPTH, Node, NodeValue, duplicate_key, finite, too_deep};
use crate::diagnostic::{Diagnostic, SourceText, Span};

/// What anchors may expand to, and what a small text may hold anyway.
const EXPANDED_NODES: usize = 250_000;

/// How far after the last item of a list its bracket is looked for, in bytes.
const BRACKET_REACH: usize = 64;

pub(super) fn parse(source: &Arc<SourceText>, text: &str) -> Result<Node, Diagnostic> {
    // A text can hold as many values as it has bytes; anything beyond that comes from anchors.
    let nodes = EXPANDED_NODES.max(text.len());
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_depth: MAX_DEPTH,
            flow_nesting_limit: MAX_DEPTH,
            max_nodes: nodes,
            max_events: nodes.saturating_mul(3),
        },
        alias_limits: serde_saphyr::alias_limits! { max_total_replayed_events: EXPANDED_NODES },
        strict_booleans: true,
        leading_zero_numbers_as_strings: true,
        underscored_numbers_as_strings: true,
        non_finite_float_policy: serde_saphyr::NonFiniteFloatPolicy::Reject,
        with_snippet: false,
    };
    let mut documents: Vec<Node> = serde_saphyr::from_multiple_with_options(text, options)
        .map_err(|error| diagnostic(source, text, &error))?;
    documents.iter_mut().for_each(|document| stretch(document, text));
    match documents.len() {
        0 => Ok(Node::new(0..0, NodeValue::Null)),
        1 => Ok(documents.remove(0)),
        _ => Ok(Node::new(0..text.len(), NodeValue::Sequence(documents))),
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let read = Spanned::<ReadValue>::deserialize(deserializer)?;
        Ok(Self::new(span_of(&read.defined), read.value.0))
    }
}

/// Stretches the spans of lists and mappings, of which the parser names the start only, over what is in them.
fn stretch(node: &mut Node, text: &str) {
    let end = match &mut node.value {
        NodeValue::Sequence(items) => {
            items.iter_mut().for_each(|item| stretch(item, text));
            items.last().map(|item| item.span.end)
        }
        NodeValue::Mapping(entries) => {
            entries.iter_mut().for_each(|(_, value)| stretch(value, text));
            entries.last().map(|(_, value)| value.span.end)
        }
        _ => return,
    };
    // An alias may stand last, and its value elsewhere.
    node.span.end = node.span.end.max(end.unwrap_or(0));
    if matches!(text.as_bytes().get(node.span.start), Some(b'[' | b'{')) {
        // The closing bracket, if it is near: anchors can bring this place up very often.
        let rest = text.as_bytes().get(node.span.end..).unwrap_or(&[]);
        let near = &rest[..rest.len().min(BRACKET_REACH)];
        let next = near.iter().position(|byte| !matches!(byte, b' ' | b'\t' | b'\r' | b'\n' | b','));
        if let Some(next) = next.filter(|next| matches!(near[*next], b']' | b'}')) {
            node.span.end += next + 1;
        }
    }
}

/// The value of a node, read before its place is known.
struct ReadValue(NodeValue);

struct ReadVisitor;

impl<'de> Deserialize<'de> for ReadValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ReadVisitor).map(Self)
    }
}

impl<'de> Visitor<'de> for ReadVisitor {
    type Value = NodeValue;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value that JSON can hold")
    }

    fn visit_unit<E>(self) -> Result<NodeValue, E> {
        Ok(NodeValue::Null)
    }

    fn visit_none<E>(self) -> Result<NodeValue, E> {
        Ok(NodeValue::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<NodeValue, E> {
        Ok(NodeValue::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<NodeValue, E> {
        Ok(NodeValue::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<NodeValue, E> {
        Ok(NodeValue::Number(value.into()))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<NodeValue, E> {
        Number::from_f64(value).map(NodeValue::Number).ok_or_else(|| E::custom("a number is not finite"))
    }

    fn visit_str<E>(self, value: &str) -> Result<NodeValue, E> {
        Ok(NodeValue::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<NodeValue, E> {
        Ok(NodeValue::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<NodeValue, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = access.next_element()? {
            items.push(item);
        }
        Ok(NodeValue::Sequence(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<NodeValue, A::Error> {
        let mut entries = Vec::new();
        while let Some(key) = access.next_key::<Spanned<String>>()? {
            let key = Key { span: span_of(&key.defined), text: key.value };
            entries.push((key, access.next_value()?));
        }
        Ok(NodeValue::Mapping(entries))
    }
}

fn span_of(location: &Location) -> Span {
    let span = location.span();
    // Offsets are 32 bits there and texts are limited far below that.
    let start = span.byte_offset().map_or(0, |offset| offset as usize);
    let length = span.byte_len().map_or(0, |length| length as usize);
    (start..start.saturating_add(length)).into()
}

/// The place of an error, of which sometimes only line and column are known.
fn place_of(source: &SourceText, location: &Location) -> Span {
    if location.span().byte_offset().is_some() {
        return span_of(location);
    }
    let text = source.text().unwrap_or("");
    let line = usize::try_from(location.line()).unwrap_or(usize::MAX).saturating_sub(1);
    let column = usize::try_from(location.column()).unwrap_or(usize::MAX).saturating_sub(1);
    let before: usize = text.split_inclusive('\n').take(line).map(str::len).sum();
    let within: usize = text[before..].chars().take(column).map(char::len_utf8).sum();
    (before + within..before + within).into()
}

fn diagnostic(source: &Arc<SourceText>, text: &str, error: &Error) -> Diagnostic {
    let error = error.without_snippet();
    let span = error.location().map(|location| place_of(source, &location));
    let here = span.unwrap_or_default();
    let plain = |message: &str| Diagnostic::new(Arc::clone(source), message);
    let diagnostic = match innermost(error) {
        Error::DuplicateMappingKey { key, .. } => duplicate_key(source, key.as_deref(), here),
        Error::NonFiniteFloat { .. } => match finite(source, f64::NAN, here) {
            Err(diagnostic) => diagnostic,
            Ok(_) => plain("a number is not finite"),
        },
        Error::Budget { breach: serde_saphyr::budget::BudgetBreach::Depth { .. }, .. } => too_deep(source),
        Error::Budget { .. }
        | Error::AliasReplayLimitExceeded { .. }
        | Error::AliasReplayStackDepthExceeded { .. } => {
            plain("the text holds too many values, or its anchors expand to too many")
        }
        Error::NullIntoString { .. } => {
            plain("a key is empty").help("write the key before the colon, in quotes if need be")
        }
        Error::UnknownAnchor { .. } => {
            plain("this alias has no anchor before it").help("define it with `&name`, or quote the text")
        }
        Error::RecursiveReferencesRequireWeakTypes { .. } => plain("this anchor contains itself"),
        error => match tab_in_indentation(text) {
            Some(tab) => return plain(TAB).help("indent with spaces").at(tab),
            None if source.is_confidential() => plain("this is not YAML").help(LOOK),
            None => {
                plain(&format!("this is not YAML: {}", UserMessageFormatter.format_message(error))).help(LOOK)
            }
        },
    };
    match span {
        Some(span) => diagnostic.at(span),
        None => diagnostic,
    }
}

const TAB: &str = "this line is indented with a tab, which YAML does not allow";

/// The first tab that a line is indented with. In a text that cannot be read it is the likely reason, and the parser
/// stops elsewhere or speaks of keys.
fn tab_in_indentation(text: &str) -> Option<Span> {
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        let indentation = line.len() - line.trim_start_matches([' ', '\t']).len();
        if let Some(tab) = line[..indentation].find('\t')
            && !line.trim().is_empty()
        {
            return Some(Span::from(start + tab..start + tab + 1));
        }
        start += line.len();
    }
    None
}

/// The parser stops where it can go no further, which is often below the mistake.
const LOOK: &str =
    "look here and above for a bracket or quote that is not closed, or a line that is indented otherwise";

fn innermost(error: &Error) -> &Error {
    match error {
        Error::AliasError { error, .. } | Error::WithSnippet { error, .. } => innermost(error),
        error => error,
    }
}
