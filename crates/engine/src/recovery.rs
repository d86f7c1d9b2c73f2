//! Taking up the runs that a process before this one had begun, and ending those that cannot go on.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_util::FutureExt;
use taskiq_flow_core::definition::OnFull;
use taskiq_flow_core::id::RunId;
use taskiq_flow_core::run::{Event, Fact, RunError, RunStatus};
use taskiq_flow_store::{Append, Beside, Fence, RunRecord, RunSummary, RunWrite, StoreError, Trigger};
use tokio::time::Instant;

use crate::admission::{Candidate, Limit, LimitKey};
use crate::error::ControlError;
use crate::failpoint;
use crate::handle::Engine;
use crate::inbox::{Adopted, Message};
use crate::measure::RunCounters;
use crate::shard::NEWER;

/// Runs taken up at once after a start.
const CLAIM: usize = 256;

/// The runs that were taken up and share limits, so that older ones may have to make way.
#[derive(Debug, Default)]
struct TakenUp {
    /// The newest of each limit: what its version of the pipeline says counts.
    newest: HashMap<LimitKey, (RunId, Arc<[Limit]>)>,
    /// The last one of each shard.
    last: HashMap<usize, RunId>,
}

/// A run that this process holds and could not take up yet, since the store failed.
#[derive(Debug)]
pub(crate) struct Left {
    record: RunRecord,
    fence: Fence,
    /// What the store said.
    pub(crate) error: StoreError,
}

impl TakenUp {
    fn note(&mut self, candidate: &Candidate) {
        self.last.insert(candidate.shard, candidate.run_id);
        for limit in &*candidate.limits {
            let newest = self.newest.entry(limit.key.clone());
            let newest = newest.or_insert_with(|| (candidate.run_id, Arc::clone(&candidate.limits)));
            if newest.0 < candidate.run_id {
                *newest = (candidate.run_id, Arc::clone(&candidate.limits));
            }
        }
    }
}

impl Engine {
    /// Takes up the unfinished runs that nobody drives, and those that were `left` the last time. From when on the lease on
    /// all runs lasts. A run that the store cannot show is left for the next time, and keeps no other from being taken up.
    pub(crate) async fn recover(&self, left: &mut Vec<Left>) -> Result<Instant, StoreError> {
        let owner = self.0.shards.owner();
        let mut count = 0_usize;
        let mut taken_up = TakenUp::default();
        let mut runs: Vec<_> =
            std::mem::take(left).into_iter().map(|left| (left.record, left.fence)).collect();
        let begun = loop {
            for (record, fence) in runs {
                match self.take_up(&record, fence, &mut taken_up).await {
                    Ok(()) => count += 1,
                    Err(error) => left.push(Left { record, fence, error }),
                }
            }
            let (begun, now) = (Instant::now(), self.0.clock.now());
            runs = self.0.store.claim(owner, now, self.lease_until(now), CLAIM).await?;
            if runs.is_empty() {
                break begun;
            }
        };
        if count > 0 {
            tracing::info!(runs = count, "took up unfinished runs");
        }
        for Left { record, error, .. } in &*left {
            tracing::error!(run_id = %record.run_id, %error, "an unfinished run could not be taken up yet");
        }
        self.make_way(taken_up).await;
        Ok(begun)
    }

    /// Cancels the older runs that newer ones take the place of: a crash may have come between the two.
    async fn make_way(&self, taken_up: TakenUp) {
        let TakenUp { mut newest, last } = taken_up;
        newest.retain(|key, (_, limits)| {
            limits.iter().any(|limit| limit.key == *key && limit.on_full == OnFull::CancelOldest)
        });
        if newest.is_empty() {
            return;
        }
        for run_id in last.into_values() {
            // Its shard has taken up all of its runs when it shows the last one.
            let _ = self.run(run_id).await;
        }
        for (run_id, limits) in newest.into_values() {
            for older in self.0.admission.superseded(run_id, &limits) {
                match self.supersede(older, NEWER).await {
                    Ok(()) | Err(ControlError::Illegal { .. } | ControlError::ShuttingDown) => {}
                    Err(error) => {
                        tracing::warn!(run_id = %older, %error, "a run could not make way for a newer one");
                    }
                }
            }
        }
    }

    async fn take_up(
        &self,
        record: &RunRecord,
        fence: Fence,
        taken_up: &mut TakenUp,
    ) -> Result<(), StoreError> {
        let run_id = record.run_id;
        failpoint::pass("claim-before-rebuild");
        let rebuilt = match self.plan_of(record).await {
            Ok(plan) => {
                let run_id = record.run_id;
                let reason = "a defect of the server, which its log tells of".to_owned();
                // One run must not keep the server from starting.
                let rebuilt = AssertUnwindSafe(self.rebuild(record, plan)).catch_unwind().await;
                rebuilt.unwrap_or(Err(ControlError::Damaged { run_id, reason }))
            }
            Err(error) => Err(error),
        };
        failpoint::pass("claim-after-rebuild");
        match rebuilt {
            Ok(run) => {
                let unwanted = self.is_unwanted(&record.trigger).await?;
                // They had a value when the run was accepted, and are made of the same parameters.
                let limits = Limit::of(run.plan(), &record.parameters).unwrap_or_default();
                let RunRecord { reuse, priority, trigger, created_at, .. } = record;
                let reuse = reuse.clone();
                let shard = self.0.shards.of(run_id);
                let candidate =
                    Candidate::new(run_id, run.plan(), trigger, *priority, *created_at, limits, shard);
                taken_up.note(&candidate);
                // Before its shard hears of it: nobody is to start in its place meanwhile.
                let started = run.times().0.is_some();
                let place = started.then(|| self.0.admission.resume(&candidate));
                let adopted = Adopted { run, fence, reuse, candidate, place };
                // The only error is that the engine is shutting down: the run is then taken up at the next start.
                let _ = self.send(run_id, Message::Adopt(Box::new(adopted))).await;
                if unwanted
                    && let Err(error) = self.supersede(run_id, "the run that started it has ended").await
                {
                    tracing::warn!(%run_id, %error, "an inner run that nobody waits for could not be cancelled");
                }
                Ok(())
            }
            Err(ControlError::Store(error)) => Err(error),
            Err(error) => {
                tracing::error!(%run_id, %error, "an unfinished run cannot be taken up; it is failed");
                self.fail_record(record, fence, &error.to_string(), Vec::new()).await
            }
        }
    }

    /// Whether a run was started by a step of a run that has ended: a crash came before it could be stopped too.
    async fn is_unwanted(&self, trigger: &Trigger) -> Result<bool, StoreError> {
        let Trigger::Step { run_id, .. } = trigger else { return Ok(false) };
        let outer = self.0.store.run(*run_id).await?;
        Ok(outer.is_none_or(|outer| outer.summary.status.is_terminal()))
    }

    /// Ends a run that cannot go on behind its log, so that nobody waits for it for ever. `left_behind`: what
    /// compensation would have undone.
    pub(crate) async fn fail_record(
        &self,
        record: &RunRecord,
        fence: Fence,
        message: &str,
        left_behind: Vec<Arc<str>>,
    ) -> Result<(), StoreError> {
        let now = self.0.clock.now();
        let error = RunError {
            step: None,
            attempt: None,
            message: message.into(),
            timed_out: false,
            not_undone: left_behind,
        };
        let fact = Fact::PipelineError { error: Box::new(error.clone()), duration_ms: 0 };
        let event = Event { seq: record.last_seq + 1, timestamp: now, fact };
        let summary = RunSummary {
            status: RunStatus::Failed,
            finished_at: Some(now),
            error: Some(error),
            ..record.summary.clone()
        };
        let definition = self.pipeline(&record.pipeline_id);
        let named = definition.as_ref().map_or(&[][..], |defined| &defined.plan.pipeline().on_event);
        let events = Arc::new(vec![event]);
        let outbox = &self.0.outbox;
        let deliveries = outbox.deliveries(&record.pipeline_id, named, record.run_id, &events, now);
        let append = Append {
            run_id: record.run_id,
            fence,
            events: Arc::clone(&events),
            logs: Vec::new(),
            summary,
            durations: Vec::new(),
            beside: Beside { deliveries: deliveries.clone(), ..Beside::default() },
        };
        let written = self.0.store.write(vec![RunWrite::Append(Box::new(append))]).await;
        if let Ok([Ok(_)]) = written.as_deref() {
            outbox.written(&deliveries);
        } else {
            outbox.not_written(&deliveries);
        }
        match written?.first() {
            Some(Err(error)) => {
                tracing::error!(run_id = %record.run_id, %error, "the run could not be failed")
            }
            _ => {
                self.0.hub.publish_run(&record.pipeline_id, record.run_id, &events);
                RunCounters::of(&record.pipeline_id).ended(RunStatus::Failed);
            }
        }
        Ok(())
    }
}
