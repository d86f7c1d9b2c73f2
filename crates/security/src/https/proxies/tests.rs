use http::HeaderValue;

use super::*;

fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in pairs {
        map.append(*name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
    }
    map
}

fn ask(peer: &str, pairs: &[(&'static str, &str)]) -> ClientInfo {
    let proxies = TrustedProxies::parse(["127.0.0.0/8", "::1", "10.0.0.0/8"]).unwrap();
    proxies.client_info(peer.parse().unwrap(), false, &headers(pairs), false, false)
}

fn upgrade(pairs: &[(&'static str, &str)], strict: bool) -> bool {
    let proxies = TrustedProxies::default();
    proxies.client_info([127, 0, 0, 1].into(), false, &headers(pairs), true, strict).secure
}

fn ip(peer: &str, pairs: &[(&'static str, &str)]) -> String {
    ask(peer, pairs).ip.to_string()
}

#[test]
fn a_stranger_speaks_only_for_itself() {
    let all = [
        ("x-forwarded-proto", "https"),
        ("forwarded", "for=1.2.3.4;proto=https"),
        ("x-forwarded-for", "1.2.3.4"),
        ("x-real-ip", "1.2.3.4"),
    ];
    let told = ask("203.0.113.9", &all);
    let peer: IpAddr = "203.0.113.9".parse().unwrap();
    assert_eq!(told, ClientInfo { ip: peer, peer, secure: false, via_proxy: false });
    let proxies = TrustedProxies::default();
    assert!(!proxies.client_info(peer, false, &headers(&all), true, false).secure);
    assert!(proxies.client_info(peer, true, &HeaderMap::new(), false, false).secure);
}

#[test]
fn native_tls_is_secure_whatever_is_said() {
    let proxies = TrustedProxies::default();
    let told = proxies.client_info(
        [127, 0, 0, 1].into(),
        true,
        &headers(&[("x-forwarded-proto", "http")]),
        false,
        true,
    );
    assert!(told.secure);
}

#[test]
fn the_rightmost_protocol_counts() {
    let secure = |proto: &str| ask("127.0.0.1", &[("x-forwarded-proto", proto)]).secure;
    for yes in ["https", "HTTPS", " https ", "http, https", "garbage,https", "wss"] {
        assert!(secure(yes), "{yes}");
    }
    for no in [
        "http",
        "https, http",
        "https,",
        "",
        ",",
        "https http",
        "https;",
        "\"https\"",
        "httpss",
        "https\u{e9}",
        "ws",
    ] {
        assert!(!secure(no), "{no}");
    }
    assert!(ask("::1", &[("x-forwarded-proto", "https")]).secure);
    assert!(ask("::ffff:127.0.0.1", &[("x-forwarded-proto", "https")]).secure);
    assert!(!ask("127.0.0.1", &[("x-forwarded-proto", "https"), ("x-forwarded-proto", "http")]).secure);
    assert!(ask("127.0.0.1", &[("x-forwarded-proto", "http"), ("x-forwarded-proto", "https")]).secure);
    assert!(!ask("127.0.0.1", &[]).secure);
}

#[test]
fn the_standard_header_is_read_too() {
    let secure = |value: &str| ask("127.0.0.1", &[("forwarded", value)]).secure;
    for yes in [
        "proto=https",
        "for=1.2.3.4;Proto=HTTPS;by=x",
        "proto=http, for=\"[2001:db8::1]:80\";proto=\"https\"",
    ] {
        assert!(secure(yes), "{yes}");
    }
    for no in [
        "proto=http",
        "proto=https, for=1.2.3.4",
        "proto=https;proto=https",
        "proto=\"https",
        "proto",
        "proto=https;",
        "for=\"x,proto=https\"",
        "for=\"x;proto=https\"",
        "for=\"a\\\", proto=https\"",
    ] {
        assert!(!secure(no), "{no}");
    }
}

#[test]
fn protocols_in_dispute_are_not_secure() {
    let secure = |x: &str, f: &str| ask("127.0.0.1", &[("x-forwarded-proto", x), ("forwarded", f)]).secure;
    assert!(secure("https", "proto=https"));
    assert!(secure("https", "for=1.2.3.4"));
    assert!(!secure("http", "proto=https"));
    assert!(!secure("https", "proto=http"));
    assert!(!secure("https", "nonsense"));
}

#[test]
fn the_guides_websocket_block_is_secure_unless_strict() {
    assert!(upgrade(&[("x-real-ip", "203.0.113.7")], false));
    assert!(upgrade(&[("x-forwarded-for", "203.0.113.7")], false));
    assert!(!upgrade(&[("x-real-ip", "203.0.113.7")], true));
    assert!(!upgrade(&[], false));
    assert!(!upgrade(&[("x-real-ip", "garbage")], false));
    assert!(!upgrade(&[("x-forwarded-for", "203.0.113.7, ")], false));
    assert!(!upgrade(&[("x-real-ip", "203.0.113.7"), ("x-forwarded-proto", "http")], false));
    assert!(!upgrade(&[("x-real-ip", "203.0.113.7"), ("x-forwarded-proto", "")], false));
    assert!(!upgrade(&[("x-real-ip", "203.0.113.7"), ("forwarded", "nonsense")], false));
    assert!(upgrade(&[("x-real-ip", "203.0.113.7"), ("x-forwarded-proto", "https")], true));
    assert!(!ask("127.0.0.1", &[("x-real-ip", "203.0.113.7")]).secure);
}

#[test]
fn the_client_is_the_first_hop_that_is_no_proxy() {
    let via = |list: &str| ip("127.0.0.1", &[("x-forwarded-for", list)]);
    assert_eq!(via("203.0.113.7"), "203.0.113.7");
    assert_eq!(via("6.6.6.6, 203.0.113.7"), "203.0.113.7");
    assert_eq!(via("6.6.6.6, 203.0.113.7, 10.0.0.5"), "203.0.113.7");
    assert_eq!(via("10.0.0.9, 10.0.0.5"), "10.0.0.9");
    assert_eq!(via("203.0.113.7:4711"), "203.0.113.7");
    assert_eq!(via("[2001:db8::7]:4711"), "2001:db8::7");
    assert_eq!(via("2001:db8::7"), "2001:db8::7");
    assert_eq!(via("::ffff:203.0.113.7"), "203.0.113.7");
    assert_eq!(
        ip("127.0.0.1", &[("x-forwarded-for", "6.6.6.6"), ("x-forwarded-for", "203.0.113.7")]),
        "203.0.113.7"
    );
    assert_eq!(ip("127.0.0.1", &[("x-real-ip", "203.0.113.7")]), "203.0.113.7");
    assert_eq!(ip("127.0.0.1", &[("forwarded", "for=6.6.6.6, for=203.0.113.7;proto=http")]), "203.0.113.7");
}

#[test]
fn an_unreadable_hop_ends_the_walk() {
    let via = |list: &str| ip("127.0.0.1", &[("x-forwarded-for", list)]);
    assert_eq!(via("203.0.113.7, garbage"), "127.0.0.1");
    assert_eq!(via("203.0.113.7, garbage, 10.0.0.5"), "10.0.0.5");
    assert_eq!(via(""), "127.0.0.1");
    assert_eq!(ip("127.0.0.1", &[("forwarded", "for=203.0.113.7, for=unknown")]), "127.0.0.1");
    assert_eq!(ip("127.0.0.1", &[("forwarded", "for=203.0.113.7, for=_hidden")]), "127.0.0.1");
    assert_eq!(ip("127.0.0.1", &[("x-real-ip", "1.2.3.4"), ("x-real-ip", "5.6.7.8")]), "127.0.0.1");
}

#[test]
fn addresses_in_dispute_are_the_peers() {
    let nginx = [("x-real-ip", "203.0.113.7"), ("x-forwarded-for", "6.6.6.6, 203.0.113.7")];
    assert_eq!(ip("127.0.0.1", &nginx), "203.0.113.7");
    // Two proxies in a row: the nearer one sees the farther one.
    let chain = [("x-real-ip", "10.0.0.5"), ("x-forwarded-for", "203.0.113.7, 10.0.0.5")];
    assert_eq!(ip("127.0.0.1", &chain), "203.0.113.7");
    let kept = [("x-real-ip", "203.0.113.7"), ("x-forwarded-for", "203.0.113.7, 10.0.0.5")];
    assert_eq!(ip("127.0.0.1", &kept), "203.0.113.7");
    // The guide's /ws block passes a list the client wrote; a balancer passes an X-Real-IP the client wrote.
    let forged = [("x-real-ip", "203.0.113.7"), ("x-forwarded-for", "6.6.6.6")];
    assert_eq!(ip("127.0.0.1", &forged), "127.0.0.1");
    let forged = [("x-forwarded-for", "203.0.113.7"), ("forwarded", "for=6.6.6.6")];
    assert_eq!(ip("127.0.0.1", &forged), "127.0.0.1");
}

#[test]
fn says_whether_a_proxy_spoke() {
    assert!(ask("127.0.0.1", &[("x-forwarded-proto", "https")]).via_proxy);
    assert!(ask("127.0.0.1", &[("x-forwarded-for", "1.2.3.4")]).via_proxy);
    assert!(!ask("127.0.0.1", &[]).via_proxy);
}

#[test]
fn a_network_that_cannot_be_read_is_named() {
    let error = TrustedProxies::parse(["10.0.0.0/8", "10.0.0.0/33"]).unwrap_err();
    assert!(error.to_string().contains("10.0.0.0/33"));
    assert!(TrustedProxies::parse(["proxy.example"]).is_err());
    let one = TrustedProxies::parse([" 192.0.2.1 "]).unwrap();
    assert!(one.trusts("192.0.2.1".parse().unwrap()) && !one.trusts("192.0.2.2".parse().unwrap()));
    assert!(!TrustedProxies::new(Vec::new()).trusts([127, 0, 0, 1].into()));
}
