//! Starts the built server and its real neighbours, and talks to them as a stranger would.
//!
//! Nothing here knows the product's crates: a test that uses only this sees what users see. Everything listens on
//! 127.0.0.1, has a deadline, writes into a directory of its own, and is ended by process id: when its guard is
//! dropped, and when the test process itself dies.
//!
//! ```no_run
//! # async fn example() {
//! use taskiq_flow_testkit::Server;
//!
//! let server = Server::builder("target/debug/taskiq-flow")
//!     .env("TASKIQ_FLOW_API_KEYS", r#"{"k":{"role":"admin","pipelines":["*"],"permissions":["read"]}}"#)
//!     .start()
//!     .await;
//! let reply = server.client().key("k").get("/pipelines").await;
//! assert_eq!(reply.status, 200);
//! let exit = server.stop().await;
//! assert_eq!(exit.code, Some(0));
//! # }
//! ```
//!
//! A test kit has one error: the test cannot go on. Its functions panic then, and say what they saw.

mod chromium;
mod client;
mod command;
mod connections;
mod issuer;
pub mod jwt;
mod limits;
mod nginx;
mod port;
mod process;
pub mod raw;
mod receiver;
mod redis;
mod server;
pub mod signing;
mod sse;
mod tls;
mod wait;
mod websocket;

pub use chromium::Chromium;
pub use client::{Client, Reply};
pub use command::{Cli, Running};
pub use issuer::{Answer, Issuer};
pub use limits::raise_open_files;
pub use nginx::{Nginx, NginxSite};
pub use port::free_port;
pub use process::{Exit, is_alive};
pub use receiver::{Reaction, Received, Receiver};
pub use redis::Redis;
pub use server::{Server, ServerBuilder};
pub use sse::{EventStream, ServerSentEvent};
pub use tls::{Authority, Pair};
pub use wait::{until, within};
pub use websocket::{Incoming, Socket};
