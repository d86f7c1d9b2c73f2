//! API keys and the public keys of tokens.

use std::collections::BTreeMap;
use std::fmt;

use ipnet::IpNet;
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use taskiq_flow_security::api_key::DIGEST_PREFIX;
use taskiq_flow_security::jwt::JwtAlgorithm;
use taskiq_flow_security::jwt::jwks::JwksUrl;
use taskiq_flow_security::networks::Networks;
use taskiq_flow_security::permission::{Permission, PermissionSet};
use taskiq_flow_security::settings::{ApiKeyEntry, ApiKeyMap, IssuerEntry, PublicKeyEntry};

use super::kind::Kind;
use super::mistake::{Mistake, Segment};
use super::raw::{Raw, RawKey, RawValue};
use super::types::Texts;
use super::url::ServiceUrl;
use super::value::{FieldValue, Members, REDACTED};

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

/// The accepted API keys and what each may do, in the order they were written. Its `Debug` shows no key.
#[derive(Clone, Default)]
pub struct ApiKeys(Vec<(SecretString, ApiKeyEntry)>);

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

    /// Where the key may be used from; without this, anywhere.
    #[must_use]
    pub fn allowed_ips(mut self, networks: impl IntoIterator<Item = IpNet>) -> Self {
        self.0.allowed_ips = Some(networks.into_iter().collect::<Vec<_>>().into());
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

/// The client certificates that are a credential, by fingerprint or name, and what each may do.
#[derive(Debug, Clone, Default)]
pub struct ClientCertificates(BTreeMap<String, ApiKeyEntry>);

impl ClientCertificates {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Each and what it may do.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &ApiKeyEntry)> {
        self.0.iter().map(|(name, entry)| (name.as_str(), entry))
    }

    pub(super) fn to_map(&self) -> BTreeMap<String, ApiKeyEntry> {
        self.0.clone()
    }
}

impl<K: Into<String>, E: Into<ApiKeyEntry>> FromIterator<(K, E)> for ClientCertificates {
    fn from_iter<I: IntoIterator<Item = (K, E)>>(certificates: I) -> Self {
        Self(certificates.into_iter().map(|(name, entry)| (name.into(), entry.into())).collect())
    }
}

impl FieldValue for ClientCertificates {
    const KIND: Kind = Kind::Map(&ApiKeyEntry::KIND);

    fn decode(raw: &Raw) -> Result<Self, Mistake> {
        BTreeMap::decode(raw).map(Self)
    }

    fn show(&self) -> Value {
        // Plain data with text keys always serialises; if it ever did not, less would be shown.
        serde_json::to_value(&self.0).unwrap_or_default()
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

    /// Whether a key stands here itself, and not as its digest.
    pub(crate) fn has_raw(&self) -> bool {
        self.texts().any(|text| !text.starts_with(DIGEST_PREFIX))
    }

    /// Each key's text, raw or a digest, and what it may do.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &ApiKeyEntry)> {
        self.0.iter().map(|(key, entry)| (key.expose_secret(), entry))
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
        let decode = |(index, (key, value)): (usize, &(RawKey, Raw))| {
            let entry = ApiKeyEntry::decode(value).map_err(|mistake| mistake.under(Segment::Entry(index)))?;
            Ok((SecretString::from(key.text.as_str()), entry))
        };
        entries.iter().enumerate().map(decode).collect::<Result<_, _>>().map(Self)
    }

    fn show(&self) -> Value {
        // A list, because the names of the entries are the keys; nothing is shown as what it is in a file.
        match self.is_empty() {
            true => Value::Object(serde_json::Map::new()),
            false => self.entries().map(ApiKeyEntry::show).collect(),
        }
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
            allowed_ips: members.optional::<Vec<IpNet>>("allowed_ips")?.map(Networks::from),
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

const NAMES_OF_KEY: &[&str] =
    &["role", "roles", "pipelines", "permissions", "expires_at", "allowed_ips", "id"];

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

impl FieldValue for IssuerEntry {
    const KIND: Kind = Kind::Struct(NAMES_OF_ISSUER);
    const SECRET: bool = true;

    fn decode(raw: &Raw) -> Result<Self, Mistake> {
        let members = Members::of(raw, NAMES_OF_ISSUER, true)?;
        let audiences: Option<Texts> = members.optional("audiences")?;
        let jwks_url: Option<ServiceUrl> = members.optional("jwks_url")?;
        Ok(Self {
            issuer: members.required("issuer")?,
            audiences: audiences.unwrap_or_default().as_slice().to_vec(),
            algorithms: members.optional("algorithms")?,
            public_keys: members.optional("public_keys")?.unwrap_or_default(),
            jwks_url: jwks_url.map(|url| JwksUrl::from(url.expose())),
            required_type: members.optional("required_type")?,
        })
    }

    fn show(&self) -> Value {
        json!({
            "issuer": self.issuer,
            "audiences": self.audiences,
            "algorithms": self.algorithms.as_ref().map(Vec::<JwtAlgorithm>::show),
            "public_keys": self.public_keys.show(),
            "jwks_url": self.jwks_url.as_ref().map(ToString::to_string),
            "required_type": self.required_type,
        })
    }
}

const NAMES_OF_ISSUER: &[&str] =
    &["issuer", "audiences", "algorithms", "public_keys", "jwks_url", "required_type"];
