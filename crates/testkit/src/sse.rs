//! A client of server-sent events.

use std::time::Duration;

use http::Method;
use serde_json::Value;

use crate::client::{Client, Reply};
use crate::wait::within;

/// The longest to wait for an event.
const LIMIT: Duration = Duration::from_secs(10);

/// One event (WHATWG HTML, section 9.2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerSentEvent {
    /// Its id; empty when it has none.
    pub id: String,
    /// Its type; empty when it says none.
    pub event: String,
    /// Its data, lines joined.
    pub data: String,
}

/// An open stream of events.
#[derive(Debug)]
pub struct EventStream {
    response: reqwest::Response,
    unread: String,
}

impl EventStream {
    /// Opens the stream at `path`, after the event `last_id` if there is one.
    ///
    /// # Errors
    /// The answer, when it is no stream.
    ///
    /// # Panics
    /// When there is no answer.
    pub async fn open(client: &Client, path: &str, last_id: Option<&str>) -> Result<Self, Box<Reply>> {
        let mut request = client.request(Method::GET, path).header("Accept", "text/event-stream");
        if let Some(last_id) = last_id {
            request = request.header("Last-Event-ID", last_id);
        }
        let response =
            within(LIMIT, path, request.send()).await.unwrap_or_else(|error| panic!("{path}: {error}"));
        let kind =
            response.headers().get("content-type").and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        if response.status() == 200 && kind.starts_with("text/event-stream") {
            return Ok(Self { response, unread: String::new() });
        }
        let (version, status, headers) =
            (response.version(), response.status().as_u16(), response.headers().clone());
        let body = within(LIMIT, path, response.bytes()).await.unwrap_or_default().to_vec();
        Err(Box::new(Reply { version, status, headers, body }))
    }

    /// The next event; none at the end of the stream. Comments are passed over.
    ///
    /// # Panics
    /// When nothing comes for 10 seconds.
    pub async fn next(&mut self) -> Option<ServerSentEvent> {
        loop {
            while let Some((block, rest)) = self.unread.split_once("\n\n") {
                let event = parse(block);
                self.unread = rest.to_owned();
                if event.is_some() {
                    return event;
                }
            }
            let chunk = within(LIMIT, "server-sent events", self.response.chunk()).await;
            let chunk = chunk.unwrap_or_else(|error| panic!("server-sent events: {error}"))?;
            self.unread.push_str(&String::from_utf8_lossy(&chunk).replace("\r\n", "\n"));
        }
    }

    /// The data of the next event, as JSON.
    ///
    /// # Panics
    /// When there is none.
    pub async fn data(&mut self) -> Value {
        match self.next().await {
            Some(event) => event.json(),
            None => panic!("the stream of events ended"),
        }
    }
}

impl ServerSentEvent {
    /// The data as JSON.
    ///
    /// # Panics
    /// When it is none.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.data).unwrap_or_else(|error| panic!("{error}: {}", self.data))
    }
}

fn parse(block: &str) -> Option<ServerSentEvent> {
    let mut event = ServerSentEvent { id: String::new(), event: String::new(), data: String::new() };
    let mut lines = Vec::new();
    for line in block.lines() {
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "id" => value.clone_into(&mut event.id),
            "event" => value.clone_into(&mut event.event),
            "data" => lines.push(value),
            _ => {}
        }
    }
    event.data = lines.join("\n");
    (!lines.is_empty()).then_some(event)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_fields_and_passes_over_comments() {
        let event = parse(": hello\nid: 7\nevent: StepStartEvent\ndata: {\"a\":\ndata:1}\n").unwrap();
        assert_eq!((event.id.as_str(), event.event.as_str()), ("7", "StepStartEvent"));
        assert_eq!(event.json(), serde_json::json!({ "a": 1 }));
        assert_eq!(parse(": keep-alive"), None);
        assert_eq!(parse("retry: 1000"), None);
    }
}
