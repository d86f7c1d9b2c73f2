//! Requests that two servers in a row could read differently: refused, and nothing behind them is read.

use std::time::{Duration, Instant};

use taskiq_flow_testkit::{Server, raw};

use crate::support::service;

/// The request that an attacker wants to be taken for somebody's own.
const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n";

/// How long a server that does not close is waited for.
const PATIENCE: Duration = Duration::from_secs(5);

async fn plain() -> Server {
    service()
        .env("TASKIQ_FLOW_REQUIRE_HTTPS", "false")
        .env("TASKIQ_FLOW_RATE_LIMIT_ENABLED", "false")
        .start()
        .await
}

/// The statuses of all answers to what was sent, and whether the server closed.
async fn answers(server: &Server, bytes: &[u8]) -> (Vec<u16>, bool, String) {
    let begun = Instant::now();
    let text = raw::send(server.address(), bytes, PATIENCE).await;
    let closed = begun.elapsed() < PATIENCE;
    let statuses =
        text.match_indices("HTTP/1.1 ").filter_map(|(at, _)| text.get(at + 9..at + 12)?.parse().ok());
    (statuses.collect(), closed, text)
}

#[tokio::test]
async fn what_can_be_read_in_two_ways_is_refused_and_ends_the_connection() {
    let server = plain().await;
    let post = "POST /pipelines/hello/execute HTTP/1.1\r\nHost: x\r\n";
    let json = "Content-Type: application/json\r\n";
    for (name, request) in [
        (
            "CL.TE",
            format!(
                "{post}{json}Content-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nG{SMUGGLED}"
            ),
        ),
        (
            "TE.CL",
            format!(
                "{post}{json}Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n2\r\n{{}}\r\n0\r\n\r\n{SMUGGLED}"
            ),
        ),
        ("two lengths", format!("{post}{json}Content-Length: 2\r\nContent-Length: 40\r\n\r\n{{}}{SMUGGLED}")),
        (
            "the same length twice",
            format!("{post}{json}Content-Length: 2\r\nContent-Length: 2\r\n\r\n{{}}{SMUGGLED}"),
        ),
        ("a list of lengths", format!("{post}{json}Content-Length: 2, 2\r\n\r\n{{}}{SMUGGLED}")),
        ("a length with a plus", format!("{post}{json}Content-Length: +2\r\n\r\n{{}}{SMUGGLED}")),
        ("a length with a minus", format!("{post}{json}Content-Length: -2\r\n\r\n{{}}{SMUGGLED}")),
        ("a length with a space", format!("{post}{json}Content-Length: 2 2\r\n\r\n{{}}{SMUGGLED}")),
        ("a length in hexadecimal", format!("{post}{json}Content-Length: 0x2\r\n\r\n{{}}{SMUGGLED}")),
        ("a length that is none", format!("{post}{json}Content-Length: \r\n\r\n{{}}{SMUGGLED}")),
        (
            "a length too long",
            format!("{post}{json}Content-Length: 99999999999999999999\r\n\r\n{{}}{SMUGGLED}"),
        ),
        (
            "an unknown coding",
            format!("{post}{json}Transfer-Encoding: xchunked\r\n\r\n2\r\n{{}}\r\n0\r\n\r\n{SMUGGLED}"),
        ),
        (
            "chunked not last",
            format!("{post}{json}Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n{SMUGGLED}"),
        ),
        (
            "chunked twice",
            format!("{post}{json}Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n{SMUGGLED}"),
        ),
        (
            "two codings",
            format!(
                "{post}{json}Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{SMUGGLED}"
            ),
        ),
        (
            "a space before the colon",
            format!("{post}{json}Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n{SMUGGLED}"),
        ),
        ("a space before a length's colon", format!("{post}{json}Content-Length : 2\r\n\r\n{{}}{SMUGGLED}")),
        (
            "a control character in a coding",
            format!("{post}{json}Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n{SMUGGLED}"),
        ),
        (
            "a coding in HTTP/1.0",
            format!("{}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n{SMUGGLED}", post.replace("1.1", "1.0")),
        ),
        (
            "a folded line",
            format!(
                "GET /health HTTP/1.1\r\nHost: x\r\nX-A: b\r\n Transfer-Encoding: chunked\r\n\r\n{SMUGGLED}"
            ),
        ),
        ("a folded coding", format!("{post}{json}Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n{SMUGGLED}")),
        ("a bare line feed", format!("GET /health HTTP/1.1\r\nHost: x\r\nX-A: b\nX-B: c\r\n\r\n{SMUGGLED}")),
        ("line feeds alone", format!("GET /health HTTP/1.1\nHost: x\n\n{SMUGGLED}")),
        (
            "a bare carriage return",
            format!("GET /health HTTP/1.1\r\nHost: x\r\nX-A: b\rX-B: c\r\n\r\n{SMUGGLED}"),
        ),
        ("NUL in a value", format!("GET /health HTTP/1.1\r\nHost: x\r\nX-A: a\0b\r\n\r\n{SMUGGLED}")),
        ("NUL in a name", format!("GET /health HTTP/1.1\r\nHost: x\r\nX-\0A: b\r\n\r\n{SMUGGLED}")),
        ("NUL in the path", format!("GET /health\0 HTTP/1.1\r\nHost: x\r\n\r\n{SMUGGLED}")),
        ("no host", format!("GET /health HTTP/1.1\r\n\r\n{SMUGGLED}")),
        ("two hosts", format!("GET /health HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n{SMUGGLED}")),
        ("the same host twice", format!("GET /health HTTP/1.1\r\nHost: x\r\nHost: x\r\n\r\n{SMUGGLED}")),
        ("an empty host", format!("GET /health HTTP/1.1\r\nHost: \r\n\r\n{SMUGGLED}")),
        ("a host with a user", format!("GET /health HTTP/1.1\r\nHost: a@x\r\n\r\n{SMUGGLED}")),
        ("another host in the target", format!("GET http://y/health HTTP/1.1\r\nHost: x\r\n\r\n{SMUGGLED}")),
        ("a line without colon", format!("GET /health HTTP/1.1\r\nHost: x\r\nnonsense\r\n\r\n{SMUGGLED}")),
        ("an empty name", format!("GET /health HTTP/1.1\r\nHost: x\r\n: b\r\n\r\n{SMUGGLED}")),
        ("spaces in the request line", format!("GET /health  HTTP/1.1\r\nHost: x\r\n\r\n{SMUGGLED}")),
        ("a tab in the request line", format!("GET\t/health HTTP/1.1\r\nHost: x\r\n\r\n{SMUGGLED}")),
        ("an unknown version", format!("GET /health HTTP/3.7\r\nHost: x\r\n\r\n{SMUGGLED}")),
        ("no version", format!("GET /health\r\n\r\n{SMUGGLED}")),
    ] {
        let (statuses, closed, text) = answers(&server, request.as_bytes()).await;
        assert!(closed, "{name}: the connection stays open: {text}");
        assert!(matches!(statuses[..], [] | [400]), "{name}: {text}");
        assert!(!text.contains("smuggled") && !text.contains("404"), "{name}: {text}");
    }
    let runs = server.plain_client().key("admin-key").get("/runs").await.expect(200).json();
    assert_eq!(runs["runs"], serde_json::json!([]), "nothing was carried out");
}

#[tokio::test]
async fn what_hides_in_a_chunked_body_is_never_a_request() {
    let server = plain().await;
    let head = "POST /pipelines/hello/execute HTTP/1.1\r\nHost: x\r\nX-API-Key: admin-key\r\n\
                Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n";
    // A good one is carried out; it is the last of its connection, whatever follows.
    let (statuses, closed, text) =
        answers(&server, format!("{head}2\r\n{{}}\r\n0\r\n\r\n{SMUGGLED}").as_bytes()).await;
    assert_eq!((statuses.as_slice(), closed), (&[202][..], true), "{text}");
    assert!(text.to_lowercase().contains("\r\nconnection: close\r\n"), "{text}");
    for (name, body) in [
        ("a bare line feed after the size", format!("2\n{{}}\r\n0\r\n\r\n{SMUGGLED}")),
        ("a bare line feed in an extension", format!("2;a\nb\r\n{{}}\r\n0\r\n\r\n{SMUGGLED}")),
        ("a size with a sign", format!("+2\r\n{{}}\r\n0\r\n\r\n{SMUGGLED}")),
        ("a size with 0x", format!("0x2\r\n{{}}\r\n0\r\n\r\n{SMUGGLED}")),
        ("a size too long", format!("fffffffffffffffff\r\n{{}}\r\n0\r\n\r\n{SMUGGLED}")),
        ("a chunk longer than its size", format!("2\r\n{{}} {{}}\r\n0\r\n\r\n{SMUGGLED}")),
        ("no size", format!("\r\n{{}}\r\n0\r\n\r\n{SMUGGLED}")),
    ] {
        let (statuses, closed, text) = answers(&server, format!("{head}{body}").as_bytes()).await;
        assert!(closed && matches!(statuses[..], [] | [400]), "{name}: {text}");
    }
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order_each_once() {
    let server = plain().await;
    let body = "{\"parameters\":{\"name\":\"GET / HTTP/1.1\\r\\n\"}}";
    let post = format!(
        "POST /nothing HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let get = "GET /health HTTP/1.1\r\nHost: x\r\n\r\n";
    let last = "GET /me HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    let (statuses, closed, text) =
        answers(&server, format!("{get}{post}\r\n{get}{last}{SMUGGLED}").as_bytes()).await;
    assert_eq!((statuses.as_slice(), closed), (&[200, 404, 200, 401][..], true), "{text}");
    // What is refused in the middle ends it there.
    let (statuses, closed, text) =
        answers(&server, format!("{get}GET /health HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n{get}").as_bytes())
            .await;
    assert_eq!((statuses.as_slice(), closed), (&[200, 400][..], true), "{text}");
    // The target's own host, said twice alike, is what it is.
    let (statuses, _, text) =
        answers(&server, b"GET http://x/health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
    assert_eq!(statuses, [200], "{text}");
    // A refused upgrade is the end too: what follows might be of another protocol.
    let upgrade = "GET /ws HTTP/1.1\r\nHost: x\r\nX-API-Key: bad\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                   Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    let (statuses, closed, text) = answers(&server, format!("{upgrade}{SMUGGLED}").as_bytes()).await;
    assert_eq!((statuses.as_slice(), closed), (&[403][..], true), "{text}");
}

#[tokio::test]
async fn what_the_parser_answers_itself_gives_nothing_away() {
    let server = plain().await;
    let long = "a".repeat(200_000);
    let many: String = (0..200).map(|n| format!("X-{n}: a\r\n")).collect();
    for (name, request, status) in [
        ("a long header", format!("GET /health HTTP/1.1\r\nHost: x\r\nX-A: {long}\r\n\r\n"), 431),
        ("many headers", format!("GET /health HTTP/1.1\r\nHost: x\r\n{many}\r\n"), 431),
        ("a long target", format!("GET /{long} HTTP/1.1\r\nHost: x\r\n\r\n"), 414),
        ("no HTTP at all", "\x16\x03\x01\x02\x00\x01\x00\x01\x7c\x03\x03\r\n\r\n".to_owned(), 400),
    ] {
        let (statuses, closed, text) = answers(&server, request.as_bytes()).await;
        assert!(closed, "{name}");
        assert!(statuses == [status] || statuses == [431], "{name}: {statuses:?} {text}");
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert_eq!(body, "", "{name}: {text}");
        for forbidden in ["hyper", "axum", "taskiq", "server:", "0.1"] {
            assert!(!head.to_lowercase().contains(forbidden), "{name}: {text}");
        }
    }
}

#[tokio::test]
async fn methods_that_nobody_has_use_for_are_refused() {
    let server = plain().await;
    for (method, target) in [
        ("TRACE", "/health"),
        ("TRACK", "/health"),
        ("DEBUG", "/health"),
        ("PROPFIND", "/pipelines"),
        ("BREW", "/me"),
        ("OPTIONS", "/health"),
        ("get", "/health"),
    ] {
        let request =
            format!("{method} {target} HTTP/1.1\r\nHost: x\r\nX-Secret: s3cret\r\nConnection: close\r\n\r\n");
        let (statuses, _, text) = answers(&server, request.as_bytes()).await;
        assert_eq!(statuses, [405], "{method}: {text}");
        assert!(!text.contains("s3cret") && text.to_lowercase().contains("\r\nallow: "), "{method}: {text}");
        assert!(text.contains("x-frame-options: DENY"), "{method}: {text}");
    }
    let connect = "CONNECT x:443 HTTP/1.1\r\nHost: x:443\r\n\r\n";
    let (statuses, _, text) = answers(&server, connect.as_bytes()).await;
    assert!(matches!(statuses[..], [400..=405]), "{text}");
    for method in ["OPTIONS", "GET", "POST"] {
        let request = format!("{method} * HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        let (statuses, _, text) = answers(&server, request.as_bytes()).await;
        assert_eq!(statuses, [400], "{method}: {text}");
        assert!(text.contains("has no path: it must begin with `/`"), "{method}: {text}");
    }
    let (statuses, _, text) =
        answers(&server, b"HEAD /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
    assert!(statuses == [200] && text.ends_with("\r\n\r\n"), "{text}");
}
