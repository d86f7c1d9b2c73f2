//! TOML, by the spans of the `toml` crate.

use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{Key, MAX_DEPTH, Node, NodeValue, finite, too_deep};
use crate::diagnostic::{Diagnostic, SourceText, Span};

pub(super) fn parse(source: &Arc<SourceText>, text: &str) -> Result<Node, Diagnostic> {
    let table = DeTable::parse(text).map_err(|error| {
        let message = format!("this is not TOML: {}", error.message());
        let diagnostic = Diagnostic::new(Arc::clone(source), message)
            .help("look here and above for a bracket or quote that is not closed, or a text without quotes");
        match error.span() {
            Some(span) => diagnostic.at(span),
            None => diagnostic,
        }
    })?;
    let span = Span::from(table.span());
    Ok(Node::new(span, mapping(source, table.into_inner(), 1)?))
}

fn node(source: &Arc<SourceText>, value: Spanned<DeValue<'_>>, depth: usize) -> Result<Node, Diagnostic> {
    let span = Span::from(value.span());
    if depth > MAX_DEPTH {
        return Err(too_deep(source).at(span));
    }
    let value = match value.into_inner() {
        DeValue::String(text) => NodeValue::String(text.into_owned()),
        DeValue::Boolean(value) => NodeValue::Bool(value),
        DeValue::Datetime(time) => NodeValue::String(time.to_string()),
        DeValue::Integer(number) => match i64::from_str_radix(number.as_str(), number.radix()) {
            Ok(number) => NodeValue::Number(number.into()),
            Err(_) => {
                let message = "this whole number does not fit into 64 bits";
                return Err(Diagnostic::new(Arc::clone(source), message).at(span));
            }
        },
        // TOML's floats are Rust's once the underscores are gone, which the parser has seen to; NaN stands for the rest.
        DeValue::Float(number) => finite(source, number.as_str().parse().unwrap_or(f64::NAN), span)?,
        DeValue::Array(items) => {
            let items = items.into_iter().map(|item| node(source, item, depth + 1));
            NodeValue::Sequence(items.collect::<Result<_, _>>()?)
        }
        DeValue::Table(table) => mapping(source, table, depth + 1)?,
    };
    Ok(Node::new(span, value))
}

fn mapping(source: &Arc<SourceText>, table: DeTable<'_>, depth: usize) -> Result<NodeValue, Diagnostic> {
    let mut entries = Vec::with_capacity(table.len());
    for (key, value) in table {
        let key = Key { span: key.span().into(), text: key.into_inner().into_owned() };
        entries.push((key, node(source, value, depth)?));
    }
    // The parser hands them out by name.
    entries.sort_by_key(|(key, _)| key.span.start);
    Ok(NodeValue::Mapping(entries))
}
