//! The engine on a store in memory: real tasks, real processes, real time.

mod commands;
mod control;
mod recovery;
mod runs;
mod support;
