//! Reading a set of published keys. One bad key does not spoil the set, and no key is taken on doubt.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde_json::Value;

use crate::jwt::key::{JwtAlgorithm, JwtKeyError, KeyFamily, VerifyingKey};
use crate::jwt::members::{BadMember, Members, is_name};

/// The most keys taken from one set.
pub const MAX_KEYS: usize = 64;

/// A set of keys as published, once checked.
#[derive(Debug)]
pub(super) struct KeySet {
    pub(super) keys: Vec<VerifyingKey>,
    /// What was left out: the name of the key, where it has a fit one, and why.
    pub(super) left_out: Vec<(Option<String>, JwksError)>,
}

/// Why a published key is left out, or the whole set refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JwksError {
    /// No JSON object with a list `keys` of objects, or one that says something twice.
    #[error("the answer is no JSON Web Key Set")]
    NotASet,
    /// A member has the wrong type.
    #[error("`{0}` is malformed")]
    Member(&'static str),
    /// A member that its type must have is not there.
    #[error("there is no `{0}`")]
    Missing(&'static str),
    /// A shared secret that everybody can read.
    #[error("it is a symmetric key; a published secret is none")]
    Symmetric,
    /// The issuer has published what it must keep.
    #[error("it is a private key; its issuer must replace it")]
    Private,
    /// Published for encryption, say.
    #[error("it is not for checking signatures (`use`, `key_ops`)")]
    Purpose,
    /// Not one of [`JwtAlgorithm`], or not for this type of key.
    #[error("its algorithm, type or curve is not supported")]
    Unsupported,
    /// `jwt_algorithms`, or the issuer's `algorithms`, leave it out.
    #[error("its algorithm {0} is not one of those configured")]
    NotAccepted(JwtAlgorithm),
    /// RSA keys serve six algorithms.
    #[error("it has no `alg`, and several are possible; name one RSA algorithm in `jwt_algorithms`")]
    Ambiguous,
    /// Which of them is meant?
    #[error("its `kid` stands twice")]
    SameKid,
    /// Beyond [`MAX_KEYS`].
    #[error("there are more than 64 keys")]
    TooMany,
    /// Not on its curve, too short, and so on.
    #[error(transparent)]
    Key(#[from] JwtKeyError),
}

#[derive(Deserialize)]
struct Document {
    keys: Vec<Members>,
}

/// Reads a set, of which keys for `accepted` algorithms are taken.
///
/// # Errors
/// [`JwksError::NotASet`]. A set without any usable key is one all the same: its issuer has withdrawn them.
pub(super) fn read(bytes: &[u8], accepted: &[JwtAlgorithm]) -> Result<KeySet, JwksError> {
    let document: Document = serde_json::from_slice(bytes).map_err(|_| JwksError::NotASet)?;
    let mut set = KeySet { keys: Vec::new(), left_out: Vec::new() };
    let kids: Vec<Option<String>> = document.keys.iter().map(kid_of).collect();
    for (at, key) in document.keys.into_iter().enumerate() {
        let kid = kids[at].clone();
        let twice = kid.is_some() && kids.iter().filter(|other| **other == kid).count() > 1;
        let read = match twice {
            // Both: nobody can say which of them a token means.
            true => Err(JwksError::SameKid),
            false => read_key(key, accepted),
        };
        match read {
            Ok(_) if set.keys.len() == MAX_KEYS => set.left_out.push((kid, JwksError::TooMany)),
            Ok(key) => set.keys.push(key),
            Err(error) => set.left_out.push((kid, error)),
        }
        if at >= 16 * MAX_KEYS {
            set.left_out.push((None, JwksError::TooMany));
            break;
        }
    }
    Ok(set)
}

fn kid_of(key: &Members) -> Option<String> {
    let kid = key.get("kid").and_then(Value::as_str)?;
    is_name(kid).then(|| kid.to_owned())
}

fn read_key(mut key: Members, accepted: &[JwtAlgorithm]) -> Result<VerifyingKey, JwksError> {
    let kind = required(&mut key, "kty")?;
    if kind == "oct" || key.has("k") {
        return Err(JwksError::Symmetric);
    }
    if ["d", "p", "q", "dp", "dq", "qi", "oth"].iter().any(|name| key.has(name)) {
        return Err(JwksError::Private);
    }
    let purpose = text(&mut key, "use")?;
    let operations = key.texts("key_ops").map_err(malformed)?;
    if purpose.is_some_and(|purpose| purpose != "sig")
        || operations.is_some_and(|operations| !operations.iter().any(|name| name == "verify"))
    {
        return Err(JwksError::Purpose);
    }
    let kid = text(&mut key, "kid")?;
    if kid.as_deref().is_some_and(|kid| !is_name(kid)) {
        return Err(JwksError::Member("kid"));
    }
    let family = family(&kind, text(&mut key, "crv")?.as_deref())?;
    let algorithm = algorithm(text(&mut key, "alg")?.as_deref(), family, accepted)?;
    match family {
        KeyFamily::Rsa => {
            let (n, e) = (number(&mut key, "n")?, number(&mut key, "e")?);
            Ok(VerifyingKey::rsa(algorithm, kid, &n, &e)?)
        }
        KeyFamily::Ed25519 => Ok(VerifyingKey::point(algorithm, kid, &number(&mut key, "x")?)?),
        KeyFamily::P256 | KeyFamily::P384 => {
            let (x, y) = (number(&mut key, "x")?, number(&mut key, "y")?);
            Ok(VerifyingKey::point(algorithm, kid, &[&[4], x.as_slice(), y.as_slice()].concat())?)
        }
        KeyFamily::Secret => Err(JwksError::Symmetric),
    }
}

fn family(kind: &str, curve: Option<&str>) -> Result<KeyFamily, JwksError> {
    match (kind, curve) {
        ("RSA", None) => Ok(KeyFamily::Rsa),
        ("EC", Some("P-256")) => Ok(KeyFamily::P256),
        ("EC", Some("P-384")) => Ok(KeyFamily::P384),
        ("OKP", Some("Ed25519")) => Ok(KeyFamily::Ed25519),
        ("EC" | "OKP", None) => Err(JwksError::Missing("crv")),
        _ => Err(JwksError::Unsupported),
    }
}

/// The one algorithm of a key: the one it names, else the only one possible.
fn algorithm(
    named: Option<&str>,
    family: KeyFamily,
    accepted: &[JwtAlgorithm],
) -> Result<JwtAlgorithm, JwksError> {
    if let Some(name) = named {
        let algorithm: JwtAlgorithm = name.parse().map_err(|_| JwksError::Unsupported)?;
        return match algorithm.family() == family {
            false => Err(JwksError::Unsupported),
            true if !accepted.contains(&algorithm) => Err(JwksError::NotAccepted(algorithm)),
            true => Ok(algorithm),
        };
    }
    let mut possible = accepted.iter().filter(|algorithm| algorithm.family() == family);
    match (possible.next(), possible.next()) {
        (Some(only), None) => Ok(*only),
        (Some(_), Some(_)) => Err(JwksError::Ambiguous),
        (None, _) => Err(JwksError::Unsupported),
    }
}

fn text(key: &mut Members, name: &'static str) -> Result<Option<String>, JwksError> {
    key.text(name).map_err(malformed)
}

fn required(key: &mut Members, name: &'static str) -> Result<String, JwksError> {
    text(key, name)?.ok_or(JwksError::Missing(name))
}

/// A number in base64url. Longer than the texts of a token, so it is not read as one of those.
fn number(key: &mut Members, name: &'static str) -> Result<Vec<u8>, JwksError> {
    let text = key.get(name).ok_or(JwksError::Missing(name))?.as_str();
    text.and_then(|text| URL_SAFE_NO_PAD.decode(text).ok()).ok_or(JwksError::Member(name))
}

fn malformed(bad: BadMember) -> JwksError {
    let (BadMember::Kind(name) | BadMember::Time(name)) = bad;
    JwksError::Member(name)
}
