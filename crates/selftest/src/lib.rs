//! The authorization matrix: every route and every WebSocket topic, asked by every kind of caller, against what the
//! contract says the answer must be.
//!
//! Nothing here knows the product's crates. [`model`] says anew, from the text of the contract alone, who may do what;
//! [`routes`] says what each route needs. A server that agrees with both by mistake would have to make the same
//! mistake twice. The project's own tests and `taskiq-flow selftest authz` run the same matrix.
//!
//! | to | go to |
//! |---|---|
//! | change what the contract grants | [`model`] |
//! | add a route | [`routes`] |
//! | add a kind of caller or of pipeline | [`world`] |
//! | change what is asked, and how the answer is judged | [`plan`], [`topics`] |
//! | change how a live server is prepared and cleaned | [`setup`] |
//! | change how requests are sent and paced | [`client`], [`run`] |

pub mod client;
pub mod model;
pub mod plan;
pub mod report;
pub mod routes;
pub mod run;
pub mod setup;
pub mod topics;
pub mod world;
