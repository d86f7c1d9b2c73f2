//! The log as others see it: takes entries, and has them written.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Instant;

use parking_lot::Mutex;

use super::chain::Checkpoint;
use super::entry::AuditEntry;
use super::error::AuditError;
use super::event::{AuditEvent, Outcome};
use super::flood::{Flood, FloodLimit, is_denial};
use super::intake::{Intake, Pushed};
use super::lane::Lane;
use super::ledger::Ledger;
use super::notary::{CheckpointOptions, CheckpointStatus, Notary, Preparation};
use super::progress::Progress;
use super::sink::{AuditSink, Tail, Writer, first_file};
use super::tell::Told;

/// What happens when a record cannot be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AuditMode {
    /// The request goes on. A record is handed over, not waited for: one thread numbers, seals and writes them in
    /// groups, a few milliseconds later. What finds no room is counted, and an `audit.gap` record says so.
    #[default]
    BestEffort,
    /// The request is refused. A record counts when the system took it (`write`) for one sink at least. Requests
    /// that come at the same time share one write.
    Required,
}

/// How to open a log.
#[derive(Debug, Clone, Default)]
pub struct AuditOptions {
    /// Where records go. None: to the tracing subscriber alone.
    pub sinks: Vec<AuditSink>,
    /// Whether a record must be written.
    pub mode: AuditMode,
    /// From how many like denials on they are counted instead of recorded one by one; `None`: all are recorded.
    pub flood: Option<FloodLimit>,
    /// Signed checkpoints of the first file; `None`: none are made.
    pub checkpoints: Option<CheckpointOptions>,
}

/// The audit log. Clones share it.
///
/// Every record also goes to the tracing target `taskiq_flow.audit` with its fields. Dropping the last clone
/// closes it.
#[derive(Clone)]
pub struct AuditLogger {
    inner: Arc<Inner>,
}

/// What the clones share; its end is the log's.
struct Inner {
    shared: Arc<Shared>,
    /// Writes what is recorded, in a best effort log.
    writer: Mutex<Option<JoinHandle<()>>>,
    /// Sums up floods.
    summer: Mutex<Option<JoinHandle<()>>>,
    /// Signs checkpoints.
    notary: Mutex<Option<Notary>>,
    first_file: Option<PathBuf>,
}

/// What the log's threads share with it.
struct Shared {
    mode: AuditMode,
    /// Whether a thread writes; otherwise whoever records does.
    threaded: bool,
    intake: Intake,
    ledger: Mutex<Ledger>,
    flood: Option<Flood>,
}

impl AuditLogger {
    /// A log for the tracing subscriber alone; nothing about it can fail.
    pub fn new() -> Self {
        Self::with(Ledger::new(Checkpoint::GENESIS, Vec::new(), false), &AuditOptions::default())
    }

    /// Opens the sinks, goes on where the files end, and records `audit.start`.
    ///
    /// A torn last line stays where it is; an `audit.gap` record after it says so. With several files the
    /// chain goes on from the one that got farthest, and the others are told what they lack.
    ///
    /// # Errors
    /// A file that another log writes or that holds something else: always. A file that cannot be opened:
    /// only in [`AuditMode::Required`] when no other sink takes the record, as [`AuditError::Open`]; a best
    /// effort log tries again later.
    pub fn open(options: AuditOptions) -> Result<Self, AuditError> {
        let required = options.mode == AuditMode::Required;
        if required && !options.sinks.iter().any(|sink| !matches!(sink, AuditSink::Export(..))) {
            return Err(AuditError::NoSink);
        }
        let signing = signing(&options)?;
        let mut opened: Vec<(&AuditSink, Writer, Option<Tail>)> = Vec::new();
        let mut first_failure = None;
        for sink in &options.sinks {
            let mut writer = Writer::new(sink.clone());
            let tail = match writer.open(Checkpoint::GENESIS) {
                Ok(tail) => Some(tail),
                Err(error @ AuditError::Open { .. }) => {
                    tracing::error!(%error, "a sink of the audit log is missing; it will be tried again");
                    first_failure.get_or_insert(error);
                    None
                }
                Err(error) => return Err(error),
            };
            opened.push((sink, writer, tail));
        }
        let mut head = Checkpoint::GENESIS;
        // A file that was rotated while nobody wrote it, or cut, goes on where the last checkpoint stood.
        let signed = signing.as_ref().and_then(|signing| signing.preparation.signed());
        for at in opened.iter().filter_map(|(_, _, tail)| tail.map(|tail| tail.at)).chain(signed) {
            head = if at.seq > head.seq { at } else { head };
        }
        let mut lanes = Vec::new();
        let mut watcher = signing.as_ref().map(|signing| Arc::clone(&signing.progress));
        for (sink, writer, tail) in opened {
            let progress = watcher.take_if(|_| matches!(sink, AuditSink::File(_)));
            // What a stream got before is nobody's to check.
            let tail = if writer.is_stream() { Some(Tail::clean(head)) } else { tail };
            lanes.push(match options.mode {
                AuditMode::Required if !writer.is_export() => {
                    Lane::direct(sink, writer, tail, head, progress)
                }
                AuditMode::Required | AuditMode::BestEffort => {
                    Lane::queued(sink, writer, tail, head, progress)?
                }
            });
        }
        let logger = Self::with(Ledger::new(head, lanes, required), &options);
        // The first record is written here and now: who starts a server wants to know.
        let mut told = Told::default();
        let start = AuditEntry::new(AuditEvent::AuditStart, Outcome::Success);
        let started = logger.inner.shared.ledger.lock().append_own(start, &mut told);
        told.tell();
        started.map_err(|error| first_failure.unwrap_or(error))?;
        logger.inner.start_threads()?;
        if let Some(Signing { preparation, progress, key_changes }) = signing {
            if let Some(change) = key_changes {
                logger.record(change)?;
            }
            *logger.inner.notary.lock() = Some(Notary::start(preparation, progress)?);
        }
        Ok(logger)
    }

    /// Records an entry: what happened now. In [`AuditMode::BestEffort`] it is handed over and this returns at once;
    /// in [`AuditMode::Required`] it is written when this returns.
    ///
    /// # Errors
    /// [`AuditError::NotWritten`] in [`AuditMode::Required`] when no sink took it: the record is not in the
    /// log, and the request must not go on. [`AuditError::Closed`] after [`AuditLogger::close`].
    pub fn record(&self, entry: AuditEntry) -> Result<(), AuditError> {
        let shared = &self.inner.shared;
        let flood = shared.flood.as_ref().filter(|_| is_denial(entry.event));
        if flood.is_some_and(|flood| !flood.admits(&entry, Instant::now())) {
            return Ok(());
        }
        match shared.write(entry) {
            // What must be written is never merely counted.
            Err(AuditError::Full) if shared.mode == AuditMode::BestEffort => {
                shared.intake.count_lost();
                metrics::counter!("taskiq_flow_audit_lost_total").increment(1);
                Ok(())
            }
            result => {
                if result.is_err() {
                    metrics::counter!("taskiq_flow_audit_refused_total").increment(1);
                }
                result
            }
        }
    }

    /// Waits until what was recorded before has its place in the chain and was handed to the sinks.
    pub fn flush(&self) {
        if self.inner.shared.threaded {
            self.inner.shared.intake.flush();
        }
    }

    /// Whether a record must be written.
    pub fn mode(&self) -> AuditMode {
        self.inner.shared.mode
    }

    /// Whether at least one sink can be written, as far as is known; a log without sinks is healthy. Looks
    /// again at sinks that failed, and writes what is due: where requests were refused because nothing could be
    /// written, only a record that says so makes the log healthy again.
    pub fn healthy(&self) -> bool {
        let mut told = Told::default();
        let healthy = self.inner.shared.ledger.lock().look_again(&mut told);
        told.tell();
        healthy
    }

    /// The sinks that cannot be written now: file names, or `stdout`.
    pub fn failing_sinks(&self) -> Vec<String> {
        let ledger = self.inner.shared.ledger.lock();
        ledger.lanes.iter().filter(|l| l.failing()).map(|l| l.label.clone()).collect()
    }

    /// The first file among the sinks: the one to read records from.
    pub fn first_file(&self) -> Option<&Path> {
        self.inner.first_file.as_deref()
    }

    /// Where the chain stands. Kept on another machine, it shows later that the end was not cut.
    pub fn checkpoint(&self) -> Checkpoint {
        self.inner.shared.ledger.lock().head
    }

    /// How the signed checkpoints do, if any are made.
    pub fn checkpoints(&self) -> Option<CheckpointStatus> {
        self.inner.notary.lock().as_ref().map(Notary::status)
    }

    /// Records `audit.stop` and lets the sinks write what is left, two seconds at most for each. Later
    /// records are refused.
    pub fn close(&self) {
        self.inner.close();
    }

    fn with(ledger: Ledger, options: &AuditOptions) -> Self {
        let shared = Shared {
            mode: options.mode,
            threaded: options.mode == AuditMode::BestEffort && !options.sinks.is_empty(),
            intake: Intake::default(),
            ledger: Mutex::new(ledger),
            flood: options.flood.map(Flood::new),
        };
        let first_file = first_file(&options.sinks).map(Path::to_path_buf);
        let (writer, summer, notary) = (Mutex::default(), Mutex::default(), Mutex::default());
        Self { inner: Arc::new(Inner { shared: Arc::new(shared), writer, summer, notary, first_file }) }
    }
}

impl Default for AuditLogger {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for AuditLogger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuditLogger")
            .field("mode", &self.inner.shared.mode)
            .field("first_file", &self.inner.first_file)
            .finish_non_exhaustive()
    }
}

impl Inner {
    fn start_threads(&self) -> Result<(), AuditError> {
        let start = |name: &str, run: fn(&Shared)| {
            let shared = Arc::clone(&self.shared);
            thread::Builder::new()
                .name(name.to_owned())
                .spawn(move || run(&shared))
                .map_err(AuditError::Thread)
        };
        if self.shared.threaded {
            *self.writer.lock() = Some(start("audit-chain", Shared::write_what_comes)?);
        }
        if self.shared.flood.is_some() {
            *self.summer.lock() = Some(start("audit-flood", Shared::sum_up_floods)?);
        }
        Ok(())
    }

    fn close(&self) {
        let shared = &self.shared;
        if let Some(flood) = &shared.flood {
            flood.stop();
            join(&self.summer);
            // What was counted is said while records are still taken.
            for summary in flood.drain() {
                if let Err(error) = shared.write(summary) {
                    tracing::error!(%error, "the number of denials that were not recorded one by one is lost");
                }
            }
        }
        shared.intake.close();
        join(&self.writer);
        let mut told = Told::default();
        {
            let mut ledger = shared.ledger.lock();
            if ledger.is_closed() {
                return;
            }
            // What others pushed and nobody wrote yet.
            let batch = shared.intake.take(Vec::new());
            if !batch.entries.is_empty() || batch.lost > 0 {
                ledger.append(&batch, &mut told);
            }
            ledger.close(&mut told);
        }
        told.tell();
        if let Some(notary) = &mut *self.notary.lock() {
            notary.close();
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.close();
    }
}

/// What is needed to sign checkpoints.
struct Signing {
    preparation: Preparation,
    progress: Arc<Progress>,
    /// What is recorded when another key takes over.
    key_changes: Option<AuditEntry>,
}

fn signing(options: &AuditOptions) -> Result<Option<Signing>, AuditError> {
    let Some(checkpoints) = &options.checkpoints else { return Ok(None) };
    let file = first_file(&options.sinks).filter(|path| !path.exists() || path.is_file());
    let Some(file) = file else {
        let what = "checkpoints are made of a regular file; name one first in `audit_log`".to_owned();
        return Err(AuditError::Checkpoints { path: "audit_log".into(), what });
    };
    let (preparation, gives_way) = Notary::prepare(checkpoints, file.to_path_buf())?;
    let key_changes = checkpoints.previous.as_ref().filter(|_| gives_way).map(|previous| {
        let (old, new) = (previous.verify_key(), checkpoints.key.verify_key());
        AuditEntry::new(AuditEvent::SecurityConfigChange, Outcome::Success)
            .action("audit_signing_key")
            .detail(format!("checkpoints were signed by {old}, and are signed by {new} from here on"))
    });
    Ok(Some(Signing { preparation, progress: Arc::default(), key_changes }))
}

fn join(thread: &Mutex<Option<JoinHandle<()>>>) {
    let thread = thread.lock().take();
    if thread.is_some_and(|thread| thread.join().is_err()) {
        tracing::error!("a thread of the audit log panicked");
    }
}

impl Shared {
    /// Has an entry written; [`AuditError::Full`] when there is no room for it.
    fn write(&self, entry: AuditEntry) -> Result<(), AuditError> {
        let ticket = match self.intake.push(entry) {
            Pushed::Ticket(ticket) => ticket,
            Pushed::Full => return Err(AuditError::Full),
            Pushed::Closed => return Err(AuditError::Closed),
        };
        if self.threaded {
            return Ok(());
        }
        let mut told = Told::default();
        let outcome = {
            let mut ledger = self.ledger.lock();
            // Whoever comes first writes for all that wait for the lock; the others find their outcome.
            match ledger.outcome(ticket) {
                Some(outcome) => outcome,
                None => {
                    let batch = self.intake.take(Vec::new());
                    ledger.append(&batch, &mut told);
                    ledger.outcome(ticket).unwrap_or(Err(AuditError::NotWritten))
                }
            }
        };
        told.tell();
        outcome
    }

    /// The thread of a best effort log: until the intake is closed.
    fn write_what_comes(&self) {
        let mut reuse = Vec::new();
        while let Some(batch) = self.intake.wait(reuse) {
            let mut told = Told::default();
            self.ledger.lock().append(&batch, &mut told);
            told.tell();
            self.intake.settle(batch.last);
            reuse = batch.entries;
            reuse.clear();
            // A burst does not keep its memory for ever.
            reuse.shrink_to(4_096);
        }
    }

    /// The thread that says how many denials were not recorded one by one.
    fn sum_up_floods(&self) {
        let Some(flood) = &self.flood else { return };
        while let Some(due) = flood.wait() {
            let mut kept = due;
            while let Some(held) = kept.pop() {
                if self.write(flood.summary(&held)).is_err() {
                    kept.push(held);
                    flood.give_back(std::mem::take(&mut kept));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
