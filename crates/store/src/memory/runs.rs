//! The runs of one part of a store in memory.

use std::collections::{BTreeSet, HashMap};
use std::ops::Bound;
use std::sync::Arc;

use taskiq_flow_core::by_run::ByRun;
use taskiq_flow_core::id::{PipelineId, RunId};
use taskiq_flow_core::run::Event;
use taskiq_flow_core::time::Timestamp;
use uuid::Uuid;

use super::statistics::Counted;
use crate::error::WriteError;
use crate::records::{Append, Beside, Fence, RunFilter, RunRecord, RunRow, RunSummary, StepLog};
use crate::rules::{FIRST_TOKEN, Span, check_fence, follow, id_range};

/// Some of the runs, with all that belongs to each alone.
#[derive(Default)]
pub(super) struct Part {
    runs: ByRun<Kept>,
    by_pipeline: HashMap<PipelineId, BTreeSet<RunId>>,
    unfinished: BTreeSet<RunId>,
}

/// A run with all that belongs to it.
pub(super) struct Kept {
    pub(super) record: Box<RunRecord>,
    fence: Fence,
    /// Whether its driver is taken to be alive.
    held: bool,
    /// What the writes brought, one after another.
    events: Vec<Arc<[Event]>>,
    pub(super) logs: Vec<StepLog>,
}

/// What a write brings that is not of its run alone.
pub(super) struct Rest {
    /// When the run had ended before this write, and when it has ended now.
    pub(super) ended: (Option<Timestamp>, Option<Timestamp>),
    pub(super) beside: Beside,
}

impl Part {
    pub(super) fn len(&self) -> usize {
        self.runs.len()
    }

    pub(super) fn get(&self, id: RunId) -> Option<&Kept> {
        self.runs.get(&id)
    }

    pub(super) fn create(&mut self, record: Box<RunRecord>, owner: Uuid) -> Fence {
        let id = record.run_id;
        if let Some(ids) = self.by_pipeline.get_mut(&record.pipeline_id) {
            ids.insert(id);
        } else {
            self.by_pipeline.insert(record.pipeline_id.clone(), BTreeSet::from([id]));
        }
        if !record.summary.status.is_terminal() {
            self.unfinished.insert(id);
        }
        let fence = Fence { owner, token: FIRST_TOKEN };
        let (events, logs) = (Vec::new(), Vec::new());
        self.runs.insert(id, Kept { record, fence, held: true, events, logs });
        fence
    }

    pub(super) fn append(&mut self, append: Append) -> Result<Rest, WriteError> {
        let Append { run_id, fence, events, logs, summary, durations: _, beside } = append;
        let kept = self.runs.get_mut(&run_id).ok_or(WriteError::NotFound { run_id })?;
        if !kept.held {
            return Err(WriteError::Fenced { run_id });
        }
        check_fence(run_id, kept.fence, fence)?;
        kept.record.last_seq = follow(run_id, kept.record.last_seq, Span::of(&events))?;
        if !events.is_empty() {
            kept.events.push(events);
        }
        kept.logs.extend(logs);
        let ended = (ended_at(&kept.record.summary), ended_at(&summary));
        kept.record.summary = summary;
        match ended {
            (None, Some(_)) => _ = self.unfinished.remove(&run_id),
            (Some(_), None) => _ = self.unfinished.insert(run_id),
            _ => {}
        }
        Ok(Rest { ended, beside })
    }

    /// Takes a run out of everything.
    pub(super) fn remove(&mut self, id: RunId) -> Option<Kept> {
        let kept = self.runs.remove(&id)?;
        self.unfinished.remove(&id);
        if let Some(ids) = self.by_pipeline.get_mut(&kept.record.pipeline_id) {
            ids.remove(&id);
            if ids.is_empty() {
                self.by_pipeline.remove(&kept.record.pipeline_id);
            }
        }
        Some(kept)
    }

    pub(super) fn void_leases_of(&mut self, is_meant: impl Fn(Uuid) -> bool) {
        for id in &self.unfinished {
            if let Some(kept) = self.runs.get_mut(id).filter(|kept| is_meant(kept.fence.owner)) {
                kept.held = false;
            }
        }
    }

    /// The first unfinished runs that nobody drives.
    pub(super) fn free(&self, limit: usize) -> Vec<RunId> {
        let free = |id: &&RunId| self.runs.get(*id).is_some_and(|kept| !kept.held);
        self.unfinished.iter().filter(free).take(limit).copied().collect()
    }

    /// Gives a run that nobody drives to `owner`.
    pub(super) fn claim(&mut self, id: RunId, owner: Uuid) -> Option<(RunRecord, Fence)> {
        let kept = self.runs.get_mut(&id).filter(|kept| !kept.held)?;
        kept.held = true;
        kept.fence = Fence { owner, token: kept.fence.token + 1 };
        Some((RunRecord::clone(&kept.record), kept.fence))
    }

    /// The newest runs that a filter lets through.
    pub(super) fn list(&self, filter: &RunFilter) -> Vec<RunRow> {
        let (since, end) = id_range(filter);
        if end.is_some_and(|end| end <= since) {
            return Vec::new();
        }
        let range = (Bound::Included(since), end.map_or(Bound::Unbounded, Bound::Excluded));
        let passes = |kept: &&Kept| filter.status.is_none_or(|status| kept.record.summary.status == status);
        let newest = |ids: &BTreeSet<RunId>| -> Vec<RunId> {
            let newest = ids.range(range).rev().filter_map(|id| self.runs.get(id));
            newest.filter(passes).take(filter.limit).map(|kept| kept.record.run_id).collect()
        };
        let mut ids: Vec<RunId> = match (&filter.pipelines, filter.status) {
            (Some(pipelines), _) => {
                let chosen: BTreeSet<&PipelineId> = pipelines.iter().collect();
                let chosen = chosen.into_iter().filter_map(|id| self.by_pipeline.get(id));
                chosen.flat_map(newest).collect()
            }
            (None, Some(status)) if !status.is_terminal() => newest(&self.unfinished),
            (None, _) => self.by_pipeline.values().flat_map(newest).collect(),
        };
        ids.sort_unstable_by(|a, b| b.cmp(a));
        ids.truncate(filter.limit);
        ids.iter().filter_map(|id| self.runs.get(id)).map(|kept| RunRow::from(&*kept.record)).collect()
    }

    /// The runs of a pipeline that the times of a filter let through.
    pub(super) fn counted(&self, pipeline: &PipelineId, filter: &RunFilter) -> Vec<Counted> {
        let (first, end) = id_range(filter);
        if end.is_some_and(|end| end <= first) {
            return Vec::new();
        }
        let range = (Bound::Included(first), end.map_or(Bound::Unbounded, Bound::Excluded));
        let of_pipeline = self.by_pipeline.get(pipeline).into_iter();
        let runs = of_pipeline.flat_map(|ids| ids.range(range)).filter_map(|id| self.runs.get(id));
        runs.map(|kept| Counted::from(&*kept.record)).collect()
    }

    /// The newest run of a pipeline.
    pub(super) fn last_of(&self, pipeline: &PipelineId) -> Option<&RunRecord> {
        let id = self.by_pipeline.get(pipeline)?.last()?;
        self.runs.get(id).map(|kept| &*kept.record)
    }
}

impl Kept {
    pub(super) fn events(&self, after_seq: u64, limit: usize) -> Vec<Event> {
        let is_seen = |written: &Arc<[Event]>| written.last().is_none_or(|last| last.seq <= after_seq);
        let wanted = self.events.get(self.events.partition_point(is_seen)..).into_iter().flatten();
        let wanted = wanted.flat_map(|written| written.iter()).filter(|event| event.seq > after_seq);
        wanted.take(limit).cloned().collect()
    }
}

/// By what ended runs are in order; none: it has not ended.
fn ended_at(summary: &RunSummary) -> Option<Timestamp> {
    let end = summary.finished_at.unwrap_or(Timestamp::from_millis(i64::MAX));
    summary.status.is_terminal().then_some(end)
}
