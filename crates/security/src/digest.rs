//! The digest of a key: all that is kept of it.

use std::fmt;

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// How a digest is marked where a raw key could stand as well.
pub const DIGEST_PREFIX: &str = "sha256:";

/// SHA-256 of a key.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyDigest(pub(crate) [u8; 32]);

impl KeyDigest {
    /// The digest of a raw key, or of any other secret.
    pub fn of(raw: &str) -> Self {
        KeyDigest(Sha256::digest(raw.as_bytes()).into())
    }

    /// Reads a key as configuration writes it: the raw key, or `sha256:` and 64 hex digits.
    ///
    /// # Errors
    /// The text could never be presented in a header, or starts with `sha256:` and is no digest. The error does not
    /// repeat the text.
    pub fn from_config(text: &str) -> Result<Self, KeyTextError> {
        if let Some(digits) = text.strip_prefix(DIGEST_PREFIX) {
            let mut digest = [0; 32];
            hex::decode_to_slice(digits, &mut digest).map_err(|_| KeyTextError::Digest)?;
            return Ok(KeyDigest(digest));
        }
        if text.is_empty() {
            return Err(KeyTextError::Empty);
        }
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(KeyTextError::Unsendable);
        }
        Ok(Self::of(text))
    }

    /// The id of a key that was given none: `key-` and the first 12 hex digits of its digest.
    pub fn default_id(&self) -> String {
        format!("key-{}", hex::encode(&self.0[..6]))
    }

    /// The digest as configuration writes it, `sha256:` and 64 hex digits.
    pub fn to_config(&self) -> String {
        format!("{DIGEST_PREFIX}{}", hex::encode(self.0))
    }

    pub(crate) fn same_as(&self, other: &KeyDigest) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl fmt::Debug for KeyDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyDigest([REDACTED])")
    }
}

/// Why a configured key is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyTextError {
    /// An empty key would be no key.
    #[error("a key is empty; make one with `taskiq-flow key new`")]
    Empty,
    /// Not 64 hex digits.
    #[error(
        "a key starts with `sha256:` but 64 hex digits do not follow; `taskiq-flow key hash` prints them"
    )]
    Digest,
    /// No header can carry it.
    #[error(
        "a key has spaces, control or non-ASCII characters and could never be sent in a header; use visible ASCII"
    )]
    Unsendable,
}
