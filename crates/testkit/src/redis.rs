//! The real Redis.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::command::directory;
use crate::port::free_port;
use crate::process::Process;
use crate::tls::Pair;
use crate::wait::{until, within};

/// A running Redis that keeps nothing on disk. It is killed when this is dropped.
#[derive(Debug)]
pub struct Redis {
    password: String,
    port: u16,
    process: Option<Process>,
    /// Of a server that speaks TLS.
    pair: Option<Pair>,
    directory: TempDir,
}

impl Redis {
    /// Starts one that wants `password`; empty: none.
    ///
    /// # Panics
    /// When it does not answer.
    pub async fn start(password: &str) -> Self {
        let redis = Self::start_as(password, None, directory()).await;
        assert_eq!(redis.command(&["PING"]).await, "+PONG\r\n");
        redis
    }

    /// Starts one that speaks TLS alone, with a certificate of its own.
    ///
    /// # Panics
    /// When it does not answer, or there is no openssl.
    pub async fn start_tls(password: &str) -> Self {
        let directory = directory();
        let pair = Pair::self_signed(directory.path(), &["redis.test"]);
        Self::start_as(password, Some(pair), directory).await
    }

    async fn start_as(password: &str, pair: Option<Pair>, directory: TempDir) -> Self {
        let (password, port) = (password.to_owned(), free_port());
        let mut redis = Self { password, port, process: None, pair, directory };
        redis.restart().await;
        redis
    }

    /// Starts it again on the same port, with nothing in it.
    ///
    /// # Panics
    /// When it does not listen.
    pub async fn restart(&mut self) {
        self.stop();
        let (directory, port) = (self.directory.path(), self.port.to_string());
        let mut command = Command::new("redis-server");
        command.current_dir(directory).args(["--bind", "127.0.0.1"]);
        match &self.pair {
            None => drop(command.args(["--port", &port])),
            Some(Pair { certificate, key }) => {
                command.args(["--port", "0", "--tls-port", &port, "--tls-auth-clients", "no"]);
                command.arg("--tls-cert-file").arg(certificate).arg("--tls-key-file").arg(key);
                command.arg("--tls-ca-cert-file").arg(certificate);
            }
        }
        command.args(["--save", "", "--appendonly", "no", "--daemonize", "no"]);
        if !self.password.is_empty() {
            command.args(["--requirepass", &self.password]);
        }
        let mut process = Process::spawn(command, "redis", directory);
        let up = until(Duration::from_secs(10), async || {
            if let Some(exit) = process.ended() {
                panic!("redis-server ended with {:?}: {}{}", exit.code, exit.stdout, exit.stderr);
            }
            TcpStream::connect(("127.0.0.1", self.port)).await.ok()
        });
        assert!(up.await.is_some(), "redis-server does not listen");
        self.process = Some(process);
    }

    /// Kills it. What it held is lost.
    pub fn stop(&mut self) {
        self.process = None;
    }

    /// The certificate of one that speaks TLS, a PEM file.
    ///
    /// # Panics
    /// When it does not.
    pub fn certificate(&self) -> &Path {
        self.pair.as_ref().map(|pair| &*pair.certificate).expect("it speaks TLS")
    }

    /// The port it listens on.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its address, with the password.
    pub fn url(&self) -> String {
        let scheme = if self.pair.is_some() { "rediss" } else { "redis" };
        match self.password.as_str() {
            "" => format!("{scheme}://127.0.0.1:{}/0", self.port),
            password => format!("{scheme}://:{password}@127.0.0.1:{}/0", self.port),
        }
    }

    /// The answer to a command, as it comes over the wire without TLS; at most 64 KiB of it.
    ///
    /// # Panics
    /// When there is none.
    pub async fn command(&self, words: &[&str]) -> String {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).await;
        let stream = stream.as_mut().unwrap_or_else(|error| panic!("redis-server: {error}"));
        if !self.password.is_empty() {
            assert_eq!(ask(stream, &["AUTH", &self.password]).await, "+OK\r\n");
        }
        ask(stream, words).await
    }
}

async fn ask(stream: &mut TcpStream, words: &[&str]) -> String {
    let mut request = format!("*{}\r\n", words.len());
    for word in words {
        request.push_str(&format!("${}\r\n{word}\r\n", word.len()));
    }
    let mut answer = vec![0; 64 * 1024];
    let exchange = async {
        stream.write_all(request.as_bytes()).await?;
        stream.read(&mut answer).await
    };
    let read = within(Duration::from_secs(5), "redis-server", exchange).await;
    let read = read.unwrap_or_else(|error| panic!("redis-server: {error}"));
    String::from_utf8_lossy(&answer[..read]).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn wants_its_password() {
        let redis = Redis::start("open sesame").await;
        assert_eq!(redis.command(&["SET", "a b", "1"]).await, "+OK\r\n");
        let mut stranger = TcpStream::connect(("127.0.0.1", redis.port())).await.unwrap();
        assert!(ask(&mut stranger, &["GET", "a b"]).await.starts_with("-NOAUTH"));
    }
}
