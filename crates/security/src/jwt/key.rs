//! Keys that check tokens: each bound to exactly one algorithm.

use std::fmt;
use std::str::FromStr;

use jsonwebtoken::crypto::aws_lc;
use jsonwebtoken::{Algorithm, DecodingKey};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};

use crate::api_key::KeyDigest;

/// The algorithms accepted, spelled as in RFC 7518 and RFC 8037.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum JwtAlgorithm {
    /// HMAC with SHA-256 and a shared secret.
    HS256,
    /// RSASSA-PKCS1-v1_5 with SHA-256; keys of 2048 to 8192 bits.
    RS256,
    /// ECDSA with P-256 and SHA-256.
    ES256,
    /// Ed25519.
    EdDSA,
}

impl JwtAlgorithm {
    /// Every algorithm.
    pub const ALL: [JwtAlgorithm; 4] =
        [JwtAlgorithm::HS256, JwtAlgorithm::RS256, JwtAlgorithm::ES256, JwtAlgorithm::EdDSA];

    /// The name in a token's `alg`.
    pub fn as_str(self) -> &'static str {
        match self {
            JwtAlgorithm::HS256 => "HS256",
            JwtAlgorithm::RS256 => "RS256",
            JwtAlgorithm::ES256 => "ES256",
            JwtAlgorithm::EdDSA => "EdDSA",
        }
    }

    pub(super) fn library(self) -> Algorithm {
        match self {
            JwtAlgorithm::HS256 => Algorithm::HS256,
            JwtAlgorithm::RS256 => Algorithm::RS256,
            JwtAlgorithm::ES256 => Algorithm::ES256,
            JwtAlgorithm::EdDSA => Algorithm::EdDSA,
        }
    }
}

impl fmt::Display for JwtAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for JwtAlgorithm {
    type Err = JwtKeyError;

    /// Exact spelling only: `hs256`, `none` and `nOnE` are unknown.
    fn from_str(name: &str) -> Result<Self, Self::Err> {
        JwtAlgorithm::ALL
            .into_iter()
            .find(|algorithm| algorithm.as_str() == name)
            .ok_or(JwtKeyError::UnknownAlgorithm)
    }
}

/// Why a configured key is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JwtKeyError {
    /// Nothing to check tokens with.
    #[error("there is no key to check tokens with; set `jwt_secret` or `jwt_public_keys`")]
    NoKey,
    /// Not one of [`JwtAlgorithm::ALL`].
    #[error("unknown algorithm; write HS256, RS256, ES256 or EdDSA")]
    UnknownAlgorithm,
    /// A token's `kid` would not select one key.
    #[error("two keys of one algorithm have the kid `{0}`; give each its own")]
    SameKid(String),
    /// An empty secret signs nothing.
    #[error("the secret is empty; use at least 32 random bytes, `openssl rand -base64 48` prints some")]
    EmptySecret,
    /// The text of a PEM file as HMAC secret: everybody who has the public key could sign.
    #[error("the secret is a PEM key; put a public key into `jwt_public_keys`")]
    PemAsSecret,
    /// A shared secret has no place in a list of public keys.
    #[error("HS256 has no public key; use `jwt_secret`")]
    SymmetricPublicKey,
    /// A private key in the server's configuration is a leak waiting to happen.
    #[error("this is a private key; give only the public one, `openssl pkey -pubout` prints it")]
    PrivateKey,
    /// Not a PEM text with a public key of the algorithm's family.
    #[error("this is no PEM public key for {0} (`-----BEGIN PUBLIC KEY-----`)")]
    NotAPublicKey(JwtAlgorithm),
    /// RSA below 2048 bits.
    #[error("the RSA key is shorter than 2048 bits; make a longer one")]
    ShortRsa,
}

/// A key that checks tokens of one algorithm.
#[derive(Clone)]
pub struct VerifyingKey {
    kid: Option<String>,
    algorithm: JwtAlgorithm,
    key: DecodingKey,
    fingerprint: KeyDigest,
}

impl VerifyingKey {
    /// A shared secret. Short secrets work (the caller warns of them); see [`crate::settings`].
    ///
    /// # Errors
    /// The secret is empty, or is the text of a PEM key.
    pub fn hs256(secret: &SecretString) -> Result<Self, JwtKeyError> {
        let secret = secret.expose_secret();
        if secret.is_empty() {
            return Err(JwtKeyError::EmptySecret);
        }
        if secret.contains("-----BEGIN ") {
            return Err(JwtKeyError::PemAsSecret);
        }
        Ok(VerifyingKey {
            kid: None,
            algorithm: JwtAlgorithm::HS256,
            key: DecodingKey::from_secret(secret.as_bytes()),
            fingerprint: KeyDigest::of(&format!("HS256|{secret}")),
        })
    }

    /// A public key in PEM form.
    ///
    /// # Errors
    /// The text is no public key of that algorithm's family, is a private key, or too short.
    pub fn public(algorithm: JwtAlgorithm, kid: Option<String>, pem: &str) -> Result<Self, JwtKeyError> {
        if pem.contains("PRIVATE KEY-----") {
            return Err(JwtKeyError::PrivateKey);
        }
        let key = match algorithm {
            JwtAlgorithm::HS256 => return Err(JwtKeyError::SymmetricPublicKey),
            JwtAlgorithm::RS256 => DecodingKey::from_rsa_pem(pem.as_bytes()),
            JwtAlgorithm::ES256 => DecodingKey::from_ec_pem(pem.as_bytes()),
            JwtAlgorithm::EdDSA => DecodingKey::from_ed_pem(pem.as_bytes()),
        }
        .map_err(|_| JwtKeyError::NotAPublicKey(algorithm))?;
        let bytes = key.try_get_as_bytes().map_err(|_| JwtKeyError::NotAPublicKey(algorithm))?;
        let fits = match algorithm {
            // The DER form of the shortest accepted key has a modulus of 256 bytes and some framing.
            JwtAlgorithm::RS256 if bytes.len() < 256 => return Err(JwtKeyError::ShortRsa),
            JwtAlgorithm::HS256 | JwtAlgorithm::RS256 => true,
            // An uncompressed point of P-256, and no other curve.
            JwtAlgorithm::ES256 => bytes.len() == 65 && bytes[0] == 4,
            JwtAlgorithm::EdDSA => bytes.len() == 32,
        };
        if !fits {
            return Err(JwtKeyError::NotAPublicKey(algorithm));
        }
        let fingerprint = KeyDigest::of(&format!("{algorithm}|{}", hex::encode(bytes)));
        Ok(VerifyingKey { kid, algorithm, key, fingerprint })
    }

    /// The key's name, if it has one.
    pub fn kid(&self) -> Option<&str> {
        self.kid.as_deref()
    }

    /// The one algorithm the key is for.
    pub fn algorithm(&self) -> JwtAlgorithm {
        self.algorithm
    }

    pub(crate) fn fingerprint(&self) -> String {
        self.fingerprint.to_config()
    }

    /// Whether `signature` is this key's over `message`.
    ///
    /// The provider is called directly, not through the library's process-wide default: that one panics when another
    /// crate of the program enables a second backend, and nothing can repair it afterwards.
    pub(super) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        (aws_lc::DEFAULT_PROVIDER.verifier_factory)(&self.algorithm.library(), &self.key)
            .is_ok_and(|verifier| verifier.verify(message, &signature.to_vec()).is_ok())
    }
}

impl fmt::Debug for VerifyingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VerifyingKey")
            .field("kid", &self.kid)
            .field("algorithm", &self.algorithm)
            .finish_non_exhaustive()
    }
}
