//! When a pipeline runs by itself.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::time::{Timestamp, duration_text, duration_text_opt};

/// One entry of a pipeline's `schedule:`.
#[derive(Debug, Clone, PartialEq)]
pub struct ScheduleSpec {
    /// Unique within the pipeline.
    pub id: String,
    /// When it fires.
    pub timing: Timing,
    /// IANA name of the time zone in which a cron expression is read.
    pub timezone: String,
    /// Parameters of the runs it starts.
    pub parameters: Map<String, Value>,
    /// Whether it fires at all.
    pub enabled: bool,
    /// Which of its times it fires at, and what else is under way then.
    pub rules: ScheduleRules,
}

/// When a schedule fires.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Timing {
    /// A cron expression with 5 or 6 fields.
    Cron(String),
    /// Every so often, counted from `from`, or else from when the schedule was made.
    #[serde(with = "duration_text")]
    Interval(Duration),
    /// Once.
    At(Timestamp),
}

/// Which of its times a schedule fires at, and what becomes of a time that finds the run before it unfinished.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ScheduleRules {
    /// What becomes of times that came while nothing could fire.
    #[serde(skip_serializing_if = "is_default")]
    pub catch_up: CatchUp,
    /// What becomes of a time that finds the schedule's last run unfinished.
    #[serde(skip_serializing_if = "is_default")]
    pub overlap: Overlap,
    /// A run starts up to so long after its time, by an amount that the same schedule has for the same time again,
    /// and always before the next time. Below a millisecond it is none.
    #[serde(with = "duration_text_opt", skip_serializing_if = "Option::is_none")]
    pub jitter: Option<Duration>,
    /// No time before this one counts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<Timestamp>,
    /// No time after this one counts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
}

/// What becomes of times that came while nothing could fire: the server was down, or did not get its turn.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CatchUp {
    /// They are left out, unless the last one is at most [a minute](crate::calendar::LATE) late.
    Skip,
    /// The last one is made up for.
    #[default]
    One,
    /// Each is made up for, in order; of more than [a thousand](crate::calendar::MOST_MISSED) the last thousand.
    All,
}

/// What becomes of a time that finds the schedule's last run unfinished.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Overlap {
    /// Its run starts beside it.
    #[default]
    Allow,
    /// It is left out.
    Skip,
    /// It waits for the end of that run. Which of several that wait are carried out, [`CatchUp`] says.
    Queue,
    /// That run is cancelled first.
    CancelPrevious,
}

impl CatchUp {
    /// The word for each.
    pub const WORDS: &'static [(&'static str, Self)] =
        &[("skip", Self::Skip), ("one", Self::One), ("all", Self::All)];
}

impl Overlap {
    /// The word for each.
    pub const WORDS: &'static [(&'static str, Self)] = &[
        ("allow", Self::Allow),
        ("skip", Self::Skip),
        ("queue", Self::Queue),
        ("cancel_previous", Self::CancelPrevious),
    ];
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
