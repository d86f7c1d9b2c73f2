//! The pure heart of TaskIQ-Flow: definitions, loaders, expressions, the DAG and the state machine of a run.
//!
//! Nothing here does I/O, reads a clock by itself or needs an async runtime.

pub mod by_run;
pub mod calendar;
pub mod dag;
pub mod definition;
pub mod diagnostic;
pub mod document;
pub mod expr;
pub mod forecast;
pub mod id;
pub mod load;
pub mod pace;
pub mod pattern;
pub mod plan;
pub mod random;
pub mod run;
pub mod time;
