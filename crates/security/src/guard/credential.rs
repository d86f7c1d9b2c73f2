//! What a request presents as proof of who is asking.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::HeaderMap;
use http::header::{AUTHORIZATION, HeaderName, HeaderValue};

use crate::refusal::{Refusal, RefusalKind};
use crate::settings::{AuthProvider, Settings};

/// The header of API keys.
pub const API_KEY_HEADER: HeaderName = HeaderName::from_static("x-api-key");

/// One presented credential. Its `Debug` does not show it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Presented<'a> {
    ApiKey(&'a str),
    Token(&'a str),
    /// Something no key or token can be; refused like an unknown one.
    UnreadableKey,
    UnreadableToken,
}

impl Presented<'_> {
    pub(super) fn method(&self) -> &'static str {
        match self {
            Presented::ApiKey(_) | Presented::UnreadableKey => "api_key",
            Presented::Token(_) | Presented::UnreadableToken => "jwt",
        }
    }
}

/// The credential of a request, `None` when it has none that the settings accept.
///
/// # Errors
/// More than one credential: whichever were taken, some intermediary might have checked the other.
pub(super) fn presented<'a>(
    headers: &'a HeaderMap,
    settings: &Settings,
) -> Result<Option<Presented<'a>>, Refusal> {
    let key = single(headers, &API_KEY_HEADER)?;
    let authorization = single(headers, &AUTHORIZATION)?;
    match (key, authorization) {
        (Some(_), Some(_)) => Err(ambiguous("X-API-Key and Authorization in one request")),
        (Some(key), None) if settings.provider == AuthProvider::ApiKey => Ok(match key.to_str() {
            Ok("") => None,
            Ok(key) => Some(Presented::ApiKey(key)),
            Err(_) => Some(Presented::UnreadableKey),
        }),
        (None, Some(authorization)) if settings.tokens.is_some() => Ok(bearer(authorization)),
        _ => Ok(None),
    }
}

/// Whether there is a header that holds credentials, be they accepted here or not.
pub(super) fn has_header(headers: &HeaderMap) -> bool {
    headers.contains_key(API_KEY_HEADER) || headers.contains_key(AUTHORIZATION)
}

/// The credential of a WebSocket `connect` message: a key or a token, told apart by shape.
pub(super) fn in_message<'a>(text: &'a str, settings: &Settings) -> Option<Presented<'a>> {
    let text = text.trim();
    let (first, rest) = text.split_once(' ').unwrap_or((text, ""));
    let text = if first.eq_ignore_ascii_case("bearer") { rest.trim_start() } else { text };
    if text.is_empty() {
        return None;
    }
    match settings.provider {
        AuthProvider::Jwt => Some(Presented::Token(text)),
        AuthProvider::ApiKey if settings.tokens.is_some() && looks_like_token(text) => {
            Some(Presented::Token(text))
        }
        AuthProvider::ApiKey => Some(Presented::ApiKey(text)),
    }
}

/// What a 401 says would be accepted.
pub(super) fn challenge(settings: &Settings) -> &'static str {
    match (settings.provider, settings.tokens.is_some()) {
        (AuthProvider::ApiKey, false) => r#"ApiKey realm="taskiq-flow", header="X-API-Key""#,
        (AuthProvider::ApiKey, true) => {
            r#"ApiKey realm="taskiq-flow", header="X-API-Key", Bearer realm="taskiq-flow""#
        }
        (AuthProvider::Jwt, _) => r#"Bearer realm="taskiq-flow""#,
    }
}

/// What a 401 for a bad token says (RFC 6750 section 3).
pub(super) const INVALID_TOKEN_CHALLENGE: &str = r#"Bearer realm="taskiq-flow", error="invalid_token""#;

fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a HeaderValue>, Refusal> {
    let mut values = headers.get_all(name).iter();
    let first = values.next();
    if values.next().is_some() {
        return Err(ambiguous("a credential header twice"));
    }
    Ok(first)
}

fn ambiguous(reason: &'static str) -> Refusal {
    Refusal::new(RefusalKind::AmbiguousCredential, reason)
}

/// The token of `Bearer <token>`; another scheme is no credential we know.
fn bearer(value: &HeaderValue) -> Option<Presented<'_>> {
    let bytes = value.as_bytes();
    let scheme_end = bytes.iter().position(|byte| *byte == b' ').unwrap_or(bytes.len());
    if !bytes[..scheme_end].eq_ignore_ascii_case(b"bearer") {
        return None;
    }
    match value.to_str() {
        Ok(text) => match text[scheme_end..].trim() {
            "" => None,
            token => Some(Presented::Token(token)),
        },
        Err(_) => Some(Presented::UnreadableToken),
    }
}

/// Three dotted parts of which the first is base64url of a JSON object: no generated key has dots.
fn looks_like_token(text: &str) -> bool {
    let mut parts = text.split('.');
    let (Some(header), Some(_), Some(_), None) = (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return false;
    };
    URL_SAFE_NO_PAD.decode(header).is_ok_and(|json| json.starts_with(b"{"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::SecurityOptions;

    fn settings(provider: AuthProvider, secret: bool) -> Settings {
        let jwt_secret = secret.then(|| "a secret of at least thirty-two bytes".into());
        SecurityOptions { auth_provider: provider, jwt_secret, ..Default::default() }.build().unwrap()
    }

    fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in lines {
            map.append(*name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        map
    }

    #[test]
    fn which_headers_are_a_credential() {
        use AuthProvider::{ApiKey, Jwt};
        use Presented::{Token, UnreadableKey, UnreadableToken};
        const KEY: &str = "x-api-key";
        const AUTH: &str = "authorization";
        for (provider, secret, lines, expected) in [
            (ApiKey, true, &[][..], Ok(None)),
            (ApiKey, true, &[(KEY, "k")], Ok(Some(Presented::ApiKey("k")))),
            (ApiKey, false, &[(KEY, "k")], Ok(Some(Presented::ApiKey("k")))),
            (ApiKey, true, &[(KEY, "")], Ok(None)),
            (ApiKey, true, &[(KEY, "clé")], Ok(Some(UnreadableKey))),
            (ApiKey, true, &[(AUTH, "Bearer t")], Ok(Some(Token("t")))),
            (ApiKey, true, &[(AUTH, "bEARER   t")], Ok(Some(Token("t")))),
            (ApiKey, true, &[(AUTH, "Bearer a b")], Ok(Some(Token("a b")))),
            (ApiKey, true, &[(AUTH, "Bearer é")], Ok(Some(UnreadableToken))),
            (ApiKey, true, &[(AUTH, "Bearer")], Ok(None)),
            (ApiKey, true, &[(AUTH, "Bearer ")], Ok(None)),
            (ApiKey, true, &[(AUTH, "Bearert")], Ok(None)),
            (ApiKey, true, &[(AUTH, "Basic dTpw")], Ok(None)),
            (ApiKey, true, &[(AUTH, "t")], Ok(None)),
            (ApiKey, false, &[(AUTH, "Bearer t")], Ok(None)),
            (Jwt, true, &[(AUTH, "Bearer t")], Ok(Some(Token("t")))),
            (Jwt, true, &[(KEY, "k")], Ok(None)),
            (ApiKey, true, &[(KEY, "k"), (AUTH, "Bearer t")], Err(())),
            (ApiKey, false, &[(KEY, "k"), (AUTH, "Basic dTpw")], Err(())),
            (Jwt, true, &[(KEY, "k"), (AUTH, "Bearer t")], Err(())),
            (ApiKey, true, &[(KEY, "k"), (KEY, "k")], Err(())),
            (ApiKey, true, &[(AUTH, "Bearer t"), (AUTH, "Bearer t")], Err(())),
        ] {
            let headers = headers(lines);
            let found = presented(&headers, &settings(provider, secret));
            match expected {
                Ok(expected) => assert!(found.unwrap() == expected, "{provider:?} {lines:?}"),
                Err(()) => {
                    assert_eq!(found.err().unwrap().kind(), RefusalKind::AmbiguousCredential, "{lines:?}")
                }
            }
        }
    }

    #[test]
    fn a_message_is_a_token_by_its_shape() {
        let header = URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256"}"#);
        let token = format!("{header}.e30.c2ln");
        let both = settings(AuthProvider::ApiKey, true);
        assert!(in_message(&token, &both) == Some(Presented::Token(&token)));
        assert!(in_message(&format!(" Bearer {token} "), &both) == Some(Presented::Token(&token)));
        for key in ["k", "a.b.c", "tqf_abc", &format!("{token}.x")] {
            assert!(in_message(key, &both) == Some(Presented::ApiKey(key)), "{key}");
        }
        assert!(in_message("", &both).is_none() && in_message("Bearer ", &both).is_none());
        assert!(
            in_message(&token, &settings(AuthProvider::ApiKey, false)) == Some(Presented::ApiKey(&token))
        );
        assert!(in_message("k", &settings(AuthProvider::Jwt, true)) == Some(Presented::Token("k")));
    }
}
