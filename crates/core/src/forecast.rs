//! What the durations of earlier runs say about the steps of a pipeline: the input of [`Dag::forecast`] and the like.
//!
//! Durations are kept by name, in milliseconds. Beside those of a step, under its own name, those of its items are kept
//! under [`of_items`], and how many there were under [`count_of_items`]; no task can have such a name.
//!
//! [`Dag::forecast`]: crate::dag::Dag::forecast

use std::collections::HashMap;
use std::hash::BuildHasher;

use crate::dag::{Cost, ItemCost, Stage};
use crate::definition::{Body, TaskKind};
use crate::plan::Plan;
use crate::run::{ItemView, RunView, StepStatus, StepView};
use crate::time::Timestamp;

/// Items of one step in one run of which the durations are kept, evenly spread over the list: enough to know how they
/// spread, and few enough that one long list does not drive out what earlier runs took.
pub(crate) const MEASURED_ITEMS: usize = 8;

/// Where the durations of a step's items are kept.
pub fn of_items(step: &str) -> String {
    format!("{step}[]")
}

/// Where the numbers of a step's items are kept.
pub fn count_of_items(step: &str) -> String {
    format!("{step}[#]")
}

/// What each step of a pipeline takes, by index. `durations` are those of earlier runs, by the names above.
pub fn costs<S: BuildHasher>(plan: &Plan, durations: &HashMap<String, Vec<u64>, S>) -> Vec<Cost> {
    let of = |name: &str| durations.get(name).cloned().unwrap_or_default();
    let cost = |step: &crate::plan::PlanStep| {
        let kind = &step.task.body.kind;
        let (at_once, bodies): (_, Vec<&Body>) = match kind {
            TaskKind::Map(spec) | TaskKind::Filter(spec) => (spec.max_parallel, kind.inner()),
            // Each item needs what came of the one before.
            TaskKind::Reduce(_) => (Some(std::num::NonZeroU32::MIN), kind.inner()),
            TaskKind::Group(_) => (None, kind.inner()),
            _ => return Cost { samples: of(&step.name), occupies: kind.takes_worker(), items: None },
        };
        let counts = match kind {
            TaskKind::Group(members) => vec![members.len() as u64],
            _ => of(&count_of_items(&step.name)),
        };
        let occupies = bodies.iter().any(|body| body.kind.takes_worker());
        let items = ItemCost { samples: of(&of_items(&step.name)), counts, at_once, occupies };
        Cost { samples: of(&step.name), occupies: false, items: Some(items) }
    };
    plan.steps().iter().map(cost).collect()
}

/// How far each step of a run has got, by index.
pub fn stages(run: &RunView, now: Timestamp) -> Vec<Stage> {
    run.steps.iter().map(|step| stage(step, now)).collect()
}

fn stage(step: &StepView, now: Timestamp) -> Stage {
    let for_ms = |item: &ItemView| {
        let running = item.status == StepStatus::Running;
        let since = item.started_at.filter(|_| running)?;
        Some(u64::try_from(now.since(since).as_millis()).unwrap_or(u64::MAX))
    };
    if step.state.status.is_terminal() {
        return Stage::Ended;
    }
    let Some(step_for_ms) = for_ms(&step.state) else { return Stage::Waiting };
    if step.item_counts.is_empty() {
        return Stage::Running(step_for_ms);
    }
    let count = |status: StepStatus| step.item_counts.get(status.as_str()).copied().unwrap_or(0);
    let mut running: Vec<u64> = step.items.iter().filter_map(for_ms).collect();
    // Of a long list not all items are shown: the others are taken to have just started.
    running.resize(running.len().max(count(StepStatus::Running) as usize), 0);
    let waiting = [StepStatus::Pending, StepStatus::Queued, StepStatus::Retrying].map(count);
    Stage::Items(running, waiting.iter().sum())
}
