//! Makes decisions durable, and then carries them out.

use std::sync::Arc;
use std::time::Duration;

use taskiq_flow_core::definition::TaskKind;
use taskiq_flow_core::id::{PipelineId, RunId};
use taskiq_flow_core::plan::Plan;
use taskiq_flow_core::run::{Command, Effects, Event, Fact, Failure, Run, RunStatus, StepRef, Work};
use taskiq_flow_core::time::Timestamp;
use taskiq_flow_store::{
    Append, Beside, DeadLetter, Delivery, RunSummary, RunWrite, StepLog, StoreError, WriteError, Written,
};
use tokio::sync::oneshot;
use uuid::Uuid;

use super::cached::kept;
use super::turn::{Changed, Created, Turn};
use super::{Alarm, Attempts, COUNTED, Shard};
use crate::admission::Place;
use crate::error::{ControlError, SubmitError};
use crate::failpoint::{self, When};
use crate::handle::Engine;
use crate::inbox::{Message, Occasion};
use crate::measure::RunCounters;
use crate::submission::Submitted;

/// First and longest pause between attempts to write to a store that does not answer.
pub(super) const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));
/// Longest wait that one timer can hold; a later time is reached in several.
const LONGEST_TIMER: Duration = Duration::from_secs(86_400 * 300);

/// Why a run makes way for a newer one.
pub(crate) const NEWER: &str = "a newer run took its place";

/// A run and its events that the store has been given.
struct Appended {
    run_id: RunId,
    events: Arc<Vec<Event>>,
    logs: Vec<StepLog>,
    commands: Vec<Command>,
    /// What webhooks are to be told of the events.
    deliveries: Vec<Delivery>,
}

impl Shard {
    /// Whether all that was decided is durable, or was refused for good. If not, the engine is stopping.
    pub(super) async fn commit(&mut self, turn: Turn) -> bool {
        let Turn { created, mut changed, broken, .. } = turn;
        if !broken.is_empty() {
            // What such a run has decided in this turn may not be whole: it ends behind what is durable.
            changed.retain(|changed| broken.iter().all(|(run_id, _)| *run_id != changed.run_id));
        }
        let committed = self.write_down(created, changed).await;
        for (run_id, why) in broken.into_iter().filter(|_| committed) {
            self.give_up(run_id, &why).await;
        }
        committed
    }

    /// Whether what is to be known of these writes is known: they were made, or refused for good. If not, the engine is stopping.
    pub(super) async fn write_down(&mut self, mut created: Vec<Created>, mut changed: Vec<Changed>) -> bool {
        // Of those that were let go of in the meantime nothing is written. Each answer below is for the change at its place.
        changed.retain(|changed| self.runs.contains_key(&changed.run_id));
        // What only sets timers has nothing that must be durable first.
        let (silent, changed): (Vec<_>, Vec<_>) = changed
            .into_iter()
            .partition(|changed| changed.effects.events.is_empty() && changed.logs.is_empty());
        for Changed { run_id, effects, .. } in silent {
            for command in effects.commands {
                self.carry_out(run_id, command);
            }
        }
        if created.is_empty() && changed.is_empty() {
            return true;
        }
        let stays_loose = |run_id: &RunId| {
            let run = self.runs.get(run_id).map(|driven| &driven.run);
            !self.store.outlives_process() && run.is_some_and(|run| !run.status().is_terminal())
        };
        let appended = |mut changed: Changed| {
            let events = &mut changed.effects.events;
            if events.capacity() > events.len() + events.len() / 4 && stays_loose(&changed.run_id) {
                // The list is what the store keeps until the run has ended.
                events.shrink_to_fit();
            }
            Appended::from(changed)
        };
        let mut changed: Vec<Appended> = changed.into_iter().map(appended).collect();
        if !self.outbox.is_empty() {
            changed.iter_mut().for_each(|changed| changed.deliveries = self.deliveries(changed));
        }
        let mut pause = PAUSES.0;
        let (answers, appended) = loop {
            let writes = self.writes(&mut created, &changed);
            failpoint::write(
                When::Before,
                created.len(),
                changed.iter().flat_map(|changed| &*changed.events),
            );
            let result = self.store.write(writes).await;
            failpoint::write(When::After, created.len(), changed.iter().flat_map(|changed| &*changed.events));
            match result {
                Ok(mut answers) => {
                    let appended = answers.split_off(created.len().min(answers.len()));
                    break (answers, appended);
                }
                Err(error) => {
                    if !self.not_written(error, &mut created, &mut changed).await {
                        return false;
                    }
                }
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

    /// New runs are handed over with this; what was decided about others can be written again.
    fn writes(&self, created: &mut [Created], changed: &[Appended]) -> Vec<RunWrite> {
        let mut writes = Vec::with_capacity(created.len() + changed.len());
        writes.extend(created.iter_mut().filter_map(|created| {
            let run = created.record.take()?;
            let Occasion { firing, replays } = std::mem::take(&mut created.occasion);
            Some(RunWrite::Create { run, owner: self.owner, firing, replays })
        }));
        for Appended { run_id, events, logs, deliveries, .. } in changed {
            let Some(driven) = self.runs.get(run_id) else { continue };
            let run = &driven.run;
            let (started_at, finished_at) = run.times();
            let ended = run.status().is_terminal();
            let cache = kept(driven, events, self.retention);
            self.pruning.cached(&cache);
            writes.push(RunWrite::Append(Box::new(Append {
                run_id: *run_id,
                fence: driven.fence,
                events: Arc::clone(events),
                logs: logs.clone(),
                summary: RunSummary {
                    status: run.status(),
                    started_at,
                    finished_at,
                    error: run.error().cloned(),
                    result: run.result().cloned(),
                },
                durations: if ended { run.measured_durations() } else { Vec::new() },
                beside: Beside { dead_letters: letters(run, events), cache, deliveries: deliveries.clone() },
            })));
        }
        writes
    }

    /// What webhooks are to be told of what a run has decided.
    fn deliveries(&self, changed: &Appended) -> Vec<Delivery> {
        let Some(driven) = self.runs.get(&changed.run_id) else { return Vec::new() };
        let pipeline = driven.run.plan().pipeline();
        let (events, now) = (&changed.events, self.clock.now());
        self.outbox.deliveries(&pipeline.id, &pipeline.on_event, changed.run_id, events, now)
    }

    /// The store did not take the writes. New runs are refused, but for those that are there after all: the answer alone
    /// was lost. What was decided about others is tried again. Whether it is known of each new run; if not, the engine is
    /// stopping.
    async fn not_written(
        &mut self,
        error: StoreError,
        created: &mut Vec<Created>,
        changed: &mut Vec<Appended>,
    ) -> bool {
        tracing::error!(%error, runs = changed.len(), "the store does not take writes; runs stand still until it does");
        // Whether a run is there is asked until the store says so: one that is, and was forgotten, would stand still.
        let (mut unsure, mut pause) = (std::mem::take(created), PAUSES.0);
        loop {
            for new in std::mem::take(&mut unsure) {
                match self.store.run(new.run_id).await {
                    Ok(there) => self.is_there(new, there.is_some(), &error, changed),
                    Err(unread) if unread.may_pass() => unsure.push(new),
                    Err(unread) => {
                        tracing::error!(run_id = %new.run_id, error = %unread, "whether a new run was kept cannot be read");
                        self.is_there(new, false, &error, changed);
                    }
                }
            }
            if unsure.is_empty() {
                return true;
            }
            if pause == PAUSES.1 {
                // Nobody is kept waiting for longer. Who asked with an idempotency key can find out later.
                for new in &mut unsure {
                    let reply = std::mem::replace(&mut new.reply, oneshot::channel().0);
                    let _ = reply.send(Err(SubmitError::Store(error.clone())));
                }
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.stop.cancelled() => return false,
            }
            pause = (pause * 2).min(PAUSES.1);
        }
    }

    /// The store says whether a new run is there whose write it did not answer.
    fn is_there(&mut self, new: Created, there: bool, error: &StoreError, changed: &mut Vec<Appended>) {
        let run_id = new.run_id;
        let fence = self.runs.get(&run_id).map(|driven| driven.fence);
        if let (true, Some(fence)) = (there, fence) {
            return self.created(new, Ok(Written::Created(fence)));
        }
        self.forget(run_id);
        changed.retain(|changed| {
            let stays = changed.run_id != run_id;
            if !stays {
                self.outbox.not_written(&changed.deliveries);
            }
            stays
        });
        let _ = new.reply.send(Err(SubmitError::Store(error.clone())));
    }

    fn created(&mut self, created: Created, answer: Result<Written, WriteError>) {
        let Created { run_id, pipeline_id, reply, .. } = created;
        let answer = match answer {
            Ok(Written::Exists(existing)) => {
                self.forget(run_id);
                let status = existing.summary.status;
                Ok(Submitted { run_id: existing.run_id, status, created: false })
            }
            Ok(_) => {
                self.counters_of(&pipeline_id).started.increment(1);
                Ok(Submitted { run_id, status: self.make_way_for(run_id), created: true })
            }
            Err(WriteError::Fired { schedule, due }) => {
                self.forget(run_id);
                Err(SubmitError::Fired { schedule, due })
            }
            Err(error) => {
                self.forget(run_id);
                Err(SubmitError::Store(StoreError::from(error)))
            }
        };
        let _ = reply.send(answer);
    }

    /// Cancels the older runs that a new one takes the place of. The state of the new one, as it was asked for: queued,
    /// unless it is not to be carried out.
    fn make_way_for(&self, run_id: RunId) -> RunStatus {
        let Some(driven) = self.runs.get(&run_id) else { return RunStatus::Queued };
        let superseded = driven.place.as_ref().map(Place::supersede).unwrap_or_default();
        if !superseded.is_empty()
            && let Some(inner) = self.engine.upgrade()
        {
            let engine = Engine(Arc::clone(&inner));
            inner.tasks.spawn(async move {
                for older in superseded {
                    match engine.supersede(older, NEWER).await {
                        Ok(()) | Err(ControlError::Illegal { .. } | ControlError::ShuttingDown) => {}
                        Err(error) => tracing::warn!(run_id = %older, %error, "a run could not make way for a newer one"),
                    }
                }
            });
        }
        let skipped = driven.run.status().is_terminal() && driven.run.times().0.is_none();
        if skipped { driven.run.status() } else { RunStatus::Queued }
    }

    async fn appended(&mut self, changed: Appended, answer: Result<Written, WriteError>) {
        let Appended { run_id, events, commands, deliveries, .. } = changed;
        if answer.is_ok() {
            self.outbox.written(&deliveries);
        }
        let Some(driven) = self.runs.get(&run_id) else {
            // A new run that was not to be: what it had decided was not written either.
            if answer.is_err() {
                self.outbox.not_written(&deliveries);
            }
            return;
        };
        match answer {
            Ok(_) => {}
            // A write whose answer was lost had been made after all.
            Err(WriteError::Gap { found, .. }) if found == driven.run.seq() => {
                self.outbox.written(&deliveries)
            }
            Err(error @ WriteError::TooLarge { .. }) => {
                self.outbox.not_written(&deliveries);
                return self.give_up(run_id, &error.to_string()).await;
            }
            Err(error) => {
                tracing::error!(%run_id, %error, "this process does not drive the run any more");
                self.outbox.not_written(&deliveries);
                // Whoever does makes its attempts again.
                self.inflight.lose_run(run_id);
                self.forget(run_id);
                return;
            }
        }
        let status = driven.run.status();
        let plan = Arc::clone(driven.run.plan());
        let pipeline_id = &plan.pipeline().id;
        self.hub.publish_run(pipeline_id, run_id, &events);
        self.tell_of_skipped(&plan, &events);
        self.tell_followers(run_id, &events);
        for command in commands {
            self.carry_out(run_id, command);
        }
        if status.is_terminal() {
            self.counters_of(pipeline_id).ended(status);
            self.pruning.run_ended();
            self.show_the_end(run_id);
            self.forget(run_id);
        }
    }

    /// Tells who watches a pipeline that a step would have run that it was skipped.
    fn tell_of_skipped(&self, plan: &Plan, events: &[Event]) {
        for event in events {
            if let Fact::StepSkip { step, .. } = &event.fact
                && let Some(skipped) = plan.steps().get(step.step_index as usize)
                && let TaskKind::Pipeline(inner) = &skipped.task.body.kind
            {
                // Whoever watches that pipeline need not be allowed to know which one would have run it.
                let reason = "the step that would have run it was skipped";
                self.hub.publish_skip(inner.clone(), event.timestamp, reason);
            }
        }
    }

    pub(super) fn counters_of(&mut self, pipeline_id: &PipelineId) -> Arc<RunCounters> {
        if let Some(counters) = self.counters.get(pipeline_id) {
            return Arc::clone(counters);
        }
        if self.counters.len() >= COUNTED {
            self.counters.clear();
        }
        let counters = Arc::new(RunCounters::of(pipeline_id));
        self.counters.insert(pipeline_id.clone(), Arc::clone(&counters));
        counters
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

    fn carry_out(&mut self, run_id: RunId, command: Command) {
        match command {
            Command::Dispatch(work) if self.draining => {
                tracing::debug!(%run_id, step = %work.step, "left for the next start");
            }
            Command::Lookup { work } => self.want(run_id, work),
            Command::Dispatch(work) => {
                self.inflight.enter(run_id, [(work.step_run, work.attempt)]);
                if let Some(work) = self.make(run_id, work) {
                    self.hand_out(work);
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

    /// Has an attempt carried out once all that was decided with it is durable.
    pub(super) fn hand_out(&mut self, work: Box<Work>) {
        if matches!(work.body().kind, TaskKind::Pipeline(_)) {
            crate::inner_run::spawn(&self.engine, work);
        } else {
            self.outgoing.push(work);
        }
    }

    /// Has the attempts of all runs carried out.
    pub(super) async fn dispatch(&mut self) {
        if self.outgoing.is_empty() {
            return;
        }
        let mut outgoing = std::mem::take(&mut self.outgoing);
        let instant = self.instant_ones(&mut outgoing);
        failpoint::pass("dispatch-before-publish");
        if !outgoing.is_empty() && !instant.is_empty() {
            // What others are to do, they may begin with meanwhile; whoever was just woken may stand in the slot that only
            // this thread serves.
            self.publish(std::mem::take(&mut outgoing)).await;
            tokio::task::yield_now().await;
        }
        self.publish(outgoing).await;
        let left = self.carry_out_here(instant);
        self.publish(left).await;
        failpoint::pass("dispatch-after-publish");
    }

    async fn publish(&mut self, attempts: Attempts) {
        if attempts.is_empty() {
            return;
        }
        for (work, error) in self.broker.publish(attempts).await {
            self.inflight.leave(&(work.run_id, work.step_run, work.attempt));
            let failure = Failure::error(error.to_string()).code("broker");
            self.again.push(Message::of_failed(&work, &failure));
        }
    }

    fn set_timer(&mut self, run_id: RunId, alarm: Alarm, wait: Duration) {
        let key = self.timers.insert((run_id, alarm), wait.min(LONGEST_TIMER));
        if let Some(driven) = self.runs.get_mut(&run_id) {
            driven.timers.insert(key);
        }
    }

    /// Lets go of all runs, which may be another process's; from here on new ones are held as this owner.
    pub(super) fn abandon(&mut self, owner: Uuid) {
        let all: Vec<RunId> = self.runs.keys().copied().collect();
        self.inflight.lose_shard(self.place);
        for run_id in all {
            self.forget(run_id);
        }
        self.starting.clear();
        self.unevaluated.clear();
        self.unkeyed.clear();
        self.owner = owner;
    }

    /// Lets go of a run: it has ended, was never created, or is another's.
    pub(super) fn forget(&mut self, run_id: RunId) {
        let Some(driven) = self.runs.remove(&run_id) else { return };
        for key in driven.timers {
            self.timers.try_remove(&key);
        }
        for waiter in driven.waiters {
            let _ = waiter.send(None);
        }
        self.leave_flights(run_id, driven.digests);
    }
}

impl From<Changed> for Appended {
    fn from(changed: Changed) -> Self {
        let Changed { run_id, effects: Effects { events, commands, .. }, logs } = changed;
        Self { run_id, events: Arc::new(events), logs, commands, deliveries: Vec::new() }
    }
}

/// The steps that a run has given up in these events, with what it takes to try them again.
fn letters(run: &Run, events: &[Event]) -> Vec<DeadLetter> {
    let given_up = events.iter().filter_map(|event| match &event.fact {
        Fact::StepDeadLetter { step, attempt, error } => Some((event.timestamp, step, *attempt, error)),
        _ => None,
    });
    let letter = |(at, step, attempt, error): (Timestamp, &StepRef, u32, &Arc<str>)| DeadLetter {
        place: 0,
        run_id: run.id(),
        step_run: step.step_run,
        pipeline_id: run.plan().pipeline().id.clone(),
        step: Arc::clone(&step.step),
        task: Arc::clone(&step.task_name),
        attempt,
        error: Arc::clone(error),
        inputs: Arc::new(serde_json::Value::Object(run.inputs_of(step.step_run).unwrap_or_default())),
        at,
        replayed_by: None,
    };
    given_up.map(letter).collect()
}
