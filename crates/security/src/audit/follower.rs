//! Reads the log's own file behind its writer, checks it, and keeps the Merkle tree of it.
//!
//! What is signed is what is on disk, compared with what was meant to be there: the hash of the last record, as the
//! writer knows it, stands for all before it.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read as _, Seek, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::back_lines::BackLines;
use super::chain::{Checkpoint, MAX_SEQ, Read, read};
use super::merkle::{Frontier, leaf_hash};
use super::signed::VerifyKey;
use super::sink::same_file;
use super::verify::{Check, Stop, VerifyOptions};

/// Why the file cannot be followed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FollowError {
    /// It cannot be read now.
    #[error("the audit log cannot be read back: {0}")]
    Io(#[from] io::Error),
    /// It does not hold what was written.
    #[error("the audit log is not as it was written: {0}")]
    Changed(String),
}

/// What a restart goes on from, in a file beside the log. It is only a shortcut and no proof of anything: whoever
/// changes it makes the next checkpoints contradict those that were sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Kept {
    /// The log's name.
    pub(crate) origin: String,
    /// The key that signed last.
    pub(crate) key: String,
    size: u64,
    first: u64,
    seq: u64,
    head: String,
    /// Where the record's line ends in the file.
    offset: u64,
    peaks: Vec<String>,
}

#[derive(Debug)]
pub(crate) struct Follower {
    path: PathBuf,
    file: Option<File>,
    /// Where the next line begins.
    offset: u64,
    check: Check,
    tree: Frontier,
    /// Number of the first record of the tree; zero before there is one.
    first: u64,
    /// Records up to this one are in the tree already.
    skip: Checkpoint,
}

impl Kept {
    /// The file beside a log.
    pub(crate) fn path(log: &Path) -> PathBuf {
        let mut name = log.as_os_str().to_owned();
        name.push(".tree");
        name.into()
    }

    /// What is kept beside a log; `None` when there is nothing.
    pub(crate) fn load(log: &Path) -> io::Result<Option<Self>> {
        match fs::read(Self::path(log)) {
            Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(io::Error::other),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The last record of the tree; none when numbers and sizes cannot be those of a log.
    pub(crate) fn at(&self) -> Option<Checkpoint> {
        let room = self.seq.checked_sub(self.first)?.checked_add(1)?;
        if self.seq > MAX_SEQ || self.size > room {
            return None;
        }
        let mut hash = [0; 32];
        hex::decode_to_slice(&self.head, &mut hash).ok()?;
        Some(Checkpoint { seq: self.seq, hash })
    }

    fn frontier(&self) -> Option<Frontier> {
        let peak = |text: &String| hex::decode(text).ok()?.try_into().ok();
        Frontier::of(self.size, self.peaks.iter().map(peak).collect::<Option<_>>()?)
    }
}

impl Follower {
    /// Begins at the beginning of the file, or after what is kept. The file is held open from here on: it is read to its
    /// end even if it is moved before anything was read.
    pub(crate) fn new(path: PathBuf, kept: Option<&Kept>) -> Result<Self, FollowError> {
        let damaged = || FollowError::Changed("the file beside it with the tree is damaged".to_owned());
        let file = open(&path)?;
        let mut follower = Self {
            path,
            file,
            offset: 0,
            check: Check::new(&VerifyOptions::default()),
            tree: Frontier::default(),
            first: 0,
            skip: Checkpoint::GENESIS,
        };
        if let Some(kept) = kept {
            let at = kept.at().ok_or_else(damaged)?;
            follower.tree = kept.frontier().ok_or_else(damaged)?;
            follower.first = kept.first;
            follower.skip = at;
            follower.check = Check::new(&VerifyOptions { after: Some(at), ..VerifyOptions::default() });
            if let Some(file) = &follower.file
                && ends_at(file, kept.offset, at)?
            {
                follower.offset = kept.offset;
                follower.skip = Checkpoint::GENESIS;
            }
        }
        Ok(follower)
    }

    /// The tree as it stands, and the number of its first record.
    pub(crate) fn tree(&self) -> (&Frontier, u64) {
        (&self.tree, self.first)
    }

    /// Reads on to this record, which has been written.
    pub(crate) fn advance(&mut self, target: Checkpoint) -> Result<(), FollowError> {
        while self.check.at().seq < target.seq {
            if !self.read_file(target)? && !self.next_file()? {
                let at = self.check.at().seq;
                return Err(FollowError::Changed(format!(
                    "records {} to {} were written and are not there",
                    at + 1,
                    target.seq
                )));
            }
        }
        match self.check.at() == target {
            true => Ok(()),
            false => Err(FollowError::Changed(format!("record {} is another than was written", target.seq))),
        }
    }

    /// What a restart needs.
    pub(crate) fn kept(&self, origin: &str, key: VerifyKey) -> Kept {
        let at = self.check.at();
        Kept {
            origin: origin.to_owned(),
            key: key.to_string(),
            size: self.tree.size(),
            first: self.first,
            seq: at.seq,
            head: hex::encode(at.hash),
            offset: self.offset,
            peaks: self.tree.peaks().iter().map(hex::encode).collect(),
        }
    }

    /// Puts it beside the log, in one step.
    pub(crate) fn keep(&self, kept: &Kept) -> io::Result<()> {
        let path = Kept::path(&self.path);
        let mut new = path.as_os_str().to_owned();
        new.push(".new");
        let mut options = fs::OpenOptions::new();
        options.write(true).create(true).truncate(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.open(&new)?;
        file.write_all(&serde_json::to_vec(kept)?)?;
        file.sync_data()?;
        fs::rename(new, path)
    }

    /// Reads lines up to `target`. Whether there were any.
    fn read_file(&mut self, target: Checkpoint) -> Result<bool, FollowError> {
        let file = match self.file.take() {
            Some(file) => file,
            None => match open(&self.path)? {
                Some(file) => file,
                None => return Ok(false),
            },
        };
        if file.metadata()?.len() < self.offset {
            // Emptied in place: what follows says that it was.
            self.offset = 0;
        }
        let mut reader = BufReader::with_capacity(256 * 1024, &file);
        reader.seek(SeekFrom::Start(self.offset))?;
        let (mut line, mut any) = (Vec::new(), false);
        while self.check.at().seq < target.seq {
            line.clear();
            let len = read_line(&mut reader, &mut line)?;
            if !line.ends_with(b"\n") {
                break;
            }
            self.take(&line)?;
            self.offset += len;
            any = true;
        }
        drop(reader);
        self.file = Some(file);
        Ok(any)
    }

    /// Turns to the file that took the place of the one that was read. Whether there is one.
    fn next_file(&mut self) -> Result<bool, FollowError> {
        let (Some(file), Ok(there)) = (&self.file, fs::metadata(&self.path)) else { return Ok(false) };
        if same_file(&file.metadata()?, &there) {
            return Ok(false);
        }
        self.file = None;
        self.offset = 0;
        Ok(true)
    }

    fn take(&mut self, line: &[u8]) -> Result<(), FollowError> {
        if self.skip != Checkpoint::GENESIS {
            match read(line) {
                Read::Sound(_, at) | Read::Edited(at) if at.seq > self.skip.seq => {
                    self.skip = Checkpoint::GENESIS
                }
                Read::Sound(_, at) if at.seq == self.skip.seq && at != self.skip => {
                    return Err(FollowError::Changed(format!("record {} was replaced", at.seq)));
                }
                _ => return Ok(()),
            }
        }
        let before = self.check.at();
        let taken = self.check.take(line).map_err(|stop| {
            FollowError::Changed(match stop {
                Stop::Fault(fault, _) => fault.to_string(),
                Stop::Jump { expected, found } => format!("records {expected} to {} are missing", found - 1),
            })
        })?;
        if let Some(at) = taken {
            if self.offset == 0 && before != Checkpoint::GENESIS && at.seq > before.seq + 1 {
                return Err(FollowError::Changed(format!(
                    "records {} to {} went away with another file before they were signed; move that file back, restart, \
                     and rotate while the server runs, by renaming",
                    before.seq + 1,
                    at.seq - 1
                )));
            }
            if self.first == 0 {
                self.first = at.seq;
            }
            self.tree.push(leaf_hash(line.strip_suffix(b"\n").unwrap_or(line)));
            self.check.forget_gaps();
        }
        Ok(())
    }
}

/// The file, if there is one.
fn open(path: &Path) -> io::Result<Option<File>> {
    match File::open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether the line that ends at `offset` is this record.
fn ends_at(file: &File, offset: u64, at: Checkpoint) -> io::Result<bool> {
    if file.metadata()?.len() < offset {
        return Ok(false);
    }
    let line = BackLines::new(file, offset).next()?;
    Ok(line.is_some_and(|(_, line)| matches!(read(&line), Read::Sound(_, found) if found == at)))
}

/// A line with its end, and its length. Of an overlong one, which is no record, only the beginning and the end are kept.
fn read_line(reader: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<u64> {
    const MOST: u64 = 1024 * 1024;
    let mut len = reader.by_ref().take(MOST).read_until(b'\n', line)? as u64;
    while len > 0 && len.is_multiple_of(MOST) && !line.ends_with(b"\n") {
        let mut rest = Vec::new();
        let more = reader.by_ref().take(MOST).read_until(b'\n', &mut rest)? as u64;
        if more == 0 {
            break;
        }
        len += more;
        if rest.ends_with(b"\n") {
            line.push(b'\n');
        }
    }
    Ok(len)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_damaged_tree_is_told_and_not_gone_on_from() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("audit.jsonl");
        let kept = |size: u64, first: u64, seq: u64| Kept {
            origin: "log".into(),
            key: "key".into(),
            size,
            first,
            seq,
            head: "00".repeat(32),
            offset: 0,
            peaks: vec!["00".repeat(32); size.count_ones() as usize],
        };
        let open = |kept: &Kept| Follower::new(log.clone(), Some(kept));
        assert!(open(&kept(3, 1, 3)).is_ok() && open(&kept(2, 1, 3)).is_ok());
        for damaged in [
            kept(3, 1, u64::MAX),
            kept(u64::MAX, 1, 3),
            kept(4, 1, 3),
            kept(3, 4, 3),
            Kept { peaks: Vec::new(), ..kept(3, 1, 3) },
            Kept { head: "0".into(), ..kept(3, 1, 3) },
        ] {
            assert!(matches!(open(&damaged), Err(FollowError::Changed(_))), "{damaged:?}");
        }
    }
}
