//! Who gets what: the authorization matrix, on the built program.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod inputs;
mod matrix;
mod reload;
mod shapes;
mod support;
