//! Answering on a socket.
//!
//! One loop over hyper, with or without TLS. What axum's own does not have is here:
//!
//! | against | there is | in |
//! |---|---|---|
//! | those who open and say nothing | deadlines for the handshake, the head of a request and the time between two | `connection` |
//! | those who ask and take nothing | a deadline for stalled writes, for each stream of HTTP/2 too | `stall`, `streams` |
//! | those who open very many | a cap on connections in all and for each address | `peers` |
//! | requests that two servers read differently | a second look at their framing | `head`, `framing` |
//! | floods within HTTP/2 | limits on streams, resets, headers and windows | `connection` |
//! | refusals that end what others do on the same connection | the rest of a refused request is taken | `leftover` |
//!
//! HTTP/2 is spoken over TLS, to clients that choose it by ALPN; never in the clear. WebSockets are opened over
//! HTTP/1.1: the extended CONNECT of RFC 8441 is not offered, and browsers then open a connection for each.

mod connection;
mod framing;
mod head;
mod leftover;
mod peers;
mod stall;
mod streams;
#[cfg(test)]
mod tests;
mod tls;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use parking_lot::Mutex;
use taskiq_flow_security::Guard;
use taskiq_flow_security::layer::Connection;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::connection::Site;
pub(crate) use self::framing::Framing;
use self::peers::Peers;
pub use self::tls::{PROTOCOLS, Tls};

/// How long a client may take for the head of a request, the time between two requests included.
const HEAD_DEADLINE: Duration = Duration::from_secs(10);
/// How long a client may take nothing of what is written to it.
const STALLED: Duration = Duration::from_secs(60);
/// The longest head of an HTTP/1 request, in bytes; a longer one is answered 431.
const MAX_HEAD_BYTES: usize = 64 << 10;
/// How long to wait when the process has run out of file descriptors.
const BREATHER: Duration = Duration::from_millis(100);
/// How often it is logged that an address has too many connections.
const SAY_CROWDED_EVERY: Duration = Duration::from_secs(60);

/// How [`serve`] answers.
#[derive(Debug, Clone)]
pub struct ServeOptions {
    /// TLS; none: plain HTTP/1.1.
    pub tls: Option<Tls>,
    /// The most connections open at once, WebSockets included. Further ones wait to be accepted.
    pub max_connections: usize,
    /// The most connections of one address (IPv6: of one /64) open at once. Further ones are closed.
    pub max_connections_per_address: usize,
    /// Whose trusted proxies may have any number of connections: they carry those of others.
    pub guard: Option<Guard>,
    /// How long requests under way may take to finish at the end.
    pub drain: Duration,
}

impl Default for ServeOptions {
    fn default() -> Self {
        Self {
            tls: None,
            max_connections: 8192,
            max_connections_per_address: 256,
            guard: None,
            drain: Duration::from_secs(1),
        }
    }
}

/// Answers on the listener until `shutdown` is cancelled. Then accepts nothing more, lets requests under way finish, at
/// most for [`ServeOptions::drain`], and returns. WebSockets are no longer requests: close them by
/// [`AppState::close_streams`](crate::AppState::close_streams).
pub async fn serve(
    listener: TcpListener,
    router: Router,
    options: ServeOptions,
    shutdown: CancellationToken,
) {
    let slots = Arc::new(Semaphore::new(options.max_connections.min(Semaphore::MAX_PERMITS)));
    let peers = Peers::new(options.max_connections_per_address);
    let crowded = Mutex::new(None);
    let site = Site { router, tls: options.tls, shutdown: shutdown.clone() };
    let connections = TaskTracker::new();
    let abort = CancellationToken::new();
    loop {
        let accepted = tokio::select! {
            accepted = accept(&listener, &slots) => accepted,
            () = shutdown.cancelled() => break,
        };
        let Some((stream, peer, slot)) = accepted else { continue };
        let connection = Connection { peer: peer.ip().to_canonical(), native_tls: false };
        let guard = options.guard.as_ref();
        let carries_others =
            guard.is_some_and(|guard| guard.settings().trusted_proxies().trusts(connection.peer));
        let place = match carries_others {
            true => None,
            false => match peers.enter(connection.peer) {
                Some(place) => Some(place),
                None => {
                    refuse_crowd(&connection, &crowded);
                    continue;
                }
            },
        };
        // A failure only costs the small delay that it would have saved.
        let _ = stream.set_nodelay(true);
        let (site, abort) = (site.clone(), abort.clone());
        connections.spawn(async move {
            tokio::select! {
                () = site.answer(stream, connection, (slot, place)) => {}
                () = abort.cancelled() => {}
            }
        });
    }
    drop(listener);
    connections.close();
    if tokio::time::timeout(options.drain, connections.wait()).await.is_err() {
        tracing::warn!(connections = connections.len(), "requests under way were cut off");
        abort.cancel();
        connections.wait().await;
    }
}

async fn accept(
    listener: &TcpListener,
    slots: &Arc<Semaphore>,
) -> Option<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
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

/// Counts a connection that is closed because its address has too many, and now and then says so: whoever wants the
/// log full has only to knock.
fn refuse_crowd(connection: &Connection, said: &Mutex<Option<Instant>>) {
    metrics::counter!("taskiq_flow_connections_refused_total").increment(1);
    let mut said = said.lock();
    if said.is_none_or(|at| at.elapsed() >= SAY_CROWDED_EVERY) {
        *said = Some(Instant::now());
        tracing::warn!(
            peer = %connection.peer,
            "a connection was closed: its address has as many as max_connections_per_address allows"
        );
    }
}
