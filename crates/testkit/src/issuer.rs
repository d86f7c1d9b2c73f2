//! An issuer that publishes its keys, well-behaved or not.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::connections::answer_each;
use crate::signing::SigningKey;

/// A web server on loopback at whose `/jwks.json` keys are. It is gone when this is dropped.
#[derive(Debug)]
pub struct Issuer {
    address: SocketAddr,
    shared: Arc<Mutex<Shared>>,
    task: JoinHandle<()>,
}

/// What an issuer answers.
#[derive(Debug, Clone)]
pub enum Answer {
    /// These bytes as JSON, with these header lines.
    Body(String, Vec<String>),
    /// This status, with these header lines and no body.
    Status(u16, Vec<String>),
    /// The bytes after a pause.
    Late(Duration, String),
    /// JSON without end, in chunks.
    Endless,
    /// The connection is closed without an answer.
    Nothing,
}

#[derive(Debug)]
struct Shared {
    answer: Answer,
    /// The path of each request, in order.
    asked: Vec<String>,
}

impl Issuer {
    /// Publishes these keys.
    ///
    /// # Panics
    /// When there is no port.
    pub async fn start(keys: &[&SigningKey]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await;
        let listener = listener.unwrap_or_else(|error| panic!("no port: {error}"));
        let address = listener.local_addr().unwrap_or_else(|error| panic!("no address: {error}"));
        let shared = Arc::new(Mutex::new(Shared { answer: Answer::keys(keys), asked: Vec::new() }));
        let of_each = Arc::clone(&shared);
        let task = tokio::spawn(answer_each(listener, move |stream| {
            let shared = Arc::clone(&of_each);
            async move { answer(stream, &shared).await }
        }));
        Self { address, shared, task }
    }

    /// Where its keys are.
    pub fn url(&self) -> String {
        format!("http://{}/jwks.json", self.address)
    }

    /// Answers this from now on.
    pub fn answer(&self, answer: Answer) {
        self.shared().answer = answer;
    }

    /// Publishes these keys from now on.
    pub fn publish(&self, keys: &[&SigningKey]) {
        self.answer(Answer::keys(keys));
    }

    /// How often it was asked.
    pub fn asked(&self) -> usize {
        self.shared().asked.len()
    }

    /// The paths it was asked for.
    pub fn paths(&self) -> Vec<String> {
        self.shared().asked.clone()
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock()
    }
}

impl Answer {
    /// A set of these keys.
    pub fn keys(keys: &[&SigningKey]) -> Self {
        let keys: Vec<Value> = keys.iter().map(|key| key.jwk()).collect();
        Answer::set(&keys)
    }

    /// A set of these keys as they are.
    pub fn set(keys: &[Value]) -> Self {
        Answer::Body(json!({ "keys": keys }).to_string(), Vec::new())
    }
}

impl Drop for Issuer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn answer(mut stream: TcpStream, shared: &Mutex<Shared>) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        if stream.read(&mut byte).await? == 0 {
            return Ok(());
        }
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
    let answer = {
        let mut shared = shared.lock();
        shared.asked.push(path);
        shared.answer.clone()
    };
    let (pause, status, headers, body) = match answer {
        Answer::Body(body, headers) => (Duration::ZERO, 200, headers, body),
        Answer::Status(status, headers) => (Duration::ZERO, status, headers, String::new()),
        Answer::Late(pause, body) => (pause, 200, Vec::new(), body),
        Answer::Nothing => return Ok(()),
        Answer::Endless => return endless(stream).await,
    };
    tokio::time::sleep(pause).await;
    let headers: String = headers.iter().map(|line| format!("{line}\r\n")).collect();
    let text = format!(
        "HTTP/1.1 {status} Answer\r\nContent-Type: application/json\r\nContent-Length: {}\r\n{headers}Connection: close\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(text.as_bytes()).await?;
    stream.shutdown().await
}

async fn endless(mut stream: TcpStream) -> std::io::Result<()> {
    stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await?;
    let chunk = format!("4000\r\n{}\r\n", " ".repeat(0x4000));
    loop {
        stream.write_all(chunk.as_bytes()).await?;
    }
}
