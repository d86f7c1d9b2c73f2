//! Connections as clients that mean no good see them; time stands still until somebody waits.

use std::convert::Infallible;
use std::net::IpAddr;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::routing::{any, get};
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use taskiq_flow_security::layer::Connection;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::Framing;
use super::connection::{Origin, Site};
use super::framing::Fault;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
/// `GET https://x/`, compressed as RFC 7541 has it in its static table.
const GET_ROOT: &[u8] = b"\x82\x87\x84\x41\x01x";
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const GOAWAY: u8 = 7;
const END_HEADERS: u8 = 4;
const END_STREAM: u8 = 1;
const MINUTE: Duration = Duration::from_secs(60);

/// What is asked of by the tests: what the transport found, a megabyte, an answer that comes late.
fn router() -> Router {
    let late = || async {
        let parts = stream::iter(["a", "b"]).then(|part| async move {
            tokio::time::sleep(5 * MINUTE).await;
            Ok::<_, Infallible>(Bytes::from(part))
        });
        Body::from_stream(parts)
    };
    Router::new()
        .route(
            "/",
            any(|request: axum::extract::Request| async move {
                let fault = request.extensions().get::<Framing>().and_then(|framing| framing.fault);
                let body = axum::body::to_bytes(request.into_body(), 1000).await;
                format!("{fault:?} {:?}", body.map(|body| body.len()))
            }),
        )
        .route("/no", any(|| async { http::StatusCode::FORBIDDEN }))
        .route("/large", get(|| async { vec![7; 1 << 20] }))
        .route("/late", get(late))
}

/// The client's end of a connection, and the server's task.
fn open() -> (DuplexStream, JoinHandle<()>) {
    let (near, far) = tokio::io::duplex(256 << 10);
    let site = Site { router: router(), tls: None, shutdown: CancellationToken::new() };
    let connection = Connection { peer: IpAddr::from([192, 0, 2, 1]), native_tls: true };
    let origin = Origin { connection, certificate: None, plain_on_tls: false };
    (near, tokio::spawn(async move { site.http2(far, origin).await }))
}

async fn client(window: u32) -> (h2::client::SendRequest<Bytes>, JoinHandle<()>) {
    let (near, served) = open();
    let handshake = h2::client::Builder::new().initial_window_size(window).handshake(near);
    let (send, connection) = handshake.await.unwrap();
    // It answers pings.
    tokio::spawn(connection);
    (send, served)
}

async fn ask(send: &mut h2::client::SendRequest<Bytes>, path: &str) -> h2::RecvStream {
    let request = http::Request::get(format!("https://x{path}")).body(()).unwrap();
    let (response, _) = send.send_request(request, true).unwrap();
    let response = response.await.unwrap();
    assert_eq!(response.status(), 200);
    response.into_body()
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// Kind, stream and payload of each frame until the server says no more.
async fn frames(near: &mut DuplexStream) -> Vec<(u8, u8, Vec<u8>)> {
    let mut frames = Vec::new();
    let mut head = [0; 9];
    while let Ok(Ok(_)) = timeout(Duration::from_secs(5), near.read_exact(&mut head)).await {
        let mut payload = vec![0; usize::from(head[1]) << 8 | usize::from(head[2])];
        near.read_exact(&mut payload).await.unwrap();
        frames.push((head[3], head[8], payload));
    }
    frames
}

#[tokio::test(start_paused = true)]
async fn a_connection_without_requests_is_closed() {
    let begun = Instant::now();
    let (_silent, served) = open();
    timeout(2 * MINUTE, served).await.expect("not a word was said").unwrap();
    assert!(begun.elapsed() >= MINUTE);

    let (mut send, served) = client(64 << 10).await;
    let mut body = ask(&mut send, "/").await;
    while body.data().await.is_some() {}
    let begun = Instant::now();
    timeout(2 * MINUTE, served).await.expect("nothing is asked any more").unwrap();
    assert!(begun.elapsed() >= MINUTE);
}

#[tokio::test(start_paused = true)]
async fn who_takes_nothing_of_an_answer_loses_that_stream_alone() {
    let (mut send, served) = client(0).await;
    let mut stalled = ask(&mut send, "/large").await;
    let begun = Instant::now();
    // No room is given, and pings are answered.
    let end = timeout(2 * MINUTE, stalled.data()).await.expect("it is reset").unwrap();
    assert!(end.unwrap_err().is_reset());
    assert!(begun.elapsed() >= MINUTE, "{:?}", begun.elapsed());
    // The connection goes on, and an answer that needs no room comes.
    let request = http::Request::head("https://x/large").body(()).unwrap();
    let (response, _) = send.send_request(request, true).unwrap();
    assert_eq!(response.await.unwrap().status(), 200);
    assert!(!served.is_finished());
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_us_is_not_cut_off() {
    let (mut send, served) = client(64 << 10).await;
    let mut late = ask(&mut send, "/late").await;
    let mut parts = Vec::new();
    while let Some(part) = late.data().await {
        parts.extend(part.unwrap());
    }
    assert_eq!(parts, b"ab");
    assert!(!served.is_finished());
}

#[tokio::test(start_paused = true)]
async fn what_http2_forbids_is_reset() {
    let length = b"\x00\x0econtent-length\x015";
    for (name, request) in [
        (
            "connection",
            frame(HEADERS, END_HEADERS | END_STREAM, 1, &[GET_ROOT, b"\x00\x0aconnection\x05close"].concat()),
        ),
        (
            "coding",
            frame(
                HEADERS,
                END_HEADERS | END_STREAM,
                1,
                &[GET_ROOT, b"\x00\x11transfer-encoding\x07chunked"].concat(),
            ),
        ),
        ("capitals", frame(HEADERS, END_HEADERS | END_STREAM, 1, &[GET_ROOT, b"\x00\x03X-A\x01b"].concat())),
        (
            "a line break",
            frame(HEADERS, END_HEADERS | END_STREAM, 1, &[GET_ROOT, b"\x00\x03x-a\x04b\r\nc"].concat()),
        ),
        (
            "a pseudo header late",
            frame(HEADERS, END_HEADERS | END_STREAM, 1, &[GET_ROOT, b"\x00\x03x-a\x01b", b"\x84"].concat()),
        ),
        (
            "less than its length",
            [frame(HEADERS, END_HEADERS, 1, &[GET_ROOT, length].concat()), frame(0, END_STREAM, 1, b"ab")]
                .concat(),
        ),
        (
            "more than its length",
            [
                frame(HEADERS, END_HEADERS, 1, &[GET_ROOT, length].concat()),
                frame(0, END_STREAM, 1, b"abcdefgh"),
            ]
            .concat(),
        ),
    ] {
        let (mut near, _served) = open();
        near.write_all(&[PREFACE, &request].concat()).await.unwrap();
        let frames = frames(&mut near).await;
        let ended = frames.iter().any(|(kind, ..)| matches!(*kind, RST_STREAM | GOAWAY));
        assert!(ended, "{name}: {frames:?}");
        let answered =
            frames.iter().any(|(kind, _, payload)| *kind == HEADERS && payload.first() == Some(&0x88));
        assert!(!answered, "{name}: it was answered 200");
    }
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_resets_ends_the_connection() {
    let (mut near, served) = open();
    let mut flood = PREFACE.to_vec();
    for stream in (1..=199).step_by(2) {
        flood.extend(frame(HEADERS, END_HEADERS | END_STREAM, stream, GET_ROOT));
        flood.extend(frame(RST_STREAM, 0, stream, &[0, 0, 0, 8]));
    }
    near.write_all(&flood).await.unwrap();
    let frames = frames(&mut near).await;
    let away = frames.iter().find(|(kind, ..)| *kind == GOAWAY).map(|(.., payload)| payload[7]);
    assert_eq!(away, Some(11), "ENHANCE_YOUR_CALM: {frames:?}");
    timeout(MINUTE, served).await.expect("closed").unwrap();
}

/// A client that sends bodies cannot know that they are not wanted: those that were under way when the answer came are no
/// mistake of its own.
#[tokio::test(start_paused = true)]
async fn bodies_that_come_after_their_refusal_do_not_end_the_connection() {
    const POST_NO: &[u8] = b"\x83\x87\x44\x03/no\x41\x01x";
    let (mut near, served) = open();
    near.write_all(PREFACE).await.unwrap();
    let mut head = [0; 9];
    for stream in (1..=999_u32).step_by(2) {
        near.write_all(&frame(HEADERS, END_HEADERS, stream, POST_NO)).await.unwrap();
        // Until the answer is there.
        loop {
            near.read_exact(&mut head).await.unwrap();
            let mut payload = vec![0; usize::from(head[1]) << 8 | usize::from(head[2])];
            near.read_exact(&mut payload).await.unwrap();
            assert_ne!(head[3], GOAWAY, "after {} refusals: {payload:?}", stream / 2);
            if head[3] == HEADERS && head[5..] == stream.to_be_bytes() {
                break;
            }
        }
        let _ = near.write_all(&frame(0, END_STREAM, stream, b"{}")).await;
    }
    let frames = frames(&mut near).await;
    assert!(!frames.iter().any(|(kind, ..)| *kind == GOAWAY), "{frames:?}");
    assert!(!served.is_finished());
}

#[tokio::test(start_paused = true)]
async fn hosts_that_differ_are_found_and_long_headers_refused() {
    let (mut send, _served) = client(64 << 10).await;
    let text = async |mut body: h2::RecvStream| {
        String::from_utf8(body.data().await.unwrap().unwrap().to_vec()).unwrap()
    };
    let request = http::Request::get("https://x/").header("host", "y").body(()).unwrap();
    let (response, _) = send.send_request(request, true).unwrap();
    let found = text(response.await.unwrap().into_body()).await;
    assert!(found.starts_with(&format!("Some({:?})", Fault::HostsDiffer)), "{found}");
    let found = text(ask(&mut send, "/").await).await;
    assert!(found.starts_with("None"), "{found}");
    let request = http::Request::get("https://x/").header("x-long", "a".repeat(40 << 10)).body(()).unwrap();
    let (response, _) = send.send_request(request, true).unwrap();
    match response.await {
        Ok(response) => assert_eq!(response.status(), 431),
        Err(error) => assert!(error.is_reset() || error.is_go_away(), "{error}"),
    }
}
