//! The settings as `GET /security/config` shows them.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{AllowedOrigins, IssuerEntry, PublicKeyEntry, RateLimits, SecurityOptions};
use crate::api_key::{KeyRecord, KeyRing};
use crate::certificate::CertificateRing;
use crate::jwt::{JwtAlgorithm, JwtVerifier};

/// What stands where a secret would.
const REDACTED: &str = "[redacted]";

/// Every field by its configured name. Keys are shown by id, in the order of their ids, without digest: the digest of
/// a short key would give the key away.
pub(super) fn redacted(
    options: &SecurityOptions,
    keys: &KeyRing,
    certificates: &CertificateRing,
    limits: &RateLimits,
    tokens: Option<&JwtVerifier>,
    origins: &AllowedOrigins,
) -> Value {
    let certificates: BTreeMap<String, Value> = certificates
        .entries()
        .map(|(name, entry)| {
            let shown = json!({
                "id": entry.id,
                "roles": entry.roles,
                "pipelines": entry.whitelist.to_list(),
                "permissions": entry.permissions,
                "expires_at": entry.expires_at,
                "allowed_ips": entry.allowed_ips,
            });
            (name.to_string(), shown)
        })
        .collect();
    let rate_limits: serde_json::Map<String, Value> =
        limits.by_endpoint.iter().map(|(name, limit)| (name.clone(), json!(limit.to_string()))).collect();
    let accepted = |algorithm: &&JwtAlgorithm| tokens.is_some_and(|tokens| tokens.accepts(**algorithm));
    let algorithms: Vec<_> = JwtAlgorithm::ALL.iter().filter(accepted).map(|a| a.as_str()).collect();
    json!({
        "security_enabled": options.security_enabled,
        "auth_provider": options.auth_provider,
        "api_keys": redacted_keys(keys),
        "client_certificates": certificates,
        "jwt_secret": options.jwt_secret.as_ref().map(|_| REDACTED),
        "require_strong_jwt_secret": options.require_strong_jwt_secret,
        "jwt_algorithms": algorithms,
        "jwt_public_keys": public_keys(&options.jwt_public_keys),
        "jwks_url": options.jwks_url.as_ref().map(ToString::to_string),
        "jwks_refresh_seconds": options.jwks_refresh_seconds,
        "jwks_max_age_seconds": options.jwks_max_age_seconds,
        "allow_private_jwks": options.allow_private_jwks,
        "jwt_issuer": options.jwt_issuer,
        "jwt_audience": options.jwt_audience,
        "jwt_required_type": options.jwt_required_type,
        "jwt_issuers": options.jwt_issuers.iter().map(issuer).collect::<Vec<_>>(),
        "jwt_leeway_seconds": options.jwt_leeway_seconds,
        "role_permissions": options.role_permissions,
        "require_https": options.require_https,
        "trusted_proxies": options.trusted_proxies.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "strict_forwarded_proto": options.strict_forwarded_proto,
        "pipeline_acls": options.pipeline_acls,
        "rate_limit_enabled": options.rate_limit_enabled,
        "rate_limit_default": limits.default.to_string(),
        "rate_limits": rate_limits,
        "rate_limit_key": options.rate_limit_key,
        "auth_failure_limit": limits.auth_failure.as_ref().map(ToString::to_string).unwrap_or_default(),
        "pipeline_quotas": options.pipeline_quotas,
        "websocket_require_auth": options.websocket_require_auth,
        "websocket_handshake_auth": options.websocket_handshake_auth,
        "allowed_origins": origins.iter().collect::<Vec<_>>(),
    })
}

fn public_keys(keys: &[PublicKeyEntry]) -> Vec<Value> {
    keys.iter().map(|key| json!({ "kid": key.kid, "algorithm": key.algorithm, "pem": REDACTED })).collect()
}

fn issuer(entry: &IssuerEntry) -> Value {
    json!({
        "issuer": entry.issuer,
        "audiences": entry.audiences,
        "algorithms": entry.algorithms,
        "public_keys": public_keys(&entry.public_keys),
        "jwks_url": entry.jwks_url.as_ref().map(ToString::to_string),
        "required_type": entry.required_type,
    })
}

/// The keys by id, in the order of their ids.
pub(super) fn redacted_keys(keys: &KeyRing) -> Value {
    let mut records: Vec<_> = keys.records().collect();
    records.sort_by(|a, b| a.id.cmp(&b.id));
    let shown = |key: &KeyRecord| {
        json!({
            "id": key.id,
            "key": REDACTED,
            "roles": key.roles,
            "pipelines": key.whitelist.to_list(),
            "permissions": key.permissions,
            "expires_at": key.expires_at,
            "allowed_ips": key.allowed_ips,
        })
    };
    records.into_iter().map(shown).collect()
}
