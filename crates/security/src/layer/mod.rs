//! The guard as tower middleware, for any tower server: nothing here knows axum.
//!
//! From the outside in: [`SecurityHeadersLayer`], then whatever gives requests their extensions, then [`GuardLayer`]
//! around each route. [`HttpsEnforcementLayer`] is the HTTPS rule alone, for programs that bring their own
//! authentication; behind the guard it is not needed.
//!
//! What the layers read from a request's extensions, put there by the transport and the router:
//!
//! | extension | put there by | when it is absent |
//! |---|---|---|
//! | [`Connection`] | the accept loop | an unknown, untrusted peer over plain HTTP |
//! | [`ClientCertificate`](crate::certificate::ClientCertificate) | the accept loop | the client has none |
//! | [`RequestId`] | the request-id layer | the `X-Request-Id` header of the request |
//! | [`Endpoint`](crate::guard::Endpoint) | the route | needs a credential, counted with unknown endpoints |
//!
//! None of the defaults opens anything.

mod guard;
mod headers;
mod https;
#[cfg(test)]
mod tests;

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use http::Extensions;

pub use self::guard::{GuardLayer, GuardService};
pub use self::headers::{
    HSTS, SecurityHeadersFuture, SecurityHeadersLayer, SecurityHeadersService, write_security_headers,
};
pub use self::https::{HttpsEnforcementLayer, HttpsEnforcementMiddleware, is_websocket_upgrade};

/// The socket a request came by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Connection {
    /// The other end's address.
    pub peer: IpAddr,
    /// Whether the socket is TLS that ends in this process.
    pub native_tls: bool,
}

impl Connection {
    /// The request's connection, or else one that nothing is trusted of.
    pub fn of(extensions: &Extensions) -> Self {
        let unknown = Connection { peer: IpAddr::V4(Ipv4Addr::UNSPECIFIED), native_tls: false };
        extensions.get::<Connection>().copied().unwrap_or(unknown)
    }
}

/// The id of a request, as its answer's `X-Request-Id` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestId(pub Arc<str>);
