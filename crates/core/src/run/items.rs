//! The items of composite steps: which failures they put up with, and how they are shown.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;
use serde_json::{Value, json};

use super::state::{Run, Unit};
use super::status::StepStatus;
use super::view::ItemView;
use crate::definition::{OnItemError, TaskKind};

/// An item with its value.
#[derive(Debug, Clone, Serialize)]
pub struct ItemDetail {
    /// The name of its step run, such as `square[3]`.
    #[serde(rename = "step")]
    pub name: Arc<str>,
    /// What its attempts came to.
    #[serde(flatten)]
    pub state: ItemView,
    /// Its value, where it has one.
    pub result: Option<Arc<Value>>,
}

/// Which items of a step are wanted.
#[derive(Debug, Clone, Copy, Default)]
pub struct ItemFilter {
    /// Only items in this state.
    pub status: Option<StepStatus>,
    /// Only items behind this place.
    pub after: Option<u32>,
    /// At most so many.
    pub limit: usize,
}

/// A page of the items of a step.
#[derive(Debug, Clone, Default)]
pub struct ItemPage {
    /// In the order of the list.
    pub items: Vec<ItemDetail>,
    /// The place to go on behind; none: this was the last page.
    pub next: Option<u32>,
    /// How many items are in which state, of all of them.
    pub counts: BTreeMap<&'static str, u32>,
}

impl Run {
    /// What the failure of an item does to its composite.
    pub(super) fn item_rule(&self, composite: u32) -> OnItemError {
        match &self.body(composite).kind {
            TaskKind::Map(spec) | TaskKind::Filter(spec) => spec.on_item_error,
            _ => OnItemError::Fail,
        }
    }

    /// Whether the failure of a step run stays within a map that puts up with it: it is then no error of the run.
    pub(super) fn is_absorbed(&self, id: u32) -> bool {
        let mut next = self.units[id as usize].parent;
        while let Some(composite) = next {
            if self.item_rule(composite) != OnItemError::Fail {
                return true;
            }
            next = self.units[composite as usize].parent;
        }
        false
    }

    /// The items of a composite that has started.
    pub(super) fn items_of(&self, unit: &Unit) -> &[Unit] {
        let Some(items) = &unit.items else { return &[] };
        &self.units[items.first as usize..][..items.count as usize]
    }

    /// What went wrong with items of a step, in their order: `[{index, error, code}]`.
    pub(super) fn item_errors(&self, step: u32) -> Value {
        let items = self.items_of(&self.units[step as usize]).iter();
        let failed = items.filter(|item| has_failed(item.status));
        failed
            .map(|item| json!({"index": item.place, "error": item.error, "code": item.code.as_deref().unwrap_or("error")}))
            .collect()
    }

    /// A page of the items of a step run, which may itself be an item: `steps`, `steps[3]`, `steps[3].name`. None: the
    /// run has no such step run. One that has not started has no items yet.
    pub fn items(&self, step: &str, filter: ItemFilter) -> Option<ItemPage> {
        let id = self.find(step)?;
        let unit = &self.units[id as usize];
        let items = self.items_of(unit);
        let mut page = ItemPage { counts: counts(items.iter()), ..ItemPage::default() };
        let start = filter.after.map_or(0, |place| place as usize + 1);
        let first = unit.items.as_ref().map_or(0, |items| items.first);
        let wanted = items.iter().skip(start);
        let wanted = wanted.filter(|item| filter.status.is_none_or(|status| item.status == status));
        for item in wanted {
            if page.items.len() == filter.limit {
                page.next = page.items.last().and_then(|item| item.state.index);
                break;
            }
            page.items.push(ItemDetail {
                name: self.name(first + item.place),
                state: self.item_view(item, Some(item.place)),
                result: item.value.clone(),
            });
        }
        Some(page)
    }

    /// The step run of that name.
    fn find(&self, name: &str) -> Option<u32> {
        let steps = self.plan.steps();
        if let Some(step) = steps.iter().position(|step| *step.name == *name) {
            return Some(crate::plan::index(step));
        }
        // Names of tasks may hold anything, so the way into the items is tried from the back.
        if let Some((outer, place)) = name.strip_suffix(']').and_then(|name| name.rsplit_once('[')) {
            let place: u32 = place.parse().ok()?;
            return self.item(self.find(outer)?, place);
        }
        name.rmatch_indices('.').find_map(|(dot, _)| {
            let outer = self.find(&name[..dot])?;
            let TaskKind::Group(members) = &self.body(outer).kind else { return None };
            let member = Some(&name[dot + 1..]);
            let place = members.iter().position(|known| known.name.as_deref() == member)?;
            self.item(outer, crate::plan::index(place))
        })
    }

    fn item(&self, composite: u32, place: u32) -> Option<u32> {
        let items = self.units[composite as usize].items.as_ref()?;
        (place < items.count).then(|| items.first + place)
    }
}

/// Whether an item has come to nothing by its own fault.
pub(super) fn has_failed(status: StepStatus) -> bool {
    matches!(status, StepStatus::Failed | StepStatus::TimedOut)
}

/// How many are in which state; states that none is in are left out.
pub(super) fn counts<'a>(units: impl Iterator<Item = &'a Unit>) -> BTreeMap<&'static str, u32> {
    let mut counts = BTreeMap::new();
    for unit in units {
        *counts.entry(unit.status.as_str()).or_default() += 1;
    }
    counts
}
