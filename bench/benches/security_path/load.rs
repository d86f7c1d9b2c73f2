//! The load: connections that send the next request as soon as the answer to the last is there.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::time::{Duration, Instant};

use memchr::memmem;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// How a good answer begins.
pub(crate) const OK: &str = "HTTP/1.1 200";

/// One kind of request to one server.
pub(crate) struct Load<'a> {
    pub(crate) port: u16,
    pub(crate) path: &'a str,
    /// Lines with their ends.
    pub(crate) headers: &'a str,
    pub(crate) connections: usize,
    /// What every answer begins with.
    pub(crate) expected: &'static str,
    /// Whether each request comes from another network, as a trusted proxy says.
    pub(crate) networks: bool,
}

/// What came of it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Report {
    /// Answers in a second.
    pub(crate) rate: f64,
    pub p50_us: f64,
    pub p99_us: f64,
}

pub(crate) struct Answer {
    /// Name and value of each header.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Load<'_> {
    /// Keeps all connections busy for this long.
    pub(crate) fn run(&self, length: Duration) -> Report {
        let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else {
            panic!("no runtime for the load")
        };
        runtime.block_on(async {
            let started = Instant::now();
            let until = started + length;
            let tasks: Vec<_> = (0..self.connections)
                .map(|at| tokio::spawn(keep_busy(self.port, self.requests(at), self.expected, until)))
                .collect();
            let mut micros = Vec::new();
            for task in tasks {
                match task.await {
                    Ok(of_one) => micros.extend(of_one),
                    Err(error) => panic!("a connection broke: {error}"),
                }
            }
            let took = started.elapsed().as_secs_f64();
            micros.sort_unstable_by(f32::total_cmp);
            let at = |part: f64| f64::from(micros[((micros.len() - 1) as f64 * part) as usize]);
            Report { rate: micros.len() as f64 / took, p50_us: at(0.5), p99_us: at(0.99) }
        })
    }
}

impl Load<'_> {
    /// The requests of one connection.
    fn requests(&self, connection: usize) -> impl FnMut() -> String + Send + use<> {
        let (path, headers, networks) = (self.path.to_owned(), self.headers.to_owned(), self.networks);
        let mut next = 0_u32;
        move || {
            if !networks {
                return request(&path, &headers);
            }
            next += 1;
            let network = format!("2001:{connection:x}:{:x}:{:x}::1", next >> 16, next & 0xffff);
            request(&path, &format!("x-forwarded-for: {network}\r\n{headers}"))
        }
    }
}

impl Report {
    /// The turn of the median rate, with the medians of the latencies.
    pub(crate) fn median(turns: Vec<Report>) -> Report {
        let middle = |pick: fn(&Report) -> f64| {
            let mut values: Vec<f64> = turns.iter().map(pick).collect();
            values.sort_by(f64::total_cmp);
            values[values.len() / 2]
        };
        Report { rate: middle(|r| r.rate), p50_us: middle(|r| r.p50_us), p99_us: middle(|r| r.p99_us) }
    }
}

async fn keep_busy(
    port: u16,
    mut next: impl FnMut() -> String,
    expected: &'static str,
    until: Instant,
) -> Vec<f32> {
    let Ok(mut stream) = tokio::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await else {
        panic!("nobody listens on {port}")
    };
    let _ = stream.set_nodelay(true);
    let mut micros = Vec::new();
    let mut buffer = vec![0; 16 << 10];
    while Instant::now() < until {
        let request = next();
        let sent = Instant::now();
        if stream.write_all(request.as_bytes()).await.is_err() {
            panic!("the connection is gone");
        }
        let mut filled = 0;
        loop {
            match stream.read(&mut buffer[filled..]).await {
                Ok(read) if read > 0 => filled += read,
                _ => panic!("the answer ends early"),
            }
            if is_whole(&buffer[..filled], expected) {
                break;
            }
        }
        micros.push(sent.elapsed().as_secs_f32() * 1e6);
    }
    micros
}

/// Asks once.
pub(crate) fn ask(port: u16, path: &str, headers: &str) -> Answer {
    let Ok(mut stream) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)) else {
        panic!("nobody listens on {port}")
    };
    let mut received = Vec::new();
    let mut chunk = [0; 4096];
    if stream.write_all(request(path, headers).as_bytes()).is_err() {
        panic!("the request cannot be sent");
    }
    while !is_whole(&received, OK) {
        match stream.read(&mut chunk) {
            Ok(read) if read > 0 => received.extend_from_slice(&chunk[..read]),
            _ => panic!("the answer ends early"),
        }
    }
    let text = String::from_utf8_lossy(&received);
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_default();
    let header = |line: &str| line.split_once(": ").map(|(name, value)| (name.to_owned(), value.to_owned()));
    Answer { headers: head.lines().skip(1).filter_map(header).collect(), body: body.to_owned() }
}

fn request(path: &str, headers: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n{headers}\r\n")
}

/// Whether all of an answer is there.
fn is_whole(bytes: &[u8], expected: &str) -> bool {
    let Some(head) = memmem::find(bytes, b"\r\n\r\n") else { return false };
    let first = bytes.split(|byte| *byte == b'\r').next().unwrap_or_default();
    assert!(first.starts_with(expected.as_bytes()), "not {expected}: {}", first.escape_ascii());
    const LENGTH: &[u8] = b"content-length: ";
    let length = memmem::find(&bytes[..head], LENGTH).map_or(0, |at| {
        let digits = bytes[at + LENGTH.len()..].iter().take_while(|byte| byte.is_ascii_digit());
        digits.fold(0, |length, digit| length * 10 + usize::from(digit - b'0'))
    });
    bytes.len() >= head + 4 + length
}
