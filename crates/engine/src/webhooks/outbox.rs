//! What webhooks are to be told: written with the events, in one transaction, so that no crash comes between them.

use std::sync::Arc;

use metrics::{Counter, Gauge};
use parking_lot::Mutex;
use reqwest::Client;
use serde_json::{Map, Value, json};
use taskiq_flow_core::definition::Pipeline;
use taskiq_flow_core::id::{PipelineId, RunId};
use taskiq_flow_core::run::{Event, EventView};
use taskiq_flow_core::time::Timestamp;
use taskiq_flow_store::{Delivery, Store, StoreError, json_length};
use tokio::sync::Notify;
use uuid::Uuid;

use super::definition::Webhook;
use crate::error::RegisterError;
use crate::shares::Shares;

/// Deliveries of one webhook that may wait, and their bytes. Each pipeline has a share of both, so that many events of one
/// leave room to those of others. What comes beyond is given up at once: it can be replayed, and what was there first is
/// not pushed out by a receiver that is away.
const MAX_WAITING: u64 = 10_000;
const MAX_WAITING_BYTES: u64 = 64 << 20;
/// The longest an event may be as JSON, in bytes: what the message services of clouds carry too.
const MAX_EVENT: u64 = 256 << 10;
/// What of a longer event is left out: fields above so many bytes.
const SMALL_FIELD: u64 = 4 << 10;
/// How deep a value may be nested. A store has a limit as well, for the event and for what is told of it.
const MAX_DEPTH: usize = 64;
/// Why what comes beyond [`MAX_WAITING`] is given up.
const FULL: &str = "too many deliveries were waiting";

/// The webhooks of an engine.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    pub(super) targets: Vec<Arc<Target>>,
    /// Whether there are webhooks at all, so that a pipeline that names one must name one of them.
    configured: bool,
}

/// A webhook at work.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) webhook: Webhook,
    pub(super) client: Client,
    /// There is something new to look for.
    pub(super) news: Notify,
    waiting: Mutex<Waiting>,
    pub(super) recent: Mutex<Recent>,
    /// Held by who replays: one that was replayed and has gone is not to come back.
    pub(super) replaying: tokio::sync::Mutex<()>,
    counters: Counters,
}

/// About what waits for a webhook, by pipeline.
#[derive(Debug)]
struct Waiting {
    count: Shares<String>,
    bytes: Shares<String>,
}

/// What has happened lately.
#[derive(Debug, Clone, Default)]
pub(super) struct Recent {
    /// Since the start.
    pub(super) delivered: u64,
    /// Since the start.
    pub(super) failed: u64,
    pub(super) delivered_at: Option<Timestamp>,
    pub(super) error: Option<(Timestamp, String)>,
    /// Whether the last try failed.
    pub(super) failing: bool,
}

struct Counters {
    delivered: Counter,
    failed: Counter,
    dead: Counter,
    waiting: Gauge,
}

impl Outbox {
    /// Sets the webhooks up. None: this engine tells nobody, and what pipelines say about it has no effect.
    ///
    /// # Errors
    /// The HTTP client cannot be made.
    pub(crate) fn new(webhooks: Option<&[Webhook]>) -> Result<Self, String> {
        let targets = webhooks.unwrap_or_default().iter().map(|webhook| {
            let client = super::send::client(webhook)?;
            Ok(Arc::new(Target::new(webhook.clone(), client)))
        });
        Ok(Self { targets: targets.collect::<Result<_, String>>()?, configured: webhooks.is_some() })
    }

    /// Whether nobody is told anything.
    pub(crate) fn is_empty(&self) -> bool {
        self.targets.is_empty()
    }

    /// Learns how much waits. Without a webhook nothing is read.
    pub(crate) async fn load(&self, store: &dyn Store) -> Result<(), StoreError> {
        if self.targets.is_empty() {
            return Ok(());
        }
        for stats in store.delivery_stats().await? {
            match self.find(&stats.hook) {
                Some(target) => target.add_waiting(&stats.pipeline, stats.waiting, stats.waiting_bytes),
                None if stats.waiting > 0 => {
                    let (webhook, waiting) = (&stats.hook, stats.waiting);
                    tracing::warn!(
                        webhook,
                        waiting,
                        "deliveries wait for a webhook that is not configured any more"
                    );
                }
                None => {}
            }
        }
        Ok(())
    }

    /// Whether the webhooks that a pipeline names are there, and take its events.
    ///
    /// # Errors
    /// [`RegisterError::Webhook`].
    pub(crate) fn check(&self, pipeline: &Pipeline) -> Result<(), RegisterError> {
        if !self.configured {
            return Ok(());
        }
        for name in &pipeline.on_event {
            let message = match self.find(name) {
                None if self.targets.is_empty() => {
                    format!("there is no webhook `{name}`; none is configured (`webhooks`)")
                }
                None => {
                    // Whoever registers a pipeline need not know of those that are for others.
                    let for_it = |target: &&Arc<Target>| target.webhook.takes_pipeline(&pipeline.id, true);
                    let names: Vec<_> =
                        self.targets.iter().filter(for_it).map(|target| target.webhook.name()).collect();
                    match names[..] {
                        [] => format!("there is no webhook `{name}` for pipeline `{}`", pipeline.id),
                        _ => format!("there is no webhook `{name}`; for it there are {}", names.join(", ")),
                    }
                }
                Some(target) if !target.webhook.takes_pipeline(&pipeline.id, true) => format!(
                    "webhook `{name}` takes no events of pipeline `{}`: its `pipelines` do not name it",
                    pipeline.id
                ),
                Some(_) => continue,
            };
            return Err(RegisterError::Webhook(message));
        }
        Ok(())
    }

    /// What is to be told of these events, to be written with them. Each counts as waiting from now on.
    pub(crate) fn deliveries(
        &self,
        pipeline_id: &PipelineId,
        named: &[String],
        run_id: RunId,
        events: &[Event],
        now: Timestamp,
    ) -> Vec<Delivery> {
        let mut deliveries = Vec::new();
        for target in &self.targets {
            let webhook = &target.webhook;
            let wanted = events.iter().filter(|event| webhook.takes_type(event.fact.type_name()));
            let mut wanted = wanted.peekable();
            if wanted.peek().is_none()
                || !webhook.takes_pipeline(pipeline_id, named.iter().any(|name| name == webhook.name()))
            {
                continue;
            }
            deliveries.extend(wanted.map(|event| {
                let mut delivery = Delivery {
                    id: Uuid::now_v7(),
                    hook: webhook.name().to_owned(),
                    body: Arc::new(told(pipeline_id, run_id, event)),
                    created_at: now,
                    next_at: now,
                    attempts: 0,
                    error: None,
                    dead: false,
                };
                if !target.enter(&delivery) {
                    (delivery.dead, delivery.error) = (true, Some(FULL.to_owned()));
                }
                delivery
            }));
        }
        deliveries
    }

    /// These are in the store now.
    pub(crate) fn written(&self, deliveries: &[Delivery]) {
        for delivery in deliveries {
            let Some(target) = self.find(&delivery.hook) else { continue };
            match delivery.dead {
                true => target.gave_up(),
                false => target.news.notify_one(),
            }
        }
    }

    /// These are not in the store, nor will they be.
    pub(crate) fn not_written(&self, deliveries: &[Delivery]) {
        for delivery in deliveries.iter().filter(|delivery| !delivery.dead) {
            if let Some(target) = self.find(&delivery.hook) {
                target.left(delivery);
            }
        }
    }

    pub(super) fn find(&self, name: &str) -> Option<&Arc<Target>> {
        self.targets.iter().find(|target| target.webhook.name() == name)
    }
}

impl Target {
    fn new(webhook: Webhook, client: Client) -> Self {
        let counters = Counters::of(webhook.name());
        Self {
            webhook,
            client,
            news: Notify::new(),
            waiting: Mutex::new(Waiting::new()),
            recent: Mutex::default(),
            replaying: tokio::sync::Mutex::default(),
            counters,
        }
    }

    /// Counts one more that waits, unless as many as may be do, of all pipelines or of its own: then it is false.
    fn enter(&self, delivery: &Delivery) -> bool {
        let (pipeline, bytes) = (delivery.pipeline(), delivery.bytes());
        let mut waiting = self.waiting.lock();
        if !waiting.count.has_room(pipeline, 1) || !waiting.bytes.has_room(pipeline, bytes) {
            return false;
        }
        waiting.add(pipeline, 1, bytes);
        self.show(&waiting);
        true
    }

    /// Counts so many more that wait, whether or not there is room.
    pub(super) fn add_waiting(&self, pipeline: &str, count: u64, bytes: u64) {
        let mut waiting = self.waiting.lock();
        waiting.add(pipeline, count, bytes);
        self.show(&waiting);
    }

    /// One that waited waits no more.
    fn left(&self, delivery: &Delivery) {
        let mut waiting = self.waiting.lock();
        waiting.remove(delivery.pipeline(), delivery.bytes());
        self.show(&waiting);
    }

    /// One was taken.
    pub(super) fn took(&self, delivery: &Delivery, now: Timestamp) {
        self.left(delivery);
        self.counters.delivered.increment(1);
        let mut recent = self.recent.lock();
        recent.delivered += 1;
        recent.delivered_at = Some(now);
        recent.failing = false;
    }

    /// One was tried in vain.
    pub(super) fn refused(&self, now: Timestamp, why: &str) {
        self.counters.failed.increment(1);
        let mut recent = self.recent.lock();
        if !recent.failing {
            tracing::warn!(webhook = self.webhook.name(), reason = why, "a webhook could not be delivered");
        }
        recent.failed += 1;
        recent.error = Some((now, why.to_owned()));
        recent.failing = true;
    }

    /// One that had been tried as often as may be waits no more.
    pub(super) fn ended_in_vain(&self, delivery: &Delivery) {
        self.left(delivery);
        self.gave_up();
    }

    fn gave_up(&self) {
        self.counters.dead.increment(1);
    }

    fn show(&self, waiting: &Waiting) {
        // More than 2^53 never wait.
        self.counters.waiting.set(waiting.count.taken() as f64);
    }
}

impl Waiting {
    fn new() -> Self {
        Self { count: Shares::new(MAX_WAITING), bytes: Shares::new(MAX_WAITING_BYTES) }
    }

    fn add(&mut self, pipeline: &str, count: u64, bytes: u64) {
        self.count.add(pipeline, count);
        self.bytes.add(pipeline, bytes);
    }

    fn remove(&mut self, pipeline: &str, bytes: u64) {
        self.count.remove(pipeline, 1);
        // Bytes that an earlier program has counted need not be those that are counted here.
        let bytes = if self.count.has_none(pipeline) { u64::MAX } else { bytes };
        self.bytes.remove(pipeline, bytes);
    }
}

impl Counters {
    fn of(name: &str) -> Self {
        let outcome = |outcome: &'static str| {
            let name = name.to_owned();
            metrics::counter!("taskiq_flow_webhook_deliveries_total", "webhook" => name, "outcome" => outcome)
        };
        Self {
            delivered: outcome("delivered"),
            failed: outcome("failed"),
            dead: outcome("dead"),
            waiting: metrics::gauge!("taskiq_flow_webhook_deliveries_waiting", "webhook" => name.to_owned()),
        }
    }
}

impl std::fmt::Debug for Counters {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Counters")
    }
}

/// An event as a webhook is told it: as watchers are, without values that are too large to be sent around.
fn told(pipeline_id: &PipelineId, run_id: RunId, event: &Event) -> Value {
    let view = EventView::of_run(pipeline_id.clone(), run_id, event.clone());
    // An event is a mapping of texts, numbers and values: it always serialises.
    let Ok(Value::Object(mut fields)) = serde_json::to_value(&view) else { return json!({}) };
    if json_length(&fields) > MAX_EVENT || fields.values().any(|value| depth(value) > MAX_DEPTH) {
        let large = |value: &Value| json_length(value) > SMALL_FIELD || depth(value) > MAX_DEPTH;
        let omitted: Vec<String> =
            fields.iter().filter(|(_, value)| large(value)).map(|(name, _)| name.clone()).collect();
        fields = fields.into_iter().filter(|(name, _)| !omitted.contains(name)).collect::<Map<_, _>>();
        fields.insert("omitted".to_owned(), omitted.into());
    }
    Value::Object(fields)
}

fn depth(value: &Value) -> usize {
    let deepest = |depths: &mut dyn Iterator<Item = usize>| 1 + depths.max().unwrap_or(0);
    match value {
        Value::Array(items) => deepest(&mut items.iter().map(depth)),
        Value::Object(fields) => deepest(&mut fields.values().map(depth)),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use taskiq_flow_core::run::Fact;

    fn of(result: Value) -> Value {
        let fact = Fact::PipelineComplete { result: Arc::new(result), duration_ms: 7 };
        let event = Event { seq: 3, timestamp: Timestamp::from_millis(0), fact };
        told(&"p".parse().unwrap(), RunId::new(), &event)
    }

    #[test]
    fn what_is_too_large_is_left_out_by_name() {
        let nested = |levels: usize| (0..levels).fold(json!(1), |inner, _| json!([inner]));
        for kept in [json!({"a": [1]}), json!("x".repeat(MAX_EVENT as usize - 1000)), nested(MAX_DEPTH)] {
            let told = of(kept.clone());
            assert_eq!((&told["result"], &told["omitted"]), (&kept, &Value::Null));
        }
        for left_out in [json!("x".repeat(MAX_EVENT as usize)), nested(MAX_DEPTH + 1)] {
            let told = of(left_out);
            assert_eq!((&told["type"], &told["seq"]), (&json!("PipelineCompleteEvent"), &json!(3)));
            assert_eq!((told.get("result"), &told["omitted"]), (None, &json!(["result"])));
        }
    }
}
