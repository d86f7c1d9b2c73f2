//! Makes decisions durable, and then carries them out.

use std::sync::Arc;
use std::time::Duration;

use taskiq_flow_core::definition::TaskKind;
use taskiq_flow_core::id::RunId;
use taskiq_flow_core::run::{Command, EventView, Fact, Failure, Outcome, RunStatus, Work};
use taskiq_flow_store::{Append, Beside, RunSummary, RunWrite, StoreError, WriteError, Written};

use super::turn::{Changed, Created, Turn};
use super::{Alarm, Shard};
use crate::admission::Place;
use crate::error::{ControlError, SubmitError};
use crate::handle::Engine;
use crate::inbox::{Finished, Message};
use crate::submission::Submitted;

/// First and longest pause between attempts to write to a store that does not answer.
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));
/// Longest wait that one timer can hold; a later time is reached in several.
const LONGEST_TIMER: Duration = Duration::from_secs(86_400 * 300);

impl Shard {
    /// Whether all that was decided is durable, or was refused for good. If not, the engine is stopping.
    pub(super) async fn commit(&mut self, turn: Turn) -> bool {
        let Turn { mut created, changed, .. } = turn;
        // What only sets timers has nothing that must be durable first.
        let (silent, mut changed): (Vec<_>, Vec<_>) =
            changed.into_iter().partition(|changed| changed.events.is_empty() && changed.logs.is_empty());
        for Changed { run_id, commands, .. } in silent {
            for command in commands {
                self.carry_out(run_id, command).await;
            }
        }
        if created.is_empty() && changed.is_empty() {
            return true;
        }
        let mut pause = PAUSES.0;
        let (answers, appended) = loop {
            let writes = self.writes(&created, &changed);
            let result = self.store.write(writes).await;
            match result {
                Ok(mut answers) => {
                    let appended = answers.split_off(created.len().min(answers.len()));
                    break (answers, appended);
                }
                Err(error) => self.not_written(error, &mut created, &mut changed),
            }
            if changed.is_empty() {
                return true;
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.stop.cancelled() => return false,
            }
            pause = (pause * 2).min(PAUSES.1);
        };
        for (created, answer) in created.into_iter().zip(answers) {
            self.created(created, answer);
        }
        for (changed, answer) in changed.into_iter().zip(appended) {
            self.appended(changed, answer).await;
        }
        true
    }

    fn writes(&self, created: &[Created], changed: &[Changed]) -> Vec<RunWrite> {
        let mut writes = Vec::with_capacity(created.len() + changed.len());
        for Created { record, .. } in created {
            writes.push(RunWrite::Create {
                run: record.clone(),
                owner: self.owner,
                firing: None,
                replays: None,
            });
        }
        for Changed { run_id, events, logs, .. } in changed {
            let Some(driven) = self.runs.get(run_id) else { continue };
            let run = &driven.run;
            let (started_at, finished_at) = run.times();
            let ended = run.status().is_terminal();
            writes.push(RunWrite::Append(Box::new(Append {
                run_id: *run_id,
                fence: driven.fence,
                events: events.as_slice().into(),
                logs: logs.clone(),
                summary: RunSummary {
                    status: run.status(),
                    started_at,
                    finished_at,
                    error: run.error().cloned(),
                    result: run.result().cloned(),
                },
                durations: if ended { run.measured_durations() } else { Vec::new() },
                beside: Beside::default(),
            })));
        }
        writes
    }

    /// The store did not take the writes. New runs are refused; what was decided about others is tried again.
    fn not_written(&mut self, error: StoreError, created: &mut Vec<Created>, changed: &mut Vec<Changed>) {
        tracing::error!(%error, runs = changed.len(), "the store does not take writes; runs stand still until it does");
        for Created { record, reply } in created.drain(..) {
            self.forget(record.run_id);
            changed.retain(|changed| changed.run_id != record.run_id);
            let _ = reply.send(Err(SubmitError::Store(error.clone())));
        }
    }

    fn created(&mut self, created: Created, answer: Result<Written, WriteError>) {
        let Created { record, reply } = created;
        let run_id = record.run_id;
        let answer = match answer {
            Ok(Written::Exists(existing)) => {
                self.forget(run_id);
                let status = existing.summary.status;
                Ok(Submitted { run_id: existing.run_id, status, created: false })
            }
            Ok(_) => {
                metrics::counter!("taskiq_flow_runs_started_total", "pipeline_id" => record.pipeline_id.to_string())
                    .increment(1);
                Ok(Submitted { run_id, status: self.make_way_for(run_id), created: true })
            }
            Err(error) => {
                self.forget(run_id);
                Err(SubmitError::Store(StoreError::from(error)))
            }
        };
        let _ = reply.send(answer);
    }

    /// Cancels the older runs that a new one takes the place of. The state of the new one: queued, unless it is not
    /// to be carried out.
    fn make_way_for(&self, run_id: RunId) -> RunStatus {
        let Some(driven) = self.runs.get(&run_id) else { return RunStatus::Queued };
        let superseded = driven.place.as_ref().map(Place::supersede).unwrap_or_default();
        if !superseded.is_empty()
            && let Some(inner) = self.engine.upgrade()
        {
            let engine = Engine(Arc::clone(&inner));
            inner.tasks.spawn(async move {
                for older in superseded {
                    match engine.cancel(older, "a newer run took its place").await {
                        Ok(()) | Err(ControlError::Illegal { .. } | ControlError::ShuttingDown) => {}
                        Err(error) => tracing::warn!(run_id = %older, %error, "a run could not make way for a newer one"),
                    }
                }
            });
        }
        let status = driven.run.status();
        if status.is_terminal() { status } else { RunStatus::Queued }
    }

    async fn appended(&mut self, changed: Changed, answer: Result<Written, WriteError>) {
        let Changed { run_id, events, commands, .. } = changed;
        let Some(driven) = self.runs.get(&run_id) else { return };
        match answer {
            Ok(_) => {}
            // A write whose answer was lost had been made after all.
            Err(WriteError::Gap { found, .. }) if found == driven.run.seq() => {}
            Err(error @ WriteError::TooLarge { .. }) => {
                return self.give_up(run_id, &error).await;
            }
            Err(error) => {
                tracing::error!(%run_id, %error, "this process does not drive the run any more");
                // Whoever does makes its attempts again.
                self.inflight.cancel_run(run_id);
                self.forget(run_id);
                return;
            }
        }
        let pipeline_id = driven.run.plan().pipeline().id.clone();
        let status = driven.run.status();
        let plan = Arc::clone(driven.run.plan());
        for event in events {
            let skipped = match &event.fact {
                Fact::StepSkip { step, .. } => plan.steps().get(step.step_index as usize),
                _ => None,
            };
            let timestamp = event.timestamp;
            self.hub.publish(EventView::of_run(pipeline_id.clone(), run_id, event));
            if let Some(TaskKind::Pipeline(inner)) = skipped.map(|step| &step.task.body.kind) {
                // Whoever watches that pipeline need not be allowed to know which one would have run it.
                self.hub.publish_skip(
                    inner.clone(),
                    timestamp,
                    "the step that would have run it was skipped",
                );
            }
        }
        for command in commands {
            self.carry_out(run_id, command).await;
        }
        if status.is_terminal() {
            metrics::counter!("taskiq_flow_runs_total",
                "pipeline_id" => pipeline_id.to_string(), "status" => status.as_str())
            .increment(1);
            self.show_the_end(run_id);
            self.forget(run_id);
        }
    }

    /// Shows a run whose end is durable to those who wait for it, so that they need not read its log.
    fn show_the_end(&mut self, run_id: RunId) {
        let Some(driven) = self.runs.get_mut(&run_id) else { return };
        let mut waiters = std::mem::take(&mut driven.waiters);
        waiters.retain(|waiter| !waiter.is_closed());
        let Some(last) = waiters.pop() else { return };
        let view = Box::new(driven.run.view());
        for waiter in waiters {
            let _ = waiter.send(Some(view.clone()));
        }
        let _ = last.send(Some(view));
    }

    async fn carry_out(&mut self, run_id: RunId, command: Command) {
        match command {
            Command::Dispatch(work) if self.draining => {
                tracing::debug!(%run_id, step = %work.step, "left for the next start");
            }
            Command::Dispatch(work) => {
                let token = self.inflight.enter((run_id, work.step_run, work.attempt));
                if matches!(work.body().kind, TaskKind::Pipeline(_)) {
                    crate::worker::spawn_inner_run(&self.engine, *work, token);
                    return;
                }
                let lost = lost(&work);
                if let Err(error) = self.broker.publish(*work).await {
                    self.inflight.leave(&(run_id, lost.step_run, lost.attempt));
                    let outcome = Outcome::Failed(Failure::error(error.to_string()).code("broker"));
                    self.again.push(Message::Finished(Box::new(Finished { outcome, ..lost })));
                }
            }
            Command::Cancel { step_run, attempt } => self.inflight.cancel(&(run_id, step_run, attempt)),
            Command::Timer { step_run, attempt, at } => {
                self.set_timer(run_id, Alarm::Step { step_run, attempt }, at.since(self.clock.now()));
            }
            Command::RunTimer { at } => self.set_timer(run_id, Alarm::Run, at.since(self.clock.now())),
            other => tracing::error!(%run_id, command = ?other, "a command that this engine does not know"),
        }
    }

    fn set_timer(&mut self, run_id: RunId, alarm: Alarm, wait: Duration) {
        let key = self.timers.insert((run_id, alarm), wait.min(LONGEST_TIMER));
        if let Some(driven) = self.runs.get_mut(&run_id) {
            driven.timers.insert(key);
        }
    }

    /// Ends a run whose events the store refuses for what they are. Its state here is ahead of its log, so the log
    /// is what goes on: with the failure as its last event.
    async fn give_up(&mut self, run_id: RunId, error: &WriteError) {
        tracing::error!(%run_id, %error, "the run is failed");
        let fence = self.runs.get(&run_id).map(|driven| driven.fence);
        if let (Some(fence), Some(engine)) = (fence, self.engine.upgrade().map(Engine)) {
            let failed = match engine.record(run_id).await {
                Ok(record) => {
                    engine.fail_record(&record, fence, &error.to_string()).await.map_err(Into::into)
                }
                Err(error) => Err(error),
            };
            if let Err(error) = failed {
                tracing::error!(%run_id, %error, "the run could not be failed; it is taken up at the next start");
            }
        }
        self.inflight.cancel_run(run_id);
        self.forget(run_id);
    }

    /// Lets go of a run: it has ended, was never created, or is another's.
    fn forget(&mut self, run_id: RunId) {
        let Some(driven) = self.runs.remove(&run_id) else { return };
        for key in driven.timers {
            self.timers.try_remove(&key);
        }
        for waiter in driven.waiters {
            let _ = waiter.send(None);
        }
    }
}

/// What is reported of an attempt that could not be handed over.
fn lost(work: &Work) -> Finished {
    Finished {
        run_id: work.run_id,
        step_run: work.step_run,
        attempt: work.attempt,
        step: Arc::clone(&work.step),
        outcome: Outcome::Failed(Failure::error("")),
        duration: Duration::ZERO,
        log: None,
    }
}
