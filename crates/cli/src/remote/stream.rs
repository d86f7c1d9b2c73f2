//! Server-sent events of a server: <https://html.spec.whatwg.org/multipage/server-sent-events.html>.

use std::collections::VecDeque;
use std::time::Duration;

use reqwest::header::ACCEPT;
use reqwest::{Method, Response};

use super::{MAX_ANSWER, Remote};
use crate::output::Failure;

/// A stream that says nothing for so long is taken for dead: servers show every 15 s that it lives.
const SILENCE: Duration = Duration::from_secs(60);
/// Until when a stream may go on. Requests have a limit else.
const FOREVER: Duration = Duration::from_secs(365 * 86_400);

/// One event of a stream.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Message {
    /// Its id; empty: it has none.
    pub(crate) id: String,
    pub(crate) data: String,
}

/// A stream that a server has begun.
#[derive(Debug)]
pub(crate) struct Stream {
    response: Response,
    decoder: Decoder,
    ready: VecDeque<Message>,
}

/// Why there is no stream, or no more of it.
#[derive(Debug)]
pub(crate) enum StreamEnd {
    /// There is nothing more to tell.
    Over,
    /// The connection is gone, or the server cannot answer now: what follows may be had by asking again.
    Lost(Failure),
    /// The server refuses.
    Refused(Failure),
}

impl Remote {
    /// Asks for the events after the one with this id.
    pub(crate) async fn stream(&self, path: &[&str], after: Option<&str>) -> Result<Stream, StreamEnd> {
        let mut request =
            self.request(Method::GET, path, &[]).header(ACCEPT, "text/event-stream").timeout(FOREVER);
        if let Some(id) = after {
            request = request.header("last-event-id", id);
        }
        let response = match tokio::time::timeout(super::ANSWER, request.send()).await {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => return Err(StreamEnd::Lost(self.unreachable(&error))),
            Err(_) => return Err(StreamEnd::Lost(Failure::failed(format!("{}: no answer", self.base)))),
        };
        match response.status().as_u16() {
            200 => Ok(Stream { response, decoder: Decoder::default(), ready: VecDeque::new() }),
            204 => Err(StreamEnd::Over),
            status => {
                let answer = self.read(response).await.and_then(|answer| answer.accepted().map(drop));
                let failure = answer.err().unwrap_or_else(|| Failure::failed(format!("unexpected {status}")));
                Err(match status {
                    429 | 500.. => StreamEnd::Lost(failure),
                    _ => StreamEnd::Refused(failure),
                })
            }
        }
    }
}

impl Stream {
    /// The next event; none: the stream has ended or broken off.
    pub(crate) async fn next(&mut self) -> Option<Message> {
        loop {
            if let Some(message) = self.ready.pop_front() {
                return Some(message);
            }
            let chunk = tokio::time::timeout(SILENCE, self.response.chunk()).await.ok()?.ok()??;
            self.ready.extend(self.decoder.push(&chunk)?);
        }
    }
}

/// Cuts bytes into events.
#[derive(Debug, Default)]
struct Decoder {
    line: Vec<u8>,
    message: Message,
    /// Whether the line before ended with a carriage return, which a line feed may follow.
    after_return: bool,
}

impl Decoder {
    /// The events that these bytes complete; none: one is longer than any answer may be.
    fn push(&mut self, bytes: &[u8]) -> Option<Vec<Message>> {
        let mut messages = Vec::new();
        for &byte in bytes {
            let second = std::mem::replace(&mut self.after_return, byte == b'\r') && byte == b'\n';
            match byte {
                b'\n' if second => {}
                b'\n' | b'\r' => messages.extend(self.end_of_line()),
                byte => self.line.push(byte),
            }
        }
        (self.line.len() + self.message.data.len() <= MAX_ANSWER).then_some(messages)
    }

    fn end_of_line(&mut self) -> Option<Message> {
        let line = std::mem::take(&mut self.line);
        if line.is_empty() {
            let mut message = std::mem::take(&mut self.message);
            message.data.pop();
            return (!message.data.is_empty()).then_some(message);
        }
        let line = String::from_utf8_lossy(&line);
        let (field, value) = line.split_once(':').unwrap_or((&line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "data" => {
                self.message.data.push_str(value);
                self.message.data.push('\n');
            }
            "id" => value.clone_into(&mut self.message.id),
            // The type stands in the data too, and comments keep the connection alive.
            _ => {}
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(chunks: &[&str]) -> Vec<Message> {
        let mut decoder = Decoder::default();
        chunks.iter().flat_map(|chunk| decoder.push(chunk.as_bytes()).unwrap()).collect()
    }

    fn message(id: &str, data: &str) -> Message {
        Message { id: id.to_owned(), data: data.to_owned() }
    }

    #[test]
    fn events_come_out_however_the_bytes_are_cut() {
        let text = "retry: 2000\n\n: heartbeat\n\nid: 1\nevent: A\ndata: {\"a\":1}\n\nid: 2\ndata: x\ndata:y\n\nid: 3\ndata: cut";
        let expected = [message("1", "{\"a\":1}"), message("2", "x\ny")];
        assert_eq!(decode(&[text]), expected);
        let single: Vec<String> = text.chars().map(String::from).collect();
        assert_eq!(decode(&single.iter().map(String::as_str).collect::<Vec<_>>()), expected);
    }

    #[test]
    fn lines_may_end_in_any_way_of_the_standard() {
        for end in ["\n", "\r\n", "\r"] {
            let text = ["id: 7", "data: ä: b", "", "data: c", "", ""].join(end);
            assert_eq!(decode(&[&text]), [message("7", "ä: b"), message("", "c")], "{end:?}");
        }
        // A pair that a chunk's end tears apart is one end of a line.
        assert_eq!(decode(&["data: a\r", "\n\r", "\ndata: b\r\n\r\n"]), [message("", "a"), message("", "b")]);
    }
}
