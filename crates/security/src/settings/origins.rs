//! Which web pages may talk to the server: the same-origin rule and the allow-list beside it.

use std::fmt;

use http::Uri;

/// Origins besides the server's own whose pages are welcome.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AllowedOrigins(Vec<Origin>);

/// Scheme, host and port (RFC 6454): what two pages share when they trust each other.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Origin {
    secure: bool,
    host: String,
    port: u16,
}

/// Why an entry of `allowed_origins` is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OriginError {
    /// `*` would let every page in the world use what a browser can reach.
    #[error("`*` would allow every web page; list the origins, such as \"https://ops.example.com\"")]
    Star,
    /// Not scheme, host and port alone.
    #[error(
        "an origin is scheme, host and port only, such as \"https://ops.example.com\" or \"http://localhost:5173\""
    )]
    Malformed,
}

impl AllowedOrigins {
    /// Reads the configured list.
    ///
    /// # Errors
    /// The position of the first entry that is no origin, and why.
    pub fn parse<S: AsRef<str>>(entries: &[S]) -> Result<Self, (usize, OriginError)> {
        let parse = |(at, entry): (usize, &S)| match entry.as_ref() {
            "*" => Err((at, OriginError::Star)),
            text => Origin::parse(text).ok_or((at, OriginError::Malformed)),
        };
        entries.iter().enumerate().map(parse).collect::<Result<_, _>>().map(AllowedOrigins)
    }

    /// Whether `origin` (the header's value) is on the list. `null` never is.
    pub fn lists(&self, origin: &str) -> bool {
        Origin::parse(origin).is_some_and(|origin| self.0.contains(&origin))
    }

    /// Whether a page of `origin` may open a socket to us: it is our own, or on the list. `host` is the request's
    /// `Host`, `secure` whether the client reached us by TLS.
    pub fn allows(&self, origin: &str, host: Option<&str>, secure: bool) -> bool {
        let Some(origin) = Origin::parse(origin) else { return false };
        let own = host.and_then(|host| Origin::from_parts(secure, host));
        own.is_some_and(|own| own == origin) || self.0.contains(&origin)
    }

    /// The entries, as a browser would write them.
    pub fn iter(&self) -> impl Iterator<Item = String> {
        self.0.iter().map(ToString::to_string)
    }
}

impl Origin {
    fn parse(text: &str) -> Option<Self> {
        let (scheme, rest) = text.split_once("://")?;
        let secure = match scheme.to_ascii_lowercase().as_str() {
            "https" => true,
            "http" => false,
            _ => return None,
        };
        Self::from_parts(secure, rest)
    }

    fn from_parts(secure: bool, authority: &str) -> Option<Self> {
        if authority.contains(['@', '/', '?', '#']) {
            return None;
        }
        // An authority alone is a valid request target, so the library checks brackets, characters and port.
        let uri: Uri = authority.parse().ok()?;
        let authority = uri.authority()?;
        // Read from the text: the library takes a port out of range for none at all, and it must not pass as the default.
        let port = match authority.as_str().strip_prefix(authority.host())? {
            "" if secure => 443,
            "" => 80,
            port => port.strip_prefix(':')?.parse().ok()?,
        };
        let host = authority.host().trim_end_matches('.').to_ascii_lowercase();
        (!host.is_empty() && !host.contains('*')).then_some(Origin { secure, host, port })
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, default) = if self.secure { ("https", 443) } else { ("http", 80) };
        write!(f, "{scheme}://{}", self.host)?;
        if self.port != default {
            write!(f, ":{}", self.port)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn same_origin_compares_scheme_host_and_port() {
        let none = AllowedOrigins::default();
        for (origin, host, secure, allowed) in [
            ("https://flow.example.com", "flow.example.com", true, true),
            ("https://FLOW.example.com", "flow.example.com", true, true),
            ("https://flow.example.com:443", "flow.example.com", true, true),
            ("https://flow.example.com", "flow.example.com:443", true, true),
            ("http://127.0.0.1:8000", "127.0.0.1:8000", false, true),
            ("http://[::1]:8000", "[::1]:8000", false, true),
            ("http://flow.example.com", "flow.example.com", true, false),
            ("https://flow.example.com", "flow.example.com", false, false),
            ("https://flow.example.com:8443", "flow.example.com", true, false),
            ("http://127.0.0.1:8001", "127.0.0.1:8000", false, false),
            ("https://evil.example", "flow.example.com", true, false),
            ("https://flow.example.com.evil.example", "flow.example.com", true, false),
            ("https://evil.example@flow.example.com", "flow.example.com", true, false),
            ("https://flow.example.com@evil.example", "flow.example.com", true, false),
            ("https://flow.example.com/", "flow.example.com", true, false),
            ("https://flow.example.com:", "flow.example.com", true, false),
            ("https://flow.example.com:99999", "flow.example.com", true, false),
            ("null", "flow.example.com", true, false),
            ("", "flow.example.com", true, false),
            ("https://", "flow.example.com", true, false),
            ("ws://flow.example.com", "flow.example.com", false, false),
            ("file://flow.example.com", "flow.example.com", false, false),
        ] {
            assert_eq!(
                none.allows(origin, Some(host), secure),
                allowed,
                "{origin} at {host}, secure {secure}"
            );
        }
        assert!(!none.allows("https://flow.example.com", None, true));
    }

    #[test]
    fn the_list_allows_what_it_names_and_nothing_near_it() {
        let list = AllowedOrigins::parse(&["https://ops.example.com", "http://localhost:5173"]).unwrap();
        for (origin, listed) in [
            ("https://ops.example.com", true),
            ("https://ops.example.com:443", true),
            ("http://localhost:5173", true),
            ("http://ops.example.com", false),
            ("https://a.ops.example.com", false),
            ("http://localhost", false),
            ("null", false),
        ] {
            assert_eq!(list.lists(origin), listed, "{origin}");
            assert_eq!(list.allows(origin, Some("flow.example.com"), true), listed, "{origin}");
        }
        assert_eq!(list.iter().collect::<Vec<_>>(), ["https://ops.example.com", "http://localhost:5173"]);
    }

    #[test]
    fn an_entry_that_is_no_origin_is_refused_with_its_place() {
        for (entry, error) in [
            ("*", OriginError::Star),
            ("ops.example.com", OriginError::Malformed),
            ("https://*.example.com", OriginError::Malformed),
            ("https://ops.example.com/path", OriginError::Malformed),
            ("null", OriginError::Malformed),
        ] {
            assert_eq!(AllowedOrigins::parse(&["http://a.b", entry]), Err((1, error)), "{entry}");
        }
    }
}
