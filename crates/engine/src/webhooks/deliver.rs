//! The task of a webhook: sends what waits in the outbox, and tries again what was not taken.
//!
//! It sleeps until something new is written or the next try is due. Deliveries go out side by side, so that they may come
//! in any order. What is in doubt after a crash is sent again, under the same id.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use taskiq_flow_core::time::Timestamp;
use taskiq_flow_store::{Delivery, DeliveryChange, DeliveryFilter, Store, StoreError};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::outbox::Target;
use super::send::{NotTaken, send};
use crate::clock::Clock;
use crate::failpoint;
use crate::handle::Inner;

/// Deliveries of one webhook that are under way at once.
const AT_ONCE: usize = 8;
/// The first wait after a try in vain; each further one is twice as long.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(3600);
/// How often a delivery is tried: over about a day.
pub(super) const MOST_TRIES: u32 = 36;
/// How long deliveries under way may take once the engine stops.
const LAST_ANSWERS: Duration = Duration::from_millis(500);
/// First and longest pause while the store does not answer.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(30));
/// The longest sleep; what is due later is looked at again then.
const LONGEST_SLEEP: Duration = Duration::from_secs(86_400);

/// Starts a task for each webhook.
pub(crate) fn spawn(inner: &Arc<Inner>) {
    for target in &inner.outbox.targets {
        let deliverer = Deliverer {
            target: Arc::clone(target),
            store: Arc::clone(&inner.store),
            clock: Arc::clone(&inner.clock),
            stop: inner.stop.clone(),
            under_way: FuturesUnordered::new(),
            ids: HashSet::new(),
        };
        inner.tasks.spawn(deliverer.run());
    }
}

struct Deliverer {
    target: Arc<Target>,
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    stop: CancellationToken,
    under_way: FuturesUnordered<BoxFuture<'static, Tried>>,
    /// Those that are under way, or whose end is not in the store yet.
    ids: HashSet<Uuid>,
}

/// A delivery that was tried.
struct Tried {
    delivery: Delivery,
    result: Result<(), NotTaken>,
}

impl Deliverer {
    async fn run(mut self) {
        // What was left when the last process ended is looked for at once.
        let mut wait = Duration::ZERO;
        let mut pause = PAUSES.0;
        loop {
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return self.finish().await,
                Some(tried) = self.under_way.next() => {
                    if !self.note(tried).await {
                        return;
                    }
                }
                () = self.target.news.notified() => {}
                () = tokio::time::sleep(wait) => {}
            }
            wait = match self.begin_due().await {
                Ok(wait) => {
                    pause = PAUSES.0;
                    wait
                }
                Err(error) => {
                    tracing::error!(webhook = self.target.webhook.name(), %error, "the outbox of a webhook cannot be read");
                    pause = (pause * 2).min(PAUSES.1);
                    pause
                }
            };
        }
    }

    /// Begins what is due, as far as there is room, and says when to look again by oneself.
    async fn begin_due(&mut self) -> Result<Duration, StoreError> {
        if self.ids.len() >= AT_ONCE {
            return Ok(LONGEST_SLEEP);
        }
        // Those under way may stand first in the list; beside them one more than there is room for.
        let filter = DeliveryFilter {
            hook: Some(self.target.webhook.name().to_owned()),
            limit: AT_ONCE + 1,
            ..DeliveryFilter::default()
        };
        let waiting = self.store.deliveries(filter).await?;
        let now = self.clock.now();
        for delivery in waiting {
            if self.ids.contains(&delivery.id) {
                continue;
            }
            if delivery.next_at > now {
                return Ok(delivery.next_at.since(now).min(LONGEST_SLEEP));
            }
            if self.ids.len() >= AT_ONCE {
                break;
            }
            self.begin(delivery, now);
        }
        Ok(LONGEST_SLEEP)
    }

    fn begin(&mut self, delivery: Delivery, now: Timestamp) {
        self.ids.insert(delivery.id);
        let target = Arc::clone(&self.target);
        self.under_way.push(Box::pin(async move {
            let sent = send(&target.client, &target.webhook, delivery.id, &delivery.body, now).await;
            Tried { delivery, result: sent.map(drop) }
        }));
    }

    /// Keeps what came of a try, and of those that have ended meanwhile, in one write. False: the engine is stopping.
    async fn note(&mut self, tried: Tried) -> bool {
        let mut all = vec![tried];
        while let Some(Some(tried)) = futures_util::FutureExt::now_or_never(self.under_way.next()) {
            all.push(tried);
        }
        let now = self.clock.now();
        let changes: Vec<_> = all.iter().map(|tried| self.change(tried, now)).collect();
        let mut pause = PAUSES.0;
        failpoint::pass("delivery-before-note");
        while let Err(error) = self.store.change_deliveries(changes.clone()).await {
            tracing::error!(webhook = self.target.webhook.name(), %error, "what came of a delivery cannot be kept");
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.stop.cancelled() => return false,
            }
            pause = (pause * 2).min(PAUSES.1);
        }
        failpoint::pass("delivery-after-note");
        for (tried, change) in all.iter().zip(&changes) {
            self.ids.remove(&tried.delivery.id);
            match (&tried.result, change) {
                (Ok(()), _) => self.target.took(&tried.delivery, now),
                (Err(refused), DeliveryChange::Put(Delivery { dead: true, .. })) => {
                    self.target.refused(now, &refused.reason);
                    self.target.ended_in_vain(&tried.delivery);
                }
                (Err(refused), _) => self.target.refused(now, &refused.reason),
            }
        }
        true
    }

    fn change(&self, tried: &Tried, now: Timestamp) -> DeliveryChange {
        let Tried { delivery, result } = tried;
        let Err(refused) = result else { return DeliveryChange::Done(delivery.id) };
        let attempts = delivery.attempts.saturating_add(1);
        DeliveryChange::Put(Delivery {
            attempts,
            next_at: now.plus(wait_after(attempts, delivery.id, refused.retry_after)),
            error: Some(refused.reason.clone()),
            dead: attempts >= MOST_TRIES,
            ..delivery.clone()
        })
    }

    /// Waits a little for what is under way. What is not answered by then is sent again after the next start.
    async fn finish(mut self) {
        let last = async {
            while let Some(tried) = self.under_way.next().await {
                let change = self.change(&tried, self.clock.now());
                if let Err(error) = self.store.change_deliveries(vec![change]).await {
                    tracing::warn!(%error, "what came of a delivery cannot be kept; it is sent again");
                }
            }
        };
        _ = tokio::time::timeout(LAST_ANSWERS, last).await;
    }
}

/// How long to wait after so many tries in vain: twice as long each time, up to an hour, less up to a quarter that follows
/// from the id, so that what failed together is not tried together. What the receiver asks for is kept to, within the hour.
fn wait_after(attempts: u32, id: Uuid, asked: Option<Duration>) -> Duration {
    let doubled =
        FIRST_WAIT.saturating_mul(1_u32.checked_shl(attempts.saturating_sub(1)).unwrap_or(u32::MAX));
    let longest = doubled.min(LONGEST_WAIT);
    // The last bytes of an id are random.
    let part = u32::from(id.as_bytes()[15].wrapping_add(attempts.to_le_bytes()[0].wrapping_mul(101)));
    let wait = longest - longest * part / (4 * 256);
    wait.max(asked.unwrap_or_default().min(LONGEST_WAIT))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_an_hour_and_end_after_about_a_day() {
        let id = Uuid::now_v7();
        let waits: Vec<_> = (1..MOST_TRIES).map(|attempts| wait_after(attempts, id, None)).collect();
        for (place, wait) in waits.iter().enumerate() {
            let longest = Duration::from_secs((1_u64 << place.min(20)).min(3600));
            assert!(*wait <= longest && *wait > longest * 3 / 4, "after {} tries: {wait:?}", place + 1);
        }
        let all: Duration = waits.iter().sum();
        let hours = all.as_secs_f64() / 3600.0;
        assert!((18.0..25.0).contains(&hours), "{hours}");
        assert_eq!(wait_after(1, id, Some(Duration::from_secs(30))), Duration::from_secs(30));
        assert_eq!(wait_after(1, id, Some(Duration::MAX)), LONGEST_WAIT);
        assert!(wait_after(u32::MAX, id, None) <= LONGEST_WAIT);
    }
}
