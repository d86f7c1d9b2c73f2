//! How a server is asked.

use std::collections::HashMap;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use http::header::{AUTHORIZATION, HeaderName, HeaderValue, RETRY_AFTER};
use http::{HeaderMap, Method, Version};
use serde_json::Value;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::protocol::Role;

use crate::world::Credential;

/// The longest an answer may take.
const LIMIT: Duration = Duration::from_secs(60);
/// How long a connection is kept for the next request: less than servers keep one that is idle.
const IDLE: Duration = Duration::from_secs(2);
/// The longest a message of a socket may take.
const MESSAGE: Duration = Duration::from_secs(10);
/// What differs from answer to answer and tells nothing.
const BY_CHANCE: [&str; 6] =
    ["x-request-id", "date", "ratelimit", "ratelimit-policy", "retry-after", "content-length"];

/// Asks one server, over TLS by the version of HTTP that it and the client like best. Follows no redirect.
#[derive(Debug, Clone)]
pub struct Client {
    plain: Ways,
    /// Those that show a certificate, by its name: connections of one must not be used for another.
    showing: HashMap<String, Ways>,
    base: String,
    headers: HeaderMap,
}

/// How requests go.
#[derive(Debug, Clone)]
struct Ways {
    requests: reqwest::Client,
    /// Each WebSocket has a connection of its own.
    sockets: reqwest::Client,
}

/// An answer.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// The version of HTTP that it came by.
    pub version: Version,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body; of a stream, nothing.
    pub body: Vec<u8>,
}

/// An open socket.
#[derive(Debug)]
pub struct Socket(WebSocketStream<reqwest::Upgraded>);

/// What comes out of a socket.
#[derive(Debug, Clone, PartialEq)]
pub enum Incoming {
    /// A message.
    Message(Value),
    /// A close, with its code.
    Closed(u16),
    /// The end without a close.
    Gone,
    /// Nothing for a while.
    Nothing,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// The request could not be sent, or the answer not be read.
    #[error("{method} {path}: {}", cause(source))]
    Http {
        /// The method.
        method: Method,
        /// The path.
        path: String,
        /// What stands against it.
        source: reqwest::Error,
    },
    /// A client cannot be made.
    #[error("no client: {0}")]
    Client(reqwest::Error),
    /// A credential cannot stand in a header.
    #[error("the credential cannot stand in a header")]
    Credential,
    /// The client has no such certificate.
    #[error("the client has no certificate called `{0}`")]
    Certificate(String),
}

impl Client {
    /// Asks the server at `base`, such as `https://flow.example.com`, with these headers on every request. `builder`
    /// makes the client underneath, with its proxies and authorities.
    ///
    /// # Errors
    /// [`ClientError::Client`].
    pub fn new(
        base: &str,
        headers: HeaderMap,
        builder: impl Fn() -> reqwest::ClientBuilder,
    ) -> Result<Self, ClientError> {
        Ok(Self {
            plain: Ways::new(builder)?,
            showing: HashMap::new(),
            base: base.trim_end_matches('/').to_owned(),
            headers,
        })
    }

    /// The same, with a certificate that [`Credential::Certificate`] names. What `builder` makes shows it.
    ///
    /// # Errors
    /// [`ClientError::Client`].
    pub fn with_certificate(
        mut self,
        name: &str,
        builder: impl Fn() -> reqwest::ClientBuilder,
    ) -> Result<Self, ClientError> {
        self.showing.insert(name.to_owned(), Ways::new(builder)?);
        Ok(self)
    }

    fn ways(&self, credential: &Credential) -> Result<&Ways, ClientError> {
        match credential {
            Credential::Certificate(name) => {
                self.showing.get(name).ok_or_else(|| ClientError::Certificate(name.clone()))
            }
            Credential::None | Credential::Key(_) | Credential::Token(_) => Ok(&self.plain),
        }
    }

    /// Asks.
    ///
    /// # Errors
    /// There is no answer.
    pub async fn ask(
        &self,
        method: &Method,
        path: &str,
        credential: &Credential,
        body: Option<String>,
        stream: bool,
    ) -> Result<Answer, ClientError> {
        let mut headers = self.headers.clone();
        present(&mut headers, credential)?;
        if body.is_some() {
            headers.insert("content-type", HeaderValue::from_static("application/json"));
        }
        if stream {
            headers.insert("accept", HeaderValue::from_static("text/event-stream"));
        }
        let http = &self.ways(credential)?.requests;
        let request = http.request(method.clone(), format!("{}{path}", self.base)).headers(headers);
        let request = match body {
            Some(body) => request.body(body),
            None => request,
        };
        let failed = |source| ClientError::Http { method: method.clone(), path: path.to_owned(), source };
        let response = request.timeout(LIMIT).send().await.map_err(failed)?;
        let (status, version) = (response.status().as_u16(), response.version());
        let headers = response.headers().clone();
        let body = match stream && status == 200 {
            true => Vec::new(),
            false => response.bytes().await.map_err(failed)?.to_vec(),
        };
        Ok(Answer { status, version, headers, body })
    }

    /// As [`Client::ask`], and waits where the server says that it was asked too often.
    ///
    /// # Errors
    /// There is no answer.
    pub async fn ask_patiently(
        &self,
        method: Method,
        path: &str,
        credential: &Credential,
        body: Option<String>,
    ) -> Result<Answer, ClientError> {
        loop {
            let answer = self.ask(&method, path, credential, body.clone(), false).await?;
            match answer.retry_after() {
                Some(wait) => tokio::time::sleep(wait).await,
                None => return Ok(answer),
            }
        }
    }

    /// Opens a WebSocket; the answer, when it is no upgrade.
    ///
    /// # Errors
    /// There is no answer.
    pub async fn open(
        &self,
        path: &str,
        credential: &Credential,
    ) -> Result<Result<Socket, Answer>, ClientError> {
        let mut headers = self.headers.clone();
        present(&mut headers, credential)?;
        for (name, value) in
            [("connection", "upgrade"), ("upgrade", "websocket"), ("sec-websocket-version", "13")]
        {
            headers.insert(name, HeaderValue::from_static(value));
        }
        let key = HeaderValue::try_from(generate_key()).map_err(|_| ClientError::Credential)?;
        headers.insert("sec-websocket-key", key);
        let failed = |source| ClientError::Http { method: Method::GET, path: path.to_owned(), source };
        let sockets = &self.ways(credential)?.sockets;
        let request = sockets.get(format!("{}{path}", self.base)).headers(headers);
        let response = tokio::time::timeout(LIMIT, request.send()).await;
        let Ok(response) = response else {
            let (version, headers) = (Version::HTTP_11, HeaderMap::new());
            return Ok(Err(Answer { status: 0, version, headers, body: Vec::new() }));
        };
        let response = response.map_err(failed)?;
        let (status, version) = (response.status().as_u16(), response.version());
        if status != 101 {
            let headers = response.headers().clone();
            return Ok(Err(Answer {
                status,
                version,
                headers,
                body: response.bytes().await.map_err(failed)?.to_vec(),
            }));
        }
        let upgraded = response.upgrade().await.map_err(failed)?;
        Ok(Ok(Socket(WebSocketStream::from_raw_socket(upgraded, Role::Client, None).await)))
    }
}

impl Ways {
    fn new(builder: impl Fn() -> reqwest::ClientBuilder) -> Result<Self, ClientError> {
        let builder = || {
            builder()
                .redirect(reqwest::redirect::Policy::none())
                .connect_timeout(LIMIT)
                .pool_idle_timeout(IDLE)
        };
        // A WebSocket begins with an upgrade, and HTTP/2 has none.
        let sockets = builder().pool_max_idle_per_host(0).http1_only();
        Ok(Self {
            requests: builder().build().map_err(ClientError::Client)?,
            sockets: sockets.build().map_err(ClientError::Client)?,
        })
    }
}

impl Answer {
    /// A header; empty when it is not there.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// The body as JSON; null when it is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// How long to wait, where the server says that it was asked too often.
    pub fn retry_after(&self) -> Option<Duration> {
        let seconds = || self.headers.get(RETRY_AFTER)?.to_str().ok()?.parse::<u64>().ok();
        (self.status == 429).then(|| Duration::from_secs(seconds().unwrap_or(1).clamp(1, 3600)))
    }

    /// Status, headers and body without what differs by chance.
    pub(crate) fn without_chance(&self) -> String {
        let mut lines: Vec<String> = self
            .headers
            .iter()
            .filter(|(name, _)| !BY_CHANCE.contains(&name.as_str()))
            .map(|(name, value)| format!("{name}: {}", String::from_utf8_lossy(value.as_bytes())))
            .collect();
        lines.sort();
        let mut body = self.json();
        if let Some(document) = body.as_object_mut() {
            document.remove("request_id");
        }
        format!("{} {} {body}", self.status, lines.join("; "))
    }
}

impl Socket {
    /// Says something. A socket that is gone says so when it is listened to.
    pub async fn say(&mut self, message: &Value) {
        let _ = tokio::time::timeout(MESSAGE, self.0.send(Message::text(message.to_string()))).await;
    }

    /// What comes next, but for heartbeats and events, waiting at most this long.
    pub async fn next(&mut self, limit: Duration) -> Incoming {
        loop {
            let Ok(next) = tokio::time::timeout(limit, self.0.next()).await else { return Incoming::Nothing };
            return match next {
                Some(Ok(Message::Text(text))) => {
                    let message: Value = serde_json::from_str(text.as_str()).unwrap_or_default();
                    let kind = message["type"].as_str().unwrap_or_default();
                    if kind == "heartbeat" || kind.ends_with("Event") {
                        continue;
                    }
                    Incoming::Message(message)
                }
                Some(Ok(Message::Close(frame))) => {
                    Incoming::Closed(frame.map_or(1005, |frame| frame.code.into()))
                }
                Some(Ok(_)) => continue,
                Some(Err(_)) | None => Incoming::Gone,
            };
        }
    }

    /// What comes next, waiting as long as a message may take.
    pub async fn answer(&mut self) -> Incoming {
        self.next(MESSAGE).await
    }

    /// Says goodbye.
    pub async fn close(mut self) {
        let _ = tokio::time::timeout(MESSAGE, self.0.close(None)).await;
    }
}

fn present(headers: &mut HeaderMap, credential: &Credential) -> Result<(), ClientError> {
    let (name, text) = match credential {
        // A certificate has been shown with the handshake of the connection.
        Credential::None | Credential::Certificate(_) => return Ok(()),
        Credential::Key(key) => (HeaderName::from_static("x-api-key"), key.clone()),
        Credential::Token(token) => (AUTHORIZATION, format!("Bearer {token}")),
    };
    let mut value = HeaderValue::try_from(text).map_err(|_| ClientError::Credential)?;
    value.set_sensitive(true);
    headers.insert(name, value);
    Ok(())
}

/// Why a request got no answer, by the innermost cause: the outer ones say only that something failed. What people meet
/// first when they set TLS up is said with its fix.
pub fn cause(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    let text = cause.to_string();
    match mend_of_tls(&text) {
        Some(fix) => fix.to_owned(),
        None => text,
    }
}

/// By the words of the library, which is not to be known here: where they change, they are shown as they are.
fn mend_of_tls(text: &str) -> Option<&'static str> {
    const FIXES: [(&str, &str); 6] = [
        ("InvalidContentType", "it does not speak TLS there; is its address http://…?"),
        (
            "UnknownIssuer",
            "its certificate is of no authority that is trusted here; trust the one that signed it, or a self-signed one itself, \
             by --ca FILE",
        ),
        (
            "CaUsedAsEndEntity",
            "its certificate is one for an authority (CA:TRUE), which no server may show; make one with `openssl req -x509 … \
             -addext basicConstraints=critical,CA:FALSE`",
        ),
        ("NotValidForName", "its certificate is for another name than that of the address"),
        ("certificate not valid for name", "its certificate is for another name than that of the address"),
        ("certificate expired", "its certificate has expired"),
    ];
    let tls = text.starts_with("invalid peer certificate: ") || text.starts_with("received corrupt message");
    FIXES.into_iter().find(|(words, _)| tls && text.contains(words)).map(|(_, fix)| fix)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_handshake_fails_for_is_said_with_its_mend() {
        for (text, fix) in [
            ("received corrupt message of type InvalidContentType", Some("http://")),
            ("invalid peer certificate: UnknownIssuer", Some("--ca")),
            ("invalid peer certificate: Other(OtherError(CaUsedAsEndEntity))", Some("CA:FALSE")),
            ("invalid peer certificate: NotValidForName", Some("another name")),
            ("invalid peer certificate: BadSignature", None),
            ("UnknownIssuer", None),
        ] {
            let said = mend_of_tls(text);
            assert_eq!(said.is_some(), fix.is_some(), "{text}");
            assert!(said.unwrap_or_default().contains(fix.unwrap_or_default()), "{text}: {said:?}");
        }
    }
}
