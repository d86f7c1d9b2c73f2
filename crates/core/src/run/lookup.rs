//! Looking things up in a run: names, bodies, and the values of inputs.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::event::StepRef;
use super::state::{Items, Run, Unit};
use super::undo::RESULT;
use super::work::Fold;
use crate::definition::{Body, MapSpec, Task, TaskKind};
use crate::expr::Inputs;
use crate::plan::{Iteration, PlanBody, Slot, Source, StepNames, Traits};

impl Run {
    pub(super) fn task(&self, id: u32) -> &Arc<Task> {
        self.plan_body(id).task()
    }

    pub(super) fn traits(&self, id: u32) -> &Traits {
        &self.plan.traits()[self.units[id as usize].body as usize]
    }

    pub(super) fn step_index(&self, id: u32) -> u32 {
        self.traits(id).step
    }

    pub(super) fn plan_body(&self, id: u32) -> &Arc<PlanBody> {
        &self.plan.bodies()[self.units[id as usize].body as usize]
    }

    pub(super) fn body(&self, id: u32) -> &Body {
        self.plan_body(id).body()
    }

    pub(super) fn needs_room(&self, id: u32) -> bool {
        self.traits(id).needs_room
    }

    pub(super) fn step_ref(&self, id: u32) -> StepRef {
        let step_index = self.step_index(id);
        StepRef { step_run: id, step_index, names: self.names(id) }
    }

    /// What a step run is called. The names of an item are made when it starts, and kept then.
    fn names(&self, id: u32) -> Arc<StepNames> {
        let unit = &self.units[id as usize];
        if let Some(names) = &unit.names {
            return Arc::clone(names);
        }
        let names = &self.plan.steps()[self.step_index(id) as usize].names;
        if unit.parent.is_none() && !self.is_undo(id) {
            return Arc::clone(names);
        }
        Arc::new(StepNames { step: self.name(id), task_name: Arc::clone(&names.task_name) })
    }

    /// The name of a step run.
    pub(super) fn name(&self, id: u32) -> Arc<str> {
        let unit = &self.units[id as usize];
        if let Some(names) = &unit.names {
            return Arc::clone(&names.step);
        }
        let Some(parent) = unit.parent else {
            let name = &self.plan.steps()[unit.place as usize].name;
            return if self.is_undo(id) { format!("undo {name}").into() } else { Arc::clone(name) };
        };
        let parent_name = self.name(parent);
        if let TaskKind::Group(members) = &self.body(parent).kind
            && let Some(name) = members.get(unit.place as usize).and_then(|member| member.name.as_ref())
        {
            return format!("{parent_name}.{name}").into();
        }
        format!("{parent_name}[{}]", unit.place).into()
    }

    /// How long a wait may take: until its own end, or the limit of its task where that is shorter.
    pub(super) fn wait_limit(&self, id: u32) -> Option<Duration> {
        let wait = self.body(id).kind.wait()?;
        wait.limit().into_iter().chain(self.plan_body(id).timeout()).min()
    }

    /// How many items of a composite may be under way at once.
    pub(super) fn width(&self, id: u32) -> u32 {
        match &self.body(id).kind {
            TaskKind::Map(spec) | TaskKind::Filter(spec) => {
                spec.max_parallel.map_or(u32::MAX, |n| n.get().saturating_mul(self.chunk_of(id)))
            }
            TaskKind::Reduce(_) => 1,
            _ => u32::MAX,
        }
    }

    /// How many items of a composite that has started one attempt carries out.
    pub(super) fn chunk_of(&self, composite: u32) -> u32 {
        let count = self.units[composite as usize].items.as_ref().map_or(0, |items| items.count);
        match &self.body(composite).kind {
            TaskKind::Map(MapSpec { chunk: Some(chunk), max_parallel, .. })
            | TaskKind::Filter(MapSpec { chunk: Some(chunk), max_parallel, .. }) => {
                let most = self.plan.pipeline().max_parallel;
                let width = max_parallel.iter().chain(&most).min().map(|width| width.get());
                chunk.size(count, width)
            }
            _ => 1,
        }
    }

    /// How many items of its list an item of a composite goes through: of a reduce the size of its chunks.
    pub(super) fn fold_of(&self, composite: u32) -> u32 {
        match &self.body(composite).kind {
            TaskKind::Reduce(spec) => spec.chunk.map_or(1, NonZeroU32::get),
            _ => 1,
        }
    }

    /// The items that an item of a reduce goes through, where that is several at once.
    pub(super) fn fold(&self, id: u32) -> Option<Box<Fold>> {
        let unit = &self.units[id as usize];
        let parent = unit.parent?;
        let size = self.fold_of(parent);
        let (iteration, items) = self.iteration_of(parent).filter(|_| size > 1)?;
        let first = unit.place.saturating_mul(size) as usize;
        let list = items.list.as_array()?.iter().skip(first).take(size as usize);
        Some(Box::new(Fold {
            item: Arc::clone(&iteration.item),
            accumulator: Arc::clone(iteration.accumulator.as_ref()?),
            items: list.cloned().map(Arc::new).collect(),
        }))
    }

    /// The list of a map, filter or reduce; null for a group, none where there is no such input.
    pub(super) fn list_of(&self, id: u32) -> Option<Arc<Value>> {
        match &self.plan_body(id).iteration {
            Some(iteration) => self.input(id, &iteration.over),
            None => Some(Arc::default()),
        }
    }

    /// The values of a step run's inputs, as a JSON object; none: there is no such step run.
    pub fn inputs_of(&self, step_run: u32) -> Option<serde_json::Map<String, Value>> {
        ((step_run as usize) < self.units.len()).then(|| self.inputs(step_run).to_json_object())
    }

    /// The values of a step run's inputs.
    pub(super) fn inputs(&self, id: u32) -> Inputs {
        let unit = &self.units[id as usize];
        let Some(parent) = unit.parent else {
            let step = &self.plan.steps()[unit.place as usize];
            let values = step.slots().iter().map(|slot| self.fill(slot));
            let mut inputs = Inputs::of_unique(step.slot_names(), values);
            if self.is_undo(id) {
                inputs.insert(RESULT.into(), self.value_of_step(unit));
                for (name, value) in &self.plan_body(id).constants {
                    inputs.insert(Arc::clone(name), Arc::clone(value));
                }
            }
            return inputs;
        };
        let mut inputs = self.inputs(parent);
        if let Some((iteration, items)) = self.iteration_of(parent) {
            // Handed to every item, the list would make the work grow with its square.
            if !iteration.hands_on_list {
                inputs.remove(&iteration.over);
            }
            // Several at once come by themselves.
            if self.fold_of(parent) == 1 {
                inputs.insert(Arc::clone(&iteration.item), item(unit, items));
            }
            if let Some(accumulator) = &iteration.accumulator {
                inputs.insert(Arc::clone(accumulator), items.accumulator.clone().unwrap_or_default());
            }
        }
        for (name, value) in &self.plan_body(id).constants {
            inputs.insert(Arc::clone(name), Arc::clone(value));
        }
        inputs
    }

    /// The value of one input, as [`inputs`](Self::inputs) has it.
    fn input(&self, id: u32, name: &str) -> Option<Arc<Value>> {
        let unit = &self.units[id as usize];
        let Some(parent) = unit.parent else {
            if self.is_undo(id) {
                return self.inputs(id).get(name).cloned();
            }
            let step = &self.plan.steps()[unit.place as usize];
            let place = step.slot_names().iter().position(|known| **known == *name)?;
            return step.slots().get(place).map(|slot| self.fill(slot));
        };
        let constants = &self.plan_body(id).constants;
        if let Some((_, value)) = constants.iter().find(|(known, _)| **known == *name) {
            return Some(Arc::clone(value));
        }
        if let Some((iteration, items)) = self.iteration_of(parent) {
            if iteration.accumulator.as_deref() == Some(name) {
                return Some(items.accumulator.clone().unwrap_or_default());
            }
            if *iteration.item == *name {
                return Some(item(unit, items));
            }
            if *iteration.over == *name && !iteration.hands_on_list {
                return None;
            }
        }
        self.input(parent, name)
    }

    /// What the step had made that a step run undoes.
    fn value_of_step(&self, undo: &Unit) -> Arc<Value> {
        self.units[undo.place as usize].value.clone().unwrap_or_default()
    }

    /// The item of a list that a step run is for.
    pub(super) fn item_of(&self, id: u32) -> Option<Arc<Value>> {
        let unit = &self.units[id as usize];
        let (_, items) = self
            .iteration_of(unit.parent?)
            .filter(|_| unit.parent.is_some_and(|parent| self.fold_of(parent) == 1))?;
        Some(item(unit, items))
    }

    fn iteration_of(&self, composite: u32) -> Option<(&Iteration, &Items)> {
        let iteration = self.plan_body(composite).iteration.as_ref()?;
        Some((iteration, self.units[composite as usize].items.as_deref()?))
    }

    /// The value of an input of a step; null where the step that makes it has none, or the parameter was not given.
    fn fill(&self, slot: &Slot) -> Arc<Value> {
        self.resolve(slot).unwrap_or_default()
    }

    /// The value that a step, or the result of the run, has from an origin, if there is one.
    pub(super) fn value_from(&self, source: &Source) -> Option<Arc<Value>> {
        self.resolve(&Slot::from(source))
    }

    fn resolve(&self, slot: &Slot) -> Option<Arc<Value>> {
        match slot {
            Slot::Constant(value) => Some(Arc::clone(value)),
            Slot::Parameter(place) => self.parameters.get(*place as usize)?.clone(),
            Slot::Value(step) => self.units[*step as usize].value.clone(),
            Slot::Part { step, place } => self.units[*step as usize].parts.get(*place as usize).cloned(),
            Slot::ItemErrors(step) => {
                let unit = &self.units[*step as usize];
                let errors = || Arc::new(self.item_errors(*step));
                // Whoever needs them shares them. A value that was taken over has no items here.
                unit.status.has_value().then(|| match &unit.items {
                    Some(items) => Arc::clone(items.errors.get_or_init(errors)),
                    None => errors(),
                })
            }
        }
    }

    /// Whether the value of a step run is an object with several outputs.
    pub(super) fn has_parts(&self, id: u32) -> bool {
        let traits = self.traits(id);
        traits.has_parts && !traits.is_undo && self.units[id as usize].parent.is_none()
    }

    /// Takes the value of a step with several outputs apart, once: whoever needs one of them shares it.
    pub(super) fn parts_of(&self, id: u32, value: &Value) -> Vec<Arc<Value>> {
        if !self.has_parts(id) {
            return Vec::new();
        }
        let outputs = &self.task(id).outputs;
        let part = |output: &String| Arc::new(value.get(output).cloned().unwrap_or_default());
        outputs.iter().map(part).collect()
    }
}

/// One of the items of a list. A composite that has started keeps the one that it is for.
fn item(unit: &Unit, items: &Items) -> Arc<Value> {
    let kept = unit.items.as_ref().and_then(|inside| inside.of_item.clone());
    kept.unwrap_or_else(|| Arc::new(items.list.get(unit.place as usize).cloned().unwrap_or_default()))
}
