//! API keys: held as SHA-256 digests, found in constant time.
//!
//! A key made by [`generate`] (its shape: `tqf_<id>_<secret>_<checksum>`) has 256 bits of entropy, so a plain digest is the right store for it: there is nothing
//! to guess, and a slow password hash on every request would only serve an attacker who wants the server busy.

mod text;
mod usage;

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use jiff::Timestamp;

pub use self::text::{KEY_PREFIX, KeyShapeError, check_shape, generate, new_id};
pub(crate) use self::usage::Bell;
pub use self::usage::KeyUsage;
pub use crate::digest::{DIGEST_PREFIX, KeyDigest, KeyTextError};
use crate::networks::Networks;
use crate::permission::PermissionSet;
use crate::principal::{Principal, PrincipalKind, Proof};
use crate::whitelist::Whitelist;

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
    /// Where it may be used from; absent: anywhere.
    pub allowed_ips: Option<Networks>,
    /// Earlier keys of the same id that are still accepted, and until when: what a rotation leaves for a while.
    pub retiring: Vec<(KeyDigest, Timestamp)>,
    /// When it was used last.
    pub usage: KeyUsage,
}

impl KeyRecord {
    /// A key of these roles, which may not do anything yet.
    pub fn new(digest: KeyDigest, id: impl Into<String>, roles: Vec<String>) -> Self {
        KeyRecord {
            digest,
            id: id.into(),
            roles,
            whitelist: Whitelist::Unrestricted,
            permissions: PermissionSet::EMPTY,
            expires_at: None,
            allowed_ips: None,
            retiring: Vec::new(),
            usage: KeyUsage::default(),
        }
    }

    pub(crate) fn to_principal(&self, digest: KeyDigest, until: Option<Timestamp>) -> Principal {
        Principal {
            id: self.id.clone(),
            kind: PrincipalKind::ApiKey,
            issuer: None,
            roles: self.roles.clone(),
            whitelist: self.whitelist.clone(),
            permissions: self.permissions,
            expires_at: [self.expires_at, until].into_iter().flatten().min(),
            proof: Proof::Key(digest),
        }
    }
}

/// All keys the server accepts. It is built from records of any origin and never changes: a key issued or revoked at
/// run time makes a new ring, which [`crate::guard::Guard::reload`] swaps in whole.
#[derive(Debug, Clone, Default)]
pub struct KeyRing {
    records: Vec<KeyRecord>,
    by_digest: HashMap<KeyDigest, Held>,
}

/// What is held of one key.
#[derive(Debug, Clone)]
struct Held {
    digest: KeyDigest,
    /// The place of its record.
    record: usize,
    principal: Arc<Principal>,
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
            let retiring = record.retiring.iter().map(|(digest, until)| (*digest, Some(*until)));
            for (digest, until) in [(record.digest, None)].into_iter().chain(retiring) {
                let principal = Arc::new(record.to_principal(digest, until));
                let held = Held { digest, record: ring.records.len(), principal };
                if let Some(earlier) = ring.by_digest.insert(digest, held) {
                    return Err(KeyRingError::SameKey(earlier.principal.id.clone(), record.id));
                }
            }
            ring.records.push(record);
        }
        Ok(ring)
    }

    /// Whose key this is, used from that address; its use is noted. Unknown, revoked (no longer in the ring) and
    /// expired keys, and keys used from elsewhere, take the same path and the same time; the caller cannot tell them
    /// apart.
    ///
    /// The map is keyed by the digest: what a cache or a bucket gives away about it tells nothing about a key, since
    /// an attacker cannot choose the digest bits of what he presents.
    ///
    /// # Errors
    /// [`UnknownKey`] says for the audit record why.
    pub fn find(&self, presented: &str, from: IpAddr, now: Timestamp) -> Result<Arc<Principal>, UnknownKey> {
        match self.look_up(&KeyDigest::of(presented), from, now) {
            Ok(held) => {
                if let Some(record) = self.records.get(held.record) {
                    record.usage.touch(now);
                }
                Ok(held.principal.clone())
            }
            Err(unknown) => {
                // Looked at for every key that is refused, so that all take the same time.
                let mistyped = check_shape(presented) == Err(KeyShapeError::Checksum);
                Err(if mistyped { unknown.or_mistyped() } else { unknown })
            }
        }
    }

    /// The principal of a key that was found earlier, as it would be found now.
    pub(crate) fn find_digest(
        &self,
        digest: &KeyDigest,
        from: IpAddr,
        now: Timestamp,
    ) -> Result<Arc<Principal>, UnknownKey> {
        self.look_up(digest, from, now).map(|held| held.principal.clone())
    }

    fn look_up(&self, digest: &KeyDigest, from: IpAddr, now: Timestamp) -> Result<&Held, UnknownKey> {
        // Compared with something of the same length also when nothing was found.
        const NOBODY: KeyDigest = KeyDigest([0; 32]);
        let found = self.by_digest.get(digest);
        let same = found.map_or(&NOBODY, |held| &held.digest).same_as(digest);
        let Some(held) = found.filter(|_| same) else { return Err(UnknownKey::Unknown) };
        if held.principal.is_expired_at(now) {
            return Err(UnknownKey::Expired(held.principal.clone()));
        }
        let allowed = self.records.get(held.record).and_then(|record| record.allowed_ips.as_ref());
        if allowed.is_some_and(|networks| !networks.contains(from)) {
            return Err(UnknownKey::Elsewhere(held.principal.clone()));
        }
        Ok(held)
    }

    /// The holder of the key of this id, expired or not: for questions about it, not for requests.
    pub(crate) fn principal(&self, id: &str) -> Option<Arc<Principal>> {
        // The key itself, not one that a rotation left: both have the id.
        let record = self.records.iter().find(|record| record.id == id)?;
        self.by_digest.get(&record.digest).map(|held| held.principal.clone())
    }

    /// Whether both rings accept the same keys.
    pub(crate) fn same_keys(&self, other: &KeyRing) -> bool {
        self.by_digest.len() == other.by_digest.len()
            && self.by_digest.keys().all(|digest| other.by_digest.contains_key(digest))
    }

    /// The keys, in the order in which they were given.
    pub fn records(&self) -> impl Iterator<Item = &KeyRecord> {
        self.records.iter()
    }

    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether there is no key.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
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
    /// No such key, and it cannot be one: it has the shape of a generated key and its checksum does not fit.
    #[error("unknown key, mistyped or made up: its checksum does not fit")]
    Mistyped,
    /// Known, but past its `expires_at`, or past the time that a rotation left it.
    #[error("expired key `{}`", .0.id)]
    Expired(Arc<Principal>),
    /// Known, and used from an address that is not one of its `allowed_ips`.
    #[error("key `{}` from an address that is not one of its `allowed_ips`", .0.id)]
    Elsewhere(Arc<Principal>),
}

impl UnknownKey {
    fn or_mistyped(self) -> Self {
        match self {
            UnknownKey::Unknown => UnknownKey::Mistyped,
            known => known,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    fn record(key: &str, id: &str) -> KeyRecord {
        KeyRecord::new(KeyDigest::from_config(key).unwrap(), id, vec!["viewer".to_owned()])
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
        assert_eq!(ring.find("admin-key", HERE, now).unwrap().id(), "a");
        assert_eq!(ring.find("viewer-key", HERE, now).unwrap().id(), "v");
        let digest = KeyDigest::of("admin-key").to_config();
        for presented in ["", "admin-ke", "admin-keys", "ADMIN-KEY", "a", &digest, &digest[7..]] {
            assert!(matches!(ring.find(presented, HERE, now), Err(UnknownKey::Unknown)), "{presented}");
        }
    }

    #[test]
    fn a_key_ends_at_its_expiry_to_the_instant() {
        let end: Timestamp = "2030-01-01T00:00:00Z".parse().unwrap();
        let ring = KeyRing::new([KeyRecord { expires_at: Some(end), ..record("k", "k") }]).unwrap();
        let before = end - jiff::SignedDuration::from_nanos(1);
        assert!(ring.find("k", HERE, before).is_ok());
        assert!(matches!(ring.find("k", HERE, end), Err(UnknownKey::Expired(_))));
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
    fn a_key_with_a_list_of_networks_is_found_from_there_alone() {
        let now = Timestamp::now();
        let allowed_ips = Some(Networks::parse(["192.0.2.0/24", "2001:db8::/32"]).unwrap());
        let ring = KeyRing::new([KeyRecord { allowed_ips, ..record("k", "k") }]).unwrap();
        for (address, found) in [
            ("192.0.2.9", true),
            ("::ffff:192.0.2.9", true),
            ("2001:db8::1", true),
            ("192.0.3.9", false),
            ("127.0.0.1", false),
            ("::", false),
        ] {
            let outcome = ring.find("k", address.parse().unwrap(), now);
            assert_eq!(outcome.is_ok(), found, "{address}");
            assert!(found || matches!(outcome, Err(UnknownKey::Elsewhere(_))), "{address}");
        }
    }

    #[test]
    fn a_rotated_key_is_found_by_both_until_the_old_one_ends() {
        let end: Timestamp = "2030-01-01T00:00:00Z".parse().unwrap();
        let retiring = vec![(KeyDigest::of("old"), end)];
        let ring = KeyRing::new([KeyRecord { retiring: retiring.clone(), ..record("new", "k") }]).unwrap();
        let before = end - jiff::SignedDuration::from_nanos(1);
        assert_eq!(ring.find("old", HERE, before).unwrap().expires_at(), Some(end));
        assert_eq!(ring.find("new", HERE, before).unwrap().expires_at(), None);
        assert!(matches!(ring.find("old", HERE, end), Err(UnknownKey::Expired(_))));
        assert!(ring.find("new", HERE, end).is_ok());
        assert_eq!(ring.len(), 1);
        // The end of the key itself is the end of both.
        let sooner = Some(end - jiff::SignedDuration::from_hours(1));
        let ring = KeyRing::new([KeyRecord { retiring, expires_at: sooner, ..record("new", "k") }]).unwrap();
        assert_eq!(ring.find("old", HERE, Timestamp::UNIX_EPOCH).unwrap().expires_at(), sooner);
    }

    #[test]
    fn a_key_whose_checksum_does_not_fit_is_unknown() {
        use secrecy::ExposeSecret;
        let ring = KeyRing::new([record("k", "k")]).unwrap();
        let key = generate("k").unwrap();
        let found = |text: &str| ring.find(text, HERE, Timestamp::now()).unwrap_err();
        assert!(matches!(found(key.expose_secret()), UnknownKey::Unknown));
        let wrong = key.expose_secret().replacen("tqf_k_", "tqf_j_", 1);
        assert!(matches!(found(&wrong), UnknownKey::Mistyped));
    }

    #[test]
    fn the_last_use_is_kept_to_the_second() {
        let ring = KeyRing::new([record("k", "k")]).unwrap();
        let usage = ring.records().next().unwrap().usage.clone();
        assert_eq!(usage.last(), None);
        let used: Timestamp = "2026-01-01T00:00:00.9Z".parse().unwrap();
        ring.find("k", HERE, used).unwrap();
        assert_eq!(usage.last().unwrap().to_string(), "2026-01-01T00:00:00Z");
        ring.find("wrong", HERE, Timestamp::now()).unwrap_err();
        ring.find("k", HERE, used - jiff::SignedDuration::from_hours(1)).unwrap();
        assert_eq!(usage.last().unwrap().to_string(), "2026-01-01T00:00:00Z", "a clock that stepped back");
    }
}
