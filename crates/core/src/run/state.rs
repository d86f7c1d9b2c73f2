//! The state of a run, and how a fact changes it.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::ops::Range;
use std::sync::{Arc, OnceLock};

use serde_json::{Map, Value};

use super::error::{IllegalEvent, RunError};
use super::event::{Event, Fact, StepRef};
use super::items::has_failed;
use super::line::Line;
use super::room::Chunks;
use super::status::{RunStatus, StepStatus};
use super::undo::{Ending, Undo};
use crate::definition::{OnItemError, TaskKind};
use crate::id::RunId;
use crate::plan::{Plan, StepNames, index};
use crate::time::Timestamp;

/// One execution of a pipeline.
#[derive(Debug, Clone)]
pub struct Run {
    pub(super) plan: Arc<Plan>,
    pub(super) id: RunId,
    /// By their place in the plan; none: not given.
    pub(super) parameters: Vec<Option<Arc<Value>>>,
    pub(super) status: RunStatus,
    pub(super) seq: u64,
    pub(super) units: Vec<Unit>,
    /// Step runs that have their inputs and need room to start.
    pub(super) ready_work: Line,
    /// Step runs that have their inputs and need no room: composites and waits.
    pub(super) ready_free: Line,
    /// How many attempts that need room are under way.
    pub(super) occupied: u32,
    /// Of the chunks that are under way, by the step run that was the first of their items: those of their items that are.
    /// A chunk takes the room of one attempt.
    pub(super) chunks: BTreeMap<u32, BTreeSet<u32>>,
    /// The chunks whose attempt is over and left items that it had not come to, while the run is paused: they are begun anew
    /// when it goes on. It is no fact: after a crash they are taken up as any other.
    pub(super) left_over: BTreeSet<u32>,
    /// How many step runs look for a kept value. Each has the room for the attempt that may follow.
    pub(super) looking: u32,
    /// The step for which no kept value will do.
    pub(super) afresh: Option<u32>,
    /// Steps that are not in a terminal state.
    pub(super) open_steps: u32,
    /// Steps that have ended and came to no value. While there is none, nobody needs to look for one before a step starts.
    pub(super) without_value: u32,
    /// Signals that no step has taken yet.
    pub(super) signals: HashMap<Arc<str>, VecDeque<Arc<Value>>>,
    /// How many those are.
    pub(super) early_signals: usize,
    /// The step runs that wait for a signal, by its name.
    pub(super) awaited: HashMap<Arc<str>, BTreeSet<u32>>,
    pub(super) created_at: Timestamp,
    pub(super) started_at: Option<Timestamp>,
    pub(super) finished_at: Option<Timestamp>,
    pub(super) error: Option<RunError>,
    pub(super) result: Option<Arc<Value>>,
    /// What is undone, of a run that ends without success.
    pub(super) undo: Option<Box<Undo>>,
}

/// A step run: a step of the plan, or an item of a composite one.
#[derive(Debug, Clone)]
pub(super) struct Unit {
    pub(super) parent: Option<u32>,
    /// Its place: the step's index, or the item's within its parent.
    pub(super) place: u32,
    /// The place of its body in the plan.
    pub(super) body: u32,
    /// Of an item that has started: what it is called.
    pub(super) names: Option<Arc<StepNames>>,
    /// Its place in the line of those that are ready to start, while it is there. An item of chunks is in that of its map,
    /// and the map, which has started, in the one of all while it may begin another chunk.
    pub(super) in_line: Option<u32>,
    /// Whether a kept value is looked for, instead of standing in line. It is no fact: after a crash it is asked for anew.
    pub(super) looking: bool,
    /// The chunk that it is under way in.
    pub(super) chunk: Option<u32>,
    pub(super) status: StepStatus,
    pub(super) attempt: u32,
    pub(super) failures: u32,
    /// Steps it needs that are not in a terminal state.
    pub(super) waiting: u32,
    pub(super) queued_at: Option<Timestamp>,
    /// When its first attempt started.
    pub(super) first_started_at: Option<Timestamp>,
    pub(super) started_at: Option<Timestamp>,
    pub(super) finished_at: Option<Timestamp>,
    pub(super) duration_ms: Option<u64>,
    /// While it waits for its next attempt: when that is due. While an attempt is under way: when it is given up.
    /// The start of an attempt is the fact, not this.
    pub(super) due_at: Option<Timestamp>,
    pub(super) value: Option<Arc<Value>>,
    /// Of a step with several outputs: the value of each, in the order of the task's outputs.
    pub(super) parts: Vec<Arc<Value>>,
    pub(super) error: Option<Arc<str>>,
    pub(super) code: Option<Arc<str>>,
    pub(super) reason: Option<Arc<str>>,
    pub(super) items: Option<Box<Items>>,
}

/// The items of a composite step run that has started.
#[derive(Debug, Clone)]
pub(super) struct Items {
    pub(super) first: u32,
    pub(super) count: u32,
    /// How many have been queued.
    pub(super) queued: u32,
    pub(super) done: u32,
    /// The list; for a group null.
    pub(super) list: Arc<Value>,
    /// Of a composite that is itself an item of a list: that item, shared by all inside it.
    pub(super) of_item: Option<Arc<Value>>,
    /// What went wrong with items, once somebody has asked for it after the last had ended.
    pub(super) errors: OnceLock<Arc<Value>>,
    /// What the items of a reduce have come to.
    pub(super) accumulator: Option<Arc<Value>>,
    /// Of a map or filter whose items come in chunks.
    pub(super) chunks: Option<Box<Chunks>>,
}

impl Run {
    /// A run that has been asked for and has not started. `parameters` have been checked by
    /// [`Plan::check_parameters`].
    pub fn new(plan: Arc<Plan>, id: RunId, parameters: &Map<String, Value>, created_at: Timestamp) -> Self {
        let units = plan.steps().iter().enumerate();
        let units: Vec<Unit> = units
            .map(|(place, step)| Unit::new(None, index(place), index(place), step.dependencies))
            .collect();
        let given = |name: &String| parameters.get(name).map(|value| Arc::new(value.clone()));
        Self {
            open_steps: index(units.len()),
            without_value: 0,
            units,
            parameters: plan.parameters().iter().map(given).collect(),
            plan,
            id,
            status: RunStatus::Queued,
            seq: 0,
            ready_work: Line::default(),
            ready_free: Line::default(),
            occupied: 0,
            chunks: BTreeMap::new(),
            left_over: BTreeSet::new(),
            looking: 0,
            afresh: None,
            signals: HashMap::new(),
            early_signals: 0,
            awaited: HashMap::new(),
            created_at,
            started_at: None,
            finished_at: None,
            error: None,
            result: None,
            undo: None,
        }
    }

    /// Rebuilds a run from its log.
    ///
    /// # Errors
    /// [`IllegalEvent`] when the log does not belong to the plan or has a gap.
    pub fn replay<'a>(mut self, events: impl IntoIterator<Item = &'a Event>) -> Result<Self, IllegalEvent> {
        for event in events {
            self.apply(event)?;
        }
        Ok(self)
    }

    /// The same run, which carries out `step` whether or not a value of it is kept from before. Whoever drives the run says
    /// so each time it takes it up: it is no fact.
    #[must_use]
    pub fn afresh(self, step: Option<u32>) -> Self {
        Self { afresh: step, ..self }
    }

    /// The id.
    pub fn id(&self) -> RunId {
        self.id
    }

    /// The plan it follows.
    pub fn plan(&self) -> &Arc<Plan> {
        &self.plan
    }

    /// The state.
    pub fn status(&self) -> RunStatus {
        self.status
    }

    /// The sequence number of the last event; 0: none yet.
    pub fn seq(&self) -> u64 {
        self.seq
    }

    /// The first error.
    pub fn error(&self) -> Option<&RunError> {
        self.error.as_ref()
    }

    /// The result, once completed.
    pub fn result(&self) -> Option<&Arc<Value>> {
        self.result.as_ref()
    }

    /// When it started, and when it ended.
    pub fn times(&self) -> (Option<Timestamp>, Option<Timestamp>) {
        (self.started_at, self.finished_at)
    }

    /// Applies one fact.
    ///
    /// # Errors
    /// [`IllegalEvent`] when the fact is not possible in this state; the state is then as before.
    pub fn apply(&mut self, event: &Event) -> Result<(), IllegalEvent> {
        let illegal = |why: String| IllegalEvent { seq: event.seq, event: event.fact.type_name(), why };
        if event.seq != self.seq + 1 {
            return Err(illegal(format!("the event before it is {}", self.seq)));
        }
        if self.status.is_terminal() {
            return Err(illegal(format!("the run is {}", self.status)));
        }
        let at = event.timestamp;
        match &event.fact {
            Fact::PipelineStart { .. } if self.status == RunStatus::Queued => {
                self.status = RunStatus::Running;
                self.started_at = Some(at);
                for step in 0..index(self.plan.steps().len()) {
                    if self.units[step as usize].waiting == 0 {
                        self.queue(step, at);
                    }
                }
            }
            Fact::PipelinePause if self.status == RunStatus::Running => self.status = RunStatus::Paused,
            Fact::PipelineResume if self.status == RunStatus::Paused => self.status = RunStatus::Running,
            Fact::PipelineStart { .. } | Fact::PipelinePause | Fact::PipelineResume => {
                return Err(illegal(format!("the run is {}", self.status)));
            }
            Fact::Signal { name, value, .. } => {
                self.signals.entry(Arc::clone(name)).or_default().push_back(Arc::clone(value));
                self.early_signals += 1;
            }
            Fact::PipelineComplete { result, .. } => {
                self.result = Some(Arc::clone(result));
                self.end(RunStatus::Completed, at);
            }
            Fact::PipelineError { error, .. } => {
                self.error = Some(RunError::clone(error));
                let own = error.step.is_none() && error.timed_out;
                self.end(if own { RunStatus::TimedOut } else { RunStatus::Failed }, at);
            }
            Fact::PipelineCancel { .. } | Fact::PipelineSkip { .. } => self.end(RunStatus::Cancelled, at),
            Fact::CompensationStart { step_indexes, error, reason, .. } => {
                let possible = |step: &u32| {
                    self.plan.steps().get(*step as usize).is_some_and(|step| step.undo.is_some())
                };
                if self.undo.is_some() || !step_indexes.iter().all(possible) {
                    return Err(illegal("these steps cannot be undone".to_owned()));
                }
                let ending = match (error, reason) {
                    (Some(error), _) => Ending::Error(RunError::clone(error)),
                    (None, reason) => Ending::Cancel(reason.clone().unwrap_or_default()),
                };
                self.begin_undo(step_indexes, ending, at);
            }
            Fact::DagUpdated { .. } => return Err(illegal("it is no event of a run".to_owned())),
            Fact::StepDeadLetter { step, .. } => {
                let failed =
                    self.units.get(step.step_run as usize).is_some_and(|unit| has_failed(unit.status));
                if !failed {
                    return Err(illegal(format!("step `{}` has not failed", step.step)));
                }
            }
            fact => match fact.step() {
                Some(step) => self.apply_step(step, fact, at).map_err(illegal)?,
                None => return Err(illegal("it names no step".to_owned())),
            },
        }
        self.seq = event.seq;
        Ok(())
    }

    fn apply_step(&mut self, step: &StepRef, fact: &Fact, at: Timestamp) -> Result<(), String> {
        let id = step.step_run;
        let unit = self.units.get(id as usize).ok_or_else(|| format!("there is no step run {id}"))?;
        let status = unit.status;
        if status.is_terminal() {
            return Err(format!("step `{}` is {status}", step.step));
        }
        match fact {
            Fact::StepStart { attempt, items, chunk, .. } => {
                if matches!(status, StepStatus::Pending) || *attempt <= unit.attempt {
                    return Err(format!("step `{}` is {status} at attempt {}", step.step, unit.attempt));
                }
                let traits = self.traits(id);
                let fits = match items {
                    Some(count) => {
                        let body = self.plan_body(id);
                        traits.is_composite && (!body.is_group() || *count == index(body.inner.len()))
                    }
                    None => !traits.is_composite,
                };
                if !fits {
                    let kind = self.body(id).kind.name();
                    return Err(format!(
                        "step `{}` is a `{kind}`, and starts with {items:?} items",
                        step.step
                    ));
                }
                let together = |first: u32| {
                    let parent = self.units[id as usize].parent;
                    let same = self.units.get(first as usize).is_some_and(|unit| unit.parent == parent);
                    first <= id && same && parent.is_some() && traits.needs_room
                };
                if chunk.is_some_and(|first| !together(first)) {
                    return Err(format!("step `{}` is in no such chunk as {chunk:?}", step.step));
                }
                self.start(id, step, *attempt, *items, *chunk, at);
            }
            Fact::StepComplete { attempt, result, duration_ms, cached, .. } => {
                let possible = match cached {
                    true => unit.attempt == 0,
                    false => status == StepStatus::Running && *attempt == unit.attempt,
                };
                if !possible {
                    return Err(format!("step `{}` is {status} at attempt {}", step.step, unit.attempt));
                }
                if !cached {
                    self.take_signal(id);
                }
                let status = if *cached { StepStatus::Cached } else { StepStatus::Completed };
                self.units[id as usize].parts = self.parts_of(id, result);
                self.units[id as usize].value = Some(Arc::clone(result));
                self.settle(id, status, Some(*duration_ms), at);
            }
            Fact::StepError { error, timed_out, will_retry, duration_ms, attempt, code, .. } => {
                let unit = &mut self.units[id as usize];
                unit.error = Some(Arc::clone(error));
                unit.code.clone_from(code);
                unit.failures += 1;
                if *will_retry {
                    self.vacate(id);
                    self.units[id as usize].status = StepStatus::Retrying;
                } else {
                    if !self.is_absorbed(id) && !self.is_undo(id) {
                        self.error.get_or_insert_with(|| RunError {
                            step: Some(Arc::clone(&step.step)),
                            attempt: Some(*attempt),
                            message: Arc::clone(error),
                            timed_out: *timed_out,
                            not_undone: Vec::new(),
                        });
                    }
                    let status = if *timed_out { StepStatus::TimedOut } else { StepStatus::Failed };
                    self.settle(id, status, Some(*duration_ms), at);
                }
            }
            Fact::StepRetry { wait_ms, .. } => {
                let wait = std::time::Duration::from_millis(*wait_ms);
                self.units[id as usize].due_at = Some(at.plus(wait));
            }
            Fact::StepSkip { reason, .. } => {
                self.units[id as usize].reason = Some(Arc::clone(reason));
                self.settle(id, StepStatus::Skipped, None, at);
            }
            Fact::StepCancel { reason, .. } => {
                self.units[id as usize].reason = Some(Arc::clone(reason));
                self.settle(id, StepStatus::Cancelled, None, at);
            }
            _ => return Err("it is no event of a step".to_owned()),
        }
        Ok(())
    }

    fn start(
        &mut self,
        id: u32,
        step: &StepRef,
        attempt: u32,
        items: Option<u32>,
        chunk: Option<u32>,
        at: Timestamp,
    ) {
        self.unqueue(id);
        if self.units[id as usize].status == StepStatus::Running {
            self.give_room_back(id);
        }
        self.take_room(id, chunk);
        let unit = &mut self.units[id as usize];
        unit.status = StepStatus::Running;
        unit.attempt = attempt;
        unit.started_at = Some(at);
        unit.first_started_at.get_or_insert(at);
        unit.due_at = None;
        if unit.parent.is_some() {
            unit.names = Some(Arc::clone(&step.names));
        }
        let Some(count) = items else {
            self.note_wait(id);
            return;
        };
        let accumulator = match &self.body(id).kind {
            TaskKind::Reduce(spec) => Some(Arc::new(spec.initial.clone())),
            _ => None,
        };
        let first = index(self.units.len());
        let body = Arc::clone(self.plan_body(id));
        let inner = |place| body.inner_at(place).unwrap_or(body.inner.start);
        self.units.extend((0..count).map(|place| Unit::new(Some(id), place, inner(place), 0)));
        let items = Items {
            first,
            count,
            queued: 0,
            done: 0,
            list: Arc::default(),
            of_item: self.item_of(id),
            errors: OnceLock::new(),
            accumulator,
            chunks: None,
        };
        self.units[id as usize].items = Some(Box::new(items));
        let chunks = self.chunks_of(id);
        // Where the list is the item itself, it is shared.
        let list = self.list_of(id).unwrap_or_default();
        if let Some(items) = self.units[id as usize].items.as_deref_mut() {
            items.list = list;
            items.chunks = chunks;
        }
        for _ in 0..self.width(id).min(count) {
            self.queue_next_item(id, at);
        }
    }

    /// Brings a step run into a terminal state and tells whoever waits for it.
    fn settle(&mut self, id: u32, status: StepStatus, duration_ms: Option<u64>, at: Timestamp) {
        self.unqueue(id);
        self.vacate(id);
        let unit = &mut self.units[id as usize];
        unit.status = status;
        unit.duration_ms = duration_ms;
        unit.finished_at = Some(at);
        if status.has_value() {
            unit.error = None;
            unit.code = None;
        }
        let (parent, place, value) = (unit.parent, unit.place, unit.value.clone());
        if let Some(mut items) = unit.items.take() {
            // The line that its items stand in goes with it; in the line of all their places are others'.
            let in_line = items.chunks.take().map(|chunks| chunks.ready).unwrap_or_default();
            in_line.iter().for_each(|item| self.units[*item as usize].in_line = None);
            self.close_items(&items, at);
            self.units[id as usize].items = Some(items);
        }
        if let Some(parent) = parent {
            let Some(items) = self.units[parent as usize].items.as_deref_mut() else { return };
            items.done += 1;
            if items.accumulator.is_some() && value.is_some() {
                items.accumulator = value;
            }
            let goes_on = has_failed(status) && self.item_rule(parent) != OnItemError::Fail;
            if status.has_value() || goes_on {
                self.queue_next_item(parent, at);
            }
            return;
        }
        if self.is_undo(id) {
            return self.undo_settled(id, status, at);
        }
        self.open_steps -= 1;
        self.without_value += u32::from(!status.has_value());
        for nth in 0..self.plan.steps()[place as usize].dependents.len() {
            let dependent = self.plan.steps()[place as usize].dependents[nth];
            let unit = &mut self.units[dependent as usize];
            unit.waiting = unit.waiting.saturating_sub(1);
            if unit.waiting == 0 && unit.status == StepStatus::Pending {
                self.queue(dependent, at);
            }
        }
    }

    /// The items of a composite that has ended and that never started end with it.
    fn close_items(&mut self, items: &Items, at: Timestamp) {
        for id in items.range() {
            if !self.units[id as usize].status.is_terminal() {
                self.unqueue(id);
                self.vacate(id);
                let unit = &mut self.units[id as usize];
                unit.status = StepStatus::Cancelled;
                unit.finished_at = Some(at);
            }
        }
    }

    fn queue_next_item(&mut self, parent: u32, at: Timestamp) {
        let Some(items) = self.units[parent as usize].items.as_deref_mut() else { return };
        if items.queued < items.count {
            let next = items.first + items.queued;
            items.queued += 1;
            self.queue(next, at);
        }
    }

    pub(super) fn queue(&mut self, id: u32, at: Timestamp) {
        self.units[id as usize].status = StepStatus::Queued;
        self.units[id as usize].queued_at = Some(at);
        self.ready(id);
    }

    /// A step run that has started waits for a signal, if its body says so.
    fn note_wait(&mut self, id: u32) {
        if self.traits(id).is_wait
            && let Some(name) = self.body(id).kind.awaited_signal()
        {
            let name = Arc::from(name);
            self.awaited.entry(name).or_default().insert(id);
        }
    }

    fn take_signal(&mut self, id: u32) {
        if !self.traits(id).is_wait {
            return;
        }
        let body = self.plan.bodies()[self.units[id as usize].body as usize].body();
        if let Some(name) = body.kind.awaited_signal()
            && let Some(values) = self.signals.get_mut(name)
            && values.pop_front().is_some()
        {
            self.early_signals -= 1;
        }
    }

    fn end(&mut self, status: RunStatus, at: Timestamp) {
        self.status = status;
        self.finished_at = Some(at);
        self.ready_work = Line::default();
        self.ready_free = Line::default();
    }
}

impl Items {
    /// The numbers of their step runs.
    pub(super) fn range(&self) -> Range<u32> {
        self.first..self.first + self.count
    }
}

impl Unit {
    pub(super) fn new(parent: Option<u32>, place: u32, body: u32, waiting: u32) -> Self {
        Self {
            parent,
            place,
            body,
            names: None,
            in_line: None,
            looking: false,
            chunk: None,
            status: StepStatus::Pending,
            attempt: 0,
            failures: 0,
            waiting,
            queued_at: None,
            first_started_at: None,
            started_at: None,
            finished_at: None,
            duration_ms: None,
            due_at: None,
            value: None,
            parts: Vec::new(),
            error: None,
            code: None,
            reason: None,
            items: None,
        }
    }
}
