//! The audit log from outside: floods, sinks that fail, sudden ends, checkpoints, proofs and exports.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod checkpoints;
mod exports;
mod flood;
mod hostile;
mod required;
mod sockets;
mod support;
mod table;
