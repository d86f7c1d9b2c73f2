//! The nested pieces of the configuration, as written in its files.

use std::collections::BTreeMap;
use std::fmt;

use jiff::Timestamp;
use serde::de::{MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use crate::jwt::JwtAlgorithm;
use crate::jwt::jwks::JwksUrl;
use crate::networks::Networks;
use crate::permission::PermissionSet;

/// What `api_keys` says about one key.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApiKeyEntry {
    /// The key's role, as ACLs name it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// More roles, for a key that has several.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub roles: Vec<String>,
    /// The pipelines the key is limited to; absent, empty or with `*`: all. `*` inside a name stands for any text.
    #[serde(default, alias = "pipeline_whitelist")]
    pub pipelines: Option<Vec<String>>,
    /// What the key may do. Absent: nothing.
    #[serde(default)]
    pub permissions: PermissionSet,
    /// From when on the key is refused (RFC 3339).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// Where the key may be used from: networks and addresses. Absent: anywhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allowed_ips: Option<Networks>,
    /// What logs, audit records and metrics call the key. Absent: `key-` and 12 hex digits of the key's digest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
}

/// The `api_keys` map: from the raw key, or `sha256:` and its digest, to what it may do. Its `Debug` shows no key.
#[derive(Clone, Default)]
pub struct ApiKeyMap(BTreeMap<String, ApiKeyEntry>);

impl ApiKeyMap {
    /// Adds a key; returns what an equal text said before.
    pub fn insert(&mut self, key: impl Into<String>, entry: ApiKeyEntry) -> Option<ApiKeyEntry> {
        self.0.insert(key.into(), entry)
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is no entry.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &ApiKeyEntry)> {
        self.0.iter().map(|(key, entry)| (key.as_str(), entry))
    }
}

impl<K: Into<String>> FromIterator<(K, ApiKeyEntry)> for ApiKeyMap {
    fn from_iter<I: IntoIterator<Item = (K, ApiKeyEntry)>>(entries: I) -> Self {
        ApiKeyMap(entries.into_iter().map(|(key, entry)| (key.into(), entry)).collect())
    }
}

impl fmt::Debug for ApiKeyMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.values()).finish()
    }
}

impl<'de> Deserialize<'de> for ApiKeyMap {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;

        impl<'de> Visitor<'de> for Entries {
            type Value = ApiKeyMap;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map from keys to {role, pipelines, permissions, expires_at, allowed_ips, id}")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<ApiKeyMap, A::Error> {
                let mut entries = BTreeMap::new();
                while let Some((key, entry)) = map.next_entry::<String, ApiKeyEntry>()? {
                    if entries.insert(key, entry).is_some() {
                        return Err(serde::de::Error::custom(
                            "a key stands twice; remove one of its entries",
                        ));
                    }
                }
                Ok(ApiKeyMap(entries))
            }
        }

        deserializer.deserialize_map(Entries)
    }
}

/// One of `jwt_public_keys`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PublicKeyEntry {
    /// The `kid` of the tokens it checks; absent: tokens whose `kid` names no other key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kid: Option<String>,
    /// The one algorithm it is for.
    pub algorithm: JwtAlgorithm,
    /// `-----BEGIN PUBLIC KEY-----` and so on.
    pub pem: String,
}

/// One of `jwt_issuers`: an issuer that is bound to its own keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IssuerEntry {
    /// What its tokens have in `iss`, exactly.
    pub issuer: String,
    /// The audiences of which its tokens must name one in `aud`; empty: only tokens without audience are accepted.
    pub audiences: Vec<String>,
    /// The accepted algorithms; `None`: those of its public keys, and every one with a public key for fetched ones.
    pub algorithms: Option<Vec<JwtAlgorithm>>,
    /// Its public keys.
    pub public_keys: Vec<PublicKeyEntry>,
    /// Where it publishes its keys.
    pub jwks_url: Option<JwksUrl>,
    /// The `typ` its tokens must have; `None`: that of `jwt_required_type`.
    pub required_type: Option<String>,
}

/// One text, or a list of texts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct OneOrMany(pub Vec<String>);

impl<'de> Deserialize<'de> for OneOrMany {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Texts;

        impl<'de> Visitor<'de> for Texts {
            type Value = OneOrMany;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text or a list of texts")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<OneOrMany, E> {
                Ok(OneOrMany(vec![text.to_owned()]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<OneOrMany, A::Error> {
                let mut texts = Vec::new();
                while let Some(text) = list.next_element()? {
                    texts.push(text);
                }
                Ok(OneOrMany(texts))
            }
        }

        deserializer.deserialize_any(Texts)
    }
}
