//! Firing: at its time, once, and only if the gate agrees.

use std::sync::Arc;
use std::time::Duration;

use taskiq_flow_core::time::Timestamp;
use taskiq_flow_store::{ScheduleRecord, Trigger};

use super::timing::next_fire;
use crate::error::{StartError, SubmitError};
use crate::handle::Engine;
use crate::submission::Submission;

/// Pause before a firing is tried again for which there was no room, or no answer of the store.
const TRY_AGAIN: Duration = Duration::from_millis(500);

/// What the gate said about a firing that could not be carried out at once, so that it is not asked, and the firing
/// not counted, again.
#[derive(Debug, Default)]
struct Granted(Option<(String, Timestamp, Option<usize>)>);

/// Takes up the stored schedules and starts firing.
pub(crate) async fn spawn(engine: &Engine) -> Result<(), StartError> {
    for record in engine.0.store.schedules().await? {
        if engine.pipeline(&record.pipeline_id).is_some() {
            engine.0.scheduler.records.lock().entry(record.id.clone()).or_insert(record);
        }
    }
    let (weak, stop) = (Arc::downgrade(&engine.0), engine.0.stop.clone());
    let stopped = engine.0.scheduler.stopped.clone();
    engine.0.tasks.spawn(async move {
        let mut granted = Granted::default();
        loop {
            let Some(engine) = weak.upgrade().map(Engine) else { return };
            if stopped.is_cancelled() {
                return;
            }
            let next = engine.0.scheduler.next();
            let now = engine.0.clock.now();
            if let Some((record, due)) = next.clone().and_then(|r| r.next_fire_at.map(|due| (r, due)))
                && due <= now
            {
                if !engine.fire(record, due, &mut granted).await {
                    drop(engine);
                    tokio::select! {
                        () = tokio::time::sleep(TRY_AGAIN) => {}
                        () = stop.cancelled() => return,
                        () = stopped.cancelled() => return,
                    }
                }
                continue;
            }
            let sleep = next.and_then(|r| r.next_fire_at).map_or(Duration::MAX, |due| due.since(now));
            // A sleep of at most an hour, so that a clock that is set does no lasting harm.
            let sleep = tokio::time::sleep(sleep.min(Duration::from_secs(3600)));
            let changed = Arc::clone(&engine.0.scheduler.changed);
            // A handle held while asleep would keep an engine alive that everybody else has let go.
            drop(engine);
            tokio::select! {
                () = changed.notified() => {}
                () = sleep => {}
                () = stop.cancelled() => return,
                () = stopped.cancelled() => return,
            }
        }
    });
    Ok(())
}

impl Engine {
    /// Whether the firing is dealt with; if not, it is to be tried again.
    async fn fire(&self, record: ScheduleRecord, due: Timestamp, granted: &mut Granted) -> bool {
        let most = match self.ask_gate(&record, due, granted).await {
            Ok(most) => most,
            Err(reason) => {
                self.skip_firing(&record, &reason);
                self.note_firing(&record.id, due).await;
                return true;
            }
        };
        let submission = Submission {
            pipeline_id: record.pipeline_id.clone(),
            parameters: record.parameters.clone(),
            idempotency_key: Some(format!("schedule:{}:{due}", record.id)),
            priority: None,
            trigger: Trigger::Schedule { id: record.id.clone(), fire_at: due },
        };
        match self.submit_within(submission, most).await {
            Ok(submitted) => {
                tracing::info!(schedule = %record.id, run_id = %submitted.run_id, %due, "schedule fired")
            }
            // It is made up for after the next start.
            Err(SubmitError::ShuttingDown) => return false,
            Err(error) if may_pass(&error) => {
                tracing::warn!(schedule = %record.id, %due, %error, "schedule cannot start its run now; trying again");
                return false;
            }
            Err(error @ SubmitError::TooManyOpen { .. }) => self.skip_firing(&record, &error.to_string()),
            Err(error) => {
                tracing::error!(schedule = %record.id, %due, %error, "schedule could not start its run");
                self.tell_skip(&record, &error.to_string());
            }
        }
        self.note_firing(&record.id, due).await;
        true
    }

    /// How many unfinished runs there may be with the one that the firing starts.
    async fn ask_gate(
        &self,
        record: &ScheduleRecord,
        due: Timestamp,
        granted: &mut Granted,
    ) -> Result<Option<usize>, String> {
        let Some(gate) = &self.0.options.firing_gate else { return Ok(None) };
        match &granted.0 {
            Some((id, at, most)) if *id == record.id && *at == due => Ok(*most),
            _ => {
                let most = gate.admit(&record.pipeline_id).await?;
                granted.0 = Some((record.id.clone(), due, most));
                Ok(most)
            }
        }
    }

    fn skip_firing(&self, record: &ScheduleRecord, reason: &str) {
        tracing::warn!(schedule = %record.id, reason, "schedule skipped a firing");
        if let Some(gate) = &self.0.options.firing_gate {
            gate.skipped(&record.pipeline_id, &record.id, reason);
        }
        self.tell_skip(record, reason);
    }

    fn tell_skip(&self, record: &ScheduleRecord, reason: &str) {
        let reason = format!("schedule `{}` did not start a run: {reason}", record.id);
        self.0.hub.publish_skip(record.pipeline_id.clone(), self.0.clock.now(), &reason);
    }

    /// Notes a firing at the schedule as it is now: it may have been changed or removed since it was due.
    async fn note_firing(&self, id: &str, due: Timestamp) {
        let _changing = self.0.scheduler.changing.lock().await;
        let Some(mut record) = self.schedule(id) else { return };
        record.last_fire_at = Some(due);
        if record.next_fire_at == Some(due) {
            let after = self.0.clock.now().max(due);
            record.next_fire_at =
                next_fire(&record.timing, &record.timezone, record.created_at, after).unwrap_or_default();
        }
        if let Err(error) = self.0.store.put_schedule(record.clone()).await {
            tracing::error!(schedule = %id, %error, "the firing could not be noted; its run is kept by its key");
        }
        self.0.scheduler.records.lock().insert(record.id.clone(), record);
    }
}

/// Whether the same request may be accepted later with nothing changed but the load or the store.
fn may_pass(error: &SubmitError) -> bool {
    match error {
        SubmitError::Busy => true,
        SubmitError::Store(error) => error.may_pass(),
        _ => false,
    }
}
