//! Why a change is not made.

use super::state::StateError;
use crate::refusal::Refusal;
use crate::settings::SettingsError;

/// Why administration did not do what it was asked. Nothing is changed.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum AdministrationError {
    /// There is no such key, access list or revocation.
    #[error("there is no such {0}")]
    Unknown(&'static str),
    /// It is in the way of something that is there.
    #[error("{0}")]
    Conflict(String),
    /// A field has a value that is not possible.
    #[error("{field}: {message}")]
    Invalid {
        /// The field of the request.
        field: String,
        /// What is wrong with it, and what to write instead.
        message: String,
    },
    /// The caller may not do this, or it cannot be recorded.
    #[error("refused: {0}")]
    Refused(#[from] Refusal),
    /// The settings cannot be made.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// The state cannot be read or written.
    #[error("keys and access lists that were made over the API: {0}")]
    State(#[from] StateError),
    /// What the state holds makes no sense.
    #[error(
        "the security record {kind} `{id}` cannot be read ({reason}): a newer version of this program, or another program, \
         wrote it; start that version, or restore the store from a backup"
    )]
    Unreadable {
        /// What sort of record.
        kind: String,
        /// Which.
        id: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The operating system gives no random bytes, or a change was interrupted by the end of the process.
    #[error("{0}")]
    Failed(String),
}

impl AdministrationError {
    pub(super) fn invalid(field: impl Into<String>, message: impl ToString) -> Self {
        Self::Invalid { field: field.into(), message: message.to_string() }
    }
}
