//! Reading a token, strictly: what is not exactly as expected is refused.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::error::JwtError;
use super::members::{BadMember, Members, is_name};

/// The longest token looked at, in bytes; a longer one is refused before anything of it is decoded.
pub const MAX_TOKEN_BYTES: usize = 8 * 1024;

/// The media type of access tokens (RFC 9068), without `application/`.
pub(super) const ACCESS_TOKEN: &str = "at+jwt";

/// Most roles in one token.
const MAX_ROLES: usize = 64;

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

#[derive(Debug, Clone)]
pub(super) struct Header {
    pub(super) alg: String,
    pub(super) kid: Option<String>,
    /// In lower case, without `application/`.
    pub(super) typ: Option<String>,
}

pub(super) fn read_header(part: &str) -> Result<Header, JwtError> {
    let mut members = read_members(part).ok_or(JwtError::Header)?;
    if ["crit", "enc", "zip", "b64"].iter().any(|name| members.has(name)) {
        return Err(JwtError::Extension);
    }
    let mut text = |name| members.text(name).map_err(|_| JwtError::Header);
    let (typ, kid, alg) = (text("typ")?, text("kid")?, text("alg")?.ok_or(JwtError::Header)?);
    Ok(Header { alg, kid, typ: typ.as_deref().map(media_type) })
}

impl Header {
    /// Whether the token was made for this (RFC 8725 section 3.11). Without a required type: no type, `JWT` or an
    /// access token, not an id token's cousins such as `logout+jwt` or `dpop+jwt`.
    pub(super) fn check_type(&self, required: Option<&str>) -> Result<(), JwtError> {
        let right = match (self.typ.as_deref(), required) {
            (found, Some(required)) => found == Some(required),
            (None, None) => true,
            (Some(found), None) => found == "jwt" || found == ACCESS_TOKEN,
        };
        if right { Ok(()) } else { Err(JwtError::Type) }
    }
}

/// A media type as it is compared: `application/` is left out where nothing else has a `/` (RFC 7515 section 4.1.9).
pub(super) fn media_type(text: &str) -> String {
    let text = text.to_ascii_lowercase();
    match text.strip_prefix("application/") {
        Some(short) if !short.contains('/') => short.to_owned(),
        _ => text,
    }
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
    has_client: bool,
    pub(super) bound_to: Option<[u8; 32]>,
}

pub(super) fn read_claims(part: &str) -> Result<Claims, JwtError> {
    let mut members = read_members(part).ok_or(JwtError::Claims)?;
    let sub = members.text("sub")?.ok_or(JwtError::Missing("sub"))?;
    check_subject(&sub)?;
    let roles = members.texts("roles")?.ok_or(JwtError::Missing("roles"))?;
    check_roles(&roles)?;
    let exp = members.time("exp")?.ok_or(JwtError::Missing("exp"))?;
    let jti = members.text("jti")?;
    let aud = match members.get("aud") {
        Some(Value::String(_)) => members.text("aud")?.map(|audience| vec![audience]),
        _ => members.texts("aud")?,
    };
    let (iat, nbf, iss) = (members.time("iat")?, members.time("nbf")?, members.text("iss")?);
    let has_client = members.get("client_id").is_some_and(Value::is_string);
    let bound_to = members.get("cnf").map(read_confirmation).transpose()?;
    Ok(Claims { sub, roles, exp, iat, jti, iss, nbf, aud, has_client, bound_to })
}

/// The certificate that `cnf` binds a token to (RFC 8705 section 3.1). A token that is bound in another way too, or only in
/// another way, would be a bearer token here, which its issuer has ruled out.
fn read_confirmation(confirmation: &Value) -> Result<[u8; 32], JwtError> {
    let members = confirmation.as_object().ok_or(JwtError::Claim("cnf"))?;
    let thumbprint = members.get("x5t#S256").filter(|_| members.len() == 1).ok_or(JwtError::Confirmation)?;
    let thumbprint = thumbprint.as_str().and_then(|text| URL_SAFE_NO_PAD.decode(text).ok());
    thumbprint.and_then(|bytes| bytes.try_into().ok()).ok_or(JwtError::Claim("cnf"))
}

/// The members of a part that is a JSON object.
fn read_members(part: &str) -> Option<Members> {
    serde_json::from_slice(&decode_part(part).ok()?).ok()
}

impl From<BadMember> for JwtError {
    fn from(bad: BadMember) -> Self {
        match bad {
            BadMember::Kind(name) => JwtError::Claim(name),
            BadMember::Time(name) => JwtError::Time(name),
        }
    }
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

    /// `accepted` empty: any issuer but the `reserved` ones, whose tokens have keys of their own.
    pub(super) fn check_issuer(&self, accepted: &[String], reserved: &[String]) -> Result<(), JwtError> {
        match &self.iss {
            Some(issuer) if accepted.is_empty() && reserved.contains(issuer) => Err(JwtError::Issuer),
            _ if accepted.is_empty() => Ok(()),
            None => Err(JwtError::Missing("iss")),
            Some(issuer) if accepted.contains(issuer) => Ok(()),
            Some(_) => Err(JwtError::Issuer),
        }
    }

    /// What a token of the required type must have beside: of an access token RFC 9068 section 2.2 asks for more.
    pub(super) fn check_required(&self, required_type: Option<&str>) -> Result<(), JwtError> {
        if required_type != Some(ACCESS_TOKEN) {
            return Ok(());
        }
        let there = [
            ("iss", self.iss.is_some()),
            ("aud", self.aud.is_some()),
            ("client_id", self.has_client),
            ("iat", self.iat.is_some()),
            ("jti", self.jti.is_some()),
        ];
        there.iter().find(|(_, there)| !there).map_or(Ok(()), |(name, _)| Err(JwtError::Missing(name)))
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
