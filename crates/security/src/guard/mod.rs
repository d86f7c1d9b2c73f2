//! The one place that decides whether a request goes on, for HTTP, SSE and WebSocket alike.
//!
//! [`Guard::admit`] runs the checks that need no handler, in this order: HTTPS, rate limit by address, origin (of a
//! WebSocket), authentication, rate limit by principal. It gives an [`Admission`], with which the handler asks
//! [`Guard::authorize`] for the [`Permit`](crate::policy::Permit) that protected functions take, and [`Guard::note`]s what it is about to do.
//!
//! ```
//! use http::{HeaderMap, Method};
//! use taskiq_flow_security::audit::{AuditLogger, AuditMode, AuditOptions};
//! use taskiq_flow_security::guard::{Access, Guard, RequestFacts, endpoint};
//! use taskiq_flow_security::permission::Permission;
//! use taskiq_flow_security::policy::Resource;
//! use taskiq_flow_security::rate_limit::{RateLimiter, RateLimiterOptions};
//! use taskiq_flow_security::settings::SecurityOptions;
//!
//! # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
//! let mut options = SecurityOptions::default();
//! options.api_keys = serde_json::from_str(
//!     r#"{"viewer-key": {"role": "viewer", "pipelines": ["etl"], "permissions": ["read"]}}"#,
//! ).unwrap();
//! let audit = AuditLogger::open(AuditOptions::default()).unwrap();
//! let limiter = RateLimiter::new(RateLimiterOptions::default());
//! let guard = Guard::new(options.build().unwrap(), limiter, audit);
//!
//! let mut headers = HeaderMap::new();
//! headers.insert("x-api-key", "viewer-key".parse().unwrap());
//! let request = RequestFacts {
//!     peer: "192.0.2.1".parse().unwrap(),
//!     native_tls: true,
//!     client: None,
//!     method: &Method::GET,
//!     path: "/pipelines/etl/dag",
//!     headers: &headers,
//!     request_id: "req-1",
//!     websocket_upgrade: false,
//!     certificate: None,
//! };
//! let caller = guard.admit(endpoint::GET_DAG, Access::Authenticated, request).await.unwrap();
//! assert!(guard.authorize(&caller, Permission::Read, Resource::Pipeline("etl")).is_ok());
//! let refusal = guard.authorize(&caller, Permission::Execute, Resource::Pipeline("etl")).unwrap_err();
//! assert_eq!(refusal.status(), 403);
//! # });
//! ```

mod admit;
mod credential;
pub mod endpoint;
mod guessing;
mod quota;
mod record;
mod reload;
#[cfg(test)]
mod tests;

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use arc_swap::ArcSwap;
use http::header::{HeaderName, HeaderValue};
use http::{HeaderMap, Method};
use tokio::sync::watch;

use crate::audit::AuditLogger;
use crate::certificate::ClientCertificate;
use crate::https::ClientInfo;
use crate::jwt::Revocations;
use crate::permission::Permission;
use crate::principal::Principal;
use crate::rate_limit::RateLimiter;
use crate::settings::Settings;

pub use self::credential::API_KEY_HEADER;
pub use self::endpoint::{Access, Endpoint};
pub use self::record::Note;
pub use self::reload::PolicyChanges;

/// Decides; a clone is the same guard.
#[derive(Clone)]
pub struct Guard {
    inner: Arc<Inner>,
}

struct Inner {
    settings: ArcSwap<Settings>,
    revocations: ArcSwap<Revocations>,
    limiter: RateLimiter,
    audit: AuditLogger,
    /// When settings, revocations or fetched keys changed last.
    changed: watch::Sender<Instant>,
}

/// What the transport knows of a request.
#[derive(Debug, Clone, Copy)]
pub struct RequestFacts<'a> {
    /// The address of the socket's other end.
    pub peer: IpAddr,
    /// Whether the socket is TLS that ends in this process.
    pub native_tls: bool,
    /// Who is behind it, when that was asked before ([`Guard::client_info`], of a request that is no upgrade).
    pub client: Option<ClientInfo>,
    /// The method.
    pub method: &'a Method,
    /// The path, without the query (a query may hold what must not be logged).
    pub path: &'a str,
    /// The headers.
    pub headers: &'a HeaderMap,
    /// What `X-Request-Id` of the answer says.
    pub request_id: &'a str,
    /// Whether the request asks for an upgrade to WebSocket.
    pub websocket_upgrade: bool,
    /// What the client proved to have the key of in the handshake of TLS, if it was asked.
    pub certificate: Option<&'a ClientCertificate>,
}

/// Whether the caller proved who it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CredentialState {
    /// By a good credential, or nobody asks while security is off.
    Accepted,
    /// Not asked: the endpoint is public.
    NotNeeded,
    /// Not yet: the socket must present a credential in its first message, and is told nothing until then.
    Awaited,
    /// Not at all, and it need not: an anonymous socket, which may still present one in a message.
    Anonymous,
}

/// A request that may go on, or a socket that may stay.
#[derive(Debug, Clone)]
pub struct Admission {
    principal: Arc<Principal>,
    credential: CredentialState,
    client: ClientInfo,
    request: Arc<Request>,
    /// Shared: an admission is copied on its way to the handler.
    rate_headers: Arc<[(HeaderName, HeaderValue)]>,
}

/// What audit records say about a request.
#[derive(Debug)]
struct Request {
    endpoint: &'static str,
    method: Method,
    path: String,
    id: String,
    ip: IpAddr,
    /// What its connection proved to have, be it a credential here or not.
    certificate: Option<ClientCertificate>,
}

impl Guard {
    /// A guard with these settings, counting in `limiter` and recording in `audit`. Keys of tokens that are fetched begin
    /// to be, within the Tokio runtime this is called in.
    pub fn new(settings: Settings, limiter: RateLimiter, audit: AuditLogger) -> Self {
        let (changed, _) = watch::channel(Instant::now());
        settings.start_key_sources(&changed);
        Guard {
            inner: Arc::new(Inner {
                settings: ArcSwap::from_pointee(settings),
                revocations: ArcSwap::from_pointee(Revocations::default()),
                limiter,
                audit,
                changed,
            }),
        }
    }

    /// The settings in force. Held for one decision: the next may be made with others.
    pub fn settings(&self) -> Arc<Settings> {
        self.inner.settings.load_full()
    }

    /// Where records go.
    pub fn audit(&self) -> &AuditLogger {
        &self.inner.audit
    }

    /// What counts requests.
    pub fn limiter(&self) -> &RateLimiter {
        &self.inner.limiter
    }

    /// Who is at the other end of a request, and whether it came by TLS; for layers outside of [`Guard::admit`].
    pub fn client_info(
        &self,
        peer: IpAddr,
        native_tls: bool,
        headers: &HeaderMap,
        upgrade: bool,
    ) -> ClientInfo {
        self.inner.settings.load().client_info(peer, native_tls, headers, upgrade)
    }

    /// Whether `principal` may see `pipeline` and what belongs to it. Every list is filtered with this.
    pub fn may_read(&self, principal: &Principal, pipeline: &str) -> bool {
        self.inner.settings.load().policy.may_read(principal, pipeline)
    }

    /// Whether `principal` may start `pipeline`, and so see what its runs are given.
    pub fn may_execute(&self, principal: &Principal, pipeline: &str) -> bool {
        self.inner.settings.load().policy.may(principal, Permission::Execute, pipeline)
    }
}

impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guard").field("settings", &self.inner.settings.load()).finish_non_exhaustive()
    }
}

impl Admission {
    /// Who is asking.
    pub fn principal(&self) -> &Arc<Principal> {
        &self.principal
    }

    /// Whether it proved so.
    pub fn credential(&self) -> CredentialState {
        self.credential
    }

    /// Where it is, and whether it reached us by TLS.
    pub fn client(&self) -> &ClientInfo {
        &self.client
    }

    /// The rate-limit name of the endpoint.
    pub fn endpoint(&self) -> &'static str {
        self.request.endpoint
    }

    /// The request's id.
    pub fn request_id(&self) -> &str {
        &self.request.id
    }

    /// `RateLimit-Policy` and `RateLimit` of the tighter bucket, for the answer.
    pub fn rate_headers(&self) -> &[(HeaderName, HeaderValue)] {
        &self.rate_headers
    }

    /// Puts [`Admission::rate_headers`] into an answer's headers, where a refusal has not said more.
    pub fn write_headers(&self, target: &mut HeaderMap) {
        for (name, value) in self.rate_headers.iter() {
            if !target.contains_key(name) {
                target.insert(name.clone(), value.clone());
            }
        }
    }

    /// The same request by another principal: what a socket becomes once its `connect` message was accepted.
    #[must_use]
    fn with_principal(&self, principal: Arc<Principal>) -> Self {
        Admission { principal, credential: CredentialState::Accepted, ..self.clone() }
    }
}
