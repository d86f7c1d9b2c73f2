//! The hash chain: how a record is sealed, and how a line is read back.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use jiff::Timestamp;
use sha2::{Digest, Sha256};

use super::entry::AuditEntry;
use super::line::LineWriter;
use super::record::{AuditRecord, RecordView};

const HASH_MEMBER: &[u8] = b",\"hash\":\"";
/// The member, 64 digits, a quote and the closing brace.
const HASH_TAIL: usize = HASH_MEMBER.len() + 64 + 2;
/// The largest number that every JSON reader keeps exactly; no log gets there.
pub(crate) const MAX_SEQ: u64 = 1 << 53;

/// A place in the chain: the number and hash of a record. Written `SEQ:HASH`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Checkpoint {
    /// Number of the record; zero before the first.
    pub seq: u64,
    /// Its hash.
    pub hash: [u8; 32],
}

/// A text that is no checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("this is no checkpoint; expected the record's seq, a colon and its hash of 64 hexadecimal digits")]
pub struct CheckpointError;

/// A sealed record, ready to be written.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) at: Checkpoint,
    /// With its line end.
    pub(crate) bytes: Vec<u8>,
}

/// What a line turned out to be.
#[derive(Debug)]
pub(crate) enum Read {
    /// A record whose hash is its own.
    Sound(Box<AuditRecord>, Checkpoint),
    /// A record whose hash is another's: the place it claims.
    Edited(Checkpoint),
    /// No record.
    Unreadable,
}

impl Checkpoint {
    /// The place before the first record.
    pub const GENESIS: Self = Self { seq: 0, hash: [0; 32] };

    pub(crate) fn hex(&self) -> String {
        digits(&self.hash).as_str().to_owned()
    }
}

impl fmt::Display for Checkpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.seq, self.hex())
    }
}

impl FromStr for Checkpoint {
    type Err = CheckpointError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (seq, digits) = text.trim().split_once(':').ok_or(CheckpointError)?;
        let mut hash = [0; 32];
        hex::decode_to_slice(digits, &mut hash).map_err(|_| CheckpointError)?;
        Ok(Self { seq: seq.parse().map_err(|_| CheckpointError)?, hash })
    }
}

/// Makes the record after `before` out of an entry, and its line.
pub(crate) fn seal_with(
    writer: &mut LineWriter,
    entry: &AuditEntry,
    time: Timestamp,
    before: Checkpoint,
) -> serde_json::Result<Line> {
    let names = entry.principal.as_ref().map(|principal| principal.names());
    let prev_hash = digits(&before.hash);
    let seq = before.seq + 1;
    let view = RecordView::new(entry, names.as_ref(), seq, time, prev_hash.as_str());
    let mut bytes = writer.write(&view)?;
    let hash: [u8; 32] = Sha256::digest(&bytes).into();
    bytes.pop();
    bytes.extend_from_slice(HASH_MEMBER);
    bytes.extend_from_slice(&digits(&hash).0);
    bytes.extend_from_slice(b"\"}\n");
    Ok(Line { at: Checkpoint { seq, hash }, bytes })
}

/// [`seal_with`], for a single record.
#[cfg(test)]
pub(crate) fn seal(entry: &AuditEntry, time: Timestamp, before: Checkpoint) -> serde_json::Result<Line> {
    seal_with(&mut LineWriter::default(), entry, time, before)
}

/// A hash in hexadecimal.
struct Digits([u8; 64]);

impl Digits {
    fn as_str(&self) -> &str {
        // Hexadecimal digits are ASCII.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

fn digits(hash: &[u8; 32]) -> Digits {
    let mut digits = Digits([0; 64]);
    // It fails only where the lengths do not fit, and these are types.
    let _ = hex::encode_to_slice(hash, &mut digits.0);
    digits
}

/// The bytes of several lines, to be written at once.
pub(crate) fn joined(lines: &[Arc<Line>]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(lines.iter().map(|line| line.bytes.len()).sum());
    lines.iter().for_each(|line| bytes.extend_from_slice(&line.bytes));
    bytes
}

/// Reads a line, with or without its end.
pub(crate) fn read(line: &[u8]) -> Read {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    let Ok(record) = serde_json::from_slice::<AuditRecord>(line) else {
        return Read::Unreadable;
    };
    let mut hash = [0; 32];
    if record.logger != super::LOGGER
        || record.seq > MAX_SEQ
        || hex::decode_to_slice(&record.hash, &mut hash).is_err()
    {
        return Read::Unreadable;
    }
    let at = Checkpoint { seq: record.seq, hash };
    match hash_of(line) {
        // The digits too must be as written here: a second spelling of one record is an edit.
        Some(real) if real == hash && digits(&hash).as_str() == record.hash => {
            Read::Sound(Box::new(record), at)
        }
        _ => Read::Edited(at),
    }
}

fn hash_of(line: &[u8]) -> Option<[u8; 32]> {
    let (body, tail) = line.split_at_checked(line.len().checked_sub(HASH_TAIL)?)?;
    tail.starts_with(HASH_MEMBER).then(|| {
        let mut hasher = Sha256::new();
        hasher.update(body);
        hasher.update(b"}");
        hasher.finalize().into()
    })
}

#[cfg(test)]
mod tests {
    use super::super::event::{AuditEvent, Outcome};
    use super::*;

    fn sealed() -> Line {
        let entry = AuditEntry::new(AuditEvent::PipelineRead, Outcome::Success).pipeline_id("etl\n");
        seal(&entry, Timestamp::UNIX_EPOCH, Checkpoint::GENESIS).unwrap()
    }

    #[test]
    fn the_hash_can_be_computed_without_this_crate() {
        let line = String::from_utf8(sealed().bytes).unwrap();
        // Take the last member off, as `sed 's/,"hash":"[0-9a-f]*"}$/}/' | sha256sum` would.
        let (body, hash) = line.trim_end().rsplit_once(",\"hash\":\"").unwrap();
        assert_eq!(hex::encode(Sha256::digest(format!("{body}}}"))), hash.trim_end_matches("\"}"));
        let keys: Vec<_> = serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(&line)
            .unwrap()
            .keys()
            .cloned()
            .collect();
        assert_eq!(
            keys.join(" "),
            "logger seq time event outcome principal action pipeline_id run_id ip request_id method path status \
             detail prev_hash hash"
        );
    }

    #[test]
    fn every_changed_byte_shows() {
        let line = sealed();
        assert!(matches!(read(&line.bytes), Read::Sound(_, at) if at == line.at));
        for at in 0..line.bytes.len() - 1 {
            for bit in [1u8, 0x20] {
                let mut changed = line.bytes.clone();
                changed[at] ^= bit;
                assert!(!matches!(read(&changed), Read::Sound(..)), "byte {at}");
            }
        }
        assert!(matches!(read(&line.bytes[..line.bytes.len() - 2]), Read::Unreadable));
        assert!(matches!(read(b""), Read::Unreadable));
        assert!(matches!(read(b"{}"), Read::Unreadable));
    }

    #[test]
    fn a_checkpoint_reads_back() {
        let at = sealed().at;
        assert_eq!(at.to_string().parse::<Checkpoint>().unwrap(), at);
        for bad in [
            "",
            "1",
            "1:",
            "x:00",
            "1:zz",
            &format!("-1:{}", "0".repeat(64)),
            &format!("1:{}", "0".repeat(63)),
        ] {
            assert!(bad.parse::<Checkpoint>().is_err(), "{bad}");
        }
    }
}
