//! Types that only the configuration has, and how those of the security crate are read.

use serde::Serialize;
use serde_json::{Value, json};
use taskiq_flow_security::permission::Permission;
use taskiq_flow_security::policy::Acl;
use taskiq_flow_security::settings::{AuthProvider, HandshakeAuth, QuotaEntry, RateLimitKey};

use super::kind::Kind;
use super::mistake::Mistake;
use super::raw::{Raw, RawValue};
use super::value::{FieldValue, Members};

/// Reads and shows an enum by the texts of its variants.
macro_rules! texts {
    ($type:ty: $($variant:path = $text:literal),+) => {
        impl FieldValue for $type {
            const KIND: Kind = Kind::Choice(&[$($text),+]);

            fn decode(raw: &Raw) -> Result<Self, Mistake> {
                match &raw.value {
                    $(RawValue::Text(text) if text == $text => Ok($variant),)+
                    _ => Err(Mistake::kind(&Self::KIND, raw, false)),
                }
            }

            fn show(&self) -> Value {
                Value::from(match self { $($variant => $text),+ })
            }
        }
    };
}

pub(super) use texts;

texts!(AuthProvider: AuthProvider::ApiKey = "api_key", AuthProvider::Jwt = "jwt");
texts!(RateLimitKey: RateLimitKey::Both = "both", RateLimitKey::Ip = "ip", RateLimitKey::Principal = "principal");
texts!(HandshakeAuth: HandshakeAuth::Optional = "optional", HandshakeAuth::Required = "required");
texts!(RateLimitOnError: RateLimitOnError::Local = "local", RateLimitOnError::Deny = "deny");
texts!(AuditMode: AuditMode::BestEffort = "best_effort", AuditMode::Required = "required");
texts!(Durability: Durability::Strict = "strict", Durability::Relaxed = "relaxed");
texts!(TlsClientAuth: TlsClientAuth::Required = "required", TlsClientAuth::Optional = "optional");
texts!(LogFormat: LogFormat::Text = "text", LogFormat::Json = "json");

/// How much of a resource there is, as it was written: a number, or an amount of memory such as `8GiB`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ResourceAmount(String);

impl ResourceAmount {
    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl<T: Into<String>> From<T> for ResourceAmount {
    fn from(text: T) -> Self {
        Self(text.into())
    }
}

impl FieldValue for ResourceAmount {
    const KIND: Kind = Kind::Text { what: "an amount such as 4, 0.5 or 8GiB", sample: "1" };

    fn decode(raw: &Raw) -> Result<Self, Mistake> {
        match &raw.value {
            RawValue::Text(text) => Ok(Self(text.clone())),
            RawValue::Number(number) => Ok(Self(number.to_string())),
            _ => Err(Mistake::kind(&Self::KIND, raw, false)),
        }
    }

    fn show(&self) -> Value {
        Value::from(self.0.as_str())
    }
}

/// What becomes of a request while the shared storage of the rate limits cannot be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RateLimitOnError {
    /// It is counted in this process alone.
    #[default]
    Local,
    /// It is refused.
    Deny,
}

/// What becomes of a request whose audit record cannot be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum AuditMode {
    /// It is served; how many records are missing is recorded later.
    #[default]
    BestEffort,
    /// It is refused.
    Required,
}

/// Whether a client must have a certificate where `tls_client_ca` says who signs them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TlsClientAuth {
    /// Without one there is no connection.
    #[default]
    Required,
    /// Without one it needs another credential.
    Optional,
}

/// When a step of a run counts as kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Durability {
    /// It is on disk before anybody sees it.
    #[default]
    Strict,
    /// It is on disk a few milliseconds later.
    Relaxed,
}

/// How the server's own log is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// Lines for people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Who may do what with one pipeline, put together piece by piece.
///
/// ```
/// use taskiq_flow::config::{Permission, PipelineAcl};
///
/// let acl = PipelineAcl::new()
///     .allow(Permission::Read, ["admin", "viewer"])
///     .allow(Permission::Execute, ["admin"]);
/// # let _ = acl;
/// ```
#[derive(Debug, Clone, Default)]
pub struct PipelineAcl(Vec<(Permission, Vec<String>)>);

/// One text or several.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Texts(Vec<String>);

impl Texts {
    /// Them one by one.
    pub fn as_slice(&self) -> &[String] {
        &self.0
    }
}

impl From<&str> for Texts {
    fn from(text: &str) -> Self {
        Self(vec![text.to_owned()])
    }
}

impl From<String> for Texts {
    fn from(text: String) -> Self {
        Self(vec![text])
    }
}

impl<T: Into<String>> FromIterator<T> for Texts {
    fn from_iter<I: IntoIterator<Item = T>>(texts: I) -> Self {
        Self(texts.into_iter().map(Into::into).collect())
    }
}

impl FieldValue for Texts {
    const KIND: Kind = Kind::TextOrList(&String::KIND);

    fn decode(raw: &Raw) -> Result<Self, Mistake> {
        match &raw.value {
            RawValue::Null => Ok(Self::default()),
            RawValue::Text(text) => Ok(Self(vec![text.clone()])),
            RawValue::List(_) => Vec::decode(raw).map(Self),
            _ => Err(Mistake::kind(&Self::KIND, raw, false)),
        }
    }

    fn show(&self) -> Value {
        match self.0.as_slice() {
            [] => Value::Null,
            [one] => Value::from(one.as_str()),
            several => several.iter().map(String::as_str).collect(),
        }
    }
}

impl PipelineAcl {
    /// An ACL that lists nobody: only admins pass it.
    pub fn new() -> Self {
        Self::default()
    }

    /// Lists roles for a permission, beside those it has already.
    #[must_use]
    pub fn allow<S: Into<String>>(
        mut self,
        permission: Permission,
        roles: impl IntoIterator<Item = S>,
    ) -> Self {
        let roles = roles.into_iter().map(Into::into);
        match self.0.iter_mut().find(|(listed, _)| *listed == permission) {
            Some((_, listed)) => listed.extend(roles),
            None => self.0.push((permission, roles.collect())),
        }
        self
    }
}

impl From<PipelineAcl> for Acl {
    fn from(acl: PipelineAcl) -> Self {
        Acl::new(acl.0)
    }
}

impl FieldValue for Acl {
    const KIND: Kind = Kind::Struct(&["read", "execute", "admin"]);

    fn decode(raw: &Raw) -> Result<Self, Mistake> {
        let members = Members::of(raw, &["read", "execute", "admin"], false)?;
        let mut lists = Vec::new();
        for permission in Permission::ALL {
            if let Some(roles) = members.optional::<Vec<String>>(permission.as_str())? {
                lists.push((permission, roles));
            }
        }
        Ok(Acl::new(lists))
    }

    fn show(&self) -> Value {
        Value::Object(
            self.lists().map(|(permission, roles)| (permission.to_string(), json!(roles))).collect(),
        )
    }
}

const NAMES_OF_QUOTA: &[&str] = &["executions", "per_principal", "concurrent_runs"];

impl FieldValue for QuotaEntry {
    const KIND: Kind = Kind::Struct(NAMES_OF_QUOTA);

    fn decode(raw: &Raw) -> Result<Self, Mistake> {
        let members = Members::of(raw, NAMES_OF_QUOTA, false)?;
        Ok(Self {
            executions: members.optional("executions")?,
            per_principal: members.optional("per_principal")?,
            concurrent_runs: members.optional("concurrent_runs")?,
        })
    }

    fn show(&self) -> Value {
        // Texts and a number always serialise.
        json!(self)
    }
}
