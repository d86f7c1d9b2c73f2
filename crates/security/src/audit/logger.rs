//! The log: numbers the records, chains them, and hands them to the sinks.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use parking_lot::Mutex;

use super::chain::{Checkpoint, Line, seal};
use super::error::AuditError;
use super::event::{AuditEvent, Outcome};
use super::gap::GapNote;
use super::lane::Lane;
use super::record::{AuditEntry, AuditRecord};
use super::safe_json::escape_controls;
use super::sink::{AuditSink, Tail, Writer, first_file};

/// What happens when a record cannot be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AuditMode {
    /// The request goes on. Sinks have threads of their own; a record is handed over, not waited for.
    #[default]
    BestEffort,
    /// The request is refused. A record counts when the system took it (`write`) for one sink at least.
    Required,
}

/// How to open a log.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AuditOptions {
    /// Where records go. None: to the tracing subscriber alone.
    pub sinks: Vec<AuditSink>,
    /// Whether a record must be written.
    pub mode: AuditMode,
}

/// The audit log. Clones share it.
///
/// Every record also goes to the tracing target `taskiq_flow.audit` with its fields. Dropping the last clone
/// closes it.
#[derive(Clone)]
pub struct AuditLogger {
    inner: Arc<Inner>,
}

struct Inner {
    chain: Mutex<Chain>,
    mode: AuditMode,
    first_file: Option<PathBuf>,
}

struct Chain {
    head: Checkpoint,
    lanes: Vec<Lane>,
    /// Requests refused since the last record was written.
    refused: u64,
    closed: bool,
}

impl AuditLogger {
    /// A log for the tracing subscriber alone; nothing about it can fail.
    pub fn new() -> Self {
        Self::with(Chain::new(Checkpoint::GENESIS, Vec::new()), &AuditOptions::default())
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
        if options.mode == AuditMode::Required && options.sinks.is_empty() {
            return Err(AuditError::NoSink);
        }
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
        for tail in opened.iter().filter_map(|(_, _, tail)| *tail) {
            head = if tail.at.seq > head.seq { tail.at } else { head };
        }
        let mut lanes = Vec::new();
        for (sink, writer, tail) in opened {
            // What a stream got before is nobody's to check.
            let tail = if writer.is_stream() { Some(Tail::clean(head)) } else { tail };
            lanes.push(match options.mode {
                AuditMode::Required => Lane::direct(sink, writer, tail, head),
                AuditMode::BestEffort => Lane::queued(sink, writer, tail, head)?,
            });
        }
        let logger = Self::with(Chain::new(head, lanes), &options);
        match logger.record(AuditEntry::new(AuditEvent::AuditStart, Outcome::Success)) {
            Ok(_) => Ok(logger),
            Err(error) => Err(first_failure.unwrap_or(error)),
        }
    }

    /// Records an entry and returns its number. Cheap enough for every request: it does not wait for a disk
    /// except in [`AuditMode::Required`], and then only for the `write`.
    ///
    /// # Errors
    /// [`AuditError::NotWritten`] in [`AuditMode::Required`] when no sink took it: the record is not in the
    /// log, and the request must not go on. [`AuditError::Closed`] after [`AuditLogger::close`].
    pub fn record(&self, entry: AuditEntry) -> Result<u64, AuditError> {
        let (result, records) = {
            let mut chain = self.inner.chain.lock();
            let mut told = Vec::with_capacity(1);
            let result = chain.append(entry, self.inner.mode, &mut told);
            (result, told)
        };
        for record in &records {
            tell(record);
        }
        if result.is_err() {
            metrics::counter!("taskiq_flow_audit_refused_total").increment(1);
        }
        result
    }

    /// Whether a record must be written.
    pub fn mode(&self) -> AuditMode {
        self.inner.mode
    }

    /// Whether at least one sink can be written, as far as is known; a log without sinks is healthy. Looks
    /// again at sinks that failed.
    pub fn healthy(&self) -> bool {
        let mut chain = self.inner.chain.lock();
        let head = chain.head;
        for lane in &mut chain.lanes {
            _ = lane.out_of_step(head);
        }
        !chain.closed && (chain.lanes.is_empty() || chain.lanes.iter().any(|l| !l.failing()))
    }

    /// The sinks that cannot be written now: file names, or `stdout`.
    pub fn failing_sinks(&self) -> Vec<String> {
        let chain = self.inner.chain.lock();
        chain.lanes.iter().filter(|l| l.failing()).map(|l| l.label.clone()).collect()
    }

    /// The first file among the sinks: the one to read records from.
    pub fn first_file(&self) -> Option<&Path> {
        self.inner.first_file.as_deref()
    }

    /// Where the chain stands. Kept on another machine, it shows later that the end was not cut.
    pub fn checkpoint(&self) -> Checkpoint {
        self.inner.chain.lock().head
    }

    /// Records `audit.stop` and lets the sinks write what is left, two seconds at most for each. Later
    /// records are refused.
    pub fn close(&self) {
        self.inner.close();
    }

    fn with(chain: Chain, options: &AuditOptions) -> Self {
        let first_file = first_file(&options.sinks).map(Path::to_path_buf);
        Self { inner: Arc::new(Inner { chain: Mutex::new(chain), mode: options.mode, first_file }) }
    }
}

impl Default for AuditLogger {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for AuditLogger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { mode, first_file, .. } = &*self.inner;
        f.debug_struct("AuditLogger")
            .field("mode", mode)
            .field("first_file", first_file)
            .finish_non_exhaustive()
    }
}

impl Inner {
    fn close(&self) {
        let mut chain = self.chain.lock();
        if chain.closed {
            return;
        }
        let mut told = Vec::new();
        let stop = AuditEntry::new(AuditEvent::AuditStop, Outcome::Success);
        if chain.append(stop, self.mode, &mut told).is_err() {
            tracing::error!("the audit log could not record its end");
        }
        chain.closed = true;
        for lane in &mut chain.lanes {
            lane.close();
        }
        drop(chain);
        told.iter().for_each(tell);
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.close();
    }
}

impl Chain {
    fn new(head: Checkpoint, lanes: Vec<Lane>) -> Self {
        Self { head, lanes, refused: 0, closed: false }
    }

    fn append(
        &mut self,
        entry: AuditEntry,
        mode: AuditMode,
        told: &mut Vec<AuditRecord>,
    ) -> Result<u64, AuditError> {
        if self.closed {
            return Err(AuditError::Closed);
        }
        self.bring_into_step(told)?;
        let (record, line) = self.next(entry)?;
        let taken = self.offer(&line);
        if taken == 0 && mode == AuditMode::Required {
            self.refused += 1;
            return Err(AuditError::NotWritten);
        }
        self.head = line.at;
        told.push(record);
        Ok(line.at.seq)
    }

    /// Writes the gap records that are due: for each sink that came back, and for requests refused meanwhile.
    fn bring_into_step(&mut self, told: &mut Vec<AuditRecord>) -> Result<(), AuditError> {
        for lane in 0..self.lanes.len() {
            if let Some(tail) = self.lanes[lane].out_of_step(self.head) {
                self.close_gap(lane, tail, told)?;
            }
        }
        if self.refused > 0 {
            let sink = "all".to_owned();
            let note = GapNote { missed: None, unreadable_lines: 0, refused: self.refused, sink };
            let (record, line) = self.next(gap_entry(&note))?;
            if self.offer(&line) > 0 {
                self.refused = 0;
                self.head = line.at;
                told.push(record);
            }
        }
        Ok(())
    }

    fn close_gap(&mut self, lane: usize, tail: Tail, told: &mut Vec<AuditRecord>) -> Result<(), AuditError> {
        let before = self.head;
        let missed = if tail.at == before {
            None
        } else {
            // A sink that is ahead (another log wrote it, or the first file lost its end) moves the numbers on:
            // each is used once in every file.
            let last = before.seq.max(tail.at.seq + u64::from(tail.at.seq >= before.seq));
            self.head.seq = last;
            Some((before.seq.min(tail.at.seq) + 1, last))
        };
        let sink = self.lanes[lane].label.clone();
        let note = GapNote { missed, unreadable_lines: tail.unreadable_lines, refused: 0, sink };
        let sealed = self.next(gap_entry(&note));
        self.head = before;
        let (record, line) = sealed?;
        if self.lanes[lane].offer(&line, true) {
            for (other, sink) in self.lanes.iter_mut().enumerate() {
                if other != lane {
                    sink.offer(&line, false);
                }
            }
            self.head = line.at;
            told.push(record);
        }
        Ok(())
    }

    fn next(&self, entry: AuditEntry) -> Result<(AuditRecord, Arc<Line>), AuditError> {
        let mut record = entry.into_record(self.head.seq + 1, Timestamp::now(), self.head.hex());
        let line = seal(&mut record)?;
        Ok((record, Arc::new(line)))
    }

    fn offer(&mut self, line: &Arc<Line>) -> usize {
        self.lanes.iter_mut().filter_map(|lane| lane.offer(line, false).then_some(())).count()
    }
}

fn gap_entry(note: &GapNote) -> AuditEntry {
    AuditEntry::new(AuditEvent::AuditGap, Outcome::Failure).detail(note.to_string())
}

/// Gives a record to the tracing subscriber. Values that a client chose are harmless in a text log.
fn tell(record: &AuditRecord) {
    metrics::counter!("taskiq_flow_audit_records_total", "event" => record.event.as_str()).increment(1);
    if !tracing::enabled!(target: "taskiq_flow.audit", tracing::Level::INFO) {
        return;
    }
    let text = |field: &Option<String>| field.as_deref().map(|t| escape_controls(t).into_owned());
    let principal = record.principal.as_ref();
    let roles = principal.map(|p| escape_controls(&p.roles.join(",")).into_owned());
    tracing::info!(
        target: "taskiq_flow.audit",
        seq = record.seq,
        event = record.event.as_str(),
        outcome = record.outcome.as_str(),
        principal.id = principal.map(|p| escape_controls(&p.id).into_owned()),
        principal.r#type = principal.map(|p| escape_controls(&p.kind).into_owned()),
        principal.roles = roles,
        action = text(&record.action),
        pipeline_id = text(&record.pipeline_id),
        run_id = text(&record.run_id),
        ip = record.ip.map(tracing::field::display),
        request_id = text(&record.request_id),
        method = text(&record.method),
        path = text(&record.path),
        status = record.status,
        detail = text(&record.detail),
        hash = record.hash,
    );
}

#[cfg(test)]
mod tests;
