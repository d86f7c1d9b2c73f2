//! JSON Web Tokens as credentials (RFC 7519), checked the way RFC 8725 asks.
//!
//! ```
//! use std::time::Duration;
//! use taskiq_flow_security::jwt::{JwtVerifier, MintClaims, Trust, VerifyingKey, mint};
//!
//! let secret = "a secret of at least thirty-two bytes".into();
//! let claims = MintClaims::new("ada", ["viewer"], Duration::from_secs(600));
//! let token = mint(&secret, &claims).unwrap();
//!
//! let trust = Trust::new(vec![VerifyingKey::hs256(&secret).unwrap()]).unwrap();
//! let verifier = JwtVerifier::new(vec![trust]).unwrap();
//! let principal = verifier.verify(&token, jiff::Timestamp::now()).unwrap();
//! assert_eq!((principal.id(), principal.roles()), ("ada", &["viewer".to_owned()][..]));
//! assert!(verifier.verify(&token[..token.len() - 2], jiff::Timestamp::now()).is_err());
//! ```
//!
//! - Keys come from the configuration, or from the place that it names ([`jwks`]); never from the token (`jwk`, `jku`,
//!   `x5u`, `x5c` are not looked at).
//! - One key has one algorithm. The token's `alg` only selects among the configured keys, spelled exactly; `none` is
//!   no algorithm, and a public key can never serve as an HMAC secret.
//! - Each issuer is bound to its own keys ([`Trust`]): a token that names an issuer and was signed with another's key is
//!   refused.
//! - The signature is checked before any claim is read. Only the compact form is accepted.
//! - `sub`, `exp` and `roles` are required; `nbf`, `iat`, `iss`, `aud`, `jti` must have their type when present. With
//!   `jwt_issuer` or `jwt_audience` configured the claim is required and must match; an `aud` in a token is refused
//!   when no audience is configured, as RFC 7519 section 4.1.3 demands.
//! - [`Revocations`] refuse tokens before their end.

mod claims;
mod error;
pub mod jwks;
mod key;
mod members;
mod mint;
mod revocations;
#[cfg(test)]
mod tests;
mod trust;
mod verifier;

pub use self::claims::MAX_TOKEN_BYTES;
pub use self::error::JwtError;
pub use self::key::{JwtAlgorithm, JwtKeyError, VerifyingKey};
#[cfg(test)]
pub(crate) use self::mint::sign;
pub use self::mint::{MAX_TTL, MintClaims, MintError, MintKey, mint};
pub use self::revocations::{MAX_REVOCATIONS, Revocation, RevocationError, Revocations};
pub use self::trust::Trust;
pub use self::verifier::{DEFAULT_LEEWAY, JwtVerifier, MAX_LEEWAY};
