//! `audit_log`: where records go, written as texts or as mappings.

use std::path::PathBuf;

use serde_json::Value;
use taskiq_flow_security::audit::ExportFormat;

use super::kind::Kind;
use super::mistake::{Mistake, Segment};
use super::raw::{Raw, RawValue};
use super::types::texts;
use super::value::{FieldValue, Members};

/// Where audit records go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AuditTarget {
    /// Standard output.
    Stdout,
    /// A file that is only appended to.
    File(PathBuf),
    /// A file with a copy in the words of others: `ocsf:PATH` or `cef:PATH`.
    Export(ExportFormat, PathBuf),
}

/// All places audit records go to; empty: none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditLog(Vec<AuditTarget>);

/// One entry: `stdout`, `PATH`, `FORMAT:PATH`, `{target, format}`; `none` is no target.
struct Entry(Option<AuditTarget>);

/// How a mapping says the format.
#[derive(Clone, Copy)]
enum EntryFormat {
    Json,
    Ocsf,
    Cef,
}

texts!(EntryFormat: EntryFormat::Json = "json", EntryFormat::Ocsf = "ocsf", EntryFormat::Cef = "cef");

/// The members of a mapping, the last one optional.
const NAMES: &[&str] = &["target", "format"];

impl AuditLog {
    /// The places, in order.
    pub fn targets(&self) -> &[AuditTarget] {
        &self.0
    }
}

impl FromIterator<AuditTarget> for AuditLog {
    fn from_iter<I: IntoIterator<Item = AuditTarget>>(targets: I) -> Self {
        Self(targets.into_iter().collect())
    }
}

impl FieldValue for AuditLog {
    const KIND: Kind = Kind::TextOrList(&Entry::KIND);

    fn decode(raw: &Raw) -> Result<Self, Mistake> {
        let entries = match raw.value {
            RawValue::Text(_) | RawValue::Map(_) => vec![Entry::decode(raw)?],
            RawValue::List(_) => Vec::decode(raw)?,
            _ => return Err(Mistake::kind(&Self::KIND, raw, false)),
        };
        if entries.len() > 1 && entries.iter().any(|entry| entry.0.is_none()) {
            return Err(
                Mistake::is("names \"none\" beside others").help("write \"none\" alone, or leave it out")
            );
        }
        Ok(Self(entries.into_iter().filter_map(|entry| entry.0).collect()))
    }

    fn show(&self) -> Value {
        match self.0.is_empty() {
            true => Value::from("none"),
            false => self.0.iter().map(AuditTarget::show).collect(),
        }
    }
}

impl AuditTarget {
    /// As text, which can say all that a mapping can.
    fn show(&self) -> Value {
        match self {
            Self::Stdout => Value::from("stdout"),
            Self::File(path) => path.show(),
            Self::Export(format, path) => Value::from(format!("{}:{}", format.as_str(), path.display())),
        }
    }
}

impl FieldValue for Entry {
    const KIND: Kind = Kind::TextOrStruct(NAMES);

    fn decode(raw: &Raw) -> Result<Self, Mistake> {
        match &raw.value {
            RawValue::Text(text) => of_text(text).map(Self),
            RawValue::Map(_) => of_members(&Members::of(raw, NAMES, false)?).map(|target| Self(Some(target))),
            _ => Err(Mistake::kind(&Self::KIND, raw, false)),
        }
    }

    fn show(&self) -> Value {
        self.0.as_ref().map_or_else(|| Value::from("none"), AuditTarget::show)
    }
}

fn of_text(text: &str) -> Result<Option<AuditTarget>, Mistake> {
    match (text, of_prefix(text)) {
        ("", _) => Err(Mistake::must("be \"stdout\", a path or \"none\", found empty text")),
        ("stdout", _) => Ok(Some(AuditTarget::Stdout)),
        ("none", _) => Ok(None),
        (_, Some((_, "" | "stdout" | "none"))) => {
            Err(Mistake::must("name a file after the format, as in \"cef:/var/log/audit.cef\""))
        }
        (_, Some((format, path))) => Ok(Some(AuditTarget::Export(format, path.into()))),
        (path, None) => Ok(Some(AuditTarget::File(path.into()))),
    }
}

fn of_members(members: &Members<'_>) -> Result<AuditTarget, Mistake> {
    let target: String = members.required("target")?;
    let format = members.optional("format")?.unwrap_or(EntryFormat::Json);
    let export = match format {
        EntryFormat::Json => None,
        EntryFormat::Ocsf => Some(ExportFormat::Ocsf),
        EntryFormat::Cef => Some(ExportFormat::Cef),
    };
    let mistake = |mistake: Mistake| Err(mistake.under(Segment::Name("target".to_owned())));
    match (target.as_str(), export) {
        ("", _) => mistake(Mistake::must("be \"stdout\" or a path, found empty text")),
        ("none", _) => {
            mistake(Mistake::is("names no place").help("write \"none\" as text and alone, or leave it out"))
        }
        ("stdout", None) => Ok(AuditTarget::Stdout),
        ("stdout", Some(_)) => mistake(
            Mistake::must("name a file where the format is not \"json\"")
                .help("name one, such as \"/var/log/audit.cef\""),
        ),
        (text, _) if of_prefix(text).is_some() => mistake(
            Mistake::is("names a format too").help("say it in `format`, and write the path alone here"),
        ),
        (path, None) => Ok(AuditTarget::File(path.into())),
        (path, Some(format)) => Ok(AuditTarget::Export(format, path.into())),
    }
}

/// The format and the path of `FORMAT:PATH`.
fn of_prefix(text: &str) -> Option<(ExportFormat, &str)> {
    let (format, path) = text.split_once(':')?;
    Some((format.parse().ok()?, path))
}
