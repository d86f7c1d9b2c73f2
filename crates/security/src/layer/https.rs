//! The HTTPS rule alone.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::header::{CONTENT_TYPE, HeaderValue, UPGRADE};
use http::{HeaderMap, Request, Response};
use serde_json::json;
use tower::{Layer, Service};

use super::Connection;
use crate::https::TrustedProxies;
use crate::refusal::{Refusal, RefusalKind};

/// Refuses plain HTTP with 403 and a problem document titled "HTTPS required"; it never redirects, because a
/// client that sent its credential in the clear must notice.
///
/// Secure is a request by native TLS, or one that a trusted proxy says came by TLS; see [`TrustedProxies`]. What
/// passes finds its [`ClientInfo`](crate::https::ClientInfo) in its extensions, the answer too.
#[derive(Debug, Clone)]
pub struct HttpsEnforcementLayer {
    rule: Arc<Rule>,
}

#[derive(Debug, Clone)]
struct Rule {
    proxies: TrustedProxies,
    strict_forwarded_proto: bool,
    exempt: Vec<String>,
}

impl HttpsEnforcementLayer {
    /// The rule with these trusted proxies. `/health` and `/ready` stay reachable for probes.
    pub fn new(proxies: TrustedProxies) -> Self {
        let exempt = ["/health", "/ready", "/api/health", "/api/ready"].map(str::to_owned).to_vec();
        HttpsEnforcementLayer { rule: Arc::new(Rule { proxies, strict_forwarded_proto: false, exempt }) }
    }

    /// Whether a WebSocket upgrade by a trusted proxy must name the protocol to count as secure.
    #[must_use]
    pub fn strict_forwarded_proto(mut self, strict: bool) -> Self {
        Arc::make_mut(&mut self.rule).strict_forwarded_proto = strict;
        self
    }

    /// The paths, compared whole, that plain HTTP may reach.
    #[must_use]
    pub fn exempt<P: Into<String>>(mut self, paths: impl IntoIterator<Item = P>) -> Self {
        Arc::make_mut(&mut self.rule).exempt = paths.into_iter().map(Into::into).collect();
        self
    }
}

impl<S> Layer<S> for HttpsEnforcementLayer {
    type Service = HttpsEnforcementMiddleware<S>;

    fn layer(&self, inner: S) -> Self::Service {
        HttpsEnforcementMiddleware { inner, rule: self.rule.clone() }
    }
}

/// See [`HttpsEnforcementLayer`].
#[derive(Debug, Clone)]
pub struct HttpsEnforcementMiddleware<S> {
    inner: S,
    rule: Arc<Rule>,
}

impl<S, B, R> Service<Request<B>> for HttpsEnforcementMiddleware<S>
where
    S: Service<Request<B>, Response = Response<R>>,
    S::Future: Send + 'static,
    R: From<String>,
{
    type Response = Response<R>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let Connection { peer, native_tls } = Connection::of(request.extensions());
        let upgrade = is_websocket_upgrade(request.headers());
        let strict = self.rule.strict_forwarded_proto;
        let client = self.rule.proxies.client_info(peer, native_tls, request.headers(), upgrade, strict);
        if !client.secure && !self.rule.exempt.iter().any(|path| path == request.uri().path()) {
            return Box::pin(async { Ok(https_required()) });
        }
        request.extensions_mut().insert(client);
        let answer = self.inner.call(request);
        Box::pin(async move {
            let mut response = answer.await?;
            response.extensions_mut().insert(client);
            Ok(response)
        })
    }
}

/// Whether the request asks to become a WebSocket (RFC 6455 section 4.1).
pub fn is_websocket_upgrade(headers: &HeaderMap) -> bool {
    let names = |value: &HeaderValue| {
        value
            .to_str()
            .is_ok_and(|list| list.split(',').any(|name| name.trim().eq_ignore_ascii_case("websocket")))
    };
    headers.get_all(UPGRADE).iter().any(names)
}

fn https_required<R: From<String>>() -> Response<R> {
    let refusal = Refusal::new(RefusalKind::HttpsRequired, "plain HTTP");
    let problem = json!({
        "type": "about:blank",
        "title": refusal.title(),
        "status": refusal.status().as_u16(),
        "detail": refusal.detail(),
    });
    let mut response = Response::new(R::from(problem.to_string()));
    *response.status_mut() = refusal.status();
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    response
}
