//! Messages about a place in a text that somebody wrote.
//!
//! ```
//! use taskiq_flow_core::document::{Document, Format};
//!
//! let document = Document::parse("p.yaml", "id: 7\n", Format::Yaml).unwrap();
//! let wrong = document.root().get("id").unwrap();
//! let diagnostic = document.error(wrong, "expected text, found a number").label("write it in quotes");
//! let shown = [
//!     "error: expected text, found a number",
//!     " --> p.yaml:1:5",
//!     "  |",
//!     "1 | id: 7",
//!     "  |     ^ write it in quotes",
//! ];
//! assert_eq!(diagnostic.to_string(), shown.join("\n"));
//! ```

mod excerpt;

#[cfg(test)]
mod tests;

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use annotate_snippets::{AnnotationKind, Level, Origin, Renderer, Snippet};
use serde::ser::SerializeStruct;
use serde::{Serialize, Serializer};

use self::excerpt::{Excerpt, floor_boundary, visible};

/// A range of bytes in a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Span {
    /// The first byte.
    pub start: usize,
    /// The byte after the last one.
    pub end: usize,
}

/// A text with the name under which its author knows it.
#[derive(Clone, PartialEq, Eq)]
pub struct SourceText {
    name: String,
    text: Option<String>,
    confidential: bool,
}

/// One mistake, the place where it was made, and the fix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic(Box<Parts>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Parts {
    source: Arc<SourceText>,
    message: String,
    span: Option<Span>,
    pointer: Option<String>,
    label: Option<String>,
    help: Option<String>,
}

/// All mistakes found in a text, in the order of their places; never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostics(Vec<Diagnostic>);

impl Span {
    /// The bytes of `text` in this span, or nothing when it is not a part of it.
    pub fn slice(self, text: &str) -> &str {
        text.get(self.start..self.end).unwrap_or("")
    }
}

impl From<Range<usize>> for Span {
    fn from(range: Range<usize>) -> Self {
        Self { start: range.start, end: range.end }
    }
}

impl SourceText {
    /// `text`, which its author knows as `name`.
    pub fn new(name: impl Into<String>, text: impl Into<String>) -> Self {
        Self { name: name.into(), text: Some(text.into()), confidential: false }
    }

    /// A source of which only the name is known: an environment variable, the body of a request.
    pub fn named(name: impl Into<String>) -> Self {
        Self { name: name.into(), text: None, confidential: false }
    }

    /// The same, but no message ever shows a line of it: it may hold secrets. Line and column are still named.
    #[must_use]
    pub fn confidential(self) -> Self {
        Self { confidential: true, ..self }
    }

    /// Whether lines of it may not be shown.
    pub fn is_confidential(&self) -> bool {
        self.confidential
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The text, where there is one.
    pub fn text(&self) -> Option<&str> {
        self.text.as_deref()
    }

    /// Line and column of a byte, both counted from 1, the column in characters.
    fn position(&self, offset: usize) -> Option<(usize, usize)> {
        let text = self.text.as_deref()?;
        let before = &text[..floor_boundary(text, offset)];
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let line = before.bytes().filter(|byte| *byte == b'\n').count() + 1;
        Some((line, before[line_start..].chars().count() + 1))
    }
}

impl Diagnostic {
    /// A mistake somewhere in `source`.
    pub fn new(source: impl Into<Arc<SourceText>>, message: impl Into<String>) -> Self {
        Self(Box::new(Parts {
            source: source.into(),
            message: message.into(),
            span: None,
            pointer: None,
            label: None,
            help: None,
        }))
    }

    /// The place as bytes of the source's text.
    #[must_use]
    pub fn at(mut self, span: impl Into<Span>) -> Self {
        self.0.span = Some(span.into());
        self
    }

    /// The place as a JSON pointer (RFC 6901).
    #[must_use]
    pub fn pointing_to(mut self, pointer: impl Into<String>) -> Self {
        self.0.pointer = Some(pointer.into());
        self
    }

    /// A few words that stand beside the caret.
    #[must_use]
    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.0.label = Some(label.into());
        self
    }

    /// What to do about it.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.0.help = Some(help.into());
        self
    }

    /// What is wrong, on one line and without the place.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// What to do about it, where that is known.
    pub fn help_text(&self) -> Option<&str> {
        self.0.help.as_deref()
    }

    /// The name of the source.
    pub fn source_name(&self) -> &str {
        &self.0.source.name
    }

    /// The place as bytes of the text.
    pub fn span(&self) -> Option<Span> {
        self.0.span.filter(|_| self.0.source.text.is_some())
    }

    /// The line, counted from 1, where the source has lines.
    pub fn line(&self) -> Option<usize> {
        Some(self.0.source.position(self.0.span?.start)?.0)
    }

    /// The column in characters, counted from 1, where the source has lines.
    pub fn column(&self) -> Option<usize> {
        Some(self.0.source.position(self.0.span?.start)?.1)
    }

    /// The field as a JSON pointer such as `/tasks/0/when`; empty for the whole document.
    pub fn field(&self) -> &str {
        self.0.pointer.as_deref().unwrap_or("")
    }

    /// The message as compilers write it: file, line, column, the line itself and a caret under the place.
    /// Control characters of the source never reach the output.
    pub fn render(&self, colour: bool) -> String {
        let parts = &*self.0;
        let message = visible(&parts.message);
        let label = parts.label.as_deref().map(visible);
        let mut report = Level::ERROR.primary_title(message).elements(None::<Origin<'_>>);
        let name = visible(&parts.source.name);
        let text = parts.source.text.as_deref();
        if let (Some(text), Some(span), false) = (text, parts.span, parts.source.confidential) {
            let excerpt = Excerpt::of(text, span);
            let mut annotation = AnnotationKind::Primary.span(excerpt.mark);
            if let Some(label) = label {
                annotation = annotation.label(label);
            }
            report = report.element(
                Snippet::source(excerpt.line).line_start(excerpt.number).path(name).annotation(annotation),
            );
        } else {
            report = report.element(self.origin(name));
            if let Some(label) = label {
                report = report.element(Level::NOTE.message(label));
            }
        }
        if let Some(help) = &parts.help {
            report = report.element(Level::HELP.message(visible(help)));
        }
        let renderer = if colour { Renderer::styled() } else { Renderer::plain() };
        renderer.render(&[report])
    }

    fn origin(&self, name: String) -> Origin<'static> {
        let parts = &*self.0;
        match (parts.span.and_then(|span| parts.source.position(span.start)), parts.pointer.as_deref()) {
            (Some((line, column)), _) => Origin::path(name).line(line).char_column(column),
            (None, Some(pointer)) if !pointer.is_empty() => {
                Origin::path(format!("{name}: {}", visible(pointer)))
            }
            (None, _) => Origin::path(name),
        }
    }
}

impl Diagnostics {
    /// The list, or nothing when it is empty.
    pub fn from_vec(mut list: Vec<Diagnostic>) -> Option<Self> {
        list.sort_by_key(|diagnostic| diagnostic.0.span.map(|span| span.start));
        (!list.is_empty()).then_some(Self(list))
    }

    /// Them one by one.
    pub fn iter(&self) -> std::slice::Iter<'_, Diagnostic> {
        self.0.iter()
    }

    /// All of them as compilers write them, an empty line between two.
    pub fn render(&self, colour: bool) -> String {
        let rendered: Vec<_> = self.0.iter().map(|diagnostic| diagnostic.render(colour)).collect();
        rendered.join("\n\n")
    }
}

impl From<Diagnostic> for Diagnostics {
    fn from(diagnostic: Diagnostic) -> Self {
        Self(vec![diagnostic])
    }
}

impl IntoIterator for Diagnostics {
    type Item = Diagnostic;
    type IntoIter = std::vec::IntoIter<Diagnostic>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl<'a> IntoIterator for &'a Diagnostics {
    type Item = &'a Diagnostic;
    type IntoIter = std::slice::Iter<'a, Diagnostic>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

impl std::error::Error for Diagnostic {}

impl std::error::Error for Diagnostics {}

impl fmt::Debug for SourceText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SourceText").field(&self.name).finish()
    }
}

/// `{field, message, help?, line?, column?}`, as lists of mistakes in answers hold them.
impl Serialize for Diagnostic {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut object = serializer.serialize_struct("Diagnostic", 5)?;
        object.serialize_field("field", self.field())?;
        object.serialize_field("message", self.message())?;
        match self.help_text() {
            Some(help) => object.serialize_field("help", help)?,
            None => object.skip_field("help")?,
        }
        match (self.line(), self.column()) {
            (Some(line), Some(column)) => {
                object.serialize_field("line", &line)?;
                object.serialize_field("column", &column)?;
            }
            _ => {
                object.skip_field("line")?;
                object.skip_field("column")?;
            }
        }
        object.end()
    }
}

impl Serialize for Diagnostics {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

/// The known name that `name` was probably meant to be: the one with the smallest edit distance
/// (Damerau-Levenshtein), if that is at most a third of its length.
pub fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    const LONGEST: usize = 128;
    if name.len() > LONGEST {
        return None;
    }
    let lower = name.to_lowercase();
    let limit = |candidate: &str| (candidate.chars().count().max(lower.chars().count()) / 3).max(1);
    known
        .into_iter()
        .filter(|candidate| {
            candidate.len() <= LONGEST && candidate.len().abs_diff(lower.len()) <= LONGEST / 3
        })
        .map(|candidate| (strsim::damerau_levenshtein(&lower, &candidate.to_lowercase()), candidate))
        .filter(|(distance, candidate)| *distance <= limit(candidate))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}
