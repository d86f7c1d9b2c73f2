//! The headers every answer carries.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use http::header::{
    CACHE_CONTROL, HeaderName, HeaderValue, REFERRER_POLICY, STRICT_TRANSPORT_SECURITY,
    X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use http::{HeaderMap, Request, Response};
use pin_project_lite::pin_project;
use tower::{Layer, Service};

use super::Connection;
use super::https::is_websocket_upgrade;
use crate::guard::{Admission, Guard};
use crate::https::ClientInfo;

/// A year, subdomains included (RFC 6797; ASVS 3.4.1): what the guide's nginx sends.
pub const HSTS: HeaderValue = HeaderValue::from_static("max-age=31536000; includeSubDomains");

const CROSS_ORIGIN_RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");
const CROSS_ORIGIN_OPENER_POLICY: HeaderName = HeaderName::from_static("cross-origin-opener-policy");
/// Not less than are put on an answer here.
const HEADERS: usize = 8;
const SAME_ORIGIN: HeaderValue = HeaderValue::from_static("same-origin");

/// Puts the security headers on every answer: `X-Content-Type-Options: nosniff`, `X-Frame-Options: DENY`,
/// `Referrer-Policy: no-referrer`, `Cross-Origin-Resource-Policy: same-origin` (foreign pages may not embed the answer; those
/// that CORS allows may fetch it), `Cross-Origin-Opener-Policy: same-origin`, `Cache-Control: no-store` unless the handler
/// chose another, and `Strict-Transport-Security` when the request was secure.
///
/// Browsers must not see that last one over plain HTTP. Whether the request was secure is what the guard says
/// ([`SecurityHeadersLayer::with_guard`]), or the [`ClientInfo`] or [`Admission`] in the extensions of the answer; with
/// neither, the header is left out.
#[derive(Debug, Clone, Default)]
pub struct SecurityHeadersLayer {
    guard: Option<Guard>,
}

impl SecurityHeadersLayer {
    /// Asks this guard, by the request's [`Connection`], whether a request is secure: right for every answer, those
    /// that no route gave included.
    pub fn with_guard(guard: Guard) -> Self {
        SecurityHeadersLayer { guard: Some(guard) }
    }
}

impl<S> Layer<S> for SecurityHeadersLayer {
    type Service = SecurityHeadersService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        SecurityHeadersService { inner, guard: self.guard.clone() }
    }
}

/// See [`SecurityHeadersLayer`].
#[derive(Debug, Clone)]
pub struct SecurityHeadersService<S> {
    inner: S,
    guard: Option<Guard>,
}

impl<S, B, R> Service<Request<B>> for SecurityHeadersService<S>
where
    S: Service<Request<B>, Response = Response<R>>,
{
    type Response = Response<R>;
    type Error = S::Error;
    type Future = SecurityHeadersFuture<S::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let known_secure = self.guard.as_ref().is_some_and(|guard| {
            let Connection { peer, native_tls } = Connection::of(request.extensions());
            let upgrade = is_websocket_upgrade(request.headers());
            guard.client_info(peer, native_tls, request.headers(), upgrade).secure
        });
        SecurityHeadersFuture { answer: self.inner.call(request), known_secure }
    }
}

pin_project! {
    /// The answer of a [`SecurityHeadersService`].
    #[derive(Debug)]
    pub struct SecurityHeadersFuture<F> {
        #[pin]
        answer: F,
        known_secure: bool,
    }
}

impl<F, R, E> Future for SecurityHeadersFuture<F>
where
    F: Future<Output = Result<Response<R>, E>>,
{
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let mut response = ready!(this.answer.poll(context))?;
        let secure = *this.known_secure || is_secure(response.extensions());
        write_security_headers(response.headers_mut(), secure);
        Poll::Ready(Ok(response))
    }
}

fn is_secure(extensions: &http::Extensions) -> bool {
    let client =
        extensions.get::<ClientInfo>().or_else(|| extensions.get::<Admission>().map(Admission::client));
    client.is_some_and(|client| client.secure)
}

/// Puts the headers of [`SecurityHeadersLayer`] on an answer; `secure`: whether its request was.
pub fn write_security_headers(headers: &mut HeaderMap, secure: bool) {
    // Grown once, not at every power of two.
    headers.reserve(HEADERS);
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(CROSS_ORIGIN_RESOURCE_POLICY, SAME_ORIGIN);
    headers.insert(CROSS_ORIGIN_OPENER_POLICY, SAME_ORIGIN);
    headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    if secure {
        headers.insert(STRICT_TRANSPORT_SECURITY, HSTS);
    }
}
