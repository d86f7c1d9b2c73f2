//! Headers that say who is behind a proxy.

use std::net::IpAddr;
use std::sync::LazyLock;

use http::{HeaderMap, HeaderName, HeaderValue};
use taskiq_flow_security::https::TrustedProxies;

static PROXIES: LazyLock<TrustedProxies> =
    LazyLock::new(|| TrustedProxies::parse(["127.0.0.0/8", "::1", "10.0.0.0/8", "fd00::/8"]).unwrap());
static PEERS: LazyLock<[IpAddr; 4]> = LazyLock::new(|| {
    ["203.0.113.9", "127.0.0.1", "::ffff:10.1.2.3", "fd00::7"].map(|ip| ip.parse().unwrap())
});

/// The first byte: TLS, upgrade, strictness, peer. Then a line for each header, whose first letter names it.
pub fn forwarded(data: &[u8]) {
    let Some((flags, rest)) = data.split_first() else { return };
    let [native_tls, upgrade, strict] = [1, 2, 4].map(|bit| flags & bit != 0);
    let peer = PEERS[usize::from(flags >> 3) % PEERS.len()];
    let mut headers = HeaderMap::new();
    for line in rest.split(|byte| *byte == b'\n') {
        let Some((name, value)) = line.split_first() else { continue };
        let name = match name {
            b'f' => "forwarded",
            b'p' => "x-forwarded-proto",
            b'x' => "x-forwarded-for",
            b'r' => "x-real-ip",
            _ => continue,
        };
        if let Ok(value) = HeaderValue::from_bytes(value) {
            headers.append(HeaderName::from_static(name), value);
        }
    }
    let info = PROXIES.client_info(peer, native_tls, &headers, upgrade, strict);
    assert_eq!((info.ip, info.peer), (info.ip.to_canonical(), peer.to_canonical()));
    assert!(info.secure || !native_tls, "TLS is TLS");
    if !PROXIES.trusts(peer) {
        assert_eq!(
            (info.ip, info.secure, info.via_proxy),
            (peer, native_tls, false),
            "a stranger is believed"
        );
    }
    let said = headers.contains_key("forwarded") || headers.contains_key("x-forwarded-proto");
    if !said && (strict || !upgrade) {
        assert_eq!(info.secure, native_tls, "nobody said that it is secure");
    }
}
