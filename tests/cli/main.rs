//! The command line of the built program.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod cache;
mod check;
mod credentials;
mod data;
mod demo;
mod keys;
mod mutual;
mod page;
mod runs;
mod schedules;
mod security;
mod selftest;
mod serve;
mod simulate;
mod store;
mod webhooks;

/// The built program.
const PROGRAM: &str = env!("CARGO_BIN_EXE_taskiq-flow");
