//! Webhooks: events told to others over HTTP, at least once.
//!
//! What a webhook is to be told is written into the store together with the events, so that no crash comes between them
//! ([`outbox`]); each webhook has a task that sends what waits, by itself and without polling ([`deliver`]).

mod admin;
mod definition;
mod deliver;
mod outbox;
mod send;

pub use self::admin::{DeliveryPage, DeliveryView, TestOutcome, WebhookView};
pub use self::definition::{Webhook, WebhookError, WebhookSpec};
pub(crate) use self::deliver::spawn;
pub(crate) use self::outbox::Outbox;
