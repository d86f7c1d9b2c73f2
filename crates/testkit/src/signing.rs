//! Keys of issuers, and what they sign.

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeySize};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair,
    RSA_PKCS1_SHA256, RSA_PKCS1_SHA384, RSA_PKCS1_SHA512, RSA_PSS_SHA256, RSA_PSS_SHA384, RSA_PSS_SHA512,
    RsaEncoding,
};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};

/// The key of an issuer, made for one algorithm.
#[derive(Debug)]
pub struct SigningKey {
    algorithm: String,
    kid: String,
    pair: Pair,
}

#[derive(Debug)]
enum Pair {
    Rsa(RsaKeyPair, &'static dyn RsaEncoding),
    Ec(EcdsaKeyPair, &'static str),
    Ed(Ed25519KeyPair),
}

impl SigningKey {
    /// A new key for one of the algorithms of RFC 7518, `EdDSA` or `Ed25519`, that is called `kid`.
    ///
    /// # Panics
    /// For another algorithm.
    pub fn generate(algorithm: &str, kid: &str) -> Self {
        let rsa = |encoding| Pair::Rsa(made(RsaKeyPair::generate(KeySize::Rsa2048)), encoding);
        let pair = match algorithm {
            "RS256" => rsa(&RSA_PKCS1_SHA256),
            "RS384" => rsa(&RSA_PKCS1_SHA384),
            "RS512" => rsa(&RSA_PKCS1_SHA512),
            "PS256" => rsa(&RSA_PSS_SHA256),
            "PS384" => rsa(&RSA_PSS_SHA384),
            "PS512" => rsa(&RSA_PSS_SHA512),
            "ES256" => Pair::Ec(made(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING)), "P-256"),
            "ES384" => Pair::Ec(made(EcdsaKeyPair::generate(&ECDSA_P384_SHA384_FIXED_SIGNING)), "P-384"),
            "EdDSA" | "Ed25519" => Pair::Ed(made(Ed25519KeyPair::generate())),
            _ => panic!("there is no key for {algorithm}"),
        };
        Self { algorithm: algorithm.to_owned(), kid: kid.to_owned(), pair }
    }

    /// Its algorithm, as it was asked for.
    pub fn algorithm(&self) -> &str {
        &self.algorithm
    }

    /// The public key as an issuer publishes it (RFC 7517).
    pub fn jwk(&self) -> Value {
        let mut jwk = json!({ "kid": self.kid, "alg": self.algorithm, "use": "sig" });
        let members = match &self.pair {
            Pair::Rsa(pair, _) => {
                let (modulus, exponent) = rsa_numbers(pair.public_key().as_ref());
                json!({ "kty": "RSA", "n": encode(modulus), "e": encode(exponent) })
            }
            Pair::Ec(pair, curve) => {
                let point = &pair.public_key().as_ref()[1..];
                let (x, y) = point.split_at(point.len() / 2);
                json!({ "kty": "EC", "crv": curve, "x": encode(x), "y": encode(y) })
            }
            Pair::Ed(pair) => json!({ "kty": "OKP", "crv": "Ed25519", "x": encode(pair.public_key()) }),
        };
        if let (Value::Object(jwk), Value::Object(members)) = (&mut jwk, members) {
            jwk.extend(members);
        }
        jwk
    }

    /// The public key, PEM.
    pub fn public_pem(&self) -> String {
        let der: PublicKeyX509Der<'_> = match &self.pair {
            Pair::Rsa(pair, _) => made(AsDer::as_der(pair.public_key())),
            Pair::Ec(pair, _) => made(AsDer::as_der(pair.public_key())),
            Pair::Ed(pair) => made(AsDer::as_der(pair.public_key())),
        };
        pem("PUBLIC KEY", der.as_ref())
    }

    /// The private key, PEM (PKCS #8).
    pub fn private_pem(&self) -> String {
        let der: Pkcs8V1Der<'_> = match &self.pair {
            Pair::Rsa(pair, _) => made(AsDer::as_der(pair)),
            Pair::Ec(pair, _) => return pem("PRIVATE KEY", made(pair.to_pkcs8v1()).as_ref()),
            Pair::Ed(pair) => return pem("PRIVATE KEY", made(pair.to_pkcs8v1()).as_ref()),
        };
        pem("PRIVATE KEY", der.as_ref())
    }

    /// A token with these claims whose header names this key.
    pub fn token(&self, claims: &Value) -> String {
        self.signed(&json!({ "alg": self.algorithm, "typ": "JWT", "kid": self.kid }).to_string(), claims)
    }

    /// A token with this header, signed by this key whatever the header says.
    pub fn signed(&self, header: &str, claims: &Value) -> String {
        let message = format!("{}.{}", encode(header), encode(claims.to_string()));
        format!("{message}.{}", encode(self.signature(message.as_bytes())))
    }

    fn signature(&self, message: &[u8]) -> Vec<u8> {
        match &self.pair {
            Pair::Rsa(pair, encoding) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                made(pair.sign(*encoding, &SystemRandom::new(), message, &mut signature));
                signature
            }
            Pair::Ec(pair, _) => made(pair.sign(&SystemRandom::new(), message)).as_ref().to_vec(),
            Pair::Ed(pair) => pair.sign(message).as_ref().to_vec(),
        }
    }
}

/// PEM of some DER.
pub fn pem(label: &str, der: &[u8]) -> String {
    let mut text = format!("-----BEGIN {label}-----\n");
    for (at, letter) in STANDARD.encode(der).chars().enumerate() {
        if at > 0 && at % 64 == 0 {
            text.push('\n');
        }
        text.push(letter);
    }
    text.push_str(&format!("\n-----END {label}-----\n"));
    text
}

/// Modulus and exponent of an `RSAPublicKey`, all of whose lengths are those of a key of 2048 bits.
fn rsa_numbers(der: &[u8]) -> (&[u8], &[u8]) {
    // SEQUENCE, INTEGER of 257 bytes of which the first is zero, INTEGER 65537.
    let (modulus, exponent) = (&der[9..9 + 256], &der[der.len() - 3..]);
    assert_eq!((&der[4..9], exponent), (&[2, 0x82, 1, 1, 0][..], &[1, 0, 1][..]), "an RSA key of 2048 bits");
    (modulus, exponent)
}

fn made<T, E: std::fmt::Debug>(result: Result<T, E>) -> T {
    result.unwrap_or_else(|error| panic!("a key cannot be used: {error:?}"))
}

fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}
