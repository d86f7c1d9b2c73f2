//! What the other parts of the program are given.

use std::path::PathBuf;

use secrecy::SecretString;
use taskiq_flow_engine::Webhook;
use taskiq_flow_security::audit::AuditOptions;
use taskiq_flow_security::jwt::jwks::JwksUrl;
use taskiq_flow_security::rate_limit::OnStorageError;
use taskiq_flow_security::settings::{SecurityOptions, Settings};

use super::audit;
use super::error::{ConfigError, Origin};
use super::fields::TaskiqFlowConfig;
use super::mistake::Mistake;
use super::types::RateLimitOnError;
use super::webhooks::webhooks;
use crate::tls::TlsFiles;

/// Where runs are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum StoreTarget {
    /// In memory, until the program ends.
    Memory,
    /// In one file.
    Sqlite {
        /// The file.
        path: PathBuf,
    },
}

/// Where requests are counted.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum RateLimitStorage {
    /// In this process.
    Memory,
    /// In a Redis server that all replicas share.
    Redis(SecretString),
}

impl TaskiqFlowConfig {
    /// Checks the whole configuration. One that [`Sources`](super::Sources) made has been checked; one that a builder
    /// made has not.
    ///
    /// # Errors
    /// The first field that cannot be, and what to write instead.
    pub fn validate(&self) -> Result<(), ConfigError> {
        self.check().map_err(|found| ConfigError::of_mistake(found.mistake, found.field, Origin::Program))
    }

    /// Checked settings for the security crate.
    ///
    /// # Errors
    /// The first field that cannot be, and what to write instead.
    pub fn security_settings(&self) -> Result<Settings, ConfigError> {
        self.settings().map_err(|found| ConfigError::of_mistake(found.mistake, found.field, Origin::Program))
    }

    /// Where audit records go, and how checkpoints of them are signed. Reads the files of the keys.
    ///
    /// # Errors
    /// The first field that cannot be, and what to write instead.
    pub fn audit_options(&self) -> Result<AuditOptions, ConfigError> {
        audit::options(self)
            .map_err(|found| ConfigError::of_mistake(found.mistake, found.field, Origin::Program))
    }

    /// Where runs are kept.
    ///
    /// # Errors
    /// `store_url` names something this build has not got.
    pub fn store_target(&self) -> Result<StoreTarget, ConfigError> {
        store_target(self).map_err(|mistake| ConfigError::of_mistake(mistake, "store_url", Origin::Program))
    }

    /// Where requests are counted.
    ///
    /// # Errors
    /// `rate_limit_storage` names something this build has not got.
    pub fn rate_limit_storage_target(&self) -> Result<RateLimitStorage, ConfigError> {
        rate_limit_storage(self)
            .map_err(|mistake| ConfigError::of_mistake(mistake, "rate_limit_storage", Origin::Program))
    }

    /// Who is told of events over HTTP.
    ///
    /// # Errors
    /// The first entry of `webhooks` that cannot be, and what to write instead.
    pub fn webhooks(&self) -> Result<Vec<Webhook>, ConfigError> {
        webhooks(self).map_err(|mistake| ConfigError::of_mistake(mistake, "webhooks", Origin::Program))
    }

    /// The files that TLS is served with; none: plain HTTP.
    pub fn tls_files(&self) -> Option<TlsFiles> {
        let (certificate, key) = (self.tls_cert.clone()?, self.tls_key.clone()?);
        Some(TlsFiles {
            certificate,
            key,
            client_ca: self.tls_client_ca.clone(),
            client_auth: self.tls_client_auth,
        })
    }

    /// What becomes of a request while the shared storage does not answer.
    pub fn on_storage_error(&self) -> OnStorageError {
        match self.rate_limit_on_error {
            RateLimitOnError::Local => OnStorageError::Local,
            RateLimitOnError::Deny => OnStorageError::Deny,
        }
    }

    pub(super) fn to_security_options(&self) -> SecurityOptions {
        SecurityOptions {
            security_enabled: self.security_enabled,
            auth_provider: self.auth_provider,
            api_keys: self.api_keys.to_map(),
            client_certificates: self.client_certificates.to_map(),
            jwt_secret: self.jwt_secret.clone(),
            require_strong_jwt_secret: self.require_strong_jwt_secret,
            jwt_algorithms: self.jwt_algorithms.clone(),
            jwt_public_keys: self.jwt_public_keys.clone(),
            jwks_url: self.jwks_url.as_ref().map(|url| JwksUrl::from(url.expose())),
            jwks_refresh_seconds: u64::from(self.jwks_refresh_seconds),
            jwks_max_age_seconds: u64::from(self.jwks_max_age_seconds),
            allow_private_jwks: self.allow_private_jwks,
            jwt_issuer: self.jwt_issuer.as_slice().to_vec(),
            jwt_audience: self.jwt_audience.as_slice().to_vec(),
            jwt_required_type: self.jwt_required_type.clone(),
            jwt_issuers: self.jwt_issuers.clone(),
            jwt_leeway_seconds: u64::from(self.jwt_leeway_seconds),
            role_permissions: self.role_permissions.clone(),
            require_https: self.require_https,
            trusted_proxies: self.trusted_proxies.clone(),
            strict_forwarded_proto: self.strict_forwarded_proto,
            pipeline_acls: self.pipeline_acls.clone(),
            rate_limit_enabled: self.rate_limit_enabled,
            rate_limit_default: self.rate_limit_default.clone(),
            rate_limits: self.rate_limits.clone(),
            rate_limit_key: self.rate_limit_key,
            auth_failure_limit: self.auth_failure_limit.clone(),
            pipeline_quotas: self.pipeline_quotas.clone(),
            websocket_require_auth: self.websocket_require_auth,
            websocket_handshake_auth: self.websocket_handshake_auth,
            allowed_origins: self.allowed_origins.clone(),
        }
    }
}

pub(super) fn store_target(config: &TaskiqFlowConfig) -> Result<StoreTarget, Mistake> {
    let url = &config.store_url;
    let forms = "be \"memory:\" or \"sqlite:PATH\"";
    match url.scheme().as_str() {
        "memory" => Ok(StoreTarget::Memory),
        "postgres" | "postgresql" => {
            Err(Mistake::is("names PostgreSQL, but this version does not keep runs there")
                .help("write \"sqlite:PATH\""))
        }
        "sqlite" if !cfg!(feature = "sqlite") => {
            Err(Mistake::is("names SQLite, which this build has not got")
                .help("build with the feature `sqlite`"))
        }
        "sqlite" => {
            let rest = url.expose().split_once(':').map_or("", |(_, rest)| rest);
            match rest.strip_prefix("//").unwrap_or(rest) {
                "" => Err(Mistake::must(forms).help("name the file after `sqlite:`")),
                ":memory:" => Err(Mistake::must(forms).help("write \"memory:\" to keep nothing on disk")),
                path => Ok(StoreTarget::Sqlite { path: path.into() }),
            }
        }
        _ => Err(Mistake::must(forms)),
    }
}

pub(super) fn rate_limit_storage(config: &TaskiqFlowConfig) -> Result<RateLimitStorage, Mistake> {
    let url = &config.rate_limit_storage;
    match url.scheme().as_str() {
        "memory" => Ok(RateLimitStorage::Memory),
        "redis" | "rediss" if !cfg!(feature = "redis") => {
            Err(Mistake::is("names Redis, which this build has not got")
                .help("build with the feature `redis`, or write \"memory\""))
        }
        "redis" | "rediss" if url.expose().contains("://") => Ok(RateLimitStorage::Redis(url.to_secret())),
        _ => Err(Mistake::must("be \"memory\" or an address such as \"redis://127.0.0.1:6379/0\"")),
    }
}
