//! Keys: issued, rotated, revoked.

use jiff::{SignedDuration, Timestamp};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};

use super::stored::{Retiring, StoredKey, StoredRevokedKey, put_key};
use super::{
    Administration, AdministrationError, Administrator, Plan, Source, View, before_after, escalation,
};
use crate::api_key::{KeyDigest, KeyRecord, generate, new_id};
use crate::networks::Networks;
use crate::permission::PermissionSet;
use crate::refusal::{Refusal, RefusalKind};
use crate::settings::{ApiKeyEntry, key_record};

/// How long a rotated key is accepted unless it is said: a day.
pub const DEFAULT_OVERLAP_SECONDS: u64 = 24 * 3600;

/// The longest that a rotated key is accepted: 30 days.
pub const MAX_OVERLAP_SECONDS: u64 = 30 * 24 * 3600;

/// Most keys that are kept.
const MAX_KEYS: usize = 10_000;
/// Most entries of each list of a key.
const MAX_LIST: usize = 100;
/// Longest id, in characters.
const MAX_ID: usize = 64;
/// Most earlier keys that are accepted beside a rotated one.
const MAX_RETIRING: usize = 4;

/// What a new key is to be.
#[derive(Debug, Clone)]
pub struct NewKey {
    /// What it is called; without it a name is made up.
    pub id: Option<String>,
    /// Its roles, at least one.
    pub roles: Vec<String>,
    /// The pipelines it is limited to; empty or with `*`: all.
    pub pipelines: Vec<String>,
    /// What it may do.
    pub permissions: PermissionSet,
    /// From when on it is refused.
    pub expires_at: Option<Timestamp>,
    /// Where it may be used from.
    pub allowed_ips: Option<Networks>,
}

/// A key just made. What it is called stays; the key itself is nowhere but here.
#[derive(Debug)]
pub struct IssuedKey {
    /// The key. It cannot be shown again.
    pub key: SecretString,
    /// What is known of it from now on.
    pub view: KeyView,
}

/// What is shown of a key.
#[derive(Debug, Clone, PartialEq)]
pub struct KeyView {
    /// What it is called.
    pub id: String,
    /// Its roles.
    pub roles: Vec<String>,
    /// The pipelines it is limited to; `["*"]`: all.
    pub pipelines: Vec<String>,
    /// What it may do.
    pub permissions: PermissionSet,
    /// From when on it is refused.
    pub expires_at: Option<Timestamp>,
    /// Where it may be used from; absent: anywhere.
    pub allowed_ips: Option<Vec<String>>,
    /// Where it is said.
    pub source: Source,
    /// The id of who made it.
    pub created_by: Option<String>,
    /// When it was made.
    pub created_at: Option<Timestamp>,
    /// When it was rotated last.
    pub rotated_at: Option<Timestamp>,
    /// Until when the last of the keys before it is accepted beside it.
    pub previous_valid_until: Option<Timestamp>,
    /// When it was used last, to the second. A crash forgets at most the last minute.
    pub last_used_at: Option<Timestamp>,
}

impl Administration {
    /// All keys, of the configuration and of the state, by id.
    pub fn keys(&self, _by: &Administrator) -> Vec<KeyView> {
        let view = self.inner.view.load();
        let settings = self.inner.guard.settings();
        let mut keys: Vec<_> = settings
            .keys()
            .records()
            .map(|record| KeyView::of(record, view.stored.keys.get(&record.id), Timestamp::now()))
            .collect();
        keys.sort_by(|a, b| a.id.cmp(&b.id));
        keys
    }

    /// Makes a key.
    ///
    /// # Errors
    /// A field is not possible, the id is or was that of another key, or the key could do more than who asks for it.
    pub async fn create_key(
        &self,
        by: &Administrator,
        new: NewKey,
    ) -> Result<IssuedKey, AdministrationError> {
        let id = match &new.id {
            Some(id) => id.clone(),
            None => new_id().map_err(no_random)?,
        };
        check_new(&id, &new)?;
        let key = generate(&id).map_err(no_random)?;
        let digest = KeyDigest::of(key.expose_secret());
        let now = Timestamp::now();
        let entry = ApiKeyEntry {
            role: None,
            roles: new.roles,
            pipelines: Some(new.pipelines),
            permissions: new.permissions,
            expires_at: new.expires_at,
            allowed_ips: new.allowed_ips,
            id: None,
        };
        let record = key_record(digest, id.clone(), &entry)
            .map_err(|fault| AdministrationError::invalid(fault.field, fault.message))?;
        let caller = by.0.principal();
        let policy = self.inner.guard.settings();
        if !escalation::covers(policy.policy(), caller, record.permissions.iter(), &record.whitelist) {
            return Err(Refusal::new(RefusalKind::Forbidden, "the key could do more than its maker").into());
        }
        let stored = StoredKey {
            entry,
            digest,
            retiring: Vec::new(),
            created_by: caller.id().to_owned(),
            created_at: now,
            rotated_at: None,
        };
        let view = KeyView::of(&record, Some(&stored), now);
        let answer = view.clone();
        self.change(by, move |held| {
            if held.stored.keys.contains_key(&id) || held.configured_key(&id) {
                let message = format!("a key `{id}` is there already; choose another id, or rotate that one");
                return Err(AdministrationError::Conflict(message));
            }
            if let Some(message) = held.revoked_key(&id) {
                return Err(AdministrationError::Conflict(message));
            }
            if held.stored.keys.len() >= MAX_KEYS {
                let message = format!("{MAX_KEYS} keys are kept, which is the most; revoke some");
                return Err(AdministrationError::Conflict(message));
            }
            let writes = vec![put_key(&id, &stored, now)?];
            let detail = before_after("key", &id, Value::Null, view.to_audit());
            let mut next = held.stored.clone();
            next.keys.insert(id, stored);
            Ok(Plan::new("key.create", next, writes, detail, ()))
        })
        .await?;
        Ok(IssuedKey { key, view: answer })
    }

    /// Makes a new key in the place of one, which is accepted beside it for `overlap_seconds` more. Its id and what it
    /// may do stay.
    ///
    /// # Errors
    /// There is no such key, it has expired, it is one of the configuration, too many of its earlier keys are still
    /// accepted, or the time is too long.
    pub async fn rotate_key(
        &self,
        by: &Administrator,
        id: &str,
        overlap_seconds: u64,
    ) -> Result<IssuedKey, AdministrationError> {
        if overlap_seconds > MAX_OVERLAP_SECONDS {
            let message = format!("{overlap_seconds} is too long; write at most {MAX_OVERLAP_SECONDS}");
            return Err(AdministrationError::invalid("overlap_seconds", message));
        }
        let key = generate(id).map_err(no_random)?;
        let digest = KeyDigest::of(key.expose_secret());
        let overlap = SignedDuration::from_secs(i64::try_from(overlap_seconds).unwrap_or(i64::MAX));
        let id = id.to_owned();
        let view = self
            .change(by, move |held| {
                let now = Timestamp::now();
                let before = held.stored_key(&id)?;
                let known = before.view(&id, now)?;
                if before.entry.expires_at.is_some_and(|end| end <= now) {
                    let message = format!("the key `{id}` has expired; make a new one");
                    return Err(AdministrationError::Conflict(message));
                }
                let until = now.checked_add(overlap).unwrap_or(Timestamp::MAX);
                let mut after = before.clone();
                after.retiring.retain(|old| old.until > now);
                if overlap_seconds > 0 {
                    after.retiring.push(Retiring { digest: before.digest, until });
                }
                if after.retiring.len() > MAX_RETIRING {
                    let message = format!(
                        "{MAX_RETIRING} earlier keys of `{id}` are still accepted; wait for one of them to end, or rotate \
                         with overlap_seconds 0"
                    );
                    return Err(AdministrationError::Conflict(message));
                }
                if overlap_seconds == 0 {
                    // Now means now, for all that came before.
                    after.retiring.clear();
                }
                (after.digest, after.rotated_at) = (digest, Some(now));
                let shown = after.view(&id, now)?;
                let detail = before_after("key", &id, known.to_audit(), shown.to_audit());
                let writes = vec![put_key(&id, &after, now)?];
                let mut next = held.stored.clone();
                next.keys.insert(id, after);
                Ok(Plan::new("key.rotate", next, writes, detail, shown))
            })
            .await?;
        Ok(IssuedKey { key, view })
    }

    /// Ends a key, and those before it that are still accepted. No later key gets its id.
    ///
    /// # Errors
    /// There is no such key, or it is one of the configuration.
    pub async fn revoke_key(&self, by: &Administrator, id: &str) -> Result<(), AdministrationError> {
        let (id, caller) = (id.to_owned(), by.0.principal().id().to_owned());
        self.change(by, move |held| {
            let now = Timestamp::now();
            let known = held.stored_key(&id)?.view(&id, now)?;
            let mut next = held.stored.clone();
            let writes = next.revoke_key(&id, StoredRevokedKey { revoked_by: caller, revoked_at: now })?;
            let detail = before_after("key", &id, known.to_audit(), Value::Null);
            Ok(Plan::new("key.revoke", next, writes, detail, ()).forgetting(id))
        })
        .await
    }
}

impl View {
    /// Why a new key cannot have this id, if a revoked one had it.
    pub(super) fn revoked_key(&self, id: &str) -> Option<String> {
        let StoredRevokedKey { revoked_by, revoked_at } = self.stored.revoked_keys.get(id)?;
        Some(format!(
            "the key `{id}` was revoked at {revoked_at:.0} by `{revoked_by}`, and audit records still name it so: choose an id \
             that no key has had"
        ))
    }

    fn configured_key(&self, id: &str) -> bool {
        self.configured.keys().records().any(|record| record.id == id)
    }

    fn stored_key(&self, id: &str) -> Result<&StoredKey, AdministrationError> {
        match self.stored.keys.get(id) {
            Some(key) => Ok(key),
            None if self.configured_key(id) => Err(AdministrationError::Conflict(format!(
                "the key `{id}` stands in the configuration (`api_keys`): change it there, and have the configuration read \
                 again (SIGHUP)"
            ))),
            None => Err(AdministrationError::Unknown("key")),
        }
    }
}

impl StoredKey {
    fn view(&self, id: &str, now: Timestamp) -> Result<KeyView, AdministrationError> {
        let record = self.to_record(id).map_err(AdministrationError::Failed)?;
        Ok(KeyView::of(&record, Some(self), now))
    }
}

impl KeyView {
    fn of(record: &KeyRecord, stored: Option<&StoredKey>, now: Timestamp) -> Self {
        let ends = stored.into_iter().flat_map(|key| &key.retiring).map(|old| old.until);
        KeyView {
            id: record.id.clone(),
            roles: record.roles.clone(),
            pipelines: record.whitelist.to_list(),
            permissions: record.permissions,
            expires_at: record.expires_at,
            allowed_ips: record.allowed_ips.as_ref().map(Networks::to_list),
            source: if stored.is_some() { Source::Stored } else { Source::Configuration },
            created_by: stored.map(|key| key.created_by.clone()),
            created_at: stored.map(|key| key.created_at),
            rotated_at: stored.and_then(|key| key.rotated_at),
            previous_valid_until: ends.filter(|until| *until > now).max(),
            last_used_at: record.usage.last(),
        }
    }

    /// What of it is worth recording when it changes.
    fn to_audit(&self) -> Value {
        json!({
            "roles": self.roles,
            "pipelines": self.pipelines,
            "permissions": self.permissions,
            "expires_at": self.expires_at,
            "allowed_ips": self.allowed_ips,
            "rotated_at": self.rotated_at,
            "previous_valid_until": self.previous_valid_until,
        })
    }
}

/// What is asked of a new key beyond what is asked of one in the configuration: that it can be named in a path, and that
/// it is good for something.
fn check_new(id: &str, new: &NewKey) -> Result<(), AdministrationError> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | ':' | '@');
    if id.len() > MAX_ID || !id.starts_with(|c: char| c.is_ascii_alphanumeric()) || !id.chars().all(plain) {
        let message =
            format!("expected 1 to {MAX_ID} characters of A-Z a-z 0-9 - _ . : @, a letter or digit first");
        return Err(AdministrationError::invalid("id", message));
    }
    if new.expires_at.is_some_and(|end| end <= Timestamp::now()) {
        return Err(AdministrationError::invalid("expires_at", "that time has passed; write a later one"));
    }
    if new.permissions.is_empty() {
        let message = "the key could do nothing; list `read`, `execute` or `admin`";
        return Err(AdministrationError::invalid("permissions", message));
    }
    for (field, length) in [
        ("roles", new.roles.len()),
        ("pipelines", new.pipelines.len()),
        ("allowed_ips", new.allowed_ips.as_ref().map_or(0, Networks::len)),
    ] {
        if length > MAX_LIST {
            let message = format!("{length} entries are too many; write at most {MAX_LIST}");
            return Err(AdministrationError::invalid(field, message));
        }
    }
    Ok(())
}

fn no_random(error: getrandom::Error) -> AdministrationError {
    AdministrationError::Failed(format!("the operating system gives no random bytes: {error}"))
}
