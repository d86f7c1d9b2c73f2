//! A file that no process has open, for those who look after it.

use std::io;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags};
use serde::Serialize;

use super::codec::natural;
use super::fault::{Fault, io_at};
use super::open::{self, Lock};
use super::paths::like;
use super::schema::{self, Found};
use super::{copy, fit, redo, room};
use crate::error::{BackupError, StoreError};
use crate::records::Retention;

/// Most things that are told of a damaged file.
const MAX_PROBLEMS: usize = 100;

/// A file that is taken for this process, and is not changed by that: neither is its schema brought to the newest, nor
/// are leases voided. Only what a process that was cut off has told as done is brought into it. It is given back when this is dropped.
#[derive(Debug)]
pub struct SqliteFile {
    path: PathBuf,
    found: u32,
    connection: Connection,
    _lock: Lock,
}

/// What a check of a file found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Checked {
    /// The file.
    pub path: PathBuf,
    /// The version of its schema.
    pub schema: u32,
    /// The newest version that this program knows; a file with an older one is brought to it when it is opened.
    pub newest_schema: u32,
    /// Its length, in bytes.
    pub bytes: u64,
    /// Of them those that nothing stands in.
    pub free_bytes: u64,
    /// How many rows each table has, by name; `runs` has those of `recent_runs` too, which is not told apart.
    pub rows: Vec<(String, u64)>,
    /// What is wrong with it, at most a hundred things; empty: it is well.
    pub problems: Vec<String>,
}

/// What compacting a file came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Compacted {
    /// Its length before, in bytes.
    pub before: u64,
    /// Its length now.
    pub after: u64,
}

impl SqliteFile {
    /// Takes a file that is there. Blocks.
    ///
    /// # Errors
    /// [`StoreError::Locked`] when a process has it open, [`StoreError::Corrupt`] when it cannot be read as a database,
    /// [`StoreError::Foreign`] and [`StoreError::NewerSchema`] when it is not this program's, and [`StoreError::Io`] when
    /// there is none.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, StoreError> {
        let path = open::resolve(path.as_ref())?;
        if !path.exists() {
            let reason = "there is no such file; see `store_url`".to_owned();
            return Err(StoreError::Io { place: path.display().to_string(), reason });
        }
        let lock = open::lock(&path)?;
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE;
        let connection = open::connect(&path, flags).map_err(|fault| fault.at(&path))?;
        let found = match schema::look(&connection).map_err(|fault| fault.at(&path))? {
            Found::Ours(found) if found > schema::NEWEST => {
                return Err(StoreError::NewerSchema { path, found, known: schema::NEWEST });
            }
            Found::Ours(found) => found,
            Found::Empty | Found::Foreign => return Err(StoreError::Foreign { path }),
        };
        // What is damaged is looked at as it is.
        if found >= schema::WITH_REDO && open::check(&connection, &path).is_ok() {
            redo::restore(&connection, &path)?;
            redo::remove(&path);
            redo::end(&connection).map_err(|fault| fault.at(&path))?;
        }
        Ok(Self { path, found, connection, _lock: lock })
    }

    /// Its true place.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// As [`Store::backup`](crate::Store::backup). Blocks.
    ///
    /// # Errors
    /// [`BackupError`].
    pub fn backup(&self, target: &Path, replace: bool) -> Result<u64, BackupError> {
        copy::refuse_kept_schema(&self.path, target)?;
        copy::copy(&self.connection, &self.path, target, replace, || true)
    }

    /// Reads all of it, and looks whether it is well. Blocks, for seconds where it is large.
    ///
    /// # Errors
    /// [`StoreError`] when it cannot be read at all. What is wrong with it is no error: [`Checked::problems`] has it.
    pub fn check(&self) -> Result<Checked, StoreError> {
        let bytes = std::fs::metadata(&self.path).map_or(0, |file| file.len());
        let mut checked = Checked {
            path: self.path.clone(),
            schema: self.found,
            newest_schema: schema::NEWEST,
            bytes,
            free_bytes: 0,
            rows: Vec::new(),
            problems: Vec::new(),
        };
        match self.look_through(&mut checked) {
            Ok(()) => Ok(checked),
            Err(fault) => match fault.at(&self.path) {
                StoreError::Corrupt { what, .. } => {
                    checked.problems.push(what);
                    Ok(checked)
                }
                error => Err(error),
            },
        }
    }

    /// How many runs would go.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn count_to_go(&self, retention: &Retention) -> Result<u64, StoreError> {
        room::count_to_go(&self.connection, self.found, retention).map_err(|fault| fault.at(&self.path))
    }

    /// Writes the file anew, without what is free in it, and so that it gives room back by itself from then on. Blocks.
    ///
    /// After return, and after a crash before it, the file is there and whole: the new one takes the place of the old one
    /// when it is on the disk. As much room as the new one takes must be free beside it.
    ///
    /// # Errors
    /// [`StoreError`]; the file is as it was then.
    pub fn compact(self) -> Result<Compacted, StoreError> {
        let Self { path, connection, _lock: lock, .. } = self;
        let at = |fault: Fault| fault.at(&path);
        let cannot = |error: &io::Error| io_at(&path, "it cannot be written anew", error);
        let left = connection
            .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get::<_, i64>(0))
            .map_err(|error| at(error.into()))?;
        if left != 0 {
            let reason =
                "another program reads it, such as an open `sqlite3` shell; close that one".to_owned();
            return Err(StoreError::Unavailable { place: path.display().to_string(), reason });
        }
        let before = std::fs::metadata(&path).map_err(|error| cannot(&error))?;
        let (directory, name) =
            (path.parent().unwrap_or(Path::new(".")), path.file_name().unwrap_or_default());
        let partial = copy::partial(directory, name).map_err(|error| cannot(&error))?;
        like(&before, partial.path()).map_err(|error| cannot(&error))?;
        let at_new = |fault: Fault| copy::at_target(fault, &path);
        room::shrinks(&connection).map_err(at)?;
        let into = partial.path().to_str().ok_or_else(|| StoreError::Io {
            place: path.display().to_string(),
            reason: "its directory has a name that is no text; move the file elsewhere".to_owned(),
        })?;
        connection.execute("VACUUM INTO ?1", [into]).map_err(|error| at_new(error.into()))?;
        connection.close().map_err(|(_, error)| at(error.into()))?;
        whole(partial.path()).map_err(at_new)?;
        let after = copy::keep(partial, &path, true).map_err(|error| match error {
            BackupError::Store(error) => error,
            error => StoreError::Io { place: path.display().to_string(), reason: error.to_string() },
        })?;
        drop(lock);
        Ok(Compacted { before: before.len(), after })
    }

    fn look_through(&self, checked: &mut Checked) -> Result<(), Fault> {
        if self.found >= schema::WITH_REDO {
            let left = redo::left(&self.connection, &self.path)?;
            let what = || format!("its redo log has {left} records of writes that are not in it");
            checked.problems.extend((left > 0).then(what));
        }
        let mut check = self.connection.prepare(&format!("PRAGMA integrity_check({MAX_PROBLEMS})"))?;
        let told = check.query_map([], |row| row.get::<_, String>(0))?;
        for line in told {
            let line = line?;
            checked.problems.extend(line.lines().filter(|line| *line != "ok").map(str::to_owned));
        }
        if self.found >= schema::WITH_RECENT_RUNS {
            let most = MAX_PROBLEMS.saturating_sub(checked.problems.len());
            checked.problems.extend(fit::misfits(&self.connection, most)?);
        }
        let number = |name| self.connection.pragma_query_value(None, name, |row| row.get(0).map(natural));
        checked.free_bytes = number("freelist_count")? * number("page_size")?;
        let mut tables = self.connection.prepare(
            "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite%' ORDER BY name",
        )?;
        let names = tables.query_map([], |row| row.get::<_, String>(0))?;
        for name in names {
            let name = name?;
            let count = format!("SELECT count(*) FROM \"{}\"", name.replace('"', "\"\""));
            let rows = self.connection.query_row(&count, [], |row| row.get(0).map(natural))?;
            checked.rows.push((name, rows));
        }
        // Where the row of a run stands is nobody's concern but this program's.
        let recent = checked.rows.extract_if(.., |(name, _)| name == "recent_runs");
        let recent: u64 = recent.map(|(_, rows)| rows).sum();
        let runs = checked.rows.iter_mut().find(|(name, _)| name == "runs");
        runs.into_iter().for_each(|(_, rows)| *rows += recent);
        Ok(())
    }
}

/// Looks whether a file that was just written is well.
fn whole(path: &Path) -> Result<(), Fault> {
    let connection = open::reader(path)?;
    let found: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    match found.as_str() {
        "ok" => Ok(()),
        other => Err(Fault::Corrupt(format!("what was written of it anew: {other}"))),
    }
}
