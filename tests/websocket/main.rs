//! WebSockets of the built program, beyond what the guide says of them.

mod events;
mod limits;
mod manners;
mod support;
