//! Foreign text made fit to be shown.

use std::borrow::Cow;

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// The text with line breaks and tabs as spaces, and with everything that a reader could not see or that would
/// change how its surroundings look as U+FFFD: control characters, marks that change the direction of writing (as
/// Unicode Technical Standard 55 advises for source code), line separators and what XML 1.0 does not allow.
pub(super) fn shown(text: &str) -> Cow<'_, str> {
    if text.chars().all(|c| seen(c) == c) { text.into() } else { text.chars().map(seen).collect() }
}

/// Whether a character is kept by [`shown`].
pub(super) fn is_shown(c: char) -> bool {
    seen(c) == c
}

/// Shortens to so many columns of a terminal, with an ellipsis in the last one. Marks that take no column of their own
/// are limited too, to three for each.
pub(super) fn fit(text: &str, columns: usize) -> Cow<'_, str> {
    let most = 4 * columns;
    if text.chars().nth(most).is_none() && text.width() <= columns {
        return text.into();
    }
    let mut short = String::new();
    for c in text.chars().take(most) {
        short.push(c);
        if short.width() + 1 > columns {
            short.pop();
            break;
        }
    }
    if columns > 0 {
        short.push('…');
    }
    short.into()
}

/// The columns the text takes in a terminal.
pub(super) fn columns(text: &str) -> usize {
    text.width()
}

/// An estimate of the width of the text in a bold sans-serif font, as a share of the font's size.
pub(super) fn ems(text: &str) -> f64 {
    text.chars().map(em).sum()
}

/// Shortens to an estimated width, with an ellipsis at the end.
pub(super) fn fit_ems(text: &str, limit: f64) -> Cow<'_, str> {
    if ems(text) <= limit {
        return text.into();
    }
    let mut room = limit - em('…');
    let kept = text.chars().take_while(|c| {
        room -= em(*c);
        room >= 0.0
    });
    kept.chain(['…']).collect::<String>().into()
}

/// Escapes for XML text and for attributes in double or single quotes.
pub(super) fn xml(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in shown(text).chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            c => escaped.push(c),
        }
    }
    escaped
}

fn seen(c: char) -> char {
    match c {
        '\t' | '\n' | '\r' => ' ',
        c if c.is_control() => char::REPLACEMENT_CHARACTER,
        '\u{61c}'
        | '\u{200b}'
        | '\u{200e}'
        | '\u{200f}'
        | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}'
        | '\u{feff}'
        | '\u{fff9}'..='\u{fffb}'
        | '\u{fffe}'
        | '\u{ffff}' => char::REPLACEMENT_CHARACTER,
        c => c,
    }
}

/// After DejaVu Sans Bold, the widest of the common sans-serif fonts: in any other there is some air left.
fn em(c: char) -> f64 {
    match c {
        'i' | 'j' | 'l' | 'I' | '.' | ',' | ':' | ';' | '|' | '!' | '\'' | '`' | ' ' | '/' | '\\' => 0.39,
        'f' | 't' | 'r' | '(' | ')' | '[' | ']' | '-' | '"' | '_' => 0.5,
        'm' | 'w' | 'M' | 'W' | '@' | '%' | '…' | '→' => 1.04,
        'A'..='Z' | '<' | '>' | '=' | '+' | '#' | '&' => 0.82,
        c if c.is_ascii() => 0.7,
        c => match c.width().unwrap_or(0) {
            // Next to nothing, so that thousands of marks on one letter are cut off as well.
            0 => 0.05,
            1 => 0.8,
            _ => 1.15,
        },
    }
}
