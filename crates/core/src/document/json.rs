//! JSON. `serde_json` judges the syntax and reads every name, text and number; the walk here only adds the places.

use std::collections::HashSet;
use std::sync::Arc;

use serde::de::IgnoredAny;
use serde_json::Number;

use super::{Key, MAX_DEPTH, Node, NodeValue, duplicate_key, too_deep};
use crate::diagnostic::{Diagnostic, SourceText, Span};

pub(super) fn parse(source: &Arc<SourceText>, text: &str) -> Result<Node, Diagnostic> {
    serde_json::from_str::<IgnoredAny>(text).map_err(|error| syntax(source, text, &error))?;
    let mut walk = Walk { source, text, at: 0 };
    walk.node(1)
}

/// A walk over a text that is JSON.
struct Walk<'a> {
    source: &'a Arc<SourceText>,
    text: &'a str,
    at: usize,
}

impl Walk<'_> {
    fn node(&mut self, depth: usize) -> Result<Node, Diagnostic> {
        let start = self.skip_space();
        let value = match self.peek() {
            Some(b'[') => self.sequence(depth)?,
            Some(b'{') => self.mapping(depth)?,
            Some(b'"') => NodeValue::String(self.string()?.text),
            Some(b't') => self.word("true", NodeValue::Bool(true))?,
            Some(b'f') => self.word("false", NodeValue::Bool(false))?,
            Some(b'n') => self.word("null", NodeValue::Null)?,
            _ => self.number()?,
        };
        Ok(Node::new(start..self.at, value))
    }

    fn sequence(&mut self, depth: usize) -> Result<NodeValue, Diagnostic> {
        self.open(depth)?;
        let mut items = Vec::new();
        while !self.closed(b']') {
            items.push(self.node(depth + 1)?);
        }
        Ok(NodeValue::Sequence(items))
    }

    fn mapping(&mut self, depth: usize) -> Result<NodeValue, Diagnostic> {
        self.open(depth)?;
        let mut entries: Vec<(Key, Node)> = Vec::new();
        let mut seen = HashSet::new();
        while !self.closed(b'}') {
            let key = self.string()?;
            if !seen.insert(key.text.clone()) {
                return Err(duplicate_key(self.source, Some(&key.text), key.span));
            }
            self.skip_space();
            self.at += 1; // the colon
            let value = self.node(depth + 1)?;
            entries.push((key, value));
        }
        Ok(NodeValue::Mapping(entries))
    }

    fn open(&mut self, depth: usize) -> Result<(), Diagnostic> {
        if depth > MAX_DEPTH {
            return Err(too_deep(self.source).at(self.at..self.at + 1));
        }
        self.at += 1;
        Ok(())
    }

    /// Steps over the comma before the next item, or over the bracket that ends the list.
    fn closed(&mut self, bracket: u8) -> bool {
        self.skip_space();
        if self.peek() == Some(b',') {
            self.at += 1;
            self.skip_space();
        }
        // The end of the text cannot come before the bracket; stopping there keeps this a proof of its own.
        let closed = self.peek().is_none_or(|byte| byte == bracket);
        if closed {
            self.at += 1;
        }
        closed
    }

    fn string(&mut self) -> Result<Key, Diagnostic> {
        let start = self.at;
        let rest = self.text.as_bytes().get(start + 1..).unwrap_or(&[]);
        let mut escaped = false;
        let length = rest.iter().position(|byte| {
            let ends = *byte == b'"' && !escaped;
            escaped = *byte == b'\\' && !escaped;
            ends
        });
        self.at = length.map_or(self.text.len(), |length| start + length + 2);
        let text = self.scalar::<String>(start)?;
        Ok(Key { text, span: (start..self.at).into() })
    }

    fn number(&mut self) -> Result<NodeValue, Diagnostic> {
        let start = self.at;
        let rest = self.text.as_bytes().get(start..).unwrap_or(&[]);
        let length =
            rest.iter().position(|byte| !matches!(byte, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E'));
        self.at += length.unwrap_or(rest.len());
        Ok(NodeValue::Number(self.scalar::<Number>(start)?))
    }

    fn scalar<T: serde::de::DeserializeOwned>(&self, start: usize) -> Result<T, Diagnostic> {
        let token = Span { start, end: self.at }.slice(self.text);
        serde_json::from_str(token).map_err(|error| {
            let message = format!("this is not JSON: {}", reason(self.source, &error));
            Diagnostic::new(Arc::clone(self.source), message).at(start..self.at).help(LOOK)
        })
    }

    fn word(&mut self, word: &str, value: NodeValue) -> Result<NodeValue, Diagnostic> {
        self.at += word.len();
        Ok(value)
    }

    fn skip_space(&mut self) -> usize {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
        self.at
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }
}

fn syntax(source: &Arc<SourceText>, text: &str, error: &serde_json::Error) -> Diagnostic {
    let before: usize = text.split_inclusive('\n').take(error.line().saturating_sub(1)).map(str::len).sum();
    let start = (before + error.column().saturating_sub(1)).min(text.len());
    let message = format!("this is not JSON: {}", reason(source, error));
    Diagnostic::new(Arc::clone(source), message).at(start..start).help(LOOK)
}

/// The parser stops where it can go no further, which may be behind the mistake.
const LOOK: &str =
    "look here and before for a comma too many or too few, or a bracket or quote that is not closed";

/// What the parser says, without the place, which the diagnostic names by itself.
fn reason(source: &SourceText, error: &serde_json::Error) -> String {
    let text = error.to_string();
    let cut = text.rfind(" at line ").unwrap_or(text.len());
    if error.is_data() && source.is_confidential() {
        return "a value is malformed".to_owned();
    }
    text[..cut].to_owned()
}
