//! The bodies of a pipeline in one flat table, and what a run asks of each again and again.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::{PlanStep, Source, Wire, index};
use crate::definition::{Body, Cache, RetryPolicy, Task, TaskKind};
use crate::pace::Pace;

/// A body of a pipeline: that of a task, or one inside a map, filter, reduce or group. A run knows it by its place in
/// the plan's table; the bodies of the tasks come first, in the order of the steps.
#[derive(Debug)]
pub struct PlanBody {
    task: Arc<Task>,
    traits: Traits,
    /// The way from the task's body, or from what undoes it, to this one: 0 into a map and the like, the member's place into a group.
    path: Box<[u32]>,
    /// The places of the bodies inside it: of a map and the like one, of a group one for each member.
    pub(crate) inner: Range<u32>,
    /// The Rust task that it calls: one text for all bodies that call the same.
    callee: Option<Arc<str>>,
    is_expression: bool,
    /// The longest that one attempt may take.
    timeout: Option<Duration>,
    /// Whether an attempt takes something of the machine.
    takes_resources: bool,
    /// Its `with`.
    pub(crate) constants: Box<[(Arc<str>, Arc<Value>)]>,
    /// Of a map, filter or reduce.
    pub(crate) iteration: Option<Iteration>,
    pace: Pace,
}

/// What a run asks of a body again and again. The answers of a whole plan lie side by side: a large plan is in no cache,
/// and to ask the definitions of its tasks, which lie anywhere, is to wait for memory each time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Traits {
    /// The step it belongs to.
    pub(crate) step: u32,
    /// How many attempts are made of it at most.
    pub(crate) max_attempts: u32,
    /// The name of what it is: `task`, `map` and the like.
    pub(crate) kind: &'static str,
    /// Whether it undoes the task, or is inside what does.
    pub(crate) is_undo: bool,
    /// Whether an attempt of it counts against `max_parallel` of the pipeline.
    pub(crate) needs_room: bool,
    /// Whether it has others inside: it is a group, a map, a filter or a reduce.
    pub(crate) is_composite: bool,
    /// Whether it waits for a time or a signal.
    pub(crate) is_wait: bool,
    /// Whether there is one for the whole step.
    pub(crate) has_total_timeout: bool,
    /// Whether its values are kept.
    pub(crate) is_cached: bool,
    /// Whether its task makes several outputs.
    pub(crate) has_parts: bool,
    /// Whether there is more than a missing input that keeps its step from running.
    pub(crate) is_conditional: bool,
}

/// The names of a map, filter or reduce.
#[derive(Debug)]
pub(crate) struct Iteration {
    /// The input that holds the list.
    pub(crate) over: Arc<str>,
    /// The name under which the body sees the item.
    pub(crate) item: Arc<str>,
    /// Of a reduce: the name under which the body sees what the items before came to.
    pub(crate) accumulator: Option<Arc<str>>,
    /// Whether the body reads the list itself.
    pub(crate) hands_on_list: bool,
}

/// Where an input of a step comes from: a [`Source`] without the names that only people need.
#[derive(Debug)]
pub(crate) enum Slot {
    /// The parameter at that place.
    Parameter(u32),
    /// The whole value of that step.
    Value(u32),
    /// One of several outputs of a step.
    Part {
        /// The step.
        step: u32,
        /// The output's place.
        place: u32,
    },
    /// What went wrong with the items of that step.
    ItemErrors(u32),
    /// The task's `with`.
    Constant(Arc<Value>),
}

impl PlanBody {
    fn new<'a>(
        task: &'a Arc<Task>,
        step: u32,
        is_undo: bool,
        path: Box<[u32]>,
        callees: &mut HashMap<&'a str, Arc<str>>,
    ) -> Self {
        let body = at(root(task, is_undo), &path);
        let constants = body.with.iter();
        let callee = match &body.kind {
            TaskKind::Task(name) => {
                Some(Arc::clone(callees.entry(name).or_insert_with(|| name.as_str().into())))
            }
            _ => None,
        };
        Self {
            traits: Traits::of(task, step, is_undo, &body.kind),
            inner: 0..0,
            callee,
            is_expression: matches!(body.kind, TaskKind::Expression(_)),
            timeout: match &task.compensate {
                Some(undo) if is_undo => undo.timeout,
                _ => task.timeout,
            },
            takes_resources: !task.resources.is_empty(),
            constants: constants
                .map(|(name, value)| (name.as_str().into(), Arc::new(value.clone())))
                .collect(),
            iteration: Iteration::of(&body.kind),
            task: Arc::clone(task),
            path,
            pace: Pace::default(),
        }
    }

    /// How long an attempt of it takes by experience.
    pub fn pace(&self) -> &Pace {
        &self.pace
    }

    /// What is to be done.
    pub fn body(&self) -> &Body {
        at(root(&self.task, self.traits.is_undo), &self.path)
    }

    /// The Rust task that it calls; none: it does something else.
    pub fn callee(&self) -> Option<&str> {
        self.callee.as_deref()
    }

    /// Whether it is an expression.
    pub fn is_expression(&self) -> bool {
        self.is_expression
    }

    /// When an attempt of it that failed is repeated.
    pub fn retry(&self) -> &RetryPolicy {
        retry(&self.task, self.traits.is_undo)
    }

    /// The longest an attempt of it may take.
    pub fn timeout(&self) -> Option<Duration> {
        self.timeout
    }

    /// Whether an attempt of it takes something of the machine.
    pub fn takes_resources(&self) -> bool {
        self.takes_resources
    }

    /// How its values are kept. Not of a body with others inside, whose values are kept each for itself, and not of what
    /// undoes a task.
    pub fn cache(&self) -> Option<&Cache> {
        if self.traits.is_cached { self.task.cache.as_deref() } else { None }
    }

    /// Its constant inputs.
    pub fn constants(&self) -> &[(Arc<str>, Arc<Value>)] {
        &self.constants
    }

    /// The index of the step that it belongs to.
    pub fn step_index(&self) -> u32 {
        self.traits.step
    }

    /// The way from the task's body to this one: 0 into a map and the like, the member's place into a group.
    pub fn path(&self) -> &[u32] {
        &self.path
    }

    /// Whether it is what undoes a task, and not inside that.
    pub(crate) fn is_undo_root(&self) -> bool {
        self.traits.is_undo && self.path.is_empty()
    }

    pub(super) fn traits(&self) -> Traits {
        self.traits
    }

    /// The task it belongs to.
    pub fn task(&self) -> &Arc<Task> {
        &self.task
    }

    pub(crate) fn is_group(&self) -> bool {
        matches!(self.body().kind, TaskKind::Group(_))
    }

    /// The place of the body of its item `place`; none where a group has no such member.
    pub(crate) fn inner_at(&self, place: u32) -> Option<u32> {
        let offset = if self.is_group() { place } else { 0 };
        self.inner.start.checked_add(offset).filter(|inner| self.inner.contains(inner))
    }
}

impl Traits {
    fn of(task: &Task, step: u32, is_undo: bool, kind: &TaskKind) -> Self {
        let needs_room = kind.takes_worker();
        Self {
            step,
            max_attempts: retry(task, is_undo).max_attempts.get(),
            kind: kind.name(),
            is_undo,
            needs_room,
            is_composite: matches!(
                kind,
                TaskKind::Map(_) | TaskKind::Filter(_) | TaskKind::Reduce(_) | TaskKind::Group(_)
            ),
            is_wait: kind.wait().is_some(),
            has_total_timeout: task.total_timeout.is_some() && !is_undo,
            is_cached: task.cache.is_some() && needs_room && !is_undo,
            has_parts: task.outputs.len() > 1,
            is_conditional: task.when.is_some() || task.needs_any,
        }
    }
}

impl Iteration {
    fn of(kind: &TaskKind) -> Option<Self> {
        let (over, item, accumulator, body) = match kind {
            TaskKind::Map(spec) | TaskKind::Filter(spec) => (&spec.over, &spec.item, None, &spec.body),
            TaskKind::Reduce(spec) => (&spec.over, &spec.item, Some(&spec.accumulator), &spec.body),
            _ => return None,
        };
        Some(Self {
            hands_on_list: body.kind.names_input(over),
            over: over.as_str().into(),
            item: item.as_str().into(),
            accumulator: accumulator.map(|name| name.as_str().into()),
        })
    }
}

/// All bodies of the steps: the steps' own first, then what undoes them, then what is inside these, that of one body
/// together.
pub(super) fn table(steps: &[PlanStep]) -> Vec<Arc<PlanBody>> {
    let mut callees = HashMap::new();
    let mut bodies = Vec::with_capacity(steps.len());
    for undo in [false, true] {
        for (place, step) in steps.iter().enumerate() {
            if !undo || step.task.compensate.is_some() {
                bodies.push(PlanBody::new(&step.task, index(place), undo, Box::default(), &mut callees));
            }
        }
    }
    let mut place = 0;
    while let Some(outer) = bodies.get(place) {
        let (first, count) = (bodies.len(), outer.body().kind.inner().len());
        let Traits { step, is_undo, .. } = outer.traits;
        let task = &steps[step as usize].task;
        let inner = |member| {
            let path = outer.path.iter().copied().chain([index(member)]).collect();
            PlanBody::new(task, step, is_undo, path, &mut callees)
        };
        let inner: Vec<_> = (0..count).map(inner).collect();
        bodies[place].inner = index(first)..index(first + count);
        bodies.extend(inner);
        place += 1;
    }
    bodies.into_iter().map(Arc::new).collect()
}

/// The inputs of a step: a constant of its task takes the place of a wire of the same name, a later wire that of an
/// earlier one.
pub(super) fn slots(wires: &[Wire], body: &PlanBody) -> (Arc<[Arc<str>]>, Box<[Slot]>) {
    let constants = body.constants.iter().map(|(name, value)| (name, Slot::Constant(Arc::clone(value))));
    let wires = wires.iter().map(|wire| (&wire.name, Slot::from(&wire.source)));
    let mut places: HashMap<&str, usize> = HashMap::new();
    let most = wires.len() + constants.len();
    let (mut names, mut slots) = (Vec::with_capacity(most), Vec::with_capacity(most));
    for (name, slot) in wires.chain(constants) {
        match places.insert(name, slots.len()) {
            None => {
                names.push(Arc::clone(name));
                slots.push(slot);
            }
            Some(place) => {
                places.insert(name, place);
                slots[place] = slot;
            }
        }
    }
    (names.into(), slots.into())
}

impl From<&Source> for Slot {
    fn from(source: &Source) -> Self {
        match source {
            Source::Parameter { place, .. } => Self::Parameter(*place),
            Source::Output { step, part: None } => Self::Value(*step),
            Source::Output { step, part: Some(part) } => Self::Part { step: *step, place: part.place },
            Source::ItemErrors { step } => Self::ItemErrors(*step),
        }
    }
}

fn retry(task: &Task, is_undo: bool) -> &RetryPolicy {
    match &task.compensate {
        Some(undo) if is_undo => &undo.retry,
        _ => &task.retry,
    }
}

fn root(task: &Task, undo: bool) -> &Body {
    let undoing = task.compensate.as_ref().filter(|_| undo);
    undoing.map_or(&task.body, |undo| &undo.body)
}

/// Follows a path into the bodies inside one. The table is made of paths that lead somewhere.
fn at<'a>(root: &'a Body, path: &[u32]) -> &'a Body {
    path.iter().fold(root, |body, place| match &body.kind {
        TaskKind::Map(spec) | TaskKind::Filter(spec) => &spec.body,
        TaskKind::Reduce(spec) => &spec.body,
        TaskKind::Group(members) => members.get(*place as usize).map_or(body, |member| &member.body),
        _ => body,
    })
}
