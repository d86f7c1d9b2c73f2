//! Attempts of a stranger, a reader and an author on the built program, as docs/threat-model.md lists them.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod authors;
mod credentials;
mod devices;
mod guessing;
mod paths;
mod support;
