//! What event streams and sockets share: following a run, and noticing that a caller may not stay.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use taskiq_flow_core::id::RunId;
use taskiq_flow_core::run::EventView;
use taskiq_flow_engine::{ControlError, Engine, Missed, Watcher};
use taskiq_flow_security::Admission;
use taskiq_flow_store::RunRecord;

/// Events read from the store at once.
const PAGE: usize = 500;
/// The longest sleep before a credential is looked at again.
const LONGEST_SLEEP: Duration = Duration::from_secs(86_400);

/// The events of one run after a number: first those of the store, then live ones, each once and without a gap. It
/// watches before it reads, and reads again whenever it fell behind.
#[derive(Debug)]
pub(crate) struct RunTail {
    engine: Engine,
    run_id: RunId,
    after: u64,
    watcher: Watcher,
    page: VecDeque<EventView>,
    reading: bool,
    ended: bool,
}

impl RunTail {
    pub(crate) fn new(engine: &Engine, record: &RunRecord, after: u64) -> Self {
        Self {
            watcher: engine.watch(record.pipeline_id.clone()),
            engine: engine.clone(),
            run_id: record.run_id,
            after,
            page: VecDeque::new(),
            reading: true,
            ended: record.summary.status.is_terminal() && record.last_seq <= after,
        }
    }

    /// Whether there is nothing more to come.
    pub(crate) fn has_ended(&self) -> bool {
        self.ended
    }

    /// The next event; none after the one that ended the run. Dropping the future loses nothing.
    pub(crate) async fn next(&mut self) -> Result<Option<Arc<EventView>>, ControlError> {
        loop {
            if self.ended {
                return Ok(None);
            }
            if let Some(event) = self.page.pop_front() {
                return Ok(Some(self.pass(Arc::new(event))));
            }
            if self.reading {
                let page = self.engine.events(self.run_id, self.after, PAGE).await?;
                self.reading = !page.is_empty();
                self.page = page.into();
                continue;
            }
            match self.watcher.recv().await {
                Ok(event) if event.run_id == Some(self.run_id) && event.event.seq > self.after => {
                    if event.event.seq == self.after + 1 {
                        return Ok(Some(self.pass(event)));
                    }
                    self.reading = true;
                }
                Ok(_) => {}
                Err(Missed::Events(_)) => self.reading = true,
                Err(Missed::All) => return Ok(None),
            }
        }
    }

    fn pass(&mut self, event: Arc<EventView>) -> Arc<EventView> {
        self.after = event.event.seq;
        self.ended = event.event.fact.ends_run();
        event
    }
}

/// Waits until the caller's credential is to be looked at again: it has come to its end, or a day has passed.
pub(crate) async fn until_expiry(caller: &Admission) {
    // Without an end nothing but a change of the policy takes it away, and that is told.
    let Some(end) = caller.principal().expires_at() else { return std::future::pending().await };
    let left = Duration::try_from(end.duration_since(jiff::Timestamp::now())).unwrap_or(Duration::ZERO);
    // A moment later than the end, so that it has passed by whatever clock is asked then.
    tokio::time::sleep(left.saturating_add(Duration::from_millis(5)).min(LONGEST_SLEEP)).await;
}

/// Records how long a connection outlived the change that took its rights away.
pub(crate) fn took_to_close(transport: &'static str, took: Duration) {
    metrics::histogram!("taskiq_flow_revocation_close_seconds", "transport" => transport)
        .record(took.as_secs_f64());
}
