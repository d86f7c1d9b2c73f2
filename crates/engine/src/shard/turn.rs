//! One turn of a shard: what has come in becomes decisions, which `commit` then makes durable and carries out.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use taskiq_flow_core::id::{PipelineId, RunId};
use taskiq_flow_core::run::{Command, Effects, IllegalEvent, Input, ItemEnd, Run, RunStatus, Work};
use taskiq_flow_core::time::Timestamp;
use taskiq_flow_store::{Fence, RunRecord, StepLog};
use tokio::sync::oneshot;

use super::evaluate::is_evaluated_here;
use super::give_up::{Refusal, contained, contained_decision};
use super::instant::AtOnce;
use super::{Alarm, Driven, MOST_ATTEMPTS, Rung, Shard};
use crate::admission::{Answer, Candidate, Place};
use crate::error::{ControlError, SubmitError};
use crate::fork::done_again;
use crate::inbox::{Adopted, Controlled, Finished, Message, NewRun, Occasion};
use crate::open::OpenRun;
use crate::submission::Submitted;

/// From so many events of one run in one turn on, room is made for many more.
const MANY_EVENTS: usize = 32;

/// What a turn has decided and not yet made durable.
#[derive(Default)]
pub(super) struct Turn {
    pub(super) created: Vec<Created>,
    /// In the order in which the runs were first touched.
    pub(super) changed: Vec<Changed>,
    /// To be answered once all is durable.
    pub(super) controls: Vec<(oneshot::Sender<Controlled>, Controlled)>,
    pub(super) after: Vec<Message>,
    /// Runs that cannot go on, and why.
    pub(super) broken: Vec<(RunId, String)>,
    /// Expressions, and what else is carried out within this turn, or the next one.
    pub(super) unevaluated: VecDeque<Box<Work>>,
    /// Nothing new is to be begun.
    pub(super) draining: bool,
    /// Which Rust tasks are called within the turn; none: none are.
    pub(super) at_once: Option<AtOnce>,
}

/// A run that is to be created.
pub(super) struct Created {
    pub(super) run_id: RunId,
    pub(super) pipeline_id: PipelineId,
    /// Until it is handed to the store.
    pub(super) record: Option<Box<RunRecord>>,
    pub(super) occasion: Occasion,
    pub(super) reply: oneshot::Sender<Result<Submitted, SubmitError>>,
}

/// What one run has decided.
pub(super) struct Changed {
    pub(super) run_id: RunId,
    pub(super) effects: Effects,
    pub(super) logs: Vec<StepLog>,
}

impl Turn {
    /// What the run has decided in this turn.
    pub(super) fn of(&mut self, run_id: RunId, driven: &mut Driven) -> &mut Changed {
        let place = place_of(&mut self.changed, run_id, driven);
        &mut self.changed[place]
    }

    /// Has a run take an input that it cannot refuse.
    pub(super) fn tell(&mut self, driven: &mut Driven, input: Input, now: Timestamp) {
        self.must(driven, |run, effects| run.handle_into(input, now, effects));
    }

    /// Has a run decide what it cannot refuse to. Of a panic, it is known already that the run cannot go on.
    fn must(
        &mut self,
        driven: &mut Driven,
        decide: impl FnOnce(&mut Run, &mut Effects) -> Result<(), IllegalEvent>,
    ) {
        if let Err(refusal @ Refusal::Illegal(_)) = self.decide(driven, decide) {
            self.breaks(driven.run.id(), &refusal.to_string());
        }
    }

    /// Has a run take an input, which it may refuse.
    fn ask(&mut self, driven: &mut Driven, input: Input, now: Timestamp) -> Result<(), Refusal> {
        self.decide(driven, |run, effects| run.handle_into(input, now, effects))
    }

    fn decide(
        &mut self,
        driven: &mut Driven,
        decide: impl FnOnce(&mut Run, &mut Effects) -> Result<(), IllegalEvent>,
    ) -> Result<(), Refusal> {
        let run_id = driven.run.id();
        let place = place_of(&mut self.changed, run_id, driven);
        let effects = &mut self.changed[place].effects;
        let before = effects.commands.len();
        if effects.events.len() >= MANY_EVENTS && effects.events.len() == effects.events.capacity() {
            // Of the attempts that wait for their turn here most may be of this run, with two events to come: to grow once for
            // them spares copies.
            effects.events.reserve(2 * self.unevaluated.len().min(MOST_ATTEMPTS));
        }
        match contained_decision(|| decide(&mut driven.run, effects)) {
            Ok(()) => {}
            Err(Refusal::Panic) => {
                self.breaks(run_id, &Refusal::Panic.to_string());
                return Err(Refusal::Panic);
            }
            Err(refusal) => return Err(refusal),
        }
        if let Some(fault) = effects.fault.take() {
            self.breaks(run_id, &fault.to_string());
        } else if !self.draining {
            let at_once = self.at_once.as_ref();
            let here = effects.commands.extract_if(before.., |command| is_evaluated_here(command, at_once));
            self.unevaluated.extend(here.filter_map(|command| match command {
                Command::Dispatch(work) => Some(work),
                _ => None,
            }));
        }
        Ok(())
    }

    /// A run cannot go on: what it has decided in this turn may not be whole.
    fn breaks(&mut self, run_id: RunId, why: &str) {
        tracing::error!(%run_id, why, "a run refused what happened to it");
        if self.broken.iter().all(|(broken, _)| *broken != run_id) {
            self.broken.push((run_id, format!("the server cannot go on with this run: {why}")));
        }
    }
}

/// Where the decisions of a run are among those of the turn.
fn place_of(changed: &mut Vec<Changed>, run_id: RunId, driven: &mut Driven) -> usize {
    if changed.get(driven.decided_at).is_none_or(|changed| changed.run_id != run_id) {
        driven.decided_at = changed.len();
        changed.push(Changed { run_id, effects: Effects::default(), logs: Vec::new() });
    }
    driven.decided_at
}

impl Shard {
    pub(super) async fn turn(&mut self, batch: &mut Vec<Message>, alarms: &mut Vec<Rung>) {
        let at_once = self.at_once.clone().filter(|_| !self.store.outlives_process());
        let mut turn = Turn { draining: self.draining, at_once, ..Turn::default() };
        turn.unevaluated = std::mem::take(&mut self.unevaluated);
        self.homes.note(self.place, self.runs.len());
        for message in batch.drain(..) {
            self.take(message, &mut turn);
        }
        for rung in alarms.drain(..) {
            self.ring(&rung, &mut turn);
        }
        if turn.at_once.is_some() && !self.create_first(&mut turn).await {
            return;
        }
        self.let_in(&mut turn);
        self.evaluate(&mut turn);
        let (controls, after) = (std::mem::take(&mut turn.controls), std::mem::take(&mut turn.after));
        if !self.commit(turn).await {
            // Nobody is told what may never have been; whoever asked learns that the engine stops.
            return;
        }
        for (reply, answer) in controls {
            // The only error is that the caller has gone.
            let _ = reply.send(answer);
        }
        self.dispatch().await;
        self.hand_on();
        self.find_keys();
        self.look();
        for message in after {
            self.answer(message);
        }
    }

    /// Has the store keep the new runs before their tasks are called in this turn: those of a run that is there already, by its
    /// idempotency key, are not to be called, and a task may look for its run. What is not to be carried out waits for the end of
    /// the turn: it is to be kept together with how it ended. Whether all is known of them; if not, the engine is stopping.
    async fn create_first(&mut self, turn: &mut Turn) -> bool {
        let starts = |created: &mut Created| {
            let driven = self.runs.get(&created.run_id);
            driven.is_some_and(|driven| !driven.run.status().is_terminal())
        };
        let starting: Vec<_> = turn.created.extract_if(.., starts).collect();
        starting.is_empty() || self.write_down(starting, Vec::new()).await
    }

    fn take(&mut self, message: Message, turn: &mut Turn) {
        match message {
            Message::Submit(new) => self.submit(*new, turn),
            Message::Adopt(adopted) => self.adopt(*adopted, turn),
            Message::Control { run_id, input, action, reply } => {
                let answer = self.runs.get_mut(&run_id).map(|driven| {
                    let status = driven.run.status();
                    if let Input::Signal { name, .. } = &input
                        && !status.is_terminal()
                        && !driven.run.has_room_for_signal(name)
                    {
                        return Err(ControlError::TooManySignals);
                    }
                    turn.ask(driven, input, self.clock.now()).map_err(|refusal| match refusal {
                        Refusal::Illegal(_) => ControlError::Illegal { status, action },
                        Refusal::Panic => ControlError::Damaged { run_id, reason: refusal.to_string() },
                    })
                });
                turn.controls.push((reply, answer));
            }
            Message::Began { run_id, step_run, attempt } => {
                if let Some(driven) = self.runs.get_mut(&run_id) {
                    turn.tell(driven, Input::Began { step_run, attempt }, self.clock.now());
                }
            }
            Message::Looked(looked) => self.looked(looked, turn),
            Message::Keyed(keyed) => self.keyed(keyed, turn),
            Message::Finished(finished) => self.finished(finished, self.clock.now(), turn),
            Message::ChunkFinished { run_id, ended } => self.chunk_finished(run_id, ended, turn),
            Message::Drain { .. } => {
                self.draining = true;
                turn.draining = true;
                turn.after.push(message);
            }
            message => turn.after.push(message),
        }
    }

    fn submit(&mut self, new: NewRun, turn: &mut Turn) {
        let NewRun { record, occasion, open, limits, plan, waiter, reply } = new;
        if self.draining {
            let _ = reply.send(Err(SubmitError::ShuttingDown));
            return;
        }
        let run_id = record.run_id;
        let RunRecord { trigger, priority, created_at, .. } = &record;
        let candidate = Candidate::new(run_id, &plan, trigger, *priority, *created_at, limits, self.place);
        let (place, skip) = match self.admission.ask(candidate) {
            Answer::Start(place) => {
                self.starting.push_back(run_id);
                (Some(place), None)
            }
            Answer::Wait(place) => (Some(place), None),
            Answer::Skip(reason) => (None, Some(reason)),
            Answer::Busy => {
                let _ = reply.send(Err(SubmitError::Busy));
                return;
            }
        };
        let again = done_again(&record.trigger, &plan);
        let run = Run::new(plan, run_id, &record.parameters, record.created_at).afresh(again);
        let now = self.clock.now();
        let fence = Fence { owner: self.owner, token: 1 };
        let pipeline_id = record.pipeline_id.clone();
        let driven = self.drive(run, fence, record.reuse.clone(), place, open);
        driven.waiters.extend(waiter);
        turn.created.push(Created { run_id, pipeline_id, record: Some(Box::new(record)), occasion, reply });
        if let Some(reason) = skip {
            turn.tell(driven, Input::Skip { reason: reason.into() }, now);
        }
    }

    fn adopt(&mut self, adopted: Adopted, turn: &mut Turn) {
        let Adopted { run, fence, reuse, candidate, place } = adopted;
        let run_id = run.id();
        // Its log may have begun, with a signal that came early, without it.
        let started = place.is_some();
        let open = candidate.takes_room.then(|| self.open.enter(&run.plan().pipeline().id, None)).flatten();
        let place = place.unwrap_or_else(|| {
            let (place, starts) = self.admission.ask_again(&candidate);
            if starts {
                self.starting.push_back(run_id);
            }
            place
        });
        let now = self.clock.now();
        let driven = self.drive(run, fence, reuse, Some(place), open);
        if started {
            turn.must(driven, |run, effects| run.recover_into(now, effects));
        }
    }

    fn drive(
        &mut self,
        run: Run,
        fence: Fence,
        reuse: Vec<(u32, Arc<serde_json::Value>)>,
        place: Option<Place>,
        open: Option<OpenRun>,
    ) -> &mut Driven {
        let run_id = run.id();
        let driven = Driven {
            run,
            fence,
            reuse,
            digests: HashMap::new(),
            parts: Arc::default(),
            place,
            _open: open,
            timers: HashSet::new(),
            waiters: Vec::new(),
            decided_at: 0,
        };
        match self.runs.entry(run_id) {
            Entry::Occupied(mut entry) => {
                entry.insert(driven);
                entry.into_mut()
            }
            Entry::Vacant(entry) => entry.insert(driven),
        }
    }

    /// Starts the runs that have their place.
    fn let_in(&mut self, turn: &mut Turn) {
        if self.draining {
            return;
        }
        self.starting.extend(self.admission.admitted(self.place));
        while let Some(run_id) = self.starting.pop_front() {
            // One that was cancelled in the meantime gives its place back when that is durable.
            let Some(driven) = self.runs.get_mut(&run_id) else { continue };
            if driven.run.status() != RunStatus::Queued {
                continue;
            }
            let reuse = std::mem::take(&mut driven.reuse);
            turn.tell(driven, Input::Start { reuse }, self.clock.now());
        }
    }

    pub(super) fn finished(&mut self, finished: Finished, now: Timestamp, turn: &mut Turn) {
        let Finished { run_id, step_run, attempt, step, outcome, duration, log } = finished;
        let Some(driven) = self.runs.get_mut(&run_id) else { return };
        turn.tell(driven, Input::Finished { step_run, attempt, outcome, duration }, now);
        if let Some(text) = log.filter(|text| !text.is_empty()) {
            turn.of(run_id, driven).logs.push(StepLog { step_run, step, attempt, at: now, text });
        }
    }

    fn chunk_finished(&mut self, run_id: RunId, finished: Vec<Finished>, turn: &mut Turn) {
        let now = self.clock.now();
        let Some(driven) = self.runs.get_mut(&run_id) else { return };
        let mut ended = Vec::with_capacity(finished.len());
        for Finished { step_run, attempt, step, outcome, duration, log, .. } in finished {
            ended.push(ItemEnd { step_run, attempt, outcome, duration });
            if let Some(text) = log.filter(|text| !text.is_empty()) {
                turn.of(run_id, driven).logs.push(StepLog { step_run, step, attempt, at: now, text });
            }
        }
        turn.tell(driven, Input::ChunkFinished { ended }, now);
    }

    fn ring(&mut self, rung: &Rung, turn: &mut Turn) {
        let Rung { key, run_id, alarm } = *rung;
        let Some(driven) = self.runs.get_mut(&run_id) else { return };
        driven.timers.remove(&key);
        let input = match alarm {
            Alarm::Step { step_run, attempt } => Input::Timer { step_run, attempt },
            Alarm::Run => Input::RunTimer,
        };
        turn.tell(driven, input, self.clock.now());
    }

    /// Answers what only wants to look, now that all is durable.
    fn answer(&mut self, message: Message) {
        // Whoever asked may have gone; then nobody is told.
        match message {
            Message::Wait { run_id, reply } => match self.runs.get_mut(&run_id) {
                Some(driven) => {
                    // Those who gave up waiting are let go of, or a long run would collect them.
                    driven.waiters.retain(|waiter| !waiter.is_closed());
                    driven.waiters.push(reply);
                }
                None => drop(reply.send(None)),
            },
            Message::View { run_id, reply } => {
                let shown = contained(|| self.runs.get(&run_id).map(|driven| Box::new(driven.run.view())));
                let Some(mut view) = shown else { return };
                if let Some(view) = &mut view {
                    view.waits_for = self.admission.waits_for(run_id);
                }
                let _ = reply.send(view);
            }
            Message::Items { run_id, step, filter, reply } => {
                let find = || self.runs.get(&run_id).map(|driven| driven.run.items(&step, filter));
                if let Some(page) = contained(find) {
                    let _ = reply.send(page);
                }
            }
            Message::Drain { reply } => drop(reply.send(())),
            Message::Abandon { owner, reply } => {
                self.abandon(owner);
                let _ = reply.send(());
            }
            _ => {}
        }
    }
}
