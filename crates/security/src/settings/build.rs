//! From options to settings: every check, each naming its field and the fix.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::{
    AllowedOrigins, ApiKeyEntry, AuthProvider, HandshakeAuth, Quotas, RateLimits, SecurityOptions, Settings,
    SettingsError, Severity, Warning, redact, tokens, warning,
};
use crate::api_key::{DIGEST_PREFIX, KeyDigest, KeyRecord, KeyRing};
use crate::certificate::{CertificateName, CertificateRing};
use crate::guard::endpoint;
use crate::https::TrustedProxies;
use crate::jwt::JwtVerifier;
use crate::networks::Networks;
use crate::policy::{Acl, Policy};
use crate::rate_limit::{Limit, guide_limits};
use crate::whitelist::Whitelist;

/// A raw key below this many characters can be guessed; generated ones have 47.
const STRONG_KEY_CHARS: usize = 20;

/// Longest key id and role, in characters.
const MAX_NAME: usize = 128;

pub(super) fn loopback_networks() -> Vec<IpNet> {
    vec![
        IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(127, 0, 0, 0), 8)),
        IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::LOCALHOST, 128)),
    ]
}

impl SecurityOptions {
    /// Checks the options.
    ///
    /// # Errors
    /// The first field that cannot be, with what to write instead.
    pub fn build(self) -> Result<Settings, SettingsError> {
        let mut warnings = Vec::new();
        let keys = self.build_keys(&mut warnings)?;
        let certificates = self.build_certificates(&mut warnings)?;
        let tokens = tokens::build(&self, &mut warnings)?;
        let policy = self.build_policy()?;
        let limits = self.build_limits(&mut warnings)?;
        let quotas = Quotas::build(&self.pipeline_quotas).map_err(|(name, error)| {
            SettingsError::new(format!("pipeline_quotas.{}", name.escape_debug()), error)
        })?;
        let origins = AllowedOrigins::parse(&self.allowed_origins)
            .map_err(|(at, error)| SettingsError::new(format!("allowed_origins[{at}]"), error))?;
        self.warn(&keys, tokens.as_ref(), &mut warnings);
        warnings.sort_by_key(|warning| std::cmp::Reverse(warning.severity));
        let redacted = redact::redacted(&self, &keys, &certificates, &limits, tokens.as_ref(), &origins);
        Ok(Settings {
            enabled: self.security_enabled,
            provider: self.auth_provider,
            keys,
            certificates,
            tokens,
            policy,
            require_https: self.require_https,
            trusted_proxies: TrustedProxies::new(self.trusted_proxies),
            strict_forwarded_proto: self.strict_forwarded_proto,
            limits,
            quotas,
            websocket_require_auth: self.websocket_require_auth,
            handshake_auth: self.websocket_handshake_auth,
            origins,
            warnings,
            redacted,
        })
    }

    fn build_keys(&self, warnings: &mut Vec<Warning>) -> Result<KeyRing, SettingsError> {
        let mut records = Vec::with_capacity(self.api_keys.len());
        for (text, entry) in self.api_keys.iter() {
            let digest = KeyDigest::from_config(text).map_err(|error| {
                // The text itself must not be shown; the entry's own name says which one it is.
                let name = entry.id.as_ref().or(entry.role.as_ref()).map_or("?", String::as_str);
                SettingsError::new("api_keys", format!("{error} (the entry of `{}`)", name.escape_debug()))
            })?;
            let id = entry.id.clone().unwrap_or_else(|| digest.default_id());
            if KeyDigest::of(&id) == digest {
                // Without the id, which is the key.
                let message = "a key's `id` is the key itself, and ids are printed; write a name";
                return Err(SettingsError::new("api_keys", message));
            }
            let record = key_record(digest, id.clone(), entry)
                .map_err(|fault| fault.under(&format!("api_keys.{}", id.escape_debug())))?;
            let field = format!("api_keys.{id}");
            if !text.starts_with(DIGEST_PREFIX) && text.len() < STRONG_KEY_CHARS {
                let message = "the key is short enough to be guessed; make one with `taskiq-flow key new`";
                warnings.push(warning("key-guessable", Severity::Medium, &field, message));
            }
            if record.permissions.is_empty() {
                let message =
                    "the key has no `permissions` and can do nothing; list `read`, `execute` or `admin`";
                warnings.push(warning("key-without-permission", Severity::Low, &field, message));
            }
            records.push(record);
        }
        KeyRing::new(records).map_err(|error| SettingsError::new("api_keys", error))
    }

    fn build_certificates(&self, warnings: &mut Vec<Warning>) -> Result<CertificateRing, SettingsError> {
        const FIELD: &str = "client_certificates";
        let mut entries = Vec::with_capacity(self.client_certificates.len());
        for (text, entry) in &self.client_certificates {
            let name: CertificateName = text.parse().map_err(|error| SettingsError::new(FIELD, error))?;
            let id = entry.id.clone().unwrap_or_else(|| name.to_string());
            let record = key_record(KeyDigest::of(text), id.clone(), entry)
                .map_err(|fault| fault.under(&format!("{FIELD}.{}", id.escape_debug())))?;
            if record.permissions.is_empty() {
                let message = "the certificate has no `permissions` and can do nothing; list `read`, `execute` or `admin`";
                warnings.push(warning(
                    "key-without-permission",
                    Severity::Low,
                    &format!("{FIELD}.{}", record.id),
                    message,
                ));
            }
            entries.push((name, record));
        }
        if !entries.is_empty() && self.auth_provider == AuthProvider::Jwt {
            let message = "the certificates are not used while `auth_provider` is \"jwt\"";
            warnings.push(warning("keys-unused", Severity::Low, FIELD, message));
        }
        CertificateRing::new(entries).map_err(|twice| {
            SettingsError::new(
                FIELD,
                format!("`{twice}` stands twice; keep one entry, and give each its own `id`"),
            )
        })
    }

    fn build_policy(&self) -> Result<Policy, SettingsError> {
        for (pipeline, acl) in &self.pipeline_acls {
            let field = format!("pipeline_acls.{pipeline}");
            check_acl(&field, pipeline, acl)?;
        }
        for role in self.role_permissions.keys() {
            let place =
                |message| SettingsError::new(format!("role_permissions.{}", role.escape_debug()), message);
            check_name("role", role).map_err(place)?;
        }
        let policy = Policy::new(self.pipeline_acls.clone(), self.role_permissions.clone());
        Ok(policy.with_anonymous_read(!self.websocket_require_auth).danger_open(!self.security_enabled))
    }

    fn build_limits(&self, warnings: &mut Vec<Warning>) -> Result<RateLimits, SettingsError> {
        let parse =
            |field: &str, text: &str| text.parse::<Limit>().map_err(|error| SettingsError::new(field, error));
        let mut by_endpoint: BTreeMap<String, Limit> =
            guide_limits().into_iter().map(|(name, limit)| (name.to_owned(), limit)).collect();
        for (name, text) in &self.rate_limits {
            let field = format!("rate_limits.{name}");
            if !endpoint::ALL.contains(&name.as_str()) {
                let message =
                    format!("no endpoint has that name; the names are {}", endpoint::ALL.join(", "));
                warnings.push(warning("limit-unknown-endpoint", Severity::Low, &field, &message));
            }
            by_endpoint.insert(name.clone(), parse(&field, text)?);
        }
        let auth_failure = match self.auth_failure_limit.trim() {
            "" => None,
            text => Some(parse("auth_failure_limit", text)?),
        };
        Ok(RateLimits {
            enabled: self.rate_limit_enabled,
            default: parse("rate_limit_default", &self.rate_limit_default)?,
            by_endpoint,
            key: self.rate_limit_key,
            auth_failure,
        })
    }

    fn warn(&self, keys: &KeyRing, tokens: Option<&JwtVerifier>, warnings: &mut Vec<Warning>) {
        let mut warn = |id, severity, field, message| warnings.push(warning(id, severity, field, message));
        if !self.security_enabled {
            warn(
                "security-off",
                Severity::High,
                "security_enabled",
                "security is OFF: anybody may read, execute and administer",
            );
            return;
        }
        let keys_count = self.auth_provider == AuthProvider::ApiKey
            && !(keys.is_empty() && self.client_certificates.is_empty());
        if !keys_count && tokens.is_none() {
            let message = "nobody can authenticate: there is neither a key nor anything to check tokens with; \
                           `taskiq-flow key new` makes a key";
            warn("nobody-can-authenticate", Severity::Medium, "api_keys", message);
        }
        if self.auth_provider == AuthProvider::Jwt && !keys.is_empty() {
            let message = "the keys are not used while `auth_provider` is \"jwt\"";
            warn("keys-unused", Severity::Low, "api_keys", message);
        }
        if !self.require_https {
            warn(
                "https-off",
                Severity::Medium,
                "require_https",
                "plain HTTP is accepted: credentials can be read on the way",
            );
        }
        if self.trusted_proxies.iter().any(|network| network.prefix_len() == 0) {
            let message = "every peer is trusted to say where a request comes from and that it was secure; \
                           list your proxies only";
            warn("proxies-everybody", Severity::High, "trusted_proxies", message);
        }
        if !self.rate_limit_enabled {
            let message = "no request is refused for its rate";
            warn("limits-off", Severity::Medium, "rate_limit_enabled", message);
        }
        if self.auth_failure_limit.trim().is_empty() {
            warn(
                "guessing-unlimited",
                Severity::Medium,
                "auth_failure_limit",
                "credentials may be guessed at any rate; \"20/minute\" stops it",
            );
        }
        if !self.websocket_require_auth {
            let message = "anybody may watch the pipelines that have no ACL";
            warn("sockets-anonymous", Severity::Medium, "websocket_require_auth", message);
            if self.websocket_handshake_auth == HandshakeAuth::Required {
                let message =
                    "\"required\" refuses the anonymous clients that `websocket_require_auth` lets in";
                warn("handshake-contradicts", Severity::Low, "websocket_handshake_auth", message);
            }
        }
    }
}

/// What is wrong with what is said of a key.
#[derive(Debug)]
pub(crate) struct EntryFault {
    /// The field of the entry.
    pub(crate) field: &'static str,
    pub(crate) message: String,
}

impl EntryFault {
    fn new(field: &'static str, message: impl ToString) -> Self {
        EntryFault { field, message: message.to_string() }
    }

    /// As a fault of the configuration, whose entry stands at `place`.
    fn under(self, place: &str) -> SettingsError {
        match self.field {
            "id" | "role" => SettingsError::new(place, self.message),
            field => SettingsError::new(format!("{place}.{field}"), self.message),
        }
    }
}

/// A key that was said to be so: every check of what it may do.
pub(crate) fn key_record(
    digest: KeyDigest,
    id: String,
    entry: &ApiKeyEntry,
) -> Result<KeyRecord, EntryFault> {
    check_name("id", &id).map_err(|message| EntryFault::new("id", message))?;
    let mut roles: Vec<String> = entry.role.iter().chain(&entry.roles).cloned().collect();
    for role in &roles {
        check_name("role", role).map_err(|message| EntryFault::new("role", message))?;
    }
    roles.dedup();
    let whitelist = Whitelist::parse(entry.pipelines.as_deref().unwrap_or_default())
        .map_err(|error| EntryFault::new("pipelines", error))?;
    if roles.is_empty() {
        return Err(EntryFault::new("role", "the key has no role; write `role`, such as \"viewer\""));
    }
    if entry.allowed_ips.as_ref().is_some_and(Networks::is_empty) {
        let message =
            "the list is empty, so that the key could be used from nowhere; name networks, or leave it out";
        return Err(EntryFault::new("allowed_ips", message));
    }
    Ok(KeyRecord {
        whitelist,
        permissions: entry.permissions,
        expires_at: entry.expires_at,
        allowed_ips: entry.allowed_ips.clone(),
        ..KeyRecord::new(digest, id, roles)
    })
}

fn check_name(what: &str, name: &str) -> Result<(), String> {
    let usable = !name.is_empty() && name.chars().count() <= MAX_NAME && !name.chars().any(char::is_control);
    if usable {
        return Ok(());
    }
    Err(format!("the {what} must have 1 to {MAX_NAME} characters and no control characters"))
}

/// An ACL that could never take effect would leave open what its author thinks closed: refused.
pub(crate) fn check_acl(field: &str, pipeline: &str, acl: &Acl) -> Result<(), SettingsError> {
    if pipeline.is_empty() || pipeline.chars().any(char::is_control) {
        return Err(SettingsError::new(
            "pipeline_acls",
            "an entry names no pipeline; write the pipeline's id",
        ));
    }
    if pipeline.contains('*') {
        let message = "`*` is not understood here and would protect nothing; write one entry per pipeline";
        return Err(SettingsError::new(field, message));
    }
    for (permission, roles) in acl.lists() {
        for role in roles {
            let place = |message| SettingsError::new(format!("{field}.{permission}"), message);
            check_name("role", role).map_err(place)?;
        }
    }
    Ok(())
}
