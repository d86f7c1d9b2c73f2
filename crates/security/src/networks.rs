//! Lists of networks that an address can be in.

use std::fmt::Write as _;
use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// Networks, written as ranges (`10.0.0.0/8`, `fd00::/8`) or single addresses.
///
/// ```
/// use taskiq_flow_security::networks::Networks;
///
/// let office = Networks::parse(["192.0.2.0/24", "2001:db8::1"])?;
/// assert!(office.contains("192.0.2.7".parse()?));
/// assert!(office.contains("::ffff:192.0.2.7".parse()?), "IPv4 mapped into IPv6 is IPv4");
/// assert!(!office.contains("2001:db8::2".parse()?));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<String>", into = "Vec<String>")]
pub struct Networks(Vec<IpNet>);

/// A network that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is no network; expected an address or a range such as 10.0.0.0/8 or fd00::/8")]
pub struct NetworkError(pub(crate) String);

impl Networks {
    /// Reads a list.
    ///
    /// # Errors
    /// [`NetworkError`] names the first entry that cannot be read.
    pub fn parse<T: AsRef<str>>(networks: impl IntoIterator<Item = T>) -> Result<Self, NetworkError> {
        let read = |text: &str| {
            let range = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
            range.map_err(|_| NetworkError(text.chars().take(60).collect()))
        };
        networks.into_iter().map(|text| read(text.as_ref().trim())).collect::<Result<_, _>>().map(Self)
    }

    /// Whether the address is in one of them.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|network| network.contains(&address))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none, so that no address is in them.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The networks as texts.
    pub fn to_list(&self) -> Vec<String> {
        self.0.iter().map(ToString::to_string).collect()
    }
}

impl From<Vec<IpNet>> for Networks {
    fn from(networks: Vec<IpNet>) -> Self {
        Self(networks)
    }
}

impl TryFrom<Vec<String>> for Networks {
    type Error = NetworkError;

    fn try_from(texts: Vec<String>) -> Result<Self, NetworkError> {
        Self::parse(texts)
    }
}

impl From<Networks> for Vec<String> {
    fn from(networks: Networks) -> Self {
        networks.to_list()
    }
}
/// Appends an address as `Display` writes it, several times as fast where it is one of IPv4.
pub(crate) fn push_ip(out: &mut String, ip: IpAddr) {
    match ip {
        IpAddr::V4(ip) => {
            for (at, octet) in ip.octets().into_iter().enumerate() {
                if at > 0 {
                    out.push('.');
                }
                out.push_str(itoa::Buffer::new().format(octet));
            }
        }
        // Writing to a String cannot fail.
        IpAddr::V6(ip) => _ = write!(out, "{ip}"),
    }
}
