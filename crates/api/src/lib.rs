//! HTTP, WebSocket and server-sent events in front of an engine.
//!
//! [`router`] makes the routes out of one [table](routes::ROUTES), [`serve()`] answers on a socket. Every route has a
//! [rule](routes::Rule): who may reach it is decided before its handler runs, and what the handler calls takes the
//! [`Permit`](taskiq_flow_security::Permit) that the decision gave.
//!
//! | to | go to |
//! |---|---|
//! | add a route | [`routes`], then `handlers/` |
//! | do something new with pipelines, runs or schedules | `service/` |
//! | change what an answer looks like | `model/` |
//! | change what an error looks like | [`problem`] |
//! | change what is on every answer | `frame` |
//! | change what sockets say | `ws/` |

mod accept;
mod app;
mod around;
mod docs;
mod frame;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod gate;
mod handlers;
mod input;
mod meters;
mod metrics;
mod model;
mod openapi;
mod options;
pub mod problem;
mod reload;
pub mod routes;
mod rule;
pub mod serve;
mod service;
mod source;
mod state;
mod stream;
mod ui;
mod ws;

pub use axum::Router;
pub use handlers::explain::explain_by;
pub use metrics::{Metrics, MetricsError};
pub use openapi::document;
pub use options::{ApiOptions, OptionsError};
pub use reload::{ReloadError, Reloaded};
pub use routes::router;
pub use serve::{ServeOptions, Tls, serve};
pub use source::{FreshSettings, SettingsSource};
pub use state::AppState;
pub use taskiq_flow_security::layer::Connection;
