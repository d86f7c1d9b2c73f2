//! Reading records back, newest first.

use std::fs::File;
use std::io::{self, Read as _, Seek, SeekFrom};
use std::net::IpAddr;
use std::path::Path;

use jiff::Timestamp;

use super::back_lines::BackLines;
use super::chain::{Read, read};
use super::event::{AuditEvent, Outcome};
use super::record::AuditRecord;

/// Most records of a page.
const MAX_LIMIT: usize = 1000;
/// Most bytes looked at for one page: a filter that fits nothing must not read a whole disk for one request.
const MAX_SCAN: u64 = 64 * 1024 * 1024;

/// Which records to give. An empty field does not filter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditFilter {
    /// Only this event.
    pub event: Option<AuditEvent>,
    /// Only this outcome.
    pub outcome: Option<Outcome>,
    /// Only this principal, by its id.
    pub principal: Option<String>,
    /// Only this pipeline.
    pub pipeline_id: Option<String>,
    /// Only this run.
    pub run_id: Option<String>,
    /// Only this address of a client.
    pub ip: Option<IpAddr>,
    /// Not before this.
    pub since: Option<Timestamp>,
    /// Before this.
    pub until: Option<Timestamp>,
    /// Most records; between 1 and 1000, default 100.
    pub limit: usize,
    /// `next_cursor` of the page before.
    pub cursor: Option<String>,
}

/// Some records, newest first.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct AuditPage {
    /// The records.
    pub records: Vec<AuditRecord>,
    /// Where to go on; `None` when there is no more. A page may be shorter than its limit and have one.
    pub next_cursor: Option<String>,
    /// Lines passed that are no records, or edited ones: reason to verify the file.
    pub unsound_lines: u64,
}

/// Why records cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The file cannot be read.
    #[error("the audit log cannot be read: {0}")]
    Io(#[from] io::Error),
    /// The path names a device or a pipe.
    #[error("the audit log is no regular file; name a file in audit_log to read records back")]
    NoFile,
    /// The cursor is not one of this file.
    #[error("this cursor belongs to no page of this log; start again without one")]
    Cursor,
}

impl Default for AuditFilter {
    fn default() -> Self {
        Self {
            event: None,
            outcome: None,
            principal: None,
            pipeline_id: None,
            run_id: None,
            ip: None,
            since: None,
            until: None,
            limit: 100,
            cursor: None,
        }
    }
}

/// Reads the records of a file that pass the filter, newest first. Blocks on the disk.
///
/// Edited records are left out: what they say is nobody's word. The chain is not checked; see
/// [`verify`](super::verify).
///
/// # Errors
/// [`ReadError::Cursor`] when the cursor does not fit the file, which may have been rotated meanwhile.
pub fn read_records(path: impl AsRef<Path>, filter: &AuditFilter) -> Result<AuditPage, ReadError> {
    let path = path.as_ref();
    // Asked before opening: opening a pipe would wait for its writer.
    if !std::fs::metadata(path)?.is_file() {
        return Err(ReadError::NoFile);
    }
    let mut file = File::open(path)?;
    let len = file.metadata()?.len();
    let end = match &filter.cursor {
        Some(cursor) => position(cursor, &mut file, len)?,
        None => len,
    };
    let mut page = AuditPage { records: Vec::new(), next_cursor: None, unsound_lines: 0 };
    let limit = filter.limit.clamp(1, MAX_LIMIT);
    let mut lines = BackLines::new(file, end);
    while let Some((at, line)) = lines.next()? {
        match read(&line) {
            Read::Sound(record, _) if filter.passes(&record) => page.records.push(*record),
            Read::Sound(..) => {}
            // The line that is being written now is no fault.
            Read::Unreadable if !line.ends_with(b"\n") => {}
            Read::Unreadable | Read::Edited(_) => page.unsound_lines += 1,
        }
        if page.records.len() >= limit || end - at > MAX_SCAN {
            page.next_cursor = (at > 0).then(|| at.to_string());
            break;
        }
    }
    Ok(page)
}

impl AuditFilter {
    fn passes(&self, record: &AuditRecord) -> bool {
        let same =
            |wanted: &Option<String>, found: Option<&str>| wanted.as_deref().is_none_or(|w| found == Some(w));
        self.event.is_none_or(|e| e == record.event)
            && self.outcome.is_none_or(|o| o == record.outcome)
            && same(&self.principal, record.principal.as_ref().map(|p| p.id.as_str()))
            && same(&self.pipeline_id, record.pipeline_id.as_deref())
            && same(&self.run_id, record.run_id.as_deref())
            && self.ip.is_none_or(|ip| record.ip == Some(ip))
            && self.since.is_none_or(|t| record.time >= t)
            && self.until.is_none_or(|t| record.time < t)
    }
}

/// A cursor is where a line begins.
fn position(cursor: &str, file: &mut File, len: u64) -> Result<u64, ReadError> {
    let at: u64 = cursor.parse().map_err(|_| ReadError::Cursor)?;
    if at == 0 || at > len {
        return Err(ReadError::Cursor);
    }
    let mut before = [0];
    file.seek(SeekFrom::Start(at - 1))?;
    file.read_exact(&mut before)?;
    if before == *b"\n" { Ok(at) } else { Err(ReadError::Cursor) }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::super::entry::AuditEntry;
    use super::super::logger::{AuditLogger, AuditMode, AuditOptions};
    use super::super::record::AuditPrincipal;
    use super::super::sink::AuditSink;
    use super::*;

    fn log() -> (tempfile::TempDir, std::path::PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("audit.jsonl");
        let sinks = vec![AuditSink::File(file.clone())];
        let log =
            AuditLogger::open(AuditOptions { sinks, mode: AuditMode::Required, ..AuditOptions::default() })
                .unwrap();
        for n in 0..300 {
            let (event, outcome) = match n % 3 {
                0 => (AuditEvent::PipelineExecute, Outcome::Success),
                1 => (AuditEvent::PipelineRead, Outcome::Success),
                _ => (AuditEvent::AuthorizationDenied, Outcome::Denied),
            };
            let id = if n % 2 == 0 { "even" } else { "odd" };
            let principal = AuditPrincipal { id: id.into(), kind: "jwt".into(), issuer: None, roles: vec![] };
            log.record(
                AuditEntry::new(event, outcome)
                    .principal(principal)
                    .pipeline_id(format!("p{}", n % 10))
                    .run_id(format!("r{}", n % 20))
                    .ip([192, 0, 2, (n % 30) as u8].into()),
            )
            .unwrap();
        }
        log.close();
        (folder, file)
    }

    fn seqs(page: &AuditPage) -> Vec<u64> {
        page.records.iter().map(|r| r.seq).collect()
    }

    #[test]
    fn pages_lead_from_the_newest_to_the_oldest() {
        let (_folder, file) = log();
        let mut filter = AuditFilter { limit: 70, ..AuditFilter::default() };
        let mut found = Vec::new();
        loop {
            let page = read_records(&file, &filter).unwrap();
            found.extend(seqs(&page));
            filter.cursor = page.next_cursor;
            if filter.cursor.is_none() {
                break;
            }
        }
        assert_eq!(found, (1..=302).rev().collect::<Vec<_>>());
    }

    #[test]
    fn every_filter_filters() {
        let (_folder, file) = log();
        let count = |filter: AuditFilter| read_records(&file, &filter).unwrap().records.len();
        let all = || AuditFilter { limit: 1000, ..AuditFilter::default() };
        assert_eq!(count(all()), 302);
        assert_eq!(count(AuditFilter { event: Some(AuditEvent::PipelineExecute), ..all() }), 100);
        assert_eq!(count(AuditFilter { outcome: Some(Outcome::Denied), ..all() }), 100);
        assert_eq!(count(AuditFilter { principal: Some("odd".into()), ..all() }), 150);
        assert_eq!(count(AuditFilter { pipeline_id: Some("p3".into()), ..all() }), 30);
        assert_eq!(count(AuditFilter { run_id: Some("r3".into()), ..all() }), 15);
        assert_eq!(count(AuditFilter { ip: Some([192, 0, 2, 3].into()), ..all() }), 10);
        let middle = read_records(&file, &all()).unwrap().records[150].time;
        let since = count(AuditFilter { since: Some(middle), ..all() });
        let until = count(AuditFilter { until: Some(middle), ..all() });
        assert!(since >= 151 && since + until == 302);
        assert_eq!(count(AuditFilter { limit: 0, ..all() }), 1);
    }

    #[test]
    fn unsound_lines_are_left_out_and_counted() {
        let (_folder, file) = log();
        let text = std::fs::read_to_string(&file).unwrap();
        std::fs::write(&file, text.replacen("\"even\"", "\"eve\"", 1)).unwrap();
        let mut end = std::fs::OpenOptions::new().append(true).open(&file).unwrap();
        end.write_all(b"garbage\n{\"logger\":\"taski").unwrap();
        let page = read_records(&file, &AuditFilter { limit: 1000, ..AuditFilter::default() }).unwrap();
        assert_eq!((page.records.len(), page.unsound_lines), (301, 2));
    }

    #[test]
    fn a_foreign_cursor_is_refused() {
        let (_folder, file) = log();
        for cursor in ["x", "-1", "0", "5", "99999999999"] {
            let filter = AuditFilter { cursor: Some(cursor.into()), ..AuditFilter::default() };
            assert!(matches!(read_records(&file, &filter), Err(ReadError::Cursor)), "{cursor}");
        }
        assert!(matches!(read_records("/dev/null", &AuditFilter::default()), Err(ReadError::NoFile)));
    }
}
