//! Runs pipelines: takes requests, drives the state machine of each run, carries out its commands, and tells
//! watchers what happened.
//!
//! [`Engine`] is a handle. Behind it stand shards, each the only driver of its runs; workers, which carry out
//! attempts; the [`hub`](EventHub), which tells watchers; and the scheduler. Nothing polls.

mod admission;
mod cache;
mod catalog;
mod clock;
mod dead;
mod ending;
mod engine;
mod error;
mod exec;
mod failpoint;
mod filter;
mod forecast;
mod fork;
mod gate;
mod handle;
mod held;
mod homes;
mod hooks;
mod hub;
mod inbox;
mod inflight;
mod inner_run;
mod lease;
mod measure;
mod open;
mod options;
mod pruning;
mod query;
mod recovery;
mod register;
mod replayed;
mod resources;
mod schedule;
mod shard;
mod shares;
mod start;
mod statistics;
mod submission;
mod webhooks;
mod worker;

pub use catalog::Registered;
pub use clock::{Clock, SystemClock};
pub use dead::DeadLetterPage;
pub use ending::Ending;
pub use error::{ControlError, RegisterError, ScheduleError, StartError, SubmitError};
pub use filter::{EventFilter, EventFilterError};
pub use forecast::{Estimate, SpeedUp, TypicalItems, WhatIf, named_gains, what_if};
pub use fork::Fork;
pub use gate::FiringGate;
pub use handle::Engine;
pub use hooks::{BeforeStart, Hook};
pub use hub::{EventHub, Missed, Watched, Watcher};
pub use options::EngineOptions;
pub use query::{RunPage, RunSummaryView};
pub use schedule::{Backfill, BackfillTime, ScheduleChange, ScheduleRequest};
pub use statistics::{Durations, Statistics};
pub use submission::{Submission, Submitted};
pub use webhooks::{
    DeliveryPage, DeliveryView, TestOutcome, Webhook, WebhookError, WebhookSpec, WebhookView,
};
