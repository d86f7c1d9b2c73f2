//! What can go wrong with the log itself.

use std::io;
use std::path::PathBuf;

/// Why a log cannot be opened, or a record not be kept.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AuditError {
    /// The log was closed.
    #[error("the audit log is closed")]
    Closed,
    /// More happened at once than the log has room for.
    #[error("the audit log has no room for another record now")]
    Full,
    /// Records are required, and there is nowhere to write them.
    #[error("audit_mode is \"required\" but audit_log names no sink; expected \"stdout\" or a file")]
    NoSink,
    /// Records are required, and no sink took this one.
    #[error("no sink of the audit log could be written")]
    NotWritten,
    /// The file holds something that is no audit record.
    #[error("{} holds something else than audit records; name another file in audit_log, or move it away", path.display())]
    NotAnAuditLog {
        /// The file.
        path: PathBuf,
    },
    /// Another process, or another entry of the same configuration, writes the file.
    #[error("{} is already being written by an audit log; give each server a file of its own", path.display())]
    Locked {
        /// The file.
        path: PathBuf,
    },
    /// The file cannot be opened.
    #[error("the audit log {} cannot be opened: {source}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Checkpoints of this log cannot be signed on from where they stand.
    #[error("{}: {what}", path.display())]
    Checkpoints {
        /// What was kept of the log's tree.
        path: PathBuf,
        /// Why, and the fix.
        what: String,
    },
    /// No thread for a sink.
    #[error("no thread for the audit log: {0}")]
    Thread(io::Error),
    /// The record has no JSON form.
    #[error("an audit record cannot be written as JSON: {0}")]
    Encode(#[from] serde_json::Error),
}
