//! Asking an issuer for its keys.

use std::time::Duration;

use http::StatusCode;
use http::header::{ACCEPT, CACHE_CONTROL, HeaderMap};
use taskiq_flow_outbound::{Reach, Url, causes};

use super::document::{JwksError, KeySet, read};
use crate::jwt::key::JwtAlgorithm;

/// How long an answer may take in all.
pub const FETCH_TIMEOUT: Duration = Duration::from_secs(5);

/// The longest answer read, in bytes.
pub const MAX_BYTES: usize = 256 * 1024;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// An answer.
#[derive(Debug)]
pub(super) struct Fetched {
    pub(super) set: KeySet,
    /// For how long the issuer says that it holds; none: it does not say.
    pub(super) fresh_for: Option<Duration>,
}

/// Why there is no answer. No variant holds the address: its query may be secret.
#[derive(Debug, thiserror::Error)]
pub(super) enum FetchError {
    #[error("no client: {0}")]
    Client(String),
    #[error("{0}")]
    Transport(String),
    #[error("it answered {0}; redirects are not followed, write the address it leads to")]
    Redirect(StatusCode),
    #[error("it answered {0}")]
    Status(StatusCode),
    #[error("its answer is longer than {MAX_BYTES} bytes")]
    TooLong,
    #[error(transparent)]
    Document(#[from] JwksError),
}

pub(super) fn client(reach: Reach) -> Result<reqwest::Client, FetchError> {
    let builder = taskiq_flow_outbound::client(reach).connect_timeout(CONNECT_TIMEOUT).timeout(FETCH_TIMEOUT);
    builder.build().map_err(|error| FetchError::Client(causes(&error)))
}

pub(super) async fn fetch(
    client: &reqwest::Client,
    url: &Url,
    accepted: &[JwtAlgorithm],
) -> Result<Fetched, FetchError> {
    let failed = |error: reqwest::Error| FetchError::Transport(causes(&error));
    let request = client.get(url.clone()).header(ACCEPT, "application/jwk-set+json, application/json");
    let mut response = request.send().await.map_err(failed)?;
    match response.status() {
        StatusCode::OK => {}
        status if status.is_redirection() => return Err(FetchError::Redirect(status)),
        status => return Err(FetchError::Status(status)),
    }
    let fresh_for = fresh_for(response.headers());
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(failed)? {
        if bytes.len() + chunk.len() > MAX_BYTES {
            return Err(FetchError::TooLong);
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(Fetched { set: read(&bytes, accepted)?, fresh_for })
}

/// `max-age` (RFC 9111 section 5.2.2.1); nothing, where the answer is not to be kept.
fn fresh_for(headers: &HeaderMap) -> Option<Duration> {
    let mut found = None;
    for value in headers.get_all(CACHE_CONTROL) {
        for directive in value.to_str().ok()?.split(',') {
            let directive = directive.trim().to_ascii_lowercase();
            if directive == "no-store" || directive == "no-cache" {
                return Some(Duration::ZERO);
            }
            if let Some(seconds) = directive.strip_prefix("max-age=") {
                found = seconds.trim_matches('"').parse().ok().map(Duration::from_secs);
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn freshness_is_read_from_cache_control() {
        for (lines, seconds) in [
            (&[][..], None),
            (&["max-age=300"], Some(300)),
            (&["public, Max-Age=300, must-revalidate"], Some(300)),
            (&["public", "max-age=7"], Some(7)),
            (&["max-age=300, no-store"], Some(0)),
            (&["no-cache"], Some(0)),
            (&["max-age=-1"], None),
            (&["max-age=99999999999999999999999"], None),
            (&["s-maxage=5"], None),
        ] {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append(CACHE_CONTROL, line.parse().unwrap());
            }
            assert_eq!(fresh_for(&headers), seconds.map(Duration::from_secs), "{lines:?}");
        }
    }
}
