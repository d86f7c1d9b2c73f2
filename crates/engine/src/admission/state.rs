//! Who holds a place, and who waits for one.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use taskiq_flow_core::definition::OnFull;
use taskiq_flow_core::id::{PipelineId, RunId};

use super::{Candidate, Limit, LimitKey, Rank};
use crate::shares::Shares;

#[derive(Debug)]
pub(super) struct State {
    /// Runs under way at once, those apart that take no room.
    room: usize,
    under_way: usize,
    /// Whether anything may start.
    open: bool,
    /// Those that wait, wherever they do, by pipeline; those apart that take no room.
    queued: Shares<PipelineId>,
    /// Those that wait for the engine's room.
    line: BTreeSet<(Rank, RunId)>,
    pools: HashMap<LimitKey, Pool>,
    waiting: HashMap<RunId, Waiting>,
}

/// The runs that share a limit.
#[derive(Debug, Default)]
struct Pool {
    under_way: u32,
    line: BTreeSet<(Rank, RunId)>,
    /// All that are under way or wait, wherever they do; the flag: it has been told to make way.
    members: BTreeMap<RunId, bool>,
    /// How many have been told.
    leaving: usize,
}

/// A run that waits. It stands in the line of one limit, which was full when it was last looked at.
#[derive(Debug)]
struct Waiting {
    pipeline: PipelineId,
    rank: Rank,
    limits: Arc<[Limit]>,
    takes_room: bool,
    shard: usize,
    line: Line,
}

/// A line that a run can stand in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Line {
    /// That of the engine's room.
    Room,
    /// That of one of its limits.
    Limit(usize),
}

impl State {
    pub(super) fn new(room: usize, queue: usize) -> Self {
        Self {
            room,
            under_way: 0,
            open: false,
            queued: Shares::new(queue as u64),
            line: BTreeSet::new(),
            pools: HashMap::new(),
            waiting: HashMap::new(),
        }
    }

    /// The limit that says that the candidate is not to be, since it is full.
    pub(super) fn skips<'a>(&self, candidate: &'a Candidate) -> Option<&'a Limit> {
        let full = |limit: &&Limit| {
            let staying = || self.pools.get(&limit.key).map_or(0, Pool::staying);
            limit.on_full == OnFull::Skip && staying() >= limit.most as usize
        };
        candidate.limits.iter().find(full)
    }

    /// Gives the candidate a place, or a place in line; whether it may start. An error: as many as may wait already,
    /// of all pipelines or of its own.
    pub(super) fn enter(&mut self, candidate: &Candidate) -> Result<bool, ()> {
        if candidate.takes_room
            && !self.queued.has_room(&candidate.pipeline, 1)
            && self.full(&candidate.limits, candidate.takes_room).is_some()
        {
            return Err(());
        }
        Ok(self.enter_accepted(candidate))
    }

    /// As [`State::enter`], however many wait.
    pub(super) fn enter_accepted(&mut self, candidate: &Candidate) -> bool {
        let Some(line) = self.full(&candidate.limits, candidate.takes_room) else {
            self.take(candidate);
            return true;
        };
        for limit in &*candidate.limits {
            self.pool(&limit.key).members.insert(candidate.run_id, false);
        }
        let waiting = Waiting {
            pipeline: candidate.pipeline.clone(),
            rank: candidate.rank,
            limits: Arc::clone(&candidate.limits),
            takes_room: candidate.takes_room,
            shard: candidate.shard,
            line,
        };
        self.queued.add(&waiting.pipeline, u64::from(waiting.takes_room));
        self.stand(candidate.run_id, &waiting);
        self.waiting.insert(candidate.run_id, waiting);
        false
    }

    /// Gives the candidate its places, whether or not they are free.
    pub(super) fn take(&mut self, candidate: &Candidate) {
        self.under_way += usize::from(candidate.takes_room);
        for limit in &*candidate.limits {
            let pool = self.pool(&limit.key);
            pool.members.insert(candidate.run_id, false);
            pool.under_way += 1;
        }
    }

    /// Lets all in that have room, best rank first.
    pub(super) fn open(&mut self) -> Vec<(usize, RunId)> {
        self.open = true;
        let mut admitted = Vec::new();
        for (_, run_id) in std::mem::take(&mut self.line) {
            admitted.extend(self.try_again(run_id));
        }
        admitted
    }

    pub(super) fn close(&mut self) {
        self.open = false;
    }

    /// The oldest runs that make way for one that has entered.
    pub(super) fn superseded(&mut self, run_id: RunId, limits: &[Limit]) -> Vec<RunId> {
        let mut superseded = Vec::new();
        for limit in limits.iter().filter(|limit| limit.on_full == OnFull::CancelOldest) {
            let pool = self.pool(&limit.key);
            let excess = pool.staying().saturating_sub(limit.most as usize);
            let older = pool.members.range_mut(..run_id).filter(|(_, leaves)| !**leaves);
            for (run_id, leaves) in older.take(excess) {
                *leaves = true;
                pool.leaving += 1;
                superseded.push(*run_id);
            }
        }
        superseded
    }

    /// Frees the places of a run, or takes it out of its line. The runs that may start now, with their shards.
    pub(super) fn leave(&mut self, run_id: RunId, limits: &[Limit], takes_room: bool) -> Vec<(usize, RunId)> {
        let waited = self.waiting.remove(&run_id);
        if let Some(waiting) = &waited {
            self.queued.remove(&waiting.pipeline, u64::from(waiting.takes_room));
            self.line(waiting.line, &waiting.limits).remove(&(waiting.rank, run_id));
        } else {
            self.under_way -= usize::from(takes_room);
        }
        for limit in limits {
            let pool = self.pool(&limit.key);
            pool.leaving -= usize::from(pool.members.remove(&run_id) == Some(true));
            pool.under_way -= u32::from(waited.is_none());
        }
        let admitted = if self.open { self.refill(limits, takes_room) } else { Vec::new() };
        for limit in limits {
            if self.pools.get(&limit.key).is_some_and(|pool| pool.members.is_empty()) {
                self.pools.remove(&limit.key);
            }
        }
        admitted
    }

    pub(super) fn waits_for(&self, run_id: RunId) -> Option<String> {
        let waiting = self.waiting.get(&run_id)?;
        Some(match waiting.line {
            Line::Room => format!("the server has at most {} runs under way at once", self.room),
            Line::Limit(place) => waiting.limits.get(place)?.describe(),
        })
    }

    /// Lets in who waits for what has become free, best rank first. Each round takes one out of a line with room:
    /// it starts, or it stands in the line of another limit, which is full.
    fn refill(&mut self, limits: &[Limit], takes_room: bool) -> Vec<(usize, RunId)> {
        let mut admitted = Vec::new();
        loop {
            let first = |line: &BTreeSet<(Rank, RunId)>| line.first().copied();
            let room = if takes_room && self.under_way < self.room { first(&self.line) } else { None };
            let lines = limits.iter().filter_map(|limit| {
                let pool = self.pools.get(&limit.key)?;
                let next = first(&pool.line)?;
                // A later version of the pipeline may say another number: that of the run that waits counts.
                let waiting = self.waiting.get(&next.1)?;
                let most = waiting.limits.iter().find(|its| its.key == limit.key)?.most;
                (pool.under_way < most).then_some(next)
            });
            let Some((_, run_id)) = room.into_iter().chain(lines).min() else { return admitted };
            let Some(waiting) = self.waiting.get(&run_id) else { return admitted };
            let (rank, line) = (waiting.rank, waiting.line);
            let limits = Arc::clone(&waiting.limits);
            self.line(line, &limits).remove(&(rank, run_id));
            admitted.extend(self.try_again(run_id));
        }
    }

    /// Starts a run that waited and stands in no line now, or puts it in the line of what is full; the shard of one
    /// that starts.
    fn try_again(&mut self, run_id: RunId) -> Option<(usize, RunId)> {
        let mut waiting = self.waiting.remove(&run_id)?;
        if let Some(line) = self.full(&waiting.limits, waiting.takes_room) {
            waiting.line = line;
            self.stand(run_id, &waiting);
            self.waiting.insert(run_id, waiting);
            return None;
        }
        self.queued.remove(&waiting.pipeline, u64::from(waiting.takes_room));
        self.under_way += usize::from(waiting.takes_room);
        for limit in &*waiting.limits {
            self.pool(&limit.key).under_way += 1;
        }
        Some((waiting.shard, run_id))
    }

    /// The first limit without room.
    fn full(&self, limits: &[Limit], takes_room: bool) -> Option<Line> {
        if !self.open {
            return Some(Line::Room);
        }
        let full =
            |limit: &Limit| self.pools.get(&limit.key).is_some_and(|pool| pool.under_way >= limit.most);
        let limit = limits.iter().position(full).map(Line::Limit);
        limit.or((takes_room && self.under_way >= self.room).then_some(Line::Room))
    }

    fn stand(&mut self, run_id: RunId, waiting: &Waiting) {
        self.line(waiting.line, &waiting.limits).insert((waiting.rank, run_id));
    }

    fn line(&mut self, line: Line, limits: &[Limit]) -> &mut BTreeSet<(Rank, RunId)> {
        match line {
            Line::Limit(place) if place < limits.len() => &mut self.pool(&limits[place].key).line,
            _ => &mut self.line,
        }
    }

    fn pool(&mut self, key: &LimitKey) -> &mut Pool {
        self.pools.entry(key.clone()).or_default()
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.under_way == 0
            && self.line.is_empty()
            && self.pools.is_empty()
            && self.waiting.is_empty()
            && self.queued.taken() == 0
    }

    #[cfg(test)]
    pub(super) fn under_way(&self) -> usize {
        self.under_way
    }
}

impl Pool {
    /// How many there are that have not been told to make way.
    fn staying(&self) -> usize {
        self.members.len() - self.leaving
    }
}
