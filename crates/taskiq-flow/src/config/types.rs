//! Types that only the configuration has, and how those of the security crate are read.

use std::fmt;
use std::path::PathBuf;

use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;
use serde_json::{Value, json};
use taskiq_flow_security::permission::{Permission, PermissionSet};
use taskiq_flow_security::policy::Acl;
use taskiq_flow_security::settings::{
    ApiKeyEntry, ApiKeyMap, AuthProvider, HandshakeAuth, PublicKeyEntry, RateLimitKey,
};

use super::mistake::{Mistake, Segment};
use super::raw::{Raw, RawValue};
use super::value::{FieldValue, Kind, Members, REDACTED};

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

texts!(AuthProvider: AuthProvider::ApiKey = "api_key", AuthProvider::Jwt = "jwt");
texts!(RateLimitKey: RateLimitKey::Both = "both", RateLimitKey::Ip = "ip", RateLimitKey::Principal = "principal");
texts!(HandshakeAuth: HandshakeAuth::Optional = "optional", HandshakeAuth::Required = "required");
texts!(RateLimitOnError: RateLimitOnError::Local = "local", RateLimitOnError::Deny = "deny");
texts!(AuditMode: AuditMode::BestEffort = "best_effort", AuditMode::Required = "required");
texts!(Durability: Durability::Strict = "strict", Durability::Relaxed = "relaxed");
texts!(LogFormat: LogFormat::Text = "text", LogFormat::Json = "json");

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

/// Where audit records go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AuditTarget {
    /// Standard output.
    Stdout,
    /// A file that is only appended to.
    File(PathBuf),
}

/// All places audit records go to; empty: none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditLog(Vec<AuditTarget>);

/// What one API key may do, put together piece by piece.
///
/// ```
/// use taskiq_flow::config::{ApiKey, Permission};
///
/// let key = ApiKey::new("viewer").pipelines(["pipeline1", "audio_*"]).permissions([Permission::Read]).id("ops");
/// # let _ = key;
/// ```
#[derive(Debug, Clone)]
pub struct ApiKey(ApiKeyEntry);

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

/// The accepted API keys and what each may do, in the order they were written. Its `Debug` shows no key.
#[derive(Clone, Default)]
pub struct ApiKeys(Vec<(SecretString, ApiKeyEntry)>);

/// One text or several.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Texts(Vec<String>);

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
    const KIND: Kind = Kind::TextOrList(&String::KIND);

    fn decode(raw: &Raw) -> Result<Self, Mistake> {
        let several = matches!(raw.value, RawValue::List(_));
        let target = |(index, text): (usize, String)| {
            let mistake = |mistake: Mistake| match several {
                true => mistake.under(Segment::Item(index)),
                false => mistake,
            };
            match text.as_str() {
                "" => Err(mistake(Mistake::must("be \"stdout\", a path or \"none\", found empty text"))),
                "stdout" => Ok(Some(AuditTarget::Stdout)),
                "none" => Ok(None),
                path => Ok(Some(AuditTarget::File(path.into()))),
            }
        };
        let targets = texts(raw)?.into_iter().enumerate().map(target).collect::<Result<Vec<_>, _>>()?;
        if targets.len() > 1 && targets.contains(&None) {
            return Err(
                Mistake::is("names \"none\" beside others").help("write \"none\" alone, or leave it out")
            );
        }
        Ok(Self(targets.into_iter().flatten().collect()))
    }

    fn show(&self) -> Value {
        let text = |target: &AuditTarget| match target {
            AuditTarget::Stdout => Value::from("stdout"),
            AuditTarget::File(path) => path.show(),
        };
        match self.0.is_empty() {
            true => Value::from("none"),
            false => self.0.iter().map(text).collect(),
        }
    }
}

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
        match raw.value {
            RawValue::Null => Ok(Self::default()),
            _ => texts(raw).map(Self),
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

fn texts(raw: &Raw) -> Result<Vec<String>, Mistake> {
    match &raw.value {
        RawValue::Text(text) => Ok(vec![text.clone()]),
        RawValue::List(_) => Vec::decode(raw),
        _ => Err(Mistake::kind(&Kind::TextOrList(&String::KIND), raw, false)),
    }
}

impl ApiKey {
    /// A key of this role. It may not do anything yet, on any pipeline.
    pub fn new(role: impl Into<String>) -> Self {
        Self(ApiKeyEntry { role: Some(role.into()), ..ApiKeyEntry::default() })
    }

    /// Limits the key to these pipelines; `*` inside a name stands for any text, `"*"` alone for all pipelines.
    #[must_use]
    pub fn pipelines<S: Into<String>>(mut self, pipelines: impl IntoIterator<Item = S>) -> Self {
        self.0.pipelines = Some(pipelines.into_iter().map(Into::into).collect());
        self
    }

    /// What the key may do.
    #[must_use]
    pub fn permissions(mut self, permissions: impl IntoIterator<Item = Permission>) -> Self {
        self.0.permissions = permissions.into_iter().collect();
        self
    }

    /// From when on the key is refused.
    #[must_use]
    pub fn expires_at(mut self, time: jiff::Timestamp) -> Self {
        self.0.expires_at = Some(time);
        self
    }

    /// What logs and audit records call the key.
    #[must_use]
    pub fn id(mut self, id: impl Into<String>) -> Self {
        self.0.id = Some(id.into());
        self
    }
}

impl From<ApiKey> for ApiKeyEntry {
    fn from(key: ApiKey) -> Self {
        key.0
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

impl ApiKeys {
    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is no key.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What each key may do, without the keys.
    pub fn entries(&self) -> impl Iterator<Item = &ApiKeyEntry> {
        self.0.iter().map(|(_, entry)| entry)
    }

    /// Adds a key: raw, or `sha256:` and its digest.
    pub fn insert(&mut self, key: impl Into<SecretString>, entry: impl Into<ApiKeyEntry>) {
        self.0.push((key.into(), entry.into()));
    }

    pub(super) fn texts(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(key, _)| key.expose_secret())
    }

    pub(super) fn to_map(&self) -> ApiKeyMap {
        self.0.iter().map(|(key, entry)| (key.expose_secret(), entry.clone())).collect()
    }
}

impl<K: Into<SecretString>, E: Into<ApiKeyEntry>> FromIterator<(K, E)> for ApiKeys {
    fn from_iter<I: IntoIterator<Item = (K, E)>>(keys: I) -> Self {
        Self(keys.into_iter().map(|(key, entry)| (key.into(), entry.into())).collect())
    }
}

impl fmt::Debug for ApiKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.entries()).finish()
    }
}

impl FieldValue for ApiKeys {
    const KIND: Kind = Kind::Map(&ApiKeyEntry::KIND);
    const SECRET: bool = true;

    fn decode(raw: &Raw) -> Result<Self, Mistake> {
        let RawValue::Map(entries) = &raw.value else {
            return Err(Mistake::kind(&Self::KIND, raw, true));
        };
        let decode = |(index, (key, value)): (usize, &(super::raw::RawKey, Raw))| {
            let entry = ApiKeyEntry::decode(value).map_err(|mistake| mistake.under(Segment::Entry(index)))?;
            Ok((SecretString::from(key.text.as_str()), entry))
        };
        entries.iter().enumerate().map(decode).collect::<Result<_, _>>().map(Self)
    }

    fn show(&self) -> Value {
        self.entries().map(ApiKeyEntry::show).collect()
    }
}

impl FieldValue for ApiKeyEntry {
    const KIND: Kind = Kind::Struct(NAMES_OF_KEY);
    const SECRET: bool = true;

    fn decode(raw: &Raw) -> Result<Self, Mistake> {
        let members = Members::of(raw, NAMES_OF_KEY, true)?;
        Ok(Self {
            role: members.optional("role")?,
            roles: members.optional("roles")?.unwrap_or_default(),
            pipelines: members.optional("pipelines")?,
            permissions: members.optional("permissions")?.unwrap_or(PermissionSet::EMPTY),
            expires_at: members.optional("expires_at")?,
            id: members.optional("id")?,
        })
    }

    fn show(&self) -> Value {
        let mut shown = serde_json::Map::new();
        shown.insert("key".to_owned(), Value::from(REDACTED));
        // Plain data with text keys always serialises; if it ever did not, less would be shown.
        if let Ok(Value::Object(entry)) = serde_json::to_value(self) {
            shown.extend(entry);
        }
        Value::Object(shown)
    }
}

const NAMES_OF_KEY: &[&str] = &["role", "roles", "pipelines", "permissions", "expires_at", "id"];

impl FieldValue for PublicKeyEntry {
    const KIND: Kind = Kind::Struct(NAMES_OF_PUBLIC_KEY);
    const SECRET: bool = true;

    fn decode(raw: &Raw) -> Result<Self, Mistake> {
        let members = Members::of(raw, NAMES_OF_PUBLIC_KEY, true)?;
        // The text is read as a secret: it may be a private key by mistake.
        let pem: SecretString = members.required("pem")?;
        Ok(Self {
            kid: members.optional("kid")?,
            algorithm: members.required("algorithm")?,
            pem: pem.expose_secret().to_owned(),
        })
    }

    fn show(&self) -> Value {
        json!({ "kid": self.kid, "algorithm": self.algorithm.as_str(), "pem": REDACTED })
    }
}

const NAMES_OF_PUBLIC_KEY: &[&str] = &["algorithm", "pem", "kid"];
