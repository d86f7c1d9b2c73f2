//! What the records say: keys and when they were used, the ids of revoked keys, access lists, revocations of tokens.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::error::AdministrationError;
use super::state::{StateChange, StateRecord};
use crate::api_key::{KeyDigest, KeyRecord};
use crate::jwt::{Revocation, Revocations};
use crate::policy::Acl;
use crate::settings::{ApiKeyEntry, key_record};

const KEY: &str = "api_key";
const USAGE: &str = "api_key_usage";
const REVOKED: &str = "revoked_api_key";
const ACL: &str = "pipeline_acl";
const REVOCATION: &str = "token_revocation";

/// Most ids of revoked keys that are remembered; beyond that the ids revoked first are forgotten. A revocation is never
/// refused for want of room.
const MAX_REVOKED: usize = 100_000;

/// Everything that is kept. It never changes: a change makes a new one.
#[derive(Debug, Clone, Default)]
pub(super) struct Stored {
    pub(super) keys: BTreeMap<String, StoredKey>,
    /// Shared, since they are many and change seldom.
    pub(super) revoked_keys: Arc<BTreeMap<String, StoredRevokedKey>>,
    pub(super) acls: BTreeMap<String, StoredAcl>,
    pub(super) revocations: BTreeMap<String, StoredRevocation>,
}

/// When keys were used last, by id.
pub(super) type Used = BTreeMap<String, Timestamp>;

/// A key.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct StoredKey {
    /// What it may do.
    pub(super) entry: ApiKeyEntry,
    #[serde(with = "digest_text")]
    pub(super) digest: KeyDigest,
    /// The keys before it that are still accepted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) retiring: Vec<Retiring>,
    /// The id of who made it.
    pub(super) created_by: String,
    pub(super) created_at: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) rotated_at: Option<Timestamp>,
}

/// A key that was rotated away.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Retiring {
    #[serde(with = "digest_text")]
    pub(super) digest: KeyDigest,
    pub(super) until: Timestamp,
}

/// That there was a key of an id: no later one may take its name in the audit log.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct StoredRevokedKey {
    /// The id of who revoked it.
    pub(super) revoked_by: String,
    pub(super) revoked_at: Timestamp,
}

/// What holds for a pipeline instead of what the configuration says.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct StoredAcl {
    /// Absent: the pipeline has none, whatever the configuration says.
    pub(super) acl: Option<Acl>,
    pub(super) changed_by: String,
    pub(super) changed_at: Timestamp,
}

/// Tokens that are refused.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct StoredRevocation {
    pub(super) rule: Revocation,
    pub(super) created_by: String,
    pub(super) created_at: Timestamp,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredUsage {
    last_used_at: Timestamp,
}

impl Stored {
    /// Reads records; gives too when keys of any origin were used last, by id.
    ///
    /// # Errors
    /// One of them makes no sense: nothing is read then.
    pub(super) fn read(records: Vec<StateRecord>) -> Result<(Self, Used), AdministrationError> {
        let (mut stored, mut used) = (Stored::default(), Used::default());
        let mut revoked_keys = BTreeMap::new();
        for StateRecord { kind, id, body, .. } in records {
            match kind.as_str() {
                KEY => {
                    let key: StoredKey = decode(&kind, &id, body)?;
                    key.to_record(&id).map_err(|reason| unreadable(&kind, &id, reason))?;
                    stored.keys.insert(id, key);
                }
                REVOKED => _ = revoked_keys.insert(id.clone(), decode(&kind, &id, body)?),
                ACL => _ = stored.acls.insert(id.clone(), decode(&kind, &id, body)?),
                REVOCATION => {
                    stored.revocations.insert(id.clone(), decode(&kind, &id, body)?);
                }
                USAGE => {
                    let StoredUsage { last_used_at } = decode(&kind, &id, body)?;
                    used.insert(id, last_used_at);
                }
                _ => return Err(unreadable(&kind, &id, "its kind is not known".to_owned())),
            }
        }
        stored.revoked_keys = Arc::new(revoked_keys);
        Ok((stored, used))
    }

    /// The keys as the guard takes them.
    pub(super) fn key_records(&self) -> Result<Vec<KeyRecord>, AdministrationError> {
        let record = |(id, key): (&String, &StoredKey)| {
            key.to_record(id).map_err(|reason| unreadable(KEY, id, reason))
        };
        self.keys.iter().map(record).collect()
    }

    /// The rules about tokens as the guard takes them.
    pub(super) fn revocations(&self) -> Result<Revocations, AdministrationError> {
        Revocations::new(self.revocations.values().map(|stored| stored.rule.clone()))
            .map_err(|error| AdministrationError::Conflict(error.to_string()))
    }

    /// Takes a key away and remembers its id; gives what does the same to the state.
    pub(super) fn revoke_key(
        &mut self,
        id: &str,
        revoked: StoredRevokedKey,
    ) -> Result<Vec<StateChange>, AdministrationError> {
        self.keys.remove(id);
        let mut writes = delete_key(id);
        writes.push(put(REVOKED, id, &revoked, revoked.revoked_at)?);
        let known = Arc::make_mut(&mut self.revoked_keys);
        known.insert(id.to_owned(), revoked);
        while known.len() > MAX_REVOKED {
            let first = known.iter().min_by_key(|(_, revoked)| revoked.revoked_at);
            let Some(first) = first.map(|(id, _)| id.clone()) else { break };
            known.remove(&first);
            writes.push(StateChange::Delete { kind: REVOKED.to_owned(), id: first });
        }
        Ok(writes)
    }

    /// Drops the rules whose tokens have all come to their end; gives what drops them from the state.
    pub(super) fn drop_ended_revocations(&mut self, now: Timestamp) -> Vec<StateChange> {
        let ended = |stored: &StoredRevocation| stored.rule.is_over_at(now);
        let gone: Vec<String> =
            self.revocations.iter().filter(|(_, stored)| ended(stored)).map(|(id, _)| id.clone()).collect();
        self.revocations.retain(|_, stored| !ended(stored));
        gone.iter().map(|id| delete_revocation(id)).collect()
    }

    /// What they say of access lists.
    pub(super) fn acl_lists(&self) -> BTreeMap<String, Option<Acl>> {
        self.acls.iter().map(|(pipeline, stored)| (pipeline.clone(), stored.acl.clone())).collect()
    }
}

impl StoredKey {
    /// The key as the guard takes it.
    pub(super) fn to_record(&self, id: &str) -> Result<KeyRecord, String> {
        let record = key_record(self.digest, id.to_owned(), &self.entry);
        let record = record.map_err(|fault| format!("{}: {}", fault.field, fault.message))?;
        let retiring = self.retiring.iter().map(|old| (old.digest, old.until)).collect();
        Ok(KeyRecord { retiring, ..record })
    }
}

pub(super) fn put_key(id: &str, key: &StoredKey, now: Timestamp) -> Result<StateChange, AdministrationError> {
    put(KEY, id, key, now)
}

/// A key goes with what is known of its use.
fn delete_key(id: &str) -> Vec<StateChange> {
    [KEY, USAGE].map(|kind| StateChange::Delete { kind: kind.to_owned(), id: id.to_owned() }).to_vec()
}

pub(super) fn put_acl(
    pipeline: &str,
    acl: &StoredAcl,
    now: Timestamp,
) -> Result<StateChange, AdministrationError> {
    put(ACL, pipeline, acl, now)
}

pub(super) fn delete_acl(pipeline: &str) -> StateChange {
    StateChange::Delete { kind: ACL.to_owned(), id: pipeline.to_owned() }
}

pub(super) fn put_revocation(
    id: &str,
    revocation: &StoredRevocation,
    now: Timestamp,
) -> Result<StateChange, AdministrationError> {
    put(REVOCATION, id, revocation, now)
}

pub(super) fn delete_revocation(id: &str) -> StateChange {
    StateChange::Delete { kind: REVOCATION.to_owned(), id: id.to_owned() }
}

pub(super) fn put_usage(
    id: &str,
    last_used_at: Timestamp,
    now: Timestamp,
) -> Result<StateChange, AdministrationError> {
    put(USAGE, id, &StoredUsage { last_used_at }, now)
}

fn put(
    kind: &str,
    id: &str,
    body: &impl Serialize,
    now: Timestamp,
) -> Result<StateChange, AdministrationError> {
    let body = serde_json::to_value(body).map_err(|error| AdministrationError::Failed(error.to_string()))?;
    Ok(StateChange::Put(StateRecord { kind: kind.to_owned(), id: id.to_owned(), body, updated_at: now }))
}

fn decode<T: DeserializeOwned>(kind: &str, id: &str, body: Value) -> Result<T, AdministrationError> {
    // The library's messages quote what they found, which could be a digest.
    serde_json::from_value(body)
        .map_err(|_| unreadable(kind, id, "it has another shape than expected".to_owned()))
}

fn unreadable(kind: &str, id: &str, reason: String) -> AdministrationError {
    AdministrationError::Unreadable { kind: kind.to_owned(), id: id.to_owned(), reason }
}

/// A digest as configuration writes it. Only here: nothing else may write digests down.
mod digest_text {
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    use crate::api_key::{DIGEST_PREFIX, KeyDigest};

    pub(super) fn serialize<S: Serializer>(digest: &KeyDigest, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&digest.to_config())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<KeyDigest, D::Error> {
        let text = String::deserialize(deserializer)?;
        let digest = text.starts_with(DIGEST_PREFIX).then(|| KeyDigest::from_config(&text));
        digest.and_then(Result::ok).ok_or_else(|| D::Error::custom("no digest"))
    }
}
