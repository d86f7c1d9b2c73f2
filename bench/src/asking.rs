//! One HTTP/1.1 connection that asks for the same thing again and again, and looks at the answers later.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

use memchr::memmem;

/// Requests whose answers are not read yet, where [`Asking::all`] asks: what they take fits into the buffers of the kernel.
const UNREAD: u64 = 64;
/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(60);

/// A request.
#[derive(Debug, Clone)]
pub struct Question {
    port: u16,
    bytes: Vec<u8>,
}

/// A connection on which it is asked.
#[derive(Debug)]
pub struct Asking<'a> {
    stream: TcpStream,
    bytes: &'a [u8],
    status: u16,
    asked: u64,
    answered: u64,
    /// What was read and not looked at: an answer may begin within.
    left: Vec<u8>,
    chunk: Vec<u8>,
}

impl Question {
    /// A POST of this body to a server on this machine; `headers` each with their line end.
    pub fn post(port: u16, path: &str, headers: &str, body: &str) -> Self {
        let length = body.len();
        let text = format!(
            "POST {path} HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\ncontent-type: application/json\r\n{headers}content-length: {length}\r\n\r\n{body}"
        );
        Self { port, bytes: text.into_bytes() }
    }

    /// Opens a connection; every answer is to have this status.
    ///
    /// # Errors
    /// The system's.
    pub fn connect(&self, status: u16) -> io::Result<Asking<'_>> {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(ANSWER))?;
        let chunk = vec![0; 64 << 10];
        Ok(Asking { stream, bytes: &self.bytes, status, asked: 0, answered: 0, left: Vec::new(), chunk })
    }
}

impl Asking<'_> {
    /// Asks once more, without waiting for the answer.
    ///
    /// # Errors
    /// The system's.
    pub fn ask(&mut self) -> io::Result<()> {
        self.asked += 1;
        self.stream.write_all(self.bytes)
    }

    /// How often it was asked.
    pub fn asked(&self) -> u64 {
        self.asked
    }

    /// Asks so often and reads the answers.
    ///
    /// # Errors
    /// As [`Asking::end`].
    pub fn all(mut self, count: u64) -> io::Result<()> {
        while self.asked < count {
            let until = count.min(self.answered + UNREAD);
            while self.asked < until {
                self.ask()?;
            }
            self.read()?;
        }
        self.end()
    }

    /// Reads the answers that are left.
    ///
    /// # Errors
    /// When one has another status, and the system's.
    pub fn end(mut self) -> io::Result<()> {
        while self.answered < self.asked {
            self.read()?;
        }
        Ok(())
    }

    fn read(&mut self) -> io::Result<()> {
        const BEGIN: &[u8] = b"HTTP/1.1 ";
        let read = self.stream.read(&mut self.chunk)?;
        if read == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "not all was answered"));
        }
        self.left.extend_from_slice(&self.chunk[..read]);
        let mut looked = self.left.len().saturating_sub(BEGIN.len() - 1);
        for at in memmem::find_iter(&self.left, BEGIN) {
            let Some(status) = self.left[at + BEGIN.len()..].first_chunk::<3>() else {
                looked = at;
                break;
            };
            if *status != *self.status.to_string().as_bytes() {
                let answer = &self.left[at..self.left.len().min(at + 1000)];
                return Err(io::Error::other(format!("not {}: {}", self.status, answer.escape_ascii())));
            }
            looked = looked.max(at + BEGIN.len());
            self.answered += 1;
        }
        self.left.drain(..looked);
        Ok(())
    }
}
