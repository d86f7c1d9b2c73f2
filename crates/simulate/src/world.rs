//! The world around runs: what happens next, and what comes of it.

mod ask;
mod carry;
mod crash;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use taskiq_flow_core::id::RunId;
use taskiq_flow_core::plan::Plan;
use taskiq_flow_core::run::{Effects, Input, ItemEnd, Outcome as Ended, Run, RunStatus, StepStatus};
use taskiq_flow_core::time::Timestamp;
use taskiq_flow_store::{Append, Beside, RunSummary, RunWrite, StoreError, WriteError, Written};
use uuid::Uuid;

use crate::Parts;
use crate::checks::{Violation, Witness};
use crate::driver::{Driven, Driver, Machine, Shared};
use crate::random::Random;
use crate::scenario::Scenario;
use crate::values::{Lists, decide_conditions};

/// What happened in a world.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// What it follows from.
    pub seed: u64,
    /// The runs that were accepted, in that order.
    pub runs: Vec<RunEnd>,
    /// Deaths of the process that drove them.
    pub crashes: u32,
    /// Things that happened.
    pub happenings: u32,
    /// The promise that was not kept.
    pub violation: Option<Violation>,
    /// What happened, where it was asked for.
    pub trace: Vec<String>,
}

/// How one run ended.
#[derive(Debug, Clone, PartialEq)]
pub struct RunEnd {
    /// The pipeline.
    pub pipeline: String,
    /// The state.
    pub status: RunStatus,
    /// Its first error.
    pub error: Option<String>,
    /// From its start to its end, in the time of the world.
    pub took: Duration,
    /// Its steps, in the order of the definition.
    pub steps: Vec<StepEnd>,
    /// The steps that waited for a signal nobody sent, with nothing else to do, and that signal: without an end if
    /// somebody had not sent it after all.
    pub stuck: Vec<(String, String)>,
}

/// How one step ended.
#[derive(Debug, Clone, PartialEq)]
pub struct StepEnd {
    /// The task's name.
    pub name: String,
    /// The state.
    pub status: StepStatus,
    /// How often it was carried out, its items included.
    pub attempts: u32,
}

/// The time at which worlds begin, in milliseconds since 1970.
const BEGIN: i64 = 1_750_000_000_000;
/// The most that may happen before a world is taken to have no end.
const MOST: u32 = 200_000;
/// A report that does not come.
const NEVER: i64 = i64::MAX;

/// What is to come.
#[derive(Debug, Clone)]
struct Pending {
    due: i64,
    /// The process it comes to; none: the one in charge.
    owner: Option<Uuid>,
    place: usize,
    what: What,
}

#[derive(Debug, Clone)]
enum What {
    Submit,
    /// Of one attempt, which may carry out a chunk of items.
    Report {
        ended: Vec<ItemEnd>,
        chunk: bool,
    },
    Began {
        step_run: u32,
        attempt: u32,
    },
    Looked {
        step_run: u32,
        found: Option<Arc<Value>>,
    },
    Timer {
        step_run: u32,
        attempt: u32,
    },
    RunTimer,
    Signal(Arc<str>),
    Pause,
    Resume,
    Cancel,
}

/// A run, as those know it who asked for it.
#[derive(Debug)]
struct Known {
    run_id: RunId,
    plan: Arc<Plan>,
    lists: Arc<Lists>,
    /// Whether its record is durable.
    accepted: bool,
    witness: Witness,
    /// The signals that nobody sends.
    silent: BTreeSet<String>,
    stuck: BTreeSet<(String, String)>,
}

pub(crate) struct World<'a> {
    scenario: &'a Scenario,
    random: Random,
    machine: Box<dyn Machine>,
    store: Arc<dyn Shared>,
    now: i64,
    /// The last one is in charge.
    drivers: Vec<Driver>,
    /// Whether the one in charge has just died.
    dead: bool,
    pending: Vec<Pending>,
    known: Vec<Known>,
    by_id: BTreeMap<RunId, usize>,
    tracing: bool,
    outcome: Outcome,
}

impl<'a> World<'a> {
    pub(crate) fn new(seed: u64, scenario: &'a Scenario, parts: Parts, tracing: bool) -> Self {
        let outcome =
            Outcome { seed, runs: Vec::new(), crashes: 0, happenings: 0, violation: None, trace: Vec::new() };
        let mut world = Self {
            scenario,
            random: Random::new(seed),
            machine: parts.machine,
            store: parts.store,
            now: BEGIN,
            drivers: Vec::new(),
            dead: false,
            pending: Vec::new(),
            known: Vec::new(),
            by_id: BTreeMap::new(),
            tracing,
            outcome,
        };
        let driver = world.driver();
        world.drivers.push(driver);
        let prepared = scenario.pipelines.iter().map(|pipeline| {
            let decided = decide_conditions(pipeline, &mut world.random);
            (Lists::of(&decided), Plan::new(decided))
        });
        // A definition that exists has passed this check before.
        let prepared: Vec<_> =
            prepared.filter_map(|(lists, plan)| Some((Arc::new(lists), Arc::new(plan.ok()?)))).collect();
        for place in 0..scenario.runs {
            let Some((lists, plan)) = world.random.pick(&prepared).cloned() else { break };
            world.ask_for(place, plan, lists);
        }
        world
    }

    pub(crate) fn play(mut self) -> Outcome {
        while self.outcome.violation.is_none() {
            self.outcome.happenings += 1;
            if self.outcome.happenings > MOST {
                let what = format!("the world has not come to rest after {MOST} happenings");
                self.outcome.violation = Some(Violation::Stuck(what));
                break;
            }
            match self.happen() {
                Ok(true) => {}
                Ok(false) => break,
                Err(violation) => self.outcome.violation = Some(violation),
            }
        }
        if self.outcome.violation.is_none()
            && let Err(violation) = self.conclude()
        {
            self.outcome.violation = Some(violation);
        }
        if let Some(violation) = self.outcome.violation.clone() {
            self.note(|_| format!("BROKEN PROMISE: {violation}"));
        }
        self.outcome
    }

    fn driver(&mut self) -> Driver {
        let skew = if self.scenario.faults.clocks { self.random.below(4000) } else { 2000 };
        let owner = Uuid::from_u64_pair(self.random.next(), self.random.next());
        let skew = i64::try_from(skew).unwrap_or(0) - 2000;
        Driver { owner, runs: BTreeMap::new(), superseded: false, skew }
    }

    /// One thing happens. Whether there was any left.
    fn happen(&mut self) -> Result<bool, Violation> {
        if self.dead {
            self.restart()?;
            return Ok(true);
        }
        if self.let_in()? || self.misfortune()? {
            return Ok(true);
        }
        let due: Vec<usize> =
            (0..self.pending.len()).filter(|place| self.pending[*place].due != NEVER).collect();
        let earliest = due.iter().copied().min_by_key(|place| self.pending[*place].due);
        let Some(mut next) = earliest else { return self.rest() };
        if self.scenario.faults.disorder && self.random.permille(150) {
            next = self.random.pick(&due).copied().unwrap_or(next);
        }
        let Pending { due, owner, place, what } = self.pending.swap_remove(next);
        self.now = self.now.max(due);
        self.deliver(owner, place, what)?;
        if !self.dead && self.random.permille(30) {
            self.check_replay(place)?;
        }
        Ok(true)
    }

    /// Starts a run for which there is room.
    fn let_in(&mut self) -> Result<bool, Violation> {
        let at = self.drivers.len() - 1;
        let started = |driven: &Driven| driven.run.times().0.is_some();
        let runs = &self.drivers[at].runs;
        if runs.values().filter(|driven| started(driven)).count() >= self.scenario.room {
            return Ok(false);
        }
        let Some((run_id, _)) = runs.iter().find(|(_, driven)| !started(driven)) else { return Ok(false) };
        let place = self.by_id[run_id];
        self.note(|_| format!("run {place} starts"));
        self.step(at, place, Input::Start { reuse: Vec::new() })?;
        Ok(true)
    }

    fn deliver(&mut self, owner: Option<Uuid>, place: usize, what: What) -> Result<(), Violation> {
        let at = match owner {
            None => self.drivers.len() - 1,
            // What was meant for a process that has died comes to nobody.
            Some(owner) => match self.drivers.iter().position(|driver| driver.owner == owner) {
                Some(at) => at,
                None => return Ok(()),
            },
        };
        match what {
            What::Submit => self.submit(place),
            What::Report { ended, chunk } => self.report(at, place, ended, chunk),
            What::Began { step_run, attempt } => {
                self.note(|_| {
                    format!("run {place}: a worker takes up attempt {attempt} of step run {step_run}")
                });
                self.step(at, place, Input::Began { step_run, attempt })
            }
            What::Looked { step_run, found } => {
                let said = if found.is_some() { "is kept" } else { "is not kept" };
                self.note(|_| format!("run {place}: the value of step run {step_run} {said}"));
                let input = match found {
                    Some(value) => Input::Cached { step_run, value },
                    None => Input::Missed { step_run },
                };
                self.step(at, place, input)
            }
            What::Timer { step_run, attempt } => {
                self.note(|_| format!("run {place}: timer of attempt {attempt} of step run {step_run}"));
                self.step(at, place, Input::Timer { step_run, attempt })
            }
            What::RunTimer => {
                self.note(|_| format!("run {place}: timer of the run"));
                self.step(at, place, Input::RunTimer)
            }
            What::Signal(name) => {
                self.note(|_| format!("run {place}: signal `{name}`"));
                self.step(at, place, Input::Signal { name, value: Arc::new(true.into()), by: None })
            }
            What::Pause => self.control(at, place, Input::Pause, "pause"),
            What::Resume => self.control(at, place, Input::Resume, "resume"),
            What::Cancel => self.control(at, place, Input::Cancel { reason: "simulated".into() }, "cancel"),
        }
    }

    /// An attempt says what came of it.
    fn report(&mut self, at: usize, place: usize, ended: Vec<ItemEnd>, chunk: bool) -> Result<(), Violation> {
        for ItemEnd { step_run, attempt, outcome, .. } in &ended {
            let said = match outcome {
                Ended::Completed(_) => "completed".to_owned(),
                Ended::Failed(failure) => format!("failed: {}", failure.message),
            };
            self.note(|_| format!("run {place}: attempt {attempt} of step run {step_run} {said}"));
        }
        let Some(first) = ended.first().map(|end| (end.step_run, end.attempt)) else { return Ok(()) };
        let witness = &mut self.known[place].witness;
        let live = ended.iter().any(|end| witness.is_live(end.step_run, end.attempt));
        let seq = witness.last_seq();
        if !self.drivers[at].superseded {
            witness.over(first.0, first.1);
        }
        let input = match chunk {
            true => Input::ChunkFinished { ended },
            false => {
                let Some(ItemEnd { step_run, attempt, outcome, duration }) = ended.into_iter().next() else {
                    return Ok(());
                };
                Input::Finished { step_run, attempt, outcome, duration }
            }
        };
        self.step(at, place, input)?;
        if !live && self.known[place].witness.last_seq() != seq {
            let what = format!("attempt {} of step run {} of run {place}, which was over", first.1, first.0);
            return Err(Violation::Fence(what));
        }
        Ok(())
    }

    /// Somebody controls a run: it may be in a state in which that is not possible.
    fn control(&mut self, at: usize, place: usize, input: Input, name: &str) -> Result<(), Violation> {
        self.note(|_| format!("run {place}: {name}"));
        let run_id = self.known[place].run_id;
        let Some(driven) = self.drivers[at].runs.get(&run_id) else { return Ok(()) };
        let possible = match &input {
            Input::Pause => driven.run.status() == RunStatus::Running,
            Input::Resume => driven.run.status() == RunStatus::Paused,
            _ => !driven.run.status().is_terminal(),
        };
        if possible { self.step(at, place, input) } else { Ok(()) }
    }

    /// A run takes an input, its driver writes what it decided, and carries it out.
    fn step(&mut self, at: usize, place: usize, input: Input) -> Result<(), Violation> {
        let now = self.clock(at);
        let run_id = self.known[place].run_id;
        let Some(driven) = self.drivers[at].runs.get_mut(&run_id) else { return Ok(()) };
        let refused = |error| Violation::Refused(format!("run {place}: {error}"));
        let mut effects = self.machine.handle(&mut driven.run, input, now).map_err(refused)?;
        match effects.fault.take() {
            Some(fault) => Err(refused(fault)),
            None => self.commit(at, place, effects),
        }
    }

    fn commit(&mut self, at: usize, place: usize, effects: Effects) -> Result<(), Violation> {
        if effects.events.is_empty() && effects.commands.is_empty() {
            return Ok(());
        }
        let superseded = self.drivers[at].superseded;
        if !superseded && self.dies("before it has written what it decided") {
            return Ok(());
        }
        let run_id = self.known[place].run_id;
        let Some(driven) = self.drivers[at].runs.get(&run_id) else { return Ok(()) };
        let (run, fence) = (&driven.run, driven.fence);
        let (status, seq) = (run.status(), run.seq());
        let append = || {
            RunWrite::Append(Box::new(Append {
                run_id,
                fence,
                events: Arc::new(effects.events.clone()),
                logs: Vec::new(),
                summary: summary_of(run),
                durations: Vec::new(),
                beside: Beside::default(),
            }))
        };
        let mut answer = self.write(append())?;
        if self.scenario.faults.lost_answers && self.random.permille(20) {
            answer = self.write(append())?;
            self.note(|_| format!("run {place}: the store's answer was lost; it was asked again"));
        }
        let written = match answer {
            Ok(_) => Ok(()),
            // It had been written after all.
            Err(WriteError::Gap { found, .. }) if found == seq => Ok(()),
            Err(error) => Err(error),
        };
        match (written, superseded) {
            (Ok(()), false) => {}
            (Ok(()), true) => {
                let what = format!("a driver that another had taken over from wrote to run {place}");
                return Err(Violation::Fence(what));
            }
            (Err(error), true) => {
                self.note(|_| format!("run {place}: the superseded driver lets go: {error}"));
                self.drivers[at].runs.remove(&run_id);
                return Ok(());
            }
            (Err(error), false) => {
                return Err(Violation::Lost(format!("nobody drives run {place} any more: {error}")));
            }
        }
        self.known[place].witness.durable(&effects.events)?;
        for event in &effects.events {
            self.note(|_| {
                let step = event.fact.step().map_or_else(String::new, |step| format!(" `{}`", step.step));
                format!("run {place}:   {} {}{step}", event.seq, event.fact.type_name())
            });
        }
        if self.dies("after it has written what it decided") {
            return Ok(());
        }
        for command in effects.commands {
            self.carry_out(at, place, command)?;
        }
        if status.is_terminal() {
            self.check_replay(place)?;
            self.known[place].witness.waiting()?;
            self.drivers[at].runs.remove(&run_id);
            let of_run = |pending: &Pending| pending.place == place;
            self.pending.retain(|pending| !of_run(pending) || matches!(pending.what, What::Report { .. }));
        }
        Ok(())
    }

    fn write(&self, write: RunWrite) -> Result<Result<Written, WriteError>, Violation> {
        answer(self.store.write(write))
    }

    /// What one process takes the time to be.
    fn clock(&self, at: usize) -> Timestamp {
        Timestamp::from_millis(self.now + self.drivers[at].skew)
    }

    fn expect(&mut self, due: i64, owner: Option<Uuid>, place: usize, what: What) {
        self.pending.push(Pending { due, owner, place, what });
    }

    /// A time in milliseconds within the next minutes.
    fn soon(&mut self) -> i64 {
        i64::try_from(self.random.duration().as_millis()).unwrap_or(0)
    }

    fn note(&mut self, line: impl FnOnce(&Self) -> String) {
        if self.tracing {
            let since = Duration::from_millis(u64::try_from(self.now - BEGIN).unwrap_or(0));
            let line = line(self);
            self.outcome.trace.push(format!("{:>9.3} s  {line}", since.as_secs_f64()));
        }
    }
}

/// A store in memory is always there.
fn answer<T>(asked: Result<T, StoreError>) -> Result<T, Violation> {
    asked.map_err(|error| Violation::Lost(error.to_string()))
}

/// What the events of a run have come to.
fn summary_of(run: &Run) -> RunSummary {
    let (started_at, finished_at) = run.times();
    RunSummary {
        status: run.status(),
        started_at,
        finished_at,
        error: run.error().cloned(),
        result: run.result().cloned(),
    }
}
