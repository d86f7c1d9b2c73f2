//! Whoever writes: one thread takes what waits, carries it out in one transaction, and answers when that is committed.
//! While one commit waits for the disk the next batch gathers, so that the number of commits follows the disk and not
//! the number of writes. Where nobody waits and the disk is quick, a caller writes by itself: to wake the thread and
//! be woken by it would cost as much as the commit. What is little is then not even committed at once: a record of it is
//! brought to the disk, and the commit follows with others.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot, watch};

use super::batch::Batch;
use super::codec::Prepared;
use super::desk::Desk;
use super::fault::{Fault, io_at};
use super::redo::Redo;
use super::syncing::Syncer;
use crate::error::{StoreError, WriteError};
use crate::records::Written;

/// Most requests that wait; who comes later waits to be let in.
const QUEUE: usize = 1024;
/// How long writes that have records wait for others that are committed with them: some dozens that come one after the other.
const GATHER: Duration = Duration::from_millis(50);
/// Stack of the thread: it reads stored values, which may be nested.
const STACK: usize = 8 << 20;

/// Hands work to the writer.
#[derive(Debug)]
pub(super) struct Writer {
    path: Arc<Path>,
    queue: Mutex<Option<mpsc::Sender<Box<dyn Operation>>>>,
    shared: Arc<Shared>,
    /// Commits what has records.
    settler: Option<Syncer>,
    /// Its sender is dropped when the thread has ended.
    ended: watch::Receiver<()>,
    thread: Mutex<Option<std::thread::JoinHandle<()>>>,
}

/// What the thread and callers share.
struct Shared {
    /// None once the thread has ended.
    desk: Mutex<Option<Desk>>,
    /// Requests that have been made of the thread and not answered.
    waiting: AtomicUsize,
    /// Whether something has happened that connections which read do not see.
    unseen: Arc<AtomicBool>,
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
    turn: Turn,
}

/// A place among those who wait for the thread, given up by dropping it.
struct Turn(Arc<Shared>);

impl Writer {
    /// Starts the thread. `guard` is dropped after the connection has been closed.
    pub(super) fn start(
        path: PathBuf,
        connection: Connection,
        syncer: Option<Syncer>,
        redo: Option<Redo>,
        guard: impl Send + 'static,
    ) -> Result<Self, StoreError> {
        let records = redo.is_some();
        let desk = Desk::new(path.clone(), connection, syncer, redo).map_err(|fault| fault.at(&path))?;
        let unseen = desk.unseen();
        let shared = Arc::new(Shared { desk: Mutex::new(Some(desk)), waiting: AtomicUsize::new(0), unseen });
        let settle = {
            let shared = Arc::clone(&shared);
            move || shared.settle().map_err(|error| std::io::Error::other(error.to_string()))
        };
        let settler = records.then(|| Syncer::start(&path, GATHER, settle)).transpose()?;
        let (queue, mut inbox) = mpsc::channel(QUEUE);
        let (end, ended) = watch::channel(());
        let path: Arc<Path> = Arc::from(path);
        let thread = std::thread::Builder::new().name("sqlite-writer".to_owned()).stack_size(STACK).spawn({
            let shared = Arc::clone(&shared);
            move || {
                if catch_unwind(AssertUnwindSafe(|| shared.serve(&mut inbox))).is_err() {
                    // The file is closed before anybody else may open it.
                    drop(shared.desk.lock().take());
                }
                drop(guard);
                drop(end);
            }
        });
        let thread =
            thread.map_err(|error| io_at(&path, "the thread that writes cannot be started", &error))?;
        let (queue, thread) = (Mutex::new(Some(queue)), Mutex::new(Some(thread)));
        Ok(Self { path, queue, shared, settler, ended, thread })
    }

    /// Has `work` done in a transaction; returns once that is committed. `work` may be called again after a failure.
    pub(super) async fn carry_out<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnMut(&mut Batch<'_>) -> Result<T, Fault> + Send + 'static,
    {
        let queue = self.queue.lock().clone().ok_or(StoreError::Closed)?;
        let (reply, answer) = oneshot::channel();
        let asked = Box::new(Asked { work, value: None, reply, turn: Turn::new(&self.shared) });
        queue.send(asked).await.map_err(|_| self.gone())?;
        drop(queue);
        answer.await.map_err(|_| self.gone())?
    }

    /// As [`Self::carry_out`], for work that is soon done: where nobody waits and commits are quick it is carried out
    /// here and now.
    pub(super) async fn carry_out_here<T, F>(&self, mut work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnMut(&mut Batch<'_>) -> Result<T, Fault> + Send + 'static,
    {
        match self.shared.carry_out(&mut work) {
            Some(value) => Ok(value),
            None => self.carry_out(work).await,
        }
    }

    /// Carries out writes that are [little](Prepared::is_little): where nobody waits and commits are quick here and now, with a
    /// record on the disk in place of a commit.
    pub(super) async fn write_here(
        &self,
        writes: Vec<Result<Prepared, WriteError>>,
    ) -> Result<Vec<Result<Written, WriteError>>, StoreError> {
        match self.shared.record(&writes) {
            Some(answers) => {
                self.settler.iter().for_each(Syncer::committed);
                Ok(answers)
            }
            None => self.carry_out_here(move |batch| batch.write(&writes)).await,
        }
    }

    /// Returns once connections that read see everything that has happened before.
    pub(super) async fn settle(&self) -> Result<(), StoreError> {
        match self.shared.unseen.load(Ordering::SeqCst) {
            true => self.carry_out_here(|_| Ok(())).await,
            false => Ok(()),
        }
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

impl std::fmt::Debug for Shared {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Shared").field("waiting", &self.waiting).finish_non_exhaustive()
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
        // Before the caller goes on, who may then write by itself.
        drop(self.turn);
        // Whoever asked may have gone away.
        let _ = self.reply.send(answer);
    }
}

impl Turn {
    fn new(shared: &Arc<Shared>) -> Self {
        shared.waiting.fetch_add(1, Ordering::SeqCst);
        Self(Arc::clone(shared))
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Shared {
    /// Carries out work for a caller. None: it is the thread's, because others wait for it, it takes long, or it is to say
    /// what went wrong.
    fn carry_out<T>(&self, work: &mut impl FnMut(&mut Batch<'_>) -> Result<T, Fault>) -> Option<T> {
        let mut desk = self.desk.try_lock()?;
        let desk = desk.as_mut()?;
        // Looked at behind the lock: what was asked before is done before.
        if self.waiting.load(Ordering::SeqCst) > 0 || !desk.is_quick() || desk.be_patient(false).is_err() {
            return None;
        }
        let mut value = None;
        let committed = desk.commit_in_passing(|batch| {
            value = Some(work(batch)?);
            Ok(())
        });
        committed.ok().and(value)
    }

    /// As [`Self::carry_out`], without a commit.
    fn record(&self, writes: &[Result<Prepared, WriteError>]) -> Option<Vec<Result<Written, WriteError>>> {
        let mut desk = self.desk.try_lock()?;
        let desk = desk.as_mut()?;
        let is_free = self.waiting.load(Ordering::SeqCst) == 0 && desk.is_quick() && desk.can_record();
        if !is_free || desk.be_patient(false).is_err() {
            return None;
        }
        desk.record(writes).ok()
    }

    /// Commits what has records.
    fn settle(&self) -> Result<(), StoreError> {
        let mut desk = self.desk.lock();
        let Some(desk) = desk.as_mut() else { return Ok(()) };
        let settled = desk.be_patient(true).and_then(|()| desk.settle());
        if desk.is_log_long() {
            desk.fold();
        }
        settled.map_err(|fault| fault.at(&desk.path))
    }

    /// Serves those who wait, until nobody can come any more.
    fn serve(&self, inbox: &mut mpsc::Receiver<Box<dyn Operation>>) {
        let mut waiting = Vec::new();
        while let Some(first) = inbox.blocking_recv() {
            waiting.push(first);
            let mut desk = self.desk.lock();
            let Some(desk) = desk.as_mut() else { return };
            while waiting.len() < QUEUE
                && let Ok(next) = inbox.try_recv()
            {
                waiting.push(next);
            }
            carry_out(desk, &mut waiting);
            if desk.is_log_long() {
                desk.fold();
            }
        }
        if let Some(desk) = self.desk.lock().take() {
            desk.close();
        }
    }
}

/// Carries out all of them together, or one by one should one of them be in the way of the others.
fn carry_out(desk: &mut Desk, waiting: &mut Vec<Box<dyn Operation>>) {
    let together = commit(desk, waiting);
    let operations = waiting.drain(..);
    match together {
        Err(fault) if operations.len() == 1 || fault.meets_all() => {
            let error = fault.at(&desk.path);
            operations.for_each(|operation| operation.settle(Err(error.clone())));
        }
        Err(_) => {
            for mut operation in operations {
                let outcome = commit(desk, std::slice::from_mut(&mut operation));
                operation.settle(outcome.map_err(|fault| fault.at(&desk.path)));
            }
        }
        Ok(()) => operations.for_each(|operation| operation.settle(Ok(()))),
    }
}

fn commit(desk: &mut Desk, operations: &mut [Box<dyn Operation>]) -> Result<(), Fault> {
    desk.be_patient(true)?;
    desk.commit(|batch| operations.iter_mut().try_for_each(|operation| operation.apply(batch)))
}
