//! What a later run takes over from one that has ended.

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::Value;

use super::items::has_failed;
use super::state::{Run, Unit};
use super::status::StepStatus;
use crate::definition::OnItemError;
use crate::plan::{Plan, PlanStep, Source, index};

impl Run {
    /// The values of steps that a run of `plan` need not make again, by their index there. The plan is this run's, or that
    /// of another version of the same pipeline. Done again is what did not come to an end by itself, what was undone (not
    /// what could not be: that stands), the steps `again`, those that have a parameter for which `changed` is true, those that are not defined or wired as
    /// they were, and whatever needs one of these.
    pub fn taken_over(
        &self,
        plan: &Plan,
        again: &[u32],
        changed: impl Fn(&str) -> bool,
    ) -> Vec<(u32, Arc<Value>)> {
        let earlier = Earlier::of(self, plan);
        let steps = plan.steps();
        let undone = self.undo_units().iter().filter(|unit| unit.status.has_value());
        let undone: Vec<u32> = undone.map(|unit| unit.place).collect();
        let mut seeds: Vec<u32> =
            again.iter().copied().filter(|step| (*step as usize) < steps.len()).collect();
        for (place, step) in steps.iter().enumerate() {
            let has_changed = step.wires.iter().any(|wire| match &wire.source {
                Source::Parameter { name, .. } => changed(name),
                _ => false,
            });
            let same = earlier.step(index(place));
            let errors_used = || plan.uses_errors_of(index(place));
            let kept = same.filter(|old| {
                !undone.contains(old) && !self.is_done_again(&self.units[*old as usize], errors_used)
            });
            if has_changed || kept.is_none() {
                seeds.push(index(place));
            }
        }
        let again = plan.with_dependents(seeds);
        let kept = (0..index(steps.len())).filter(|place| !again[*place as usize]);
        kept.filter_map(|place| {
            let unit = &self.units[earlier.step(place)? as usize];
            Some((place, unit.value.clone().filter(|_| unit.status.has_value())?))
        })
        .collect()
    }

    /// Whether a later run may come to something else here. What was skipped by its condition is not: it would be again.
    /// `errors_used`: the later one reads what went wrong with its items.
    fn is_done_again(&self, step: &Unit, errors_used: impl Fn() -> bool) -> bool {
        match step.status {
            StepStatus::Completed | StepStatus::Cached => {
                // The errors of items are no part of the value. Of items that were taken over nothing is known, except
                // where somebody read the errors already: then they were taken over because none had failed.
                let tolerant = self.item_rule(step.place) != OnItemError::Fail;
                let failed = match step.items {
                    Some(_) => self.items_of(step).iter().any(|item| has_failed(item.status)),
                    None => !self.plan.uses_errors_of(step.place),
                };
                tolerant && failed && errors_used()
            }
            StepStatus::Skipped => false,
            _ => true,
        }
    }
}

/// The steps of a plan in an earlier one.
enum Earlier {
    /// It is the same.
    Same,
    /// By their index: the step of the same name that does the same with the same.
    Found(Vec<Option<u32>>),
}

impl Earlier {
    fn of(run: &Run, plan: &Plan) -> Self {
        let old = &run.plan;
        if old.pipeline().source == plan.pipeline().source {
            return Self::Same;
        }
        let names: HashMap<&str, u32> =
            old.steps().iter().zip(0..).map(|(step, place)| (&*step.name, place)).collect();
        let found = plan.steps().iter().enumerate().map(|(place, step)| {
            let earlier = *names.get(&*step.name)?;
            let same = old.source_of(earlier)? == plan.source_of(index(place))?
                && wires_of(old, &old.steps()[earlier as usize]) == wires_of(plan, step);
            same.then_some(earlier)
        });
        Self::Found(found.collect())
    }

    fn step(&self, place: u32) -> Option<u32> {
        match self {
            Self::Same => Some(place),
            Self::Found(steps) => steps.get(place as usize).copied().flatten(),
        }
    }
}

/// What a step is given, by names that hold for every version.
fn wires_of<'a>(plan: &'a Plan, step: &'a PlanStep) -> Vec<(&'a str, &'a str, Option<&'a str>)> {
    let name = |step: u32| &*plan.steps()[step as usize].name;
    let wires = step.wires.iter().map(|wire| match &wire.source {
        Source::Parameter { name, .. } => (&*wire.name, &**name, None),
        Source::Output { step, part } => {
            (&*wire.name, name(*step), Some(part.as_ref().map_or("", |part| &*part.key)))
        }
        Source::ItemErrors { step } => (&*wire.name, name(*step), Some(" errors")),
    });
    wires.collect()
}
