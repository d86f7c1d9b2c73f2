//! The configuration: one flat list of fields with the names and defaults of the security guide.
//!
//! ```
//! use taskiq_flow::config::{ApiKey, Permission, PipelineAcl, TaskiqFlowConfig};
//!
//! let config = TaskiqFlowConfig::builder()
//!     .security_enabled(true)
//!     .api_keys([
//!         ("admin-key", ApiKey::new("admin").permissions([Permission::Read, Permission::Execute, Permission::Admin])),
//!         ("viewer-key", ApiKey::new("viewer").pipelines(["pipeline1"]).permissions([Permission::Read])),
//!     ])
//!     .jwt_secret("your-jwt-secret")
//!     .require_https(true)
//!     .pipeline_acls([(
//!         "pipeline1",
//!         PipelineAcl::new()
//!             .allow(Permission::Read, ["admin", "viewer"])
//!             .allow(Permission::Execute, ["admin"]),
//!     )])
//!     .rate_limit_default("100/minute")
//!     .websocket_max_connections(1000)
//!     .build();
//! config.validate()?;
//! assert!(!format!("{config:?}").contains("viewer-key"));
//! # Ok::<(), taskiq_flow::config::ConfigError>(())
//! ```
//!
//! [`Sources`] reads the same fields from a TOML, YAML or JSON file, from environment variables (`TASKIQ_FLOW_` and the
//! field in capitals; maps and lists as JSON text) and from flags; a later source wins. Any text value may be
//! `file:/path`: the value is then what that file holds, without the line break at its end.
//!
//! A value that is of the wrong kind, not possible, or not supported by this version is refused, and so is a field
//! that is not known. The [message](ConfigError) names the source and the field and never holds a secret.
//!
//! Caveats: what a builder made is only checked by [`TaskiqFlowConfig::validate`] and by the conversions, and `file:`
//! values are only read by [`Sources`].

mod audit;
mod audit_log;
mod check;
mod convert;
mod error;
#[allow(missing_debug_implementations, reason = "the marker types of the generated builder have no values")]
mod fields;
mod keys;
mod kind;
mod layer;
mod mistake;
mod raw;
mod reading;
mod sources;
#[cfg(test)]
mod tests;
mod types;
mod url;
mod value;
mod webhooks;

pub use ipnet::IpNet;
pub use secrecy::SecretString;
pub use taskiq_flow_engine::WebhookSpec;
pub use taskiq_flow_security::jwt::JwtAlgorithm;
pub use taskiq_flow_security::jwt::jwks::JwksUrl;
pub use taskiq_flow_security::permission::{Permission, PermissionSet};
pub use taskiq_flow_security::policy::Acl;
pub use taskiq_flow_security::settings::{
    ApiKeyEntry, AuthProvider, HandshakeAuth, IssuerEntry, PublicKeyEntry, QuotaEntry, RateLimitKey,
};

pub use self::audit_log::{AuditLog, AuditTarget};
pub use self::convert::{RateLimitStorage, StoreTarget};
pub use self::error::{ConfigError, Origin};
pub use self::fields::{FieldInfo, TaskiqFlowConfig, TaskiqFlowConfigBuilder, fields};
pub use self::keys::{ApiKey, ApiKeys, ClientCertificates};
pub use self::sources::{COMMAND_LINE_VARIABLES, ConfigWarning, DEFAULT_FILE, Loaded, Sources};
pub use self::types::{
    AuditMode, Durability, LogFormat, PipelineAcl, RateLimitOnError, ResourceAmount, Texts, TlsClientAuth,
};
pub use self::url::ServiceUrl;
