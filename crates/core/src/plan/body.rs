//! The bodies of a pipeline in one flat table, and what a run asks of each again and again.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::{PlanStep, Wire, index};
use crate::definition::{Body, Cache, RetryPolicy, Task, TaskKind};
use crate::pace::Pace;

/// A body of a pipeline: that of a task, or one inside a map, filter, reduce or group. A run knows it by its place in
/// the plan's table; the bodies of the tasks come first, in the order of the steps.
#[derive(Debug)]
pub struct PlanBody {
    task: Arc<Task>,
    /// Whether it undoes the task, or is inside what does.
    pub(crate) undo: bool,
    /// The way from the task's body, or from what undoes it, to this one: 0 into a map and the like, the member's place into a group.
    path: Box<[u32]>,
    /// The step it belongs to.
    pub(crate) step: u32,
    /// The places of the bodies inside it: of a map and the like one, of a group one for each member.
    pub(crate) inner: Range<u32>,
    /// Whether an attempt of it counts against `max_parallel` of the pipeline.
    pub(crate) needs_room: bool,
    /// Its `with`.
    pub(crate) constants: Box<[(Arc<str>, Arc<Value>)]>,
    /// Of a map, filter or reduce.
    pub(crate) iteration: Option<Iteration>,
    pace: Pace,
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

/// Where an input of a step comes from.
#[derive(Debug)]
pub(crate) enum Slot {
    /// The wire at that place.
    Wire(u32),
    /// The task's `with`.
    Constant(Arc<Value>),
}

impl PlanBody {
    fn new(task: &Arc<Task>, step: u32, undo: bool, path: Box<[u32]>) -> Self {
        let body = at(root(task, undo), &path);
        let constants = body.with.iter();
        Self {
            step,
            inner: 0..0,
            needs_room: body.kind.takes_worker(),
            constants: constants
                .map(|(name, value)| (name.as_str().into(), Arc::new(value.clone())))
                .collect(),
            iteration: Iteration::of(&body.kind),
            task: Arc::clone(task),
            undo,
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
        at(root(&self.task, self.undo), &self.path)
    }

    /// When an attempt of it that failed is repeated.
    pub fn retry(&self) -> &RetryPolicy {
        match &self.task.compensate {
            Some(undo) if self.undo => &undo.retry,
            _ => &self.task.retry,
        }
    }

    /// The longest an attempt of it may take.
    pub fn timeout(&self) -> Option<Duration> {
        match &self.task.compensate {
            Some(undo) if self.undo => undo.timeout,
            _ => self.task.timeout,
        }
    }

    /// How its values are kept. Not of a body with others inside, whose values are kept each for itself, and not of what
    /// undoes a task.
    pub fn cache(&self) -> Option<&Cache> {
        self.task.cache.as_deref().filter(|_| self.needs_room && !self.undo)
    }

    /// Its constant inputs.
    pub fn constants(&self) -> &[(Arc<str>, Arc<Value>)] {
        &self.constants
    }

    /// The index of the step that it belongs to.
    pub fn step_index(&self) -> u32 {
        self.step
    }

    /// The way from the task's body to this one: 0 into a map and the like, the member's place into a group.
    pub fn path(&self) -> &[u32] {
        &self.path
    }

    /// Whether it is what undoes a task, and not inside that.
    pub(crate) fn is_undo_root(&self) -> bool {
        self.undo && self.path.is_empty()
    }

    /// The task it belongs to.
    pub fn task(&self) -> &Arc<Task> {
        &self.task
    }

    pub(crate) fn is_group(&self) -> bool {
        matches!(self.body().kind, TaskKind::Group(_))
    }

    pub(crate) fn is_composite(&self) -> bool {
        self.iteration.is_some() || self.is_group()
    }

    /// The place of the body of its item `place`; none where a group has no such member.
    pub(crate) fn inner_at(&self, place: u32) -> Option<u32> {
        let offset = if self.is_group() { place } else { 0 };
        self.inner.start.checked_add(offset).filter(|inner| self.inner.contains(inner))
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
    let root = |undo: bool| {
        let steps = steps.iter().enumerate().filter(move |(_, step)| !undo || step.task.compensate.is_some());
        steps.map(move |(place, step)| PlanBody::new(&step.task, index(place), undo, Box::default()))
    };
    let mut bodies: Vec<PlanBody> = root(false).chain(root(true)).collect();
    let mut place = 0;
    while let Some(outer) = bodies.get(place) {
        let (first, count) = (bodies.len(), outer.body().kind.inner().len());
        let inner = |member| {
            let path = outer.path.iter().copied().chain([index(member)]).collect();
            PlanBody::new(&outer.task, outer.step, outer.undo, path)
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
pub(super) fn slots(wires: &[Wire], body: &PlanBody) -> Box<[(Arc<str>, Slot)]> {
    let constants = body.constants.iter().map(|(name, value)| (name, Slot::Constant(Arc::clone(value))));
    let wires = wires.iter().enumerate().map(|(place, wire)| (&wire.name, Slot::Wire(index(place))));
    let mut places: HashMap<&str, usize> = HashMap::new();
    let mut slots: Vec<(Arc<str>, Slot)> = Vec::with_capacity(wires.len() + constants.len());
    for (name, slot) in wires.chain(constants) {
        match places.insert(name, slots.len()) {
            None => slots.push((Arc::clone(name), slot)),
            Some(place) => {
                places.insert(name, place);
                slots[place].1 = slot;
            }
        }
    }
    slots.into()
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
