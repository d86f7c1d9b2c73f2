//! Copies of a file, also while it is written to.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, ErrorCode, OpenFlags};
use tempfile::NamedTempFile;
use tokio::sync::{Mutex, OwnedMutexGuard};

use super::fault::{Fault, io_at};
use super::open::{self, LOCK_SUFFIX};
use super::paths::{sync_directory, with_end};
use super::{redo, schema};
use crate::error::{BackupError, StoreError};

/// Pages copied at a time, between which it can be broken off: 4 MiB.
const STEP_PAGES: i32 = 1000;
/// Pause where the new file is locked, as by a virus scanner.
const PAUSE: Duration = Duration::from_millis(10);
/// What SQLite and this program keep beside a file of ours, by the ends of their names.
const BESIDE: [&str; 5] = ["-wal", "-shm", "-journal", redo::SUFFIX, LOCK_SUFFIX];
/// Those of them that are applied to the file when it is opened.
const LOGS: [&str; 3] = ["-wal", "-journal", redo::SUFFIX];
/// Where the header of a file has its `application_id`, and how much of it is read for that.
const APPLICATION_ID_AT: usize = 68;
const HEADER: usize = APPLICATION_ID_AT + 4;

/// Lets one copy of an open file be made at a time, and breaks it off when the file is closed.
#[derive(Debug, Default)]
pub(super) struct Copying {
    closing: Arc<AtomicBool>,
    one: Arc<Mutex<()>>,
}

/// The right to make a copy.
pub(super) struct Turn {
    closing: Arc<AtomicBool>,
    _one: OwnedMutexGuard<()>,
}

impl Copying {
    pub(super) fn begin(&self) -> Result<Turn, BackupError> {
        let one = Arc::clone(&self.one).try_lock_owned().map_err(|_| BackupError::Busy)?;
        match self.closing.load(Ordering::Acquire) {
            true => Err(StoreError::Closed.into()),
            false => Ok(Turn { closing: Arc::clone(&self.closing), _one: one }),
        }
    }

    /// Breaks off the copy that is being made, and refuses further ones.
    pub(super) fn stop(&self) {
        self.closing.store(true, Ordering::Release);
    }

    /// As [`Self::stop`]; returns when nothing is read any more.
    pub(super) async fn close(&self) {
        self.stop();
        drop(self.one.lock().await);
    }
}

impl Turn {
    fn goes_on(&self) -> bool {
        !self.closing.load(Ordering::Acquire)
    }
}

/// Copies the file at `path`, which is open, by a connection of its own.
pub(super) fn copy_open(path: &Path, target: &Path, replace: bool, turn: &Turn) -> Result<u64, BackupError> {
    refuse_kept_schema(path, target)?;
    let source = open::reader(path).map_err(|fault| fault.at(path))?;
    copy(&source, path, target, replace, || turn.goes_on())
}

/// Refuses a name beside the file under which it is kept before its schema is changed.
pub(super) fn refuse_kept_schema(path: &Path, target: &Path) -> Result<(), BackupError> {
    let place = place(target)?;
    if path.parent() == Some(&*place.directory) && is_kept_schema(path, &place.name) {
        let why = "that name is for what is kept before a newer version changes the store";
        return Err(BackupError::Refused { path: place.target, why });
    }
    Ok(())
}

/// Copies what `source`, a connection to the file at `path`, sees now.
///
/// The copy is of one moment: the snapshot is held for as long as it takes, and what is committed meanwhile stays in
/// the write-ahead log. Without it each commit would have the copy begin anew.
pub(super) fn copy(
    source: &Connection,
    path: &Path,
    target: &Path,
    replace: bool,
    goes_on: impl Fn() -> bool,
) -> Result<u64, BackupError> {
    let Place { directory, name, target } = place(target)?;
    refuse(path, &directory, &name, &target, replace)?;
    let partial = partial(&directory, &name).map_err(|error| cannot_write(&target, &error))?;
    let at_target = |fault: Fault| at_target(fault, &target);
    {
        let snapshot = source.unchecked_transaction().map_err(|error| Fault::from(error).at(path))?;
        // It begins with what is read first.
        schema::look(&snapshot).map_err(|fault| fault.at(path))?;
        let mut copy = new_file(partial.path()).map_err(at_target)?;
        let backup = Backup::new(&snapshot, &mut copy).map_err(|error| at_target(error.into()))?;
        loop {
            if !goes_on() {
                return Err(StoreError::Closed.into());
            }
            match backup.step(STEP_PAGES).map_err(|error| at_target(error.into()))? {
                StepResult::Done => break,
                StepResult::More => {}
                _ => std::thread::sleep(PAUSE),
            }
        }
        drop(backup);
        copy.close().map_err(|(_, error)| at_target(error.into()))?;
    }
    // Somebody may have opened what was there meanwhile.
    refuse_log(&target)?;
    keep(partial, &target, replace)
}

/// Where a copy goes.
struct Place {
    directory: PathBuf,
    name: OsString,
    target: PathBuf,
}

fn place(target: &Path) -> Result<Place, StoreError> {
    let io = |reason: String| StoreError::Io { place: target.display().to_string(), reason };
    let Some(name) = target.file_name().map(ToOwned::to_owned) else {
        return Err(io("it names no file; write one such as `backup.db`".to_owned()));
    };
    let directory = target.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let canonical = directory.canonicalize().map_err(|error| {
        io(format!(
            "the directory `{}` cannot be used ({error}); create it, or name another",
            directory.display()
        ))
    })?;
    let target = canonical.join(&name);
    Ok(Place { directory: canonical, name, target })
}

/// Looks whether a copy may be put there.
fn refuse(
    path: &Path,
    directory: &Path,
    name: &OsStr,
    target: &Path,
    replace: bool,
) -> Result<(), BackupError> {
    let refused = |why| Err(BackupError::Refused { path: target.to_owned(), why });
    let beside = || BESIDE.iter().any(|end| with_end(path, end).file_name() == Some(name));
    if path.parent() == Some(directory) && (path.file_name() == Some(name) || beside()) {
        return refused("the store itself is there");
    }
    if BESIDE.iter().any(|end| name.as_encoded_bytes().ends_with(end.as_bytes())) {
        return refused(
            "its name is one for what is kept beside a store (`-wal`, `-shm`, `-journal`, `-redo`, `.lock`)",
        );
    }
    let Ok(there) = std::fs::symlink_metadata(target) else { return refuse_log(target) };
    if there.is_dir() {
        return refused("it is a directory");
    }
    if !replace {
        return Err(BackupError::Exists { path: target.to_owned() });
    }
    if !there.is_file() || !is_ours(target) {
        return refused("it is no copy of a store");
    }
    let lock = with_end(target, LOCK_SUFFIX);
    if lock.exists() && matches!(open::lock(target), Err(StoreError::Locked { .. })) {
        return refused("a process has it open as its store");
    }
    refuse_log(target)
}

/// Refuses a place beside which there is the log of an earlier file. To remove it would cost that file what it lacks.
fn refuse_log(target: &Path) -> Result<(), BackupError> {
    let has_some = |end| std::fs::metadata(with_end(target, end)).is_ok_and(|log| log.len() > 0);
    if LOGS.into_iter().any(has_some) {
        let why = "the log of its last use is beside it (`-wal`, `-journal` or `-redo`) and would be applied to the copy, unless \
                   you remove both";
        return Err(BackupError::Refused { path: target.to_owned(), why });
    }
    Ok(())
}

/// Whether a name is one under which a file is kept before its schema is changed.
fn is_kept_schema(path: &Path, name: &OsStr) -> bool {
    let (Some(store), Some(name)) = (path.file_name().and_then(OsStr::to_str), name.to_str()) else {
        return false;
    };
    let version = name.strip_prefix(store).and_then(|rest| rest.strip_prefix(".v")?.strip_suffix(".bak"));
    version.is_some_and(|version| version.chars().all(|digit| digit.is_ascii_digit()))
}

/// Whether a file is one that this program made.
fn is_ours(path: &Path) -> bool {
    let mut header = [0; HEADER];
    let read = File::open(path).and_then(|mut file| file.read_exact(&mut header));
    read.is_ok()
        && header.starts_with(b"SQLite format 3\0")
        && header[APPLICATION_ID_AT..] == schema::APPLICATION_ID.to_be_bytes()
}

/// A new file beside the target, which its owner alone can read, and which goes unless it is kept.
pub(super) fn partial(directory: &Path, name: &OsStr) -> io::Result<NamedTempFile> {
    let mut prefix = name.to_owned();
    prefix.push(".");
    tempfile::Builder::new().prefix(&prefix).suffix(".partial").tempfile_in(directory)
}

fn new_file(path: &Path) -> Result<Connection, Fault> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    // Nothing is lost if it is cut off: it has its name only when it is whole and on the disk.
    connection.pragma_update_and_check(None, "journal_mode", "MEMORY", |_| Ok(()))?;
    connection.pragma_update(None, "synchronous", false)?;
    Ok(connection)
}

/// Brings a file to the disk, and then gives it its name.
pub(super) fn keep(partial: NamedTempFile, target: &Path, replace: bool) -> Result<u64, BackupError> {
    let cannot = |error: &io::Error| BackupError::from(cannot_write(target, error));
    partial.as_file().sync_all().map_err(|error| cannot(&error))?;
    let bytes = partial.as_file().metadata().map_err(|error| cannot(&error))?.len();
    let kept = match replace {
        true => partial.persist(target),
        false => partial.persist_noclobber(target),
    };
    match kept {
        Ok(_) => {}
        Err(error) if !replace && error.error.kind() == io::ErrorKind::AlreadyExists => {
            return Err(BackupError::Exists { path: target.to_owned() });
        }
        Err(error) => return Err(cannot(&error.error)),
    }
    sync_directory(target).map_err(|error| cannot(&error))?;
    Ok(bytes)
}

fn cannot_write(target: &Path, error: &io::Error) -> StoreError {
    io_at(
        target,
        "it cannot be written; see that the disk has room and the user of this process may write there",
        error,
    )
}

/// What callers are told of a failure while a file was written.
pub(super) fn at_target(fault: Fault, target: &Path) -> StoreError {
    match &fault {
        Fault::Sqlite(error) if error.sqlite_error_code() == Some(ErrorCode::DiskFull) => StoreError::Io {
            place: target.display().to_string(),
            reason: format!("the disk is full; make room there and try again ({error})"),
        },
        _ => fault.at(target),
    }
}
