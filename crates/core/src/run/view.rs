//! A run as it is shown.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;
use serde_json::Value;

use super::error::RunError;
use super::items::counts;
use super::state::{Run, Unit};
use super::status::{RunStatus, StepStatus};
use crate::forecast::{MEASURED_ITEMS, count_of_items, of_items};
use crate::id::{PipelineId, RunId};
use crate::time::Timestamp;

/// The most items of a step that are shown with it; [`Run::items`] has them all.
pub const SHOWN_ITEMS: usize = 100;

/// A run as it is shown.
#[derive(Debug, Clone, Serialize)]
pub struct RunView {
    /// The pipeline.
    pub pipeline_id: PipelineId,
    /// The run.
    pub run_id: RunId,
    /// The state.
    pub status: RunStatus,
    /// What a queued run waits for, for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub waits_for: Option<String>,
    /// Steps that are in a terminal state.
    pub steps_completed: u32,
    /// Steps in all; items of a map and the like are not counted.
    pub total_steps: u32,
    /// How many of them are in which state; states that none is in are left out.
    pub counts: BTreeMap<&'static str, u32>,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// When it started.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
    /// How long it took from its start to its end, once ended.
    pub duration_ms: Option<u64>,
    /// The result, once completed.
    pub result: Option<Arc<Value>>,
    /// The first error.
    pub error: Option<RunError>,
    /// The outputs that there are, of a run that has no result.
    #[serde(skip_serializing_if = "serde_json::Map::is_empty")]
    pub outputs: serde_json::Map<String, Value>,
    /// The steps, in the order of the definition.
    pub steps: Vec<StepView>,
    /// What undoes steps, in its order, of a run that ends without success.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub compensation: Vec<StepView>,
}

/// A step as it is shown.
#[derive(Debug, Clone, Serialize)]
pub struct StepView {
    /// The task's name.
    pub id: Arc<str>,
    /// The kind of the task.
    pub kind: &'static str,
    /// What its attempts came to.
    #[serde(flatten)]
    pub state: ItemView,
    /// The signal that ends it, while it waits for one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub waits_for: Option<String>,
    /// Of a map, filter, reduce or group that has started: how many of its items are in which state.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub item_counts: BTreeMap<&'static str, u32>,
    /// Of those the first [`SHOWN_ITEMS`].
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub items: Vec<ItemView>,
}

/// The state of a step run.
#[derive(Debug, Clone, Serialize)]
pub struct ItemView {
    /// The item's place; none for a step.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub index: Option<u32>,
    /// The state.
    pub status: StepStatus,
    /// The last attempt; 0: none yet.
    pub attempt: u32,
    /// How many attempts there may be.
    pub max_attempts: u32,
    /// When the next attempt is due, of a step run that waits for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_attempt_at: Option<Timestamp>,
    /// When the last attempt started.
    pub started_at: Option<Timestamp>,
    /// When the step run ended.
    pub finished_at: Option<Timestamp>,
    /// How long its last attempt took.
    pub duration_ms: Option<u64>,
    /// What the last attempt said if it failed.
    pub error: Option<Arc<str>>,
    /// The code of that error, such as `exit:3`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<Arc<str>>,
    /// Why it was skipped or cancelled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<Arc<str>>,
}

impl Run {
    /// The run as it is shown now.
    pub fn view(&self) -> RunView {
        let steps = self.plan.steps();
        let outputs = match self.result {
            Some(_) => serde_json::Map::new(),
            None => {
                let valued =
                    |(name, source): &(Arc<str>, _)| Some((name.to_string(), self.value_from(source)?));
                let outputs = self.plan.outputs().iter().filter_map(valued);
                outputs.map(|(name, value)| (name, Value::clone(&value))).collect()
            }
        };
        let total_steps = u32::try_from(steps.len()).unwrap_or(u32::MAX);
        RunView {
            pipeline_id: self.plan.pipeline().id.clone(),
            run_id: self.id,
            status: self.status,
            waits_for: None,
            steps_completed: total_steps - self.open_steps,
            total_steps,
            counts: counts(self.units.iter().take(steps.len())),
            created_at: self.created_at,
            started_at: self.started_at,
            finished_at: self.finished_at,
            duration_ms: took(self.started_at, self.finished_at),
            result: self.result.clone(),
            error: self.error.clone(),
            outputs,
            steps: steps
                .iter()
                .zip(&self.units)
                .map(|(step, unit)| self.step_view(Arc::clone(&step.name), unit))
                .collect(),
            compensation: self.undo_units().iter().map(|unit| self.undo_view(unit)).collect(),
        }
    }

    pub(super) fn item_view(&self, unit: &Unit, index: Option<u32>) -> ItemView {
        let traits = &self.plan.traits()[unit.body as usize];
        ItemView {
            index,
            status: unit.status,
            attempt: unit.attempt,
            max_attempts: traits.max_attempts,
            next_attempt_at: unit.due_at.filter(|_| unit.status == StepStatus::Retrying),
            started_at: unit.started_at,
            finished_at: unit.finished_at,
            duration_ms: unit.duration_ms,
            error: unit.error.clone(),
            code: unit.code.clone(),
            reason: unit.reason.clone(),
        }
    }

    /// The state of each step, by index.
    pub fn step_states(&self) -> impl Iterator<Item = StepStatus> {
        self.units.iter().take(self.plan.steps().len()).map(|unit| unit.status)
    }

    /// How long each step took whose value was made in this run, in milliseconds, by task name; and of steps with items
    /// how many there were and how long some of them took, by the names of [`crate::forecast`].
    pub fn measured_durations(&self) -> Vec<(Arc<str>, u64)> {
        let mut measured = Vec::new();
        for (step, unit) in self.plan.steps().iter().zip(&self.units) {
            let Some(millis) = unit.duration_ms.filter(|_| unit.status == StepStatus::Completed) else {
                continue;
            };
            measured.push((Arc::clone(&step.name), millis));
            let Some(items) = unit.items.as_ref().filter(|items| items.count > 0) else { continue };
            measured.push((count_of_items(&step.name).into(), u64::from(items.count)));
            let name: Arc<str> = of_items(&step.name).into();
            let items = &self.units[items.first as usize..(items.first + items.count) as usize];
            let apart = items.len().div_ceil(MEASURED_ITEMS).max(1);
            let some = items.iter().step_by(apart).filter(|item| item.status == StepStatus::Completed);
            measured.extend(some.filter_map(|item| Some((Arc::clone(&name), item.duration_ms?))));
        }
        measured
    }

    fn undo_view(&self, unit: &Unit) -> StepView {
        let step = &self.plan.steps()[unit.place as usize];
        self.step_view(format!("undo {}", step.name).into(), unit)
    }

    fn step_view(&self, name: Arc<str>, unit: &Unit) -> StepView {
        let traits = &self.plan.traits()[unit.body as usize];
        let items = self.items_of(unit);
        let shown =
            items.iter().take(SHOWN_ITEMS).map(|item| self.item_view(item, Some(item.place))).collect();
        let awaited = || self.plan.bodies()[unit.body as usize].body().kind.awaited_signal();
        let waits = traits.is_wait && unit.status == StepStatus::Running;
        let waits_for = waits.then(awaited).flatten().map(str::to_owned);
        StepView {
            id: name,
            kind: traits.kind,
            state: self.item_view(unit, None),
            waits_for,
            item_counts: counts(items.iter()),
            items: shown,
        }
    }
}

/// How long something took, in milliseconds, where both its start and its end are known.
pub fn took(start: Option<Timestamp>, end: Option<Timestamp>) -> Option<u64> {
    Some(super::machine::millis(end?.since(start?)))
}
