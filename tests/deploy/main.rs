//! deploy/: each of its files, as far as it can be without a container engine, and the real nginx.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod files;
mod nginx;
mod prepare;
mod support;
