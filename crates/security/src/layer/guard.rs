//! [`Guard::admit`] around a route.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::{Request, Response};
use tower::{Layer, Service};

use super::https::is_websocket_upgrade;
use super::{Connection, RequestId};
use crate::guard::{Access, Endpoint, Guard, RequestFacts};
use crate::refusal::Refusal;

/// Lets a request through to the route when the guard admits it. The handler finds its
/// [`Admission`](crate::guard::Admission) in the request's extensions; the answer gets the rate-limit headers, and the
/// admission too, for layers further out.
///
/// `respond` makes the answer of a refused request (the refusal's own headers are added to it), so that one place of
/// the server writes all problem documents.
pub struct GuardLayer<R> {
    guard: Guard,
    respond: Responder<R>,
}

type Responder<R> = Arc<dyn Fn(&Refusal, &RequestId) -> Response<R> + Send + Sync>;

impl<R> GuardLayer<R> {
    /// Asks `guard`, and answers refused requests with `respond`.
    pub fn new(
        guard: Guard,
        respond: impl Fn(&Refusal, &RequestId) -> Response<R> + Send + Sync + 'static,
    ) -> Self {
        GuardLayer { guard, respond: Arc::new(respond) }
    }
}

impl<R> Clone for GuardLayer<R> {
    fn clone(&self) -> Self {
        GuardLayer { guard: self.guard.clone(), respond: self.respond.clone() }
    }
}

impl<R> fmt::Debug for GuardLayer<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GuardLayer").field("guard", &self.guard).finish_non_exhaustive()
    }
}

impl<S, R> Layer<S> for GuardLayer<R> {
    type Service = GuardService<S, R>;

    fn layer(&self, inner: S) -> Self::Service {
        GuardService { inner, layer: self.clone() }
    }
}

/// See [`GuardLayer`].
pub struct GuardService<S, R> {
    inner: S,
    layer: GuardLayer<R>,
}

impl<S: Clone, R> Clone for GuardService<S, R> {
    fn clone(&self) -> Self {
        GuardService { inner: self.inner.clone(), layer: self.layer.clone() }
    }
}

impl<S: fmt::Debug, R> fmt::Debug for GuardService<S, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GuardService").field("inner", &self.inner).finish_non_exhaustive()
    }
}

impl<S, B, R> Service<Request<B>> for GuardService<S, R>
where
    S: Service<Request<B>, Response = Response<R>> + Clone + Send + 'static,
    S::Future: Send,
    B: Send + 'static,
    R: 'static,
{
    type Response = Response<R>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        // The service that was made ready goes with the request; the clone must be made ready anew.
        let clone = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, clone);
        let GuardLayer { guard, respond } = self.layer.clone();
        Box::pin(async move {
            // The body need not be shared between threads: it stays apart while the guard looks at the rest.
            let (mut parts, body) = request.into_parts();
            let Connection { peer, native_tls } = Connection::of(&parts.extensions);
            let unnamed = Endpoint { name: "unknown", access: Access::Authenticated };
            let endpoint = parts.extensions.get::<Endpoint>().copied().unwrap_or(unnamed);
            let id = request_id(&parts);
            let facts = RequestFacts {
                peer,
                native_tls,
                client: None,
                method: &parts.method,
                path: parts.uri.path(),
                headers: &parts.headers,
                request_id: &id.0,
                websocket_upgrade: is_websocket_upgrade(&parts.headers),
                certificate: parts.extensions.get(),
            };
            let admission = match guard.admit(endpoint.name, endpoint.access, facts).await {
                Ok(admission) => admission,
                Err(refusal) => {
                    let mut response = respond(&refusal, &id);
                    refusal.write_headers(response.headers_mut());
                    return Ok(response);
                }
            };
            parts.extensions.insert(admission.clone());
            let mut response = inner.call(Request::from_parts(parts, body)).await?;
            admission.write_headers(response.headers_mut());
            response.extensions_mut().insert(admission);
            Ok(response)
        })
    }
}

fn request_id(parts: &http::request::Parts) -> RequestId {
    if let Some(id) = parts.extensions.get::<RequestId>() {
        return id.clone();
    }
    let header = parts.headers.get("x-request-id").and_then(|value| value.to_str().ok());
    RequestId(header.unwrap_or_default().into())
}
