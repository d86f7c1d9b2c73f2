//! Checking a file: is every record as it was written, in its place, and is the end still there?

use std::io::{self, BufRead};

use super::chain::{Checkpoint, Read, read};
use super::event::AuditEvent;
use super::gap::GapNote;
use super::record::AuditRecord;

/// A longer line is no record; what is beyond is not kept in memory.
const MAX_LINE: usize = 1024 * 1024;

/// What a file is compared with.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct VerifyOptions {
    /// A place known from elsewhere: the file must hold it.
    pub checkpoint: Option<Checkpoint>,
    /// The last record of the file before this one, when a log was rotated.
    pub after: Option<Checkpoint>,
}

/// What a sound file holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifyReport {
    /// Number of records.
    pub records: u64,
    /// Number of the first record, if there is one.
    pub first_seq: Option<u64>,
    /// The last record: a checkpoint to keep.
    pub last: Option<Checkpoint>,
    /// The gaps that the log itself recorded.
    pub gaps: Vec<Gap>,
    /// How often the clock stepped back between two records.
    pub clock_steps_back: u64,
}

/// A gap that the log itself recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gap {
    /// Number of the gap record.
    pub seq: u64,
    /// What it says.
    pub detail: String,
}

/// The first thing wrong with a file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VerifyError {
    /// The file cannot be read.
    #[error("the audit log cannot be read: {0}")]
    Io(#[from] io::Error),
    /// A record is wrong, or missing.
    #[error("line {line}: {fault}")]
    Bad {
        /// Line of the file, from 1.
        line: u64,
        /// Number of the record concerned, if known.
        seq: Option<u64>,
        /// What is wrong.
        fault: Fault,
    },
}

/// What is wrong with a record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// The line is no record.
    #[error("this is no audit record, and no audit.gap record explains it")]
    Unreadable,
    /// The last line stops in the middle.
    #[error("the last line is incomplete: the server crashed or is writing, or the file was cut")]
    Torn,
    /// The hash is not that of the record.
    #[error("record {seq} was edited: its hash does not match")]
    Edited {
        /// Number the line gives itself.
        seq: u64,
    },
    /// The record does not follow the one before it.
    #[error("record {seq} does not follow the record before it: that one was replaced, or this one inserted")]
    Broken {
        /// Number of the record.
        seq: u64,
    },
    /// Records are missing.
    #[error("records were removed: {first} to {last} are missing")]
    Removed {
        /// First missing number.
        first: u64,
        /// Last missing number.
        last: u64,
    },
    /// A record is out of its place.
    #[error("records were reordered or repeated: found {found} where {expected} belongs")]
    Reordered {
        /// Number that belongs here.
        expected: u64,
        /// Number that is here.
        found: u64,
    },
    /// The file ends before the checkpoint.
    #[error("the end was cut: the last record is {last}, the checkpoint {checkpoint}")]
    Truncated {
        /// Last number in the file.
        last: u64,
        /// Number of the checkpoint.
        checkpoint: u64,
    },
    /// The record of the checkpoint has another hash.
    #[error("the log was rewritten: record {seq} is not the one of the checkpoint")]
    Rewritten {
        /// Number of the checkpoint.
        seq: u64,
    },
    /// The checkpoint lies in a gap or before the first record.
    #[error("the file does not hold record {seq} of the checkpoint")]
    CheckpointAbsent {
        /// Number of the checkpoint.
        seq: u64,
    },
}

/// Checks a whole log from its first record. See [`verify_with`].
///
/// # Errors
/// As [`verify_with`].
pub fn verify(reader: impl BufRead) -> Result<VerifyReport, VerifyError> {
    verify_with(reader, &VerifyOptions::default())
}

/// Checks every hash and link of a file in one pass, in constant memory.
///
/// # Errors
/// [`VerifyError::Bad`] with the first line that is wrong; [`VerifyError::Io`].
pub fn verify_with(mut reader: impl BufRead, options: &VerifyOptions) -> Result<VerifyReport, VerifyError> {
    let mut check = Check::new(options);
    while let Some(line) = next_line(&mut reader)? {
        check.line += 1;
        if let Err(stop) = check.take(&line) {
            return Err(match stop {
                Stop::Fault(fault, seq) => VerifyError::Bad { line: check.line, seq, fault },
                Stop::Jump { expected, found } => jump(&mut reader, check.line, expected, found)?,
            });
        }
    }
    check.finish()
}

struct Check {
    line: u64,
    at: Checkpoint,
    /// Line of the first of the unreadable lines right before this one, and their number.
    unreadable: Option<(u64, u64)>,
    torn: bool,
    time: Option<jiff::Timestamp>,
    seen_checkpoint: bool,
    checkpoint: Option<Checkpoint>,
    report: VerifyReport,
}

enum Stop {
    Fault(Fault, Option<u64>),
    Jump { expected: u64, found: u64 },
}

impl Check {
    fn new(options: &VerifyOptions) -> Self {
        let report =
            VerifyReport { records: 0, first_seq: None, last: None, gaps: Vec::new(), clock_steps_back: 0 };
        Self {
            line: 0,
            at: options.after.unwrap_or(Checkpoint::GENESIS),
            unreadable: None,
            torn: false,
            time: None,
            seen_checkpoint: false,
            checkpoint: options.checkpoint,
            report,
        }
    }

    fn take(&mut self, line: &[u8]) -> Result<(), Stop> {
        let (record, at) = match read(line) {
            Read::Sound(record, at) => (record, at),
            Read::Edited(at) => return Err(self.fault(Fault::Edited { seq: at.seq }, Some(at.seq))),
            Read::Unreadable => {
                self.torn = !line.ends_with(b"\n");
                let (first, count) = self.unreadable.unwrap_or((self.line, 0));
                self.unreadable = Some((first, count + 1));
                return Ok(());
            }
        };
        let note = gap_note(&record);
        if let Some((first, count)) = self.unreadable.take()
            && note.as_ref().is_none_or(|n| n.unreadable_lines != count)
        {
            self.line = first;
            return Err(Stop::Fault(Fault::Unreadable, None));
        }
        self.follows(&record, at, note.as_ref())?;
        if self.checkpoint.is_some_and(|c| c.seq == at.seq && c.hash != at.hash) {
            return Err(Stop::Fault(Fault::Rewritten { seq: at.seq }, Some(at.seq)));
        }
        self.count(&record, at);
        Ok(())
    }

    fn follows(&self, record: &AuditRecord, at: Checkpoint, note: Option<&GapNote>) -> Result<(), Stop> {
        let expected = self.at.seq + 1;
        if at.seq < expected {
            return Err(Stop::Fault(Fault::Reordered { expected, found: at.seq }, Some(at.seq)));
        }
        if at.seq > expected {
            return match note {
                Some(note) if note.covers(self.at.seq, at.seq) => Ok(()),
                _ => Err(Stop::Jump { expected, found: at.seq }),
            };
        }
        match record.prev_hash == self.at.hex() {
            true => Ok(()),
            false => Err(Stop::Fault(Fault::Broken { seq: at.seq }, Some(at.seq))),
        }
    }

    fn count(&mut self, record: &AuditRecord, at: Checkpoint) {
        self.at = at;
        self.report.records += 1;
        self.report.first_seq.get_or_insert(at.seq);
        self.report.last = Some(at);
        self.report.clock_steps_back += u64::from(self.time.is_some_and(|t| record.time < t));
        self.time = Some(record.time);
        if record.event == AuditEvent::AuditGap {
            let detail = record.detail.clone().unwrap_or_default();
            self.report.gaps.push(Gap { seq: at.seq, detail });
        }
        self.seen_checkpoint |= self.checkpoint == Some(at);
    }

    fn finish(self) -> Result<VerifyReport, VerifyError> {
        let bad = |line, seq, fault| Err(VerifyError::Bad { line, seq, fault });
        if let Some((first, count)) = self.unreadable {
            return match self.torn && count == 1 {
                true => bad(first, None, Fault::Torn),
                false => bad(first, None, Fault::Unreadable),
            };
        }
        let Some(Checkpoint { seq, .. }) = self.checkpoint.filter(|_| !self.seen_checkpoint) else {
            return Ok(self.report);
        };
        if seq > self.at.seq {
            return bad(self.line, Some(seq), Fault::Truncated { last: self.at.seq, checkpoint: seq });
        }
        bad(self.line, Some(seq), Fault::CheckpointAbsent { seq })
    }

    /// A line that is wrong by itself; unreadable ones right before it came first.
    fn fault(&mut self, fault: Fault, seq: Option<u64>) -> Stop {
        match self.unreadable {
            Some((first, _)) => {
                self.line = first;
                Stop::Fault(Fault::Unreadable, None)
            }
            None => Stop::Fault(fault, seq),
        }
    }
}

/// Numbers were skipped: if the skipped record comes later, it was moved; if not, removed.
fn jump(reader: &mut impl BufRead, line: u64, expected: u64, found: u64) -> Result<VerifyError, VerifyError> {
    let removed = VerifyError::Bad {
        line,
        seq: Some(expected),
        fault: Fault::Removed { first: expected, last: found - 1 },
    };
    while let Some(next) = next_line(reader)? {
        if let Read::Sound(_, at) = read(&next)
            && at.seq == expected
        {
            let fault = Fault::Reordered { expected, found };
            return Ok(VerifyError::Bad { line, seq: Some(found), fault });
        }
    }
    Ok(removed)
}

fn gap_note(record: &AuditRecord) -> Option<GapNote> {
    let detail = record.detail.as_deref().filter(|_| record.event == AuditEvent::AuditGap)?;
    GapNote::parse(detail)
}

/// The next line with its end; of an overlong one only the beginning and the end.
fn next_line(reader: &mut impl BufRead) -> io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    loop {
        let chunk = match reader.fill_buf() {
            Ok(chunk) => chunk,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        let end = chunk.iter().position(|b| *b == b'\n');
        let taken = end.map_or(chunk.len(), |at| at + 1);
        if taken == 0 {
            return Ok((!line.is_empty()).then_some(line));
        }
        let kept = taken.min(MAX_LINE.saturating_sub(line.len()));
        line.extend_from_slice(&chunk[..kept]);
        if end.is_some() && kept < taken {
            line.push(b'\n');
        }
        reader.consume(taken);
        if end.is_some() {
            return Ok(Some(line));
        }
    }
}

#[cfg(test)]
mod tests;
