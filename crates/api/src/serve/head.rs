//! The heads of HTTP/1 requests as they came, before they were parsed.
//!
//! The parser forgives what two servers in a row may read differently: a line that ends in a line feed alone, a length
//! beside a transfer coding (it drops the length), the same length twice, a `#` in the target. Whoever finds a proxy that reads the other
//! way can put a request of his own into somebody else's connection (request smuggling, RFC 9112 section 11.2). So the
//! bytes are looked at on their way, and such requests are refused.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use memchr::{memchr, memchr_iter};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::framing::Fault;

/// Such a head the parser has refused: it looks whether one is too long each time that it has read.
const MAX_HEAD: usize = 2 * super::MAX_HEAD_BYTES;

/// What was found in the heads that have been read on a connection, in order.
#[derive(Debug, Default)]
pub(super) struct Heads {
    at: At,
    head: Vec<u8>,
    found: VecDeque<Option<Fault>>,
}

/// What the next byte is part of.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum At {
    #[default]
    Head,
    /// A body with so many bytes left.
    Body(u64),
    /// Nothing that has to be read: what came before is the last request of the connection.
    End,
}

impl Heads {
    /// What is wrong with the next request; call it once for each. A request whose head was not read is refused.
    pub(super) fn next(&mut self) -> Option<Fault> {
        self.found.pop_front().unwrap_or(Some(Fault::AfterLast))
    }

    fn feed(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            match self.at {
                At::End => return,
                At::Body(left) => {
                    let skipped = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
                    bytes = &bytes[skipped..];
                    self.at = match left - skipped as u64 {
                        0 => At::Head,
                        left => At::Body(left),
                    };
                }
                At::Head => bytes = self.feed_head(bytes),
            }
        }
    }

    /// Gives what is left behind the head.
    fn feed_head<'a>(&mut self, mut bytes: &'a [u8]) -> &'a [u8] {
        if self.head.is_empty() {
            // Empty lines before a request are no part of it (RFC 9112 section 2.2).
            while let [b'\r' | b'\n', rest @ ..] = bytes {
                bytes = rest;
            }
            // Nearly every head comes whole, and need not be kept.
            if let Some(end) = end_of_head(bytes, 0) {
                self.judge(examine(&bytes[..end]));
                return &bytes[end..];
            }
        }
        let searched = self.head.len().saturating_sub(2);
        self.head.extend_from_slice(bytes);
        let Some(end) = end_of_head(&self.head, searched) else {
            if self.head.len() > MAX_HEAD {
                self.at = At::End;
                self.head = Vec::new();
            }
            return &[];
        };
        let rest = &bytes[bytes.len() - (self.head.len() - end)..];
        self.judge(examine(&self.head[..end]));
        self.head.clear();
        rest
    }

    fn judge(&mut self, (fault, next): (Option<Fault>, At)) {
        self.found.push_back(fault);
        self.at = next;
    }
}

/// The place after the empty line that ends a head; `from`: where it was not looked for before.
fn end_of_head(head: &[u8], from: usize) -> Option<usize> {
    memchr_iter(b'\n', &head[from..]).find_map(|at| match head[from + at + 1..] {
        [b'\n', ..] => Some(from + at + 2),
        [b'\r', b'\n', ..] => Some(from + at + 3),
        _ => None,
    })
}

/// What is wrong with a head, and what follows it.
fn examine(head: &[u8]) -> (Option<Fault>, At) {
    let line = &head[..memchr(b'\n', head).unwrap_or(head.len())];
    let (tunnel, fragment) = (line.starts_with(b"CONNECT "), memchr(b'#', line).is_some());
    let (mut lengths, mut length, mut coding, mut upgrade, mut bare) = (0_u32, Some(0), false, false, false);
    let mut start = 0;
    for end in memchr_iter(b'\n', head) {
        let line = &head[start..=end];
        let first = start == 0;
        start = end + 1;
        bare |= !line.ends_with(b"\r\n");
        // Only fields of these initials matter.
        let line = line.trim_ascii_start();
        if first || !matches!(line, [b'c' | b'C' | b't' | b'T' | b'u' | b'U', ..]) {
            continue;
        }
        let Some(colon) = memchr(b':', line) else { continue };
        let (name, value) = (line[..colon].trim_ascii_end(), line[colon + 1..].trim_ascii());
        if name.eq_ignore_ascii_case(b"content-length") {
            lengths += 1;
            length = std::str::from_utf8(value).ok().and_then(|text| text.parse::<u64>().ok());
        }
        coding |= name.eq_ignore_ascii_case(b"transfer-encoding");
        upgrade |= name.eq_ignore_ascii_case(b"upgrade");
    }
    let fault = match (bare, lengths) {
        (true, _) => Some(Fault::BareLineFeed),
        _ if fragment => Some(Fault::Fragment),
        (_, 1..) if coding => Some(Fault::LengthAndCoding),
        (_, 2..) => Some(Fault::LengthTwice),
        _ => None,
    };
    let next = match length {
        Some(0) if !(coding || upgrade || tunnel) => At::Head,
        Some(length) if !(coding || upgrade || tunnel) => At::Body(length),
        // A length that cannot be read is refused by the parser.
        _ => At::End,
    };
    (fault, next)
}

/// A transport whose heads are looked at.
#[derive(Debug)]
pub(super) struct Observed<T> {
    inner: T,
    heads: Arc<Mutex<Heads>>,
}

impl<T> Observed<T> {
    pub(super) fn new(inner: T) -> (Self, Arc<Mutex<Heads>>) {
        let heads = Arc::new(Mutex::new(Heads::default()));
        (Self { inner, heads: Arc::clone(&heads) }, heads)
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Observed<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.inner).poll_read(context, buffer))?;
        self.heads.lock().feed(&buffer.filled()[before..]);
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Observed<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(context, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(stream: &[u8], piece: usize) -> Vec<Option<Fault>> {
        let mut heads = Heads::default();
        stream.chunks(piece).for_each(|bytes| heads.feed(bytes));
        heads.found.into()
    }

    #[test]
    fn each_head_is_judged_once_however_the_bytes_come() {
        use Fault::{BareLineFeed, Fragment, LengthAndCoding, LengthTwice};
        for (stream, expected) in [
            (&b"GET / HTTP/1.1\r\nHost: x\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n"[..], &[None, None][..]),
            (b"\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n", &[None]),
            (
                b"POST / HTTP/1.1\r\nContent-Length: 9\r\n\r\nA\n\nB\n\nCD\nGET / HTTP/1.1\r\n\r\n",
                &[None, None],
            ),
            (b"GET / HTTP/1.1\nHost: x\r\n\r\n", &[Some(BareLineFeed)]),
            (b"GET / HTTP/1.1\r\nHost: x\n\n", &[Some(BareLineFeed)]),
            (b"GET / HTTP/1.1\r\nHost: x\r\n\n", &[Some(BareLineFeed)]),
            (b"P / HTTP/1.1\r\nContent-Length: 1\r\ncontent-length: 1\r\n\r\nA", &[Some(LengthTwice)]),
            (b"P / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: x\r\n\r\nA", &[Some(LengthAndCoding)]),
            (b"P / HTTP/1.1\r\ntransfer-encoding: x\r\nCONTENT-LENGTH: 1\r\n\r\nA", &[Some(LengthAndCoding)]),
            (b"GET /ui#/../metrics HTTP/1.1\r\nHost: x\r\n\r\n", &[Some(Fragment)]),
            (
                b"GET /?a#b HTTP/1.1\r\nHost: x\r\nX-A: #\r\n\r\nGET / HTTP/1.1\r\n#: #\r\n\r\n",
                &[Some(Fragment), None],
            ),
            // Nothing is read behind a request that is the last of its connection.
            (b"P / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET / HTTP/1.1\n\n", &[None]),
            (b"GET /ws HTTP/1.1\r\nUpgrade: websocket\r\n\r\nGET / HTTP/1.1\n\n", &[None]),
            (b"CONNECT x:1 HTTP/1.1\r\n\r\nGET / HTTP/1.1\n\n", &[None]),
        ] {
            for piece in [1, 2, 3, 7, stream.len()] {
                assert_eq!(
                    found(stream, piece),
                    expected,
                    "{:?} by {piece}",
                    stream.escape_ascii().to_string()
                );
            }
        }
    }

    #[test]
    fn a_request_that_was_not_read_is_refused_and_an_endless_head_costs_no_memory() {
        let mut heads = Heads::default();
        assert_eq!(heads.next(), Some(Fault::AfterLast));
        for _ in 0..(2 * MAX_HEAD) / 1024 {
            heads.feed(&[b'a'; 1024]);
        }
        assert_eq!((heads.at, heads.head.capacity()), (At::End, 0));
    }
}
