//! Identifiers.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Longest pipeline id, in bytes.
pub const MAX_PIPELINE_ID: usize = 128;

/// The id of a pipeline: 1 to 128 characters out of letters, digits, `-`, `_` and `.`, starting with a letter
/// or a digit. It stands in URLs, file names and logs as it is, which is why nothing else is allowed.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PipelineId(Arc<str>);

/// The id of one run of a pipeline: a UUID version 7 (RFC 9562), so that ids sort by time of creation.
/// It identifies and does not authorise: it is no secret.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RunId(Uuid);

/// Why a text is no id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IdError {
    /// The pipeline id is empty, too long or has a character that is not allowed.
    #[error(
        "`{0}` is not a pipeline id: use 1 to {MAX_PIPELINE_ID} letters, digits, `-`, `_` or `.`, \
         starting with a letter or a digit"
    )]
    Pipeline(String),
    /// The run id is not a UUID.
    #[error("`{0}` is not a run id (a UUID)")]
    Run(String),
}

impl PipelineId {
    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for PipelineId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let starts_well = text.as_bytes().first().is_some_and(u8::is_ascii_alphanumeric);
        let allowed = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_' | b'.');
        if starts_well && text.len() <= MAX_PIPELINE_ID && text.bytes().all(allowed) {
            Ok(Self(text.into()))
        } else {
            Err(IdError::Pipeline(text.chars().take(MAX_PIPELINE_ID).collect()))
        }
    }
}

impl TryFrom<String> for PipelineId {
    type Error = IdError;

    fn try_from(text: String) -> Result<Self, IdError> {
        text.parse()
    }
}

impl From<PipelineId> for String {
    fn from(id: PipelineId) -> Self {
        id.0.as_ref().to_owned()
    }
}

impl RunId {
    /// A new id, made from the clock and the system's random source.
    pub fn new() -> Self {
        Self(Uuid::now_v7())
    }

    /// The 16 bytes of the UUID; byte order is the order of creation.
    pub fn as_bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
    }

    /// The id with these 16 bytes.
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(Uuid::from_bytes(bytes))
    }
}

impl Default for RunId {
    fn default() -> Self {
        Self::new()
    }
}

impl FromStr for RunId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        Uuid::try_parse(text).map(Self).map_err(|_| IdError::Run(text.chars().take(64).collect()))
    }
}

impl fmt::Display for PipelineId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for PipelineId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.0)
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.as_hyphenated())
    }
}

impl fmt::Debug for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pipeline_ids_are_safe_in_urls_and_file_names() {
        for good in ["a", "word-stats", "v1.2_x", "9lives"] {
            assert_eq!(good.parse::<PipelineId>().unwrap().as_str(), good);
        }
        for bad in ["", "-a", ".", "..", "a/b", "a b", "<script>", "ä", &"x".repeat(129)] {
            assert!(bad.parse::<PipelineId>().is_err(), "{bad}");
        }
    }

    #[test]
    fn run_ids_sort_by_creation_and_round_trip() {
        let first = RunId::new();
        let second = RunId::new();
        assert!(first < second);
        assert_eq!(first.to_string().parse::<RunId>().unwrap(), first);
        assert!("not-a-uuid".parse::<RunId>().is_err());
    }
}
