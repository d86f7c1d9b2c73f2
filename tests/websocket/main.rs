//! WebSockets of the built program, beyond what the guide says of them.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod events;
mod limits;
mod manners;
mod revocation;
mod support;
