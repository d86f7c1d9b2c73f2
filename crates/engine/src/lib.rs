//! Runs pipelines: takes requests, drives the state machine of each run, carries out its commands, and tells
//! watchers what happened.
//!
//! [`Engine`] is a handle. Behind it stand shards, each the only driver of its runs; workers, which carry out
//! attempts; the [`hub`](EventHub), which tells watchers; and the scheduler. Nothing polls.

mod catalog;
mod clock;
mod engine;
mod error;
mod exec;
mod hub;
mod inflight;
mod options;
mod query;
mod register;
mod schedule;
mod shard;
mod worker;

pub use catalog::Registered;
pub use clock::{Clock, SystemClock};
pub use engine::{Engine, Submission, Submitted};
pub use error::{ControlError, RegisterError, ScheduleError, StartError, SubmitError};
pub use hub::{EventHub, Watcher};
pub use options::EngineOptions;
pub use query::{RunPage, RunSummaryView};
pub use schedule::{ScheduleChange, ScheduleRequest};
