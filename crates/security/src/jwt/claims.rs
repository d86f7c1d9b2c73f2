//! Reading a token, strictly: what is not exactly as expected is refused.

use std::collections::BTreeMap;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use serde::de::{MapAccess, Visitor};
use serde_json::Value;

use super::MAX_TOKEN_BYTES;

/// Longest `sub`, role, `kid`, `iss` and `aud`, in characters.
const MAX_TEXT: usize = 256;

/// Most roles in one token.
const MAX_ROLES: usize = 64;

/// The last second of the year 9999 (RFC 3339 can write no later one).
const LAST_SECOND: f64 = 253_402_300_799.0;

/// What is wrong with a token. For audit records only: no variant carries anything the token says, and the client
/// learns nothing but `invalid_token`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum JwtError {
    /// Longer than [`MAX_TOKEN_BYTES`].
    #[error("token is too long")]
    TooLong,
    /// Not three base64url parts joined by dots.
    #[error("token is not in compact form")]
    Form,
    /// The header is no JSON object with a text `alg`, or says something twice.
    #[error("token header is malformed")]
    Header,
    /// The header asks for what is not understood (`crit`, `enc`, `zip`, `b64`).
    #[error("token header demands an unsupported extension")]
    Extension,
    /// A token made for something else.
    #[error("token is of another type")]
    Type,
    /// `alg` is unknown, or no key is configured for it.
    #[error("token algorithm is not accepted")]
    Algorithm,
    /// No configured key has the token's `kid`.
    #[error("token key id is unknown")]
    UnknownKid,
    /// No configured key made the signature.
    #[error("token signature is wrong")]
    Signature,
    /// The payload is no JSON object, or says something twice.
    #[error("token claims are malformed")]
    Claims,
    /// A required claim is absent.
    #[error("token has no `{0}`")]
    Missing(&'static str),
    /// A claim has the wrong type or an unusable value.
    #[error("token claim `{0}` is malformed")]
    Claim(&'static str),
    /// A time that is no sane time.
    #[error("token claim `{0}` is no sane time")]
    Time(&'static str),
    /// Past `exp`.
    #[error("token is expired")]
    Expired,
    /// Before `nbf`, or `iat`.
    #[error("token is not yet valid")]
    NotYetValid,
    /// `iss` is not a configured issuer.
    #[error("token is of another issuer")]
    Issuer,
    /// `aud` is not a configured audience.
    #[error("token is for another audience")]
    Audience,
    /// Refused by one of [`super::Revocations`].
    #[error("token is revoked")]
    Revoked,
}

/// The parts of a compact token, still encoded.
pub(super) struct Parts<'a> {
    pub(super) header: &'a str,
    pub(super) claims: &'a str,
    pub(super) signature: &'a str,
    /// Header, dot, claims: what the signature is over.
    pub(super) signed: &'a str,
}

pub(super) fn split(token: &str) -> Result<Parts<'_>, JwtError> {
    if token.len() > MAX_TOKEN_BYTES {
        return Err(JwtError::TooLong);
    }
    let (signed, signature) = token.rsplit_once('.').ok_or(JwtError::Form)?;
    let (header, claims) = signed.split_once('.').ok_or(JwtError::Form)?;
    let encoded = |part: &str| {
        !part.is_empty()
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
    };
    if [header, claims, signature].into_iter().all(encoded) {
        Ok(Parts { header, claims, signature, signed })
    } else {
        Err(JwtError::Form)
    }
}

pub(super) fn decode_part(part: &str) -> Result<Vec<u8>, JwtError> {
    URL_SAFE_NO_PAD.decode(part).map_err(|_| JwtError::Form)
}

#[derive(Debug)]
pub(super) struct Header {
    pub(super) alg: String,
    pub(super) kid: Option<String>,
}

pub(super) fn read_header(part: &str) -> Result<Header, JwtError> {
    let mut members = Members::read(part).ok_or(JwtError::Header)?;
    if ["crit", "enc", "zip", "b64"].iter().any(|name| members.0.contains_key(*name)) {
        return Err(JwtError::Extension);
    }
    if let Some(kind) = members.text("typ").map_err(|_| JwtError::Header)? {
        let kind = kind.to_ascii_lowercase();
        let kind = kind.strip_prefix("application/").unwrap_or(&kind);
        // Access tokens only: not an id token's cousins such as `logout+jwt` or `dpop+jwt`.
        if kind != "jwt" && kind != "at+jwt" {
            return Err(JwtError::Type);
        }
    }
    let kid = members.text("kid").map_err(|_| JwtError::Header)?;
    let alg = members.text("alg").map_err(|_| JwtError::Header)?.ok_or(JwtError::Header)?;
    Ok(Header { alg, kid })
}

#[derive(Debug)]
pub(super) struct Claims {
    pub(super) sub: String,
    pub(super) roles: Vec<String>,
    pub(super) exp: Timestamp,
    pub(super) iat: Option<Timestamp>,
    pub(super) jti: Option<String>,
    pub(super) iss: Option<String>,
    nbf: Option<Timestamp>,
    aud: Option<Vec<String>>,
}

pub(super) fn read_claims(part: &str) -> Result<Claims, JwtError> {
    let mut members = Members::read(part).ok_or(JwtError::Claims)?;
    let sub = members.text("sub")?.ok_or(JwtError::Missing("sub"))?;
    check_subject(&sub)?;
    let roles = members.texts("roles")?.ok_or(JwtError::Missing("roles"))?;
    check_roles(&roles)?;
    let exp = members.time("exp")?.ok_or(JwtError::Missing("exp"))?;
    let jti = members.text("jti")?;
    let aud = match members.0.get("aud") {
        Some(Value::String(_)) => members.text("aud")?.map(|audience| vec![audience]),
        _ => members.texts("aud")?,
    };
    let (iat, nbf, iss) = (members.time("iat")?, members.time("nbf")?, members.text("iss")?);
    Ok(Claims { sub, roles, exp, iat, jti, iss, nbf, aud })
}

impl Claims {
    pub(super) fn check_times(&self, now: Timestamp, leeway: SignedDuration) -> Result<(), JwtError> {
        let earliest = now.checked_sub(leeway).map_err(|_| JwtError::Time("exp"))?;
        let latest = now.checked_add(leeway).map_err(|_| JwtError::Time("nbf"))?;
        if self.exp <= earliest {
            return Err(JwtError::Expired);
        }
        // A token from the future is one whose issuer's clock cannot be compared with revocations.
        match self.nbf.max(self.iat) {
            Some(start) if start > latest => Err(JwtError::NotYetValid),
            _ => Ok(()),
        }
    }

    pub(super) fn check_issuer(&self, accepted: &[String]) -> Result<(), JwtError> {
        match &self.iss {
            _ if accepted.is_empty() => Ok(()),
            None => Err(JwtError::Missing("iss")),
            Some(issuer) if accepted.contains(issuer) => Ok(()),
            Some(_) => Err(JwtError::Issuer),
        }
    }

    pub(super) fn check_audience(&self, accepted: &[String]) -> Result<(), JwtError> {
        match &self.aud {
            None if accepted.is_empty() => Ok(()),
            None => Err(JwtError::Missing("aud")),
            Some(audiences) if audiences.iter().any(|audience| accepted.contains(audience)) => Ok(()),
            Some(_) => Err(JwtError::Audience),
        }
    }
}

pub(super) fn check_subject(sub: &str) -> Result<(), JwtError> {
    if is_name(sub) { Ok(()) } else { Err(JwtError::Claim("sub")) }
}

pub(super) fn check_roles(roles: &[String]) -> Result<(), JwtError> {
    if roles.len() <= MAX_ROLES && roles.iter().all(|role| is_name(role)) {
        Ok(())
    } else {
        Err(JwtError::Claim("roles"))
    }
}

pub(super) fn is_name(text: &str) -> bool {
    !text.is_empty() && text.chars().count() <= MAX_TEXT && !text.chars().any(char::is_control)
}

/// The members of a JSON object in which no name stands twice. Depth is bounded by the parser (128 levels).
struct Members(BTreeMap<String, Value>);

impl Members {
    fn read(part: &str) -> Option<Self> {
        let bytes = decode_part(part).ok()?;
        serde_json::from_slice(&bytes).ok()
    }

    fn text(&mut self, name: &'static str) -> Result<Option<String>, JwtError> {
        match self.0.remove(name) {
            None => Ok(None),
            Some(Value::String(text)) if text.chars().count() <= MAX_TEXT => Ok(Some(text)),
            Some(_) => Err(JwtError::Claim(name)),
        }
    }

    fn texts(&mut self, name: &'static str) -> Result<Option<Vec<String>>, JwtError> {
        let Some(value) = self.0.remove(name) else { return Ok(None) };
        let Value::Array(items) = value else { return Err(JwtError::Claim(name)) };
        let texts = items.into_iter().map(|item| match item {
            Value::String(text) => Ok(text),
            _ => Err(JwtError::Claim(name)),
        });
        texts.collect::<Result<_, _>>().map(Some)
    }

    /// Seconds since 1970, fractions allowed and cut off (RFC 7519 NumericDate).
    fn time(&mut self, name: &'static str) -> Result<Option<Timestamp>, JwtError> {
        let Some(value) = self.0.remove(name) else { return Ok(None) };
        let Value::Number(number) = value else { return Err(JwtError::Claim(name)) };
        let seconds = number.as_f64().filter(|seconds| (0.0..=LAST_SECOND).contains(seconds));
        // In range, so the conversion only cuts the fraction off.
        let seconds = seconds.ok_or(JwtError::Time(name))? as i64;
        Timestamp::from_second(seconds).map(Some).map_err(|_| JwtError::Time(name))
    }
}

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Unique;

        impl<'de> Visitor<'de> for Unique {
            type Value = Members;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                let mut members = BTreeMap::new();
                while let Some((name, value)) = map.next_entry::<String, Value>()? {
                    if members.insert(name, value).is_some() {
                        return Err(serde::de::Error::custom("a name stands twice"));
                    }
                }
                Ok(Members(members))
            }
        }

        deserializer.deserialize_map(Unique)
    }
}
