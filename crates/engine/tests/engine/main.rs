//! The engine on a store in memory: real tasks, real processes, real time.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod admission;
mod bounds;
mod cached;
mod chunks;
mod commands;
mod control;
mod deadlines;
mod expressions;
mod faulty;
mod forks;
mod hardships;
mod hooks;
mod hostile;
mod instant;
mod leases;
mod old_files;
mod pruning;
mod recovery;
mod resources;
mod runs;
mod schedules;
mod support;
mod webhooks;
