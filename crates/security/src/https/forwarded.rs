//! Reading the forwarding headers: what they say, or that they say nothing readable.

use std::net::{IpAddr, SocketAddr};

use http::{HeaderMap, HeaderName};

/// The element of a forwarding list that names an address, `None` where it names none that can be read.
pub(super) type Hop = Option<IpAddr>;

/// One thing a header may say about the nearest hop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Proto {
    /// No header speaks about it.
    Unsaid,
    /// It came by HTTPS (or WSS).
    Secure,
    /// It came by something else, or the header cannot be read.
    Insecure,
}

impl Proto {
    /// Every header that speaks must say the same: one of them may have passed a proxy untouched.
    pub(super) fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Unsaid, said) | (said, Self::Unsaid) => said,
            (Self::Secure, Self::Secure) => Self::Secure,
            _ => Self::Insecure,
        }
    }
}

/// All elements of a comma-separated list header, its lines in order; an unreadable line is one empty element.
pub(super) fn elements<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Vec<&'a str> {
    let mut found = Vec::new();
    for line in headers.get_all(name) {
        match line.to_str() {
            Ok(text) => split_unquoted(text, ',', &mut found),
            Err(_) => found.push(""),
        }
    }
    found
}

/// The rightmost value of `X-Forwarded-Proto`.
pub(super) fn forwarded_proto(values: &[&str]) -> Proto {
    match values.last() {
        None => Proto::Unsaid,
        Some(scheme) => scheme_is_secure(scheme),
    }
}

/// What the rightmost element of `Forwarded` (RFC 7239) says: protocol and address, if it names them.
pub(super) fn forwarded_element(element: &str) -> (Proto, Option<Hop>) {
    let (mut proto, mut hop) = (Proto::Unsaid, None);
    let mut pairs = Vec::new();
    split_unquoted(element, ';', &mut pairs);
    for pair in pairs {
        let Some((name, value)) = pair.split_once('=') else {
            return (Proto::Insecure, Some(None));
        };
        let value = unquoted(value);
        match name.trim().to_ascii_lowercase().as_str() {
            // A parameter may stand once; twice is unreadable.
            "proto" if proto == Proto::Unsaid => proto = value.map_or(Proto::Insecure, scheme_is_secure),
            "for" if hop.is_none() => hop = Some(value.and_then(address)),
            "proto" | "for" => return (Proto::Insecure, Some(None)),
            _ => {}
        }
    }
    (proto, hop)
}

/// An address as forwarding headers write it: bare, with a port, or an IPv6 address in brackets.
pub(super) fn address(text: &str) -> Hop {
    let text = text.trim();
    let bare = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')).unwrap_or(text);
    let ip = match bare.parse::<IpAddr>() {
        Ok(ip) => ip,
        Err(_) => text.parse::<SocketAddr>().ok()?.ip(),
    };
    Some(ip.to_canonical())
}

/// `wss` is what some proxies say of a WebSocket that came by TLS.
fn scheme_is_secure(scheme: &str) -> Proto {
    let scheme = scheme.trim();
    match scheme.eq_ignore_ascii_case("https") || scheme.eq_ignore_ascii_case("wss") {
        true => Proto::Secure,
        false => Proto::Insecure,
    }
}

fn unquoted(value: &str) -> Option<&str> {
    let value = value.trim();
    match value.strip_prefix('"') {
        // Neither an address nor a scheme needs an escape.
        Some(rest) => rest.strip_suffix('"').filter(|inner| !inner.contains(['"', '\\'])),
        None => (!value.contains('"')).then_some(value),
    }
}

fn split_unquoted<'a>(text: &'a str, separator: char, into: &mut Vec<&'a str>) {
    if !text.bytes().any(|byte| byte == b'"' || char::from(byte) == separator) {
        // One element, as nearly always.
        return into.push(text.trim());
    }
    let (mut start, mut quoted, mut escaped) = (0, false, false);
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            c if c == separator && !quoted => {
                into.push(text[start..at].trim());
                start = at + separator.len_utf8();
            }
            _ => {}
        }
    }
    into.push(text[start..].trim());
}
