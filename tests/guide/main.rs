//! The security guide, sentence by sentence, against the built program.
//!
//! A test says which sentences it proves in lines of its doc comment that begin with `Guide:`. All sentences are in
//! `claims.txt`; `conformance.rs` sees to it that each has a test, and makes docs/guide/guide-conformance.md of them.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod audit;
mod authentication;
mod authorization;
mod configuration;
mod conformance;
mod curl;
mod docker;
mod environment;
mod example;
mod https;
mod overview;
mod rate_limits;
mod requirements;
mod secrets;
mod support;
mod websocket;
