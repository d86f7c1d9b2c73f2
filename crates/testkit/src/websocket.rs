//! A WebSocket client.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use http::header::{HeaderName, HeaderValue};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::error::Error;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Message, protocol::CloseFrame};
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

use crate::client::Reply;
use crate::tls;
use crate::wait::within;

/// The longest a handshake may take, and the longest to wait for a message unless told otherwise.
const LIMIT: Duration = Duration::from_secs(10);

/// What a socket can run over.
trait Connection: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Connection for T {}

/// An open WebSocket.
pub struct Socket {
    stream: WebSocketStream<Box<dyn Connection>>,
}

/// What comes out of a socket.
#[derive(Debug, Clone, PartialEq)]
pub enum Incoming {
    /// A message, as JSON.
    Message(Value),
    /// The other side closed, with this code; 1005 when it gave none.
    Closed(u16, String),
    /// The connection ended without a close, or there was a protocol error.
    Lost(String),
}

impl Socket {
    /// Opens a socket at a `ws://` address.
    ///
    /// # Errors
    /// The answer, when it is no upgrade.
    ///
    /// # Panics
    /// When there is no answer.
    pub async fn connect(url: &str, headers: &[(&str, &str)]) -> Result<Self, Box<Reply>> {
        let authority = url.trim_start_matches("ws://").split('/').next().unwrap_or_default();
        let stream = TcpStream::connect(authority).await;
        let stream = stream.unwrap_or_else(|error| panic!("{authority}: {error}"));
        Self::over(Box::new(stream), url, headers).await
    }

    /// Opens a socket at a `wss://` address whose host is at `address` and has this certificate (PEM).
    ///
    /// # Errors
    /// The answer, when it is no upgrade.
    ///
    /// # Panics
    /// When there is no answer, or the certificate is another.
    pub async fn connect_tls(
        url: &str,
        address: SocketAddr,
        certificate: &str,
        headers: &[(&str, &str)],
    ) -> Result<Self, Box<Reply>> {
        let host = url.trim_start_matches("wss://").split(['/', ':']).next().unwrap_or_default();
        let stream = tls::connect(host, address, certificate, None).await;
        Self::over(Box::new(stream), url, headers).await
    }

    /// As [`Socket::connect_tls`], showing a certificate of its own when it is asked for one.
    ///
    /// # Errors
    /// The answer, when it is no upgrade.
    ///
    /// # Panics
    /// When there is no answer, or the certificate is another.
    pub async fn connect_mutual_tls(
        url: &str,
        address: SocketAddr,
        certificate: &str,
        identity: &tls::Pair,
        headers: &[(&str, &str)],
    ) -> Result<Self, Box<Reply>> {
        let stream = tls::connect("localhost", address, certificate, Some(identity)).await;
        Self::over(Box::new(stream), url, headers).await
    }

    async fn over(
        stream: Box<dyn Connection>,
        url: &str,
        headers: &[(&str, &str)],
    ) -> Result<Self, Box<Reply>> {
        let mut request = url.into_client_request().unwrap_or_else(|error| panic!("{url}: {error}"));
        for (name, value) in headers {
            let name = HeaderName::try_from(*name).unwrap_or_else(|error| panic!("{name:?}: {error}"));
            let value = HeaderValue::try_from(*value).unwrap_or_else(|error| panic!("{value:?}: {error}"));
            request.headers_mut().insert(name, value);
        }
        // The usual 128 KiB of buffer for each of a thousand sockets would be a lot of memory.
        let config = WebSocketConfig::default().read_buffer_size(4096).write_buffer_size(4096);
        match within(LIMIT, url, client_async_with_config(request, stream, Some(config))).await {
            Ok((stream, _)) => Ok(Self { stream }),
            Err(Error::Http(response)) => {
                let (parts, body) = response.into_parts();
                let (version, status, headers) = (parts.version, parts.status.as_u16(), parts.headers);
                Err(Box::new(Reply { version, status, headers, body: body.unwrap_or_default() }))
            }
            Err(error) => panic!("{url}: {error}"),
        }
    }

    /// Sends a message.
    ///
    /// # Panics
    /// When the connection is gone.
    pub async fn send(&mut self, message: &Value) {
        self.send_text(&message.to_string()).await;
    }

    /// Sends a text that need not be JSON.
    ///
    /// # Panics
    /// When the connection is gone.
    pub async fn send_text(&mut self, text: &str) {
        let sent = within(LIMIT, "sending", self.stream.send(Message::text(text))).await;
        sent.unwrap_or_else(|error| panic!("sending {text:?}: {error}"));
    }

    /// The next message or the end, within `limit`; none when nothing comes. Pings are answered and not shown.
    pub async fn next(&mut self, limit: Duration) -> Option<Incoming> {
        loop {
            let next = tokio::time::timeout(limit, self.stream.next()).await.ok()?;
            return Some(match next {
                Some(Ok(Message::Text(text))) => match serde_json::from_str(text.as_str()) {
                    Ok(value) => Incoming::Message(value),
                    Err(error) => panic!("a message that is no JSON ({error}): {text}"),
                },
                Some(Ok(Message::Close(Some(CloseFrame { code, reason })))) => {
                    Incoming::Closed(code.into(), reason.to_string())
                }
                Some(Ok(Message::Close(None))) => Incoming::Closed(1005, String::new()),
                Some(Ok(Message::Binary(_))) => panic!("a binary message"),
                Some(Ok(_)) => continue,
                Some(Err(error)) => Incoming::Lost(error.to_string()),
                None => Incoming::Lost("end of stream".to_owned()),
            });
        }
    }

    /// The next message, within 10 seconds.
    ///
    /// # Panics
    /// When nothing comes, or the end does.
    #[track_caller]
    pub fn recv(&mut self) -> impl Future<Output = Value> {
        let caller = std::panic::Location::caller();
        async move {
            match self.next(LIMIT).await {
                Some(Incoming::Message(message)) => message,
                other => panic!("{caller}: expected a message, got {other:?}"),
            }
        }
    }

    /// The next message of this type, heartbeats left out.
    ///
    /// # Panics
    /// When something else comes.
    #[track_caller]
    pub fn expect(&mut self, kind: &str) -> impl Future<Output = Value> {
        let caller = std::panic::Location::caller();
        async move {
            loop {
                match self.next(LIMIT).await {
                    Some(Incoming::Message(message)) if message["type"] == kind => return message,
                    Some(Incoming::Message(message)) if message["type"] == "heartbeat" => {}
                    other => panic!("{caller}: expected `{kind}`, got {other:?}"),
                }
            }
        }
    }

    /// The code and reason of the close that must come next.
    ///
    /// # Panics
    /// When something else comes.
    #[track_caller]
    pub fn expect_close(&mut self, limit: Duration) -> impl Future<Output = (u16, String)> {
        let caller = std::panic::Location::caller();
        async move {
            match self.next(limit).await {
                Some(Incoming::Closed(code, reason)) => (code, reason),
                other => panic!("{caller}: expected a close, got {other:?}"),
            }
        }
    }

    /// Closes it.
    pub async fn close(mut self) {
        // It may be closed already.
        let _ = within(LIMIT, "closing", self.stream.close(None)).await;
    }
}

impl fmt::Debug for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Socket").finish_non_exhaustive()
    }
}
