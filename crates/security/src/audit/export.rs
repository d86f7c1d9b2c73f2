//! Records in the words of others: OCSF and CEF, for those who gather events of many systems.
//!
//! An export is a copy. The chain is in the JSON files; a line of an export names the record it is of by number and hash.

mod cef;
mod ocsf;
#[cfg(test)]
mod tests;

use std::str::FromStr;

use super::chain::{Read, read};
use super::event::{AuditEvent, Outcome};
use super::record::AuditRecord;
use super::safe_json::to_safe_json;

const VENDOR: &str = "TaskIQ-Flow";
const PRODUCT: &str = "taskiq-flow";
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// In whose words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExportFormat {
    /// Open Cybersecurity Schema Framework.
    Ocsf,
    /// Common Event Format.
    Cef,
}

/// A text that names no format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected ocsf or cef")]
pub struct UnknownFormat;

impl ExportFormat {
    /// How configuration names it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ocsf => "ocsf",
            Self::Cef => "cef",
        }
    }

    /// Lines of the log as lines of the export; what is no sound record is left out.
    pub(crate) fn convert(self, lines: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(lines.len() * 2);
        for line in lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            if let Read::Sound(record, _) = read(line) {
                out.extend_from_slice(self.line(&record).as_bytes());
                out.push(b'\n');
            }
        }
        out
    }

    /// One record as one line, without its end.
    pub fn line(self, record: &AuditRecord) -> String {
        match self {
            // Values always have a JSON form.
            Self::Ocsf => to_safe_json(&ocsf::event(record)).unwrap_or_default(),
            Self::Cef => cef::line(record),
        }
    }
}

impl FromStr for ExportFormat {
    type Err = UnknownFormat;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "ocsf" => Ok(Self::Ocsf),
            "cef" => Ok(Self::Cef),
            _ => Err(UnknownFormat),
        }
    }
}

/// How much a record matters, as OCSF counts: 1 informational, 2 low, 3 medium, 4 high.
fn severity_of(record: &AuditRecord) -> (u32, &'static str) {
    match (record.event, record.outcome) {
        (AuditEvent::AuditGap, _) => (4, "High"),
        (AuditEvent::AuthenticationFailure, _) | (_, Outcome::Denied) => (3, "Medium"),
        (AuditEvent::SecurityConfigChange, _) | (_, Outcome::Failure | Outcome::Throttled) => (2, "Low"),
        (_, Outcome::Success) => (1, "Informational"),
    }
}
