//! What an `audit.gap` record says: written for people, read back by the verifier.

use std::fmt;

/// Why the chain does not simply go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct GapNote {
    /// First and last number that the sink lacks.
    pub(crate) missed: Option<(u64, u64)>,
    /// Lines right before the record that are no records.
    pub(crate) unreadable_lines: u64,
    /// Requests refused because no sink could be written.
    pub(crate) refused: u64,
    /// Records that found no room before they were given a number: the log was told more than it could write.
    pub(crate) lost: u64,
    /// The sink concerned.
    pub(crate) sink: String,
}

impl fmt::Display for GapNote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.missed {
            Some((first, last)) => write!(f, "missed {} (seq {first} to {last})", last - first + 1)?,
            None => f.write_str("missed 0")?,
        }
        let Self { unreadable_lines, refused, lost, sink, .. } = self;
        write!(f, "; unreadable lines {unreadable_lines}; refused requests {refused}")?;
        if *lost > 0 {
            write!(f, "; lost {lost}")?;
        }
        write!(f, "; sink {sink}")
    }
}

impl GapNote {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut parts = text.splitn(4, "; ");
        let missed = parts.next()?.strip_prefix("missed ")?;
        let missed = match missed.split_once(" (seq ") {
            None => (missed == "0").then_some(None)?,
            Some((count, range)) => {
                let (first, last) = range.strip_suffix(')')?.split_once(" to ")?;
                let (first, last) = (first.parse::<u64>().ok()?, last.parse::<u64>().ok()?);
                let stated = count.parse::<u64>().ok()?;
                (last.checked_sub(first)?.checked_add(1)? == stated).then_some(Some((first, last)))?
            }
        };
        let unreadable_lines = parts.next()?.strip_prefix("unreadable lines ")?.parse().ok()?;
        let refused = parts.next()?.strip_prefix("refused requests ")?.parse().ok()?;
        let rest = parts.next()?;
        let (lost, rest) = match rest.strip_prefix("lost ").and_then(|rest| rest.split_once("; ")) {
            Some((lost, rest)) => (lost.parse().ok()?, rest),
            None => (0, rest),
        };
        let sink = rest.strip_prefix("sink ")?.to_owned();
        Some(Self { missed, unreadable_lines, refused, lost, sink })
    }

    /// Whether it explains that the numbers between `before` and `seq` are not there.
    pub(crate) fn covers(&self, before: u64, seq: u64) -> bool {
        self.missed
            .is_some_and(|(first, last)| first <= before.saturating_add(1) && last == seq.saturating_sub(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_back() {
        for (missed, lost) in [(None, 0), (Some((100, 110)), 0), (Some((1, 1)), 9), (None, 9)] {
            let note = GapNote { missed, unreadable_lines: 1, refused: 2, lost, sink: "a; b.jsonl".into() };
            assert_eq!(GapNote::parse(&note.to_string()), Some(note));
        }
        let text = GapNote {
            missed: Some((100, 110)),
            unreadable_lines: 0,
            refused: 0,
            lost: 0,
            sink: "stdout".into(),
        };
        assert_eq!(
            text.to_string(),
            "missed 11 (seq 100 to 110); unreadable lines 0; refused requests 0; sink stdout"
        );
        let bad = "missed 12 (seq 100 to 110); unreadable lines 0; refused requests 0; sink stdout";
        assert_eq!(GapNote::parse(bad), None);
        let bad = "missed 0 (seq 1 to 0); unreadable lines 0; refused requests 0; sink stdout";
        assert_eq!(GapNote::parse(bad), None);
    }

    #[test]
    fn covers_exactly_what_is_missing() {
        let note = GapNote {
            missed: Some((100, 110)),
            unreadable_lines: 0,
            refused: 0,
            lost: 0,
            sink: String::new(),
        };
        assert!(note.covers(99, 111));
        assert!(note.covers(105, 111));
        assert!(!note.covers(98, 111));
        assert!(!note.covers(99, 112));
        assert!(!note.covers(99, 110));
    }
}
