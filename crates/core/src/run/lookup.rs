//! Looking things up in a run: names, bodies, and the values of inputs.

use std::sync::Arc;

use serde_json::Value;

use super::event::StepRef;
use super::state::Run;
use super::work::body_at;
use crate::definition::{Body, Task, TaskKind};
use crate::expr::Inputs;
use crate::plan::Source;

impl Run {
    pub(super) fn task(&self, id: u32) -> &Arc<Task> {
        &self.plan.steps()[self.step_index(id) as usize].task
    }

    pub(super) fn step_index(&self, id: u32) -> u32 {
        let mut unit = &self.units[id as usize];
        while let Some(parent) = unit.parent {
            unit = &self.units[parent as usize];
        }
        unit.place
    }

    /// The way from the task's body to that of the step run.
    pub(super) fn path(&self, id: u32) -> Vec<u32> {
        let unit = &self.units[id as usize];
        let Some(parent) = unit.parent else { return Vec::new() };
        let mut path = self.path(parent);
        let group = matches!(body_at(self.task(parent), &path).kind, TaskKind::Group(_));
        path.push(if group { unit.place } else { 0 });
        path
    }

    pub(super) fn body(&self, id: u32) -> &Body {
        match self.units[id as usize].parent {
            None => &self.task(id).body,
            Some(_) => body_at(self.task(id), &self.path(id)),
        }
    }

    pub(super) fn needs_room(&self, id: u32) -> bool {
        !matches!(
            self.body(id).kind,
            TaskKind::Map(_)
                | TaskKind::Filter(_)
                | TaskKind::Reduce(_)
                | TaskKind::Group(_)
                | TaskKind::Wait(_)
                | TaskKind::Pipeline(_)
        )
    }

    pub(super) fn step_ref(&self, id: u32) -> StepRef {
        let step_index = self.step_index(id);
        let task_name = Arc::clone(&self.plan.steps()[step_index as usize].name);
        StepRef { step_run: id, step_index, step: self.name(id), task_name }
    }

    pub(super) fn name(&self, id: u32) -> Arc<str> {
        let unit = &self.units[id as usize];
        let Some(parent) = unit.parent else {
            return Arc::clone(&self.plan.steps()[unit.place as usize].name);
        };
        let parent_name = self.name(parent);
        if let TaskKind::Group(members) = &self.body(parent).kind
            && let Some(name) = members.get(unit.place as usize).and_then(|member| member.name.as_ref())
        {
            return format!("{parent_name}.{name}").into();
        }
        format!("{parent_name}[{}]", unit.place).into()
    }

    /// How many items of a composite may be under way at once.
    pub(super) fn width(&self, id: u32) -> u32 {
        match &self.body(id).kind {
            TaskKind::Map(spec) | TaskKind::Filter(spec) => spec.max_parallel.map_or(u32::MAX, |n| n.get()),
            TaskKind::Reduce(_) => 1,
            _ => u32::MAX,
        }
    }

    /// The list of a map, filter or reduce; null for a group, none where there is no such input.
    pub(super) fn list_of(&self, id: u32) -> Option<Arc<Value>> {
        let over = match &self.body(id).kind {
            TaskKind::Map(spec) | TaskKind::Filter(spec) => &spec.over,
            TaskKind::Reduce(spec) => &spec.over,
            _ => return Some(Arc::default()),
        };
        self.inputs(id).get(over).cloned()
    }

    /// The values of a step run's inputs.
    pub(super) fn inputs(&self, id: u32) -> Inputs {
        let unit = &self.units[id as usize];
        let mut inputs = match unit.parent {
            None => self.step_inputs(unit.place),
            Some(parent) => {
                let mut inputs = self.inputs(parent);
                self.bind_item(&mut inputs, parent, id);
                inputs
            }
        };
        for (name, value) in &self.body(id).with {
            inputs.insert(name.as_str().into(), Arc::new(value.clone()));
        }
        inputs
    }

    fn step_inputs(&self, step: u32) -> Inputs {
        let wires = self.plan.steps()[step as usize].wires.iter();
        wires.map(|wire| (Arc::clone(&wire.name), self.resolve(&wire.source).unwrap_or_default())).collect()
    }

    /// Makes the inputs of an item out of those of its composite. The list itself is left out: handed to every
    /// item, it would make the work grow with its square. Only a body that names it gets it.
    fn bind_item(&self, inputs: &mut Inputs, parent: u32, id: u32) {
        let Some(items) = &self.units[parent as usize].items else { return };
        let (item, over, accumulator) = match &self.body(parent).kind {
            TaskKind::Map(spec) | TaskKind::Filter(spec) => (&spec.item, &spec.over, None),
            TaskKind::Reduce(spec) => (&spec.item, &spec.over, Some(&spec.accumulator)),
            _ => return,
        };
        if !self.body(id).kind.names_input(over) {
            inputs.remove(over);
        }
        let place = self.units[id as usize].place as usize;
        let value = items.list.get(place).cloned().unwrap_or_default();
        inputs.insert(item.as_str().into(), Arc::new(value));
        if let Some(accumulator) = accumulator {
            let value = items.accumulator.clone().unwrap_or_default();
            inputs.insert(accumulator.as_str().into(), value);
        }
    }

    /// The value at an origin; none where the step has none or the parameter was not given.
    pub(super) fn resolve(&self, source: &Source) -> Option<Arc<Value>> {
        match source {
            Source::Parameter(name) => self.parameters.get(name).cloned(),
            Source::Output { step, key } => {
                let value = self.units[*step as usize].value.as_ref()?;
                let Some(key) = key else { return Some(Arc::clone(value)) };
                let outputs = &self.plan.steps()[*step as usize].task.outputs;
                let place = outputs.iter().position(|output| **output == **key)?;
                self.units[*step as usize].parts.get(place).cloned()
            }
        }
    }

    /// Takes the value of a step with several outputs apart, once: whoever needs one of them shares it.
    pub(super) fn parts_of(&self, id: u32, value: &Value) -> Vec<Arc<Value>> {
        let outputs = &self.task(id).outputs;
        if self.units[id as usize].parent.is_some() || outputs.len() < 2 {
            return Vec::new();
        }
        let part = |output: &String| Arc::new(value.get(output).cloned().unwrap_or_default());
        outputs.iter().map(part).collect()
    }
}
