//! The fields: one list that the struct, its builder, the decoding, the names of environment variables, the redacted
//! view and the reference page are made from. A new field is a new entry here, and its use.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::sync::LazyLock;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use secrecy::SecretString;
use serde::Serialize;
use serde_json::Value;
use taskiq_flow_engine::WebhookSpec;
use taskiq_flow_security::jwt::JwtAlgorithm;
use taskiq_flow_security::permission::{Permission, PermissionSet};
use taskiq_flow_security::policy::Acl;
use taskiq_flow_security::settings::{
    ApiKeyEntry, AuthProvider, HandshakeAuth, IssuerEntry, PublicKeyEntry, QuotaEntry, RateLimitKey,
};

use super::audit_log::{AuditLog, AuditTarget};
use super::keys::{ApiKeys, ClientCertificates};
use super::kind::Kind;
use super::mistake::Mistake;
use super::raw::Raw;
use super::types::{
    AuditMode, Durability, LogFormat, RateLimitOnError, ResourceAmount, Texts, TlsClientAuth,
};
use super::url::ServiceUrl;
use super::value::FieldValue;

/// What the names of all environment variables begin with.
pub(super) const ENV_PREFIX: &str = "TASKIQ_FLOW_";

/// Other names of fields, each with the name it stands for.
pub(super) const ALIASES: [(&str, &str); 2] =
    [("websocket_ssl_cert", "tls_cert"), ("websocket_ssl_key", "tls_key")];

/// One field as the loader uses it.
pub(super) struct Field {
    pub(super) name: &'static str,
    section: &'static str,
    doc: &'static str,
    pub(super) kind: Kind,
    pub(super) secret: bool,
    pub(super) set: fn(&mut TaskiqFlowConfig, &Raw) -> Result<(), Mistake>,
    get: fn(&TaskiqFlowConfig) -> Value,
}

/// One field as the reference shows it.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct FieldInfo {
    /// Its name in files.
    pub name: &'static str,
    /// The part of the reference it stands in.
    pub section: &'static str,
    /// What kind of value it takes, in words.
    pub kind: String,
    /// Its value when no source has it, as JSON; null: none.
    pub default: Value,
    /// What it means.
    pub doc: &'static str,
    /// Its environment variable.
    pub env: String,
    /// Its other name, if it has one.
    pub alias: Option<&'static str>,
    /// Whether its value is never shown.
    pub secret: bool,
}

macro_rules! fields {
    ($(
        $section:literal {
            $(
                $(#[doc = $doc:literal])+
                $(@with { $($with:tt)+ })?
                $name:ident: $type:ty $(= $default:expr)?;
            )+
        }
    )+) => {
        /// Everything that can be configured, flat, with the names and defaults of the security guide.
        ///
        /// See the [module](super) for where values come from.
        #[derive(Clone, bon::Builder)]
        #[builder(derive(Debug), on(String, into), on(SecretString, into), on(ServiceUrl, into), on(PathBuf, into), on(Texts, into))]
        #[non_exhaustive]
        pub struct TaskiqFlowConfig {
            $($(
                $(#[doc = $doc])+
                $(#[builder(default = $default)])?
                $(#[builder(with = $($with)+)])?
                pub $name: $type,
            )+)+
        }

        /// All fields, in the order of the reference.
        pub(super) const FIELDS: &[Field] = &[
            $($(
                Field {
                    name: stringify!($name),
                    section: $section,
                    doc: concat!($($doc, "\n"),+),
                    kind: <$type as FieldValue>::KIND,
                    secret: <$type as FieldValue>::SECRET,
                    set: |config, raw| {
                        config.$name = <$type as FieldValue>::decode(raw)?;
                        Ok(())
                    },
                    get: |config| config.$name.show(),
                },
            )+)+
        ];
    };
}

fields! {
    "Server" {
        /// The address to listen on: an IP address or a host name.
        host: String = "127.0.0.1".to_owned();
        /// The port to listen on; 0 takes a free one.
        port: u16 = 8000;
        /// The longest body of a request, in bytes.
        max_body_bytes: usize = 1 << 20;
        /// How many connections may be open at once, WebSockets included; further ones wait.
        max_connections: usize = 8192;
        /// How many connections one address may have open at once, IPv6 by /64; further ones are closed. Those in
        /// `trusted_proxies` may have any number: they carry connections of others.
        max_connections_per_address: usize = 256;
        /// Web pages of these origins may call the API and open WebSockets, beside the server's own.
        @with { |origins: impl IntoIterator<Item = impl Into<String>>| origins.into_iter().map(Into::into).collect() }
        allowed_origins: Vec<String> = Vec::new();
    }
    "Security" {
        /// Whether requests are checked at all. Off, everything is open to everybody, and the server says so loudly.
        security_enabled: bool = true;
        /// Which credentials are accepted: API keys (and tokens, where something to check them with is configured),
        /// or tokens only.
        auth_provider: AuthProvider = AuthProvider::ApiKey;
        /// The accepted API keys. The name of an entry is the key itself, or `sha256:` and the hex digest of it; the
        /// entry says its role, pipelines and permissions, and perhaps when it expires and what logs call it.
        @with { |keys: impl IntoIterator<Item = (impl Into<SecretString>, impl Into<ApiKeyEntry>)>| keys.into_iter().collect() }
        api_keys: ApiKeys = ApiKeys::default();
        /// The client certificates that are a credential, beside keys and tokens. The name of an entry is `sha256:` and
        /// the fingerprint of the certificate, `uri:…`, `dns:…` or `email:…` of its alternative names, or `CN=…` of its
        /// subject; the entry is as that of a key. Who signs them, says `tls_client_ca`.
        @with { |certificates: impl IntoIterator<Item = (impl Into<String>, impl Into<ApiKeyEntry>)>| certificates.into_iter().collect() }
        client_certificates: ClientCertificates = ClientCertificates::default();
        /// What a role of a token may do where no ACL speaks.
        @with { |roles: impl IntoIterator<Item = (impl Into<String>, Vec<Permission>)>| {
            roles.into_iter().map(|(role, permissions)| (role.into(), PermissionSet::from(permissions))).collect()
        } }
        role_permissions: BTreeMap<String, PermissionSet> = BTreeMap::from([("admin".to_owned(), PermissionSet::ALL)]);
        /// Who may do what with a pipeline: for each permission the roles that have it.
        @with { |acls: impl IntoIterator<Item = (impl Into<String>, impl Into<Acl>)>| {
            acls.into_iter().map(|(pipeline, acl)| (pipeline.into(), acl.into())).collect()
        } }
        pipeline_acls: BTreeMap<String, Acl> = BTreeMap::new();
        /// Danger: whether a pipeline that starts processes may be registered over the API. Whoever may do that can
        /// run any program as the server's user.
        allow_remote_commands: bool = false;
    }
    "Tokens (JWT)" {
        /// The shared secret of HS256 tokens: at least 32 random bytes. A shorter one works, with a loud warning.
        jwt_secret: Option<SecretString>;
        /// Whether a `jwt_secret` of fewer than 32 bytes is refused at start.
        require_strong_jwt_secret: bool = false;
        /// The accepted algorithms. Not set: HS256 for `jwt_secret`, those of `jwt_public_keys`, and every one with a
        /// public key for fetched keys.
        @with { |algorithms: impl IntoIterator<Item = JwtAlgorithm>| algorithms.into_iter().collect() }
        jwt_algorithms: Option<Vec<JwtAlgorithm>>;
        /// Public keys that check tokens, each for one algorithm.
        @with { |keys: impl IntoIterator<Item = PublicKeyEntry>| keys.into_iter().collect() }
        jwt_public_keys: Vec<PublicKeyEntry> = Vec::new();
        /// Where the issuer publishes its keys (JWKS): an `https://` address, or `http://` on this machine. They are
        /// fetched in the background and kept fresh; until they are there, tokens are refused.
        jwks_url: Option<ServiceUrl>;
        /// From how old on fetched keys are fetched anew, in seconds; the issuer's `Cache-Control: max-age` can ask for
        /// it sooner, down to 60 seconds.
        jwks_refresh_seconds: u32 = 300;
        /// From how old on fetched keys are no longer used, in seconds: for so long tokens pass while their issuer does
        /// not answer.
        jwks_max_age_seconds: u32 = 86_400;
        /// Whether keys may be fetched from private networks, and by names that resolve to this machine. Link-local
        /// addresses, where clouds keep credentials, are never reached.
        allow_private_jwks: bool = false;
        /// The issuer a token must name (`iss`), or several. Not set: any.
        jwt_issuer: Texts = Texts::default();
        /// The audience a token must name (`aud`), or several. Not set: only tokens without one are accepted.
        jwt_audience: Texts = Texts::default();
        /// The type a token must have (`typ`), such as `at+jwt` for access tokens of RFC 9068, which must then have all
        /// that it asks for. Not set: `JWT`, `at+jwt` or none.
        jwt_required_type: Option<String>;
        /// Further issuers, each bound to its own keys: a token that names one of them passes with a key of that one
        /// only.
        @with { |issuers: impl IntoIterator<Item = IssuerEntry>| issuers.into_iter().collect() }
        jwt_issuers: Vec<IssuerEntry> = Vec::new();
        /// How far the clocks of issuer and server may be apart, in seconds; at most 600.
        jwt_leeway_seconds: u32 = 30;
    }
    "HTTPS" {
        /// Whether plain HTTP requests are refused (403).
        require_https: bool = true;
        /// The networks of your reverse proxies. Only from these peers do `Forwarded`, `X-Forwarded-*` and `X-Real-IP` count.
        @with { |networks: impl IntoIterator<Item = IpNet>| networks.into_iter().collect() }
        trusted_proxies: Vec<IpNet> = loopback();
        /// Whether a WebSocket upgrade through a trusted proxy needs `X-Forwarded-Proto` to count as secure. Off,
        /// `X-Real-IP` or `X-Forwarded-For` will do, which is what the guide's nginx site sends.
        strict_forwarded_proto: bool = false;
        /// The server's certificate and those that signed it, a PEM file with the server's own first. With it and
        /// `tls_key` the server speaks TLS itself. Changed files are read again within seconds, and on SIGHUP.
        tls_cert: Option<PathBuf>;
        /// The key of `tls_cert`, a PEM file without passphrase, readable for the server alone.
        tls_key: Option<PathBuf>;
        /// The authorities that sign certificates of clients, a PEM file: with it, TLS is mutual.
        tls_client_ca: Option<PathBuf>;
        /// Whether a client without such a certificate is refused by the handshake, or may come with another credential.
        /// Refused without `tls_client_ca`.
        tls_client_auth: TlsClientAuth = TlsClientAuth::Required;
    }
    "Rate limits" {
        /// Whether requests are limited. Invalid credentials are limited either way, by `auth_failure_limit`.
        rate_limit_enabled: bool = true;
        /// The limit of endpoints that no table names: `N/unit`, `N per unit` or `N/M unit`, several joined by `;`.
        rate_limit_default: String = "100/minute".to_owned();
        /// Limits by endpoint. What it names replaces that entry of the guide's table; the rest of the table stays.
        @with { |limits: impl IntoIterator<Item = (impl Into<String>, impl Into<String>)>| {
            limits.into_iter().map(|(endpoint, limit)| (endpoint.into(), limit.into())).collect()
        } }
        rate_limits: BTreeMap<String, String> = BTreeMap::new();
        /// What a request is counted by: the client's address, the principal, or both, of which the tighter decides.
        rate_limit_key: RateLimitKey = RateLimitKey::Both;
        /// How many invalid credentials one address may present; empty: any number. Independent of `rate_limit_enabled`.
        auth_failure_limit: String = "20/minute".to_owned();
        /// How much pipelines may be asked for, by id or by a pattern with `*`. The entry that names a pipeline holds, else
        /// the longest pattern that it matches; each pipeline is counted by itself. `rate_limit_enabled` does not switch
        /// these off.
        @with { |quotas: impl IntoIterator<Item = (impl Into<String>, QuotaEntry)>| {
            quotas.into_iter().map(|(pipeline, quota)| (pipeline.into(), quota)).collect()
        } }
        pipeline_quotas: BTreeMap<String, QuotaEntry> = BTreeMap::new();
        /// Where requests are counted: `memory`, or a `redis://` address that all replicas share; `rediss://` for TLS,
        /// with a certificate that the system trusts. `REDIS_URL`, where it is set, is the default.
        rate_limit_storage: ServiceUrl = ServiceUrl::from("memory");
        /// What becomes of a request while `rate_limit_storage` does not answer: counted in this process, or refused.
        rate_limit_on_error: RateLimitOnError = RateLimitOnError::Local;
    }
    "WebSocket" {
        /// Whether a WebSocket needs a credential. Off, anybody may watch the pipelines that have no ACL.
        websocket_require_auth: bool = true;
        /// Whether the credential must come with the handshake, or may follow in the `connect` message.
        websocket_handshake_auth: HandshakeAuth = HandshakeAuth::Optional;
        /// How many WebSockets may be open at once.
        websocket_max_connections: usize = 1000;
    }
    "Audit" {
        /// Where audit records go: `stdout`, paths of files, or `none`. `ocsf:PATH` and `cef:PATH` are files with a copy of
        /// every record for systems that gather events. The same as mappings: `target` is `stdout` or the path, `format`
        /// is `json` (unless said), `ocsf` or `cef`.
        @with { |targets: impl IntoIterator<Item = AuditTarget>| targets.into_iter().collect() }
        audit_log: AuditLog = audit_default();
        /// What becomes of a request whose audit record cannot be written: served, or refused with 503.
        audit_mode: AuditMode = AuditMode::BestEffort;
        /// How many like denials (same event, client, principal and endpoint) are recorded one by one, and in which
        /// time: `N/unit`, at most an hour. Further ones are counted, and one record says how many. Empty: every
        /// denial is recorded by itself.
        audit_flood_limit: String = "60/minute".to_owned();
        /// The key that signs checkpoints of the first file of `audit_log`: a PEM file (Ed25519, PKCS#8), as
        /// `taskiq-flow audit keygen` makes it. Not set: no checkpoints are signed.
        audit_signing_key: Option<PathBuf>;
        /// The key that signed until `audit_signing_key` took its place: a PEM file. It signs once that the new one follows.
        audit_previous_signing_key: Option<PathBuf>;
        /// Where signed checkpoints go: paths of files that are appended to, or `https://` addresses that they are
        /// posted to as JSON (`http://` for this machine alone).
        audit_checkpoints: Texts = Texts::default();
        /// How long after something was recorded a checkpoint is signed, in seconds; after 10000 records it is in any case.
        audit_checkpoint_seconds: u32 = 60;
        /// What checkpoints call this log: a name without spaces, such as `flow.example.com/audit`. It never changes.
        audit_origin: String = "taskiq-flow".to_owned();
    }
    "Runs" {
        /// Where pipelines, runs and their events are kept: `memory:` or `sqlite:PATH`.
        store_url: ServiceUrl = ServiceUrl::from("sqlite:taskiq-flow.db");
        /// The directory that `POST /store/backup` puts copies of the store in, on any disk of this machine. Not set: no copies
        /// are made over the API.
        backup_dir: Option<PathBuf>;
        /// How many files `backup_dir` may hold, whatever put them there; a further copy is answered 409, unless it takes the
        /// place of one.
        max_backups: usize = 400;
        /// How tasks reach their workers: `memory:`, within the server itself.
        broker_url: ServiceUrl = ServiceUrl::from("memory:");
        /// When a step counts as kept: once it is on disk, or a few milliseconds before.
        durability: Durability = Durability::Strict;
        /// How many runs may be under way at once; further ones wait.
        max_concurrent_runs: usize = 1024;
        /// How many runs may wait to start, beyond those under way; a request for a further one is answered 503. So is one
        /// for a pipeline that has as many of them as places are left: alone it can fill half of the line, and others
        /// always find room. Runs that steps of other runs ask for do not count.
        max_queued_runs: usize = 10_000;
        /// The highest `priority` that a definition may have that comes over the API, and that a request may give its run
        /// beyond its pipeline's own: from 5, which is what runs have unless said, to 9. Pipeline files may have any.
        max_priority: u32 = 9;
        /// How many attempts of steps may go on at once in this process; further ones wait.
        max_concurrent_attempts: usize = 256;
        /// How much this machine has of what tasks say that they take (`resources:`), by name: so many attempts go on at
        /// once. `cpu` in cores (otherwise its processors), `memory` such as `8GiB` (otherwise what it has), and any other
        /// name, such as `gpu`. A pipeline whose task takes more, or something else, is refused when it is started.
        @with { |amounts: impl IntoIterator<Item = (impl Into<String>, impl Into<ResourceAmount>)>| {
            amounts.into_iter().map(|(name, amount)| (name.into(), amount.into())).collect()
        } }
        resources: BTreeMap<String, ResourceAmount> = BTreeMap::new();
        /// How many schedules one pipeline may have, those of a definition that came over the API included; a further one
        /// is answered 409.
        max_schedules_per_pipeline: usize = 100;
        /// How many values of tasks with `cache` are kept at most; beyond this the oldest are removed. There may be a tenth
        /// more for a moment, or 100 more.
        max_cached_values: usize = 100_000;
        /// How many bytes these values have at most, as JSON; beyond this the oldest are removed. There may be a tenth more
        /// for a moment, or a MiB more.
        max_cached_bytes: usize = 1 << 30;
        /// How many days a run is kept after its end; 0: for ever.
        retention_days: u32 = 30;
        /// How many runs that have ended are kept, those that ended last, for `retention_days` at most; 0: any number. There
        /// may be a tenth more for a moment, or 100 more. Not set: 10000 in `memory:`, any number in a file.
        retention_runs: Option<usize>;
    }
    "Webhooks" {
        /// Who is told of events over HTTP, signed and at least once. See [webhooks](webhooks.md).
        @with { |webhooks: impl IntoIterator<Item = WebhookSpec>| webhooks.into_iter().collect() }
        webhooks: Vec<WebhookSpec> = Vec::new();
    }
    "Observation" {
        /// Whether metrics are served.
        metrics_enabled: bool = true;
        /// Where metrics are served.
        metrics_path: String = "/metrics".to_owned();
        /// What is logged: `off`, `error`, `warn`, `info`, `debug` or `trace`; several such as `info,taskiq_flow_engine=debug`.
        log_level: String = "info".to_owned();
        /// Whether the log is written for people or as one JSON object a line.
        log_format: LogFormat = LogFormat::Text;
    }
}

/// All fields with their kinds, defaults and meanings, in the order of the reference.
///
/// ```
/// let port = taskiq_flow::config::fields().iter().find(|field| field.name == "port").unwrap();
/// assert_eq!((port.env.as_str(), port.default.as_u64()), ("TASKIQ_FLOW_PORT", Some(8000)));
/// ```
pub fn fields() -> &'static [FieldInfo] {
    static INFO: LazyLock<Vec<FieldInfo>> = LazyLock::new(|| {
        let defaults = TaskiqFlowConfig::default();
        let info = |field: &Field| FieldInfo {
            name: field.name,
            section: field.section,
            kind: field.kind.title(),
            default: (field.get)(&defaults),
            doc: field.doc.trim(),
            env: env_name(field.name),
            alias: ALIASES.iter().find(|(_, name)| *name == field.name).map(|(alias, _)| *alias),
            secret: field.secret,
        };
        FIELDS.iter().map(info).collect()
    });
    &INFO
}

/// The environment variable of a field.
pub(super) fn env_name(field: &str) -> String {
    format!("{ENV_PREFIX}{}", field.to_ascii_uppercase())
}

/// The field of this name, or of this other name.
pub(super) fn field(name: &str) -> Option<&'static Field> {
    let name = ALIASES.iter().find(|(alias, _)| *alias == name).map_or(name, |(_, name)| *name);
    FIELDS.iter().find(|field| field.name == name)
}

/// All names a field may be written by.
pub(super) fn names() -> impl Iterator<Item = &'static str> + Clone {
    FIELDS.iter().map(|field| field.name).chain(ALIASES.iter().map(|(alias, _)| *alias))
}

impl TaskiqFlowConfig {
    /// Every field as configuration would write it: secrets are left out, keys shown without the key, addresses
    /// without user name and password.
    pub fn redacted(&self) -> serde_json::Map<String, Value> {
        FIELDS.iter().map(|field| (field.name.to_owned(), (field.get)(self))).collect()
    }
}

impl Default for TaskiqFlowConfig {
    fn default() -> Self {
        Self::builder().build()
    }
}

/// Every field, without secrets.
impl std::fmt::Debug for TaskiqFlowConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut shown = f.debug_struct("TaskiqFlowConfig");
        for field in FIELDS {
            shown.field(field.name, &format_args!("{}", (field.get)(self)));
        }
        shown.finish()
    }
}

fn loopback() -> Vec<IpNet> {
    // The prefix lengths are constants within bounds: these constructors panic only beyond 32 and 128.
    vec![
        IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(127, 0, 0, 0), 8)),
        IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::LOCALHOST, 128)),
    ]
}

fn audit_default() -> AuditLog {
    [AuditTarget::Stdout, AuditTarget::File("taskiq-flow-audit.jsonl".into())].into_iter().collect()
}
