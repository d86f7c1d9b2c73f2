//! Layers of one async function. As `axum::middleware::from_fn`, but what is inside is shared instead of copied: a copy
//! of a route copies all that its layers hold, for every request anew.

use std::convert::Infallible;
use std::sync::Arc;

use axum::extract::Request;
use axum::response::Response;
use axum::routing::Route;
use tower::layer::layer_fn;
use tower::{Layer, Service, service_fn};

/// What a layer is around of.
#[derive(Debug, Clone)]
pub(crate) struct Inner(Arc<Route>);

impl Inner {
    /// Has it answer.
    pub(crate) async fn run(self, request: Request) -> Response {
        let mut route = Route::clone(&self.0);
        match route.call(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        }
    }
}

/// The layer that answers with what the function does; it may have the [`Inner`] answer, or not.
pub(crate) fn around<F, A>(
    answer: F,
) -> impl Layer<
    Route,
    Service = impl Service<Request, Response = Response, Error = Infallible, Future = impl Send + 'static>
              + Clone
              + Send
              + Sync
              + 'static,
> + Clone
+ Send
+ Sync
+ 'static
where
    F: Fn(Request, Inner) -> A + Clone + Send + Sync + 'static,
    A: Future<Output = Response> + Send + 'static,
{
    layer_fn(move |route| {
        let (answer, inner) = (answer.clone(), Inner(Arc::new(route)));
        service_fn(move |request| {
            let answered = answer(request, inner.clone());
            async move { Ok(answered.await) }
        })
    })
}
