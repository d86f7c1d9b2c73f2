//! TLS on the listener: the terms in force, and the handshake.

use std::fmt;
use std::io;
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use taskiq_flow_security::certificate::{CertificateFacts, ClientCertificate, ClientTrust};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// What ALPN calls HTTP/2 and HTTP/1.1, the one we like better first.
pub const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// The TLS of a listener. It can be exchanged while the listener serves: handshakes from then on see the new, open
/// connections go on. Clones are the same.
#[derive(Clone)]
pub struct Tls(Arc<ArcSwap<Terms>>);

/// What a handshake goes by.
struct Terms {
    config: Arc<ServerConfig>,
    clients: ClientTrust,
}

/// A finished handshake.
pub(super) struct Secured<I> {
    pub(super) io: TlsStream<I>,
    /// Whether the client chose HTTP/2.
    pub(super) http2: bool,
    pub(super) certificate: Option<ClientCertificate>,
}

impl Tls {
    /// Begins with this configuration. It should offer [`PROTOCOLS`].
    pub fn new(config: ServerConfig) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(Terms { config: Arc::new(config), clients: ClientTrust::new() })))
    }

    /// Puts another configuration in force. Where other authorities vouch for clients than before (`same_clients` is
    /// false), no certificate of an open connection counts any more.
    pub fn replace(&self, config: ServerConfig, same_clients: bool) {
        let before = self.0.load_full();
        let clients = if same_clients { before.clients.clone() } else { ClientTrust::new() };
        self.0.store(Arc::new(Terms { config: Arc::new(config), clients }));
        if !same_clients {
            before.clients.withdraw();
        }
    }

    /// The server's side of a handshake.
    pub(super) async fn accept<I: AsyncRead + AsyncWrite + Unpin>(&self, io: I) -> io::Result<Secured<I>> {
        let terms = self.0.load_full();
        let io = TlsAcceptor::from(Arc::clone(&terms.config)).accept(io).await?;
        let session = io.get_ref().1;
        let http2 = session.alpn_protocol() == Some(PROTOCOLS[0]);
        let certificate = match session.peer_certificates().and_then(<[_]>::first) {
            // An authority of ours signed it; what cannot be read is still nobody's.
            Some(leaf) => match CertificateFacts::from_der(leaf) {
                Ok(facts) => Some(ClientCertificate::new(facts, terms.clients.clone())),
                Err(error) => {
                    tracing::debug!(%error, "a client's certificate cannot be read");
                    None
                }
            },
            None => None,
        };
        Ok(Secured { io, http2, certificate })
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tls")
    }
}
