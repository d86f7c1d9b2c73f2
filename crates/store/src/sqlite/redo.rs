//! The redo log: what little writes leave on the disk before they are committed.
//!
//! A commit of SQLite takes locks, writes whole pages and then waits for the disk. A little write is carried out in a
//! transaction that stays open, and has happened once a record of it is on the disk, which is one write of a block or two.
//! The transaction is committed a little later, with whatever came since. After a crash the writes that have records are
//! carried out again: docs/adr/0014.
//!
//! A record begins at a block and has a header: a mark, the epoch, its place among the records of the epoch, its length
//! and a checksum of all that. The file of the store has the epoch too, which changes with each commit, so that records of
//! an earlier one, of another file or of another state of this file are never taken for what is to be done again.

mod record;

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OptionalExtension, params};
use uuid::Uuid;

use super::batch::{Batch, Memory, Pending};
use super::codec::Prepared;
use super::fault::{Fault, io_at};
use super::paths::{like, owner_only, sync_directory, with_end};
use crate::error::{StoreError, WriteError};
use crate::records::Written;

/// What the redo log of a file is called: the file with this at its end.
pub(super) const SUFFIX: &str = "-redo";

/// What a record begins at, and is a multiple of: blocks of disks and pages of memory have this size or a part of it.
const BLOCK: usize = 4096;
/// Room for records. When it is used up the transaction is committed.
const ROOM: usize = 256 * BLOCK;
/// Longest record; longer writes are committed.
const LONGEST: usize = 16 * BLOCK;
const MARK: [u8; 4] = *b"TQr1";
const HEADER: usize = 4 + 16 + 4 + 4 + 4;

/// What the records of one transaction and the file of the store have in common.
pub(super) type Epoch = [u8; 16];

/// The records of the transaction that is open.
pub(super) struct Redo {
    path: PathBuf,
    file: File,
    waits: Waits,
    epoch: Epoch,
    /// What they say.
    bodies: Vec<Vec<u8>>,
    /// Bytes that they take in the file.
    used: usize,
    /// A record, from `start` on, which is a multiple of a block in memory: what goes past the page cache must be.
    buffer: Vec<u8>,
    start: usize,
}

/// How a write gets to the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Waits {
    /// By itself, past the page cache.
    Direct,
    /// Through the page cache and then by `fdatasync`, where there is no other way.
    Afterwards,
}

impl Redo {
    /// Makes or takes the log of a file, for records from now on. Blocks.
    pub(super) fn begin_with(connection: &Connection, store: &Path) -> Result<Self, StoreError> {
        let epoch = Uuid::now_v7().into_bytes();
        let told = |error| {
            let log = with_end(store, SUFFIX);
            let what = format!(
                "its redo log `{}` cannot be made; let the user of this process write there, and move away what else has that name",
                log.display()
            );
            io_at(store, &what, &error)
        };
        let redo = Self::open(store, epoch).map_err(told)?;
        let noted = connection.execute("UPDATE redo SET epoch = ?1, in_use = 1", params![epoch]);
        noted.map_err(|error| Fault::from(error).at(store))?;
        Ok(redo)
    }

    fn open(store: &Path, epoch: Epoch) -> io::Result<Self> {
        let path = with_end(store, SUFFIX);
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        owner_only(&mut options);
        let file = take(&path, &mut options)?;
        // As SQLite does: who is asked by an administrator must not leave behind what the server cannot open.
        like(&std::fs::metadata(store)?, &path)?;
        // Blocks that are there already are written without telling the file system's journal.
        if file.metadata()?.len() != ROOM as u64 {
            file.set_len(0)?;
            // Block by block: an idle server keeps what it once had at hand.
            for place in (0..ROOM).step_by(BLOCK) {
                file.write_all_at(&[0; BLOCK], place as u64)?;
            }
        }
        file.sync_all()?;
        sync_directory(&path)?;
        let (file, waits) = match open_direct(&path) {
            Ok(file) => (file, Waits::Direct),
            Err(_) => (file, Waits::Afterwards),
        };
        let buffer = vec![0; LONGEST + BLOCK];
        let start = buffer.as_ptr().align_offset(BLOCK);
        if start >= BLOCK {
            return Err(io::Error::other("memory cannot be aligned here"));
        }
        Ok(Self { path, file, waits, epoch, bodies: Vec::new(), used: 0, buffer, start })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.bodies.is_empty()
    }

    /// Whether there is room for any record.
    pub(super) fn has_room(&self) -> bool {
        ROOM - self.used >= LONGEST
    }

    /// Goes on with records of another epoch: those that there are count no more.
    pub(super) fn begin(&mut self, epoch: Epoch) {
        (self.epoch, self.used) = (epoch, 0);
        self.bodies.clear();
    }

    /// Brings a record of those writes to the disk that were accepted. Whether it could be: what is long or has something
    /// beside it has none. After an error the record may be there all the same, until the epoch changes.
    pub(super) fn append<'a>(&mut self, writes: impl Iterator<Item = &'a Prepared>) -> io::Result<bool> {
        let mut body = Vec::new();
        let is_whole = record::encode(&mut body, writes);
        let length = HEADER + body.len();
        if !is_whole || length > LONGEST || !self.has_room() {
            return Ok(false);
        }
        let taken = length.next_multiple_of(BLOCK);
        let block = &mut self.buffer[self.start..self.start + taken];
        let header =
            Header { epoch: self.epoch, record: self.bodies.len() as u32, length: body.len() as u32 };
        block[..HEADER].copy_from_slice(&header.encode(&body));
        block[HEADER..length].copy_from_slice(&body);
        block[length..].fill(0);
        let place = self.used as u64;
        let written = self.file.write_all_at(block, place);
        if written.is_err() && self.waits == Waits::Direct {
            // Some file systems refuse it only now.
            self.file = OpenOptions::new().write(true).open(&self.path)?;
            self.waits = Waits::Afterwards;
            self.file.write_all_at(block, place)?;
        } else {
            written?;
        }
        if self.waits == Waits::Afterwards {
            self.file.sync_data()?;
        }
        self.bodies.push(body);
        self.used += taken;
        Ok(true)
    }

    /// The writes that its records are of.
    pub(super) fn writes(&self) -> Result<Vec<Prepared>, Fault> {
        decoded(&self.bodies)
    }

    /// Removes the file; to be called when nothing of it is to be done again.
    pub(super) fn close(self) {
        // Nothing of it is ever looked at again, whether it stays or not.
        let _ = std::fs::remove_file(&self.path);
    }

    /// Has every further record fail.
    #[cfg(test)]
    pub(super) fn break_off(&mut self) -> io::Result<()> {
        self.file = File::open(&self.path)?;
        self.path = PathBuf::from("nowhere/t.db-redo");
        Ok(())
    }

    /// Whether the file is one for which a write ends when it is on the disk.
    #[cfg(test)]
    pub(super) fn waits_for_the_disk(&self) -> bool {
        let flags = rustix::fs::fcntl_getfl(&self.file);
        self.waits == Waits::Afterwards
            || flags.is_ok_and(|flags| flags.contains(rustix::fs::OFlags::DSYNC | rustix::fs::OFlags::DIRECT))
    }
}

struct Header {
    epoch: Epoch,
    record: u32,
    length: u32,
}

impl Header {
    fn encode(&self, body: &[u8]) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        bytes[..4].copy_from_slice(&MARK);
        bytes[4..20].copy_from_slice(&self.epoch);
        bytes[20..24].copy_from_slice(&self.record.to_le_bytes());
        bytes[24..28].copy_from_slice(&self.length.to_le_bytes());
        let sum = checksum(&bytes[..28], body);
        bytes[28..].copy_from_slice(&sum.to_le_bytes());
        bytes
    }
}

/// CRC-32 as in IEEE 802.3: it finds what a crash in the middle of a write leaves.
fn checksum(header: &[u8], body: &[u8]) -> u32 {
    let mut sum = crc32fast::Hasher::new();
    sum.update(header);
    sum.update(body);
    sum.finalize()
}

/// Opens a file that is a redo log or may become one: whatever else bears its name is left alone.
fn take(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    use std::os::unix::fs::{MetadataExt, OpenOptionsExt};

    use rustix::fs::OFlags;

    let else_there = || io::Error::other("what has its name is something else");
    if std::fs::symlink_metadata(path).is_ok_and(|found| found.is_symlink()) {
        return Err(else_there());
    }
    // Neither is another file followed to, nor is somebody waited for who writes into a pipe.
    options.custom_flags((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed());
    let file = options.open(path)?;
    let (found, mut mark) = (file.metadata()?, [0; MARK.len()]);
    let is_plain = found.is_file() && found.nlink() == 1;
    let is_ours = is_plain && (found.len() == 0 || file.read_exact_at(&mut mark, 0).is_ok());
    match is_ours && (mark == MARK || mark == [0; MARK.len()]) {
        true => Ok(file),
        false => Err(else_there()),
    }
}

#[cfg(target_os = "linux")]
fn open_direct(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;

    use rustix::fs::OFlags;

    let flags = OFlags::DIRECT | OFlags::DSYNC | OFlags::NOFOLLOW;
    OpenOptions::new().write(true).custom_flags(flags.bits().cast_signed()).open(path)
}

#[cfg(not(target_os = "linux"))]
fn open_direct(_path: &Path) -> io::Result<File> {
    Err(io::ErrorKind::Unsupported.into())
}

/// The bodies of the records of that epoch, in order; a record that is not whole was never told as done, and ends them. None:
/// there is no redo log.
fn read(path: &Path, epoch: &Epoch) -> Result<Option<Vec<Vec<u8>>>, Fault> {
    let file = match take(path, OpenOptions::new().read(true)) {
        Ok(file) => file,
        // Nothing was ever recorded in what is no redo log.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) if error.raw_os_error().is_none() => {
            tracing::warn!(path = %path.display(), "this is not a redo log, and is left alone; move it away");
            return Ok(None);
        }
        Err(error) => return Err(Fault::Refused(format!("it cannot be read: {error}"))),
    };
    let mut bytes = Vec::new();
    let read = file.take(ROOM as u64).read_to_end(&mut bytes);
    read.map_err(|error| Fault::Refused(format!("it cannot be read: {error}")))?;
    let (mut rest, mut bodies) = (&bytes[..], Vec::new());
    while let Some((body, taken)) = body(rest, epoch, bodies.len()) {
        bodies.push(body.to_vec());
        rest = rest.get(taken..).unwrap_or(&[]);
    }
    Ok(Some(bodies))
}

/// The body of the record that `bytes` begin with, and the bytes it takes with its header; none: there is no such record.
fn body<'a>(bytes: &'a [u8], epoch: &Epoch, record: usize) -> Option<(&'a [u8], usize)> {
    let (header, rest) = bytes.split_at_checked(HEADER)?;
    let number = |at: usize| Some(u32::from_le_bytes(header.get(at..at + 4)?.try_into().ok()?));
    let length = number(24)? as usize;
    let is_it = header[..4] == MARK && header[4..20] == *epoch && number(20)? as usize == record;
    let body =
        rest.get(..length).filter(|body| is_it && number(28) == Some(checksum(&header[..28], body)))?;
    Some((body, (HEADER + length).next_multiple_of(BLOCK)))
}

/// The writes that records are of.
fn decoded(bodies: &[Vec<u8>]) -> Result<Vec<Prepared>, Fault> {
    let writes: Result<Vec<_>, Fault> = bodies.iter().map(|body| record::decode(body)).collect();
    Ok(writes?.into_iter().flatten().collect())
}

/// Removes the redo log of a file that has been opened, if there is one.
pub(super) fn remove(store: &Path) {
    let path = with_end(store, SUFFIX);
    if take(&path, OpenOptions::new().read(true)).is_ok() {
        // Nothing of it is ever looked at again, whether it stays or not.
        let _ = std::fs::remove_file(path);
    }
}

/// The epoch that the file of the store has, and whether a process had a redo log that has not come to its end.
fn state(connection: &Connection) -> Result<(Epoch, bool), Fault> {
    let find = "SELECT epoch, in_use FROM redo";
    let found = connection.query_row(find, [], |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
    found.ok_or_else(|| Fault::Corrupt("its table `redo` is empty".to_owned()))
}

/// Notes that there are no records, and will be none.
pub(super) fn end(connection: &Connection) -> Result<(), Fault> {
    connection.execute("UPDATE redo SET in_use = 0 WHERE in_use <> 0", [])?;
    Ok(())
}

/// Gives the file another epoch, within the transaction that is open. Each commit does: what the file says under an epoch
/// never changes, and records of that epoch fit nothing else.
pub(super) fn change_epoch(connection: &Connection) -> Result<Epoch, Fault> {
    let epoch = Uuid::now_v7().into_bytes();
    connection.prepare_cached("UPDATE redo SET epoch = ?1")?.execute(params![epoch])?;
    Ok(epoch)
}

/// How many records there are of what a process that was cut off has told as done and not committed.
pub(super) fn left(connection: &Connection, path: &Path) -> Result<usize, Fault> {
    Ok(read(&with_end(path, SUFFIX), &state(connection)?.0)?.map_or(0, |bodies| bodies.len()))
}

/// Carries out again what a process that did not come to its end has told as done and not committed.
pub(super) fn restore(connection: &Connection, path: &Path) -> Result<(), StoreError> {
    let log = with_end(path, SUFFIX);
    let (epoch, was_in_use) = state(connection).map_err(|fault| fault.at(path))?;
    let restored = read(&log, &epoch).and_then(|bodies| {
        if bodies.is_none() && was_in_use {
            tracing::warn!(
                path = %path.display(),
                log = %log.display(),
                "the process that had this file was cut off, and its redo log is not there: what it had told as done in its last moments is \
                 missing. Nothing is where the file is a copy that was made by `store backup`"
            );
        }
        carry_out(connection, bodies.unwrap_or_default())
    });
    let number = restored.map_err(|fault| {
        // Else the reason is one that meets every write, such as a full disk.
        if fault.meets_all() {
            return fault.at(path);
        }
        let what = match fault {
            Fault::Refused(what) | Fault::Corrupt(what) => what,
            fault => fault.at(path).to_string(),
        };
        let what = format!(
            "what its redo log `{}` says cannot be carried out ({what}); was one of them restored without the other? Move the log \
             away to start without it, which loses what was written in the last moments before the crash",
            log.display()
        );
        StoreError::Corrupt { path: path.to_owned(), what }
    })?;
    if number > 0 {
        tracing::info!(path = %path.display(), records = number, "what the last process had not committed has been carried out again");
    }
    Ok(())
}

/// How many records there were.
fn carry_out(connection: &Connection, bodies: Vec<Vec<u8>>) -> Result<usize, Fault> {
    if bodies.is_empty() {
        return Ok(0);
    }
    let writes = decoded(&bodies)?;
    // A relaxed store would not wait for the disk, and the log is removed after this.
    let synchronous: i64 = connection.pragma_query_value(None, "synchronous", |row| row.get(0))?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    let transaction = connection.unchecked_transaction()?;
    let (mut memory, mut pending) = (Memory::default(), Pending::default());
    redo(&mut Batch::new(&transaction, &mut memory, &mut pending, false), writes)?;
    change_epoch(&transaction)?;
    transaction.commit()?;
    connection.pragma_update(None, "synchronous", synchronous)?;
    Ok(bodies.len())
}

/// Carries writes out that were accepted before.
pub(super) fn redo(batch: &mut Batch<'_>, writes: Vec<Prepared>) -> Result<(), Fault> {
    let writes: Vec<Result<Prepared, WriteError>> = writes.into_iter().map(Ok).collect();
    for answer in batch.write(&writes)? {
        match answer {
            Ok(Written::Created(_) | Written::Appended) => {}
            Ok(Written::Exists(run)) => {
                return Err(Fault::Refused(format!("the run {} is there", run.run_id)));
            }
            Err(error) => return Err(Fault::Refused(error.to_string())),
        }
    }
    batch.flush()
}
