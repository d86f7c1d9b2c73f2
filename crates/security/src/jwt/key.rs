//! Keys that check tokens: each bound to exactly one algorithm.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use aws_lc_rs::hmac;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256,
    RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512, RSA_PSS_2048_8192_SHA256,
    RSA_PSS_2048_8192_SHA384, RSA_PSS_2048_8192_SHA512, RsaParameters, RsaPublicKeyComponents,
    VerificationAlgorithm,
};
use jsonwebtoken::{Algorithm, DecodingKey};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};

use crate::digest::KeyDigest;

/// The bits an RSA key may have (RFC 7518 section 3.3 asks for 2048; longer than 8192 only costs time).
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;

/// The algorithms accepted, spelled as in RFC 7518 and RFC 8037.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum JwtAlgorithm {
    /// HMAC with SHA-256 and a shared secret.
    HS256,
    /// RSASSA-PKCS1-v1_5 with SHA-256; keys of 2048 to 8192 bits.
    RS256,
    /// RSASSA-PKCS1-v1_5 with SHA-384.
    RS384,
    /// RSASSA-PKCS1-v1_5 with SHA-512.
    RS512,
    /// RSASSA-PSS with SHA-256; keys of 2048 to 8192 bits.
    PS256,
    /// RSASSA-PSS with SHA-384.
    PS384,
    /// RSASSA-PSS with SHA-512.
    PS512,
    /// ECDSA with P-256 and SHA-256.
    ES256,
    /// ECDSA with P-384 and SHA-384.
    ES384,
    /// Ed25519; RFC 9864 calls it `Ed25519`, which is understood as well. Ed448 is not.
    #[serde(alias = "Ed25519")]
    EdDSA,
}

/// The kinds of keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum KeyFamily {
    Secret,
    Rsa,
    P256,
    P384,
    Ed25519,
}

impl JwtAlgorithm {
    /// Every algorithm.
    pub const ALL: [JwtAlgorithm; 10] = [
        JwtAlgorithm::HS256,
        JwtAlgorithm::RS256,
        JwtAlgorithm::RS384,
        JwtAlgorithm::RS512,
        JwtAlgorithm::PS256,
        JwtAlgorithm::PS384,
        JwtAlgorithm::PS512,
        JwtAlgorithm::ES256,
        JwtAlgorithm::ES384,
        JwtAlgorithm::EdDSA,
    ];

    /// The name in a token's `alg`.
    pub fn as_str(self) -> &'static str {
        match self {
            JwtAlgorithm::HS256 => "HS256",
            JwtAlgorithm::RS256 => "RS256",
            JwtAlgorithm::RS384 => "RS384",
            JwtAlgorithm::RS512 => "RS512",
            JwtAlgorithm::PS256 => "PS256",
            JwtAlgorithm::PS384 => "PS384",
            JwtAlgorithm::PS512 => "PS512",
            JwtAlgorithm::ES256 => "ES256",
            JwtAlgorithm::ES384 => "ES384",
            JwtAlgorithm::EdDSA => "EdDSA",
        }
    }

    pub(crate) fn family(self) -> KeyFamily {
        match self {
            JwtAlgorithm::HS256 => KeyFamily::Secret,
            JwtAlgorithm::ES256 => KeyFamily::P256,
            JwtAlgorithm::ES384 => KeyFamily::P384,
            JwtAlgorithm::EdDSA => KeyFamily::Ed25519,
            _ => KeyFamily::Rsa,
        }
    }

    pub(super) fn library(self) -> Algorithm {
        match self {
            JwtAlgorithm::HS256 => Algorithm::HS256,
            JwtAlgorithm::RS256 => Algorithm::RS256,
            JwtAlgorithm::RS384 => Algorithm::RS384,
            JwtAlgorithm::RS512 => Algorithm::RS512,
            JwtAlgorithm::PS256 => Algorithm::PS256,
            JwtAlgorithm::PS384 => Algorithm::PS384,
            JwtAlgorithm::PS512 => Algorithm::PS512,
            JwtAlgorithm::ES256 => Algorithm::ES256,
            JwtAlgorithm::ES384 => Algorithm::ES384,
            JwtAlgorithm::EdDSA => Algorithm::EdDSA,
        }
    }

    fn rsa(self) -> Option<&'static RsaParameters> {
        match self {
            JwtAlgorithm::RS256 => Some(&RSA_PKCS1_2048_8192_SHA256),
            JwtAlgorithm::RS384 => Some(&RSA_PKCS1_2048_8192_SHA384),
            JwtAlgorithm::RS512 => Some(&RSA_PKCS1_2048_8192_SHA512),
            JwtAlgorithm::PS256 => Some(&RSA_PSS_2048_8192_SHA256),
            JwtAlgorithm::PS384 => Some(&RSA_PSS_2048_8192_SHA384),
            JwtAlgorithm::PS512 => Some(&RSA_PSS_2048_8192_SHA512),
            _ => None,
        }
    }

    fn verification(self) -> Option<&'static dyn VerificationAlgorithm> {
        match self {
            JwtAlgorithm::HS256 => None,
            JwtAlgorithm::ES256 => Some(&ECDSA_P256_SHA256_FIXED),
            JwtAlgorithm::ES384 => Some(&ECDSA_P384_SHA384_FIXED),
            JwtAlgorithm::EdDSA => Some(&ED25519),
            _ => self.rsa().map(|parameters| parameters as &dyn VerificationAlgorithm),
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
        if name == "Ed25519" {
            return Ok(JwtAlgorithm::EdDSA);
        }
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
    #[error("there is no key to check tokens with; set `jwt_secret`, `jwt_public_keys` or `jwks_url`")]
    NoKey,
    /// Not one of [`JwtAlgorithm::ALL`].
    #[error(
        "unknown algorithm; write HS256, RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384 or EdDSA"
    )]
    UnknownAlgorithm,
    /// An issuer would not be bound to one set of keys.
    #[error("the issuer `{0}` is named twice; say once whose keys are its own")]
    SameIssuer(String),
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
    /// RSA above 8192 bits.
    #[error("the RSA key is longer than 8192 bits; make one of 2048 to 4096")]
    LongRsa,
}

/// A key that checks tokens of one algorithm. A clone is the same key.
#[derive(Clone)]
pub struct VerifyingKey {
    inner: Arc<Inner>,
}

struct Inner {
    kid: Option<String>,
    algorithm: JwtAlgorithm,
    material: Material,
    fingerprint: KeyDigest,
}

enum Material {
    Secret(Box<hmac::Key>),
    Public(ParsedPublicKey),
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
        let material = Material::Secret(Box::new(hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes())));
        let fingerprint = KeyDigest::of(&format!("HS256|{secret}"));
        Ok(Self::with(None, JwtAlgorithm::HS256, material, fingerprint))
    }

    /// A public key in PEM form.
    ///
    /// # Errors
    /// The text is no public key of that algorithm's family, is a private key, or too short.
    pub fn public(algorithm: JwtAlgorithm, kid: Option<String>, pem: &str) -> Result<Self, JwtKeyError> {
        if pem.contains("PRIVATE KEY-----") {
            return Err(JwtKeyError::PrivateKey);
        }
        let key = match algorithm.family() {
            KeyFamily::Secret => return Err(JwtKeyError::SymmetricPublicKey),
            KeyFamily::Rsa => DecodingKey::from_rsa_pem(pem.as_bytes()),
            KeyFamily::P256 | KeyFamily::P384 => DecodingKey::from_ec_pem(pem.as_bytes()),
            KeyFamily::Ed25519 => DecodingKey::from_ed_pem(pem.as_bytes()),
        };
        let refused = || JwtKeyError::NotAPublicKey(algorithm);
        let key = key.map_err(|_| refused())?;
        let bytes = key.try_get_as_bytes().map_err(|_| refused())?;
        match algorithm.family() {
            KeyFamily::Rsa => {
                check_rsa_bits(pkcs1_modulus(bytes).ok_or_else(refused)?)?;
                Self::of_bytes(algorithm, kid, bytes)
            }
            _ => Self::point(algorithm, kid, bytes),
        }
    }

    /// A point of the algorithm's curve: 0x04 and both coordinates of an elliptic curve, or an Ed25519 key.
    pub(super) fn point(
        algorithm: JwtAlgorithm,
        kid: Option<String>,
        point: &[u8],
    ) -> Result<Self, JwtKeyError> {
        // Other lengths are other encodings, compressed or with a name of the curve: nobody publishes those here.
        let (length, first) = match algorithm.family() {
            KeyFamily::P256 => (65, Some(4)),
            KeyFamily::P384 => (97, Some(4)),
            KeyFamily::Ed25519 => (32, None),
            KeyFamily::Secret | KeyFamily::Rsa => return Err(JwtKeyError::NotAPublicKey(algorithm)),
        };
        if point.len() != length || first.is_some_and(|first| point[0] != first) {
            return Err(JwtKeyError::NotAPublicKey(algorithm));
        }
        Self::of_bytes(algorithm, kid, point)
    }

    /// An RSA key by its modulus and exponent, big-endian.
    pub(super) fn rsa(
        algorithm: JwtAlgorithm,
        kid: Option<String>,
        modulus: &[u8],
        exponent: &[u8],
    ) -> Result<Self, JwtKeyError> {
        let refused = || JwtKeyError::NotAPublicKey(algorithm);
        let (n, e) = (without_zeros(modulus), without_zeros(exponent));
        check_rsa_bits(n)?;
        // RFC 8017 section 3.1: odd, and at least 3. Longer than 32 bits is nothing but slow.
        if e.len() > 4 || e == [1] || e.last().is_none_or(|last| last % 2 == 0) {
            return Err(refused());
        }
        let key = RsaPublicKeyComponents { n, e }
            .to_parsed_public_key(algorithm.rsa().ok_or_else(refused)?)
            .map_err(|_| refused())?;
        let fingerprint = KeyDigest::of(&format!("{algorithm}|{}|{}", hex::encode(n), hex::encode(e)));
        Ok(Self::with(kid, algorithm, Material::Public(key), fingerprint))
    }

    /// Parses the key once: a point that is not on its curve and a modulus that can be none are refused here.
    fn of_bytes(algorithm: JwtAlgorithm, kid: Option<String>, bytes: &[u8]) -> Result<Self, JwtKeyError> {
        let refused = || JwtKeyError::NotAPublicKey(algorithm);
        let of = algorithm.verification().ok_or_else(refused)?;
        let key = ParsedPublicKey::new(of, bytes).map_err(|_| refused())?;
        let fingerprint = KeyDigest::of(&format!("{algorithm}|{}", hex::encode(bytes)));
        Ok(Self::with(kid, algorithm, Material::Public(key), fingerprint))
    }

    fn with(
        kid: Option<String>,
        algorithm: JwtAlgorithm,
        material: Material,
        fingerprint: KeyDigest,
    ) -> Self {
        VerifyingKey { inner: Arc::new(Inner { kid, algorithm, material, fingerprint }) }
    }

    /// The key's name, if it has one.
    pub fn kid(&self) -> Option<&str> {
        self.inner.kid.as_deref()
    }

    /// The one algorithm the key is for.
    pub fn algorithm(&self) -> JwtAlgorithm {
        self.inner.algorithm
    }

    pub(crate) fn fingerprint(&self) -> KeyDigest {
        self.inner.fingerprint
    }

    /// Whether `signature` is this key's over `message`.
    ///
    /// The primitives are called directly, not through the library's process-wide provider: that one panics when
    /// another crate of the program enables a second backend, and nothing can repair it afterwards.
    pub(super) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        match &self.inner.material {
            Material::Secret(key) => hmac::verify(key, message, signature).is_ok(),
            Material::Public(key) => key.verify_sig(message, signature).is_ok(),
        }
    }
}

impl fmt::Debug for VerifyingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VerifyingKey")
            .field("kid", &self.inner.kid)
            .field("algorithm", &self.inner.algorithm)
            .finish_non_exhaustive()
    }
}

fn check_rsa_bits(modulus: &[u8]) -> Result<(), JwtKeyError> {
    let zeros = modulus.first().map_or(0, |first| first.leading_zeros() as usize);
    match modulus.len() * 8 - zeros {
        bits if bits < *RSA_BITS.start() => Err(JwtKeyError::ShortRsa),
        bits if bits > *RSA_BITS.end() => Err(JwtKeyError::LongRsa),
        _ => Ok(()),
    }
}

fn without_zeros(number: &[u8]) -> &[u8] {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    &number[zeros..]
}

/// The modulus of `RSAPublicKey ::= SEQUENCE { modulus INTEGER, publicExponent INTEGER }` (RFC 8017 A.1.1), whose
/// length the parsed key does not tell.
fn pkcs1_modulus(der: &[u8]) -> Option<&[u8]> {
    let sequence = der_content(der, 0x30)?;
    der_content(sequence, 0x02).map(without_zeros)
}

fn der_content(der: &[u8], tag: u8) -> Option<&[u8]> {
    let (length, rest) = match der {
        [found, length @ 0..=0x7f, rest @ ..] if *found == tag => (usize::from(*length), rest),
        [found, 0x81, length, rest @ ..] if *found == tag => (usize::from(*length), rest),
        [found, 0x82, high, low, rest @ ..] if *found == tag => {
            (usize::from(u16::from_be_bytes([*high, *low])), rest)
        }
        _ => return None,
    };
    rest.get(..length)
}
