//! Tokens made by hand, so that a bad one can be made as easily as a good one.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::Sha256;

/// A token (RFC 7519) with these claims, signed with HS256.
///
/// # Panics
/// Never: HMAC takes a key of any length.
pub fn hs256(secret: &str, claims: &Value) -> String {
    signed(secret, &json!({ "alg": "HS256", "typ": "JWT" }), claims)
}

/// A token with this header, signed with HMAC-SHA256 whatever the header says.
///
/// # Panics
/// Never: HMAC takes a key of any length.
pub fn signed(secret: &str, header: &Value, claims: &Value) -> String {
    signed_text(secret, &header.to_string(), &claims.to_string())
}

/// A token of these two texts, JSON or not, signed with HMAC-SHA256.
///
/// # Panics
/// Never: HMAC takes a key of any length.
pub fn signed_text(secret: &str, header: &str, claims: &str) -> String {
    let text = format!("{}.{}", encode(header), encode(claims));
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret.as_bytes()) else {
        panic!("HMAC takes a key of any length");
    };
    mac.update(text.as_bytes());
    format!("{text}.{}", encode(mac.finalize().into_bytes()))
}

/// A token with this header and no signature.
pub fn unsigned(header: &Value, claims: &Value) -> String {
    format!("{}.{}.", encode(header.to_string()), encode(claims.to_string()))
}

/// Seconds since 1970, as claims count, this long from now.
pub fn from_now(time: Duration) -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs() + time.as_secs()
}

fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// jwt.io's example has been checked by everybody else.
    #[test]
    fn signs_as_others_do() {
        let claims: Value =
            serde_json::from_str(r#"{"sub":"1234567890","name":"John Doe","iat":1516239022}"#).unwrap();
        let token = hs256("your-256-bit-secret", &claims);
        assert!(token.ends_with(".SflKxwRJSMeKKF2QT4fwpMeJf36POk6yJV_adQssw5c"), "{token}");
    }
}
