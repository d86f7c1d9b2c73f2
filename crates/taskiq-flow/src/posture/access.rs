//! Keys, tokens and ACLs.

use std::collections::BTreeSet;

use secrecy::ExposeSecret;
use taskiq_flow_core::diagnostic::nearest;
use taskiq_flow_security::api_key::{DIGEST_PREFIX, KeyDigest};
use taskiq_flow_security::permission::Permission;
use taskiq_flow_security::settings::{ApiKeyEntry, STRONG_SECRET_BYTES};

use super::{Facts, Found};

/// What documentation shows as keys and secrets, this product's guide first, and what people type when in a hurry.
const PLACEHOLDERS: [&str; 18] = [
    "admin-key",
    "viewer-key",
    "processor-key",
    "your-jwt-secret",
    "super-secret",
    "your-api-key",
    "your-secret",
    "your-secret-key",
    "secret",
    "secret-key",
    "changeme",
    "change-me",
    "password",
    "admin",
    "test",
    "test-key",
    "dev",
    "dev-key",
];

/// A token's leeway above this many seconds lets tokens live on noticeably.
const LONG_LEEWAY: u32 = 120;

pub(super) fn placeholders(facts: &Facts<'_>) -> Vec<Found> {
    let config = facts.config;
    let is_one = |text: &str| PLACEHOLDERS.iter().any(|known| known.eq_ignore_ascii_case(text));
    let digests: Vec<KeyDigest> = PLACEHOLDERS.iter().map(|text| KeyDigest::of(text)).collect();
    let is_key = |text: &str| {
        is_one(text) || KeyDigest::from_config(text).is_ok_and(|digest| digests.contains(&digest))
    };
    let keys = config.api_keys.iter().filter(|(text, _)| is_key(text)).map(|(text, entry)| {
        let what = "the key stands in every copy of the guide, or is among the first that anybody tries";
        Found::high(field_of(text, entry), what)
    });
    let secret = config.jwt_secret.iter().filter(|secret| is_one(secret.expose_secret())).map(|_| {
        let what = "the secret stands in every copy of the guide: anybody can make tokens with it";
        Found::high("jwt_secret", what)
    });
    keys.chain(secret).collect()
}

pub(super) fn unasked_certificates(facts: &Facts<'_>) -> Vec<Found> {
    let config = facts.config;
    if config.tls_client_ca.is_some() || config.client_certificates.is_empty() {
        return Vec::new();
    }
    vec![Found::medium("client_certificates", "without tls_client_ca no client is asked for a certificate")]
}

pub(super) fn raw_keys(facts: &Facts<'_>) -> Vec<Found> {
    let keys = facts.config.api_keys.iter();
    let raw = keys.filter(|(text, _)| !text.starts_with(DIGEST_PREFIX));
    raw.map(|(text, entry)| {
        let what = "the configuration holds the key itself: whoever reads the file or the environment has it";
        Found::medium(field_of(text, entry), what)
    })
    .collect()
}

pub(super) fn endless_keys(facts: &Facts<'_>) -> Vec<Found> {
    let keys = facts.config.api_keys.iter().filter(|(_, entry)| entry.expires_at.is_none());
    keys.map(|(text, entry)| match is_admin(entry) {
        true => Found::medium(field_of(text, entry), "an admin key that never expires"),
        false => Found::low(field_of(text, entry), "the key never expires"),
    })
    .collect()
}

pub(super) fn many_masters(facts: &Facts<'_>) -> Vec<Found> {
    let keys = facts.config.api_keys.iter();
    let masters: Vec<String> = keys
        .filter(|(_, entry)| is_admin(entry) && is_unrestricted(entry))
        .map(|(text, entry)| field_of(text, entry))
        .collect();
    if masters.len() < 2 {
        return Vec::new();
    }
    let what = format!("{} keys may do everything on every pipeline, security included", masters.len());
    vec![Found::low(masters.join(", "), what)]
}

pub(super) fn wide_keys(facts: &Facts<'_>) -> Vec<Found> {
    let wide = |entry: &ApiKeyEntry| {
        !is_admin(entry)
            && entry.permissions.grants(Permission::Execute)
            && is_unrestricted(entry)
            && facts.config.pipeline_acls.is_empty()
    };
    let keys = facts.config.api_keys.iter().filter(|(_, entry)| wide(entry));
    keys.map(|(text, entry)| {
        let what = "the key may start every pipeline, those to come included, and no ACL limits it";
        Found::low(field_of(text, entry), what)
    })
    .collect()
}

pub(super) fn token_audience(facts: &Facts<'_>) -> Vec<Found> {
    if facts.settings.tokens().is_none() {
        return Vec::new();
    }
    let config = facts.config;
    const ANYTHING: &str =
        "tokens need not be made for this server: one made for another service, without `aud`, is good here";
    // A shared secret may be this server's alone; an issuer's public key checks tokens for everybody it serves.
    let published = !config.jwt_public_keys.is_empty() || config.jwks_url.is_some();
    let found = |field: &str, what: &str| match published {
        false => Found::low(field, what),
        true => Found::medium(field, what),
    };
    let simple = published || config.jwt_secret.is_some();
    let audience =
        (simple && config.jwt_audience.as_slice().is_empty()).then(|| found("jwt_audience", ANYTHING));
    let issuer = (simple && config.jwt_issuer.as_slice().is_empty())
        .then(|| found("jwt_issuer", "tokens of any issuer are taken that the key checks"));
    let of_issuers = config.jwt_issuers.iter().enumerate().filter(|(_, entry)| entry.audiences.is_empty());
    let of_issuers =
        of_issuers.map(|(at, _)| Found::medium(format!("jwt_issuers[{at}].audiences"), ANYTHING));
    audience.into_iter().chain(issuer).chain(of_issuers).collect()
}

pub(super) fn private_key_sets(facts: &Facts<'_>) -> Vec<Found> {
    if !facts.config.allow_private_jwks {
        return Vec::new();
    }
    let what = "keys that check tokens may be fetched from private networks and from this machine";
    vec![Found::low("allow_private_jwks", what)]
}

pub(super) fn token_leeway(facts: &Facts<'_>) -> Vec<Found> {
    let seconds = facts.config.jwt_leeway_seconds;
    if facts.settings.tokens().is_none() || seconds <= LONG_LEEWAY {
        return Vec::new();
    }
    vec![Found::low("jwt_leeway_seconds", format!("tokens are good for {seconds} seconds after their end"))]
}

pub(super) fn weak_secret_allowed(facts: &Facts<'_>) -> Vec<Found> {
    let config = facts.config;
    let strong =
        config.jwt_secret.as_ref().is_some_and(|secret| secret.expose_secret().len() >= STRONG_SECRET_BYTES);
    if !strong || config.require_strong_jwt_secret {
        return Vec::new();
    }
    let what = "the secret is strong, and nothing keeps the next one from being weak";
    vec![Found::low("require_strong_jwt_secret", what)]
}

pub(super) fn acl_pipelines(facts: &Facts<'_>) -> Vec<Found> {
    let Some(pipelines) = facts.pipelines else { return Vec::new() };
    let unknown = facts.config.pipeline_acls.keys().filter(|name| !pipelines.contains(name));
    unknown
        .map(|name| {
            let near = nearest(name, pipelines.iter().map(String::as_str));
            let near = near.map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
            let what = format!("there is no pipeline of that name, so this protects nothing{near}");
            Found::medium(format!("pipeline_acls.{name}"), what)
        })
        .collect()
}

pub(super) fn acl_roles(facts: &Facts<'_>) -> Vec<Found> {
    let config = facts.config;
    // Where tokens are accepted an issuer may hand out any role.
    if facts.settings.tokens().is_some() {
        return Vec::new();
    }
    let keys = config.api_keys.entries().flat_map(|entry| entry.role.iter().chain(&entry.roles));
    let known: BTreeSet<&String> = keys.collect();
    let mut found = Vec::new();
    for (pipeline, acl) in &config.pipeline_acls {
        for (permission, roles) in acl.lists() {
            for role in roles.iter().filter(|role| !known.contains(role)) {
                let near = nearest(role, known.iter().map(|role| role.as_str()));
                let near = near.map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
                let what = format!("no key has the role `{role}`{near}");
                found.push(Found::low(format!("pipeline_acls.{pipeline}.{permission}"), what));
            }
        }
    }
    found
}

/// What the entry is called: its id, else the id that its key gets.
fn field_of(text: &str, entry: &ApiKeyEntry) -> String {
    let id = entry.id.clone().or_else(|| Some(KeyDigest::from_config(text).ok()?.default_id()));
    format!("api_keys.{}", id.unwrap_or_else(|| "?".to_owned()))
}

fn is_admin(entry: &ApiKeyEntry) -> bool {
    entry.permissions.grants(Permission::Admin)
}

fn is_unrestricted(entry: &ApiKeyEntry) -> bool {
    let list = entry.pipelines.as_deref().unwrap_or_default();
    list.is_empty() || list.iter().any(|pattern| pattern.bytes().all(|byte| byte == b'*'))
}
