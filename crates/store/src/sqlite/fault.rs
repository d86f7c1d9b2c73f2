//! What SQLite reports, told to those who run a server.

use std::io;
use std::path::Path;

use rusqlite::ErrorCode;

use crate::codec::Unreadable;
use crate::error::StoreError;

/// Why something could not be done within a connection.
#[derive(Debug)]
pub(super) enum Fault {
    /// SQLite refused.
    Sqlite(rusqlite::Error),
    /// It is well, and not to be used as it is.
    Refused(String),
    /// What is stored makes no sense.
    Corrupt(String),
    /// A value cannot be written as JSON.
    Json(serde_json::Error),
    /// The code that was carrying it out panicked.
    Panic,
}

impl From<rusqlite::Error> for Fault {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

impl From<Unreadable> for Fault {
    fn from(Unreadable(what): Unreadable) -> Self {
        Self::Corrupt(what)
    }
}

impl Fault {
    /// Whether it would meet every write, and not only this one.
    pub(super) fn meets_all(&self) -> bool {
        let Self::Sqlite(error) = self else { return false };
        !matches!(
            error.sqlite_error_code(),
            None | Some(ErrorCode::TooBig | ErrorCode::ConstraintViolation | ErrorCode::TypeMismatch)
        )
    }

    /// What callers are told.
    pub(super) fn at(self, path: &Path) -> StoreError {
        let place = path.display().to_string();
        let corrupt = |what: String| StoreError::Corrupt { path: path.to_owned(), what };
        let error = match self {
            Self::Corrupt(what) => return corrupt(what),
            Self::Refused(reason) => return StoreError::Io { place, reason },
            Self::Json(error) => {
                return StoreError::Unavailable {
                    place,
                    reason: format!("a value cannot be written as JSON: {error}"),
                };
            }
            Self::Panic => {
                let reason =
                    "a write ended in a panic, which the log tells more about; nothing of it was kept".into();
                return StoreError::Unavailable { place, reason };
            }
            Self::Sqlite(error) => error,
        };
        let io =
            |reason: &str| StoreError::Io { place: place.clone(), reason: format!("{reason} ({error})") };
        match error.sqlite_error_code() {
            Some(ErrorCode::NotADatabase) => corrupt("it is not an SQLite database".to_owned()),
            Some(ErrorCode::DatabaseCorrupt) => corrupt(error.to_string()),
            Some(ErrorCode::DiskFull) => {
                io("the disk is full; make room there, and writing goes on without a restart")
            }
            Some(
                ErrorCode::ReadOnly
                | ErrorCode::PermissionDenied
                | ErrorCode::AuthorizationForStatementDenied,
            ) => io("it cannot be written; let the user of this process write the file and its directory"),
            Some(ErrorCode::CannotOpen) => io(
                "it cannot be opened; see that the directory exists and the user of this process may write there",
            ),
            Some(ErrorCode::SystemIoFailure | ErrorCode::FileLockingProtocolFailed) => {
                io("reading or writing failed; see that the disk is well, local, and not full")
            }
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => StoreError::Unavailable {
                place,
                reason: "another program holds a lock on it, such as an open `sqlite3` shell; close that one"
                    .into(),
            },
            _ if matches!(
                error,
                rusqlite::Error::FromSqlConversionFailure(..)
                    | rusqlite::Error::InvalidColumnType(..)
                    | rusqlite::Error::IntegralValueOutOfRange(..)
                    | rusqlite::Error::Utf8Error(..)
            ) =>
            {
                corrupt(error.to_string())
            }
            _ => StoreError::Unavailable { place, reason: error.to_string() },
        }
    }
}

/// What callers are told of a failure of the file system.
pub(super) fn io_at(path: &Path, what: &str, error: &io::Error) -> StoreError {
    StoreError::Io { place: path.display().to_string(), reason: format!("{what} ({error})") }
}
