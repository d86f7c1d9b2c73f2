//! Tokens against the built program: hostile ones, and issuers that publish their keys.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod hostile;
mod issuers;
mod jwks;
mod minting;
mod revoking;
mod support;
