//! What an issuer of tokens publishes, and where it is said to be.

use taskiq_flow_security::fuzzing::{address, key_set};
use taskiq_flow_security::jwt::JwtAlgorithm;
use taskiq_flow_security::jwt::jwks::MAX_KEYS;

pub fn issuer(data: &[u8]) {
    if let Some(keys) = key_set(data) {
        assert!(keys.len() <= MAX_KEYS);
        for key in keys {
            assert_ne!(key.algorithm(), JwtAlgorithm::HS256, "a published secret is none");
        }
    }
    if let Some(url) = std::str::from_utf8(data).ok().and_then(address) {
        let here = ["http://127.", "http://localhost", "http://[::1]"];
        assert!(url.starts_with("https://") || here.iter().any(|here| url.starts_with(here)), "{url}");
        let host = url.split('/').nth(2).unwrap_or_default();
        assert!(!host.contains('@') && host != "169.254.169.254" && host != "[::ffff:a9fe:a9fe]", "{url}");
    }
}
