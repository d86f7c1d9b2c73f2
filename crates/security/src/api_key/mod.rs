//! API keys: held as SHA-256 digests, found in constant time.
//!
//! A key made by [`generate`] has 256 bits of entropy, so a plain digest is the right store for it: there is nothing
//! to guess, and a slow password hash on every request would only serve an attacker who wants the server busy.

use std::collections::HashMap;
use std::sync::Arc;

use jiff::Timestamp;
use secrecy::SecretString;

pub use crate::digest::{DIGEST_PREFIX, KeyDigest, KeyTextError};
use crate::permission::PermissionSet;
use crate::principal::{Principal, PrincipalKind, Proof};
use crate::whitelist::Whitelist;

/// What every generated key begins with, so that secret scanners find one that leaked.
pub const KEY_PREFIX: &str = "tqf_";

const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// 43 characters of 62 carry 256 bits.
const RANDOM_CHARS: usize = 43;

/// Makes a new key: `tqf_` and 43 characters of `[0-9A-Za-z]`, 256 bits from the operating system.
///
/// # Errors
/// The operating system gave no random bytes.
pub fn generate() -> Result<SecretString, getrandom::Error> {
    let mut text = String::with_capacity(KEY_PREFIX.len() + RANDOM_CHARS);
    text.push_str(KEY_PREFIX);
    let mut bytes = [0_u8; 64];
    while text.len() < KEY_PREFIX.len() + RANDOM_CHARS {
        getrandom::fill(&mut bytes)?;
        // 248 is the greatest multiple of 62 in a byte: what is above it would favour the first letters.
        let chars = bytes.iter().filter(|byte| **byte < 248).map(|byte| ALPHABET[usize::from(byte % 62)]);
        text.extend(chars.take(KEY_PREFIX.len() + RANDOM_CHARS - text.len()).map(char::from));
    }
    Ok(text.into())
}

/// A key the server accepts, without the key.
#[derive(Debug, Clone)]
pub struct KeyRecord {
    /// SHA-256 of the key.
    pub digest: KeyDigest,
    /// What the key is called in logs, audit records and metrics.
    pub id: String,
    /// The roles ACLs may name.
    pub roles: Vec<String>,
    /// The pipelines the key is limited to.
    pub whitelist: Whitelist,
    /// What the key may do.
    pub permissions: PermissionSet,
    /// From when on it is refused.
    pub expires_at: Option<Timestamp>,
}

impl KeyRecord {
    fn to_principal(&self) -> Principal {
        Principal {
            id: self.id.clone(),
            kind: PrincipalKind::ApiKey,
            issuer: None,
            roles: self.roles.clone(),
            whitelist: self.whitelist.clone(),
            permissions: self.permissions,
            expires_at: self.expires_at,
            proof: Proof::Key(self.digest),
        }
    }
}

/// All keys the server accepts. It is built from records of any origin and never changes: a key issued or revoked at
/// run time makes a new ring, which [`crate::guard::Guard::reload`] swaps in whole.
#[derive(Debug, Clone, Default)]
pub struct KeyRing {
    by_digest: HashMap<KeyDigest, (KeyRecord, Arc<Principal>)>,
}

impl KeyRing {
    /// A ring of these keys.
    ///
    /// # Errors
    /// Two records have the same key, or the same id.
    pub fn new(records: impl IntoIterator<Item = KeyRecord>) -> Result<Self, KeyRingError> {
        let mut ring = KeyRing::default();
        let mut ids = std::collections::HashSet::new();
        for record in records {
            if !ids.insert(record.id.clone()) {
                return Err(KeyRingError::SameId(record.id));
            }
            let principal = Arc::new(record.to_principal());
            if let Some((earlier, _)) = ring.by_digest.insert(record.digest, (record, principal.clone())) {
                return Err(KeyRingError::SameKey(earlier.id, principal.id.clone()));
            }
        }
        Ok(ring)
    }

    /// Whose key this is. Unknown, revoked (no longer in the ring) and expired keys take the same path and the same
    /// time; the caller cannot tell them apart.
    ///
    /// The map is keyed by the digest: what a cache or a bucket gives away about it tells nothing about a key, since
    /// an attacker cannot choose the digest bits of what he presents.
    ///
    /// # Errors
    /// [`UnknownKey`] says for the audit record why.
    pub fn find(&self, presented: &str, now: Timestamp) -> Result<Arc<Principal>, UnknownKey> {
        self.find_digest(&KeyDigest::of(presented), now)
    }

    pub(crate) fn find_digest(
        &self,
        digest: &KeyDigest,
        now: Timestamp,
    ) -> Result<Arc<Principal>, UnknownKey> {
        // Compared with something of the same length also when nothing was found.
        const NOBODY: KeyDigest = KeyDigest([0; 32]);
        let found = self.by_digest.get(digest);
        let held = found.map_or(&NOBODY, |(record, _)| &record.digest);
        let same = held.same_as(digest);
        match found {
            Some((_, principal)) if same && principal.is_expired_at(now) => {
                Err(UnknownKey::Expired(principal.clone()))
            }
            Some((_, principal)) if same => Ok(principal.clone()),
            _ => Err(UnknownKey::Unknown),
        }
    }

    /// The holder of the key of this id, expired or not: for questions about it, not for requests.
    pub(crate) fn principal(&self, id: &str) -> Option<Arc<Principal>> {
        let mut all = self.by_digest.values();
        all.find(|(record, _)| record.id == id).map(|(_, principal)| principal.clone())
    }

    /// Whether both rings accept the same keys.
    pub(crate) fn same_keys(&self, other: &KeyRing) -> bool {
        self.len() == other.len() && self.by_digest.keys().all(|digest| other.by_digest.contains_key(digest))
    }

    /// The keys, in no order.
    pub fn records(&self) -> impl Iterator<Item = &KeyRecord> {
        self.by_digest.values().map(|(record, _)| record)
    }

    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.by_digest.len()
    }

    /// Whether there is no key.
    pub fn is_empty(&self) -> bool {
        self.by_digest.is_empty()
    }
}

/// Why a ring cannot be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyRingError {
    /// Audit records could not tell the keys apart.
    #[error("two keys have the id `{0}`; give each its own `id`")]
    SameId(String),
    /// The same key twice, raw and as its digest for example: which entry should hold?
    #[error("`{0}` and `{1}` are the same key; remove one")]
    SameKey(String, String),
}

/// Why a presented key is refused. For audit records only: the client sees one and the same answer.
#[derive(Debug, Clone, thiserror::Error)]
pub enum UnknownKey {
    /// No such key: never issued, or revoked.
    #[error("unknown or revoked key")]
    Unknown,
    /// Known, but past its `expires_at`.
    #[error("expired key `{}`", .0.id)]
    Expired(Arc<Principal>),
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    fn record(key: &str, id: &str) -> KeyRecord {
        KeyRecord {
            digest: KeyDigest::from_config(key).unwrap(),
            id: id.to_owned(),
            roles: vec!["viewer".to_owned()],
            whitelist: Whitelist::Unrestricted,
            permissions: PermissionSet::EMPTY,
            expires_at: None,
        }
    }

    #[test]
    fn a_raw_key_and_its_digest_are_the_same_key() {
        let raw = KeyDigest::from_config("admin-key").unwrap();
        // printf admin-key | sha256sum
        assert_eq!(
            raw.to_config(),
            "sha256:69a5265506c94c77b787a7d7377b7685a0eff82e33920a71e7ee22cd6154953e"
        );
        assert_eq!(KeyDigest::from_config(&raw.to_config()), Ok(raw));
        assert_eq!(
            KeyDigest::from_config(&raw.to_config().replace("sha256:", "sha256:G")),
            Err(KeyTextError::Digest)
        );
        assert!(raw.default_id().starts_with("key-") && raw.default_id().len() == 16);
    }

    #[test]
    fn a_key_nobody_could_send_is_refused() {
        for (text, error) in [
            ("", KeyTextError::Empty),
            ("a b", KeyTextError::Unsendable),
            ("a\n", KeyTextError::Unsendable),
            ("clé", KeyTextError::Unsendable),
            ("sha256:", KeyTextError::Digest),
            ("sha256:12", KeyTextError::Digest),
        ] {
            assert_eq!(KeyDigest::from_config(text), Err(error), "{text:?}");
        }
    }

    #[test]
    fn only_the_key_itself_is_found() {
        let now = Timestamp::now();
        let ring = KeyRing::new([record("admin-key", "a"), record("viewer-key", "v")]).unwrap();
        assert_eq!(ring.find("admin-key", now).unwrap().id(), "a");
        assert_eq!(ring.find("viewer-key", now).unwrap().id(), "v");
        let digest = KeyDigest::of("admin-key").to_config();
        for presented in ["", "admin-ke", "admin-keys", "ADMIN-KEY", "a", &digest, &digest[7..]] {
            assert!(matches!(ring.find(presented, now), Err(UnknownKey::Unknown)), "{presented}");
        }
    }

    #[test]
    fn a_key_ends_at_its_expiry_to_the_instant() {
        let end: Timestamp = "2030-01-01T00:00:00Z".parse().unwrap();
        let ring = KeyRing::new([KeyRecord { expires_at: Some(end), ..record("k", "k") }]).unwrap();
        let before = end - jiff::SignedDuration::from_nanos(1);
        assert!(ring.find("k", before).is_ok());
        assert!(matches!(ring.find("k", end), Err(UnknownKey::Expired(_))));
    }

    #[test]
    fn the_same_key_or_id_twice_is_refused_without_printing_the_key() {
        let digest = KeyDigest::of("secret-key").to_config();
        let error = KeyRing::new([record("secret-key", "a"), record(&digest, "b")]).unwrap_err();
        assert_eq!(error, KeyRingError::SameKey("a".into(), "b".into()));
        assert!(!error.to_string().contains("secret-key"));
        assert_eq!(
            KeyRing::new([record("x", "a"), record("y", "a")]).unwrap_err(),
            KeyRingError::SameId("a".into())
        );
    }

    #[test]
    fn debug_shows_neither_key_nor_digest() {
        let ring = KeyRing::new([record("secret-key", "a")]).unwrap();
        let shown = format!("{ring:?}");
        assert!(!shown.contains("secret-key"));
        assert!(!shown.contains(&KeyDigest::of("secret-key").to_config()[7..19]));
    }

    #[test]
    fn generated_keys_are_long_sendable_and_distinct() {
        let keys: Vec<String> = (0..50).map(|_| generate().unwrap().expose_secret().to_owned()).collect();
        for key in &keys {
            assert_eq!(key.len(), 47);
            assert!(key.starts_with(KEY_PREFIX));
            assert!(KeyDigest::from_config(key).is_ok());
        }
        assert_eq!(keys.iter().collect::<std::collections::HashSet<_>>().len(), 50);
    }
}
