//! Keys that an issuer publishes (JSON Web Key Set, RFC 7517 section 5), fetched and kept fresh.
//!
//! - The address comes from the configuration, never from a token. It is `https://`; plain `http://` only for this
//!   machine itself. Names that resolve to this machine, to private networks or to a cloud's metadata are not reached
//!   ([`taskiq_flow_outbound::Reach`]), unless `allow_private_jwks` lets private networks in.
//! - No redirect is followed. An answer may take [`FETCH_TIMEOUT`] and have [`MAX_BYTES`].
//! - A published key is bound to one algorithm: its `alg`, or the only one its type can mean. One whose `use` or
//!   `key_ops` is not for checking signatures is left out, so are symmetric and private keys, keys whose `kid` stands
//!   twice, and all beyond [`MAX_KEYS`].
//! - Keys are fetched anew every `jwks_refresh_seconds`, or sooner when the issuer's `Cache-Control` says so (at the
//!   soonest after [`SOONEST_REFRESH`]). A token with an unknown `kid` has them fetched at once, at most every
//!   [`MIN_INTERVAL`] and one request at a time, however many tokens ask. What the issuer then does not have is
//!   remembered for [`UNKNOWN_FOR`].
//! - What an answer no longer has is no longer trusted, and the sockets it let in are closed.
//! - While the issuer does not answer, the last keys stay, for `jwks_max_age_seconds`; then no token passes.

mod document;
mod fetch;
mod source;
#[cfg(test)]
mod tests;
mod url;

pub use self::document::{JwksError, MAX_KEYS};
pub use self::fetch::{FETCH_TIMEOUT, MAX_BYTES};
pub use self::source::{MIN_INTERVAL, SOONEST_REFRESH, UNKNOWN_FOR};
pub use self::url::{JwksUrl, JwksUrlError};

pub(crate) use self::source::{KeySource, PATIENCE, SourceOptions};

/// See [`crate::fuzzing`].
#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing {
    use super::JwksUrl;
    use super::document::read;
    use crate::jwt::{JwtAlgorithm, VerifyingKey};

    /// The keys of a set.
    pub fn key_set(bytes: &[u8]) -> Option<Vec<VerifyingKey>> {
        read(bytes, &JwtAlgorithm::ALL).ok().map(|set| set.keys)
    }

    /// The address of keys that may be fetched without leave to reach private networks, once it is parsed.
    pub fn address(text: &str) -> Option<String> {
        let url = JwksUrl::from(text);
        url.check(false).ok().map(|(url, _)| url.to_string())
    }
}
