//! The real Redis.

use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::command::directory;
use crate::port::free_port;
use crate::process::Process;
use crate::wait::{until, within};

/// A running Redis that keeps nothing on disk. It is killed when this is dropped.
#[derive(Debug)]
pub struct Redis {
    password: String,
    port: u16,
    process: Process,
    _directory: TempDir,
}

impl Redis {
    /// Starts one that wants `password`; empty: none.
    ///
    /// # Panics
    /// When it does not answer.
    pub async fn start(password: &str) -> Self {
        let (directory, port) = (directory(), free_port());
        let mut command = Command::new("redis-server");
        command.current_dir(directory.path()).args(["--port", &port.to_string(), "--bind", "127.0.0.1"]);
        command.args(["--save", "", "--appendonly", "no", "--daemonize", "no"]);
        if !password.is_empty() {
            command.args(["--requirepass", password]);
        }
        let process = Process::spawn(command, "redis", directory.path());
        let mut redis = Self { password: password.to_owned(), port, process, _directory: directory };
        let up = until(Duration::from_secs(10), async || {
            if let Some(exit) = redis.process.ended() {
                panic!("redis-server ended with {:?}: {}{}", exit.code, exit.stdout, exit.stderr);
            }
            TcpStream::connect(("127.0.0.1", port)).await.ok()
        });
        assert!(up.await.is_some(), "redis-server does not listen");
        assert_eq!(redis.command(&["PING"]).await, "+PONG\r\n");
        redis
    }

    /// The port it listens on.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its address, with the password.
    pub fn url(&self) -> String {
        match self.password.as_str() {
            "" => format!("redis://127.0.0.1:{}/0", self.port),
            password => format!("redis://:{password}@127.0.0.1:{}/0", self.port),
        }
    }

    /// The answer to a command, as it comes over the wire; at most 64 KiB of it.
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
