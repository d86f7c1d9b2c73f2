//! Who is at the other end, and did it come by HTTPS: the peer itself, or what a trusted proxy says about it.

mod forwarded;
mod proxies;

pub use self::proxies::{ClientInfo, TrustedProxies, TrustedProxyError};
pub use crate::layer::{HttpsEnforcementLayer, HttpsEnforcementMiddleware};
