//! What checks tokens: the simple fields make one trust, each of `jwt_issuers` another.

use std::time::Duration;

use jiff::SignedDuration;
use secrecy::ExposeSecret;

use super::{
    AuthProvider, IssuerEntry, PublicKeyEntry, SecurityOptions, SettingsError, Severity, Warning, warning,
};
use crate::jwt::jwks::{JwksUrl, KeySource, MIN_INTERVAL, SourceOptions};
use crate::jwt::{JwtAlgorithm, JwtVerifier, MAX_LEEWAY, Trust, VerifyingKey};

/// A `jwt_secret` below this many bytes is weak: RFC 7518 section 3.2 asks for as many as HMAC-SHA256 puts out.
pub const STRONG_SECRET_BYTES: usize = 32;

/// The most issuers.
const MAX_ISSUERS: usize = 32;

/// The bounds of `jwks_refresh_seconds` and `jwks_max_age_seconds`.
const MAX_REFRESH_SECONDS: u64 = 86_400;
const MAX_AGE_SECONDS: u64 = 30 * 86_400;

/// What checks tokens; none, when nothing to do so is configured.
pub(super) fn build(
    options: &SecurityOptions,
    warnings: &mut Vec<Warning>,
) -> Result<Option<JwtVerifier>, SettingsError> {
    check_numbers(options)?;
    let mut trusts = Vec::new();
    let simple = simple(options, warnings)?;
    let has_simple = simple.is_some();
    trusts.extend(simple);
    if options.jwt_issuers.len() > MAX_ISSUERS {
        let message = format!("there are more than {MAX_ISSUERS}; put a gateway before the server");
        return Err(SettingsError::new("jwt_issuers", message));
    }
    for (at, entry) in options.jwt_issuers.iter().enumerate() {
        let field = format!("jwt_issuers[{at}]");
        let named = options.jwt_issuers[..at].iter().map(|earlier| &earlier.issuer);
        if named.chain(&options.jwt_issuer).any(|other| *other == entry.issuer) {
            let message = "the issuer is named twice; say once whose keys are its own";
            return Err(SettingsError::new(format!("{field}.issuer"), message));
        }
        trusts.push(issuer(options, entry, &field)?);
    }
    let idle = [("jwt_issuer", &options.jwt_issuer), ("jwt_audience", &options.jwt_audience)];
    if let Some((field, _)) = idle.iter().find(|(_, texts)| !texts.is_empty())
        && !has_simple
        && !options.jwt_issuers.is_empty()
    {
        let message = "it goes with `jwt_secret`, `jwt_public_keys` and `jwks_url`, none of which is set; say it in \
                       `jwt_issuers`";
        return Err(SettingsError::new(*field, message));
    }
    if trusts.is_empty() {
        if options.auth_provider == AuthProvider::Jwt && options.security_enabled {
            let message = "\"jwt\" has nothing to check tokens with; set `jwt_secret`, `jwt_public_keys`, `jwks_url` \
                           or `jwt_issuers`";
            return Err(SettingsError::new("auth_provider", message));
        }
        return Ok(None);
    }
    let leeway = SignedDuration::from_secs(i64::try_from(options.jwt_leeway_seconds).unwrap_or(i64::MAX));
    let verifier = JwtVerifier::new(trusts).map_err(|error| SettingsError::new("jwt_issuers", error))?;
    Ok(Some(verifier.with_leeway(leeway)))
}

fn check_numbers(options: &SecurityOptions) -> Result<(), SettingsError> {
    let (leeway, longest) = (options.jwt_leeway_seconds, MAX_LEEWAY.as_secs().unsigned_abs());
    if leeway > longest {
        let message = format!("{leeway} is too long; write at most {longest}");
        return Err(SettingsError::new("jwt_leeway_seconds", message));
    }
    let (refresh, age) = (options.jwks_refresh_seconds, options.jwks_max_age_seconds);
    if !(1..=MAX_REFRESH_SECONDS).contains(&refresh) {
        let message = format!("{refresh} is not possible; write 1 to {MAX_REFRESH_SECONDS}");
        return Err(SettingsError::new("jwks_refresh_seconds", message));
    }
    if !(refresh..=MAX_AGE_SECONDS).contains(&age) {
        let message = format!(
            "{age} is not possible; write at least `jwks_refresh_seconds` ({refresh}) and at most {MAX_AGE_SECONDS}"
        );
        return Err(SettingsError::new("jwks_max_age_seconds", message));
    }
    Ok(())
}

/// The trust of `jwt_secret`, `jwt_public_keys` and `jwks_url`.
fn simple(options: &SecurityOptions, warnings: &mut Vec<Warning>) -> Result<Option<Trust>, SettingsError> {
    for (field, texts) in [("jwt_issuer", &options.jwt_issuer), ("jwt_audience", &options.jwt_audience)] {
        check_texts(field, texts)?;
    }
    check_type("jwt_required_type", options.jwt_required_type.as_deref())?;
    let algorithms = options.jwt_algorithms.as_deref();
    let mut keys = Vec::new();
    keys.extend(secret(options, warnings)?);
    keys.extend(public_keys("jwt_public_keys", "jwt_algorithms", &options.jwt_public_keys, algorithms)?);
    let source = match &options.jwks_url {
        Some(url) => Some(source(options, "jwks_url", "jwt_algorithms", url, algorithms)?),
        None => None,
    };
    if keys.is_empty() && source.is_none() {
        return Ok(None);
    }
    let trust = Trust::new(keys).map_err(|error| SettingsError::new("jwt_public_keys", error))?;
    Ok(Some(
        trust
            .with_source(source)
            .with_issuers(options.jwt_issuer.clone())
            .with_audiences(options.jwt_audience.clone())
            .with_required_type(options.jwt_required_type.as_deref()),
    ))
}

/// The trust of one of `jwt_issuers`.
fn issuer(options: &SecurityOptions, entry: &IssuerEntry, field: &str) -> Result<Trust, SettingsError> {
    check_texts(&format!("{field}.issuer"), std::slice::from_ref(&entry.issuer))?;
    check_texts(&format!("{field}.audiences"), &entry.audiences)?;
    check_type(&format!("{field}.required_type"), entry.required_type.as_deref())?;
    let algorithms = entry.algorithms.as_deref();
    let names = format!("{field}.algorithms");
    if algorithms.is_some_and(|algorithms| algorithms.contains(&JwtAlgorithm::HS256)) {
        let message =
            "HS256 has no public key; an issuer here has public keys only, `jwt_secret` is for HS256";
        return Err(SettingsError::new(names, message));
    }
    let keys = public_keys(&format!("{field}.public_keys"), "algorithms", &entry.public_keys, algorithms)?;
    let source = match &entry.jwks_url {
        Some(url) => Some(source(options, &format!("{field}.jwks_url"), "algorithms", url, algorithms)?),
        None => None,
    };
    if keys.is_empty() && source.is_none() {
        let message = "the issuer has no key; give `public_keys` or `jwks_url`";
        return Err(SettingsError::new(field, message));
    }
    let trust =
        Trust::new(keys).map_err(|error| SettingsError::new(format!("{field}.public_keys"), error))?;
    let required_type = entry.required_type.as_deref().or(options.jwt_required_type.as_deref());
    Ok(trust
        .with_source(source)
        .with_issuers(vec![entry.issuer.clone()])
        .with_audiences(entry.audiences.clone())
        .with_required_type(required_type))
}

fn secret(
    options: &SecurityOptions,
    warnings: &mut Vec<Warning>,
) -> Result<Option<VerifyingKey>, SettingsError> {
    let Some(secret) = &options.jwt_secret else { return Ok(None) };
    let key = VerifyingKey::hs256(secret).map_err(|error| SettingsError::new("jwt_secret", error))?;
    let bytes = secret.expose_secret().len();
    if bytes < STRONG_SECRET_BYTES {
        let message = format!(
            "the secret has {bytes} bytes and can be guessed, and with it every token forged; use at least \
             {STRONG_SECRET_BYTES} random bytes (`openssl rand -base64 48`)"
        );
        if options.require_strong_jwt_secret {
            return Err(SettingsError::new("jwt_secret", message));
        }
        warnings.push(warning("jwt-secret-weak", Severity::High, "jwt_secret", &message));
    }
    if accepted(JwtAlgorithm::HS256, options.jwt_algorithms.as_deref()) {
        return Ok(Some(key));
    }
    let message = "the secret is not used, `jwt_algorithms` leaves out HS256; remove it or add HS256";
    warnings.push(warning("jwt-secret-unused", Severity::Low, "jwt_secret", message));
    Ok(None)
}

fn public_keys(
    field: &str,
    list: &str,
    entries: &[PublicKeyEntry],
    algorithms: Option<&[JwtAlgorithm]>,
) -> Result<Vec<VerifyingKey>, SettingsError> {
    let key = |(at, entry): (usize, &PublicKeyEntry)| {
        let field = format!("{field}[{at}]");
        if !accepted(entry.algorithm, algorithms) {
            let message = format!("`{list}` leaves out {0}; add \"{0}\" or remove the key", entry.algorithm);
            return Err(SettingsError::new(field, message));
        }
        VerifyingKey::public(entry.algorithm, entry.kid.clone(), &entry.pem)
            .map_err(|error| SettingsError::new(field, error))
    };
    entries.iter().enumerate().map(key).collect()
}

fn source(
    options: &SecurityOptions,
    field: &str,
    list: &str,
    shown: &JwksUrl,
    algorithms: Option<&[JwtAlgorithm]>,
) -> Result<KeySource, SettingsError> {
    let (url, reach) =
        shown.check(options.allow_private_jwks).map_err(|error| SettingsError::new(field, error))?;
    let published = |algorithm: &JwtAlgorithm| *algorithm != JwtAlgorithm::HS256;
    let all = JwtAlgorithm::ALL.iter().filter(|algorithm| published(algorithm));
    let accepted: Vec<_> = all.filter(|algorithm| accepted(**algorithm, algorithms)).copied().collect();
    if accepted.is_empty() {
        let message = format!(
            "no key it could hold would be used, `{list}` has no algorithm with public keys; add one such as RS256"
        );
        return Err(SettingsError::new(field, message));
    }
    Ok(KeySource::new(SourceOptions {
        shown: shown.clone(),
        url,
        reach,
        accepted,
        refresh: Duration::from_secs(options.jwks_refresh_seconds),
        max_age: Duration::from_secs(options.jwks_max_age_seconds),
        min_interval: MIN_INTERVAL,
    }))
}

fn accepted(algorithm: JwtAlgorithm, list: Option<&[JwtAlgorithm]>) -> bool {
    list.is_none_or(|list| list.contains(&algorithm))
}

fn check_texts(field: &str, texts: &[String]) -> Result<(), SettingsError> {
    if texts.iter().any(String::is_empty) {
        let message = "an entry is empty; write the exact text, or leave the field out";
        return Err(SettingsError::new(field, message));
    }
    Ok(())
}

fn check_type(field: &str, text: Option<&str>) -> Result<(), SettingsError> {
    let fit = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
    if text.is_none_or(fit) {
        return Ok(());
    }
    Err(SettingsError::new(field, "it is no media type; write one such as \"at+jwt\""))
}
