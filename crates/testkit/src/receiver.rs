//! A receiver of webhooks, well-behaved or not.

use std::net::SocketAddr;
use std::sync::Arc;

use hmac::{Hmac, KeyInit, Mac};
use parking_lot::Mutex;
use serde_json::Value;
use sha2::Sha256;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::connections::answer_each;
use crate::wait::until;

/// A web server on loopback that keeps what is posted to it. It is gone when this is dropped.
#[derive(Debug)]
pub struct Receiver {
    address: SocketAddr,
    shared: Arc<Mutex<Shared>>,
    task: JoinHandle<()>,
}

/// How a receiver answers.
#[derive(Debug, Clone)]
pub enum Reaction {
    /// This status, with these header lines and this body.
    Answer(u16, Vec<String>, String),
    /// The connection stays open, and nothing comes.
    Silence,
    /// The connection is closed without an answer.
    Nothing,
}

/// A request as it came.
#[derive(Debug, Clone)]
pub struct Received {
    /// Method and path.
    pub line: String,
    /// Its headers, names in lower case.
    pub headers: Vec<(String, String)>,
    /// Its body.
    pub body: String,
}

#[derive(Debug)]
struct Shared {
    reaction: Reaction,
    received: Vec<Received>,
    /// Requests that are under way: not answered, and their connections are open.
    open: usize,
    /// The most that ever were.
    most_open: usize,
}

/// Counts a request as under way as long as it is there.
struct Open<'a>(&'a Mutex<Shared>);

impl<'a> Open<'a> {
    fn new(shared: &'a Mutex<Shared>) -> Self {
        let mut counts = shared.lock();
        counts.open += 1;
        counts.most_open = counts.most_open.max(counts.open);
        Self(shared)
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.lock().open -= 1;
    }
}

impl Receiver {
    /// A receiver that takes everything.
    ///
    /// # Panics
    /// When there is no port.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await;
        let listener = listener.unwrap_or_else(|error| panic!("no port: {error}"));
        let address = listener.local_addr().unwrap_or_else(|error| panic!("no address: {error}"));
        let shared = Shared { reaction: Reaction::status(204), received: Vec::new(), open: 0, most_open: 0 };
        let shared = Arc::new(Mutex::new(shared));
        let of_each = Arc::clone(&shared);
        let task = tokio::spawn(answer_each(listener, move |stream| {
            let shared = Arc::clone(&of_each);
            async move { answer(stream, &shared).await }
        }));
        Self { address, shared, task }
    }

    /// Where it is.
    pub fn url(&self) -> String {
        format!("http://{}/hook", self.address)
    }

    /// Reacts like this from now on.
    pub fn react(&self, reaction: Reaction) {
        self.shared.lock().reaction = reaction;
    }

    /// What has come so far.
    pub fn received(&self) -> Vec<Received> {
        self.shared.lock().received.clone()
    }

    /// How many requests are under way, and the most that ever were at once. One that the other side has given up counts
    /// until that is noticed.
    pub fn open(&self) -> (usize, usize) {
        let shared = self.shared.lock();
        (shared.open, shared.most_open)
    }

    /// What has come once it is `count` requests.
    ///
    /// # Panics
    /// When they do not come within `limit`.
    pub async fn wait_for(&self, count: usize, limit: std::time::Duration) -> Vec<Received> {
        let all =
            until(limit, async || Some(self.received()).filter(|received| received.len() >= count)).await;
        all.unwrap_or_else(|| panic!("{count} requests did not come: {:#?}", self.received()))
    }
}

impl Reaction {
    /// A status alone.
    pub fn status(status: u16) -> Self {
        Self::Answer(status, Vec::new(), String::new())
    }
}

impl Received {
    /// The value of a header; empty: it has none.
    pub fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value)
    }

    /// Its body as JSON.
    ///
    /// # Panics
    /// When it is none.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    /// Whether `X-TaskIQ-Flow-Signature` is that of the body under this secret.
    pub fn is_signed_by(&self, secret: &str) -> bool {
        let signature = self.header("x-taskiq-flow-signature");
        let Some((time, digest)) = signature.strip_prefix("t=").and_then(|rest| rest.split_once(",v1="))
        else {
            return false;
        };
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret.as_bytes()) else { return false };
        mac.update(format!("{time}.{}", self.body).as_bytes());
        let expected: String = mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        expected == digest
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn answer(mut stream: TcpStream, shared: &Mutex<Shared>) -> std::io::Result<()> {
    let mut bytes = Vec::new();
    let head_end = loop {
        if let Some(place) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break place;
        }
        if stream.read_buf(&mut bytes).await? == 0 {
            return Ok(());
        }
    };
    let head = String::from_utf8_lossy(&bytes[..head_end]).into_owned();
    let mut lines = head.split("\r\n");
    let line = lines.next().unwrap_or_default().trim_end_matches(" HTTP/1.1").to_owned();
    let header = |line: &str| {
        let (name, value) = line.split_once(':')?;
        Some((name.to_ascii_lowercase(), value.trim().to_owned()))
    };
    let headers: Vec<_> = lines.filter_map(header).collect();
    let length = headers.iter().find(|(name, _)| name == "content-length");
    let length = length.and_then(|(_, value)| value.parse::<usize>().ok()).unwrap_or(0);
    let mut body = bytes.split_off(head_end + 4);
    while body.len() < length {
        if stream.read_buf(&mut body).await? == 0 {
            return Ok(());
        }
    }
    let _open = Open::new(shared);
    let reaction = {
        let mut shared = shared.lock();
        let body = String::from_utf8_lossy(&body).into_owned();
        shared.received.push(Received { line, headers, body });
        shared.reaction.clone()
    };
    match reaction {
        Reaction::Nothing => Ok(()),
        Reaction::Silence => {
            // Until the other side has had enough.
            while stream.read_buf(&mut body).await? > 0 {}
            Ok(())
        }
        Reaction::Answer(status, headers, text) => {
            let headers: String = headers.iter().map(|line| format!("{line}\r\n")).collect();
            let length = text.len();
            let text = format!(
                "HTTP/1.1 {status} Answer\r\nContent-Length: {length}\r\n{headers}Connection: close\r\n\r\n{text}"
            );
            stream.write_all(text.as_bytes()).await?;
            stream.shutdown().await
        }
    }
}
