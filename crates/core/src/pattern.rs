//! Texts in which `*` stands for anything.

use std::fmt;
use std::str::FromStr;

/// A text in which `*` stands for any run of characters, none too. Everything else stands for itself, case included.
///
/// ```
/// use taskiq_flow_core::pattern::Pattern;
///
/// let pattern: Pattern = "audio_*".parse().unwrap();
/// assert!(pattern.matches("audio_in") && !pattern.matches("my_audio_in"));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern(Box<str>);

/// Why a text is no pattern: it could never match a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadPattern {
    /// It is empty.
    #[error("it is empty; write a name, or `*` for all")]
    Empty,
    /// It has a control character.
    #[error("it has a control character")]
    Control,
}

impl Pattern {
    /// Whether `text` as a whole matches. Linear in `text` for each `*`: no pattern makes it slow.
    pub fn matches(&self, text: &str) -> bool {
        fits(&self.0, text)
    }

    /// As it is written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Pattern {
    type Err = BadPattern;

    fn from_str(text: &str) -> Result<Self, BadPattern> {
        match text {
            "" => Err(BadPattern::Empty),
            _ if text.chars().any(char::is_control) => Err(BadPattern::Control),
            _ => Ok(Self(text.into())),
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whether `text` fits `pattern`: the parts between the stars, one after another.
pub(crate) fn fits(pattern: &str, text: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(mut text) = text.strip_prefix(first) else { return false };
    let mut parts = rest.split('*').peekable();
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return text.ends_with(part);
        }
        match text.find(part) {
            Some(at) => text = &text[at + part.len()..],
            None => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_stand_for_anything() {
        for (pattern, text, expected) in [
            ("exit:3", "exit:3", true),
            ("exit:3", "exit:33", false),
            ("exit:*", "exit:0", true),
            ("*", "error", true),
            ("http:5*", "http:503", true),
            ("http:5*", "http:404", false),
            ("*:*3", "http:503", true),
            ("a*a", "a", false),
            ("a**a", "aba", true),
            ("db*lost*x", "db connection lost", false),
            ("a", "A", false),
            ("é*", "été", true),
        ] {
            assert_eq!(fits(pattern, text), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn what_could_never_match_is_no_pattern() {
        assert_eq!("".parse::<Pattern>(), Err(BadPattern::Empty));
        assert_eq!("a\nb".parse::<Pattern>(), Err(BadPattern::Control));
        assert_eq!("a*".parse::<Pattern>().unwrap().to_string(), "a*");
    }
}
