//! Why a store did not do what it was asked.

use std::path::PathBuf;

/// Why a store did not do what it was asked. Nothing of the call is known to be done.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// It does not answer, or the disk does not.
    #[error("the store at {place} does not answer: {reason}")]
    Unavailable {
        /// Where it is, without credentials.
        place: String,
        /// What stands against it.
        reason: String,
    },
    /// What was to be kept is there already, in this or a newer version.
    #[error("{0}")]
    Conflict(String),
    /// What it holds cannot be read.
    #[error("the store {path} is damaged: {reason}; restore it from a backup, or move it away to start anew")]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What cannot be read.
        reason: String,
    },
    /// A newer version of the program made it.
    #[error("the store {path} was made by a newer version (schema {found}, this one knows {known}); use that version")]
    NewerSchema {
        /// The file.
        path: PathBuf,
        /// The schema it has.
        found: u32,
        /// The newest schema that is known.
        known: u32,
    },
    /// Another process has it open.
    #[error("another process has the store {path} open; stop it, or give this one another `store_url`")]
    Locked {
        /// The file.
        path: PathBuf,
    },
    /// It was closed.
    #[error("the store is closed")]
    Closed,
}

/// Why one write was refused. Nothing of it was done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WriteError {
    /// Another driver holds the run.
    #[error("another process drives this run now")]
    Fenced,
    /// The events do not follow the run's log.
    #[error("the log is at event {found}, and the write begins at {expected}")]
    Gap {
        /// The number of the first event of the write.
        expected: u64,
        /// The number of the last event of the log.
        found: u64,
    },
    /// There is no such run.
    #[error("there is no such run")]
    NotFound,
}

impl From<WriteError> for StoreError {
    fn from(error: WriteError) -> Self {
        Self::Conflict(error.to_string())
    }
}
