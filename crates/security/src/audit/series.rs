//! A series of signed checkpoints: does each follow on the one before, and had its key the right to sign it?
//!
//! A key signs from where it took over. The first one is what whoever checks trusts; every later one must have been
//! named by the key before it, in a checkpoint that the older key signed. So a stolen newer key cannot vouch for
//! records from before its time, which is how a sealed log was rewritten unnoticed in CVE-2023-31439.

use super::signed::{SignedCheckpoint, SignedCheckpointError, VerifyKey};

/// Checkpoints of one log, oldest first, all of them found good. Never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedSeries {
    checkpoints: Vec<SignedCheckpoint>,
    keys: Vec<KeyRange>,
}

/// What a key vouches for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyRange {
    /// The key.
    pub key: VerifyKey,
    /// The size of the tree at its first checkpoint.
    pub from: u64,
    /// The size of the tree at its last checkpoint so far.
    pub to: u64,
}

/// The first checkpoint that is not good.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("checkpoint {line}: {fault}")]
pub struct SeriesError {
    /// Its line, from 1.
    pub line: u64,
    /// What is wrong with it.
    pub fault: SeriesFault,
}

/// What is wrong with a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SeriesFault {
    /// It is none.
    #[error(transparent)]
    Unreadable(#[from] SignedCheckpointError),
    /// There is none at all.
    #[error("there is no checkpoint")]
    Empty,
    /// It is of another log.
    #[error("it is of the log {found}, those before of {expected}")]
    OtherLog {
        /// The log of the first.
        expected: String,
        /// Its log.
        found: String,
    },
    /// It was changed, or signed by a key that nobody named.
    #[error("its signature is not that of the key that was to sign it")]
    Signature,
    /// It was signed by a key whose time had not come, or was over.
    #[error(
        "it was signed by a key whose turn it was not: a later key vouches for nothing older, an earlier one for nothing newer"
    )]
    KeyOutOfTurn,
    /// It says that the log was shorter than before.
    #[error(
        "it speaks of {found} records after one that spoke of {before}: the log was cut, or checkpoints were reordered"
    )]
    Shrunk {
        /// The size before.
        before: u64,
        /// Its size.
        found: u64,
    },
    /// Two checkpoints of the same size differ.
    #[error(
        "it contradicts the one before, which is of the same {size} records: there are two versions of the log"
    )]
    Forked {
        /// The size of both.
        size: u64,
    },
}

impl SignedSeries {
    /// Checks a series, one checkpoint a line. `first_key` is what is trusted.
    ///
    /// # Errors
    /// [`SeriesError`] names the first that is not good.
    pub fn check(text: &str, first_key: VerifyKey) -> Result<Self, SeriesError> {
        let mut series = Self { checkpoints: Vec::new(), keys: Vec::new() };
        let mut key = first_key;
        let mut line = 0;
        for text in text.lines() {
            line += 1;
            if text.trim().is_empty() {
                continue;
            }
            let bad = |fault| SeriesError { line, fault };
            let next = SignedCheckpoint::from_json(text).map_err(|error| bad(error.into()))?;
            series.follows(&next, &key, first_key).map_err(bad)?;
            match series.keys.last_mut().filter(|range| range.key == key) {
                Some(range) => range.to = next.size,
                None => series.keys.push(KeyRange { key, from: next.size, to: next.size }),
            }
            key = next.successor.unwrap_or(key);
            series.checkpoints.push(next);
        }
        match series.checkpoints.is_empty() {
            true => Err(SeriesError { line, fault: SeriesFault::Empty }),
            false => Ok(series),
        }
    }

    fn follows(
        &self,
        next: &SignedCheckpoint,
        key: &VerifyKey,
        first_key: VerifyKey,
    ) -> Result<(), SeriesFault> {
        if !next.is_signed_by(key) {
            let named = self.checkpoints.iter().filter_map(|checkpoint| checkpoint.successor);
            // Those that will be named are known only to whoever reads on; their checkpoints are out of turn as well.
            let known = named.chain([first_key]).any(|other| next.is_signed_by(&other));
            return Err(if known { SeriesFault::KeyOutOfTurn } else { SeriesFault::Signature });
        }
        let Some(before) = self.checkpoints.last() else { return Ok(()) };
        if next.origin != before.origin {
            let (expected, found) = (before.origin.clone(), next.origin.clone());
            return Err(SeriesFault::OtherLog { expected, found });
        }
        if next.size < before.size {
            return Err(SeriesFault::Shrunk { before: before.size, found: next.size });
        }
        let same = (next.root, next.head) == (before.root, before.head);
        if next.first != before.first || (next.size == before.size && !same) {
            return Err(SeriesFault::Forked { size: next.size });
        }
        Ok(())
    }

    /// The checkpoints, oldest first.
    pub fn checkpoints(&self) -> &[SignedCheckpoint] {
        &self.checkpoints
    }

    /// Which key vouches for what, in the order of their turns.
    pub fn keys(&self) -> &[KeyRange] {
        &self.keys
    }

    /// Number of the first record of the tree.
    pub(super) fn first(&self) -> u64 {
        self.checkpoints.first().map_or(1, |checkpoint| checkpoint.first)
    }

    pub(super) fn into_checkpoints(self) -> Vec<SignedCheckpoint> {
        self.checkpoints
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::super::chain::Checkpoint;
    use super::super::signed::SigningKey;
    use super::*;

    fn key() -> SigningKey {
        SigningKey::generate().unwrap().0
    }

    fn signed(by: &SigningKey, size: u64, successor: Option<&SigningKey>) -> SignedCheckpoint {
        let unsigned = SignedCheckpoint {
            origin: "log".into(),
            size,
            root: [size as u8; 32],
            first: 1,
            head: Checkpoint { seq: size, hash: [size as u8; 32] },
            time: Timestamp::UNIX_EPOCH,
            successor: successor.map(SigningKey::verify_key),
            key_id: [0; 4],
            signature: [0; 64],
        };
        by.sign(unsigned).unwrap()
    }

    fn check(checkpoints: &[SignedCheckpoint], trusted: &SigningKey) -> Result<SignedSeries, SeriesError> {
        let lines: Vec<String> = checkpoints.iter().map(SignedCheckpoint::to_json).collect();
        SignedSeries::check(&lines.join("\n"), trusted.verify_key())
    }

    #[test]
    fn keys_take_turns() {
        let (a, b) = (key(), key());
        let good = [signed(&a, 3, None), signed(&a, 5, Some(&b)), signed(&b, 5, None), signed(&b, 9, None)];
        let series = check(&good, &a).unwrap();
        let range = |key: &SigningKey, from, to| KeyRange { key: key.verify_key(), from, to };
        assert_eq!(series.keys(), [range(&a, 3, 5), range(&b, 5, 9)]);
        assert_eq!(series.checkpoints().len(), 4);

        let fault = |checkpoints: &[SignedCheckpoint], trusted: &SigningKey| {
            let error = check(checkpoints, trusted).unwrap_err();
            (error.line, error.fault)
        };
        // The newer key alone vouches for nothing, nor before its turn; the older one for nothing after it.
        assert_eq!(fault(&good[2..], &a), (1, SeriesFault::Signature));
        assert_eq!(fault(&[good[0].clone(), good[3].clone()], &a), (2, SeriesFault::Signature));
        assert_eq!(fault(&[&good[..3], &[signed(&a, 9, None)]].concat(), &a), (4, SeriesFault::KeyOutOfTurn));
        assert_eq!(fault(&good, &b), (1, SeriesFault::Signature));
    }

    #[test]
    fn a_series_only_grows() {
        let a = key();
        let fault = |checkpoints: &[SignedCheckpoint]| check(checkpoints, &a).unwrap_err().fault;
        let (three, five) = (signed(&a, 3, None), signed(&a, 5, None));
        assert_eq!(fault(&[five.clone(), three.clone()]), SeriesFault::Shrunk { before: 5, found: 3 });
        let mut other = signed(&a, 5, None);
        other.root = [77; 32];
        let other = a.sign(other).unwrap();
        assert_eq!(fault(&[five.clone(), other]), SeriesFault::Forked { size: 5 });
        let mut foreign = signed(&a, 9, None);
        foreign.origin = "other".into();
        let foreign = a.sign(foreign).unwrap();
        assert!(matches!(fault(&[five.clone(), foreign]), SeriesFault::OtherLog { .. }));
        let changed = SignedCheckpoint { size: 4, ..five.clone() };
        assert_eq!(fault(&[three.clone(), changed]), SeriesFault::Signature);
        assert_eq!(fault(&[]), SeriesFault::Empty);
        assert!(matches!(
            SignedSeries::check("x", a.verify_key()).unwrap_err().fault,
            SeriesFault::Unreadable(_)
        ));
        assert!(check(&[three, five.clone(), five], &a).is_ok());
    }
}
