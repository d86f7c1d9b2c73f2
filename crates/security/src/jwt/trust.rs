//! Whose tokens are accepted: issuers, each bound to its own keys.

use super::claims::media_type;
use super::jwks::KeySource;
use super::key::{JwtAlgorithm, JwtKeyError, VerifyingKey};
use crate::digest::KeyDigest;

/// Keys, and what a token that one of them verifies must say. See [`super::JwtVerifier`].
#[derive(Debug, Clone)]
pub struct Trust {
    keys: Vec<VerifyingKey>,
    source: Option<KeySource>,
    issuers: Vec<String>,
    audiences: Vec<String>,
    required_type: Option<String>,
    /// What a principal remembers of it, to be compared after a change.
    mark: KeyDigest,
}

impl Trust {
    /// Trusts these keys, for any issuer, and for tokens without audience.
    ///
    /// # Errors
    /// Two keys have the same `kid` and algorithm.
    pub fn new(keys: Vec<VerifyingKey>) -> Result<Self, JwtKeyError> {
        for (at, key) in keys.iter().enumerate() {
            let twin =
                |other: &VerifyingKey| other.kid() == key.kid() && other.algorithm() == key.algorithm();
            if let Some(kid) = key.kid()
                && keys[..at].iter().any(twin)
            {
                return Err(JwtKeyError::SameKid(kid.to_owned()));
            }
        }
        let trust = Trust {
            keys,
            source: None,
            issuers: Vec::new(),
            audiences: Vec::new(),
            required_type: None,
            mark: KeyDigest::of(""),
        };
        Ok(trust.marked())
    }

    /// Trusts the keys that the issuer publishes, too.
    #[must_use]
    pub(crate) fn with_source(mut self, source: Option<KeySource>) -> Self {
        self.source = source;
        self
    }

    /// Requires `iss` to be one of these; an empty list requires nothing.
    #[must_use]
    pub fn with_issuers(mut self, issuers: Vec<String>) -> Self {
        self.issuers = issuers;
        self.marked()
    }

    /// Requires `aud` to name one of these; with an empty list a token that has an `aud` is refused.
    #[must_use]
    pub fn with_audiences(mut self, audiences: Vec<String>) -> Self {
        self.audiences = audiences;
        self.marked()
    }

    /// Requires `typ` to be this media type, such as `at+jwt`.
    #[must_use]
    pub fn with_required_type(mut self, required_type: Option<&str>) -> Self {
        self.required_type = required_type.map(media_type);
        self.marked()
    }

    /// The accepted issuers; none: any.
    pub fn issuers(&self) -> &[String] {
        &self.issuers
    }

    /// The accepted audiences; none: only tokens without one.
    pub fn audiences(&self) -> &[String] {
        &self.audiences
    }

    /// The media type a token must have.
    pub fn required_type(&self) -> Option<&str> {
        self.required_type.as_deref()
    }

    /// The keys that the configuration itself holds.
    pub fn keys(&self) -> &[VerifyingKey] {
        &self.keys
    }

    pub(super) fn is_empty(&self) -> bool {
        self.keys.is_empty() && self.source.is_none()
    }

    pub(super) fn source(&self) -> Option<&KeySource> {
        self.source.as_ref()
    }

    pub(super) fn source_mut(&mut self) -> Option<&mut KeySource> {
        self.source.as_mut()
    }

    /// Whether a token of this algorithm could be verified, now or once the issuer publishes a key.
    pub(super) fn accepts(&self, algorithm: JwtAlgorithm) -> bool {
        self.keys.iter().any(|key| key.algorithm() == algorithm)
            || self.source.as_ref().is_some_and(|source| source.accepts(algorithm))
    }

    /// The keys of the token's algorithm: those of its `kid`, or else configured ones that have no `kid`; all of them
    /// for a token without `kid`. A published key without `kid` is for tokens without.
    pub(super) fn candidates(&self, algorithm: JwtAlgorithm, kid: Option<&str>) -> Vec<VerifyingKey> {
        let published = self.source.as_ref().and_then(KeySource::held);
        let published = published.as_ref().map_or(&[][..], |held| held.keys());
        let fitting = |keys: &[VerifyingKey], wanted: &dyn Fn(&VerifyingKey) -> bool| -> Vec<VerifyingKey> {
            keys.iter().filter(|key| key.algorithm() == algorithm && wanted(key)).cloned().collect()
        };
        let Some(kid) = kid else {
            return [fitting(&self.keys, &|_| true), fitting(published, &|_| true)].concat();
        };
        let named = |key: &VerifyingKey| key.kid() == Some(kid);
        let found = [fitting(&self.keys, &named), fitting(published, &named)].concat();
        if found.is_empty() { fitting(&self.keys, &|key| key.kid().is_none()) } else { found }
    }

    pub(super) fn mark(&self) -> KeyDigest {
        self.mark
    }

    fn marked(mut self) -> Self {
        let text = format!("{:?}|{:?}|{:?}", self.issuers, self.audiences, self.required_type);
        self.mark = KeyDigest::of(&text);
        self
    }

    /// Whether this key is still one of those trusted.
    pub(super) fn has_key(&self, fingerprint: KeyDigest) -> bool {
        let published = self.source.as_ref().and_then(KeySource::held);
        let published = published.as_ref().map_or(&[][..], |held| held.keys());
        self.keys.iter().chain(published).any(|key| key.fingerprint() == fingerprint)
    }
}
