//! The redo log: what little writes leave on the disk before they are committed.
//!
//! A commit of SQLite takes locks, writes whole pages and then waits for the disk. A little write is carried out in a
//! transaction that stays open, and has happened once a record of it is on the disk, which is one write of a block or two.
//! The transaction is committed a little later, with whatever came since. After a crash the writes that have records are
//! carried out again: docs/adr/0014.
//!
//! A record begins at a block and has a header: a mark, the epoch, its place among the records of the epoch, its length
//! and a checksum of all that. The file of the store has the epoch too, which changes with each transaction that had
//! records, so that those of an earlier one, of another file or of a copy are never taken for what is to be done again.

mod record;

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, params};
use uuid::Uuid;

use super::batch::{Batch, Memory, Pending};
use super::codec::Prepared;
use super::copy::with_end;
use super::fault::{Fault, io_at};
use super::open::{owner_only, sync_directory};
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
    records: u32,
    /// Bytes that they take.
    used: usize,
    /// A record, from `start` on, which is a multiple of a block in memory: what goes past the page cache must be.
    buffer: Vec<u8>,
    start: usize,
    /// What is written into a record.
    body: Vec<u8>,
}

/// How a write gets to the disk.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Waits {
    /// By itself, past the page cache.
    Direct,
    /// Through the page cache and then by `fdatasync`, where there is no other way.
    Afterwards,
}

impl Redo {
    /// Makes or takes the log of the file at `store`, for records of this epoch. Blocks.
    pub(super) fn open(store: &Path, epoch: Epoch) -> io::Result<Self> {
        let path = with_end(store, SUFFIX);
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false);
        owner_only(&mut options);
        let file = options.open(&path)?;
        // Blocks that are there already are written without telling the file system's journal.
        if file.metadata()?.len() != ROOM as u64 {
            file.set_len(0)?;
            file.write_all_at(&vec![0; ROOM], 0)?;
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
        Ok(Self { path, file, waits, epoch, records: 0, used: 0, buffer, start, body: Vec::new() })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.records == 0
    }

    /// Whether there is room for any record.
    pub(super) fn has_room(&self) -> bool {
        ROOM - self.used >= LONGEST
    }

    /// Goes on with records of another epoch: those that there are count no more.
    pub(super) fn begin(&mut self, epoch: Epoch) {
        (self.epoch, self.records, self.used) = (epoch, 0, 0);
    }

    /// Brings a record of those writes to the disk that were accepted. Whether it could be: what is long or has something
    /// beside it has none.
    pub(super) fn append<'a>(&mut self, writes: impl Iterator<Item = &'a Prepared>) -> io::Result<bool> {
        self.body.clear();
        let is_whole = record::encode(&mut self.body, writes);
        let length = HEADER + self.body.len();
        if !is_whole || length > LONGEST || !self.has_room() {
            return Ok(false);
        }
        let taken = length.next_multiple_of(BLOCK);
        let block = &mut self.buffer[self.start..self.start + taken];
        let header = Header { epoch: self.epoch, record: self.records, length: self.body.len() as u32 };
        block[..HEADER].copy_from_slice(&header.encode(&self.body));
        block[HEADER..length].copy_from_slice(&self.body);
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
        self.records += 1;
        self.used += taken;
        Ok(true)
    }

    /// The writes that its records are of.
    pub(super) fn writes(&self) -> Result<Vec<Prepared>, Fault> {
        let mut writes = read(&self.path, &self.epoch)?;
        // What came behind may be of a write that failed, and whose caller was told so.
        writes.truncate(self.records as usize);
        Ok(writes.into_iter().flatten().collect())
    }

    /// Removes the file; to be called when nothing of it is to be done again.
    pub(super) fn close(self) {
        let _ = std::fs::remove_file(&self.path);
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

#[cfg(target_os = "linux")]
fn open_direct(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;

    use rustix::fs::OFlags;

    let flags = OFlags::DIRECT | OFlags::DSYNC;
    OpenOptions::new().write(true).custom_flags(flags.bits().cast_signed()).open(path)
}

#[cfg(not(target_os = "linux"))]
fn open_direct(_path: &Path) -> io::Result<File> {
    Err(io::ErrorKind::Unsupported.into())
}

/// The writes of each record of that epoch, in order; a record that is not whole was never told as done, and ends them.
fn read(path: &Path, epoch: &Epoch) -> Result<Vec<Vec<Prepared>>, Fault> {
    let mut bytes = Vec::new();
    match File::open(path).and_then(|file| file.take(ROOM as u64).read_to_end(&mut bytes)) {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => {
            return Err(Fault::Refused(format!("its redo log `{}` cannot be read: {error}", path.display())));
        }
    }
    let (mut rest, mut records) = (&bytes[..], Vec::new());
    while let Some((body, taken)) = body(rest, epoch, records.len()) {
        records.push(record::decode(body)?);
        rest = rest.get(taken..).unwrap_or(&[]);
    }
    Ok(records)
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

/// Removes the redo log of a file that has been opened, if there is one.
pub(super) fn remove(store: &Path) {
    // Nothing of it is ever looked at again, whether it stays or not.
    let _ = std::fs::remove_file(with_end(store, SUFFIX));
}

/// The epoch that the file of the store has.
pub(super) fn epoch(connection: &Connection) -> Result<Epoch, Fault> {
    Ok(connection.query_row("SELECT epoch FROM redo", [], |row| row.get(0))?)
}

/// Gives the file another epoch, within the transaction that is open.
pub(super) fn change_epoch(connection: &Connection) -> Result<Epoch, Fault> {
    let epoch = Uuid::now_v7().into_bytes();
    connection.prepare_cached("UPDATE redo SET epoch = ?1")?.execute(params![epoch])?;
    Ok(epoch)
}

/// Carries out again what a process that did not come to its end has told as done and not committed.
pub(super) fn restore(connection: &Connection, path: &Path) -> Result<(), StoreError> {
    let at = |fault: Fault| fault.at(path);
    let log = with_end(path, SUFFIX);
    let epoch = epoch(connection).map_err(at)?;
    let writes: Vec<Prepared> = read(&log, &epoch).map_err(at)?.into_iter().flatten().collect();
    if writes.is_empty() {
        return Ok(());
    }
    let number = writes.len();
    let restored = connection.unchecked_transaction().map_err(Fault::from).and_then(|transaction| {
        let (mut memory, mut pending) = (Memory::default(), Pending::default());
        redo(&mut Batch::new(&transaction, &mut memory, &mut pending, false), writes)?;
        change_epoch(&transaction)?;
        Ok(transaction.commit()?)
    });
    match restored {
        Ok(()) => {
            tracing::info!(path = %path.display(), writes = number, "what the last process had not committed is carried out again");
            Ok(())
        }
        Err(Fault::Refused(what)) => Err(StoreError::Corrupt {
            path: path.to_owned(),
            what: format!(
                "its redo log `{}` does not fit it ({what}); was one of them restored without the other?",
                log.display()
            ),
        }),
        Err(fault) => Err(fault.at(path)),
    }
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

/// Why the log could not be made, for whoever looks after the server: writes are committed one by one then.
pub(super) fn told(path: &Path, error: &io::Error) -> StoreError {
    io_at(path, "its redo log cannot be made", error)
}
