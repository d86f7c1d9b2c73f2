//! The API as its clients see it. In-process, but for sockets.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod administration;
mod attacks;
mod bodies;
mod cache;
mod events;
mod explain;
mod forecasts;
mod frame;
mod graphs;
mod openapi;
mod pipelines;
mod quotas;
mod register;
mod reload;
mod rules;
mod runs;
mod schedules;
mod security;
mod serving;
mod support;
mod webhooks;
mod websocket;
