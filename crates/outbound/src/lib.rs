//! Where the server's own HTTP requests may go.
//!
//! Whoever chooses an address that the server fetches could otherwise make it ask its own network, or the metadata
//! service of its cloud, in its name. A client made here follows no redirect, knows no proxy, and connects only to
//! addresses its [`Reach`] allows, whatever a name resolves to at that moment.
//!
//! ```
//! use taskiq_flow_outbound::{Reach, Url};
//!
//! let metadata: Url = "http://169.254.169.254/latest/meta-data".parse().unwrap();
//! let intranet: Url = "https://10.0.0.7/keys".parse().unwrap();
//! assert!(Reach::Internal.check(&metadata).is_err());
//! assert!(Reach::Internal.check(&intranet).is_ok());
//! assert!(Reach::Internet.check(&intranet).is_err());
//! let client = taskiq_flow_outbound::client(Reach::Internet).build().unwrap();
//! # let _ = client;
//! ```
//!
//! Caveat: a connection to an address literal asks no resolver; pass every address through [`Reach::check`] first.

mod address;

use std::net::{IpAddr, SocketAddr};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

pub use reqwest::Url;

/// Which addresses may be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reach {
    /// What is public: neither this machine nor a private, link-local, shared or reserved network.
    Internet,
    /// Everything but link-local addresses and those where clouds keep the credentials of a machine.
    Internal,
    /// This machine alone.
    Loopback,
}

/// An address that is not to be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotReached {
    /// Where clouds keep the credentials of a machine.
    #[error("{0} is a link-local or metadata address, which is not reached")]
    Metadata(IpAddr),
    /// Not public.
    #[error("{0} is no public address, and only those are reached")]
    NotPublic(IpAddr),
    /// Not this machine.
    #[error("{0} is not this machine, and nothing else is reached")]
    NotLoopback(IpAddr),
}

impl Reach {
    /// Whether this address may be reached. An IPv4 address inside an IPv6 one (mapped, NAT64, 6to4) is looked at as
    /// what it is.
    ///
    /// # Errors
    /// [`NotReached`] says why not.
    pub fn check_ip(self, ip: IpAddr) -> Result<(), NotReached> {
        if address::is_metadata(ip) {
            return Err(NotReached::Metadata(ip));
        }
        match self {
            Reach::Internet if !address::is_public(ip) => Err(NotReached::NotPublic(ip)),
            Reach::Loopback if !ip.to_canonical().is_loopback() => Err(NotReached::NotLoopback(ip)),
            Reach::Internet | Reach::Internal | Reach::Loopback => Ok(()),
        }
    }

    /// Whether the address literal in `url` may be reached; a name is looked at when it is resolved.
    ///
    /// # Errors
    /// [`NotReached`] says why not.
    pub fn check(self, url: &Url) -> Result<(), NotReached> {
        literal(url).map_or(Ok(()), |ip| self.check_ip(ip))
    }
}

/// The address that `url` names by itself, without a resolver.
pub fn literal(url: &Url) -> Option<IpAddr> {
    let host = url.host_str()?;
    host.trim_start_matches('[').trim_end_matches(']').parse().ok()
}

/// An error of a request with what caused it, and without the address, whose query may hold a secret.
pub fn causes(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return "it took too long".to_owned();
    }
    let mut text = Vec::new();
    let mut next: Option<&(dyn std::error::Error + 'static)> = std::error::Error::source(error);
    while let Some(cause) = next {
        text.push(cause.to_string());
        next = cause.source();
    }
    if text.is_empty() { "no cause is known".to_owned() } else { text.join(": ") }
}

/// The beginnings of a client that reaches nothing else, follows no redirect and uses no proxy.
pub fn client(reach: Reach) -> reqwest::ClientBuilder {
    reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .dns_resolver(Resolver(reach))
}

/// Looks names up and leaves out the addresses that are not to be reached.
#[derive(Debug)]
struct Resolver(Reach);

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let reach = self.0;
        Box::pin(async move {
            let host = name.as_str().to_owned();
            let found = tokio::net::lookup_host((host.as_str(), 0)).await?;
            let allowed: Vec<SocketAddr> =
                found.filter(|address| reach.check_ip(address.ip()).is_ok()).collect();
            if allowed.is_empty() {
                return Err(format!("`{host}` has no address that may be reached").into());
            }
            let addresses: Addrs = Box::new(allowed.into_iter());
            Ok(addresses)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_name_is_held_to_the_addresses_it_resolves_to() {
        let resolved = async |reach: Reach, name: &str| {
            let addresses = Resolver(reach).resolve(name.parse().unwrap()).await;
            addresses.map(|addresses| addresses.count()).unwrap_or(0)
        };
        assert_eq!(resolved(Reach::Internet, "localhost").await, 0);
        assert!(resolved(Reach::Internal, "localhost").await > 0);
        assert!(resolved(Reach::Loopback, "localhost").await > 0);
    }

    #[test]
    fn a_literal_is_looked_at_however_it_is_written() {
        for (url, reached) in [
            ("https://example.com/", true),
            ("https://93.184.215.14/", true),
            ("https://127.0.0.1/", false),
            ("https://2130706433/", false),
            ("https://0x7f.1/", false),
            ("https://[::1]/", false),
            ("https://[::ffff:10.0.0.1]/", false),
            ("https://[64:ff9b::7f00:1]/", false),
        ] {
            let url: Url = url.parse().unwrap();
            assert_eq!(Reach::Internet.check(&url).is_ok(), reached, "{url}");
        }
    }
}
