//! What a record says.

use std::net::IpAddr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize, Serializer};

use super::event::{AuditEvent, Outcome};

/// The name of the log: the field `logger` of each record, and the target of the tracing events.
pub const LOGGER: &str = "taskiq_flow.audit";

/// Most characters of an identifier, a method or a principal.
const MAX_NAME: usize = 256;
/// Most characters of a path, an action or a detail.
const MAX_TEXT: usize = 1024;
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
    /// Its roles.
    pub roles: Vec<String>,
}

/// What a caller says about an event; the log adds number, time and hashes.
///
/// Names and identifiers are cut to 256 characters, `path`, `action` and `detail` to 1024, roles to 16 of 64
/// characters; what was cut ends in `…`. The log does not look for secrets: never put a credential or a
/// parameter value in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditEntry {
    /// What happened.
    pub event: AuditEvent,
    /// How it ended.
    pub outcome: Outcome,
    /// Who did it, if known.
    pub principal: Option<AuditPrincipal>,
    /// What was asked: the endpoint's name or the permission.
    pub action: Option<String>,
    /// The pipeline concerned.
    pub pipeline_id: Option<String>,
    /// The run concerned.
    pub run_id: Option<String>,
    /// Address of the client.
    pub ip: Option<IpAddr>,
    /// The request's identifier, as in the answer.
    pub request_id: Option<String>,
    /// HTTP method.
    pub method: Option<String>,
    /// Path of the request, without its query.
    pub path: Option<String>,
    /// HTTP status or WebSocket close code of the answer.
    pub status: Option<u16>,
    /// Anything else, for people.
    pub detail: Option<String>,
}

/// One line of the log. The order of the fields is the order in the line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuditRecord {
    /// Always [`LOGGER`].
    pub logger: String,
    /// Number of the record: one more than the record before.
    pub seq: u64,
    /// When it was recorded, by this machine's clock, in UTC with six decimals.
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

impl AuditEntry {
    /// An entry that says nothing else yet.
    pub fn new(event: AuditEvent, outcome: Outcome) -> Self {
        Self {
            event,
            outcome,
            principal: None,
            action: None,
            pipeline_id: None,
            run_id: None,
            ip: None,
            request_id: None,
            method: None,
            path: None,
            status: None,
            detail: None,
        }
    }

    /// Says who.
    #[must_use]
    pub fn principal(mut self, principal: AuditPrincipal) -> Self {
        self.principal = Some(principal);
        self
    }

    /// Says what was asked.
    #[must_use]
    pub fn action(mut self, action: impl Into<String>) -> Self {
        self.action = Some(action.into());
        self
    }

    /// Says on which pipeline.
    #[must_use]
    pub fn pipeline_id(mut self, id: impl Into<String>) -> Self {
        self.pipeline_id = Some(id.into());
        self
    }

    /// Says on which run.
    #[must_use]
    pub fn run_id(mut self, id: impl Into<String>) -> Self {
        self.run_id = Some(id.into());
        self
    }

    /// Says from where.
    #[must_use]
    pub fn ip(mut self, ip: IpAddr) -> Self {
        self.ip = Some(ip);
        self
    }

    /// Says in which request: its identifier, method and path (without the query).
    #[must_use]
    pub fn request(
        mut self,
        id: impl Into<String>,
        method: impl Into<String>,
        path: impl Into<String>,
    ) -> Self {
        self.request_id = Some(id.into());
        self.method = Some(method.into());
        self.path = Some(path.into());
        self
    }

    /// Says how it was answered.
    #[must_use]
    pub fn status(mut self, status: u16) -> Self {
        self.status = Some(status);
        self
    }

    /// Says more.
    #[must_use]
    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    pub(crate) fn into_record(self, seq: u64, time: Timestamp, prev_hash: String) -> AuditRecord {
        let name = |text: Option<String>| text.map(|t| cut(t, MAX_NAME));
        let text = |text: Option<String>| text.map(|t| cut(t, MAX_TEXT));
        AuditRecord {
            logger: LOGGER.to_owned(),
            seq,
            time,
            event: self.event,
            outcome: self.outcome,
            principal: self.principal.map(AuditPrincipal::bounded),
            action: text(self.action),
            pipeline_id: name(self.pipeline_id),
            run_id: name(self.run_id),
            ip: self.ip,
            request_id: name(self.request_id),
            method: name(self.method),
            path: text(self.path),
            status: self.status,
            detail: text(self.detail),
            prev_hash,
            hash: String::new(),
        }
    }
}

impl AuditPrincipal {
    fn bounded(self) -> Self {
        let (count, length) = MAX_ROLES;
        Self {
            id: cut(self.id, MAX_NAME),
            kind: cut(self.kind, MAX_NAME),
            roles: self.roles.into_iter().take(count).map(|r| cut(r, length)).collect(),
        }
    }
}

fn cut(mut text: String, most: usize) -> String {
    if text.len() > most && text.chars().count() > most {
        let end = text.char_indices().nth(most - 1).map_or(text.len(), |(at, _)| at);
        text.truncate(end);
        text.push('…');
    }
    text
}

fn six_decimals<S: Serializer>(time: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{time:.6}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_fields_are_cut_where_they_say() {
        assert_eq!(cut("é".repeat(257), 256).chars().count(), 256);
        assert!(cut("é".repeat(257), 256).ends_with("é…"));
        assert_eq!(cut("é".repeat(256), 256), "é".repeat(256));
        let entry = AuditEntry::new(AuditEvent::PipelineRead, Outcome::Success)
            .detail("x".repeat(1_000_000))
            .principal(AuditPrincipal {
                id: "i".repeat(999),
                kind: "jwt".into(),
                roles: vec!["r".repeat(99); 99],
            });
        let record = entry.into_record(1, Timestamp::UNIX_EPOCH, String::new());
        assert_eq!(record.detail.unwrap().chars().count(), 1024);
        let principal = record.principal.unwrap();
        assert_eq!((principal.id.chars().count(), principal.roles.len()), (256, 16));
        assert_eq!(principal.roles[0].chars().count(), 64);
    }

    #[test]
    fn time_has_always_six_decimals() {
        let record = AuditEntry::new(AuditEvent::AuditStart, Outcome::Success).into_record(
            1,
            Timestamp::UNIX_EPOCH,
            String::new(),
        );
        assert!(serde_json::to_string(&record).unwrap().contains("\"time\":\"1970-01-01T00:00:00.000000Z\""));
    }
}
