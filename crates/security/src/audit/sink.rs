//! Where lines go: a file that only grows, or standard output.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::LOGGER;
use super::back_lines::BackLines;
use super::chain::{Checkpoint, Read, read};
use super::error::AuditError;
use super::export::ExportFormat;

/// Where records are written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AuditSink {
    /// Standard output.
    Stdout,
    /// A file, made with mode 0600 if it is not there, and only ever appended to. One log writes one file.
    /// A device or pipe (`/dev/stderr`) is written like standard output.
    File(PathBuf),
    /// A file with a copy of every record in the words of others. It is no part of the chain, and no record counts as
    /// written because it is there.
    Export(ExportFormat, PathBuf),
}

/// An open sink.
#[derive(Debug)]
pub(crate) struct Writer {
    sink: AuditSink,
    file: Option<OpenFile>,
}

#[derive(Debug)]
struct OpenFile {
    file: File,
    /// A device or a pipe: it has no end to look at.
    stream: bool,
    len: u64,
    /// The last line has no end: one must come before the next line.
    unterminated: bool,
}

/// How a sink ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tail {
    /// Its last record.
    pub(crate) at: Checkpoint,
    /// Lines after it that are no records.
    pub(crate) unreadable_lines: u64,
}

impl AuditSink {
    pub(crate) fn label(&self) -> String {
        match self {
            Self::Stdout => "stdout".to_owned(),
            Self::File(path) | Self::Export(_, path) => {
                path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
            }
        }
    }
}

impl Tail {
    pub(crate) fn clean(at: Checkpoint) -> Self {
        Self { at, unreadable_lines: 0 }
    }
}

impl Writer {
    /// A writer that is not open yet.
    pub(crate) fn new(sink: AuditSink) -> Self {
        Self { sink, file: None }
    }

    /// Opens the sink, again if need be. `written` is the last record this writer put there: what standard
    /// output ends with, as far as anybody knows.
    pub(crate) fn open(&mut self, written: Checkpoint) -> Result<Tail, AuditError> {
        self.file = None;
        let (AuditSink::File(path) | AuditSink::Export(_, path)) = &self.sink else {
            return Ok(Tail::clean(written));
        };
        let failed = |source| AuditError::Open { path: path.clone(), source };
        let file = options().open(path).map_err(failed)?;
        let meta = file.metadata().map_err(failed)?;
        if !meta.is_file() {
            self.file = Some(OpenFile { file, stream: true, len: 0, unterminated: false });
            return Ok(Tail::clean(written));
        }
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(AuditError::Locked { path: path.clone() }),
            Err(TryLockError::Error(error)) => {
                tracing::warn!(%error, path = %path.display(), "the audit log cannot be locked against a second writer");
            }
        }
        if self.is_export() {
            let unterminated = !ends_a_line(&file, meta.len()).map_err(failed)?;
            self.file = Some(OpenFile { file, stream: false, len: meta.len(), unterminated });
            return Ok(Tail::clean(written));
        }
        let found = tail(&file, meta.len()).map_err(failed)?;
        let (tail, unterminated) = found.ok_or_else(|| AuditError::NotAnAuditLog { path: path.clone() })?;
        self.file = Some(OpenFile { file, stream: false, len: meta.len(), unterminated });
        Ok(tail)
    }

    /// Whether it is written in the words of others.
    pub(crate) fn is_export(&self) -> bool {
        matches!(self.sink, AuditSink::Export(..))
    }

    /// Whether nobody can tell how the sink ends: standard output, a device, a pipe, an export.
    pub(crate) fn is_stream(&self) -> bool {
        self.sink == AuditSink::Stdout
            || self.is_export()
            || self.file.as_ref().is_some_and(|open| open.stream)
    }

    pub(crate) fn is_open(&self) -> bool {
        self.sink == AuditSink::Stdout || self.file.is_some()
    }

    /// Whether the file at the path is no longer the one that is open, or was shortened: it must be opened
    /// again, and what was written so far is elsewhere.
    pub(crate) fn displaced(&self) -> Displaced {
        let (AuditSink::File(path) | AuditSink::Export(_, path), Some(open)) = (&self.sink, &self.file)
        else {
            return Displaced::No;
        };
        if open.stream {
            return Displaced::No;
        }
        match (open.file.metadata(), fs::metadata(path)) {
            (Ok(own), _) if own.len() < open.len => Displaced::Shortened,
            (Ok(own), Ok(there)) if same_file(&own, &there) => Displaced::No,
            _ => Displaced::Moved,
        }
    }

    /// Writes whole lines. On an error nothing of them is left behind if that can be helped, and the writer
    /// must be opened again.
    pub(crate) fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        if self.sink == AuditSink::Stdout {
            let mut out = io::stdout().lock();
            return out.write_all(lines).and_then(|()| out.flush());
        }
        let Some(open) = &mut self.file else {
            return Err(io::ErrorKind::NotConnected.into());
        };
        let converted;
        let lines = match &self.sink {
            AuditSink::Export(format, _) => {
                converted = format.convert(lines);
                converted.as_slice()
            }
            _ => lines,
        };
        let before = open.file.metadata()?.len();
        let result = match open.unterminated {
            true => open.file.write_all(&[b"\n", lines].concat()),
            false => open.file.write_all(lines),
        };
        match result {
            Ok(()) => {
                open.len = before + u64::from(open.unterminated) + lines.len() as u64;
                open.unterminated = false;
            }
            Err(_) => {
                // Should this fail too, opening finds the torn line and the log says so.
                if !open.stream {
                    _ = open.file.set_len(before);
                }
                self.file = None;
            }
        }
        result
    }

    /// Puts what was written on the disk.
    pub(crate) fn sync(&self) {
        let file = self.file.as_ref().filter(|open| !open.stream);
        if let Some(Err(error)) = file.map(|open| open.file.sync_all()) {
            tracing::warn!(%error, "the audit log was not synced");
        }
    }
}

/// What became of the open file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Displaced {
    No,
    /// Renamed or removed: what is written still reaches it.
    Moved,
    /// Cut: what was in it is gone.
    Shortened,
}

fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).append(true).create(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

#[cfg(unix)]
pub(crate) fn same_file(a: &fs::Metadata, b: &fs::Metadata) -> bool {
    use std::os::unix::fs::MetadataExt;
    (a.dev(), a.ino()) == (b.dev(), b.ino())
}

#[cfg(not(unix))]
pub(crate) fn same_file(_: &fs::Metadata, _: &fs::Metadata) -> bool {
    true
}

/// How the file ends, and whether its last line lacks its end. `None`: it holds no records but something else.
fn tail(file: &File, len: u64) -> io::Result<Option<(Tail, bool)>> {
    let mut lines = BackLines::new(file, len);
    let (mut unterminated, mut unreadable_lines, mut torn_records) = (false, 0, true);
    while let Some((_, line)) = lines.next()? {
        if unreadable_lines == 0 {
            unterminated = !line.ends_with(b"\n");
        }
        match read(&line) {
            // An edited record is where the chain stands all the same: the verifier will point at it.
            Read::Sound(_, at) | Read::Edited(at) => {
                return Ok(Some((Tail { at, unreadable_lines }, unterminated)));
            }
            Read::Unreadable => {
                unreadable_lines += 1;
                torn_records &= begins_like_a_record(&line);
            }
        }
    }
    // Nothing but the torn beginnings of records: a crash in the very first write.
    Ok(torn_records.then_some((Tail { at: Checkpoint::GENESIS, unreadable_lines }, unterminated)))
}

/// Whether nothing was torn off at the end.
fn ends_a_line(mut file: &File, len: u64) -> io::Result<bool> {
    let Some(last) = len.checked_sub(1) else { return Ok(true) };
    let mut byte = [0];
    file.seek(SeekFrom::Start(last))?;
    file.read_exact(&mut byte)?;
    Ok(byte == *b"\n")
}

fn begins_like_a_record(line: &[u8]) -> bool {
    let beginning = format!("{{\"logger\":\"{LOGGER}\",");
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.starts_with(beginning.as_bytes()) || beginning.as_bytes().starts_with(line)
}

/// The first file among the sinks.
pub(crate) fn first_file(sinks: &[AuditSink]) -> Option<&Path> {
    sinks.iter().find_map(|sink| match sink {
        AuditSink::File(path) => Some(path.as_path()),
        AuditSink::Stdout | AuditSink::Export(..) => None,
    })
}
