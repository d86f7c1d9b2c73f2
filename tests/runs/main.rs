//! Runs, over HTTP, of the built program.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod chunks;
mod control;
mod events;
mod examples;
mod forecast;
mod parameters;
mod recovery;
mod schedules;
mod support;
mod webhooks;
