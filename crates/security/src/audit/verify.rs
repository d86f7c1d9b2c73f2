//! Checking files: is every record as it was written, in its place, and is the end still there?

mod finding;
mod signed;
#[cfg(test)]
mod tests;

use std::io::{self, BufRead};

use self::signed::SignedCheck;
use super::chain::{Checkpoint, Read, read};
use super::event::AuditEvent;
use super::gap::GapNote;
use super::record::AuditRecord;
use super::series::SignedSeries;

pub use self::finding::{Fault, GAPS_KEPT, Gap, SignedReport, VerifyError, VerifyReport};

/// A record is at most some 40 KB. A longer line than this is no record, and is not kept whole in memory.
pub(super) const MAX_LINE: usize = 1024 * 1024;

/// What a log is compared with.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VerifyOptions {
    /// A place known from elsewhere: the file must hold it.
    pub checkpoint: Option<Checkpoint>,
    /// The last record of the file before this one, when a log was rotated.
    pub after: Option<Checkpoint>,
    /// Signed checkpoints: the log must hold what they say, and not end before the newest.
    pub signed: Option<SignedSeries>,
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
pub fn verify_with(reader: impl BufRead, options: &VerifyOptions) -> Result<VerifyReport, VerifyError> {
    verify_all([Ok(reader)], options)
}

/// Checks the files of a rotated log, the oldest first, as one chain; each is opened when its turn comes.
///
/// # Errors
/// As [`verify_with`].
pub fn verify_all<R: BufRead>(
    files: impl IntoIterator<Item = io::Result<R>>,
    options: &VerifyOptions,
) -> Result<VerifyReport, VerifyError> {
    let mut check = Check::new(options);
    for (file, reader) in files.into_iter().enumerate() {
        let mut reader = reader?;
        check.begin_file(file)?;
        while let Some(line) = next_line(&mut reader)? {
            if let Err(stop) = check.take(&line) {
                return Err(match stop {
                    Stop::Fault(fault, seq) => VerifyError::Bad { file, line: check.line, seq, fault },
                    Stop::Jump { expected, found } => jump(&mut reader, &check, expected, found)?,
                });
            }
        }
    }
    check.finish()
}

/// A walk along a chain, line by line.
#[derive(Debug)]
pub(super) struct Check {
    file: usize,
    line: u64,
    at: Checkpoint,
    /// Line of the first of the unreadable lines right before this one, and their number.
    unreadable: Option<(u64, u64)>,
    torn: bool,
    time: Option<jiff::Timestamp>,
    seen_checkpoint: bool,
    checkpoint: Option<Checkpoint>,
    signed: Option<SignedCheck>,
    report: VerifyReport,
}

/// Why a walk ends before its end.
#[derive(Debug)]
pub(super) enum Stop {
    Fault(Fault, Option<u64>),
    Jump { expected: u64, found: u64 },
}

impl Check {
    pub(super) fn new(options: &VerifyOptions) -> Self {
        let report = VerifyReport {
            records: 0,
            first_seq: None,
            last: None,
            gaps: Vec::new(),
            gap_records: 0,
            clock_steps_back: 0,
            signed: None,
        };
        Self {
            file: 0,
            line: 0,
            at: options.after.unwrap_or(Checkpoint::GENESIS),
            unreadable: None,
            torn: false,
            time: None,
            seen_checkpoint: false,
            checkpoint: options.checkpoint,
            signed: options.signed.clone().map(SignedCheck::new),
            report,
        }
    }

    /// The record the walk has come to.
    pub(super) fn at(&self) -> Checkpoint {
        self.at
    }

    /// Lets go of the gaps that were noted: a walk that never ends must not gather them.
    pub(super) fn forget_gaps(&mut self) {
        self.report.gaps.clear();
    }

    /// Goes on with the next file: none may end in the middle of a line.
    fn begin_file(&mut self, file: usize) -> Result<(), VerifyError> {
        self.unreadable_end()?;
        (self.file, self.line) = (file, 0);
        Ok(())
    }

    /// Takes the next line.
    pub(super) fn take(&mut self, line: &[u8]) -> Result<Option<Checkpoint>, Stop> {
        self.line += 1;
        let (record, at) = match read(line) {
            Read::Sound(record, at) => (record, at),
            Read::Edited(at) => return Err(self.fault(Fault::Edited { seq: at.seq }, Some(at.seq))),
            Read::Unreadable => {
                self.torn = !line.ends_with(b"\n");
                let (first, count) = self.unreadable.unwrap_or((self.line, 0));
                self.unreadable = Some((first, count + 1));
                return Ok(None);
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
        if let Some(signed) = &mut self.signed {
            let line = line.strip_suffix(b"\n").unwrap_or(line);
            signed
                .take(at, line, self.report.records == 0)
                .map_err(|fault| Stop::Fault(fault, Some(at.seq)))?;
        }
        self.count(&record, at);
        Ok(Some(at))
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
            self.report.gap(at.seq, record.detail.as_deref().unwrap_or_default());
        }
        self.seen_checkpoint |= self.checkpoint == Some(at);
    }

    fn finish(mut self) -> Result<VerifyReport, VerifyError> {
        self.unreadable_end()?;
        let bad =
            |seq, fault| Err(VerifyError::Bad { file: self.file, line: self.line, seq: Some(seq), fault });
        let last = self.at.seq;
        let absent = |seq| match seq > last {
            true => Fault::Truncated { last, checkpoint: seq },
            false => Fault::CheckpointAbsent { seq },
        };
        if let Some(Checkpoint { seq, .. }) = self.checkpoint.filter(|_| !self.seen_checkpoint) {
            return bad(seq, absent(seq));
        }
        if let Some(signed) = self.signed.take() {
            match signed.finish() {
                Ok(report) => self.report.signed = Some(report),
                Err(seq) => return bad(seq, absent(seq)),
            }
        }
        Ok(self.report)
    }

    /// Lines at the end of a file that no record explains.
    fn unreadable_end(&mut self) -> Result<(), VerifyError> {
        let Some((line, count)) = self.unreadable.take() else { return Ok(()) };
        let fault = if self.torn && count == 1 { Fault::Torn } else { Fault::Unreadable };
        Err(VerifyError::Bad { file: self.file, line, seq: None, fault })
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
fn jump(
    reader: &mut impl BufRead,
    check: &Check,
    expected: u64,
    found: u64,
) -> Result<VerifyError, VerifyError> {
    let (file, line) = (check.file, check.line);
    let removed = VerifyError::Bad {
        file,
        line,
        seq: Some(expected),
        fault: Fault::Removed { first: expected, last: found - 1 },
    };
    while let Some(next) = next_line(reader)? {
        if let Read::Sound(_, at) = read(&next)
            && at.seq == expected
        {
            let fault = Fault::Reordered { expected, found };
            return Ok(VerifyError::Bad { file, line, seq: Some(found), fault });
        }
    }
    Ok(removed)
}

fn gap_note(record: &AuditRecord) -> Option<GapNote> {
    let detail = record.detail.as_deref().filter(|_| record.event == AuditEvent::AuditGap)?;
    GapNote::parse(detail)
}

/// The next line with its end; of an overlong one only the beginning and the end.
pub(super) fn next_line(reader: &mut impl BufRead) -> io::Result<Option<Vec<u8>>> {
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
