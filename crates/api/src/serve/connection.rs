//! One connection: the handshake, then HTTP/1.1 or HTTP/2 until it ends.

use std::io;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use bytes::Bytes;
use http::Method;
use http::header::TRANSFER_ENCODING;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use taskiq_flow_security::certificate::ClientCertificate;
use taskiq_flow_security::layer::Connection;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use super::framing::{Framing, examine};
use super::head::Observed;
use super::leftover::Leftover;
use super::stall::Unstalled;
use super::streams::{Streams, Told};
use super::tls::{Secured, Tls};
use super::{HEAD_DEADLINE, MAX_HEAD_BYTES, STALLED};

/// How long a client may take for the first byte and the TLS handshake together.
const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(10);
/// The first byte of TLS: a record of type handshake (RFC 8446 section 5.1).
const TLS_HANDSHAKE: u8 = 22;
/// How long an HTTP/2 connection may be open without a request.
const IDLE: Duration = Duration::from_secs(60);
/// How long a client may take to close an idle HTTP/2 connection once it is told to.
const LINGER: Duration = Duration::from_secs(10);
/// How often an HTTP/2 client is asked whether it is there, and how long it may take to say so.
const PING_EVERY: Duration = Duration::from_secs(20);
const PING_DEADLINE: Duration = Duration::from_secs(20);
/// Limits of an HTTP/2 connection (RFC 9113 section 10.5): requests at once; bytes of a request's headers once they are
/// decompressed; streams that the client opened and reset before they were looked at (rapid reset, CVE-2023-44487);
/// streams that we had to reset for its mistakes; bytes that it may send on one stream, and on all, before we took
/// them; bytes that wait to be sent on one stream.
const MAX_STREAMS: u32 = 100;
const MAX_HEADER_LIST: u32 = 32 << 10;
const MAX_RESET_UNSEEN: usize = 20;
const MAX_RESET_BY_US: usize = 100;
const STREAM_WINDOW: u32 = 256 << 10;
const CONNECTION_WINDOW: u32 = 1 << 20;
const MAX_SEND_BUFFER: usize = 128 << 10;

/// What all connections of a listener share.
#[derive(Debug, Clone)]
pub(super) struct Site {
    pub(super) router: Router,
    pub(super) tls: Option<Tls>,
    /// Cancelled when no request is to begin any more.
    pub(super) shutdown: CancellationToken,
}

/// What every request of a connection brings along.
#[derive(Debug, Clone)]
pub(super) struct Origin {
    pub(super) connection: Connection,
    pub(super) certificate: Option<ClientCertificate>,
    /// Whether it speaks HTTP in the clear where TLS is spoken.
    pub(super) plain_on_tls: bool,
}

impl Site {
    /// Answers on a connection until it ends. `room` is given back when the connection is closed, which for one that
    /// became a WebSocket is later.
    pub(super) async fn answer<R>(&self, stream: TcpStream, connection: Connection, room: R)
    where
        R: Send + Unpin + 'static,
    {
        let plain = |plain_on_tls| Origin { connection, certificate: None, plain_on_tls };
        let Some(tls) = &self.tls else {
            return self.http1(Unstalled::new(stream, STALLED, room), plain(false)).await;
        };
        let deadline = Instant::now() + HANDSHAKE_DEADLINE;
        let first = tokio::select! {
            first = tokio::time::timeout_at(deadline, first_byte(&stream)) => first,
            () = self.shutdown.cancelled() => return,
        };
        let stream = Unstalled::new(stream, STALLED, room);
        match first {
            Ok(Ok(Some(TLS_HANDSHAKE))) => {}
            // No TLS, but perhaps the first letter of a method: said so in the words of the client.
            Ok(Ok(Some(b'A'..=b'Z'))) => return self.http1(stream, plain(true)).await,
            _ => return,
        }
        let handshake = tokio::select! {
            handshake = tokio::time::timeout_at(deadline, tls.accept(stream)) => handshake,
            () = self.shutdown.cancelled() => return,
        };
        let secured =
            match handshake.unwrap_or_else(|late| Err(io::Error::new(io::ErrorKind::TimedOut, late))) {
                Ok(secured) => secured,
                Err(error) => {
                    metrics::counter!("taskiq_flow_tls_handshake_failures_total").increment(1);
                    tracing::debug!(peer = %connection.peer, %error, "a TLS handshake failed");
                    return;
                }
            };
        let Secured { io, http2, certificate } = secured;
        let connection = Connection { native_tls: true, ..connection };
        let origin = Origin { connection, certificate, plain_on_tls: false };
        match http2 {
            true => self.http2(io, origin).await,
            false => self.http1(io, origin).await,
        }
    }

    async fn http1<I>(&self, io: I, origin: Origin)
    where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let peer = origin.connection.peer;
        let (io, heads) = Observed::new(io);
        let service = self.router.clone().map_request(move |mut request: Request<Incoming>| {
            let by_bytes = heads.lock().next();
            let fault = by_bytes.or_else(|| examine(&mut request));
            // What follows a body whose end only a transfer coding tells is never read: a proxy before us may have
            // seen its end elsewhere (RFC 9112 section 6.1).
            let last = fault.is_some()
                || request.method() == Method::CONNECT
                || request.headers().contains_key(TRANSFER_ENCODING);
            origin.attach(request, fault, last)
        });
        let mut builder = http1::Builder::new();
        builder.timer(TokioTimer::new()).header_read_timeout(HEAD_DEADLINE).max_buf_size(MAX_HEAD_BYTES);
        let served =
            builder.serve_connection(TokioIo::new(io), TowerToHyperService::new(service)).with_upgrades();
        tokio::pin!(served);
        let outcome = tokio::select! {
            outcome = &mut served => outcome,
            () = self.shutdown.cancelled() => {
                served.as_mut().graceful_shutdown();
                served.await
            }
        };
        if let Err(error) = outcome {
            tracing::trace!(%peer, %error, "a connection broke");
        }
    }

    pub(super) async fn http2<I>(&self, io: I, origin: Origin)
    where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let peer = origin.connection.peer;
        let ended = CancellationToken::new();
        let _end_streams = ended.clone().drop_guard();
        let streams = Streams::new(STALLED, ended);
        let service = self.router.clone().map_request(move |mut request: Request<Incoming>| {
            let fault = examine(&mut request);
            let request = request.map(|body| Leftover::new(body, STREAM_WINDOW as usize));
            origin.attach(request, fault, false)
        });
        let service = service.map_response(|response: http::Response<Body>| response.map(Told::new));
        let mut builder = http2::Builder::new(streams.clone());
        builder
            .timer(TokioTimer::new())
            .keep_alive_interval(PING_EVERY)
            .keep_alive_timeout(PING_DEADLINE)
            .max_concurrent_streams(MAX_STREAMS)
            .max_header_list_size(MAX_HEADER_LIST)
            .max_pending_accept_reset_streams(MAX_RESET_UNSEEN)
            .max_local_error_reset_streams(MAX_RESET_BY_US)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_send_buf_size(MAX_SEND_BUFFER);
        let served = builder.serve_connection(TokioIo::new(io), TowerToHyperService::new(service));
        let idle = tokio::time::sleep(IDLE);
        tokio::pin!(served, idle);
        let (mut leaving, mut patience) = (false, IDLE);
        let outcome = loop {
            tokio::select! {
                outcome = &mut served => break outcome,
                () = self.shutdown.cancelled(), if !leaving => {
                    served.as_mut().graceful_shutdown();
                    (leaving, patience) = (true, LINGER);
                    idle.as_mut().reset(Instant::now() + patience);
                }
                () = &mut idle => {
                    let now = Instant::now();
                    let until = streams.idle_since().map_or(now, |since| since) + patience;
                    if until > now {
                        idle.as_mut().reset(until);
                    } else if leaving {
                        tracing::trace!(%peer, "an idle connection was cut off");
                        return;
                    } else {
                        served.as_mut().graceful_shutdown();
                        (leaving, patience) = (true, IDLE + LINGER);
                        idle.as_mut().reset(now + LINGER);
                    }
                }
            }
        };
        if let Err(error) = outcome {
            tracing::trace!(%peer, %error, "a connection broke");
        }
    }
}

impl Origin {
    fn attach<B>(&self, mut request: Request<B>, fault: Option<super::framing::Fault>, last: bool) -> Request
    where
        B: hyper::body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<axum::BoxError>,
    {
        let extensions = request.extensions_mut();
        extensions.insert(self.connection);
        extensions.insert(Framing { fault, last, plain_on_tls: self.plain_on_tls });
        if let Some(certificate) = &self.certificate {
            extensions.insert(certificate.clone());
        }
        request.map(Body::new)
    }
}

/// The first byte, which stays to be read; none when there is nothing but the end.
async fn first_byte(stream: &TcpStream) -> io::Result<Option<u8>> {
    let mut byte = [0];
    let read = stream.peek(&mut byte).await?;
    Ok((read > 0).then_some(byte[0]))
}
