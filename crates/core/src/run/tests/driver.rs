//! A world around one run: it carries out commands when it is told to.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value};

use crate::definition::{
    Input as TaskInput, InputSchema, OnError, Pipeline, Priority, Style, Task, TaskKind,
};
use crate::expr::Expr;
use crate::id::RunId;
use crate::plan::Plan;
use crate::run::{Command, Effects, Event, Fact, Failure, IllegalEvent, Input, ItemEnd, Outcome, Run, Work};
use crate::time::Timestamp;

/// A task that does `kind`.
pub(super) fn task(name: &str, kind: TaskKind) -> Task {
    Task::new(name, kind)
}

/// A task that evaluates `text` over its inputs.
pub(super) fn expression(name: &str, text: &str, inputs: &[&str]) -> Task {
    let mut task = task(name, TaskKind::Expression(Expr::compile(text).unwrap()));
    task.inputs = inputs.iter().map(|name| TaskInput::required(*name)).collect();
    task
}

/// A pipeline of these tasks.
pub(super) fn pipeline(tasks: Vec<Task>) -> Pipeline {
    Pipeline {
        id: "p".parse().unwrap(),
        description: None,
        inputs: InputSchema::undeclared(),
        tasks: tasks.into_iter().map(Arc::new).collect(),
        outputs: None,
        style: Style::Dataflow,
        on_error: OnError::Fail,
        max_parallel: None,
        priority: Priority::default(),
        concurrency: Vec::new(),
        timeout: None,
        compensate_on_cancel: false,
        on_event: Vec::new(),
        schedules: Vec::new(),
        source: Value::Null,
    }
}

/// One run and what it has asked for.
pub(super) struct World {
    run: Run,
    fresh: Run,
    events: Vec<Event>,
    dispatched: BTreeMap<u32, Box<Work>>,
    /// The step runs that look for a kept value, and what they say that it depends on.
    lookups: BTreeMap<u32, Option<Value>>,
    timers: Vec<(Timestamp, Input)>,
    cancelled: Vec<String>,
    now: Timestamp,
}

impl World {
    pub(super) fn new(pipeline: Pipeline, parameters: Value) -> Self {
        let plan = Arc::new(Plan::new(Arc::new(pipeline)).unwrap());
        let parameters: Map<String, Value> = parameters.as_object().unwrap().clone();
        let parameters = plan.check_parameters(parameters).unwrap();
        let now = Timestamp::from_millis(1_000_000);
        let run = Run::new(plan, RunId::new(), &parameters, now);
        Self {
            fresh: run.clone(),
            run,
            events: Vec::new(),
            dispatched: BTreeMap::new(),
            lookups: BTreeMap::new(),
            timers: Vec::new(),
            cancelled: Vec::new(),
            now,
        }
    }

    /// A run that carries out a step whether or not its value is kept.
    pub(super) fn afresh(pipeline: Pipeline, parameters: Value, step: u32) -> Self {
        let mut world = Self::new(pipeline, parameters);
        (world.run, world.fresh) = (world.run.afresh(Some(step)), world.fresh.afresh(Some(step)));
        world
    }

    pub(super) fn run(&self) -> &Run {
        &self.run
    }

    pub(super) fn events(&self) -> &[Event] {
        &self.events
    }

    pub(super) fn cancelled(&self) -> Vec<&str> {
        self.cancelled.iter().map(String::as_str).collect()
    }

    /// The names of the step runs that are under way, in the order of their numbers.
    pub(super) fn waiting(&self) -> Vec<String> {
        self.dispatched.values().map(|work| work.step.to_string()).collect()
    }

    pub(super) fn work(&self, step: &str) -> Work {
        let work = self.dispatched.values().find(|work| &*work.step == step);
        Work::clone(work.unwrap_or_else(|| panic!("{step} is not under way")))
    }

    /// The attempts under way.
    pub(super) fn works(&self) -> impl Iterator<Item = &Work> {
        self.dispatched.values().map(|work| &**work)
    }

    /// The step runs that look for a kept value, in the order of their numbers.
    pub(super) fn lookups(&self) -> Vec<u32> {
        self.lookups.keys().copied().collect()
    }

    /// What the value that a step run looks for depends on.
    pub(super) fn key(&self, step: &str) -> Option<&Value> {
        let looks = self.lookups.iter().find(|(id, _)| &*self.run.name(**id) == step);
        looks.unwrap_or_else(|| panic!("{step} looks for nothing")).1.as_ref()
    }

    /// Tells a step run what was found.
    pub(super) fn look(&mut self, step_run: u32, found: Option<Value>) {
        self.lookups.remove(&step_run);
        let input = match found {
            Some(value) => Input::Cached { step_run, value: Arc::new(value) },
            None => Input::Missed { step_run },
        };
        self.input(input).unwrap();
    }

    pub(super) fn timers(&self) -> usize {
        self.timers.len()
    }

    /// Whether a timer is set for that attempt.
    pub(super) fn awaits(&self, id: u32, number: u32) -> bool {
        let is_its = |input: &Input| matches!(input, Input::Timer { step_run, attempt } if (*step_run, *attempt) == (id, number));
        self.timers.iter().any(|(_, input)| is_its(input))
    }

    pub(super) fn start(&mut self) {
        self.input(Input::Start { reuse: Vec::new() }).unwrap();
    }

    pub(super) fn input(&mut self, input: Input) -> Result<(), IllegalEvent> {
        // What was decided before an input stays as it was, whether or not the input is refused.
        let earlier = || Effects {
            events: vec![Event { seq: 0, timestamp: self.now, fact: Fact::PipelinePause }],
            commands: vec![Command::RunTimer { at: self.now }],
            fault: None,
        };
        let mut effects = earlier();
        let done = self.run.handle_into(input, self.now, &mut effects);
        let shown = |effects: &Effects| format!("{:?} {:?}", effects.events[0], effects.commands[0]);
        assert_eq!(shown(&effects), shown(&earlier()));
        if done.is_err() {
            assert_eq!((effects.events.len(), effects.commands.len(), effects.fault.is_none()), (1, 1, true));
        }
        done?;
        effects.events.remove(0);
        effects.commands.remove(0);
        let fault = effects.fault.clone();
        self.take(effects);
        fault.map_or(Ok(()), Err)
    }

    /// Completes the step run with what its expression comes to.
    pub(super) fn finish(&mut self, step: &str) {
        let work = self.work(step);
        let TaskKind::Expression(expr) = &work.body().kind else { panic!("{step} is no expression") };
        let outcome = match expr.evaluate(&work.inputs) {
            Ok(value) => Outcome::Completed(Arc::new(value)),
            Err(error) => Outcome::Failed(Failure::permanent(error.to_string())),
        };
        self.report(&work, outcome);
    }

    pub(super) fn finish_all(&mut self) {
        while let Some(next) = self.waiting().first().cloned() {
            self.finish(&next);
        }
    }

    pub(super) fn fail(&mut self, step: &str, failure: Failure) {
        let work = self.work(step);
        self.report(&work, Outcome::Failed(failure));
    }

    /// Reports what an attempt of several items has come to: of the first of them, in order.
    pub(super) fn report_chunk(&mut self, work: &Work, outcomes: Vec<Outcome>) {
        if self.dispatched.get(&work.step_run).is_some_and(|current| current.attempt == work.attempt) {
            self.dispatched.remove(&work.step_run);
        }
        let duration = Duration::from_millis(7);
        self.now = self.now.plus(duration);
        let ended = work.members().zip(outcomes);
        let ended = ended
            .map(|((step_run, attempt), outcome)| ItemEnd { step_run, attempt, outcome, duration })
            .collect();
        self.input(Input::ChunkFinished { ended }).unwrap();
    }

    pub(super) fn report(&mut self, work: &Work, outcome: Outcome) {
        if work.chunk.is_some() {
            let outcomes = vec![outcome; work.members().count()];
            return self.report_chunk(work, outcomes);
        }
        if self.dispatched.get(&work.step_run).is_some_and(|current| current.attempt == work.attempt) {
            self.dispatched.remove(&work.step_run);
        }
        let (step_run, attempt) = (work.step_run, work.attempt);
        self.now = self.now.plus(Duration::from_millis(7));
        self.input(Input::Finished { step_run, attempt, outcome, duration: Duration::from_millis(7) })
            .unwrap();
    }

    /// As [`report`](Self::report), in no time.
    pub(super) fn report_at_once(&mut self, step_run: u32, attempt: u32, outcome: Outcome) {
        self.dispatched.remove(&step_run);
        self.input(Input::Finished { step_run, attempt, outcome, duration: Duration::ZERO }).unwrap();
    }

    /// Lets the time of every timer come, in order, and tells how long each was waited for.
    pub(super) fn advance_timers(&mut self) -> Vec<Duration> {
        let mut timers = std::mem::take(&mut self.timers);
        timers.sort_by_key(|(at, _)| *at);
        let mut waits = Vec::new();
        for (at, input) in timers {
            waits.push(at.since(self.now));
            self.now = self.now.max(at);
            self.input(input).unwrap();
        }
        waits
    }

    /// Lets the time of one timer come: the earliest for 0, and later ones for higher numbers.
    pub(super) fn advance_timer(&mut self, place: usize) {
        if self.timers.is_empty() {
            return;
        }
        self.timers.sort_by_key(|(at, _)| *at);
        let (at, input) = self.timers.remove(place % self.timers.len());
        self.now = self.now.max(at);
        self.input(input).unwrap();
    }

    /// As [`advance_timers`](Self::advance_timers), with each timer first early and then twice.
    pub(super) fn advance_unsteady_timers(&mut self) {
        for (_, input) in self.timers.clone() {
            self.input(input).unwrap();
        }
        let timers = self.timers.clone();
        self.advance_timers();
        for (_, input) in timers {
            self.input(input).unwrap();
        }
    }

    /// Loses everything but the log, and takes the run up again.
    pub(super) fn crash(&mut self) {
        self.crash_with(self.events.len());
    }

    /// Loses everything but the first events of the log, and takes the run up again. One without any has not started.
    pub(super) fn crash_with(&mut self, kept: usize) {
        self.dispatched.clear();
        self.lookups.clear();
        self.timers.clear();
        self.events.truncate(kept);
        self.run = self.fresh.clone().replay(&self.events).unwrap();
        self.now = self.now.plus(Duration::from_secs(1));
        if self.events.is_empty() {
            return;
        }
        let effects = self.run.recover(self.now).unwrap();
        self.take(effects);
    }

    /// The run as its log alone has it.
    pub(super) fn replayed(&self) -> Run {
        self.fresh.clone().replay(&self.events).unwrap()
    }

    fn take(&mut self, effects: Effects) {
        self.events.extend(effects.events);
        let mut without_key = Vec::new();
        for command in effects.commands {
            match command {
                Command::Dispatch(work) => {
                    let before = self.dispatched.insert(work.step_run, work);
                    assert!(before.is_none(), "one attempt of a step run at a time");
                }
                Command::Lookup { work } => {
                    assert_eq!(work.attempt, 0, "nothing was carried out yet");
                    let step_run = work.step_run;
                    match work.cache_key() {
                        Ok(key) => drop(self.lookups.insert(step_run, key)),
                        Err(failure) => without_key.push(Input::NoKey { step_run, failure }),
                    }
                }
                Command::Cancel { step_run, attempt } => {
                    let Some(work) = self.dispatched.remove(&step_run) else {
                        assert!(matches!(self.run.body(step_run).kind, TaskKind::Wait(_)));
                        continue;
                    };
                    assert_eq!(work.attempt, attempt, "the attempt under way is the one that is cancelled");
                    self.cancelled.push(work.step.to_string());
                }
                Command::Timer { step_run, attempt, at } => {
                    self.timers.push((at, Input::Timer { step_run, attempt }));
                }
                Command::RunTimer { at } => self.timers.push((at, Input::RunTimer)),
            }
        }
        // Nobody tells the world of those whose steps have ended meanwhile.
        self.lookups.retain(|id, _| self.run.units[*id as usize].looking);
        for input in without_key {
            self.input(input).unwrap();
        }
    }
}
