//! What is said over a socket.

use serde::{Deserialize, Serialize};
use taskiq_flow_security::Admission;

/// What a client says.
#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum ClientMessage {
    /// Presents a key or a token.
    Connect {
        #[serde(default)]
        auth: Option<String>,
    },
    /// Asks for events.
    Subscribe(Target),
    /// Asks for no more of them.
    Unsubscribe(Target),
    /// Asks whether anybody is there.
    Ping {
        /// Comes back in the answer.
        #[serde(default)]
        id: Option<serde_json::Value>,
    },
}

/// What a subscription is to.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Target {
    /// A pipeline, or `*` for all that the caller may read; may be left out where a run is named.
    pub(super) pipeline_id: Option<String>,
    /// Only this run.
    pub(super) run_id: Option<String>,
    /// Only events after this number, those of the past included. Numbers are a run's own: it needs `run_id`.
    pub(super) after_seq: Option<u64>,
}

/// What the server says, beside events.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum ServerMessage<'a> {
    Connected {
        principal: Who<'a>,
        heartbeat_seconds: u64,
    },
    Subscribed(Subscribed<'a>),
    Unsubscribed(Subscribed<'a>),
    Pong {
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<serde_json::Value>,
    },
    Heartbeat {
        timestamp: String,
    },
    Error {
        code: &'a str,
        detail: &'a str,
    },
}

/// The principal of a socket.
#[derive(Debug, Serialize)]
pub(super) struct Who<'a> {
    id: &'a str,
    #[serde(rename = "type")]
    kind: &'static str,
    roles: &'a [String],
}

/// What was subscribed to, or no longer is.
#[derive(Debug, Serialize)]
pub(super) struct Subscribed<'a> {
    pub(super) pipeline_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) run_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) after_seq: Option<u64>,
}

impl ClientMessage {
    /// Reads a message; else what is wrong with it, for the client.
    pub(crate) fn read(text: &str) -> Result<Self, String> {
        serde_json::from_str(text).map_err(|error| error.to_string())
    }
}

impl<'a> Who<'a> {
    pub(super) fn of(caller: &'a Admission) -> Self {
        let principal = caller.principal();
        Who { id: principal.id(), kind: principal.kind().as_str(), roles: principal.roles() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_read_strictly() {
        let read = ClientMessage::read;
        assert!(matches!(
            read(r#"{"type":"connect","auth":"k"}"#),
            Ok(ClientMessage::Connect { auth: Some(_) })
        ));
        assert!(matches!(read(r#"{"type":"connect"}"#), Ok(ClientMessage::Connect { auth: None })));
        assert!(matches!(read(r#"{"type":"ping"}"#), Ok(ClientMessage::Ping { id: None })));
        let subscribe = r#"{"type":"subscribe","pipeline_id":"*"}"#;
        assert!(
            matches!(read(subscribe), Ok(ClientMessage::Subscribe(Target { pipeline_id: Some(id), .. })) if id == "*")
        );
        for (bad, says) in [
            (r#"{"type":"subscribe","pipeline_id":"a","afer_seq":1}"#, "afer_seq"),
            (r#"{"type":"subscribe","after_seq":-1}"#, "-1"),
            (r#"{"type":"destroy"}"#, "destroy"),
            (r#"{"pipeline_id":"a"}"#, "type"),
            ("[]", "type"),
            ("x", "expected value"),
        ] {
            let said = read(bad).unwrap_err();
            assert!(said.contains(says), "{bad}: {said}");
        }
    }
}
