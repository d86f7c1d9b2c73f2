//! The items of composite steps: which failures they put up with, and how they are shown.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;
use serde_json::{Value, json};

use super::state::{Run, Unit};
use super::status::StepStatus;
use super::view::ItemView;
use crate::definition::{OnItemError, TaskKind};

/// The longest name that is looked for, in bytes. The loader's names have at most 128, and nest 48 levels deep at most.
const LONGEST_NAME: usize = 8 * 1024;

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

    /// The step run of that name. A name is followed from its front, since that is where those of the plan are: names of
    /// tasks may hold anything, so several may fit, the longest of which counts.
    fn find(&self, name: &str) -> Option<u32> {
        if name.len() > LONGEST_NAME {
            return None;
        }
        let steps = self.plan.steps().iter().zip(0..);
        let begins = steps.filter_map(|(step, id)| Some((id, name.strip_prefix(&*step.name)?)));
        // Ways to go on: a step run, and what is left of the name. There are at most as many as the plan has bodies.
        let mut ways: Vec<(u32, &str)> = longest_last(begins);
        while let Some((id, rest)) = ways.pop() {
            if rest.is_empty() {
                return Some(id);
            }
            if let Some((place, rest)) = place_in(rest) {
                ways.extend(self.item(id, place).map(|item| (item, rest)));
            } else if let Some(rest) = rest.strip_prefix('.')
                && let TaskKind::Group(members) = &self.body(id).kind
            {
                let members = members.iter().zip(0..);
                ways.extend(longest_last(members.filter_map(|(member, place)| {
                    let rest = rest.strip_prefix(member.name.as_deref()?)?;
                    Some((self.item(id, place)?, rest))
                })));
            }
        }
        None
    }

    fn item(&self, composite: u32, place: u32) -> Option<u32> {
        let items = self.units[composite as usize].items.as_ref()?;
        (place < items.count).then(|| items.first + place)
    }
}

/// Splits `[3].name` into 3 and `.name`.
fn place_in(rest: &str) -> Option<(u32, &str)> {
    let (place, rest) = rest.strip_prefix('[')?.split_once(']')?;
    Some((place.parse().ok()?, rest))
}

/// Ways by a name, the one that the longest of the names has brought last.
fn longest_last<'a>(ways: impl Iterator<Item = (u32, &'a str)>) -> Vec<(u32, &'a str)> {
    let mut ways: Vec<_> = ways.collect();
    ways.sort_by_key(|(_, rest)| std::cmp::Reverse(rest.len()));
    ways
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
