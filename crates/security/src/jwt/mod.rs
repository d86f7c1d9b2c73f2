//! JSON Web Tokens as credentials (RFC 7519), checked the way RFC 8725 asks.
//!
//! ```
//! use std::time::Duration;
//! use taskiq_flow_security::jwt::{JwtVerifier, MintClaims, VerifyingKey, mint};
//!
//! let secret = "a secret of at least thirty-two bytes".into();
//! let claims = MintClaims::new("ada", ["viewer"], Duration::from_secs(600));
//! let token = mint(&secret, &claims).unwrap();
//!
//! let verifier = JwtVerifier::new(vec![VerifyingKey::hs256(&secret).unwrap()]).unwrap();
//! let principal = verifier.verify(&token, jiff::Timestamp::now()).unwrap();
//! assert_eq!((principal.id(), principal.roles()), ("ada", &["viewer".to_owned()][..]));
//! assert!(verifier.verify(&token[..token.len() - 2], jiff::Timestamp::now()).is_err());
//! ```
//!
//! - Keys come from the configuration only, never from the token (`jwk`, `jku`, `x5u`, `x5c` are not looked at).
//! - One key has one algorithm. The token's `alg` only selects among the configured keys, spelled exactly; `none` is
//!   no algorithm, and a public key can never serve as an HMAC secret.
//! - The signature is checked before any claim is read. Only the compact form is accepted.
//! - `sub`, `exp` and `roles` are required; `nbf`, `iat`, `iss`, `aud` must have their type when present. With
//!   `jwt_issuer` or `jwt_audience` configured the claim is required and must match; an `aud` in a token is refused
//!   when no audience is configured, as RFC 7519 section 4.1.3 demands.

mod claims;
mod key;
mod mint;
mod revocations;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use crate::api_key::KeyDigest;
use crate::permission::PermissionSet;
use crate::principal::{Principal, PrincipalKind, Proof};
use crate::whitelist::Whitelist;

pub use self::claims::JwtError;
pub use self::key::{JwtAlgorithm, JwtKeyError, VerifyingKey};
pub use self::mint::{MAX_TTL, MintClaims, MintError, mint};
pub use self::revocations::{MAX_REVOCATIONS, Revocation, RevocationError, Revocations};

/// The longest token looked at, in bytes; a longer one is refused before anything of it is decoded.
pub const MAX_TOKEN_BYTES: usize = 8 * 1024;

/// The clock leeway when none is configured.
pub const DEFAULT_LEEWAY: SignedDuration = SignedDuration::from_secs(30);

/// The greatest leeway that may be configured. More would turn expiry into a suggestion.
pub const MAX_LEEWAY: SignedDuration = SignedDuration::from_mins(10);

/// What is kept of a token, so that its bearer can be checked again later without it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TokenProof {
    /// The key that verified it, with the issuer and audience it had to name.
    pub(crate) mark: KeyDigest,
    pub(crate) issuer: Option<String>,
    pub(crate) jti: Option<String>,
    pub(crate) issued_at: Option<Timestamp>,
}

/// Checks tokens with configured keys.
#[derive(Debug, Clone)]
pub struct JwtVerifier {
    keys: Vec<VerifyingKey>,
    issuers: Vec<String>,
    audiences: Vec<String>,
    leeway: SignedDuration,
}

impl JwtVerifier {
    /// Checks with these keys, any issuer, tokens without audience, and the default leeway.
    ///
    /// # Errors
    /// There is no key, or two keys have the same `kid` and algorithm.
    pub fn new(keys: Vec<VerifyingKey>) -> Result<Self, JwtKeyError> {
        if keys.is_empty() {
            return Err(JwtKeyError::NoKey);
        }
        for (at, key) in keys.iter().enumerate() {
            let twin =
                |other: &VerifyingKey| other.kid() == key.kid() && other.algorithm() == key.algorithm();
            if let Some(kid) = key.kid()
                && keys[..at].iter().any(twin)
            {
                return Err(JwtKeyError::SameKid(kid.to_owned()));
            }
        }
        Ok(JwtVerifier { keys, issuers: Vec::new(), audiences: Vec::new(), leeway: DEFAULT_LEEWAY })
    }

    /// Requires `iss` to be one of these; an empty list requires nothing.
    #[must_use]
    pub fn with_issuers(mut self, issuers: Vec<String>) -> Self {
        self.issuers = issuers;
        self
    }

    /// Requires `aud` to name one of these; with an empty list a token that has an `aud` is refused.
    #[must_use]
    pub fn with_audiences(mut self, audiences: Vec<String>) -> Self {
        self.audiences = audiences;
        self
    }

    /// How far clocks may be apart; held to between zero and [`MAX_LEEWAY`].
    #[must_use]
    pub fn with_leeway(mut self, leeway: SignedDuration) -> Self {
        self.leeway = leeway.clamp(SignedDuration::ZERO, MAX_LEEWAY);
        self
    }

    /// Whose token this is.
    ///
    /// # Errors
    /// [`JwtError`] says for the audit record what is wrong; to the client every one of them is `invalid_token`.
    pub fn verify(&self, token: &str, now: Timestamp) -> Result<Arc<Principal>, JwtError> {
        let parts = claims::split(token)?;
        let header = claims::read_header(parts.header)?;
        let algorithm: JwtAlgorithm = header.alg.parse().map_err(|_| JwtError::Algorithm)?;
        let signature = claims::decode_part(parts.signature)?;

        let key = self
            .candidates(algorithm, header.kid.as_deref())?
            .find(|key| key.verifies(parts.signed.as_bytes(), &signature))
            .ok_or(JwtError::Signature)?;

        let claims = claims::read_claims(parts.claims)?;
        claims.check_times(now, self.leeway)?;
        claims.check_issuer(&self.issuers)?;
        claims.check_audience(&self.audiences)?;
        Ok(Arc::new(Principal {
            id: claims.sub,
            kind: PrincipalKind::Jwt,
            roles: claims.roles,
            whitelist: Whitelist::Unrestricted,
            permissions: PermissionSet::EMPTY,
            expires_at: Some(claims.exp.checked_add(self.leeway).map_err(|_| JwtError::Time("exp"))?),
            proof: Proof::Token(Arc::new(TokenProof {
                mark: self.mark(key),
                issuer: claims.iss,
                jti: claims.jti,
                issued_at: claims.iat,
            })),
        }))
    }

    /// Whether a principal admitted earlier by a token would still be: the key that verified it is still configured,
    /// with the same issuer and audience.
    pub(crate) fn still_trusts(&self, mark: &KeyDigest) -> bool {
        self.keys.iter().any(|key| self.mark(key) == *mark)
    }

    /// The keys, for redacted views of the configuration.
    pub fn keys(&self) -> &[VerifyingKey] {
        &self.keys
    }

    /// The keys of the token's algorithm: those of its `kid`, or else those that have no `kid`; all of them for a token
    /// without `kid`.
    fn candidates(
        &self,
        algorithm: JwtAlgorithm,
        kid: Option<&str>,
    ) -> Result<impl Iterator<Item = &VerifyingKey>, JwtError> {
        let named = kid.is_some_and(|kid| {
            self.keys.iter().any(|key| key.algorithm() == algorithm && key.kid() == Some(kid))
        });
        let wanted = move |key: &&VerifyingKey| {
            key.algorithm() == algorithm
                && match kid {
                    None => true,
                    Some(kid) if named => key.kid() == Some(kid),
                    Some(_) => key.kid().is_none(),
                }
        };
        if !self.keys.iter().any(|key| key.algorithm() == algorithm) {
            return Err(JwtError::Algorithm);
        }
        let mut keys = self.keys.iter().filter(wanted).peekable();
        if keys.peek().is_none() {
            return Err(JwtError::UnknownKid);
        }
        Ok(keys)
    }

    fn mark(&self, key: &VerifyingKey) -> KeyDigest {
        KeyDigest::of(&format!("{:?}|{:?}|{:?}", key.fingerprint(), self.issuers, self.audiences))
    }
}
