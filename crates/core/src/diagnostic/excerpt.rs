//! The piece of a text that a diagnostic shows.

use std::ops::Range;

use super::Span;

/// How much of a long line is shown on either side of the place, in bytes.
const EXCERPT_REACH: usize = 200;

/// The one line that is shown, and the bytes of it that are marked.
pub(super) struct Excerpt<'a> {
    pub(super) line: &'a str,
    pub(super) number: usize,
    pub(super) mark: Range<usize>,
}

impl<'a> Excerpt<'a> {
    pub(super) fn of(text: &'a str, span: Span) -> Self {
        let start = floor_boundary(text, span.start);
        let end = floor_boundary(text, span.end).max(start);
        let number = text[..start].bytes().filter(|byte| *byte == b'\n').count() + 1;
        let line_start = text[..start].rfind('\n').map_or(0, |newline| newline + 1);
        let line_end = text[start..].find(['\n', '\r']).map_or(text.len(), |newline| start + newline);
        let left = floor_boundary(text, start.saturating_sub(EXCERPT_REACH).max(line_start));
        let right =
            floor_boundary(text, line_end.min(end.min(start + EXCERPT_REACH).max(start) + EXCERPT_REACH));
        // Columns are counted in the excerpt, so a line is cut on the left only when it is longer than anybody reads.
        let left = if start - line_start <= 4 * EXCERPT_REACH { line_start } else { left };
        let right = right.max(start);
        // An empty mark is shown as one caret, and a mark may not reach into the next line.
        let mark_end = end.min(right);
        Self { line: &text[left..right], number, mark: start - left..mark_end - left }
    }
}

/// The offset itself, or the start of the character that it falls into.
pub(super) fn floor_boundary(text: &str, offset: usize) -> usize {
    let mut offset = offset.min(text.len());
    while !text.is_char_boundary(offset) {
        offset -= 1;
    }
    offset
}

/// `text` on one line, with everything that steers a terminal or reorders text written out.
pub(super) fn visible(text: &str) -> String {
    let steers = |c: char| {
        c.is_control()
            || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if steers(c) { out.extend(c.escape_unicode()) } else { out.push(c) }
    }
    out
}
