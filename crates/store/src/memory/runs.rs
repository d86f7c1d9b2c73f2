//! The runs of one part of a store in memory.

use std::collections::{BTreeSet, HashMap};
use std::ops::Bound;
use std::sync::Arc;

use taskiq_flow_core::by_run::ByRun;
use taskiq_flow_core::id::{PipelineId, RunId};
use taskiq_flow_core::run::{Event, RunStatus};
use taskiq_flow_core::time::Timestamp;
use uuid::Uuid;

use super::packed::Packed;
use super::statistics::Counted;
use crate::codec::Unreadable;
use crate::error::WriteError;
use crate::records::{Append, Beside, Fence, RunFilter, RunRecord, RunRow, RunSummary, StepLog};
use crate::rules::{FIRST_TOKEN, Span, check_fence, follow, id_range};

/// Some of the runs, with all that belongs to each alone.
#[derive(Default)]
pub(super) struct Part {
    runs: ByRun<Kept>,
    by_pipeline: HashMap<PipelineId, BTreeSet<RunId>>,
    unfinished: BTreeSet<RunId>,
    /// Where runs are packed.
    scratch: Vec<u8>,
}

/// A run with all that belongs to it.
pub(super) enum Kept {
    Loose(Box<Loose>),
    /// It has ended.
    Packed(Packed),
}

/// A run as it is while it is driven.
pub(super) struct Loose {
    pub(super) record: Box<RunRecord>,
    pub(super) fence: Fence,
    /// Whether its driver is taken to be alive.
    pub(super) held: bool,
    /// What the writes brought, one after another.
    pub(super) events: Vec<Arc<Vec<Event>>>,
    pub(super) logs: Vec<StepLog>,
}

/// A run that was taken out of everything, as far as others have to know.
pub(super) struct Gone {
    pub(super) run_id: RunId,
    pub(super) pipeline_id: PipelineId,
    pub(super) version: u32,
    pub(super) key: Option<String>,
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
        self.runs.insert(id, Kept::Loose(Box::new(Loose { record, fence, held: true, events, logs })));
        fence
    }

    pub(super) fn append(&mut self, append: Append) -> Result<Rest, WriteError> {
        let Append { run_id, fence, events, logs, summary, durations: _, beside } = append;
        let kept = self.runs.get_mut(&run_id).ok_or(WriteError::NotFound { run_id })?;
        // Few write to a run that has ended.
        let loose = kept.loosen(run_id)?;
        let ended = loose.append(run_id, fence, events, logs, summary);
        if loose.record.summary.status.is_terminal()
            && let Some(packed) = Packed::of(loose, &mut self.scratch)
        {
            *kept = Kept::Packed(packed);
        }
        let ended = ended?;
        match ended {
            (None, Some(_)) => _ = self.unfinished.remove(&run_id),
            (Some(_), None) => _ = self.unfinished.insert(run_id),
            _ => {}
        }
        Ok(Rest { ended, beside })
    }

    /// Takes a run out of everything.
    pub(super) fn remove(&mut self, id: RunId) -> Option<Gone> {
        let gone = self.runs.remove(&id)?.gone(id);
        self.unfinished.remove(&id);
        if let Some(ids) = self.by_pipeline.get_mut(&gone.pipeline_id) {
            ids.remove(&id);
            if ids.is_empty() {
                self.by_pipeline.remove(&gone.pipeline_id);
            }
        }
        Some(gone)
    }

    pub(super) fn void_leases_of(&mut self, is_meant: impl Fn(Uuid) -> bool) {
        for id in &self.unfinished {
            if let Some(Kept::Loose(loose)) = self.runs.get_mut(id)
                && is_meant(loose.fence.owner)
            {
                loose.held = false;
            }
        }
    }

    /// The first unfinished runs that nobody drives.
    pub(super) fn free(&self, limit: usize) -> Vec<RunId> {
        let free = |id: &&RunId| matches!(self.runs.get(*id), Some(Kept::Loose(loose)) if !loose.held);
        self.unfinished.iter().filter(free).take(limit).copied().collect()
    }

    /// Gives a run that nobody drives to `owner`.
    pub(super) fn claim(&mut self, id: RunId, owner: Uuid) -> Option<(RunRecord, Fence)> {
        let Kept::Loose(loose) = self.runs.get_mut(&id)? else { return None };
        if loose.held {
            return None;
        }
        loose.held = true;
        loose.fence = Fence { owner, token: loose.fence.token + 1 };
        Some((RunRecord::clone(&loose.record), loose.fence))
    }

    /// The newest runs that a filter lets through.
    pub(super) fn list(&self, filter: &RunFilter) -> Result<Vec<RunRow>, Unreadable> {
        let (since, end) = id_range(filter);
        if end.is_some_and(|end| end <= since) {
            return Ok(Vec::new());
        }
        let range = (Bound::Included(since), end.map_or(Bound::Unbounded, Bound::Excluded));
        let newest = |ids: &BTreeSet<RunId>| -> Result<Vec<RunId>, Unreadable> {
            let mut newest = Vec::new();
            for (id, kept) in ids.range(range).rev().filter_map(|id| Some((*id, self.runs.get(id)?))) {
                if newest.len() >= filter.limit {
                    break;
                }
                if filter.status.is_none() || filter.status == Some(kept.status(id)?) {
                    newest.push(id);
                }
            }
            Ok(newest)
        };
        let ids: Vec<Vec<RunId>> = match (&filter.pipelines, filter.status) {
            (Some(pipelines), _) => {
                let chosen: BTreeSet<&PipelineId> = pipelines.iter().collect();
                let chosen = chosen.into_iter().filter_map(|id| self.by_pipeline.get(id));
                chosen.map(newest).collect::<Result<_, _>>()?
            }
            (None, Some(status)) if !status.is_terminal() => vec![newest(&self.unfinished)?],
            (None, _) => self.by_pipeline.values().map(newest).collect::<Result<_, _>>()?,
        };
        let mut ids = ids.concat();
        ids.sort_unstable_by(|a, b| b.cmp(a));
        ids.truncate(filter.limit);
        ids.iter().filter_map(|id| Some((id, self.runs.get(id)?))).map(|(id, kept)| kept.row(*id)).collect()
    }

    /// The runs of a pipeline that the times of a filter let through.
    pub(super) fn counted(
        &self,
        pipeline: &PipelineId,
        filter: &RunFilter,
    ) -> Result<Vec<Counted>, Unreadable> {
        let (first, end) = id_range(filter);
        if end.is_some_and(|end| end <= first) {
            return Ok(Vec::new());
        }
        let range = (Bound::Included(first), end.map_or(Bound::Unbounded, Bound::Excluded));
        let of_pipeline = self.by_pipeline.get(pipeline).into_iter();
        let runs =
            of_pipeline.flat_map(|ids| ids.range(range)).filter_map(|id| Some((id, self.runs.get(id)?)));
        runs.map(|(id, kept)| match kept {
            Kept::Loose(loose) => Ok(Counted::from(&*loose.record)),
            Kept::Packed(packed) => packed.counted(*id),
        })
        .collect()
    }

    /// The newest run of a pipeline.
    pub(super) fn last_of(&self, pipeline: &PipelineId) -> Result<Option<RunRow>, Unreadable> {
        let id = self.by_pipeline.get(pipeline).and_then(BTreeSet::last);
        id.and_then(|id| Some(self.runs.get(id)?.row(*id))).transpose()
    }
}

impl Kept {
    /// The run as it is while it is driven.
    fn loosen(&mut self, id: RunId) -> Result<&mut Loose, WriteError> {
        if let Self::Packed(packed) = self {
            // It was packed by this process.
            let loose = packed.unpacked(id).map_err(|_| WriteError::NotFound { run_id: id })?;
            *self = Self::Loose(Box::new(loose));
        }
        match self {
            Self::Loose(loose) => Ok(loose),
            Self::Packed(_) => Err(WriteError::NotFound { run_id: id }),
        }
    }

    pub(super) fn pipeline_id(&self) -> &PipelineId {
        match self {
            Self::Loose(loose) => &loose.record.pipeline_id,
            Self::Packed(packed) => &packed.pipeline_id,
        }
    }

    fn status(&self, id: RunId) -> Result<RunStatus, Unreadable> {
        match self {
            Self::Loose(loose) => Ok(loose.record.summary.status),
            Self::Packed(packed) => packed.head(id).map(|head| head.status),
        }
    }

    fn row(&self, id: RunId) -> Result<RunRow, Unreadable> {
        match self {
            Self::Loose(loose) => Ok(RunRow::from(&*loose.record)),
            Self::Packed(packed) => packed.row(id),
        }
    }

    pub(super) fn record(&self, id: RunId) -> Result<RunRecord, Unreadable> {
        match self {
            Self::Loose(loose) => Ok(RunRecord::clone(&loose.record)),
            Self::Packed(packed) => packed.record(id),
        }
    }

    pub(super) fn logs(&self, id: RunId) -> Result<Vec<StepLog>, Unreadable> {
        match self {
            Self::Loose(loose) => Ok(loose.logs.clone()),
            Self::Packed(packed) => packed.logs(id),
        }
    }

    pub(super) fn events(&self, id: RunId, after_seq: u64, limit: usize) -> Result<Vec<Event>, Unreadable> {
        match self {
            Self::Loose(loose) => Ok(loose.events(after_seq, limit)),
            Self::Packed(packed) => packed.events(id, after_seq, limit),
        }
    }

    fn gone(self, run_id: RunId) -> Gone {
        match self {
            Self::Loose(loose) => {
                let RunRecord { pipeline_id, version, idempotency_key: key, .. } = *loose.record;
                Gone { run_id, pipeline_id, version, key }
            }
            Self::Packed(packed) => {
                let head = packed.head(run_id).ok();
                let (version, key) = head.map_or((0, None), |head| (head.version, head.key));
                Gone { run_id, pipeline_id: packed.pipeline_id, version, key }
            }
        }
    }
}

impl Loose {
    /// When the run had ended before, and when it has ended now. One that is refused changes nothing.
    fn append(
        &mut self,
        run_id: RunId,
        fence: Fence,
        events: Arc<Vec<Event>>,
        logs: Vec<StepLog>,
        summary: RunSummary,
    ) -> Result<(Option<Timestamp>, Option<Timestamp>), WriteError> {
        if !self.held {
            return Err(WriteError::Fenced { run_id });
        }
        check_fence(run_id, self.fence, fence)?;
        self.record.last_seq = follow(run_id, self.record.last_seq, Span::of(&events))?;
        if !events.is_empty() {
            self.events.push(events);
        }
        self.logs.extend(logs);
        let ended = (ended_at(&self.record.summary), ended_at(&summary));
        self.record.summary = summary;
        Ok(ended)
    }

    fn events(&self, after_seq: u64, limit: usize) -> Vec<Event> {
        let is_seen = |written: &Arc<Vec<Event>>| written.last().is_none_or(|last| last.seq <= after_seq);
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

#[cfg(test)]
mod tests {
    use taskiq_flow_core::run::RunStatus;

    use super::*;
    use crate::conformance::{append, ending, record};

    #[test]
    fn an_ended_run_stays_packed_whoever_writes_to_it() {
        let (mut part, run, owner) = (Part::default(), record("p", 0), Uuid::now_v7());
        let id = run.run_id;
        let fence = part.create(Box::new(run), owner);
        let is_packed = |part: &Part| matches!(part.get(id), Some(Kept::Packed(_)));
        assert!(!is_packed(&part));
        assert!(part.append(ending(id, fence, 1, RunStatus::Completed)).is_ok() && is_packed(&part));
        let stranger = Fence { owner: Uuid::now_v7(), ..fence };
        assert!(matches!(part.append(append(id, stranger, [2])), Err(WriteError::Fenced { .. })));
        assert!(is_packed(&part), "as it was");
        assert!(matches!(part.append(ending(id, fence, 9, RunStatus::Failed)), Err(WriteError::Gap { .. })));
        assert!(is_packed(&part));
        assert!(part.append(ending(id, fence, 2, RunStatus::Failed)).is_ok() && is_packed(&part));
    }
}
