//! The chain as it is written: numbers, links, gaps, and the sinks that take it.

use std::sync::Arc;

use jiff::Timestamp;

use super::chain::{Checkpoint, Line, seal_with};
use super::entry::AuditEntry;
use super::error::AuditError;
use super::event::{AuditEvent, Outcome};
use super::gap::GapNote;
use super::intake::{Batch, Stamped};
use super::lane::Lane;
use super::line::LineWriter;
use super::sink::Tail;
use super::tell::Told;

/// So many records are sealed and handed to the sinks at once.
const CHUNK: usize = 256;

pub(crate) struct Ledger {
    pub(crate) head: Checkpoint,
    pub(crate) lanes: Vec<Lane>,
    lines: LineWriter,
    /// Whether a record counts only once a sink took it.
    required: bool,
    /// Requests refused since the last record was written.
    refused: u64,
    /// Records that found no room, and nobody was told yet.
    lost: u64,
    closed: bool,
    /// The last ticket that was dealt with, and what became of those that failed.
    settled: u64,
    failed: Vec<(u64, AuditError)>,
}

impl Ledger {
    pub(crate) fn new(head: Checkpoint, lanes: Vec<Lane>, required: bool) -> Self {
        Self {
            head,
            lanes,
            lines: LineWriter::default(),
            required,
            refused: 0,
            lost: 0,
            closed: false,
            settled: 0,
            failed: Vec::new(),
        }
    }

    /// Whether it takes no more records.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed
    }

    /// Writes a batch, in its order. What cannot be written is kept for [`Ledger::outcome`].
    pub(crate) fn append(&mut self, batch: &Batch, told: &mut Told) {
        self.lost += batch.lost;
        let mut ticket = batch.last - batch.entries.len() as u64;
        for chunk in batch.entries.chunks(CHUNK) {
            let failures = self.append_chunk(chunk, told);
            // Only who waits asks for its outcome.
            if self.required {
                let failures = failures.into_iter();
                self.failed.extend(failures.map(|(index, error)| (ticket + 1 + index as u64, error)));
            }
            ticket += chunk.len() as u64;
        }
        if batch.entries.is_empty() {
            self.bring_into_step(Timestamp::now(), told);
        }
        self.settled = batch.last;
    }

    /// What became of a ticket; `None`: nothing yet.
    pub(crate) fn outcome(&mut self, ticket: u64) -> Option<Result<(), AuditError>> {
        if self.settled < ticket {
            return None;
        }
        let failed = self.failed.iter().position(|(failed, _)| *failed == ticket);
        Some(failed.map_or(Ok(()), |at| Err(self.failed.swap_remove(at).1)))
    }

    /// Writes gap records that are due, and says whether a record could be written now.
    pub(crate) fn look_again(&mut self, told: &mut Told) -> bool {
        if self.required {
            self.bring_into_step(Timestamp::now(), told);
        }
        let head = self.head;
        for lane in &mut self.lanes {
            _ = lane.out_of_step(head);
        }
        let written = self.lanes.is_empty() || self.lanes.iter().any(|lane| lane.counts() && !lane.failing());
        written && self.refused == 0 && !self.closed
    }

    /// Writes one entry of the log's own.
    pub(crate) fn append_own(&mut self, entry: AuditEntry, told: &mut Told) -> Result<(), AuditError> {
        let stamped = Stamped { entry, time: Timestamp::now() };
        self.append_chunk(std::slice::from_ref(&stamped), told).pop().map_or(Ok(()), |(_, error)| Err(error))
    }

    /// Writes the end, and lets go of the sinks.
    pub(crate) fn close(&mut self, told: &mut Told) {
        let stop = AuditEntry::new(AuditEvent::AuditStop, Outcome::Success);
        if self.append_own(stop, told).is_err() {
            tracing::error!("the audit log could not record its end");
        }
        self.closed = true;
        self.lanes.iter_mut().for_each(Lane::close);
    }

    /// The entries that failed, by their index.
    fn append_chunk(&mut self, chunk: &[Stamped], told: &mut Told) -> Vec<(usize, AuditError)> {
        if self.closed {
            return (0..chunk.len()).map(|index| (index, AuditError::Closed)).collect();
        }
        let Some(first) = chunk.first() else { return Vec::new() };
        self.bring_into_step(first.time, told);
        let mut failed = Vec::new();
        let mut lines: Vec<Arc<Line>> = Vec::with_capacity(chunk.len());
        let mut sealed: Vec<&Stamped> = Vec::with_capacity(chunk.len());
        let mut head = self.head;
        for (index, stamped) in chunk.iter().enumerate() {
            match seal_with(&mut self.lines, &stamped.entry, stamped.time, head) {
                Ok(line) => {
                    head = line.at;
                    lines.push(Arc::new(line));
                    sealed.push(stamped);
                }
                Err(error) => failed.push((index, error.into())),
            }
        }
        if lines.is_empty() {
            return failed;
        }
        if self.offer(&lines) == 0 && self.required {
            self.refused += lines.len() as u64;
            return (0..chunk.len()).map(|index| (index, AuditError::NotWritten)).collect();
        }
        for (stamped, line) in sealed.into_iter().zip(&lines) {
            told.add(&stamped.entry, stamped.time, self.head, line.at);
            self.head = line.at;
        }
        failed
    }

    /// Writes the gap records that are due: for each sink that came back, for requests refused meanwhile, and for
    /// records that found no room.
    fn bring_into_step(&mut self, time: Timestamp, told: &mut Told) {
        if self.closed {
            return;
        }
        for lane in 0..self.lanes.len() {
            if let Some(tail) = self.lanes[lane].out_of_step(self.head) {
                self.close_gap(lane, tail, time, told);
            }
        }
        if self.refused == 0 && self.lost == 0 {
            return;
        }
        let note = GapNote {
            missed: None,
            unreadable_lines: 0,
            refused: self.refused,
            lost: self.lost,
            sink: "all".to_owned(),
        };
        let entry = gap_entry(&note);
        let Some(line) = sealed(&mut self.lines, &entry, time, self.head) else { return };
        if self.offer(std::slice::from_ref(&line)) > 0 {
            (self.refused, self.lost) = (0, 0);
            told.add(&entry, time, self.head, line.at);
            self.head = line.at;
        }
    }

    fn close_gap(&mut self, lane: usize, tail: Tail, time: Timestamp, told: &mut Told) {
        let mut before = self.head;
        let missed = if tail.at == before {
            None
        } else {
            // A sink that is ahead (another log wrote it, or the first file lost its end) moves the numbers on:
            // each is used once in every file.
            let last = before.seq.max(tail.at.seq + u64::from(tail.at.seq >= before.seq));
            let first = before.seq.min(tail.at.seq) + 1;
            before.seq = last;
            Some((first, last))
        };
        let sink = self.lanes[lane].label.clone();
        let note = GapNote { missed, unreadable_lines: tail.unreadable_lines, refused: 0, lost: 0, sink };
        let entry = gap_entry(&note);
        let Some(line) = sealed(&mut self.lines, &entry, time, before) else { return };
        let line = std::slice::from_ref(&line);
        if self.lanes[lane].offer(line, true) {
            for (other, sink) in self.lanes.iter_mut().enumerate() {
                if other != lane {
                    sink.offer(line, false);
                }
            }
            told.add(&entry, time, before, line[0].at);
            self.head = line[0].at;
        }
    }

    /// How many sinks took the lines.
    fn offer(&mut self, lines: &[Arc<Line>]) -> usize {
        // Every sink is offered them, whether or not it counts.
        self.lanes.iter_mut().map(|lane| usize::from(lane.offer(lines, false) && lane.counts())).sum()
    }
}

fn sealed(
    writer: &mut LineWriter,
    entry: &AuditEntry,
    time: Timestamp,
    before: Checkpoint,
) -> Option<Arc<Line>> {
    match seal_with(writer, entry, time, before) {
        Ok(line) => Some(Arc::new(line)),
        Err(error) => {
            tracing::error!(%error, "a gap record cannot be written as JSON");
            None
        }
    }
}

fn gap_entry(note: &GapNote) -> AuditEntry {
    AuditEntry::new(AuditEvent::AuditGap, Outcome::Failure).detail(note.to_string())
}
