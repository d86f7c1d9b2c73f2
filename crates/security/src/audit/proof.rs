//! Proofs about a log that hold without the log: that a record is in it, and that it only grew.

use std::io::{self, BufRead};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use super::chain::{Read, read};
use super::merkle::{Hash, consistency, includes, inclusion, is_consistent, leaf_hash, root};
use super::verify::next_line;

/// A proof, as JSON; hashes are in base64 as in checkpoints.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "proof", rename_all = "lowercase", deny_unknown_fields)]
pub enum Proof {
    /// A record is in the log.
    Inclusion {
        /// The record's line.
        record: String,
        /// Its place in the tree, from 0.
        index: u64,
        /// The tree: how many records, and its root.
        #[serde(flatten)]
        tree: Tree,
        /// The hashes from leaf to root (RFC 9162, 2.1.3).
        path: Vec<Base64Hash>,
    },
    /// The log begins with what it was before.
    Consistency {
        /// The tree before.
        from: Tree,
        /// The tree now.
        to: Tree,
        /// The hashes between them (RFC 9162, 2.1.4).
        path: Vec<Base64Hash>,
    },
}

/// A tree, as a checkpoint names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tree {
    /// How many records it has.
    pub size: u64,
    /// Its root.
    pub root: Base64Hash,
}

/// A hash that is written in base64.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Base64Hash(pub Hash);

/// Why there is no proof.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProofError {
    /// A file cannot be read.
    #[error("the audit log cannot be read: {0}")]
    Io(#[from] io::Error),
    /// A line is no record as it was written.
    #[error("line {line} of file {file} is no sound record: run `taskiq-flow audit verify` first")]
    Unsound {
        /// Which of the files, from 1.
        file: usize,
        /// The line, from 1.
        line: u64,
    },
    /// There is no such record.
    #[error("there is no record {seq} among the first {size} records of these files")]
    NoRecord {
        /// Its number.
        seq: u64,
        /// How many records were looked at.
        size: u64,
    },
    /// The tree has no such beginning.
    #[error("a proof needs between 1 and {found} records; these files have no tree of {asked}")]
    NoTree {
        /// What was asked for.
        asked: u64,
        /// How many records there are.
        found: u64,
    },
}

/// The leaves of a log, for proofs: 32 bytes for each record, and one record's line.
#[derive(Debug)]
pub struct Leaves {
    hashes: Vec<Hash>,
    /// The record that was asked for, and its place.
    wanted: Option<(usize, String)>,
}

impl Leaves {
    /// Reads the files of a log, the oldest first. The first record is the first of the tree. `wanted`: the number of
    /// the record that is to be proved. Lines that a gap record explains are passed over; the chain is not checked.
    ///
    /// # Errors
    /// [`ProofError::Io`], [`ProofError::Unsound`].
    pub fn read<R: BufRead>(
        files: impl IntoIterator<Item = io::Result<R>>,
        wanted: Option<u64>,
    ) -> Result<Self, ProofError> {
        let mut leaves = Self { hashes: Vec::new(), wanted: None };
        for (file, reader) in files.into_iter().enumerate() {
            let mut reader = reader?;
            let mut number = 0;
            while let Some(line) = next_line(&mut reader)? {
                number += 1;
                let at = match read(&line) {
                    Read::Sound(_, at) => at,
                    Read::Edited(_) => return Err(ProofError::Unsound { file: file + 1, line: number }),
                    Read::Unreadable => continue,
                };
                let line = line.strip_suffix(b"\n").unwrap_or(&line);
                if wanted == Some(at.seq) {
                    let text = String::from_utf8_lossy(line).into_owned();
                    leaves.wanted = Some((leaves.hashes.len(), text));
                }
                leaves.hashes.push(leaf_hash(line));
            }
        }
        Ok(leaves)
    }

    /// How many records there are.
    pub fn size(&self) -> u64 {
        self.hashes.len() as u64
    }

    /// Proves that the wanted record is in the tree of the first `size` records.
    ///
    /// # Errors
    /// [`ProofError::NoRecord`], [`ProofError::NoTree`].
    pub fn prove_inclusion(&self, seq: u64, size: u64) -> Result<Proof, ProofError> {
        let tree = self.first(size)?;
        let absent = || ProofError::NoRecord { seq, size };
        let (index, record) = self.wanted.as_ref().ok_or_else(absent)?;
        let path = inclusion(tree, *index).ok_or_else(absent)?;
        Ok(Proof::Inclusion {
            record: record.clone(),
            index: *index as u64,
            tree: Tree { size, root: Base64Hash(root(tree)) },
            path: path.into_iter().map(Base64Hash).collect(),
        })
    }

    /// Proves that the tree of the first `to` records begins with that of the first `from`.
    ///
    /// # Errors
    /// [`ProofError::NoTree`].
    pub fn prove_consistency(&self, from: u64, to: u64) -> Result<Proof, ProofError> {
        let tree = self.first(to)?;
        let before = self.first(from)?;
        let path = consistency(tree, before.len()).ok_or(ProofError::NoTree { asked: from, found: to })?;
        Ok(Proof::Consistency {
            from: Tree { size: from, root: Base64Hash(root(before)) },
            to: Tree { size: to, root: Base64Hash(root(tree)) },
            path: path.into_iter().map(Base64Hash).collect(),
        })
    }

    fn first(&self, size: u64) -> Result<&[Hash], ProofError> {
        let no_tree = ProofError::NoTree { asked: size, found: self.size() };
        let count = usize::try_from(size).ok().filter(|count| *count > 0);
        count.and_then(|count| self.hashes.get(..count)).ok_or(no_tree)
    }
}

impl Proof {
    /// Whether it proves what it says about its trees. Whether these are the log's is for a signed checkpoint to say.
    pub fn holds(&self) -> bool {
        let hashes = |path: &[Base64Hash]| path.iter().map(|hash| hash.0).collect::<Vec<_>>();
        match self {
            Self::Inclusion { record, index, tree, path } => {
                let sound = matches!(read(record.as_bytes()), Read::Sound(..));
                let leaf = leaf_hash(record.as_bytes());
                sound && includes(&leaf, *index, tree.size, &hashes(path), &tree.root.0)
            }
            Self::Consistency { from, to, path } => {
                is_consistent(from.size, &from.root.0, to.size, &to.root.0, &hashes(path))
            }
        }
    }

    /// The trees it speaks of.
    pub fn trees(&self) -> Vec<Tree> {
        match self {
            Self::Inclusion { tree, .. } => vec![*tree],
            Self::Consistency { from, to, .. } => vec![*from, *to],
        }
    }
}

impl From<Base64Hash> for String {
    fn from(hash: Base64Hash) -> Self {
        STANDARD.encode(hash.0)
    }
}

impl TryFrom<String> for Base64Hash {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let bytes = STANDARD.decode(text).ok().and_then(|bytes| bytes.try_into().ok());
        bytes.map(Self).ok_or("expected 32 bytes in base64")
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::super::chain::{Checkpoint, seal};
    use super::super::entry::AuditEntry;
    use super::super::event::{AuditEvent, Outcome};
    use super::*;

    fn log(count: u64) -> String {
        let mut at = Checkpoint::GENESIS;
        let mut text = String::new();
        for _ in 0..count {
            let entry = AuditEntry::new(AuditEvent::PipelineRead, Outcome::Success);
            let line = seal(&entry, Timestamp::UNIX_EPOCH, at).unwrap();
            text.push_str(&String::from_utf8(line.bytes).unwrap());
            at = line.at;
        }
        text
    }

    fn leaves(text: &str, wanted: Option<u64>) -> Result<Leaves, ProofError> {
        Leaves::read([Ok(text.as_bytes())], wanted)
    }

    #[test]
    fn proofs_are_written_read_and_hold() {
        let text = log(20);
        for seq in [1, 7, 20] {
            let proof = leaves(&text, Some(seq)).unwrap().prove_inclusion(seq, 20).unwrap();
            assert!(proof.holds());
            let read: Proof = serde_json::from_str(&serde_json::to_string(&proof).unwrap()).unwrap();
            assert_eq!(read, proof);
            let Proof::Inclusion { record, index, tree, path } = proof else { panic!() };
            let other = record.replace("success", "failure");
            assert!(!Proof::Inclusion { record: other, index, tree, path: path.clone() }.holds());
            assert!(!Proof::Inclusion { record, index: index ^ 1, tree, path }.holds());
        }
        for from in [1, 8, 13, 20] {
            let proof = leaves(&text, None).unwrap().prove_consistency(from, 20).unwrap();
            assert!(proof.holds());
            let read: Proof = serde_json::from_str(&serde_json::to_string(&proof).unwrap()).unwrap();
            let Proof::Consistency { from, to, path } = read else { panic!() };
            let other = Tree { root: Base64Hash([1; 32]), ..from };
            assert!(!Proof::Consistency { from: other, to, path }.holds());
        }
    }

    #[test]
    fn what_cannot_be_proved_is_said() {
        let text = log(5);
        let all = leaves(&text, Some(5)).unwrap();
        assert!(matches!(all.prove_inclusion(5, 4), Err(ProofError::NoRecord { seq: 5, size: 4 })));
        assert!(matches!(all.prove_inclusion(5, 9), Err(ProofError::NoTree { asked: 9, found: 5 })));
        assert!(matches!(all.prove_consistency(0, 5), Err(ProofError::NoTree { .. })));
        assert!(matches!(all.prove_consistency(5, 4), Err(ProofError::NoTree { .. })));
        let absent = leaves(&text, Some(6)).unwrap();
        assert!(matches!(absent.prove_inclusion(6, 5), Err(ProofError::NoRecord { .. })));
        let edited = text.replacen("success", "failure", 2);
        assert!(matches!(leaves(&edited, None), Err(ProofError::Unsound { file: 1, line: 1 })));
        let torn = leaves(&format!("{text}torn"), None).unwrap();
        assert_eq!(torn.size(), 5);
    }
}
