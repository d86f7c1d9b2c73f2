//! Answering on a socket.
//!
//! One loop over hyper. What axum's own does not have is here: a deadline for the head of a request, a cap on
//! connections and on stalled writes, and a drain with a deadline.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use hyper::body::Incoming;
use hyper::rt::{Read, Write};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use taskiq_flow_security::layer::Connection;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

use crate::stall::Unstalled;

/// How long a client may take for the head of a request, the time between two requests included.
const HEAD_DEADLINE: Duration = Duration::from_secs(10);
/// How long a client may take nothing of what is written to it.
const STALLED: Duration = Duration::from_secs(60);
/// The most connections open at once. Further ones wait to be accepted.
const MAX_CONNECTIONS: usize = 8192;
/// How long to wait when the process has run out of file descriptors.
const BREATHER: Duration = Duration::from_millis(100);

/// Answers on the listener until `shutdown` is cancelled. Then accepts nothing more, lets requests under way finish, at
/// most for `drain`, and returns. WebSockets are no longer requests: close them by
/// [`AppState::close_streams`](crate::AppState::close_streams).
pub async fn serve(listener: TcpListener, router: Router, shutdown: CancellationToken, drain: Duration) {
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let connections = TaskTracker::new();
    let abort = CancellationToken::new();
    loop {
        let accepted = tokio::select! {
            accepted = accept(&listener, &slots) => accepted,
            () = shutdown.cancelled() => break,
        };
        let Some((stream, peer, slot)) = accepted else { continue };
        // A failure only costs the small delay that it would have saved.
        let _ = stream.set_nodelay(true);
        let connection = Connection { peer: peer.ip().to_canonical(), native_tls: false };
        let served = serve_connection(TokioIo::new(stream), connection, router.clone(), shutdown.clone());
        let abort = abort.clone();
        connections.spawn(async move {
            tokio::select! {
                () = served => {}
                () = abort.cancelled() => {}
            }
            drop(slot);
        });
    }
    drop(listener);
    connections.close();
    if tokio::time::timeout(drain, connections.wait()).await.is_err() {
        tracing::warn!(connections = connections.len(), "requests under way were cut off");
        abort.cancel();
        connections.wait().await;
    }
}

/// Answers on one connection, of whatever transport, until it ends or `shutdown` is cancelled and the request under
/// way is done.
pub async fn serve_connection<I>(io: I, connection: Connection, router: Router, shutdown: CancellationToken)
where
    I: Read + Write + Unpin + Send + 'static,
{
    let service = router.map_request(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(connection);
        request.map(axum::body::Body::new)
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD_DEADLINE).max_buf_size(64 << 10);
    let io = TokioIo::new(Unstalled::new(TokioIo::new(io), STALLED));
    let served = builder.serve_connection(io, TowerToHyperService::new(service)).with_upgrades();
    tokio::pin!(served);
    let outcome = tokio::select! {
        outcome = &mut served => outcome,
        () = shutdown.cancelled() => {
            served.as_mut().graceful_shutdown();
            served.await
        }
    };
    if let Err(error) = outcome {
        tracing::trace!(peer = %connection.peer, %error, "a connection broke");
    }
}

async fn accept(
    listener: &TcpListener,
    slots: &Arc<Semaphore>,
) -> Option<(tokio::net::TcpStream, SocketAddr, tokio::sync::OwnedSemaphorePermit)> {
    let slot = Arc::clone(slots).acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, peer)) => Some((stream, peer, slot)),
        Err(error) => {
            let of_one = matches!(
                error.kind(),
                io::ErrorKind::ConnectionAborted
                    | io::ErrorKind::ConnectionReset
                    | io::ErrorKind::ConnectionRefused
            );
            if !of_one {
                tracing::error!(%error, "no connection can be accepted now");
                tokio::time::sleep(BREATHER).await;
            }
            None
        }
    }
}
