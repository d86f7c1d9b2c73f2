//! What kind of address an address is.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{Ipv4Net, Ipv6Net};

/// Networks of the IANA special-purpose registry (RFC 6890) that are not globally reachable, and multicast.
const NOT_PUBLIC_V4: [Ipv4Net; 16] = [
    v4([0, 0, 0, 0], 8),
    v4([10, 0, 0, 0], 8),
    v4([100, 64, 0, 0], 10),
    v4([127, 0, 0, 0], 8),
    v4([169, 254, 0, 0], 16),
    v4([172, 16, 0, 0], 12),
    v4([192, 0, 0, 0], 24),
    v4([192, 0, 2, 0], 24),
    v4([192, 88, 99, 0], 24),
    v4([192, 168, 0, 0], 16),
    v4([198, 18, 0, 0], 15),
    v4([198, 51, 100, 0], 24),
    v4([203, 0, 113, 0], 24),
    v4([224, 0, 0, 0], 4),
    v4([240, 0, 0, 0], 4),
    v4([255, 255, 255, 255], 32),
];

/// All that is public in IPv6 today (RFC 4291, section 2.4).
const PUBLIC_V6: Ipv6Net = v6([0x2000, 0, 0, 0, 0, 0, 0, 0], 3);

/// What of it is not: Teredo and the rest of 2001::/23, documentation (RFC 3849, RFC 9637).
const NOT_PUBLIC_V6: [Ipv6Net; 3] = [
    v6([0x2001, 0, 0, 0, 0, 0, 0, 0], 23),
    v6([0x2001, 0xdb8, 0, 0, 0, 0, 0, 0], 32),
    v6([0x3fff, 0, 0, 0, 0, 0, 0, 0], 20),
];

const NAT64: Ipv6Net = v6([0x64, 0xff9b, 0, 0, 0, 0, 0, 0], 96);
/// Of a network's own translators (RFC 8215). Where they use all of it as one prefix of 96 bits, it is read like [`NAT64`].
const LOCAL_NAT64: Ipv6Net = v6([0x64, 0xff9b, 1, 0, 0, 0, 0, 0], 48);
const LOCAL_NAT64_PLAIN: Ipv6Net = v6([0x64, 0xff9b, 1, 0, 0, 0, 0, 0], 96);
/// Where the IPv4 address is in it otherwise: behind 48, 56, 64 or 96 bits (RFC 6052, section 2.2). Only its translators know.
const LOCAL_NAT64_PLACES: [[usize; 4]; 4] =
    [[6, 7, 9, 10], [7, 9, 10, 11], [9, 10, 11, 12], [12, 13, 14, 15]];
const SIX_TO_FOUR: Ipv6Net = v6([0x2002, 0, 0, 0, 0, 0, 0, 0], 16);

/// Where clouds keep the credentials of a machine: link-local addresses, and those that four of them use beside
/// (AWS over IPv6, Alibaba, Oracle; Azure's is a public address that every virtual network routes to its host).
pub(crate) fn is_metadata(ip: IpAddr) -> bool {
    const BESIDE: [IpAddr; 4] = [
        IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
        IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
        IpAddr::V4(Ipv4Addr::new(192, 0, 0, 192)),
        IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),
    ];
    let readings = local_nat64(ip);
    if !readings.is_empty() {
        // Zeros are what stands before or behind the address, in all readings but one.
        return readings.into_iter().any(|ip| !ip.is_unspecified() && is_metadata(ip));
    }
    let ip = inner(ip);
    let local = match ip {
        IpAddr::V4(ip) => ip.is_link_local() || ip.is_unspecified(),
        IpAddr::V6(ip) => ip.is_unicast_link_local() || ip.is_unspecified(),
    };
    local || BESIDE.contains(&ip)
}

pub(crate) fn is_public(ip: IpAddr) -> bool {
    match inner(ip) {
        IpAddr::V4(ip) => !NOT_PUBLIC_V4.iter().any(|network| network.contains(&ip)),
        IpAddr::V6(ip) => {
            PUBLIC_V6.contains(&ip) && !NOT_PUBLIC_V6.iter().any(|network| network.contains(&ip))
        }
    }
}

/// The IPv4 address that an IPv6 address stands for, or the address itself.
fn inner(ip: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = ip else { return ip };
    let octets = v6.octets();
    let four = |at: usize| IpAddr::from([octets[at], octets[at + 1], octets[at + 2], octets[at + 3]]);
    match v6 {
        _ if NAT64.contains(&v6) || LOCAL_NAT64_PLAIN.contains(&v6) => four(12),
        _ if SIX_TO_FOUR.contains(&v6) => four(2),
        _ => ip.to_canonical(),
    }
}

/// The IPv4 addresses that one may stand for whose translators nobody knows; none for any other.
fn local_nat64(ip: IpAddr) -> Vec<IpAddr> {
    match ip {
        IpAddr::V6(v6) if LOCAL_NAT64.contains(&v6) && !LOCAL_NAT64_PLAIN.contains(&v6) => {
            LOCAL_NAT64_PLACES.iter().map(|place| IpAddr::from(place.map(|at| v6.octets()[at]))).collect()
        }
        _ => Vec::new(),
    }
}

// The prefix lengths are constants within bounds: these constructors panic only beyond 32 and 128.
const fn v4(octets: [u8; 4], prefix: u8) -> Ipv4Net {
    let [a, b, c, d] = octets;
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), prefix)
}

const fn v6(parts: [u16; 8], prefix: u8) -> Ipv6Net {
    let [a, b, c, d, e, f, g, h] = parts;
    Ipv6Net::new_assert(Ipv6Addr::new(a, b, c, d, e, f, g, h), prefix)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_told_apart() {
        for (ip, public, metadata) in [
            ("93.184.215.14", true, false),
            ("2606:2800:21f:cb07:6820:80da:af6b:8b2c", true, false),
            ("127.0.0.1", false, false),
            ("::1", false, false),
            ("::ffff:127.0.0.1", false, false),
            ("10.1.2.3", false, false),
            ("172.31.255.255", false, false),
            ("172.32.0.1", true, false),
            ("192.168.1.1", false, false),
            ("100.64.0.1", false, false),
            ("198.18.0.1", false, false),
            ("224.0.0.1", false, false),
            ("255.255.255.255", false, false),
            ("fc00::1", false, false),
            ("fec0::1", false, false),
            ("ff02::1", false, false),
            ("2001:db8::1", false, false),
            ("2001::1", false, false),
            ("64:ff9b::a00:1", false, false),
            ("64:ff9b::5db8:d70e", true, false),
            ("64:ff9b:1::a00:1", false, false),
            ("64:ff9b:1::5db8:d70e", true, false),
            ("64:ff9b:1:fffe::a00:1", false, false),
            // Nobody but its translators knows whether this is 93.184.215.14.
            ("64:ff9b:1:fffe::5db8:d70e", false, false),
            ("2002:a00:1::", false, false),
            ("0.0.0.0", false, true),
            ("::", false, true),
            ("169.254.169.254", false, true),
            ("::ffff:169.254.169.254", false, true),
            ("64:ff9b::a9fe:a9fe", false, true),
            ("64:ff9b:1::a9fe:a9fe", false, true),
            ("64:ff9b:1::", false, true),
            ("64:ff9b:1:fffe::a9fe:a9fe", false, true),
            ("64:ff9b:1:fffe::6464:64c8", false, true),
            ("64:ff9b:1:a9fe:a9:fe00::", false, true),
            ("64:ff9b:1:a9:fe:a9fe::", false, true),
            ("64:ff9b:1:7:a9:fea9:fe00::", false, true),
            ("64:ff9b:2::a9fe:a9fe", false, false),
            ("2002:a9fe:a9fe::", false, true),
            ("fe80::1", false, true),
            ("fd00:ec2::254", false, true),
            ("100.100.100.200", false, true),
            ("192.0.0.192", false, true),
            ("168.63.129.16", true, true),
            ("::ffff:168.63.129.16", true, true),
        ] {
            let address: IpAddr = ip.parse().unwrap();
            assert_eq!((is_public(address), is_metadata(address)), (public, metadata), "{ip}");
        }
    }
}
