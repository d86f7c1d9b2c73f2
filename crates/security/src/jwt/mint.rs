//! Making tokens, for `taskiq-flow token mint` and for tests.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use jsonwebtoken::EncodingKey;
use jsonwebtoken::crypto::aws_lc;
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;

use super::claims::{check_roles, check_subject};
use super::{JwtAlgorithm, JwtError};

/// The longest life of a minted token: 366 days. A longer-lived credential should be a key, which can be revoked.
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
}

impl MintClaims {
    /// Claims without issuer and audience.
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
        }
    }
}

/// Why no token was made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MintError {
    /// There is nothing to sign with.
    #[error("jwt_secret is empty; tokens are signed with it")]
    EmptySecret,
    /// The verifier would refuse the claim.
    #[error("{0}; give a subject and roles without control characters, of at most 256 characters")]
    Claims(JwtError),
    /// Zero, or above [`MAX_TTL`].
    #[error("a token lives at least one second and at most 366 days")]
    Ttl,
    /// The library refused the key.
    #[error("the token cannot be signed with this secret")]
    Signing,
}

/// Signs a token with HS256.
///
/// # Errors
/// See [`MintError`]; a token that is returned is one the verifier accepts.
pub fn mint(secret: &SecretString, claims: &MintClaims) -> Result<String, MintError> {
    if secret.expose_secret().is_empty() {
        return Err(MintError::EmptySecret);
    }
    check_subject(&claims.subject).map_err(MintError::Claims)?;
    check_roles(&claims.roles).map_err(MintError::Claims)?;
    if claims.ttl.as_secs() == 0 || claims.ttl > MAX_TTL {
        return Err(MintError::Ttl);
    }
    let now = Timestamp::now().as_second();
    let life = i64::try_from(claims.ttl.as_secs()).map_err(|_| MintError::Ttl)?;
    let mut body = json!({
        "sub": claims.subject,
        "roles": claims.roles,
        "iat": now,
        "exp": now.saturating_add(life),
    });
    for (name, value) in [("iss", &claims.issuer), ("aud", &claims.audience)] {
        if let Some(value) = value {
            body[name] = json!(value);
        }
    }
    let header = json!({ "alg": JwtAlgorithm::HS256.as_str(), "typ": "JWT" });
    sign(secret, &header.to_string(), &body.to_string()).ok_or(MintError::Signing)
}

/// Signs any two texts; whether they make a sensible token is the caller's business.
pub(super) fn sign(secret: &SecretString, header: &str, claims: &str) -> Option<String> {
    let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
    let key = EncodingKey::from_secret(secret.expose_secret().as_bytes());
    let signer = (aws_lc::DEFAULT_PROVIDER.signer_factory)(&JwtAlgorithm::HS256.library(), &key).ok()?;
    let signature = signer.try_sign(message.as_bytes()).ok()?;
    Some(format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature)))
}
