//! JSON objects of others, read strictly.

use std::collections::BTreeMap;
use std::fmt;

use jiff::Timestamp;
use serde::Deserialize;
use serde::de::{MapAccess, Visitor};
use serde_json::Value;

/// Longest text of a token, in characters: `sub`, a role, `kid`, `iss`, `aud`, `jti`.
const MAX_TEXT: usize = 256;

/// The last second of the year 9999 (RFC 3339 can write no later one).
const LAST_SECOND: f64 = 253_402_300_799.0;

/// The members of a JSON object in which no name stands twice. Depth is bounded by the parser (128 levels).
pub(super) struct Members(BTreeMap<String, Value>);

/// A member that is not what it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BadMember {
    /// Another type, or an unusable value.
    Kind(&'static str),
    /// No sane time.
    Time(&'static str),
}

impl Members {
    pub(super) fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    pub(super) fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name)
    }

    pub(super) fn text(&mut self, name: &'static str) -> Result<Option<String>, BadMember> {
        match self.0.remove(name) {
            None => Ok(None),
            Some(Value::String(text)) if text.chars().count() <= MAX_TEXT => Ok(Some(text)),
            Some(_) => Err(BadMember::Kind(name)),
        }
    }

    pub(super) fn texts(&mut self, name: &'static str) -> Result<Option<Vec<String>>, BadMember> {
        let Some(value) = self.0.remove(name) else { return Ok(None) };
        let Value::Array(items) = value else { return Err(BadMember::Kind(name)) };
        let texts = items.into_iter().map(|item| match item {
            Value::String(text) => Ok(text),
            _ => Err(BadMember::Kind(name)),
        });
        texts.collect::<Result<_, _>>().map(Some)
    }

    /// Seconds since 1970, fractions allowed and cut off (RFC 7519 NumericDate).
    pub(super) fn time(&mut self, name: &'static str) -> Result<Option<Timestamp>, BadMember> {
        let Some(value) = self.0.remove(name) else { return Ok(None) };
        let Value::Number(number) = value else { return Err(BadMember::Kind(name)) };
        let seconds = number.as_f64().filter(|seconds| (0.0..=LAST_SECOND).contains(seconds));
        // In range, so the conversion only cuts the fraction off.
        let seconds = seconds.ok_or(BadMember::Time(name))? as i64;
        Timestamp::from_second(seconds).map(Some).map_err(|_| BadMember::Time(name))
    }
}

/// Whether a text can name somebody or something.
pub(super) fn is_name(text: &str) -> bool {
    !text.is_empty() && text.chars().count() <= MAX_TEXT && !text.chars().any(char::is_control)
}

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Unique;

        impl<'de> Visitor<'de> for Unique {
            type Value = Members;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                let mut members = BTreeMap::new();
                while let Some((name, value)) = map.next_entry::<String, Value>()? {
                    if members.insert(name, value).is_some() {
                        return Err(serde::de::Error::custom("a name stands twice"));
                    }
                }
                Ok(Members(members))
            }
        }

        deserializer.deserialize_map(Unique)
    }
}
