//! A log beside the signed checkpoints of it.

use super::finding::{Fault, SignedReport};
use crate::audit::chain::Checkpoint;
use crate::audit::merkle::{Frontier, leaf_hash};
use crate::audit::series::SignedSeries;
use crate::audit::signed::SignedCheckpoint;

/// The signed checkpoints that are still to come.
#[derive(Debug)]
pub(super) struct SignedCheck {
    to_come: std::vec::IntoIter<SignedCheckpoint>,
    /// Number of the first record of their tree.
    first: u64,
    /// The tree so far, once its first record was met.
    tree: Option<Frontier>,
    /// The last record that agreed with a checkpoint.
    agreed: u64,
    report: SignedReport,
}

impl SignedCheck {
    pub(super) fn new(series: SignedSeries) -> Self {
        let first = series.first();
        let to_come = series.into_checkpoints().into_iter();
        Self { to_come, first, tree: None, agreed: 0, report: SignedReport::default() }
    }

    /// Compares a record with the checkpoints of it. `opening`: it is the first one given.
    pub(super) fn take(&mut self, at: Checkpoint, line: &[u8], opening: bool) -> Result<(), Fault> {
        if at.seq == self.first {
            self.tree = Some(Frontier::default());
        }
        if let Some(tree) = &mut self.tree {
            tree.push(leaf_hash(line));
        }
        while let Some(next) = self.to_come.as_slice().first().filter(|next| next.head.seq <= at.seq) {
            if next.head.seq < at.seq {
                if !opening {
                    return Err(Fault::CheckpointAbsent { seq: next.head.seq });
                }
                self.report.before += 1;
            } else {
                let rewritten = Fault::Resealed { from: self.agreed + 1, seq: at.seq };
                if next.head != at {
                    return Err(rewritten);
                }
                if let Some(tree) = &self.tree {
                    if (tree.size(), tree.root()) != (next.size, next.root) {
                        return Err(rewritten);
                    }
                    self.report.roots += 1;
                }
                self.report.checked += 1;
            }
            self.agreed = next.head.seq;
            self.to_come.next();
        }
        Ok(())
    }

    /// The number of the newest checkpoint, when the log does not hold it.
    pub(super) fn finish(self) -> Result<SignedReport, u64> {
        match self.to_come.as_slice().last() {
            Some(newest) => Err(newest.head.seq),
            None if self.report.checked == 0 && self.report.before > 0 => Err(self.agreed),
            None => Ok(self.report),
        }
    }
}
