//! Which peers may speak for somebody else, and what they said.

use std::net::IpAddr;

use http::{HeaderMap, HeaderName, header};
use ipnet::IpNet;

use super::forwarded::{Hop, Proto, address, elements, forwarded_element, forwarded_proto};
use crate::networks::{NetworkError, Networks};

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");

/// The networks whose `Forwarded`, `X-Forwarded-*` and `X-Real-IP` headers count. From anybody else they are
/// ignored: a client could write what it likes.
///
/// ```
/// use http::HeaderMap;
/// use taskiq_flow_security::https::TrustedProxies;
///
/// let proxies = TrustedProxies::parse(["10.0.0.0/8"])?;
/// let mut headers = HeaderMap::new();
/// headers.insert("x-forwarded-for", "203.0.113.7".parse()?);
/// headers.insert("x-forwarded-proto", "https".parse()?);
///
/// let told = proxies.client_info("10.1.2.3".parse()?, false, &headers, false, false);
/// assert!(told.secure && told.ip.to_string() == "203.0.113.7");
///
/// let claimed = proxies.client_info("192.0.2.1".parse()?, false, &headers, false, false);
/// assert!(!claimed.secure && claimed.ip.to_string() == "192.0.2.1");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustedProxies {
    networks: Networks,
}

/// A network that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "trusted_proxies: \"{0}\" is no network; expected an address or a range such as 10.0.0.0/8 or fd00::/8"
)]
pub struct TrustedProxyError(String);

/// What is known about the other end of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientInfo {
    /// The client: the nearest address that is no trusted proxy. IPv4 mapped into IPv6 is given as IPv4.
    pub ip: IpAddr,
    /// The other end of the connection, in the same form.
    pub peer: IpAddr,
    /// Whether the request came by HTTPS.
    pub secure: bool,
    /// Whether a trusted proxy spoke for the client.
    pub via_proxy: bool,
}

impl TrustedProxies {
    /// Trusts these networks.
    pub fn new(networks: Vec<IpNet>) -> Self {
        Self { networks: networks.into() }
    }

    /// Trusts these networks, written as ranges or single addresses.
    ///
    /// # Errors
    /// [`TrustedProxyError`] naming the first that cannot be read.
    pub fn parse<T: AsRef<str>>(networks: impl IntoIterator<Item = T>) -> Result<Self, TrustedProxyError> {
        let networks = Networks::parse(networks).map_err(|NetworkError(text)| TrustedProxyError(text))?;
        Ok(Self { networks })
    }

    /// Whether this address may speak for somebody else.
    pub fn trusts(&self, ip: IpAddr) -> bool {
        self.networks.contains(ip)
    }

    /// Who sent a request, and whether by HTTPS.
    ///
    /// `native_tls`: the connection itself is TLS. `is_websocket_upgrade` matters because the guide's nginx
    /// block for `/ws` sends no protocol: an upgrade that a trusted proxy passes on with a client address but
    /// no protocol counts as secure, unless `strict_forwarded_proto`.
    ///
    /// Of a list, the rightmost value is the one the trusted peer wrote. Where several headers speak about the
    /// same thing they must agree, because a proxy passes the ones it does not know as the client wrote them:
    /// a protocol in dispute is not secure, an address in dispute is the peer's own. Anything unreadable never
    /// makes a request secure and ends the walk along the addresses.
    pub fn client_info(
        &self,
        peer: IpAddr,
        native_tls: bool,
        headers: &HeaderMap,
        is_websocket_upgrade: bool,
        strict_forwarded_proto: bool,
    ) -> ClientInfo {
        let peer = peer.to_canonical();
        if !self.trusts(peer) {
            return ClientInfo { ip: peer, peer, secure: native_tls, via_proxy: false };
        }
        let forwarded = elements(headers, &header::FORWARDED);
        let (forwarded_says, _) = forwarded.last().map_or((Proto::Unsaid, None), |e| forwarded_element(e));
        let proto = forwarded_proto(&elements(headers, &X_FORWARDED_PROTO)).and(forwarded_says);

        let x_forwarded_for: Vec<Hop> =
            elements(headers, &X_FORWARDED_FOR).into_iter().map(address).collect();
        let x_real_ip: Vec<Hop> = elements(headers, &X_REAL_IP).into_iter().map(address).collect();
        let names_client =
            [&x_forwarded_for, &x_real_ip].iter().any(|list| matches!(list.last(), Some(Some(_))));
        let unsaid_is_secure = is_websocket_upgrade && names_client && !strict_forwarded_proto;
        let proxy_says = match proto {
            Proto::Secure => true,
            Proto::Insecure => false,
            Proto::Unsaid => unsaid_is_secure,
        };

        let forwarded_for: Vec<Hop> = forwarded.iter().filter_map(|e| forwarded_element(e).1).collect();
        let accounts: Vec<Account> = [
            self.follow(peer, &x_forwarded_for),
            self.follow(peer, &forwarded_for),
            // A header of one address; several are nobody's account.
            self.follow(peer, if x_real_ip.len() == 1 { &x_real_ip } else { &[] }),
        ]
        .into_iter()
        .flatten()
        .collect();
        ClientInfo {
            ip: agreed(&accounts).unwrap_or(peer),
            peer,
            secure: native_tls || proxy_says,
            via_proxy: proto != Proto::Unsaid || !accounts.is_empty(),
        }
    }

    /// Walks a list of hops from the right, past the trusted ones. `None` when there is no list.
    fn follow(&self, peer: IpAddr, hops: &[Hop]) -> Option<Account> {
        let nearest = (*hops.last()?).unwrap_or(peer);
        let mut client = peer;
        for hop in hops.iter().rev() {
            let Some(ip) = *hop else { break };
            client = ip;
            if !self.trusts(ip) {
                break;
            }
        }
        Some(Account { nearest, client })
    }
}

/// The loopback networks: a proxy on the same machine.
impl Default for TrustedProxies {
    fn default() -> Self {
        Self::new(vec![
            // Neither can panic: 8 and 128 are lengths that the families have.
            IpNet::new_assert(IpAddr::from([127, 0, 0, 0]), 8),
            IpNet::new_assert(IpAddr::from(std::net::Ipv6Addr::LOCALHOST), 128),
        ])
    }
}

/// What one header says about the addresses.
#[derive(Clone, Copy)]
struct Account {
    nearest: IpAddr,
    client: IpAddr,
}

/// The client of the first account, if all others can be talking about the same hop: a proxy writes only the
/// hop it sees into `X-Real-IP`, but appends it to a list.
fn agreed(accounts: &[Account]) -> Option<IpAddr> {
    let (first, others) = accounts.split_first()?;
    let fits = |other: &Account| {
        other.client == first.client || other.nearest == first.nearest || other.client == first.nearest
    };
    others.iter().all(fits).then_some(first.client)
}

#[cfg(test)]
mod tests;
