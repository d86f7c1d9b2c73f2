//! What is told of webhooks, and what is done to their deliveries.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use taskiq_flow_core::time::Timestamp;
use taskiq_flow_store::{Delivery, DeliveryChange, DeliveryFilter, StoreError};
use uuid::Uuid;

use super::send::send;
use crate::error::ControlError;
use crate::handle::Engine;

/// The type of the event that a test sends.
const TEST: &str = "TestEvent";

/// A webhook as it is now. Nothing in it is secret.
#[derive(Debug, Clone)]
pub struct WebhookView {
    /// Its name.
    pub name: String,
    /// Scheme, host and port of its address; none: it is not configured any more, and what waits for it stays.
    pub origin: Option<String>,
    /// The types of events it is told of, as configured.
    pub events: Vec<String>,
    /// The pipelines it is told of, as configured; none: those that name it.
    pub pipelines: Vec<String>,
    /// Whether the last try failed.
    pub failing: bool,
    /// How many deliveries wait.
    pub waiting: u64,
    /// How many were given up and are kept.
    pub dead: u64,
    /// How many were taken, since the start.
    pub delivered: u64,
    /// How many tries failed, since the start.
    pub failed: u64,
    /// When one was taken last, since the start.
    pub delivered_at: Option<Timestamp>,
    /// The last error, and when it was, since the start.
    pub error: Option<(Timestamp, String)>,
}

/// What waits for a webhook, or was given up. The event itself is not shown.
#[derive(Debug, Clone)]
pub struct DeliveryView {
    /// Its id, which the receiver knows it by.
    pub id: Uuid,
    /// The type of the event.
    pub kind: String,
    /// Its pipeline.
    pub pipeline_id: String,
    /// Its run.
    pub run_id: String,
    /// Its number in the log of the run.
    pub seq: u64,
    /// When it came about.
    pub created_at: Timestamp,
    /// When it is tried next; none: it was given up.
    pub next_at: Option<Timestamp>,
    /// How often it was tried in vain.
    pub attempts: u32,
    /// What went wrong last.
    pub error: Option<String>,
}

/// A page of deliveries.
#[derive(Debug, Clone)]
pub struct DeliveryPage {
    /// Those that wait, the next one first, or those that were given up, newest first.
    pub deliveries: Vec<DeliveryView>,
    /// What to ask for the next page with; none: this was the last.
    pub next: Option<(Timestamp, Uuid)>,
}

/// What came of a test.
#[derive(Debug, Clone)]
pub struct TestOutcome {
    /// The id that the receiver was given.
    pub id: Uuid,
    /// The status it answered, if it did.
    pub status: Option<u16>,
    /// Why it was not taken; none: it was.
    pub error: Option<String>,
    /// How long it took.
    pub duration: Duration,
}

impl Engine {
    /// All webhooks, in the order of the configuration; behind them those that have left deliveries and are not configured
    /// any more.
    ///
    /// # Errors
    /// Failures of the store.
    pub async fn webhooks(&self) -> Result<Vec<WebhookView>, StoreError> {
        // By hook: how many wait, and how many were given up.
        let mut counts = BTreeMap::<String, (u64, u64)>::new();
        for stats in self.0.store.delivery_stats().await? {
            let of_hook = counts.entry(stats.hook).or_default();
            *of_hook = (of_hook.0 + stats.waiting, of_hook.1 + stats.dead);
        }
        let mut views = Vec::new();
        for target in &self.0.outbox.targets {
            let webhook = &target.webhook;
            let (waiting, dead) = counts.remove(webhook.name()).unwrap_or_default();
            let recent = target.recent.lock().clone();
            views.push(WebhookView {
                name: webhook.name().to_owned(),
                origin: Some(webhook.origin()),
                events: webhook.events.clone(),
                pipelines: webhook.pipelines.clone(),
                failing: recent.failing,
                waiting,
                dead,
                delivered: recent.delivered,
                failed: recent.failed,
                delivered_at: recent.delivered_at,
                error: recent.error,
            });
        }
        views.extend(counts.into_iter().map(|(name, (waiting, dead))| WebhookView {
            name,
            origin: None,
            events: Vec::new(),
            pipelines: Vec::new(),
            failing: false,
            waiting,
            dead,
            delivered: 0,
            failed: 0,
            delivered_at: None,
            error: None,
        }));
        Ok(views)
    }

    /// The webhooks as they are configured, without what may be secret.
    pub fn configured_webhooks(&self) -> Vec<Value> {
        self.0.outbox.targets.iter().map(|target| target.webhook.redacted().clone()).collect()
    }

    /// A page of the deliveries of a webhook: those that were given up, or those that wait. `after` is
    /// [`DeliveryPage::next`] of the page before.
    ///
    /// # Errors
    /// [`ControlError::UnknownWebhook`] and failures of the store.
    pub async fn webhook_deliveries(
        &self,
        name: &str,
        dead: bool,
        after: Option<(Timestamp, Uuid)>,
        limit: usize,
    ) -> Result<DeliveryPage, ControlError> {
        let filter = DeliveryFilter {
            hook: Some(name.to_owned()),
            dead,
            before: after.map(|(_, id)| id).filter(|_| dead),
            after: after.filter(|_| !dead),
            limit: limit + 1,
        };
        let mut found = self.0.store.deliveries(filter).await?;
        if found.is_empty() {
            self.check_webhook(name).await?;
        }
        let more = found.len() > limit;
        found.truncate(limit);
        let next = found.last().filter(|_| more).map(|delivery| (delivery.next_at, delivery.id));
        Ok(DeliveryPage { deliveries: found.into_iter().map(Into::into).collect(), next })
    }

    /// Has a delivery that was given up tried again, as if it were new.
    ///
    /// # Errors
    /// [`ControlError::UnknownWebhook`], [`ControlError::UnknownDelivery`] when it is not among those given up, and
    /// failures of the store.
    pub async fn replay_delivery(&self, name: &str, id: Uuid) -> Result<(), ControlError> {
        let unknown = || ControlError::UnknownWebhook(name.to_owned());
        let target = self.0.outbox.find(name).ok_or_else(unknown)?;
        let _replaying = target.replaying.lock().await;
        let filter = DeliveryFilter {
            hook: Some(name.to_owned()),
            dead: true,
            // The one with this id is the newest of those before the next.
            before: id.as_u128().checked_add(1).map(Uuid::from_u128),
            limit: 1,
            ..DeliveryFilter::default()
        };
        let found = self.0.store.deliveries(filter).await?.into_iter().find(|found| found.id == id);
        let Some(delivery) = found else { return Err(ControlError::UnknownDelivery(id)) };
        let again =
            Delivery { dead: false, attempts: 0, next_at: self.0.clock.now(), error: None, ..delivery };
        let (pipeline, bytes) = (again.pipeline().to_owned(), again.bytes());
        self.0.store.change_deliveries(vec![DeliveryChange::Put(again)]).await?;
        target.add_waiting(&pipeline, 1, bytes);
        target.news.notify_one();
        Ok(())
    }

    /// Sends a signed test event to a webhook, once and now.
    ///
    /// # Errors
    /// [`ControlError::UnknownWebhook`]. That it was not taken is no error.
    pub async fn test_webhook(&self, name: &str) -> Result<TestOutcome, ControlError> {
        let unknown = || ControlError::UnknownWebhook(name.to_owned());
        let target = self.0.outbox.find(name).ok_or_else(unknown)?;
        let (id, now, began) = (Uuid::now_v7(), self.0.clock.now(), Instant::now());
        let event = json!({ "type": TEST, "timestamp": now });
        let sent = send(&target.client, &target.webhook, id, &event, now).await;
        let duration = began.elapsed();
        Ok(match sent {
            Ok(status) => TestOutcome { id, status: Some(status.as_u16()), error: None, duration },
            Err(refused) => {
                let status = refused.status.map(|status| status.as_u16());
                TestOutcome { id, status, error: Some(refused.reason), duration }
            }
        })
    }

    /// Whether there is such a webhook, or was and has left something.
    async fn check_webhook(&self, name: &str) -> Result<(), ControlError> {
        let has_left = async || {
            Ok::<_, StoreError>(self.0.store.delivery_stats().await?.iter().any(|stats| stats.hook == name))
        };
        match self.0.outbox.find(name).is_some() || has_left().await? {
            true => Ok(()),
            false => Err(ControlError::UnknownWebhook(name.to_owned())),
        }
    }
}

impl From<Delivery> for DeliveryView {
    fn from(delivery: Delivery) -> Self {
        let Delivery { id, body, created_at, next_at, attempts, error, dead, .. } = delivery;
        let text = |name: &str| body.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        Self {
            id,
            kind: text("type"),
            pipeline_id: text("pipeline_id"),
            run_id: text("run_id"),
            seq: body.get("seq").and_then(Value::as_u64).unwrap_or_default(),
            created_at,
            next_at: (!dead).then_some(next_at),
            attempts,
            error,
        }
    }
}
