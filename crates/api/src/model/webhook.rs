//! Webhooks and their deliveries.

use serde::Serialize;
use taskiq_flow_core::time::Timestamp;
use taskiq_flow_engine::{DeliveryPage, DeliveryView, TestOutcome, WebhookView};
use utoipa::ToSchema;
use uuid::Uuid;

/// All webhooks.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct WebhookList {
    /// In the order of the configuration; behind them those that have left deliveries and are not configured any more.
    webhooks: Vec<WebhookDocument>,
}

/// A webhook as it is now. The counts of `delivered` and `failed` are those since the server's start.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Webhook)]
struct WebhookDocument {
    name: String,
    /// `idle` (nothing was tried yet), `ok`, `failing` (the last try failed) or `removed` (it is not configured any more).
    status: &'static str,
    /// Scheme, host and port of its address; null: it is not configured any more.
    url: Option<String>,
    /// The types of events it is told of.
    events: Vec<String>,
    /// The pipelines it is told of; empty: those that name it in `on_event`.
    pipelines: Vec<String>,
    /// Deliveries that wait for a try, or for the next one.
    waiting: u64,
    /// Deliveries that were given up and are kept.
    dead: u64,
    delivered: u64,
    /// Tries that failed.
    failed: u64,
    #[schema(value_type = Option<String>, format = DateTime)]
    last_delivered_at: Option<Timestamp>,
    last_error: Option<String>,
    #[schema(value_type = Option<String>, format = DateTime)]
    last_error_at: Option<Timestamp>,
}

/// A page of deliveries.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DeliveryList {
    deliveries: Vec<DeliveryDocument>,
    /// What to ask for the next page with; null: this was the last.
    next_cursor: Option<String>,
}

/// An event that waits to be told, or that was given up.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Delivery)]
struct DeliveryDocument {
    /// What the receiver knows it by.
    #[schema(value_type = String, format = Uuid)]
    id: Uuid,
    /// The type of the event.
    event: String,
    pipeline_id: String,
    run_id: String,
    /// The number of the event in the log of the run.
    seq: u64,
    /// `waiting` or `dead`.
    status: &'static str,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    /// When it is tried next.
    #[schema(value_type = Option<String>, format = DateTime)]
    next_at: Option<Timestamp>,
    /// How often it was tried in vain.
    attempts: u32,
    error: Option<String>,
}

/// What came of a test.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TestedWebhook {
    /// The id that the receiver was given.
    #[schema(value_type = String, format = Uuid)]
    id: Uuid,
    /// Whether it answered with a status from 200 to 299.
    delivered: bool,
    /// The status it answered.
    status: Option<u16>,
    error: Option<String>,
    duration_ms: u64,
}

impl From<Vec<WebhookView>> for WebhookList {
    fn from(views: Vec<WebhookView>) -> Self {
        Self { webhooks: views.into_iter().map(Into::into).collect() }
    }
}

impl From<WebhookView> for WebhookDocument {
    fn from(view: WebhookView) -> Self {
        let status = match &view {
            WebhookView { origin: None, .. } => "removed",
            WebhookView { failing: true, .. } => "failing",
            WebhookView { delivered: 0, failed: 0, .. } => "idle",
            _ => "ok",
        };
        let WebhookView { name, origin, events, pipelines, waiting, dead, delivered, failed, .. } = view;
        let (last_error_at, last_error) = view.error.unzip();
        Self {
            name,
            status,
            url: origin,
            events,
            pipelines,
            waiting,
            dead,
            delivered,
            failed,
            last_delivered_at: view.delivered_at,
            last_error,
            last_error_at,
        }
    }
}

impl From<DeliveryPage> for DeliveryList {
    fn from(page: DeliveryPage) -> Self {
        Self {
            deliveries: page.deliveries.into_iter().map(Into::into).collect(),
            next_cursor: page.next.map(|(at, id)| format!("{}_{id}", at.as_millis())),
        }
    }
}

impl From<DeliveryView> for DeliveryDocument {
    fn from(view: DeliveryView) -> Self {
        let DeliveryView { id, kind, pipeline_id, run_id, seq, created_at, next_at, attempts, error } = view;
        let status = if next_at.is_some() { "waiting" } else { "dead" };
        Self { id, event: kind, pipeline_id, run_id, seq, status, created_at, next_at, attempts, error }
    }
}

impl From<TestOutcome> for TestedWebhook {
    fn from(outcome: TestOutcome) -> Self {
        let TestOutcome { id, status, error, duration } = outcome;
        let duration_ms = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        Self { id, delivered: error.is_none(), status, error, duration_ms }
    }
}
