//! Tokens: the compact form as it arrives, and claims behind a good signature.

use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use jiff::Timestamp;
use taskiq_flow_security::jwt::{JwtVerifier, MAX_LEEWAY, Trust, VerifyingKey};

const SECRET: &str = "the secret that the corpus is signed with";

/// Of the corpus; and others, with which nothing of it is signed.
static KNOWN: LazyLock<JwtVerifier> = LazyLock::new(|| verifier(SECRET));
static OTHER: LazyLock<JwtVerifier> =
    LazyLock::new(|| verifier("another secret, of thirty-two bytes or more"));

/// The first byte chooses: a token as it is, or `header NUL claims` to be signed.
pub fn token(data: &[u8]) {
    let Some((mode, rest)) = data.split_first() else { return };
    let token = match (mode % 2, rest.iter().position(|byte| *byte == 0)) {
        (1, Some(at)) => signed(&rest[..at], &rest[at + 1..]),
        _ => String::from_utf8_lossy(rest).into_owned(),
    };
    let now: Timestamp = "2026-11-24T12:00:00Z".parse().unwrap();
    let Ok(principal) = KNOWN.verify(&token, now) else { return };
    assert!(OTHER.verify(&token, now).is_err(), "a token is good under two secrets");
    assert!(!principal.id().is_empty() && !principal.id().chars().any(char::is_control), "{principal:?}");
    assert!(principal.roles().iter().all(|role| !role.is_empty()), "{principal:?}");
    let expires = principal.expires_at().expect("every token ends");
    assert!(expires > now && expires > now.checked_sub(MAX_LEEWAY).unwrap(), "{principal:?}");
}

fn verifier(secret: &str) -> JwtVerifier {
    let key = VerifyingKey::hs256(&secret.to_owned().into()).unwrap();
    JwtVerifier::new(vec![Trust::new(vec![key]).unwrap()]).unwrap()
}

fn signed(header: &[u8], claims: &[u8]) -> String {
    let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
    let mut mac = Hmac::<sha2::Sha256>::new_from_slice(SECRET.as_bytes()).unwrap();
    mac.update(signed.as_bytes());
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes()))
}
