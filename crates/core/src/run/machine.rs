//! What a run decides: input in, events and commands out.

mod begin;
mod cached;
mod chunk;
mod compensate;
mod end;
mod stop;
mod timers;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::error::{IllegalEvent, RunError};
use super::event::{Event, Fact};
use super::state::Run;
use super::status::{RunStatus, StepStatus};
use super::work::{Failure, Outcome, Work};
use crate::plan::index;
use crate::time::Timestamp;

/// The most signals of one run that no step has taken yet.
pub const MAX_WAITING_SIGNALS: usize = 256;

/// Something that happened to a run.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Input {
    /// It is its turn. `reuse` holds values of steps, by index, that need not be made again.
    Start {
        /// Finished steps of an earlier run.
        reuse: Vec<(u32, Arc<Value>)>,
    },
    /// An attempt ended. One that is not the current attempt of its step run changes nothing.
    Finished {
        /// The step run.
        step_run: u32,
        /// The attempt.
        attempt: u32,
        /// What came of it.
        outcome: Outcome,
        /// How long it took.
        duration: Duration,
    },
    /// An attempt that carried out several items ended. What it does not tell of it has not come to.
    ChunkFinished {
        /// Those that it has come to, in order.
        ended: Vec<ItemEnd>,
    },
    /// What was looked for is kept: the value is that of the step run, if it still wants one.
    Cached {
        /// The step run.
        step_run: u32,
        /// The value.
        value: Arc<Value>,
    },
    /// What a kept value depends on cannot be told ([`Work::cache_key`]): the step run fails, if it still looks for one.
    NoKey {
        /// The step run.
        step_run: u32,
        /// Why.
        failure: Failure,
    },
    /// What was looked for is not kept, or no good: the step run is to be carried out.
    Missed {
        /// The step run.
        step_run: u32,
    },
    /// A worker has taken up an attempt: its time limit counts from now on. Need not be told where there is none.
    Began {
        /// The step run.
        step_run: u32,
        /// The attempt.
        attempt: u32,
    },
    /// The time of a [`Command::Timer`] has come.
    Timer {
        /// The step run.
        step_run: u32,
        /// The attempt; 0: the whole step.
        attempt: u32,
    },
    /// The time of a [`Command::RunTimer`] has come.
    RunTimer,
    /// Somebody sent a signal.
    Signal {
        /// Its name.
        name: Arc<str>,
        /// What it says.
        value: Arc<Value>,
        /// The principal that sent it.
        by: Option<Arc<str>>,
    },
    /// Somebody wants it stopped.
    Cancel {
        /// Why.
        reason: Arc<str>,
    },
    /// Another run takes its place: it is stopped as by [`Input::Cancel`], unless it undoes its steps already. A second
    /// cancel would stop that, too.
    Supersede {
        /// Why.
        reason: Arc<str>,
    },
    /// It is not to be carried out: it ends before it has started.
    Skip {
        /// Why.
        reason: Arc<str>,
    },
    /// Nothing new is to be started.
    Pause,
    /// It is to go on.
    Resume,
}

/// The end of one of several items that one attempt carried out, as [`Input::Finished`] has it.
#[derive(Debug, Clone)]
pub struct ItemEnd {
    /// The step run.
    pub step_run: u32,
    /// The attempt.
    pub attempt: u32,
    /// What came of it.
    pub outcome: Outcome,
    /// How long it took.
    pub duration: Duration,
}

/// Something to be done in the world, after the events are durable.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Command {
    /// Carry out an attempt and report it with [`Input::Finished`].
    Dispatch(Box<Work>),
    /// Look for the value that a step run made before, or another with the same inputs, and say so with
    /// [`Input::Cached`], [`Input::Missed`] or [`Input::NoKey`].
    Lookup {
        /// What would be carried out, as attempt 0. What the value depends on is its [`Work::cache_key`].
        work: Box<Work>,
    },
    /// Stop an attempt; what it reports is ignored.
    Cancel {
        /// The step run.
        step_run: u32,
        /// The attempt.
        attempt: u32,
    },
    /// Send [`Input::Timer`] at that time.
    Timer {
        /// The step run.
        step_run: u32,
        /// The attempt; 0: the whole step.
        attempt: u32,
        /// When.
        at: Timestamp,
    },
    /// Send [`Input::RunTimer`] at that time.
    RunTimer {
        /// When.
        at: Timestamp,
    },
}

/// What came of an input.
#[derive(Debug, Default)]
pub struct Effects {
    /// The facts, already applied.
    pub events: Vec<Event>,
    /// What is to be done.
    pub commands: Vec<Command>,
    /// Why the run cannot go on behind these facts, which stand. Never of a sound run: whoever drives it is to end it.
    pub fault: Option<IllegalEvent>,
}

impl Run {
    /// Takes an input.
    ///
    /// # Errors
    /// [`IllegalEvent`] when the input is not possible in this state, such as resuming a run that is not paused.
    /// No fact has been recorded then. A fact that is refused behind others is in [`Effects::fault`] instead, so that the
    /// state is never ahead of what the caller is told.
    pub fn handle(&mut self, input: Input, now: Timestamp) -> Result<Effects, IllegalEvent> {
        let mut effects = Effects::default();
        self.handle_into(input, now, &mut effects)?;
        Ok(effects)
    }

    /// As [`Run::handle`], for a caller who gives the run several inputs in a row: what it comes to is put behind what is in
    /// `effects` already. A fault stays there until the caller takes it.
    ///
    /// # Errors
    /// As of [`Run::handle`]; then `effects` is as it was.
    pub fn handle_into(
        &mut self,
        input: Input,
        now: Timestamp,
        effects: &mut Effects,
    ) -> Result<(), IllegalEvent> {
        let mut turn = Turn::new(self, now, effects);
        let done = turn.take(input).and_then(|()| turn.advance());
        turn.over(done)
    }

    /// Whether a signal of that name could be taken: a step waits for it, or fewer than [`MAX_WAITING_SIGNALS`] wait
    /// for their steps. Each is kept with its value in memory and in the log until then.
    pub fn has_room_for_signal(&self, name: &str) -> bool {
        self.early_signals < MAX_WAITING_SIGNALS || self.waits_for(name).is_some()
    }

    /// Whether what this attempt comes to would change the run: it has not been stopped, superseded or ended.
    pub fn waits_for_attempt(&self, step_run: u32, attempt: u32) -> bool {
        let unit = self.units.get(step_run as usize);
        unit.is_some_and(|unit| unit.status == StepStatus::Running && unit.attempt == attempt)
            && !self.is_left_over(step_run)
    }

    /// The first step run that waits for a signal of that name now.
    fn waits_for(&self, name: &str) -> Option<u32> {
        self.awaited.get(name).and_then(BTreeSet::first).copied()
    }

    /// Takes a run up again after its driver died: attempts that were under way are made again under the next
    /// attempt number, timers are set again.
    ///
    /// # Errors
    /// [`IllegalEvent`] only if the state is damaged; as with [`Run::handle`], no fact has been recorded then.
    pub fn recover(&mut self, now: Timestamp) -> Result<Effects, IllegalEvent> {
        let mut effects = Effects::default();
        self.recover_into(now, &mut effects)?;
        Ok(effects)
    }

    /// As [`Run::recover`], with what it comes to behind what is in `effects` already.
    ///
    /// # Errors
    /// As of [`Run::recover`].
    pub fn recover_into(&mut self, now: Timestamp, effects: &mut Effects) -> Result<(), IllegalEvent> {
        let mut turn = Turn::new(self, now, effects);
        let done = turn.recover();
        turn.over(done)
    }
}

/// One input at one time.
struct Turn<'a> {
    run: &'a mut Run,
    now: Timestamp,
    effects: &'a mut Effects,
    /// How many events and commands there were before it.
    before: (usize, usize),
    /// The chunk whose attempt is over: nothing of it needs to be stopped.
    reported: Option<u32>,
}

impl<'a> Turn<'a> {
    fn new(run: &'a mut Run, now: Timestamp, effects: &'a mut Effects) -> Self {
        let before = (effects.events.len(), effects.commands.len());
        Self { run, now, effects, before, reported: None }
    }

    fn take(&mut self, input: Input) -> Result<(), IllegalEvent> {
        match input {
            Input::Start { reuse } => self.start(reuse),
            Input::Finished { step_run, attempt, outcome, duration } => {
                self.finished(step_run, attempt, outcome, duration)
            }
            Input::ChunkFinished { ended } => self.chunk_finished(ended),
            Input::Cached { step_run, value } => self.found(step_run, value),
            Input::NoKey { step_run, failure } => self.no_key(step_run, &failure),
            Input::Missed { step_run } => self.missed(step_run),
            Input::Began { step_run, attempt } => {
                self.began(step_run, attempt);
                Ok(())
            }
            Input::Timer { step_run, attempt } => self.timer(step_run, attempt),
            Input::RunTimer => self.run_timer(),
            Input::Signal { name, value, by } => self.take_signal(name, value, by),
            Input::Cancel { reason } => self.cancel(&reason),
            Input::Supersede { .. } if self.run.undo.is_some() && !self.run.status.is_terminal() => Ok(()),
            Input::Supersede { reason } => self.cancel(&reason),
            Input::Skip { reason } => self.only_from(RunStatus::Queued, Fact::PipelineSkip { reason }),
            Input::Pause => self.only_from(RunStatus::Running, Fact::PipelinePause),
            Input::Resume => self.resume(),
        }
    }

    /// What the turn has come to. What has been recorded stands, whatever came behind it.
    fn over(self, done: Result<(), IllegalEvent>) -> Result<(), IllegalEvent> {
        match done {
            Err(fault) if self.effects.events.len() == self.before.0 => {
                self.effects.commands.truncate(self.before.1);
                Err(fault)
            }
            Err(fault) => {
                self.effects.fault = Some(fault);
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }

    fn recover(&mut self) -> Result<(), IllegalEvent> {
        if self.run.started_at.is_none() || self.run.status.is_terminal() {
            return Ok(());
        }
        self.set_run_timer();
        for id in 0..index(self.run.units.len()) {
            if !self.run.units[id as usize].status.is_terminal() {
                self.set_step_timer(id);
            }
            self.recover_step(id)?;
        }
        self.advance()
    }

    fn record(&mut self, fact: Fact) -> Result<(), IllegalEvent> {
        let event = Event { seq: self.run.seq + 1, timestamp: self.now, fact };
        self.run.apply(&event)?;
        self.effects.events.push(event);
        Ok(())
    }

    fn only_from(&mut self, status: RunStatus, fact: Fact) -> Result<(), IllegalEvent> {
        if self.run.status == status {
            return self.record(fact);
        }
        let why = format!("the run is {}", self.run.status);
        Err(IllegalEvent { seq: self.run.seq + 1, event: fact.type_name(), why })
    }

    fn start(&mut self, reuse: Vec<(u32, Arc<Value>)>) -> Result<(), IllegalEvent> {
        let steps = index(self.run.plan.steps().len());
        if let Some((step, _)) = reuse.iter().find(|(step, _)| *step >= steps) {
            let why = format!("it takes over a value of step {step}, and its pipeline has {steps}");
            return Err(IllegalEvent { seq: self.run.seq + 1, event: "PipelineStartEvent", why });
        }
        self.record(Fact::PipelineStart { task_count: steps })?;
        for (id, result) in reuse {
            let step = self.run.step_ref(id);
            self.record(Fact::StepComplete { step, attempt: 0, duration_ms: 0, result, cached: true })?;
        }
        self.set_run_timer();
        Ok(())
    }

    fn set_run_timer(&mut self) {
        if let (Some(timeout), Some(started)) = (self.run.plan.pipeline().timeout, self.run.started_at) {
            self.effects.commands.push(Command::RunTimer { at: started.plus(timeout) });
        }
    }

    fn take_signal(
        &mut self,
        name: Arc<str>,
        value: Arc<Value>,
        by: Option<Arc<str>>,
    ) -> Result<(), IllegalEvent> {
        if !self.run.has_room_for_signal(&name) {
            let why = format!("{MAX_WAITING_SIGNALS} signals wait already");
            return Err(IllegalEvent { seq: self.run.seq + 1, event: "SignalEvent", why });
        }
        self.record(Fact::Signal { name: Arc::clone(&name), value: Arc::clone(&value), by })?;
        let Some(id) = self.run.waits_for(&name) else { return Ok(()) };
        let since = self.run.units[id as usize].started_at.unwrap_or(self.now);
        self.complete(id, value, self.now.since(since))
    }

    fn signal(&self, name: &str) -> Option<Arc<Value>> {
        self.run.signals.get(name).and_then(|values| values.front()).cloned()
    }

    fn finished(
        &mut self,
        id: u32,
        attempt: u32,
        outcome: Outcome,
        duration: Duration,
    ) -> Result<(), IllegalEvent> {
        if !self.run.waits_for_attempt(id, attempt) {
            return Ok(());
        }
        match outcome {
            Outcome::Completed(value) => match self.missing_output(id, &value) {
                None => self.complete(id, value, duration),
                Some(failure) => self.fail(id, &failure, duration),
            },
            Outcome::Failed(failure) => self.fail(id, &failure, duration),
        }
    }

    fn set_timer(&mut self, step_run: u32, attempt: u32, at: Timestamp) {
        self.effects.commands.push(Command::Timer { step_run, attempt, at });
    }

    fn run_timer(&mut self) -> Result<(), IllegalEvent> {
        let (Some(timeout), Some(started)) = (self.run.plan.pipeline().timeout, self.run.started_at) else {
            return Ok(());
        };
        // What is undone is bounded by its own limits: a run that was out of time could never undo anything.
        if self.run.status.is_terminal() || self.run.undo.is_some() {
            return Ok(());
        }
        if started.plus(timeout) > self.now {
            self.set_run_timer();
            return Ok(());
        }
        let limit = crate::time::format_duration(timeout);
        let message: Arc<str> = format!("the run took longer than {limit}").into();
        self.stop_all("the run took too long", |_| "the run took too long".to_owned())?;
        let not_undone = Vec::new();
        self.end_with(RunError { step: None, attempt: None, message, timed_out: true, not_undone })
    }

    fn recover_step(&mut self, id: u32) -> Result<(), IllegalEvent> {
        let unit = &self.run.units[id as usize];
        match unit.status {
            StepStatus::Retrying => {
                let (attempt, at) = (unit.attempt + 1, unit.due_at.unwrap_or(self.now));
                self.run.units[id as usize].due_at = Some(at);
                self.set_timer(id, attempt, at);
                Ok(())
            }
            StepStatus::Running if unit.items.is_some() => Ok(()),
            StepStatus::Running if unit.chunk.is_some() => self.recover_chunk(id),
            StepStatus::Running => {
                let attempt = unit.attempt + 1;
                if !self.run.traits(id).is_wait {
                    self.step_start(id, attempt, None, None, None)?;
                }
                self.set_going(id)
            }
            _ => Ok(()),
        }
    }

    fn age(&self) -> u64 {
        millis(self.now.since(self.run.started_at.unwrap_or(self.now)))
    }
}

pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
