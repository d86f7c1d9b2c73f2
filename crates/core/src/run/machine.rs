//! What a run decides: input in, events and commands out.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value};

use super::event::{Event, Fact};
use super::state::{IllegalEvent, Run, RunError};
use super::status::{RunStatus, StepStatus};
use super::work::{Failure, FailureKind, Outcome, Work};
use crate::definition::{OnError, Style, TaskKind, WaitFor};
use crate::plan::{Source, index};
use crate::time::Timestamp;

/// The most items of maps, filters, reductions and groups in one run. Each is a step run with a state of its own, and
/// a short list that is mapped over within itself makes very many.
const MAX_ITEMS: usize = 100_000;

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
    /// The time of a [`Command::Timer`] has come.
    Timer {
        /// The step run.
        step_run: u32,
        /// The attempt.
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
    },
    /// Somebody wants it stopped.
    Cancel {
        /// Why.
        reason: Arc<str>,
    },
    /// Nothing new is to be started.
    Pause,
    /// It is to go on.
    Resume,
}

/// Something to be done in the world, after the events are durable.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Command {
    /// Carry out an attempt and report it with [`Input::Finished`].
    Dispatch(Box<Work>),
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
        /// The attempt.
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
}

impl Run {
    /// Takes an input.
    ///
    /// # Errors
    /// [`IllegalEvent`] when the input is not possible in this state, such as resuming a run that is not paused.
    /// Nothing has changed then.
    pub fn handle(&mut self, input: Input, now: Timestamp) -> Result<Effects, IllegalEvent> {
        let mut turn = Turn { run: self, now, effects: Effects::default() };
        match input {
            Input::Start { reuse } => turn.start(reuse)?,
            Input::Finished { step_run, attempt, outcome, duration } => {
                turn.finished(step_run, attempt, outcome, duration)?;
            }
            Input::Timer { step_run, attempt } => turn.timer(step_run, attempt)?,
            Input::RunTimer => turn.run_timer()?,
            Input::Signal { name, value } => turn.take_signal(name, value)?,
            Input::Cancel { reason } => turn.cancel(&reason)?,
            Input::Pause => turn.only_from(RunStatus::Running, Fact::PipelinePause)?,
            Input::Resume => turn.only_from(RunStatus::Paused, Fact::PipelineResume)?,
        }
        turn.advance()?;
        Ok(turn.effects)
    }

    /// Takes a run up again after its driver died: attempts that were under way are made again under the next
    /// attempt number, timers are set again.
    ///
    /// # Errors
    /// [`IllegalEvent`] only if the state is damaged.
    pub fn recover(&mut self, now: Timestamp) -> Result<Effects, IllegalEvent> {
        let mut turn = Turn { run: self, now, effects: Effects::default() };
        if turn.run.started_at.is_some() && !turn.run.status.is_terminal() {
            turn.set_run_timer();
            for id in 0..index(turn.run.units.len()) {
                turn.recover_step(id)?;
            }
            turn.advance()?;
        }
        Ok(turn.effects)
    }
}

/// One input at one time.
struct Turn<'a> {
    run: &'a mut Run,
    now: Timestamp,
    effects: Effects,
}

impl Turn<'_> {
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
        self.record(Fact::PipelineStart { task_count: index(self.run.plan.steps().len()) })?;
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

    /// Starts what can start, and ends the run when nothing is left.
    fn advance(&mut self) -> Result<(), IllegalEvent> {
        let most = self.run.plan.pipeline().max_parallel.map_or(u32::MAX, |n| n.get());
        while self.run.status == RunStatus::Running {
            let free = self.run.ready_free.front().copied();
            let room = self.run.occupied < most;
            match free.or_else(|| self.run.ready_work.front().copied().filter(|_| room)) {
                Some(id) => self.begin(id)?,
                None => break,
            }
        }
        let live = matches!(self.run.status, RunStatus::Running | RunStatus::Paused);
        if live && self.run.open_steps == 0 {
            self.end_run()?;
        }
        Ok(())
    }

    fn begin(&mut self, id: u32) -> Result<(), IllegalEvent> {
        if self.run.units[id as usize].parent.is_none()
            && self.run.units[id as usize].attempt == 0
            && let Some(decided) = self.reason_against(id)
        {
            let step = self.run.step_ref(id);
            return match decided {
                Ok(reason) => self.record(Fact::StepSkip { step, reason: reason.into() }),
                Err(failure) => self.fail(id, &failure, Duration::ZERO),
            };
        }
        let attempt = self.run.units[id as usize].attempt + 1;
        let kind = &self.run.body(id).kind;
        let items = match kind {
            TaskKind::Map(_) | TaskKind::Filter(_) | TaskKind::Reduce(_) => {
                match self.run.list_of(id).as_deref() {
                    Some(Value::Array(list)) => Some(index(list.len())),
                    other => {
                        let failure = not_a_list(kind, other);
                        return self.fail(id, &failure, Duration::ZERO);
                    }
                }
            }
            TaskKind::Group(members) => Some(index(members.len())),
            _ => None,
        };
        if let Some(items) = items
            && !self.has_room_for(items)
        {
            let message = format!(
                "{items} items are too many: one run may have {MAX_ITEMS}, those of all its steps together; split \
                 the list over several runs"
            );
            return self.fail(id, &Failure::permanent(message), Duration::ZERO);
        }
        self.step_start(id, attempt, items)?;
        match items {
            Some(_) => self.complete_composites(Some(id)),
            None => self.set_going(id),
        }
    }

    fn step_start(&mut self, id: u32, attempt: u32, items: Option<u32>) -> Result<(), IllegalEvent> {
        let max_attempts = self.run.task(id).retry.max_attempts.get();
        let queued = self.run.units[id as usize].queued_at.unwrap_or(self.now);
        let wait_ms = if attempt == 1 { millis(self.now.since(queued)) } else { 0 };
        let step = self.run.step_ref(id);
        self.record(Fact::StepStart { step, attempt, max_attempts, wait_ms, items })
    }

    /// Whether so many more items stay within what one run may have. Items of items count too.
    fn has_room_for(&self, items: u32) -> bool {
        let most = self.run.plan.steps().len().saturating_add(MAX_ITEMS);
        self.run.units.len().saturating_add(items as usize) <= most
    }

    /// Why a step is not to run: a reason to skip it, or a failure of its condition.
    fn reason_against(&self, id: u32) -> Option<Result<String, Failure>> {
        let step = &self.run.plan.steps()[id as usize];
        for wire in step.wires.iter().filter(|wire| !wire.optional) {
            if let Source::Output { step: source, .. } = wire.source
                && !self.run.units[source as usize].status.has_value()
            {
                return Some(Ok(self.needs(source)));
            }
        }
        let when = step.task.when.as_ref()?;
        match when.is_true(&self.run.inputs(id)) {
            Ok(true) => None,
            Ok(false) => Some(Ok(format!("`when: {}` is not true", when.source()))),
            Err(error) => Some(Err(Failure::permanent(format!("`when: {}`: {error}", when.source())))),
        }
    }

    fn needs(&self, source: u32) -> String {
        let status = self.run.units[source as usize].status;
        format!("needs `{}`, which is {status}", self.run.name(source))
    }

    /// Sets a started step run going: work is dispatched, a wait waits.
    fn set_going(&mut self, id: u32) -> Result<(), IllegalEvent> {
        let attempt = self.run.units[id as usize].attempt;
        let TaskKind::Wait(wait) = &self.run.body(id).kind else {
            let work = Work {
                pipeline_id: self.run.plan.pipeline().id.clone(),
                run_id: self.run.id,
                step_run: id,
                attempt,
                failures: self.run.units[id as usize].failures,
                step: self.run.name(id),
                task: Arc::clone(self.run.task(id)),
                path: self.run.path(id),
                inputs: self.run.inputs(id),
            };
            self.effects.commands.push(Command::Dispatch(Box::new(work)));
            return Ok(());
        };
        let since = self.run.units[id as usize].started_at.unwrap_or(self.now);
        let until = match &wait.until {
            WaitFor::Duration(duration) => Some(*duration),
            WaitFor::Signal(name) => {
                if let Some(value) = self.signal(name) {
                    return self.complete(id, value, self.now.since(since));
                }
                wait.timeout
            }
        };
        if let Some(duration) = until {
            self.effects.commands.push(Command::Timer { step_run: id, attempt, at: since.plus(duration) });
        }
        Ok(())
    }

    fn take_signal(&mut self, name: Arc<str>, value: Arc<Value>) -> Result<(), IllegalEvent> {
        self.record(Fact::Signal { name: Arc::clone(&name), value: Arc::clone(&value) })?;
        let waits = |id: &u32| {
            self.run.units[*id as usize].status == StepStatus::Running
                && matches!(&self.run.body(*id).kind,
                    TaskKind::Wait(wait) if matches!(&wait.until, WaitFor::Signal(signal) if **signal == *name))
        };
        let Some(id) = (0..index(self.run.units.len())).find(waits) else { return Ok(()) };
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
        let current = self.run.units.get(id as usize);
        if !current.is_some_and(|unit| unit.status == StepStatus::Running && unit.attempt == attempt) {
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

    /// A task with several outputs must return an object that has them all.
    fn missing_output(&self, id: u32, value: &Value) -> Option<Failure> {
        let outputs = &self.run.task(id).outputs;
        if self.run.units[id as usize].parent.is_some() || outputs.len() < 2 {
            return None;
        }
        let missing = outputs.iter().find(|output| value.get(output.as_str()).is_none())?;
        Some(Failure::permanent(format!(
            "its value has no `{missing}`: it must be an object with every output"
        )))
    }

    fn complete(&mut self, id: u32, value: Arc<Value>, duration: Duration) -> Result<(), IllegalEvent> {
        let attempt = self.run.units[id as usize].attempt;
        let step = self.run.step_ref(id);
        let duration_ms = millis(duration);
        self.record(Fact::StepComplete { step, attempt, duration_ms, result: value, cached: false })?;
        self.complete_composites(self.run.units[id as usize].parent)
    }

    /// Completes a composite whose items are all done, and then the one around it.
    fn complete_composites(&mut self, mut composite: Option<u32>) -> Result<(), IllegalEvent> {
        while let Some(id) = composite {
            let unit = &self.run.units[id as usize];
            let done = unit.items.as_ref().is_some_and(|items| items.done == items.count);
            if !done || unit.status != StepStatus::Running {
                break;
            }
            let (attempt, parent) = (unit.attempt, unit.parent);
            let duration_ms = millis(self.now.since(unit.started_at.unwrap_or(self.now)));
            let result = Arc::new(self.assemble(id));
            if let Some(failure) = self.missing_output(id, &result) {
                return self.fail(id, &failure, Duration::from_millis(duration_ms));
            }
            let step = self.run.step_ref(id);
            self.record(Fact::StepComplete { step, attempt, duration_ms, result, cached: false })?;
            composite = parent;
        }
        Ok(())
    }

    /// The value of a composite out of those of its items.
    fn assemble(&self, id: u32) -> Value {
        let Some(items) = &self.run.units[id as usize].items else { return Value::Null };
        let units = &self.run.units[items.first as usize..(items.first + items.count) as usize];
        let values = units.iter().map(|unit| unit.value.as_deref().cloned().unwrap_or_default());
        match &self.run.body(id).kind {
            TaskKind::Filter(_) => {
                let keep = units.iter().map(|unit| unit.value.as_deref().is_some_and(is_true));
                let list = items.list.as_array().map(Vec::as_slice).unwrap_or_default();
                list.iter().zip(keep).filter(|(_, keep)| *keep).map(|(item, _)| item.clone()).collect()
            }
            TaskKind::Reduce(_) => items.accumulator.as_deref().cloned().unwrap_or_default(),
            TaskKind::Group(members) if members.iter().any(|member| member.name.is_some()) => {
                let names = members.iter().map(|member| member.name.clone().unwrap_or_default());
                Value::Object(names.zip(values).collect::<Map<_, _>>())
            }
            _ => Value::Array(values.collect()),
        }
    }

    fn fail(&mut self, id: u32, failure: &Failure, duration: Duration) -> Result<(), IllegalEvent> {
        let unit = &self.run.units[id as usize];
        let attempt = unit.attempt.max(1);
        let retry = self.run.task(id).retry.clone();
        let max_attempts = retry.max_attempts.get();
        let composite = unit.items.is_some();
        let will_retry =
            failure.kind != FailureKind::Permanent && !composite && unit.failures + 1 < max_attempts;
        let error: Arc<str> = failure.message.as_str().into();
        let wait = retry.wait_after(unit.failures + 1, self.random(id, attempt));
        self.record(Fact::StepError {
            step: self.run.step_ref(id),
            attempt,
            max_attempts,
            duration_ms: millis(duration),
            error: Arc::clone(&error),
            timed_out: failure.kind == FailureKind::Timeout,
            will_retry,
        })?;
        if will_retry {
            let (attempt, wait_ms) = (attempt + 1, millis(wait));
            let step = self.run.step_ref(id);
            self.record(Fact::StepRetry { step, attempt, max_attempts, wait_ms, error })?;
            let at = self.now.plus(Duration::from_millis(wait_ms));
            self.effects.commands.push(Command::Timer { step_run: id, attempt, at });
            return Ok(());
        }
        match self.run.units[id as usize].parent {
            Some(parent) => {
                self.stop_items(parent, "an item before it failed")?;
                let message = format!("{}: {}", self.run.name(id), failure.message);
                let duration = self.now.since(self.run.units[parent as usize].started_at.unwrap_or(self.now));
                self.fail(parent, &Failure { message, ..failure.clone() }, duration)
            }
            None => {
                let rule = self.run.task(id).on_error.unwrap_or(self.run.plan.pipeline().on_error);
                if rule == OnError::Fail { self.stop_after(id) } else { Ok(()) }
            }
        }
    }

    /// A number in `[0, 1)` that is the same whenever this run is replayed (splitmix64, Steele et al. 2014).
    fn random(&self, id: u32, attempt: u32) -> f64 {
        let mut seed = [0; 8];
        seed.copy_from_slice(&self.run.id.as_bytes()[8..]);
        let mut z = u64::from_le_bytes(seed) ^ (u64::from(id) << 32 | u64::from(attempt));
        z = z.wrapping_add(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }

    fn timer(&mut self, id: u32, attempt: u32) -> Result<(), IllegalEvent> {
        let Some(unit) = self.run.units.get(id as usize) else { return Ok(()) };
        if unit.status == StepStatus::Retrying && unit.attempt + 1 == attempt {
            // The start of the attempt is the fact; that its time has come is none.
            self.run.ready(id);
            return Ok(());
        }
        if unit.status != StepStatus::Running || unit.attempt != attempt {
            return Ok(());
        }
        let waited = self.now.since(unit.started_at.unwrap_or(self.now));
        let TaskKind::Wait(wait) = &self.run.body(id).kind else { return Ok(()) };
        match &wait.until {
            WaitFor::Duration(_) => self.complete(id, Arc::default(), waited),
            WaitFor::Signal(name) => {
                let failure = Failure::timeout(format!("no signal `{name}` came in time"));
                self.fail(id, &failure, waited)
            }
        }
    }

    fn run_timer(&mut self) -> Result<(), IllegalEvent> {
        if self.run.status.is_terminal() || self.run.started_at.is_none() {
            return Ok(());
        }
        let limit = self.run.plan.pipeline().timeout.map(crate::time::format_duration).unwrap_or_default();
        let message: Arc<str> = format!("the run took longer than {limit}").into();
        self.stop_all("the run took too long", |_| "the run took too long".to_owned())?;
        let error = RunError { step: None, attempt: None, message, timed_out: true };
        let duration_ms = self.age();
        self.record(Fact::PipelineError { error, duration_ms })
    }

    fn cancel(&mut self, reason: &Arc<str>) -> Result<(), IllegalEvent> {
        if self.run.status.is_terminal() {
            return self.record(Fact::PipelineCancel { reason: Arc::clone(reason), duration_ms: 0 });
        }
        for id in (0..index(self.run.units.len())).rev() {
            self.stop(id, reason)?;
        }
        for id in 0..index(self.run.plan.steps().len()) {
            if !self.run.units[id as usize].status.is_terminal() {
                let step = self.run.step_ref(id);
                self.record(Fact::StepCancel { step, reason: Arc::clone(reason) })?;
            }
        }
        let duration_ms = self.age();
        self.record(Fact::PipelineCancel { reason: Arc::clone(reason), duration_ms })
    }

    /// A step has failed and takes the run with it.
    fn stop_after(&mut self, failed: u32) -> Result<(), IllegalEvent> {
        let name = self.run.name(failed);
        let mut dependants = vec![false; self.run.plan.steps().len()];
        let mut stack = vec![failed];
        while let Some(step) = stack.pop() {
            for dependent in &self.run.plan.steps()[step as usize].dependents {
                if !std::mem::replace(&mut dependants[*dependent as usize], true) {
                    stack.push(*dependent);
                }
            }
        }
        self.stop_all(&format!("`{name}` failed"), |step| {
            if dependants[step as usize] {
                format!("needs `{name}`, which failed")
            } else {
                format!("`{name}` failed")
            }
        })
    }

    /// Cancels what is under way and skips what has not started.
    fn stop_all(&mut self, reason: &str, skip: impl Fn(u32) -> String) -> Result<(), IllegalEvent> {
        let reason: Arc<str> = reason.into();
        for id in (0..index(self.run.units.len())).rev() {
            self.stop(id, &reason)?;
        }
        for id in 0..index(self.run.plan.steps().len()) {
            if !self.run.units[id as usize].status.is_terminal() {
                let step = self.run.step_ref(id);
                self.record(Fact::StepSkip { step, reason: skip(id).into() })?;
            }
        }
        Ok(())
    }

    fn stop_items(&mut self, composite: u32, reason: &str) -> Result<(), IllegalEvent> {
        let reason: Arc<str> = reason.into();
        for id in (composite + 1..index(self.run.units.len())).rev() {
            if self.is_inside(id, composite) {
                self.stop(id, &reason)?;
            }
        }
        Ok(())
    }

    fn is_inside(&self, id: u32, composite: u32) -> bool {
        let mut parent = self.run.units[id as usize].parent;
        while let Some(ancestor) = parent {
            if ancestor == composite {
                return true;
            }
            parent = self.run.units[ancestor as usize].parent;
        }
        false
    }

    /// Cancels a step run that is under way or between attempts.
    fn stop(&mut self, id: u32, reason: &Arc<str>) -> Result<(), IllegalEvent> {
        let unit = &self.run.units[id as usize];
        if !matches!(unit.status, StepStatus::Running | StepStatus::Retrying) {
            return Ok(());
        }
        if unit.status == StepStatus::Running && unit.items.is_none() {
            self.effects.commands.push(Command::Cancel { step_run: id, attempt: unit.attempt });
        }
        let step = self.run.step_ref(id);
        self.record(Fact::StepCancel { step, reason: Arc::clone(reason) })
    }

    fn end_run(&mut self) -> Result<(), IllegalEvent> {
        let duration_ms = self.age();
        if let Some(error) = self.run.error.clone() {
            return self.record(Fact::PipelineError { error, duration_ms });
        }
        let plan = Arc::clone(&self.run.plan);
        let value = |source: &Source| self.run.resolve(source).as_deref().cloned().unwrap_or_default();
        let result = match plan.pipeline().style {
            Style::Chained => plan.outputs().first().map(|(_, source)| value(source)).unwrap_or_default(),
            Style::Dataflow => {
                let fields = plan.outputs().iter();
                Value::Object(fields.map(|(name, source)| (name.to_string(), value(source))).collect())
            }
        };
        self.record(Fact::PipelineComplete { result: Arc::new(result), duration_ms })
    }

    fn recover_step(&mut self, id: u32) -> Result<(), IllegalEvent> {
        let unit = &self.run.units[id as usize];
        match unit.status {
            StepStatus::Retrying => {
                let (attempt, at) = (unit.attempt + 1, unit.retry_at.unwrap_or(self.now));
                self.effects.commands.push(Command::Timer { step_run: id, attempt, at });
                Ok(())
            }
            StepStatus::Running if unit.items.is_some() => Ok(()),
            StepStatus::Running => {
                let attempt = unit.attempt + 1;
                if !matches!(self.run.body(id).kind, TaskKind::Wait(_)) {
                    self.step_start(id, attempt, None)?;
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

/// Truth as expressions have it: false, null, 0 and what is empty are not true.
fn is_true(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(truth) => *truth,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(list) => !list.is_empty(),
        Value::Object(map) => !map.is_empty(),
    }
}

fn not_a_list(kind: &TaskKind, value: Option<&Value>) -> Failure {
    let over = match kind {
        TaskKind::Map(spec) | TaskKind::Filter(spec) => spec.over.as_str(),
        TaskKind::Reduce(spec) => spec.over.as_str(),
        _ => "value",
    };
    let found = match value {
        None | Some(Value::Null) => "null",
        Some(Value::Bool(_)) => "a boolean",
        Some(Value::Number(_)) => "a number",
        Some(Value::String(_)) => "a string",
        Some(Value::Array(_)) => "a list",
        Some(Value::Object(_)) => "an object",
    };
    Failure::permanent(format!("`{over}` must be a list for `{}`, and is {found}", kind.name()))
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
