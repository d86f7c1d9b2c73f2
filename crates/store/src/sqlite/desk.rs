//! Where a file is written: by whoever has the desk, the thread that writes or a caller.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rusqlite::Connection;
use rusqlite::hooks::Wal;

use super::batch::{Batch, Memory, Pending};
use super::codec::Prepared;
use super::fault::Fault;
use super::redo::{self, Redo};
use super::syncing::Syncer;
use crate::error::WriteError;
use crate::records::Written;

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
    pending: Pending,
    /// Where little writes are kept until they are committed; none: they are committed one by one.
    redo: Option<Redo>,
    /// Whether what has records stands in the transaction that is open. Else, where there are records, that transaction
    /// came to nothing, and what they say is owed.
    is_open: bool,
    /// A commit came to nothing, as far as is known: it may be found all the same after a crash, and with it another epoch.
    /// There are no records until another has taken its place.
    is_doubtful: bool,
    /// Whether there are records: connections that read do not see what they say.
    unseen: Arc<AtomicBool>,
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
        redo: Option<Redo>,
    ) -> Result<Self, Fault> {
        let logged = Arc::new(AtomicU32::new(0));
        // In place of SQLite's own hook, which folds the log within the commit that makes it too long.
        let count = Arc::clone(&logged);
        connection.wal_hook(Some(move |_: &mut Wal, pages: std::ffi::c_int| {
            count.store(u32::try_from(pages).unwrap_or(0), Ordering::Relaxed);
            Ok(())
        }))?;
        Ok(Self {
            path,
            connection,
            memory: Memory::default(),
            pending: Pending::default(),
            redo,
            is_open: false,
            is_doubtful: false,
            unseen: Arc::default(),
            syncer,
            average: Duration::ZERO,
            logged,
        })
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

    /// Says whether something has happened that connections which read do not see yet.
    pub(super) fn unseen(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.unseen)
    }

    /// Whether little writes can be kept without a commit.
    pub(super) fn can_record(&self) -> bool {
        !self.is_doubtful && self.redo.as_ref().is_some_and(Redo::has_room)
    }

    #[cfg(test)]
    pub(super) fn redo(&mut self) -> &mut Redo {
        self.redo.as_mut().unwrap()
    }

    #[cfg(test)]
    pub(super) fn connection(&mut self) -> &mut Connection {
        &mut self.connection
    }

    /// Carries out writes, which are [little](Prepared::is_little), and brings a record of them to the disk in place of a commit.
    /// None of them happens after an error.
    pub(super) fn record(
        &mut self,
        writes: &[Result<Prepared, WriteError>],
    ) -> Result<Vec<Result<Written, WriteError>>, Fault> {
        let begun = Instant::now();
        self.begin()?;
        let Self { connection, memory, pending, redo, .. } = self;
        let attempt = || {
            let answers = Batch::new(connection, memory, pending, true).write(writes)?;
            let accepted = writes.iter().zip(&answers).filter_map(|pair| match pair {
                (Ok(write), Ok(Written::Created(_) | Written::Appended)) => Some(write),
                _ => None,
            });
            let mut accepted = accepted.peekable();
            let is_kept = match redo {
                _ if accepted.peek().is_none() => Ok(true),
                Some(redo) => redo.append(accepted),
                None => Ok(false),
            };
            Ok((answers, is_kept))
        };
        let outcome = catch_unwind(AssertUnwindSafe(attempt)).unwrap_or(Err(Fault::Panic));
        let (answers, is_kept) = match outcome {
            Ok(done) => done,
            Err(fault) => {
                self.undo();
                return Err(fault);
            }
        };
        self.is_open = true;
        match is_kept {
            Ok(true) if self.has_records() => {
                self.unseen.store(true, Ordering::SeqCst);
                self.note(begun);
            }
            // Nothing of it changed anything, or it is committed in place of being kept.
            Ok(_) => self.commit_in_passing(|_| Ok(()))?,
            Err(error) => {
                tracing::warn!(path = %self.path.display(), %error, "the redo log of the store cannot be written, so that each write is committed by itself from now on");
                // With another epoch, so that the record is none, should it be there.
                self.commit_in_passing(|batch| redo::end(batch.connection))?;
                self.redo.take().into_iter().for_each(Redo::close);
            }
        }
        Ok(answers)
    }

    /// Commits what has records, if something has.
    pub(super) fn settle(&mut self) -> Result<(), Fault> {
        if self.has_records() { self.commit(|_| Ok(())) } else { Ok(()) }
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
        self.begin()?;
        let is_due = self.has_records() || self.is_doubtful;
        let Self { connection, memory, pending, redo, .. } = self;
        let before = connection.total_changes();
        let attempt = || {
            let mut batch = Batch::new(connection, memory, pending, in_passing);
            // What was put off may be looked for by whoever comes now.
            batch.flush()?;
            work(&mut batch)?;
            batch.flush()?;
            // What changes nothing writes nothing either.
            let is_due = redo.is_some() && (is_due || connection.total_changes() != before);
            let epoch = is_due.then(|| redo::change_epoch(connection)).transpose()?;
            connection.prepare_cached("COMMIT")?.execute([])?;
            Ok(epoch)
        };
        // What a panic may have left half done is forgotten or rolled back below.
        let outcome = match catch_unwind(AssertUnwindSafe(attempt)).unwrap_or(Err(Fault::Panic)) {
            Ok(epoch) => {
                self.settled(epoch);
                if self.connection.total_changes() != before {
                    self.syncer.iter().for_each(Syncer::committed);
                }
                Ok(())
            }
            Err(fault) => {
                self.undo();
                self.is_doubtful = true;
                Err(fault)
            }
        };
        self.memory.trim();
        self.note(begun);
        outcome
    }

    /// Notes what something took that is over now.
    fn note(&mut self, begun: Instant) {
        self.average = (self.average * (SHARE - 1) + begun.elapsed()) / SHARE;
    }

    /// Sees to it that a transaction is open, in which everything stands that was told as done.
    fn begin(&mut self) -> Result<(), Fault> {
        if self.is_open && !self.connection.is_autocommit() {
            return Ok(());
        }
        if self.is_open {
            // SQLite gave it up by itself.
            self.undo();
        }
        // Of an earlier transaction that could not be rolled back then.
        self.roll_back()?;
        // What has not begun, because another program holds a lock, leaves nothing to be forgotten.
        self.connection.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        if !self.has_records() {
            return Ok(());
        }
        let Self { connection, memory, pending, redo, .. } = self;
        let attempt = || {
            let owed = redo.as_ref().map_or(Ok(Vec::new()), Redo::writes)?;
            redo::redo(&mut Batch::new(connection, memory, pending, false), owed)
        };
        let repaid = catch_unwind(AssertUnwindSafe(attempt)).unwrap_or(Err(Fault::Panic));
        match repaid {
            Ok(()) => self.is_open = true,
            Err(_) => self.undo(),
        }
        repaid
    }

    /// Takes note that all has been committed, under another epoch if anything has changed.
    fn settled(&mut self, epoch: Option<redo::Epoch>) {
        (self.is_open, self.is_doubtful) = (false, false);
        if let (Some(redo), Some(epoch)) = (&mut self.redo, epoch) {
            redo.begin(epoch);
        }
        self.unseen.store(false, Ordering::SeqCst);
    }

    /// Keeps nothing of the transaction that is open. What has records is owed from now on.
    fn undo(&mut self) {
        self.is_open = false;
        self.memory.forget();
        self.pending = Pending::default();
        if let Err(error) = self.roll_back() {
            tracing::error!(path = %self.path.display(), %error, "a transaction could not be rolled back");
        }
    }

    fn has_records(&self) -> bool {
        self.redo.as_ref().is_some_and(|redo| !redo.is_empty())
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
        if self.redo.is_some() && self.commit(|batch| redo::end(batch.connection)).is_ok() {
            self.redo.take().into_iter().for_each(Redo::close);
        }
        // While its file is there.
        self.syncer = None;
        // Not doing so loses nothing.
        if let Err(error) = self.connection.pragma_update(None, "wal_checkpoint", "TRUNCATE") {
            tracing::debug!(path = %self.path.display(), %error, "the log could not be folded into the file");
        }
    }
}
