//! Runs, over HTTP, of the built program.

mod control;
mod events;
mod examples;
mod parameters;
mod recovery;
mod support;
