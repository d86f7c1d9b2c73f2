//! What a check of a log finds: what a sound one holds, or the first thing that is wrong.

use std::io;

use crate::audit::chain::Checkpoint;

/// What a sound file holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifyReport {
    /// Number of records.
    pub records: u64,
    /// Number of the first record, if there is one.
    pub first_seq: Option<u64>,
    /// The last record: a checkpoint to keep.
    pub last: Option<Checkpoint>,
    /// The gaps that the log itself recorded: the first of them, as far as [`GAPS_KEPT`] goes.
    pub gaps: Vec<Gap>,
    /// How many it recorded in all.
    pub gap_records: u64,
    /// How often the clock stepped back between two records.
    pub clock_steps_back: u64,
    /// What was found of the signed checkpoints, if any were given.
    pub signed: Option<SignedReport>,
}

/// How many gaps a report names. A log that somebody made up can hold millions.
pub const GAPS_KEPT: usize = 1_000;
/// How long their texts may be together, in bytes: a real one is as long as a path and some numbers.
const GAP_TEXTS: usize = 1 << 20;

impl VerifyReport {
    /// Keeps a gap, or counts it.
    pub(super) fn gap(&mut self, seq: u64, detail: &str) {
        self.gap_records += 1;
        let kept = || self.gaps.iter().map(|gap| gap.detail.len()).sum::<usize>();
        if self.gaps.len() < GAPS_KEPT && kept() + detail.len() <= GAP_TEXTS {
            self.gaps.push(Gap { seq, detail: detail.to_owned() });
        }
    }
}

/// How a sound log agrees with its signed checkpoints.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SignedReport {
    /// Checkpoints whose record is there and the same.
    pub checked: u64,
    /// Of these, those whose tree could be computed too: all, unless the first records are in files not given.
    pub roots: u64,
    /// Checkpoints of records before the first one given: nothing can be said about them.
    pub before: u64,
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
        /// Which of the files, from 0.
        file: usize,
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
    /// The log was rewritten since a checkpoint of it was signed.
    #[error("the log was rewritten: records {from} to {seq} are not those that were signed")]
    Resealed {
        /// First record that may be another: the one after the last checkpoint that agrees.
        from: u64,
        /// Number of the checkpoint's record.
        seq: u64,
    },
    /// The checkpoint lies in a gap or before the first record.
    #[error("the file does not hold record {seq} of the checkpoint")]
    CheckpointAbsent {
        /// Number of the checkpoint.
        seq: u64,
    },
}
