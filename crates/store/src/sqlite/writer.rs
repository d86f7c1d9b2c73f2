//! The one thread that writes: it takes whatever waits, carries it out in one transaction, and answers when that is
//! committed. While one commit waits for the disk the next batch gathers, so that the number of commits follows the
//! disk and not the number of writes.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rusqlite::Connection;
use tokio::sync::mpsc::error::TryRecvError;
use tokio::sync::{mpsc, oneshot, watch};

use super::batch::{Batch, Memory};
use super::fault::{Fault, io_at};
use super::syncing::Syncer;
use crate::error::StoreError;

/// Most requests that wait; who comes later waits to be let in.
const QUEUE: usize = 1024;
/// How long the thread looks for the next request before it sleeps.
const LINGER: Duration = Duration::from_micros(100);
/// Stack of the thread: it reads stored values, which may be nested.
const STACK: usize = 8 << 20;

/// Hands work to the writer.
#[derive(Debug)]
pub(super) struct Writer {
    path: Arc<Path>,
    queue: Mutex<Option<mpsc::Sender<Box<dyn Operation>>>>,
    /// Its sender is dropped when the thread has ended.
    ended: watch::Receiver<()>,
    thread: Mutex<Option<std::thread::JoinHandle<()>>>,
}

/// Something to be done in a transaction, perhaps more than once: after a failure it is tried by itself.
pub(super) trait Operation: Send {
    fn apply(&mut self, batch: &mut Batch<'_>) -> Result<(), Fault>;

    /// Tells who asked what has come of it.
    fn settle(self: Box<Self>, outcome: Result<(), StoreError>);
}

struct Asked<T, F> {
    work: F,
    value: Option<T>,
    reply: oneshot::Sender<Result<T, StoreError>>,
}

/// What the thread owns.
struct Thread {
    path: PathBuf,
    connection: Connection,
    memory: Memory,
    /// Is told of commits that do not wait for the disk.
    syncer: Option<Syncer>,
}

impl Writer {
    /// Starts the thread. `guard` is dropped after the connection has been closed.
    pub(super) fn start(
        path: PathBuf,
        connection: Connection,
        syncer: Option<Syncer>,
        guard: impl Send + 'static,
    ) -> Result<Self, StoreError> {
        let (queue, inbox) = mpsc::channel(QUEUE);
        let (end, ended) = watch::channel(());
        let shared: Arc<Path> = Arc::from(path.as_path());
        let thread = Thread { path, connection, memory: Memory::default(), syncer };
        let thread =
            std::thread::Builder::new().name("sqlite-writer".to_owned()).stack_size(STACK).spawn(move || {
                thread.run(inbox);
                drop(guard);
                drop(end);
            });
        let thread =
            thread.map_err(|error| io_at(&shared, "the thread that writes cannot be started", &error))?;
        Ok(Self { path: shared, queue: Mutex::new(Some(queue)), ended, thread: Mutex::new(Some(thread)) })
    }

    /// Has `work` done in a transaction; returns once that is committed. `work` may be called again after a failure.
    pub(super) async fn carry_out<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnMut(&mut Batch<'_>) -> Result<T, Fault> + Send + 'static,
    {
        let queue = self.queue.lock().clone().ok_or(StoreError::Closed)?;
        let (reply, answer) = oneshot::channel();
        let asked = Box::new(Asked { work, value: None, reply });
        queue.send(asked).await.map_err(|_| self.gone())?;
        drop(queue);
        answer.await.map_err(|_| self.gone())?
    }

    /// Lets no more in, and waits until what is under way is done and the file is closed.
    pub(super) async fn close(&self) {
        self.queue.lock().take();
        let mut ended = self.ended.clone();
        while ended.changed().await.is_ok() {}
    }

    fn gone(&self) -> StoreError {
        let reason = "the thread that writes has ended, which the log tells more about; restart the process";
        StoreError::Unavailable { place: self.path.display().to_string(), reason: reason.to_owned() }
    }
}

impl Drop for Writer {
    /// Waits for what is under way, so that the file can be opened again at once.
    fn drop(&mut self) {
        self.queue.lock().take();
        if let Some(thread) = self.thread.lock().take() {
            let _ = thread.join();
        }
    }
}

impl<T: Send, F: FnMut(&mut Batch<'_>) -> Result<T, Fault> + Send> Operation for Asked<T, F> {
    fn apply(&mut self, batch: &mut Batch<'_>) -> Result<(), Fault> {
        self.value = Some((self.work)(batch)?);
        Ok(())
    }

    fn settle(self: Box<Self>, outcome: Result<(), StoreError>) {
        let answer = match (outcome, self.value) {
            (Ok(()), Some(value)) => Ok(value),
            (Err(error), _) => Err(error),
            // Without a reply the caller is told that the writer did not get to it.
            (Ok(()), None) => return,
        };
        // Whoever asked may have gone away.
        let _ = self.reply.send(answer);
    }
}

/// Waits for something to do. A run often writes again right after it has heard of its last commit: being woken costs as
/// much as a commit on a fast disk, so the thread looks a moment longer, while nobody else wants its processor.
fn next(inbox: &mut mpsc::Receiver<Box<dyn Operation>>) -> Option<Box<dyn Operation>> {
    let begun = Instant::now();
    while begun.elapsed() < LINGER {
        match inbox.try_recv() {
            Ok(first) => return Some(first),
            Err(TryRecvError::Disconnected) => return None,
            Err(TryRecvError::Empty) => std::thread::yield_now(),
        }
    }
    inbox.blocking_recv()
}

impl Thread {
    fn run(mut self, mut inbox: mpsc::Receiver<Box<dyn Operation>>) {
        let mut waiting = Vec::new();
        while let Some(first) = next(&mut inbox) {
            waiting.push(first);
            while waiting.len() < QUEUE
                && let Ok(next) = inbox.try_recv()
            {
                waiting.push(next);
            }
            self.carry_out(&mut waiting);
        }
        if let Err(fault) = self.commit_durations() {
            let error = fault.at(&self.path);
            tracing::warn!(%error, "what was measured of the last runs could not be kept");
        }
        // While its file is there.
        self.syncer = None;
        // Leaves one file behind instead of two. Not doing so loses nothing.
        if let Err(error) = self.connection.pragma_update(None, "wal_checkpoint", "TRUNCATE") {
            tracing::debug!(path = %self.path.display(), %error, "the log could not be folded into the file");
        }
    }

    /// Carries out all of them together, or one by one should one of them be in the way of the others.
    fn carry_out(&mut self, waiting: &mut Vec<Box<dyn Operation>>) {
        let together = self.commit(waiting);
        let operations = waiting.drain(..);
        match together {
            Err(fault) if operations.len() == 1 || fault.meets_all() => {
                let error = fault.at(&self.path);
                operations.for_each(|operation| operation.settle(Err(error.clone())));
            }
            Err(_) => {
                for mut operation in operations {
                    let outcome = self.commit(std::slice::from_mut(&mut operation));
                    operation.settle(outcome.map_err(|fault| fault.at(&self.path)));
                }
            }
            Ok(()) => operations.for_each(|operation| operation.settle(Ok(()))),
        }
    }

    fn commit_durations(&mut self) -> Result<(), Fault> {
        let transaction = self.connection.transaction()?;
        Batch::new(&transaction, &mut self.memory).write_all_durations()?;
        Ok(transaction.commit()?)
    }

    fn commit(&mut self, operations: &mut [Box<dyn Operation>]) -> Result<(), Fault> {
        let Self { connection, memory, .. } = self;
        let before = connection.total_changes();
        let attempt = || {
            connection.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
            let mut batch = Batch::new(connection, memory);
            for operation in operations {
                operation.apply(&mut batch)?;
            }
            batch.flush()?;
            connection.prepare_cached("COMMIT")?.execute([])?;
            Ok(())
        };
        // What a panic may have left half done is forgotten or rolled back below.
        let outcome = catch_unwind(AssertUnwindSafe(attempt)).unwrap_or(Err(Fault::Panic));
        if outcome.is_err() {
            self.memory.forget();
            if !self.connection.is_autocommit()
                && let Err(error) = self.connection.execute_batch("ROLLBACK")
            {
                tracing::error!(path = %self.path.display(), %error, "a transaction could not be rolled back");
            }
        }
        self.memory.trim();
        if outcome.is_ok() && self.connection.total_changes() != before {
            self.syncer.iter().for_each(Syncer::committed);
        }
        outcome
    }
}
