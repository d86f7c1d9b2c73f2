//! Which pipelines a principal may touch at all.

use std::fmt;

/// The pipelines a key is limited to (its `pipelines` field).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Whitelist {
    /// Every pipeline: the list is absent, empty or has `*`.
    #[default]
    Unrestricted,
    /// Only pipelines whose id matches one of these patterns.
    Only(Vec<Pattern>),
}

impl Whitelist {
    /// Reads the configured list. `*` stands for any run of characters; a list that is empty, or that has an entry
    /// of only `*`, restricts nothing.
    ///
    /// # Errors
    /// An entry is empty or has a control character: such an entry could never match a pipeline.
    pub fn parse<S: AsRef<str>>(entries: &[S]) -> Result<Self, PatternError> {
        let patterns =
            entries.iter().map(|entry| Pattern::parse(entry.as_ref())).collect::<Result<Vec<_>, _>>()?;
        if patterns.is_empty() || patterns.iter().any(Pattern::matches_all) {
            return Ok(Whitelist::Unrestricted);
        }
        Ok(Whitelist::Only(patterns))
    }

    /// Whether `pipeline` is on the list.
    pub fn allows(&self, pipeline: &str) -> bool {
        match self {
            Whitelist::Unrestricted => true,
            Whitelist::Only(patterns) => patterns.iter().any(|pattern| pattern.matches(pipeline)),
        }
    }

    /// Whether every pipeline that `other` allows is allowed. Lists that say the same in other words may be told apart.
    pub fn covers(&self, other: &Whitelist) -> bool {
        match (self, other) {
            (Whitelist::Unrestricted, _) => true,
            (Whitelist::Only(_), Whitelist::Unrestricted) => false,
            (Whitelist::Only(own), Whitelist::Only(others)) => {
                others.iter().all(|other| own.iter().any(|pattern| pattern.covers(other)))
            }
        }
    }

    /// Whether every pipeline is allowed, those to come included.
    pub fn is_unrestricted(&self) -> bool {
        matches!(self, Whitelist::Unrestricted)
    }

    /// The list as configuration would write it: `["*"]` when unrestricted.
    pub fn to_list(&self) -> Vec<String> {
        match self {
            Whitelist::Unrestricted => vec!["*".to_owned()],
            Whitelist::Only(patterns) => patterns.iter().map(|pattern| pattern.0.clone()).collect(),
        }
    }
}

/// A pipeline id in which `*` stands for any run of characters. Everything else stands for itself, case included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern(String);

impl Pattern {
    pub(crate) fn parse(text: &str) -> Result<Self, PatternError> {
        if text.is_empty() {
            return Err(PatternError::Empty);
        }
        if text.chars().any(char::is_control) {
            return Err(PatternError::Control);
        }
        Ok(Pattern(text.to_owned()))
    }

    fn matches_all(&self) -> bool {
        self.0.bytes().all(|byte| byte == b'*')
    }

    /// Whether whatever matches `other` matches this. A `*` of `other` can only be covered by one of this pattern's, to
    /// which it is text like any other.
    fn covers(&self, other: &Pattern) -> bool {
        self.matches(&other.0)
    }

    /// Whether `text` as a whole matches. Linear in `text` for each `*`: no pattern makes it slow.
    pub fn matches(&self, text: &str) -> bool {
        let mut parts = self.0.split('*');
        // `split` gives at least one part.
        let first = parts.next().unwrap_or_default();
        let Some(mut rest) = text.strip_prefix(first) else { return false };
        let Some(last) = parts.next_back() else { return rest.is_empty() };
        for part in parts {
            match rest.find(part) {
                Some(at) => rest = &rest[at + part.len()..],
                None => return false,
            }
        }
        rest.ends_with(last)
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why an entry of a `pipelines` list is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// An empty text matches no pipeline.
    #[error("an entry is empty; write a pipeline id, or \"*\" for all")]
    Empty,
    /// No pipeline id has control characters.
    #[error("an entry has a control character; write a pipeline id such as \"audio_*\"")]
    Control,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs_match_whole_ids() {
        for (pattern, text, expected) in [
            ("a", "a", true),
            ("a", "ab", false),
            ("a", "A", false),
            ("audio_*", "audio_", true),
            ("audio_*", "audio_in", true),
            ("audio_*", "my_audio_in", false),
            ("*_in", "audio_in", true),
            ("*_in", "audio_in2", false),
            ("a*b*c", "abc", true),
            ("a*b*c", "axxbxxc", true),
            ("a*b*c", "ac", false),
            ("a*a", "a", false),
            ("a*a", "aa", true),
            ("a**b", "ab", true),
            ("*x*", "x", true),
            ("*x*", "y", false),
            ("a.c", "abc", false),
            ("a?c", "abc", false),
            ("é*", "été", true),
            ("a*b*b", "ab", false),
        ] {
            assert_eq!(Pattern::parse(pattern).unwrap().matches(text), expected, "{pattern} on {text}");
        }
    }

    #[test]
    fn an_absent_empty_or_starred_list_restricts_nothing() {
        for list in [&[][..], &["*"], &["a", "*"], &["**"]] {
            assert!(Whitelist::parse(list).unwrap().is_unrestricted(), "{list:?}");
        }
        let only = Whitelist::parse(&["a", "b_*"]).unwrap();
        assert!(!only.is_unrestricted());
        assert_eq!(["a", "b_1", "b", "c"].map(|id| only.allows(id)), [true, true, false, false]);
        assert_eq!(only.to_list(), ["a", "b_*"]);
    }

    #[test]
    fn an_entry_that_could_never_match_is_refused() {
        assert_eq!(Whitelist::parse(&["a", ""]), Err(PatternError::Empty));
        assert_eq!(Whitelist::parse(&["a\nb"]), Err(PatternError::Control));
    }
}
