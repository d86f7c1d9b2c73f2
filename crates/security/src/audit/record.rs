//! A record: one line of the log.

use std::borrow::Cow;
use std::net::IpAddr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize, Serializer};

use super::entry::{AuditEntry, AuditSubject, SubjectNames};
use super::event::{AuditEvent, Outcome};

/// The name of the log: the field `logger` of each record, and the target of the tracing events.
pub const LOGGER: &str = "taskiq_flow.audit";

/// Most characters of an identifier, a method or a principal.
const MAX_NAME: usize = 256;
/// Most characters of a path, an action or a detail.
const MAX_TEXT: usize = 1024;
/// Most characters of the detail of a change of security settings, which tells what was before and what is after.
const MAX_CHANGE: usize = 16 * 1024;
/// Most roles of a principal, and most characters of one.
const MAX_ROLES: (usize, usize) = (16, 64);

/// Who did it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuditPrincipal {
    /// Name of the principal: of a key its `id`, of a token its `sub`. Never the credential.
    pub id: String,
    /// `api_key`, `jwt` or `anonymous`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Who issued the token, where tokens of several issuers are accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issuer: Option<String>,
    /// Its roles.
    pub roles: Vec<String>,
}

/// One line of the log. The order of the fields is the order in the line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuditRecord {
    /// Always [`LOGGER`].
    pub logger: String,
    /// Number of the record: one more than the record before.
    pub seq: u64,
    /// When it happened, by this machine's clock, in UTC with six decimals.
    #[serde(serialize_with = "six_decimals")]
    pub time: Timestamp,
    /// What happened.
    pub event: AuditEvent,
    /// How it ended.
    pub outcome: Outcome,
    /// Who did it.
    pub principal: Option<AuditPrincipal>,
    /// What was asked.
    pub action: Option<String>,
    /// The pipeline concerned.
    pub pipeline_id: Option<String>,
    /// The run concerned.
    pub run_id: Option<String>,
    /// Address of the client.
    pub ip: Option<IpAddr>,
    /// The request's identifier.
    pub request_id: Option<String>,
    /// HTTP method.
    pub method: Option<String>,
    /// Path of the request.
    pub path: Option<String>,
    /// HTTP status or WebSocket close code.
    pub status: Option<u16>,
    /// Anything else.
    pub detail: Option<String>,
    /// Hash of the record before, in hexadecimal.
    pub prev_hash: String,
    /// Hash of this record without this field, in hexadecimal.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub hash: String,
}

/// A record that is being written: the fields of [`AuditRecord`] but for the hash, out of an entry that keeps its
/// texts, each cut to its length. [`LineWriter`](super::line::LineWriter) writes it; tests compare with what `serde` would.
#[derive(Debug)]
#[cfg_attr(test, derive(Serialize))]
pub(crate) struct RecordView<'a> {
    pub(crate) logger: &'static str,
    pub(crate) seq: u64,
    #[cfg_attr(test, serde(serialize_with = "six_decimals"))]
    pub(crate) time: Timestamp,
    pub(crate) event: AuditEvent,
    pub(crate) outcome: Outcome,
    pub(crate) principal: Option<PrincipalView<'a>>,
    pub(crate) action: Option<Cow<'a, str>>,
    pub(crate) pipeline_id: Option<Cow<'a, str>>,
    pub(crate) run_id: Option<Cow<'a, str>>,
    pub(crate) ip: Option<IpAddr>,
    pub(crate) request_id: Option<Cow<'a, str>>,
    pub(crate) method: Option<Cow<'a, str>>,
    pub(crate) path: Option<Cow<'a, str>>,
    pub(crate) status: Option<u16>,
    pub(crate) detail: Option<Cow<'a, str>>,
    pub(crate) prev_hash: &'a str,
}

/// The principal of a [`RecordView`].
#[derive(Debug)]
#[cfg_attr(test, derive(Serialize))]
pub(crate) struct PrincipalView<'a> {
    pub(crate) id: Cow<'a, str>,
    #[cfg_attr(test, serde(rename = "type"))]
    pub(crate) kind: Cow<'a, str>,
    #[cfg_attr(test, serde(skip_serializing_if = "Option::is_none"))]
    pub(crate) issuer: Option<Cow<'a, str>>,
    pub(crate) roles: Vec<Cow<'a, str>>,
}

impl AuditSubject for AuditPrincipal {
    fn names(&self) -> SubjectNames<'_> {
        SubjectNames {
            id: Cow::Borrowed(&self.id),
            kind: &self.kind,
            issuer: self.issuer.as_deref(),
            roles: &self.roles,
        }
    }
}

impl<'a> RecordView<'a> {
    /// The record that `entry` becomes; `names` are those of its principal.
    pub(crate) fn new(
        entry: &'a AuditEntry,
        names: Option<&'a SubjectNames<'a>>,
        seq: u64,
        time: Timestamp,
        prev_hash: &'a str,
    ) -> Self {
        fn name(text: Option<&str>) -> Option<Cow<'_, str>> {
            text.map(|text| cut(text, MAX_NAME))
        }
        fn long(text: Option<&str>) -> Option<Cow<'_, str>> {
            text.map(|text| cut(text, MAX_TEXT))
        }
        let request = entry.facts();
        let endpoint = request.and_then(|request| request.endpoint);
        Self {
            logger: LOGGER,
            seq,
            time,
            event: entry.event,
            outcome: entry.outcome,
            principal: names.map(PrincipalView::new),
            action: long(entry.action.as_deref().or(endpoint)),
            pipeline_id: name(entry.pipeline_id.as_deref()),
            run_id: name(entry.run_id.as_deref()),
            ip: entry.ip.or_else(|| request?.ip),
            request_id: name(request.map(|request| request.id)),
            method: name(request.map(|request| request.method)),
            path: long(request.map(|request| request.path)),
            status: entry.status,
            detail: match entry.event {
                AuditEvent::SecurityConfigChange => entry.detail.as_deref().map(|text| cut(text, MAX_CHANGE)),
                _ => long(entry.detail.as_deref()),
            },
            prev_hash,
        }
    }
}

impl<'a> PrincipalView<'a> {
    fn new(names: &'a SubjectNames<'a>) -> Self {
        let (count, length) = MAX_ROLES;
        Self {
            id: cut(&names.id, MAX_NAME),
            kind: cut(names.kind, MAX_NAME),
            issuer: names.issuer.map(|issuer| cut(issuer, MAX_NAME)),
            roles: names.roles.iter().take(count).map(|role| cut(role, length)).collect(),
        }
    }
}

fn cut(text: &str, most: usize) -> Cow<'_, str> {
    if text.len() <= most {
        return Cow::Borrowed(text);
    }
    // One look at `most` characters, however long the text is.
    let mut ends = text.char_indices().map(|(at, _)| at).skip(most - 1);
    match (ends.next(), ends.next()) {
        (Some(end), Some(_)) => Cow::Owned(format!("{}…", &text[..end])),
        _ => Cow::Borrowed(text),
    }
}

fn six_decimals<S: Serializer>(time: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{time:.6}"))
}

#[cfg(test)]
mod tests {
    use super::super::chain::{Checkpoint, Read, read, seal};
    use super::super::entry::{AuditRequest, RequestNames};
    use super::*;

    fn sealed(entry: &AuditEntry) -> AuditRecord {
        let line = seal(entry, Timestamp::UNIX_EPOCH, Checkpoint::GENESIS).unwrap();
        assert!(
            String::from_utf8_lossy(&line.bytes).contains("\"time\":\"1970-01-01T00:00:00.000000Z\""),
            "always six decimals"
        );
        match read(&line.bytes) {
            Read::Sound(record, _) => *record,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn long_fields_are_cut_where_they_say() {
        assert_eq!(cut(&"é".repeat(257), 256).chars().count(), 256);
        assert!(cut(&"é".repeat(257), 256).ends_with("é…"));
        assert_eq!(cut(&"é".repeat(256), 256), "é".repeat(256));
        let entry = AuditEntry::new(AuditEvent::PipelineRead, Outcome::Success)
            .detail("x".repeat(1_000_000))
            .request("i".repeat(999), "GET", "/".repeat(1_000_000))
            .principal(AuditPrincipal {
                id: "i".repeat(999),
                kind: "jwt".into(),
                issuer: None,
                roles: vec!["r".repeat(99); 99],
            });
        let record = sealed(&entry);
        assert_eq!(record.detail.unwrap().chars().count(), 1024);
        assert_eq!(record.path.unwrap().chars().count(), 1024);
        assert_eq!(record.request_id.unwrap().chars().count(), 256);
        let principal = record.principal.unwrap();
        assert_eq!((principal.id.chars().count(), principal.roles.len()), (256, 16));
        assert_eq!(principal.roles[0].chars().count(), 64);
    }

    #[derive(Debug)]
    struct Listing;

    impl AuditRequest for Listing {
        fn facts(&self) -> RequestNames<'_> {
            let ip = Some([192, 0, 2, 1].into());
            RequestNames { id: "q", method: "GET", path: "/runs", ip, endpoint: Some("list_runs") }
        }
    }

    #[test]
    fn what_the_entry_leaves_open_the_request_says() {
        let mut entry = AuditEntry::new(AuditEvent::PipelineRead, Outcome::Success);
        entry.request = Some(std::sync::Arc::new(Listing));
        let record = sealed(&entry);
        assert_eq!((record.action.as_deref(), record.ip), (Some("list_runs"), Some([192, 0, 2, 1].into())));
        let record = sealed(&entry.action("else").ip([192, 0, 2, 2].into()));
        assert_eq!((record.action.as_deref(), record.ip), (Some("else"), Some([192, 0, 2, 2].into())));
    }
}
