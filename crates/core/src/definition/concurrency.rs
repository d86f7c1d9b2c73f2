//! How many runs of a pipeline may be under way at once, and which goes first.

use std::num::NonZeroU32;

use serde::{Deserialize, Serialize};

use crate::expr::Expr;

/// How urgent a run is: from 0 to [`Priority::MAX`], the higher the sooner. Among runs that wait for room, one step is
/// worth 30 seconds of waiting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
pub struct Priority(u8);

/// A number that is no priority.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a priority is a whole number from 0 to {max}, the higher the sooner", max = Priority::MAX.get())]
pub struct PriorityError;

/// One limit on the runs of a pipeline that are under way at once.
#[derive(Debug, Clone)]
pub struct Concurrency {
    /// At most so many.
    pub max: NonZeroU32,
    /// Over the parameters: each value of it has `max` runs of its own. None: all runs share them.
    pub key: Option<Expr>,
    /// What becomes of a run that finds no room.
    pub on_full: OnFull,
}

/// What becomes of a run that finds no room under a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnFull {
    /// It waits.
    #[default]
    Queue,
    /// It is not carried out: it ends at once, as cancelled, with a `PipelineSkipEvent`.
    Skip,
    /// The oldest runs under the limit, waiting ones too, are cancelled until there is room.
    CancelOldest,
}

impl Priority {
    /// The highest.
    pub const MAX: Self = Self(9);

    /// Its number.
    pub const fn get(self) -> u8 {
        self.0
    }
}

impl Default for Priority {
    /// 5, the middle.
    fn default() -> Self {
        Self(5)
    }
}

impl TryFrom<u8> for Priority {
    type Error = PriorityError;

    fn try_from(number: u8) -> Result<Self, PriorityError> {
        if number <= Self::MAX.0 { Ok(Self(number)) } else { Err(PriorityError) }
    }
}

impl From<Priority> for u8 {
    fn from(priority: Priority) -> Self {
        priority.0
    }
}
