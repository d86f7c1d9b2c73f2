//! What the operator decided: [`SecurityOptions`] as written, [`Settings`] once checked.
//!
//! `SecurityOptions` is plain data with the fields, names and defaults of the configuration file. Building it checks
//! everything there is to check, so that [`Settings`] cannot be invalid and enforcement never has to doubt them.
//!
//! ```
//! use taskiq_flow_security::settings::SecurityOptions;
//!
//! let mut options = SecurityOptions::default();
//! options.api_keys = serde_json::from_str(
//!     r#"{"viewer-key": {"role": "viewer", "pipelines": ["a"], "permissions": ["read"]}}"#,
//! ).unwrap();
//! let settings = options.build().unwrap();
//! assert!(settings.require_https());
//! assert!(!settings.redacted().to_string().contains("viewer-key"));
//!
//! let mut options = SecurityOptions::default();
//! options.rate_limit_default = "100 a fortnight".to_owned();
//! assert_eq!(options.build().unwrap_err().field(), "rate_limit_default");
//! ```

mod build;
mod compose;
mod entries;
mod explain;
mod origins;
mod quotas;
mod redact;
#[cfg(test)]
mod tests;
mod tokens;

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::time::Instant;

use http::HeaderMap;
use ipnet::IpNet;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::api_key::KeyRing;
use crate::certificate::CertificateRing;
use crate::https::{ClientInfo, TrustedProxies};
use crate::jwt::jwks::JwksUrl;
use crate::jwt::{JwtAlgorithm, JwtVerifier};
use crate::permission::PermissionSet;
use crate::policy::{Acl, Policy};
use crate::rate_limit::Limit;

pub(crate) use self::build::{check_acl, key_record};
pub use self::entries::{ApiKeyEntry, ApiKeyMap, IssuerEntry, OneOrMany, PublicKeyEntry};
pub use self::explain::{Subject, SubjectError};
pub use self::origins::{AllowedOrigins, OriginError};
pub use self::quotas::QuotaEntry;
pub(crate) use self::quotas::Quotas;
pub use self::tokens::STRONG_SECRET_BYTES;

/// Which credentials are accepted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AuthProvider {
    /// API keys, and tokens too when something to check them with is configured.
    #[default]
    ApiKey,
    /// Tokens only.
    Jwt,
}

/// Which rate-limit buckets a request is counted in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RateLimitKey {
    /// Client address and principal; the tighter decides.
    #[default]
    Both,
    /// Client address only.
    Ip,
    /// Principal only; callers without one are counted by address.
    Principal,
}

/// Whether a WebSocket may be opened before a credential was presented.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HandshakeAuth {
    /// The credential may follow in the `connect` message: browsers cannot set headers.
    #[default]
    Optional,
    /// The handshake itself must carry it.
    Required,
}

/// The security part of the configuration as written; the fields are named as there.
#[derive(Debug, Clone)]
pub struct SecurityOptions {
    /// Off: every request is allowed, HTTPS and rate limits included.
    pub security_enabled: bool,
    /// Which credentials are accepted.
    pub auth_provider: AuthProvider,
    /// The accepted keys.
    pub api_keys: ApiKeyMap,
    /// The client certificates that are a credential, by fingerprint or name.
    pub client_certificates: BTreeMap<String, ApiKeyEntry>,
    /// The shared secret of HS256 tokens.
    pub jwt_secret: Option<SecretString>,
    /// Refuse a secret below [`STRONG_SECRET_BYTES`] instead of warning of it.
    pub require_strong_jwt_secret: bool,
    /// The accepted algorithms; `None` accepts those of the keys that are configured.
    pub jwt_algorithms: Option<Vec<JwtAlgorithm>>,
    /// Public keys that check tokens.
    pub jwt_public_keys: Vec<PublicKeyEntry>,
    /// Where the issuer publishes its keys.
    pub jwks_url: Option<JwksUrl>,
    /// From how old on fetched keys are fetched anew, in seconds.
    pub jwks_refresh_seconds: u64,
    /// From how old on fetched keys are no longer used, in seconds.
    pub jwks_max_age_seconds: u64,
    /// Keys may be fetched from private networks and, by a name that resolves to it, from this machine.
    pub allow_private_jwks: bool,
    /// Accepted `iss`; empty accepts any.
    pub jwt_issuer: Vec<String>,
    /// Accepted `aud`; empty accepts only tokens without one.
    pub jwt_audience: Vec<String>,
    /// The `typ` a token must have, such as `at+jwt`.
    pub jwt_required_type: Option<String>,
    /// Further issuers, each bound to its own keys.
    pub jwt_issuers: Vec<IssuerEntry>,
    /// How far clocks may be apart, in seconds.
    pub jwt_leeway_seconds: u64,
    /// What a token's roles may do where no ACL speaks.
    pub role_permissions: BTreeMap<String, PermissionSet>,
    /// Refuse plain HTTP.
    pub require_https: bool,
    /// The peers whose forwarding headers count.
    pub trusted_proxies: Vec<IpNet>,
    /// A WebSocket upgrade by a trusted proxy that names no protocol does not count as secure.
    pub strict_forwarded_proto: bool,
    /// Who may do what with which pipeline.
    pub pipeline_acls: BTreeMap<String, Acl>,
    /// Off: no request is refused for its rate (invalid credentials still are).
    pub rate_limit_enabled: bool,
    /// The limit of endpoints that no table names.
    pub rate_limit_default: String,
    /// Limits by endpoint name; they replace entries of the guide's table, which otherwise stays.
    pub rate_limits: BTreeMap<String, String>,
    /// What requests are counted by.
    pub rate_limit_key: RateLimitKey,
    /// The limit of invalid credentials per client address; empty for none.
    pub auth_failure_limit: String,
    /// How much pipelines may be asked for: by id, or by a pattern with `*`.
    pub pipeline_quotas: BTreeMap<String, QuotaEntry>,
    /// Off: anonymous WebSocket clients may read pipelines that have no ACL.
    pub websocket_require_auth: bool,
    /// Whether the WebSocket handshake must carry the credential.
    pub websocket_handshake_auth: HandshakeAuth,
    /// Foreign origins whose pages may call the API and open sockets, such as `https://ops.example.com`.
    pub allowed_origins: Vec<String>,
}

impl Default for SecurityOptions {
    fn default() -> Self {
        SecurityOptions {
            security_enabled: true,
            auth_provider: AuthProvider::default(),
            api_keys: ApiKeyMap::default(),
            client_certificates: BTreeMap::new(),
            jwt_secret: None,
            require_strong_jwt_secret: false,
            jwt_algorithms: None,
            jwt_public_keys: Vec::new(),
            jwks_url: None,
            jwks_refresh_seconds: 300,
            jwks_max_age_seconds: 86_400,
            allow_private_jwks: false,
            jwt_issuer: Vec::new(),
            jwt_audience: Vec::new(),
            jwt_required_type: None,
            jwt_issuers: Vec::new(),
            jwt_leeway_seconds: 30,
            role_permissions: BTreeMap::from([("admin".to_owned(), PermissionSet::ALL)]),
            require_https: true,
            trusted_proxies: build::loopback_networks(),
            strict_forwarded_proto: false,
            pipeline_acls: BTreeMap::new(),
            rate_limit_enabled: true,
            rate_limit_default: "100/minute".to_owned(),
            rate_limits: BTreeMap::new(),
            rate_limit_key: RateLimitKey::default(),
            auth_failure_limit: "20/minute".to_owned(),
            pipeline_quotas: BTreeMap::new(),
            websocket_require_auth: true,
            websocket_handshake_auth: HandshakeAuth::default(),
            allowed_origins: Vec::new(),
        }
    }
}

/// Why options are refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {message}")]
pub struct SettingsError {
    field: String,
    message: String,
}

impl SettingsError {
    fn new(field: impl Into<String>, message: impl fmt::Display) -> Self {
        SettingsError { field: field.into(), message: message.to_string() }
    }

    /// The field, with the place in it: `pipeline_acls.etl`, `jwt_public_keys[1].pem`. Never a key.
    pub fn field(&self) -> &str {
        &self.field
    }

    /// What is wrong and what to write instead. Never a secret.
    pub fn message(&self) -> &str {
        &self.message
    }
}

/// How much a warning matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Better otherwise.
    Low,
    /// A weakness.
    Medium,
    /// An open door.
    High,
}

/// What works, but should not be left so. Shown loudly at start and by `security check`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Warning {
    /// What kind of warning it is, such as `https-off`.
    pub id: &'static str,
    /// How much it matters.
    pub severity: Severity,
    /// The field it is about.
    pub field: String,
    /// What is wrong and what to do. Never a secret.
    pub message: String,
}

/// `id` must stand in the catalog of checks (`taskiq_flow::posture`), where a test looks for it.
fn warning(id: &'static str, severity: Severity, field: &str, message: &str) -> Warning {
    Warning { id, severity, field: field.to_owned(), message: message.to_owned() }
}

/// The limits of requests.
#[derive(Debug, Clone)]
pub(crate) struct RateLimits {
    pub(crate) enabled: bool,
    pub(crate) default: Limit,
    pub(crate) by_endpoint: BTreeMap<String, Limit>,
    pub(crate) key: RateLimitKey,
    pub(crate) auth_failure: Option<Limit>,
}

impl RateLimits {
    /// The limit of an endpoint.
    pub(crate) fn of(&self, endpoint: &str) -> &Limit {
        self.by_endpoint.get(endpoint).unwrap_or(&self.default)
    }
}

/// Checked settings. They never change; a new configuration makes new ones, which the guard swaps in whole.
#[derive(Debug, Clone)]
pub struct Settings {
    pub(crate) enabled: bool,
    pub(crate) provider: AuthProvider,
    pub(crate) keys: KeyRing,
    pub(crate) certificates: CertificateRing,
    pub(crate) tokens: Option<JwtVerifier>,
    pub(crate) policy: Policy,
    pub(crate) require_https: bool,
    pub(crate) trusted_proxies: TrustedProxies,
    pub(crate) strict_forwarded_proto: bool,
    pub(crate) limits: RateLimits,
    pub(crate) quotas: Quotas,
    pub(crate) websocket_require_auth: bool,
    pub(crate) handshake_auth: HandshakeAuth,
    pub(crate) origins: AllowedOrigins,
    warnings: Vec<Warning>,
    redacted: serde_json::Value,
}

impl Settings {
    /// Whether anything is enforced at all.
    pub fn security_enabled(&self) -> bool {
        self.enabled
    }

    /// Which credentials are accepted.
    pub fn auth_provider(&self) -> AuthProvider {
        self.provider
    }

    /// The accepted keys.
    pub fn keys(&self) -> &KeyRing {
        &self.keys
    }

    /// The client certificates that are a credential.
    pub fn certificates(&self) -> &CertificateRing {
        &self.certificates
    }

    /// What checks tokens; `None` when tokens are not accepted.
    pub fn tokens(&self) -> Option<&JwtVerifier> {
        self.tokens.as_ref()
    }

    /// Goes on with the keys that `earlier` settings have fetched.
    pub(crate) fn take_over_key_sources(&mut self, earlier: &Settings) {
        if let (Some(tokens), Some(earlier)) = (&mut self.tokens, &earlier.tokens) {
            tokens.take_over_sources(earlier);
        }
    }

    /// Begins to fetch the keys that issuers publish; the time of each change of them is told to `changes`.
    pub(crate) fn start_key_sources(&self, changes: &watch::Sender<Instant>) {
        if !self.enabled {
            return;
        }
        for source in self.tokens.iter().flat_map(JwtVerifier::sources) {
            let changes = changes.clone();
            source.start(move || _ = changes.send_replace(Instant::now()));
        }
    }

    /// Who may do what.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Whether plain HTTP is refused (never while security is off).
    pub fn require_https(&self) -> bool {
        self.enabled && self.require_https
    }

    /// The peers whose forwarding headers count.
    pub fn trusted_proxies(&self) -> &TrustedProxies {
        &self.trusted_proxies
    }

    /// Whether a WebSocket upgrade needs the protocol named by the proxy.
    pub fn strict_forwarded_proto(&self) -> bool {
        self.strict_forwarded_proto
    }

    /// Who is at the other end of a request, and whether it came by TLS.
    pub fn client_info(
        &self,
        peer: IpAddr,
        native_tls: bool,
        headers: &HeaderMap,
        upgrade: bool,
    ) -> ClientInfo {
        self.trusted_proxies.client_info(peer, native_tls, headers, upgrade, self.strict_forwarded_proto)
    }

    /// The limit of an endpoint, whether or not limits are enforced.
    pub fn limit_of(&self, endpoint: &str) -> &Limit {
        self.limits.of(endpoint)
    }

    /// Foreign origins that are welcome.
    pub fn allowed_origins(&self) -> &AllowedOrigins {
        &self.origins
    }

    /// What should not be left so, gravest first.
    pub fn warnings(&self) -> &[Warning] {
        &self.warnings
    }

    /// Whether requests are refused for their rate.
    pub fn rate_limits_enforced(&self) -> bool {
        self.enabled && self.limits.enabled
    }

    /// The settings for `GET /security/config`: every field, secrets replaced by `"[redacted]"`, keys by their ids.
    pub fn redacted(&self) -> &serde_json::Value {
        &self.redacted
    }
}
