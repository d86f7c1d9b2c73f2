//! JSON and text in which nothing can end a line, move a cursor or turn the reading direction.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io;

use serde::Serialize;
use serde_json::ser::{CharEscape, Formatter, Serializer};

/// Compact JSON with every control character (C0, DEL, C1), line or paragraph separator and bidirectional
/// control as `\uXXXX`. Reads back as the same value.
///
/// # Errors
/// As `serde_json`: a map whose keys are no strings, a type that refuses.
pub fn to_safe_json<T: Serialize + ?Sized>(value: &T) -> serde_json::Result<String> {
    let mut bytes = Vec::with_capacity(512);
    value.serialize(&mut Serializer::with_formatter(&mut bytes, Escaping))?;
    // Serializers write UTF-8; a lossy reading costs nothing when it is.
    Ok(String::from_utf8(bytes).unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned()))
}

/// Text with the same characters written as `\uXXXX`, for terminals and log lines.
pub fn escape_controls(text: &str) -> Cow<'_, str> {
    // Nearly every text is visible ASCII, and bytes are looked at many times faster than characters.
    if text.bytes().all(|byte| matches!(byte, b' '..=b'~')) || !text.contains(is_control) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match is_control(c) {
            // Writing to a String cannot fail.
            true => _ = write!(out, "\\u{:04x}", u32::from(c)),
            false => out.push(c),
        }
    }
    Cow::Owned(out)
}

/// Unicode's Bidi_Control property, the two separators, and what `char::is_control` knows (C0, DEL, C1).
pub(crate) fn is_control(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

struct Escaping;

impl Formatter for Escaping {
    fn write_string_fragment<W: ?Sized + io::Write>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        writer.write_all(escape_controls(fragment).as_bytes())
    }

    fn write_char_escape<W: ?Sized + io::Write>(
        &mut self,
        writer: &mut W,
        escape: CharEscape,
    ) -> io::Result<()> {
        let control = match escape {
            CharEscape::Quote => return writer.write_all(b"\\\""),
            CharEscape::ReverseSolidus => return writer.write_all(b"\\\\"),
            CharEscape::Solidus => return writer.write_all(b"/"),
            CharEscape::Backspace => 8,
            CharEscape::Tab => 9,
            CharEscape::LineFeed => 10,
            CharEscape::FormFeed => 12,
            CharEscape::CarriageReturn => 13,
            CharEscape::AsciiControl(byte) => byte,
        };
        write!(writer, "\\u{control:04x}")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_dangerous_character_is_written_by_number() {
        let all: String = (0..0x20u32)
            .chain(0x7f..=0x9f)
            .chain([0x61c, 0x200e, 0x200f])
            .chain(0x2028..=0x202e)
            .chain(0x2066..=0x2069)
            .filter_map(char::from_u32)
            .collect();
        let json = to_safe_json(&all).unwrap();
        assert!(json.bytes().all(|b| (0x20..0x7f).contains(&b)), "{json}");
        assert_eq!(json.matches("\\u").count(), all.chars().count());
        assert!(json.contains("\\u000a") && json.contains("\\u2028") && json.contains("\\u202e"));
        assert_eq!(serde_json::from_str::<String>(&json).unwrap(), all);
        assert!(escape_controls(&all).bytes().all(|b| (0x20..0x7f).contains(&b)));
    }

    #[test]
    fn ordinary_text_is_left_alone() {
        assert_eq!(to_safe_json("a\"b\\c / \u{e9}\u{1f600}").unwrap(), "\"a\\\"b\\\\c / \u{e9}\u{1f600}\"");
        assert!(matches!(escape_controls("na\u{ef}ve"), Cow::Borrowed(_)));
        assert_eq!(escape_controls("a\u{1b}[2J"), "a\\u001b[2J");
    }

    proptest! {
        #[test]
        fn reads_back(text: String) {
            let json = to_safe_json(&text).unwrap();
            prop_assert!(!json.contains(is_control));
            prop_assert_eq!(serde_json::from_str::<String>(&json).unwrap(), text);
        }
    }
}
