//! The transport of the built program: TLS, its reload, certificates of clients, HTTP/2, and requests that no client
//! would make.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod files;
mod mutual;
mod reload;
mod scan;
mod serving;
mod smuggling;
mod support;
mod versions;
