//! What goes wrong: a run's first error, and an event that cannot be.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// The first error of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunError {
    /// The step run that failed; none: the run itself, by taking too long.
    pub step: Option<Arc<str>>,
    /// The attempt that failed.
    pub attempt: Option<u32>,
    /// What it said.
    pub message: Arc<str>,
    /// Whether it took too long.
    pub timed_out: bool,
    /// The steps that were to be undone then and could not be.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub not_undone: Vec<Arc<str>>,
}

/// An event that does not follow from the state: a damaged log, or a mistake of whoever drives the run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("event {seq} ({event}) is not possible here: {why}")]
pub struct IllegalEvent {
    /// The event's sequence number.
    pub seq: u64,
    /// Its type.
    pub event: &'static str,
    /// What stands against it.
    pub why: String,
}
