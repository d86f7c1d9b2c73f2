//! What can happen, and how it can end.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum AuditEvent {
    /// A credential was accepted.
    #[serde(rename = "authentication.success")]
    AuthenticationSuccess,
    /// A credential was missing or refused.
    #[serde(rename = "authentication.failure")]
    AuthenticationFailure,
    /// A principal asked for what it may not do.
    #[serde(rename = "authorization.denied")]
    AuthorizationDenied,
    /// A bucket was empty.
    #[serde(rename = "rate_limit.exceeded")]
    RateLimitExceeded,
    /// A pipeline, a run or its results were read.
    #[serde(rename = "pipeline.read")]
    PipelineRead,
    /// A pipeline was started.
    #[serde(rename = "pipeline.execute")]
    PipelineExecute,
    /// A run was cancelled, paused, resumed, retried or signalled.
    #[serde(rename = "run.control")]
    RunControl,
    /// A pipeline was registered, replaced or removed.
    #[serde(rename = "pipeline.register")]
    PipelineRegister,
    /// A schedule was made, changed, removed, paused, resumed or triggered.
    #[serde(rename = "schedule.change")]
    ScheduleChange,
    /// The store was copied to a file; `detail` says which.
    #[serde(rename = "store.backup")]
    StoreBackup,
    /// Keys, access lists or settings changed; `detail` says what.
    #[serde(rename = "security.config_change")]
    SecurityConfigChange,
    /// A WebSocket was opened.
    #[serde(rename = "websocket.connect")]
    WebsocketConnect,
    /// A WebSocket subscribed to a pipeline.
    #[serde(rename = "websocket.subscribe")]
    WebsocketSubscribe,
    /// A WebSocket asked for what it may not have.
    #[serde(rename = "websocket.denied")]
    WebsocketDenied,
    /// A WebSocket was closed.
    #[serde(rename = "websocket.close")]
    WebsocketClose,
    /// The log was opened.
    #[serde(rename = "audit.start")]
    AuditStart,
    /// The log was closed in order.
    #[serde(rename = "audit.stop")]
    AuditStop,
    /// Records are missing or unreadable; `detail` says which, and in which sink.
    #[serde(rename = "audit.gap")]
    AuditGap,
}

/// How it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// Done.
    Success,
    /// Attempted, and failed.
    Failure,
    /// Not permitted.
    Denied,
    /// Too many of them.
    Throttled,
}

/// A text that names no event.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is no audit event; expected one such as authentication.failure or pipeline.execute")]
pub struct UnknownEvent(String);

impl AuditEvent {
    /// All events.
    pub const ALL: [Self; 18] = [
        Self::AuthenticationSuccess,
        Self::AuthenticationFailure,
        Self::AuthorizationDenied,
        Self::RateLimitExceeded,
        Self::PipelineRead,
        Self::PipelineExecute,
        Self::RunControl,
        Self::PipelineRegister,
        Self::ScheduleChange,
        Self::StoreBackup,
        Self::SecurityConfigChange,
        Self::WebsocketConnect,
        Self::WebsocketSubscribe,
        Self::WebsocketDenied,
        Self::WebsocketClose,
        Self::AuditStart,
        Self::AuditStop,
        Self::AuditGap,
    ];

    /// The name in the log.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AuthenticationSuccess => "authentication.success",
            Self::AuthenticationFailure => "authentication.failure",
            Self::AuthorizationDenied => "authorization.denied",
            Self::RateLimitExceeded => "rate_limit.exceeded",
            Self::PipelineRead => "pipeline.read",
            Self::PipelineExecute => "pipeline.execute",
            Self::RunControl => "run.control",
            Self::PipelineRegister => "pipeline.register",
            Self::ScheduleChange => "schedule.change",
            Self::StoreBackup => "store.backup",
            Self::SecurityConfigChange => "security.config_change",
            Self::WebsocketConnect => "websocket.connect",
            Self::WebsocketSubscribe => "websocket.subscribe",
            Self::WebsocketDenied => "websocket.denied",
            Self::WebsocketClose => "websocket.close",
            Self::AuditStart => "audit.start",
            Self::AuditStop => "audit.stop",
            Self::AuditGap => "audit.gap",
        }
    }
}

impl FromStr for AuditEvent {
    type Err = UnknownEvent;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let found = Self::ALL.into_iter().find(|e| e.as_str() == text);
        found.ok_or_else(|| UnknownEvent(text.chars().take(60).collect()))
    }
}

impl Outcome {
    /// The name in the log.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Failure => "failure",
            Self::Denied => "denied",
            Self::Throttled => "throttled",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_event_has_one_name_everywhere() {
        for event in AuditEvent::ALL {
            assert_eq!(serde_json::to_string(&event).unwrap(), format!("\"{}\"", event.as_str()));
            assert_eq!(event.as_str().parse::<AuditEvent>().unwrap(), event);
        }
        assert!("pipeline.delete".parse::<AuditEvent>().is_err());
        for outcome in [Outcome::Success, Outcome::Failure, Outcome::Denied, Outcome::Throttled] {
            assert_eq!(serde_json::to_string(&outcome).unwrap(), format!("\"{}\"", outcome.as_str()));
        }
    }
}
