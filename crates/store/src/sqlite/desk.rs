//! Where a file is written: by whoever has the desk, the thread that writes or a caller.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rusqlite::Connection;
use rusqlite::hooks::Wal;

use super::batch::{Batch, Memory};
use super::fault::Fault;
use super::syncing::Syncer;

/// How long a statement waits for a lock of another program, such as a backup.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);
/// Pages in the write-ahead log before it is folded into the file: 8 MiB, some 300 runs that come one at a time. A checkpoint
/// costs two more waits for the disk, and a page that many transactions wrote is folded once. But a page that is written
/// again and again is looked for among all that the log has of it: in a log twice as long each page costs several times
/// as much.
const CHECKPOINT_PAGES: u32 = 2048;
/// Commits that take less on average may be made by a thread that others want back.
const QUICK: Duration = Duration::from_micros(500);
/// The average moves by this share of what a commit took, so that one slow commit counts for several.
const SHARE: u32 = 8;

/// The only connection that writes, and what is known of the file.
pub(super) struct Desk {
    pub(super) path: PathBuf,
    connection: Connection,
    memory: Memory,
    /// Is told of commits that do not wait for the disk.
    syncer: Option<Syncer>,
    /// What a commit takes, the last ones counting most.
    average: Duration,
    /// Pages in the write-ahead log, as of the last commit.
    logged: Arc<AtomicU32>,
}

impl Desk {
    pub(super) fn new(
        path: PathBuf,
        mut connection: Connection,
        syncer: Option<Syncer>,
    ) -> Result<Self, Fault> {
        let logged = Arc::new(AtomicU32::new(0));
        // In place of SQLite's own hook, which folds the log within the commit that makes it too long.
        let count = Arc::clone(&logged);
        connection.wal_hook(Some(move |_: &mut Wal, pages: std::ffi::c_int| {
            count.store(u32::try_from(pages).unwrap_or(0), Ordering::Relaxed);
            Ok(())
        }))?;
        Ok(Self { path, connection, memory: Memory::default(), syncer, average: Duration::ZERO, logged })
    }

    /// Whether a commit is over so soon that a thread with other work to do can make it. One that folds a long log or moves
    /// many rows is not.
    pub(super) fn is_quick(&self) -> bool {
        self.average < QUICK && !self.is_log_long() && !self.memory.owes_much()
    }

    /// Has statements wait for locks of other programs, or not.
    pub(super) fn be_patient(&self, patient: bool) -> Result<(), Fault> {
        Ok(self.connection.busy_timeout(if patient { PATIENCE } else { Duration::ZERO })?)
    }

    /// Carries out `work` in one transaction. Nothing of it is kept after an error.
    pub(super) fn commit(
        &mut self,
        work: impl FnOnce(&mut Batch<'_>) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        self.transact(false, work)
    }

    /// As [`Self::commit`], by a thread that others want back.
    pub(super) fn commit_in_passing(
        &mut self,
        work: impl FnOnce(&mut Batch<'_>) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        self.transact(true, work)
    }

    fn transact(
        &mut self,
        in_passing: bool,
        work: impl FnOnce(&mut Batch<'_>) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        let begun = Instant::now();
        // Of an earlier transaction that could not be rolled back then.
        self.roll_back()?;
        let Self { connection, memory, .. } = self;
        // What has not begun, because another program holds a lock, leaves nothing to be forgotten.
        connection.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        let before = connection.total_changes();
        let attempt = || {
            let mut batch = Batch::new(connection, memory, in_passing);
            work(&mut batch)?;
            batch.flush()?;
            connection.prepare_cached("COMMIT")?.execute([])?;
            Ok(())
        };
        // What a panic may have left half done is forgotten or rolled back below.
        let outcome = catch_unwind(AssertUnwindSafe(attempt)).unwrap_or(Err(Fault::Panic));
        if outcome.is_err() {
            self.memory.forget();
            if let Err(error) = self.roll_back() {
                tracing::error!(path = %self.path.display(), %error, "a transaction could not be rolled back");
            }
        }
        self.memory.trim();
        if outcome.is_ok() && self.connection.total_changes() != before {
            self.syncer.iter().for_each(Syncer::committed);
        }
        self.average = (self.average * (SHARE - 1) + begun.elapsed()) / SHARE;
        outcome
    }

    /// Ends a transaction that is open, and keeps nothing of it.
    fn roll_back(&self) -> rusqlite::Result<()> {
        if self.connection.is_autocommit() { Ok(()) } else { self.connection.execute_batch("ROLLBACK") }
    }

    /// Whether the log is to be folded into the file.
    pub(super) fn is_log_long(&self) -> bool {
        self.logged.load(Ordering::Relaxed) >= CHECKPOINT_PAGES
    }

    /// Folds as much of the log into the file as can be. What cannot be is tried again after the next commit.
    pub(super) fn fold(&mut self) {
        let folded = self.connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()));
        self.logged.store(0, Ordering::Relaxed);
        if let Err(error) = folded {
            tracing::warn!(path = %self.path.display(), %error, "the log of the store could not be folded into its file");
        }
    }

    /// Writes what was put off, and leaves one file behind in place of two.
    pub(super) fn close(mut self) {
        // One after the other: what goes wrong with one leaves the other as it is.
        let measured = self.be_patient(true).and_then(|()| self.commit(|batch| batch.write_all_durations()));
        if let Err(fault) = measured {
            let error = fault.at(&self.path);
            tracing::warn!(%error, "what was measured of the last runs could not be kept");
        }
        if let Err(fault) = self.commit(|batch| batch.move_all()) {
            let error = fault.at(&self.path);
            tracing::warn!(%error, "the last runs could not be entered in the lists, which is tried again when the store is opened");
        }
        // While its file is there.
        self.syncer = None;
        // Not doing so loses nothing.
        if let Err(error) = self.connection.pragma_update(None, "wal_checkpoint", "TRUNCATE") {
            tracing::debug!(path = %self.path.display(), %error, "the log could not be folded into the file");
        }
    }
}
