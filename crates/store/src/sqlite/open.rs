//! Opening a file: whose it is, whether it is well, and that nobody else has it.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags, TransactionBehavior};

use super::copy;
use super::desk::PATIENCE;
use super::fault::{Fault, io_at};
use super::paths::{owner_only, sync_directory, with_end};
use super::schema::{self, Found};
use super::{Durability, SqliteOptions};
use super::{recent, redo, room};
use crate::error::{BackupError, StoreError};

/// Largest file that is checked wholly when it is opened: some 100 ms. Damage in a larger one shows when it is read.
const CHECKED_BYTES: u64 = 32 << 20;
/// Statements that each connection keeps prepared; there are fewer.
const STATEMENTS: usize = 96;

/// What the lock of a file is called: the file with this at its end.
pub(super) const LOCK_SUFFIX: &str = ".lock";

/// A file that has been opened.
pub(super) struct Opened {
    pub(super) path: PathBuf,
    pub(super) writer: Connection,
    pub(super) readers: Vec<Connection>,
    /// Held until it is dropped.
    pub(super) lock: Lock,
}

/// The lock of a file.
#[derive(Debug)]
pub(super) struct Lock(File);

impl Drop for Lock {
    /// Closing alone would not do: a process that is just being started still has a copy of the descriptor.
    fn drop(&mut self) {
        let _ = self.0.unlock();
    }
}

/// Opens or creates the file, takes it for this process alone, brings it to the newest schema and voids all leases.
pub(super) fn open(options: &SqliteOptions) -> Result<Opened, StoreError> {
    let path = resolve(&options.path)?;
    let lock = lock(&path)?;
    create(&path)?;
    let at = |fault: Fault| fault.at(&path);
    let mut writer = connect(&path, OpenFlags::SQLITE_OPEN_READ_WRITE).map_err(at)?;
    let found = match schema::look(&writer).map_err(at)? {
        Found::Empty => 0,
        Found::Ours(found) if found > schema::NEWEST => {
            return Err(StoreError::NewerSchema { path, found, known: schema::NEWEST });
        }
        Found::Ours(found) => found,
        Found::Foreign => return Err(StoreError::Foreign { path }),
    };
    if found == 0 {
        room::shrinks(&writer).map_err(at)?;
    }
    set_up(&writer, options.durability, &path)?;
    if found > 0 {
        check(&writer, &path)?;
    }
    if found >= schema::WITH_REDO {
        redo::restore(&writer, &path)?;
    }
    keep_before_migration(&writer, &path, found)?;
    schema::migrate(&mut writer, found).map_err(at)?;
    move_recent(&mut writer).map_err(at)?;
    void_leases(&writer).map_err(at)?;
    let readers = (0..options.readers.max(1)).map(|_| reader(&path)).collect::<Result<_, _>>().map_err(at)?;
    Ok(Opened { path, writer, readers, lock })
}

/// Keeps a copy of a file whose schema is about to be changed: an earlier program cannot read it afterwards, and somebody
/// may want to go back. Where there is no room for it, nothing is changed.
fn keep_before_migration(writer: &Connection, path: &Path, found: u32) -> Result<(), StoreError> {
    if found == 0 || found >= schema::NEWEST {
        return Ok(());
    }
    let kept = with_end(path, &format!(".v{found}.bak"));
    match copy::copy(writer, path, &kept, true, || true) {
        Ok(bytes) => {
            tracing::info!(kept = %kept.display(), bytes, from = found, to = schema::NEWEST, "the schema of the store is changed; a copy of it as it was is kept");
            Ok(())
        }
        Err(error) => {
            let error = match error {
                BackupError::Store(error) => error.to_string(),
                error => error.to_string(),
            };
            let newest = schema::NEWEST;
            Err(StoreError::Io {
                place: path.display().to_string(),
                reason: format!(
                    "before its schema is changed from version {found} to {newest} a copy is kept, and that could not be made, \
                     so that nothing was changed: {error}"
                ),
            })
        }
    }
}

/// The true place of the file, so that it has one lock however it is named.
pub(super) fn resolve(path: &Path) -> Result<PathBuf, StoreError> {
    let io = |reason: String| StoreError::Io { place: path.display().to_string(), reason };
    let Some(name) = path.file_name() else {
        return Err(io(
            "it names no file; write one in `store_url`, such as `sqlite:taskiq-flow.db`".to_owned()
        ));
    };
    if path.is_dir() {
        return Err(io("it is a directory; name a file in it in `store_url`".to_owned()));
    }
    if let Ok(path) = path.canonicalize() {
        return Ok(path);
    }
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let directory = directory.canonicalize().map_err(|error| {
        let name = directory.display();
        io(match error.kind() {
            io::ErrorKind::NotFound => {
                format!(
                    "the directory `{name}` does not exist; create it, or name another place in `store_url`"
                )
            }
            _ => {
                format!("the directory `{name}` cannot be used ({error}); name another place in `store_url`")
            }
        })
    })?;
    Ok(directory.join(name))
}

/// Takes the file for this process. The lock goes with the process, however that ends.
pub(super) fn lock(path: &Path) -> Result<Lock, StoreError> {
    let name = with_end(path, LOCK_SUFFIX);
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    owner_only(&mut options);
    let file = options.open(&name).map_err(|error| {
        io_at(
            path,
            "its lock file cannot be made; let the user of this process write in its directory",
            &error,
        )
    })?;
    match file.try_lock() {
        Ok(()) => Ok(Lock(file)),
        Err(TryLockError::WouldBlock) => Err(StoreError::Locked { path: path.to_owned() }),
        Err(TryLockError::Error(error)) => {
            Err(io_at(path, "it cannot be locked; put it on a local disk", &error))
        }
    }
}

/// Creates the file if there is none, so that only its owner can read it. SQLite gives the files beside it the same mode.
fn create(path: &Path) -> Result<(), StoreError> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    owner_only(&mut options);
    match options.open(path) {
        Ok(file) => {
            let made = file.sync_all().and_then(|()| sync_directory(path));
            made.map_err(|error| io_at(path, "it cannot be created; see that the disk is well", &error))
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(io_at(
            path,
            "it cannot be created; let the user of this process write in its directory",
            &error,
        )),
    }
}

pub(super) fn connect(path: &Path, access: OpenFlags) -> Result<Connection, Fault> {
    let connection = Connection::open_with_flags(path, access | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    connection.busy_timeout(PATIENCE)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    // What the file says is data: it cannot call functions that have side effects.
    connection.pragma_update(None, "trusted_schema", false)?;
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    Ok(connection)
}

pub(super) fn reader(path: &Path) -> Result<Connection, Fault> {
    let connection = connect(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    connection.pragma_update(None, "cache_size", -8 * 1024)?;
    Ok(connection)
}

fn set_up(writer: &Connection, durability: Durability, path: &Path) -> Result<(), StoreError> {
    let set = || -> Result<String, Fault> {
        let mode = writer.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0))?;
        let synchronous = match durability {
            Durability::Strict => "FULL",
            Durability::Relaxed => "NORMAL",
        };
        writer.pragma_update(None, "synchronous", synchronous)?;
        // On macOS a plain fsync leaves the data in the disk's own cache; elsewhere this changes nothing.
        writer.pragma_update(None, "fullfsync", durability == Durability::Strict)?;
        writer.pragma_update(None, "journal_size_limit", 64 << 20)?;
        writer.pragma_update(None, "cache_size", -32 * 1024)?;
        Ok(mode)
    };
    let mode = set().map_err(|fault| fault.at(path))?;
    if mode == "wal" {
        return Ok(());
    }
    Err(StoreError::Io {
        place: path.display().to_string(),
        reason: "its file system cannot share memory between connections; put it on a local disk".to_owned(),
    })
}

/// Looks for damage, in a file that is small enough for it.
pub(super) fn check(writer: &Connection, path: &Path) -> Result<(), StoreError> {
    if std::fs::metadata(path).is_ok_and(|file| file.len() > CHECKED_BYTES) {
        return Ok(());
    }
    let found: Result<String, _> = writer.query_row("PRAGMA quick_check(1)", [], |row| row.get(0));
    match found {
        Ok(found) if found == "ok" => Ok(()),
        Ok(found) => {
            Err(StoreError::Corrupt { path: path.to_owned(), what: found.trim().replace('\n', " ") })
        }
        Err(error) => Err(Fault::from(error).at(path)),
    }
}

/// Moves the rows that a process left behind which did not come to its end, so that indexes lead to all of them.
fn move_recent(writer: &mut Connection) -> Result<(), Fault> {
    let transaction = writer.transaction_with_behavior(TransactionBehavior::Immediate)?;
    recent::move_all(&transaction)?;
    Ok(transaction.commit()?)
}

/// Nobody but this process has the file, and it has only begun: whoever held a run is gone.
fn void_leases(writer: &Connection) -> Result<(), Fault> {
    writer.execute(
        "UPDATE runs INDEXED BY runs_live SET owner = NULL WHERE status < 3 AND owner IS NOT NULL",
        [],
    )?;
    writer.execute("DELETE FROM owners", [])?;
    Ok(())
}
