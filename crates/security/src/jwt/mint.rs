//! Making tokens, for `taskiq-flow token mint` and for tests.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use jsonwebtoken::EncodingKey;
use jsonwebtoken::crypto::aws_lc;
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;

use super::claims::{ACCESS_TOKEN, check_roles, check_subject, media_type};
use super::error::JwtError;
use super::key::{JwtAlgorithm, KeyFamily};
use super::members::is_name;

/// The longest life of a minted token: 366 days. A longer-lived credential should be a key, which is easier to revoke.
pub const MAX_TTL: Duration = Duration::from_secs(366 * 24 * 3600);

/// What a token says.
#[derive(Debug, Clone)]
pub struct MintClaims {
    /// Who it is for (`sub`).
    pub subject: String,
    /// Its `roles`.
    pub roles: Vec<String>,
    /// How long it is good for, in whole seconds from now.
    pub ttl: Duration,
    /// Its `iss`, if any.
    pub issuer: Option<String>,
    /// Its `aud`, if any.
    pub audience: Option<String>,
    /// Its `jti`, by which it can be revoked, if any.
    pub token_id: Option<String>,
    /// From when on it is good (`nbf`), if not from now on; cut to the second.
    pub not_before: Option<Timestamp>,
    /// Its `typ`; absent: `JWT`. An `at+jwt` names its subject as `client_id` too, which RFC 9068 asks for.
    pub token_type: Option<String>,
}

/// What a token is signed with. Its `Debug` does not show the key.
#[derive(Debug)]
pub struct MintKey {
    key: EncodingKey,
    algorithm: JwtAlgorithm,
    kid: Option<String>,
}

impl MintClaims {
    /// Claims without anything more.
    pub fn new<R>(subject: impl Into<String>, roles: R, ttl: Duration) -> Self
    where
        R: IntoIterator,
        R::Item: Into<String>,
    {
        MintClaims {
            subject: subject.into(),
            roles: roles.into_iter().map(Into::into).collect(),
            ttl,
            issuer: None,
            audience: None,
            token_id: None,
            not_before: None,
            token_type: None,
        }
    }

    fn check(&self) -> Result<(), MintError> {
        check_subject(&self.subject).map_err(MintError::Claims)?;
        check_roles(&self.roles).map_err(MintError::Claims)?;
        for (name, text) in [("iss", &self.issuer), ("aud", &self.audience), ("jti", &self.token_id)] {
            if text.as_deref().is_some_and(|text| !is_name(text)) {
                return Err(MintError::Claims(JwtError::Claim(name)));
            }
        }
        if self.ttl.as_secs() == 0 || self.ttl > MAX_TTL {
            return Err(MintError::Ttl);
        }
        Ok(())
    }
}

/// Why no token was made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MintError {
    /// There is nothing to sign with.
    #[error("jwt_secret is empty; tokens are signed with it")]
    EmptySecret,
    /// Not a private key in PEM, PKCS #8.
    #[error(
        "this is no private key in PEM, PKCS #8, of RSA, P-256, P-384 or Ed25519 \
         (`openssl pkcs8 -topk8 -nocrypt` converts others)"
    )]
    NotAPrivateKey,
    /// The key cannot be used so.
    #[error("the key is not one for {0}")]
    Algorithm(JwtAlgorithm),
    /// The verifier would refuse the claim.
    #[error("{0}; give texts without control characters, of at most 256 characters")]
    Claims(JwtError),
    /// Zero, or above [`MAX_TTL`].
    #[error("a token lives at least one second and at most 366 days")]
    Ttl,
    /// It would be past its end before it is good.
    #[error("the token would expire before it is good; let it live longer than until `nbf`")]
    NeverValid,
    /// The library refused the key.
    #[error("the token cannot be signed with this key")]
    Signing,
}

impl MintKey {
    /// A shared secret, for HS256.
    ///
    /// # Errors
    /// [`MintError::EmptySecret`].
    pub fn hs256(secret: &SecretString) -> Result<Self, MintError> {
        let secret = secret.expose_secret();
        if secret.is_empty() {
            return Err(MintError::EmptySecret);
        }
        let key = EncodingKey::from_secret(secret.as_bytes());
        Ok(MintKey { key, algorithm: JwtAlgorithm::HS256, kid: None })
    }

    /// A private key (PEM, PKCS #8) that tokens name as `kid`. Without an algorithm: RS256 for an RSA key, else the only
    /// one possible.
    ///
    /// # Errors
    /// [`MintError::NotAPrivateKey`], [`MintError::Algorithm`].
    pub fn private(
        pem: &SecretString,
        algorithm: Option<JwtAlgorithm>,
        kid: Option<String>,
    ) -> Result<Self, MintError> {
        let pem = pem.expose_secret().as_bytes();
        let all = JwtAlgorithm::ALL.into_iter();
        let possible = all.filter(|possible| algorithm.is_none_or(|algorithm| algorithm == *possible));
        for algorithm in possible {
            let read = match algorithm.family() {
                KeyFamily::Secret => continue,
                KeyFamily::Rsa => EncodingKey::from_rsa_pem(pem),
                KeyFamily::P256 | KeyFamily::P384 => EncodingKey::from_ec_pem(pem),
                KeyFamily::Ed25519 => EncodingKey::from_ed_pem(pem),
            };
            let Ok(key) = read else { continue };
            let key = MintKey { key, algorithm, kid: kid.clone() };
            // Only signing tells a public key from a private one, and one curve from another.
            if key.sign("", "").is_some() {
                return Ok(key);
            }
        }
        Err(algorithm.map_or(MintError::NotAPrivateKey, MintError::Algorithm))
    }

    /// Signs a token.
    ///
    /// # Errors
    /// See [`MintError`]. A token that is returned is one that a verifier accepts which trusts the key and, where it
    /// asks for them, issuer, audience and type.
    pub fn mint(&self, claims: &MintClaims) -> Result<String, MintError> {
        claims.check()?;
        let now = Timestamp::now().as_second();
        let life = i64::try_from(claims.ttl.as_secs()).map_err(|_| MintError::Ttl)?;
        let end = now.saturating_add(life);
        let mut body = json!({ "sub": claims.subject, "roles": claims.roles, "iat": now, "exp": end });
        for (name, value) in [("iss", &claims.issuer), ("aud", &claims.audience), ("jti", &claims.token_id)] {
            if let Some(value) = value {
                body[name] = json!(value);
            }
        }
        if let Some(start) = claims.not_before.map(Timestamp::as_second) {
            if start >= end {
                return Err(MintError::NeverValid);
            }
            body["nbf"] = json!(start);
        }
        let token_type = claims.token_type.as_deref().unwrap_or("JWT");
        if media_type(token_type) == ACCESS_TOKEN {
            body["client_id"] = json!(claims.subject);
        }
        let mut header = json!({ "alg": self.algorithm.as_str(), "typ": token_type });
        if let Some(kid) = &self.kid {
            header["kid"] = json!(kid);
        }
        self.sign(&header.to_string(), &body.to_string()).ok_or(MintError::Signing)
    }

    /// Signs any two texts; whether they make a sensible token is the caller's business.
    fn sign(&self, header: &str, claims: &str) -> Option<String> {
        let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
        let signer = (aws_lc::DEFAULT_PROVIDER.signer_factory)(&self.algorithm.library(), &self.key).ok()?;
        let signature = signer.try_sign(message.as_bytes()).ok()?;
        Some(format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }
}

/// Signs a token with HS256.
///
/// # Errors
/// See [`MintKey::hs256`] and [`MintKey::mint`].
pub fn mint(secret: &SecretString, claims: &MintClaims) -> Result<String, MintError> {
    MintKey::hs256(secret)?.mint(claims)
}

/// Signs any two texts with HS256, for tests of tokens that nobody should make.
#[cfg(test)]
pub(crate) fn sign(secret: &SecretString, header: &str, claims: &str) -> Option<String> {
    MintKey::hs256(secret).ok()?.sign(header, claims)
}
