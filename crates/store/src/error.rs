//! What can go wrong with a store.

use std::path::PathBuf;

use taskiq_flow_core::id::{PipelineId, RunId};
use taskiq_flow_core::time::Timestamp;

/// A store could not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// It does not answer now; the same call may succeed later.
    #[error("the store `{place}` does not answer: {reason}")]
    Unavailable {
        /// Which store.
        place: String,
        /// What is known, and what to do.
        reason: String,
    },
    /// A file could not be read or written: a full disk, a missing directory, no permission.
    #[error("the store `{place}` cannot be used: {reason}")]
    Io {
        /// The file.
        place: String,
        /// What is wrong, and the fix.
        reason: String,
    },
    /// That version of the pipeline, or a newer one, is there already.
    #[error(
        "version {version} of pipeline `{id}` cannot be kept: version {newest} is there already; read it and try again"
    )]
    Conflict {
        /// The pipeline.
        id: PipelineId,
        /// The version that was to be kept.
        version: u32,
        /// The newest that is there.
        newest: u32,
    },
    /// What is stored cannot be read back.
    #[error(
        "the store `{}` is damaged: {what}; restore it from a backup, or move it away to start with an empty one",
        path.display()
    )]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What was found.
        what: String,
    },
    /// The file belongs to something else.
    #[error(
        "`{}` is an SQLite database of another program; name another file in `store_url`",
        path.display()
    )]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// The file was written by a newer version of this program.
    #[error(
        "the store `{}` was written by a newer version of this program: its schema is {found}, and {known} is the newest \
         known here; start that version, or name another file in `store_url`",
        path.display()
    )]
    NewerSchema {
        /// The file.
        path: PathBuf,
        /// The version of its schema.
        found: u32,
        /// The newest version that this program knows.
        known: u32,
    },
    /// Another process has the file open.
    #[error(
        "another process has the store `{}` open; stop that one, or name another file in `store_url`",
        path.display()
    )]
    Locked {
        /// The file.
        path: PathBuf,
    },
    /// A document is larger or deeper than what can be read back.
    #[error("{what} has more than {limit} {unit}, which is more than can be kept; make it smaller")]
    TooLarge {
        /// Which document.
        what: String,
        /// Bytes or levels.
        unit: &'static str,
        /// How many are allowed.
        limit: usize,
    },
    /// One write was refused, where no other answer was possible.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// The store has been closed.
    #[error("the store is closed, because the program is stopping")]
    Closed,
}

impl StoreError {
    /// Whether the same call may succeed later with nothing changed but the world: the store does not answer, or its
    /// disk is full.
    pub fn may_pass(&self) -> bool {
        matches!(self, Self::Unavailable { .. } | Self::Io { .. })
    }
}

/// A copy of a store was not made. There is nothing new where it was to be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BackupError {
    /// The store is no file.
    #[error("this store cannot be copied to a file; runs that are to be backed up belong in `sqlite:PATH`")]
    Unsupported,
    /// One copy is made at a time.
    #[error("another copy of the store is being made; try again when that is done")]
    Busy,
    /// There is a file of that name.
    #[error("`{}` is there already; choose another name, or ask for it to be replaced", path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// There is something that is not to be replaced.
    #[error("`{}` is not replaced: {why}; choose another name", path.display())]
    Refused {
        /// The file.
        path: PathBuf,
        /// What it is.
        why: &'static str,
    },
    /// The store could not be read, or the copy not written.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// One write of several was refused; it left no trace.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WriteError {
    /// Another driver holds the run.
    #[error("run {run_id} is held by another driver now")]
    Fenced {
        /// The run.
        run_id: RunId,
    },
    /// The events do not follow the log.
    #[error(
        "the log of run {run_id} ends with event {found}, and not with {expected}, which the new events follow"
    )]
    Gap {
        /// The run.
        run_id: RunId,
        /// The number after which the new events belong.
        expected: u64,
        /// The number of the last event in the log.
        found: u64,
    },
    /// That firing has had its run, which is not kept any more.
    #[error("schedule `{schedule}` has fired for {due} already")]
    Fired {
        /// The schedule.
        schedule: String,
        /// The time.
        due: Timestamp,
    },
    /// There is no such dead letter.
    #[error("there is no dead letter of run {run_id} and step run {step_run}")]
    NoDeadLetter {
        /// The run.
        run_id: RunId,
        /// The step run.
        step_run: u32,
    },
    /// There is no such run.
    #[error("there is no run {run_id}")]
    NotFound {
        /// The run.
        run_id: RunId,
    },
    /// Its JSON is larger or deeper than what can be read back.
    #[error("a value of run {run_id} has more than {limit} {unit}, which is more than can be kept")]
    TooLarge {
        /// The run.
        run_id: RunId,
        /// Bytes or levels.
        unit: &'static str,
        /// How many are allowed.
        limit: usize,
    },
}
