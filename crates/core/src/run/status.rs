//! The states of runs and steps.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The state of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs, reason = "the names say it")]
pub enum RunStatus {
    Queued,
    Running,
    Paused,
    Completed,
    Failed,
    Cancelled,
    TimedOut,
}

/// The state of a step run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepStatus {
    /// Waits for its inputs.
    Pending,
    /// Has its inputs and waits for room.
    Queued,
    /// An attempt is under way.
    Running,
    /// An attempt failed and the next one waits for its time.
    Retrying,
    /// Has its value.
    Completed,
    /// Its last attempt failed.
    Failed,
    /// Was not needed, or could not have its inputs.
    Skipped,
    /// Was stopped, or its run was before it started.
    Cancelled,
    /// Its last attempt took too long.
    TimedOut,
    /// Has its value from an earlier execution.
    Cached,
}

impl RunStatus {
    /// Every state, in the order of life.
    pub const ALL: [Self; 7] = [
        Self::Queued,
        Self::Running,
        Self::Paused,
        Self::Completed,
        Self::Failed,
        Self::Cancelled,
        Self::TimedOut,
    ];

    /// Whether nothing can change any more.
    pub fn is_terminal(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Cancelled | Self::TimedOut)
    }

    /// The name as JSON has it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::TimedOut => "timed_out",
        }
    }
}

impl StepStatus {
    /// Every state, in the order of life.
    pub const ALL: [Self; 10] = [
        Self::Pending,
        Self::Queued,
        Self::Running,
        Self::Retrying,
        Self::Completed,
        Self::Failed,
        Self::Skipped,
        Self::Cancelled,
        Self::TimedOut,
        Self::Cached,
    ];

    /// Whether nothing can change any more.
    pub fn is_terminal(self) -> bool {
        self.has_value() || matches!(self, Self::Failed | Self::Skipped | Self::Cancelled | Self::TimedOut)
    }

    /// Whether the step has its value.
    pub fn has_value(self) -> bool {
        matches!(self, Self::Completed | Self::Cached)
    }

    /// The name as JSON has it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Retrying => "retrying",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Skipped => "skipped",
            Self::Cancelled => "cancelled",
            Self::TimedOut => "timed_out",
            Self::Cached => "cached",
        }
    }
}

/// A text that names no state of a run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a run status; one of queued, running, paused, completed, failed, cancelled, timed_out")]
pub struct UnknownStatus;

impl FromStr for RunStatus {
    type Err = UnknownStatus;

    fn from_str(text: &str) -> Result<Self, UnknownStatus> {
        Self::ALL.into_iter().find(|status| status.as_str() == text).ok_or(UnknownStatus)
    }
}

/// A text that names no state of a step.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "not a step status; one of pending, queued, running, retrying, completed, failed, skipped, cancelled, timed_out, \
     cached"
)]
pub struct UnknownStepStatus;

impl FromStr for StepStatus {
    type Err = UnknownStepStatus;

    fn from_str(text: &str) -> Result<Self, UnknownStepStatus> {
        Self::ALL.into_iter().find(|status| status.as_str() == text).ok_or(UnknownStepStatus)
    }
}

impl fmt::Display for RunStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for StepStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
