//! Every way a request is refused: [`Refusal`].
//!
//! What the client may know ([`Refusal::status`], [`Refusal::title`], [`Refusal::detail`], [`Refusal::headers`])
//! depends on the kind alone; what only the operator may know ([`Refusal::reason`]) is kept apart.

use std::borrow::Cow;
use std::fmt;

use http::header::{HeaderName, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderMap, StatusCode};

use crate::rate_limit::Decision;

/// The kinds of refusal. Two requests refused for the same kind get the same answer, byte for byte but for their
/// request id and rate-limit counters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RefusalKind {
    /// Plain HTTP where HTTPS is required: 403.
    HttpsRequired,
    /// Too many requests, or too many invalid credentials: 429.
    RateLimited,
    /// The quota of a pipeline is used up: 429.
    QuotaExceeded,
    /// No credential the server accepts: 401.
    MissingCredential,
    /// Unknown, revoked or expired key: 403.
    InvalidKey,
    /// A token that is bad in any way: 401.
    InvalidToken,
    /// More than one credential, so that it is unclear who is asking: 400.
    AmbiguousCredential,
    /// The policy said no: 403.
    Forbidden,
    /// A WebSocket handshake by a web page of a foreign origin: 403.
    ForeignOrigin,
    /// The audit record that must exist cannot be written: 503.
    AuditUnavailable,
    /// As many WebSockets as may be are open: 503.
    TooManyConnections,
}

impl RefusalKind {
    /// A short name for metrics, WebSocket `error` codes and problem types.
    pub fn code(self) -> &'static str {
        match self {
            RefusalKind::HttpsRequired => "https-required",
            RefusalKind::RateLimited => "rate-limited",
            RefusalKind::QuotaExceeded => "quota-exceeded",
            RefusalKind::MissingCredential => "missing-credential",
            RefusalKind::InvalidKey => "invalid-key",
            RefusalKind::InvalidToken => "invalid-token",
            RefusalKind::AmbiguousCredential => "ambiguous-credential",
            RefusalKind::Forbidden => "forbidden",
            RefusalKind::ForeignOrigin => "foreign-origin",
            RefusalKind::AuditUnavailable => "audit-unavailable",
            RefusalKind::TooManyConnections => "too-many-connections",
        }
    }
}

/// A refused request.
#[derive(Clone)]
pub struct Refusal {
    kind: RefusalKind,
    reason: Cow<'static, str>,
    headers: Vec<(HeaderName, HeaderValue)>,
    violated_policies: Vec<String>,
}

impl Refusal {
    /// A refusal of this kind; `reason` is for logs and audit records only.
    pub fn new(kind: RefusalKind, reason: impl Into<Cow<'static, str>>) -> Self {
        Refusal { kind, reason: reason.into(), headers: Vec::new(), violated_policies: Vec::new() }
    }

    /// Too many requests: says when to come back.
    pub(crate) fn rate_limited(decision: &Decision, reason: impl Into<Cow<'static, str>>) -> Self {
        let mut refusal = Refusal::new(RefusalKind::RateLimited, reason);
        refusal.headers.push((RETRY_AFTER, HeaderValue::from(decision.retry_after_seconds().unwrap_or(1))));
        refusal
    }

    /// The quota of a pipeline is used up: says which policies of `RateLimit-Policy`, and when to come back.
    pub(crate) fn quota_exceeded(
        violated_policies: Vec<String>,
        retry_after_seconds: u64,
        reason: impl Into<Cow<'static, str>>,
    ) -> Self {
        let mut refusal = Refusal::new(RefusalKind::QuotaExceeded, reason);
        refusal.headers.push((RETRY_AFTER, HeaderValue::from(retry_after_seconds)));
        refusal.violated_policies = violated_policies;
        refusal
    }

    /// A 401, with what would be accepted.
    pub(crate) fn unauthorized(
        kind: RefusalKind,
        reason: impl Into<Cow<'static, str>>,
        challenge: &'static str,
    ) -> Self {
        let mut refusal = Refusal::new(kind, reason);
        refusal.headers.push((WWW_AUTHENTICATE, HeaderValue::from_static(challenge)));
        refusal
    }

    /// Adds headers, those of the rate limit for example.
    #[must_use]
    pub(crate) fn with_headers(mut self, headers: &[(HeaderName, HeaderValue)]) -> Self {
        self.headers.extend_from_slice(headers);
        self
    }

    /// What kind it is.
    pub fn kind(&self) -> RefusalKind {
        self.kind
    }

    /// The HTTP status of the answer.
    pub fn status(&self) -> StatusCode {
        match self.kind {
            RefusalKind::HttpsRequired
            | RefusalKind::InvalidKey
            | RefusalKind::Forbidden
            | RefusalKind::ForeignOrigin => StatusCode::FORBIDDEN,
            RefusalKind::RateLimited | RefusalKind::QuotaExceeded => StatusCode::TOO_MANY_REQUESTS,
            RefusalKind::MissingCredential | RefusalKind::InvalidToken => StatusCode::UNAUTHORIZED,
            RefusalKind::AmbiguousCredential => StatusCode::BAD_REQUEST,
            RefusalKind::AuditUnavailable | RefusalKind::TooManyConnections => {
                StatusCode::SERVICE_UNAVAILABLE
            }
        }
    }

    /// The `title` of the problem document.
    pub fn title(&self) -> &'static str {
        match self.kind {
            RefusalKind::HttpsRequired => "HTTPS required",
            RefusalKind::RateLimited => "Too many requests",
            RefusalKind::QuotaExceeded => "Quota exceeded",
            RefusalKind::MissingCredential => "Authentication required",
            RefusalKind::InvalidKey => "Invalid API key",
            RefusalKind::InvalidToken => "Invalid token",
            RefusalKind::AmbiguousCredential => "More than one credential",
            RefusalKind::Forbidden => "Forbidden",
            RefusalKind::ForeignOrigin => "Origin not allowed",
            RefusalKind::AuditUnavailable => "Audit log unavailable",
            RefusalKind::TooManyConnections => "Too many connections",
        }
    }

    /// The `detail` of the problem document: what the client can do, nothing about why.
    pub fn detail(&self) -> &'static str {
        match self.kind {
            RefusalKind::HttpsRequired => {
                "This server answers over HTTPS only. A proxy that ends TLS must be one of its `trusted_proxies` and send \
                 `X-Forwarded-Proto: https`."
            }
            RefusalKind::QuotaExceeded => {
                "The pipeline's quota is used up. Wait for the time in Retry-After, then try again."
            }
            RefusalKind::RateLimited => "Wait for the time in Retry-After, then try again.",
            RefusalKind::MissingCredential => {
                "Send an API key in X-API-Key, or a token in Authorization: Bearer."
            }
            RefusalKind::InvalidKey => "The API key is not accepted.",
            RefusalKind::InvalidToken => "The token is not accepted.",
            RefusalKind::AmbiguousCredential => "Send one credential: X-API-Key or Authorization, once.",
            RefusalKind::Forbidden => "You may not do this.",
            RefusalKind::ForeignOrigin => "Web pages of this origin may not connect here.",
            RefusalKind::AuditUnavailable => "The request cannot be recorded and was not carried out.",
            RefusalKind::TooManyConnections => "No further connection is accepted now; try again later.",
        }
    }

    /// Headers the answer must carry: `WWW-Authenticate`, `Retry-After`, `RateLimit-Policy`, `RateLimit`.
    pub fn headers(&self) -> &[(HeaderName, HeaderValue)] {
        &self.headers
    }

    /// Names in `RateLimit-Policy` of the quotas that the request went beyond, for `violated-policies` of the problem
    /// document (draft-ietf-httpapi-ratelimit-headers, "Quota Exceeded").
    pub fn violated_policies(&self) -> &[String] {
        &self.violated_policies
    }

    /// Puts [`Refusal::headers`] into an answer's.
    pub fn write_headers(&self, target: &mut HeaderMap) {
        for (name, value) in &self.headers {
            target.insert(name.clone(), value.clone());
        }
    }

    /// Why, for logs and audit records; never for the client. It names no credential.
    pub fn reason(&self) -> &str {
        &self.reason
    }
}

impl fmt::Debug for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Refusal")
            .field("kind", &self.kind)
            .field("reason", &self.reason)
            .finish_non_exhaustive()
    }
}

impl fmt::Display for Refusal {
    /// The public text: what reaches a log by accident says no more than the client knows.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.title())
    }
}

impl std::error::Error for Refusal {}
