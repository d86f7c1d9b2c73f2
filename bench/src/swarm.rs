//! Very many WebSocket clients in one thread, and so cheap that the server is what is measured: they read bytes and count
//! frames, and look into none.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

/// Bytes that are read at once.
const CHUNK: usize = 64 << 10;
/// How long a handshake and its greeting may take.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// A pong without a body, masked with zeros (RFC 6455 section 5.5.3).
const PONG: [u8; 6] = [0x8a, 0x80, 0, 0, 0, 0];

/// The clients.
#[derive(Debug)]
pub struct Swarm {
    poll: Poll,
    events: Events,
    clients: Vec<Client>,
    buffer: Vec<u8>,
    texts: u64,
    bytes: u64,
    pace: Option<Pace>,
}

/// Where a swarm goes, and what it says first.
#[derive(Debug, Clone, Copy)]
pub struct Door<'a> {
    /// The port on this machine.
    pub port: u16,
    /// The path.
    pub path: &'a str,
    /// Further headers, each with its line end.
    pub headers: &'a str,
    /// Texts that greet a client; it is there once they came.
    pub greetings: u64,
}

#[derive(Debug)]
struct Client {
    stream: TcpStream,
    frames: Frames,
    texts: u64,
    /// Batches that came whole while they were timed.
    batches: usize,
}

/// Times batches of texts, each from when it was asked for until a client has it whole.
#[derive(Debug)]
struct Pace {
    batch: u64,
    asked: Vec<Instant>,
    took: Vec<Duration>,
}

/// Where a stream of frames is; only kinds and lengths are looked at.
#[derive(Debug, Default)]
pub struct Frames {
    header: [u8; 10],
    have: usize,
    left: u64,
    close: Option<Vec<u8>>,
}

/// What some bytes held.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Counted {
    /// Frames of text.
    pub texts: u64,
    /// Pings.
    pub pings: u64,
}

impl Frames {
    /// Goes on by these bytes.
    pub fn feed(&mut self, mut bytes: &[u8]) -> Counted {
        let mut counted = Counted::default();
        loop {
            if self.left > 0 {
                let taken = usize::try_from(self.left).unwrap_or(usize::MAX).min(bytes.len());
                if let Some(close) = &mut self.close {
                    close.extend_from_slice(&bytes[..taken]);
                }
                self.left -= taken as u64;
                bytes = &bytes[taken..];
            }
            if self.left > 0 || bytes.is_empty() {
                return counted;
            }
            while self.have < self.wanted() {
                let Some((first, rest)) = bytes.split_first() else { return counted };
                self.header[self.have] = *first;
                self.have += 1;
                bytes = rest;
            }
            self.have = 0;
            self.left = match self.header[1] & 0x7f {
                126 => u16::from_be_bytes([self.header[2], self.header[3]]).into(),
                127 => self.header[2..].iter().fold(0, |length, byte| length << 8 | u64::from(*byte)),
                short => short.into(),
            };
            match self.header[0] & 0x0f {
                1 => counted.texts += 1,
                8 => self.close = Some(Vec::new()),
                9 => counted.pings += 1,
                _ => {}
            }
        }
    }

    /// The code of the close, once one came.
    pub fn closed(&self) -> Option<u16> {
        let close = self.close.as_ref()?;
        // 1005: a close without a code.
        Some(close.first_chunk().map_or(1005, |code| u16::from_be_bytes(*code)))
    }

    fn wanted(&self) -> usize {
        match (self.have, self.header[1] & 0x7f) {
            (0 | 1, _) => 2,
            (_, 126) => 4,
            (_, 127) => 10,
            _ => 2,
        }
    }
}

impl Swarm {
    /// Nobody yet.
    ///
    /// # Errors
    /// The system's.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            poll: Poll::new()?,
            events: Events::with_capacity(1024),
            clients: Vec::new(),
            buffer: vec![0; CHUNK],
            texts: 0,
            bytes: 0,
            pace: None,
        })
    }

    /// Opens so many more sockets, one after the other, and waits for the greeting of each.
    ///
    /// # Errors
    /// When one is refused, or the system's.
    pub fn join(&mut self, count: usize, door: Door<'_>) -> io::Result<()> {
        for _ in 0..count {
            let (stream, frames) = shake_hands(door, None)?;
            let mut stream = TcpStream::from_std(stream);
            let place = Token(self.clients.len());
            self.poll.registry().register(&mut stream, place, Interest::READABLE)?;
            self.clients.push(Client { stream, frames, texts: 0, batches: 0 });
        }
        Ok(())
    }

    /// How many clients there are.
    pub fn len(&self) -> usize {
        self.clients.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.clients.is_empty()
    }

    /// Texts that came since they joined, all together.
    pub fn texts(&self) -> u64 {
        self.texts
    }

    /// Bytes that came since they joined, all together.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Reads what comes, for at most so long; whether anything came.
    ///
    /// # Errors
    /// When a client was closed, or the system's.
    pub fn read(&mut self, limit: Duration) -> io::Result<bool> {
        match self.poll.poll(&mut self.events, Some(limit)) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(true),
            polled => polled?,
        }
        for event in &self.events {
            let client = &mut self.clients[event.token().0];
            loop {
                let read = match client.stream.read(&mut self.buffer) {
                    Ok(0) => return Err(io::Error::other("a client was hung up on")),
                    Ok(read) => read,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    Err(error) => return Err(error),
                };
                let counted = client.frames.feed(&self.buffer[..read]);
                if let Some(code) = client.frames.closed() {
                    return Err(io::Error::other(format!("a client was closed with {code}")));
                }
                for _ in 0..counted.pings {
                    client.stream.write_all(&PONG)?;
                }
                client.texts += counted.texts;
                self.texts += counted.texts;
                self.bytes += read as u64;
                if let Some(pace) = &mut self.pace {
                    pace.look(client);
                }
                // Less than there was room for: that was all (epoll(7)).
                if read < self.buffer.len() {
                    break;
                }
            }
        }
        Ok(!self.events.is_empty())
    }

    /// Times batches of so many texts from now on.
    pub fn time_batches(&mut self, batch: u64) {
        for client in &mut self.clients {
            (client.texts, client.batches) = (0, 0);
        }
        self.pace = Some(Pace { batch, asked: Vec::new(), took: Vec::new() });
    }

    /// A batch is asked for now.
    pub fn asked(&mut self) {
        if let Some(pace) = &mut self.pace {
            pace.asked.push(Instant::now());
        }
    }

    /// What each batch took to each client since [`Swarm::time_batches`], shortest first.
    pub fn times(&mut self) -> Vec<Duration> {
        let mut took = self.pace.take().map(|pace| pace.took).unwrap_or_default();
        took.sort_unstable();
        took
    }
}

impl Pace {
    fn look(&mut self, client: &mut Client) {
        while client.texts >= self.batch * (client.batches as u64 + 1) {
            let Some(asked) = self.asked.get(client.batches) else { return };
            self.took.push(asked.elapsed());
            client.batches += 1;
        }
    }
}

/// Opens a socket that then reads nothing, and lets the system keep as little for it as it can.
///
/// # Errors
/// As [`Swarm::join`].
pub fn stalled(door: Door<'_>) -> io::Result<std::net::TcpStream> {
    Ok(shake_hands(door, Some(1))?.0)
}

/// Reads a socket to its end; the code of its close and the texts that came before.
///
/// # Errors
/// The system's, and a timeout when nothing comes for 60 s.
pub fn read_to_close(mut stream: std::net::TcpStream) -> io::Result<(Option<u16>, u64)> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    let (mut frames, mut texts, mut buffer) = (Frames::default(), 0, vec![0; CHUNK]);
    while frames.closed().is_none_or(|code| code == 1005) {
        match stream.read(&mut buffer)? {
            0 => break,
            read => texts += frames.feed(&buffer[..read]).texts,
        }
    }
    Ok((frames.closed(), texts))
}

fn shake_hands(door: Door<'_>, receive: Option<usize>) -> io::Result<(std::net::TcpStream, Frames)> {
    let Door { port, path, headers, greetings } = door;
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
    if let Some(bytes) = receive {
        socket.set_recv_buffer_size(bytes)?;
    }
    socket.connect(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)).into())?;
    let mut stream = std::net::TcpStream::from(socket);
    stream.set_read_timeout(Some(HANDSHAKE))?;
    let request = format!(
        "GET {path} HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-version: 13\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n{headers}\r\n"
    );
    stream.write_all(request.as_bytes())?;
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    if !head.starts_with(b"HTTP/1.1 101") {
        return Err(io::Error::other(format!("no socket, but {}", head.escape_ascii())));
    }
    let (mut frames, mut texts, mut chunk) = (Frames::default(), 0, [0; 512]);
    while texts < greetings || frames.left > 0 {
        let read = stream.read(&mut chunk)?;
        texts += frames.feed(&chunk[..read]).texts;
        if read == 0 || frames.closed().is_some() {
            return Err(io::Error::other("a socket was closed before it was greeted"));
        }
    }
    stream.set_nonblocking(true)?;
    Ok((stream, frames))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_counted_however_their_bytes_come() {
        let mut bytes = vec![0x81, 2, b'h', b'i', 0x89, 0, 0x81, 126, 1, 0];
        bytes.extend([b'x'; 256]);
        bytes.extend([0x81, 127, 0, 0, 0, 0, 0, 1, 0, 0]);
        bytes.extend(vec![b'y'; 65536]);
        bytes.extend([0x82, 1, 0, 0x88, 4, 0x03, 0xf5, b'n', b'o']);
        for piece in [1, 2, 3, 7, bytes.len()] {
            let (mut frames, mut sum) = (Frames::default(), Counted::default());
            for bytes in bytes.chunks(piece) {
                let counted = frames.feed(bytes);
                sum = Counted { texts: sum.texts + counted.texts, pings: sum.pings + counted.pings };
            }
            assert_eq!((sum, frames.closed()), (Counted { texts: 3, pings: 1 }, Some(1013)), "by {piece}");
        }
    }
}
