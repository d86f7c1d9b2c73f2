//! What handlers and sockets do with the engine. Everything here that concerns a pipeline takes the permit for it, so
//! that there is no way to it around the policy.

pub(crate) mod cache;
pub(crate) mod dead_letters;
pub(crate) mod forecasts;
pub(crate) mod pipelines;
mod quota;
pub(crate) mod runs;
pub(crate) mod schedules;
