//! What a request must keep to beyond what the parser asks, so that nobody on its way can read it differently.

use http::header::{HOST, TRANSFER_ENCODING};
use http::uri::Authority;
use http::{HeaderValue, Request, Version};

/// What the transport found about a request; in its extensions. Requests that came by other means have none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Framing {
    /// Why it is refused (400), if it is.
    pub(crate) fault: Option<Fault>,
    /// Whether its connection ends with its answer.
    pub(crate) last: bool,
    /// Whether it came without TLS where TLS is spoken.
    pub(crate) plain_on_tls: bool,
}

/// Why a request is refused before anybody looks at what it asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Fault {
    /// See [`Heads`](super::head::Heads).
    #[error("A line of the head ends in a line feed alone; end lines in CR LF.")]
    BareLineFeed,
    /// The library drops it, and others take it for a part of the path: a rule of theirs about paths would be evaded.
    #[error("The target holds a `#`; a fragment stays with the client.")]
    Fragment,
    /// Which of the two says where the body ends?
    #[error("There is a Content-Length beside Transfer-Encoding; send one of them.")]
    LengthAndCoding,
    /// Twice the same is refused too: somebody before us may have joined or dropped one.
    #[error("There is more than one Content-Length; send one.")]
    LengthTwice,
    /// Anything but `chunked` once.
    #[error("This Transfer-Encoding is not understood; send `chunked`, once.")]
    Coding,
    /// HTTP/1.1 without `Host`.
    #[error("There is no Host header.")]
    NoHost,
    /// More than one `Host`, or one that cannot be read.
    #[error("The Host header must be there once and hold a host and perhaps a port.")]
    Host,
    /// `Host` says something else than the target or `:authority`.
    #[error("The Host header and the request's target name different hosts.")]
    HostsDiffer,
    /// Something came after a request that was the last of its connection.
    #[error("The connection ends with the request before this one.")]
    AfterLast,
}

/// Judges a request by its headers, and gives one that names its host as HTTP/2 does a `Host` header as well: those who
/// compare hosts then find it in one place.
pub(super) fn examine<B>(request: &mut Request<B>) -> Option<Fault> {
    let headers = request.headers();
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    if let Some(coding) = codings.next()
        && (codings.next().is_some() || !coding.as_bytes().eq_ignore_ascii_case(b"chunked"))
    {
        return Some(Fault::Coding);
    }
    let mut hosts = headers.get_all(HOST).iter();
    let (host, second) = (hosts.next(), hosts.next());
    if second.is_some() {
        return Some(Fault::Host);
    }
    let target = request.uri().authority();
    let Some(host) = host else {
        return match (request.version(), target) {
            (Version::HTTP_2, Some(target)) => match HeaderValue::from_str(target.as_str()) {
                Ok(host) if !target.as_str().contains('@') => {
                    request.headers_mut().insert(HOST, host);
                    None
                }
                _ => Some(Fault::Host),
            },
            (Version::HTTP_10, None) => None,
            _ => Some(Fault::NoHost),
        };
    };
    let readable = host.to_str().ok().filter(|host| !host.contains('@') && host.parse::<Authority>().is_ok());
    match (readable, target) {
        (None, _) => Some(Fault::Host),
        (Some(host), Some(target)) if !host.eq_ignore_ascii_case(target.as_str()) => Some(Fault::HostsDiffer),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_and_codings_are_said_once_and_alike() {
        const HTTP_2: Version = Version::HTTP_2;
        const HTTP_11: Version = Version::HTTP_11;
        const HTTP_10: Version = Version::HTTP_10;
        for (version, target, lines, fault) in [
            (HTTP_11, "/", &[("host", "x")][..], None),
            (HTTP_11, "/", &[("host", "x:8000")], None),
            (HTTP_11, "/", &[("host", "[::1]:8000")], None),
            (HTTP_11, "/", &[], Some(Fault::NoHost)),
            (HTTP_10, "/", &[], None),
            (HTTP_11, "/", &[("host", "x"), ("host", "x")], Some(Fault::Host)),
            (HTTP_11, "/", &[("host", "")], Some(Fault::Host)),
            (HTTP_11, "/", &[("host", "a b")], Some(Fault::Host)),
            (HTTP_11, "/", &[("host", "x/y")], Some(Fault::Host)),
            (HTTP_11, "/", &[("host", "user@x")], Some(Fault::Host)),
            (HTTP_11, "http://x/", &[("host", "X")], None),
            (HTTP_11, "http://x/", &[("host", "y")], Some(Fault::HostsDiffer)),
            (HTTP_11, "http://x/", &[], Some(Fault::NoHost)),
            (HTTP_2, "https://x/", &[], None),
            (HTTP_2, "https://x/", &[("host", "x")], None),
            (HTTP_2, "https://x/", &[("host", "y")], Some(Fault::HostsDiffer)),
            (HTTP_2, "https://u@x/", &[], Some(Fault::Host)),
            (HTTP_2, "/", &[], Some(Fault::NoHost)),
            (HTTP_11, "/", &[("host", "x"), ("transfer-encoding", "Chunked")], None),
            (HTTP_11, "/", &[("host", "x"), ("transfer-encoding", "gzip, chunked")], Some(Fault::Coding)),
            (HTTP_11, "/", &[("host", "x"), ("transfer-encoding", "chunked, chunked")], Some(Fault::Coding)),
            (
                HTTP_11,
                "/",
                &[("host", "x"), ("transfer-encoding", "chunked"), ("transfer-encoding", "chunked")],
                Some(Fault::Coding),
            ),
        ] {
            let mut request = Request::builder().version(version).uri(target);
            for (name, value) in lines {
                request = request.header(*name, *value);
            }
            let mut request = request.body(()).unwrap();
            assert_eq!(examine(&mut request), fault, "{version:?} {target} {lines:?}");
            if version == HTTP_2 && fault.is_none() {
                assert_eq!(request.headers()[HOST], "x");
            }
        }
    }
}
