//! Chunks: items of a map or filter that one attempt carries out, one after another.
//!
//! Each item is a step run as any other: it has its own attempts, value and error. What it shares with the others of its chunk
//! is the worker, its report, and the room that one attempt takes. A chunk is known by the number of its first item.

use std::ops::Range;

use super::{Command, ItemEnd, Turn};
use crate::definition::OnItemError;
use crate::plan::index;
use crate::run::error::IllegalEvent;
use crate::run::state::Run;
use crate::run::work::{Failure, WorkChunk, WorkItem};

impl Run {
    /// The step runs that start together with the one that is next in line: those of the same map behind it that are in
    /// line too, up to the size of a chunk.
    pub(super) fn ready_chunk(&self, id: u32) -> Range<u32> {
        let mut last = id + 1;
        let parent = self.units[id as usize].parent;
        let Some((parent, items)) =
            parent.and_then(|parent| Some((parent, self.units[parent as usize].items.as_ref()?)))
        else {
            return id..last;
        };
        let end = id.saturating_add(self.chunk_of(parent)).min(items.first + items.queued);
        while last < end && self.units[last as usize].in_line.is_some() {
            last += 1;
        }
        id..last
    }

    /// Those of a chunk that are under way, from the one `first` on: they follow each other.
    fn members_from(&self, first: u32, chunk: u32) -> Range<u32> {
        let units = self.units.iter().skip(first as usize);
        first..first + index(units.take_while(|unit| unit.chunk == Some(chunk)).count())
    }

    /// Those of a chunk that are under way.
    fn members(&self, chunk: u32) -> Range<u32> {
        if !self.chunks.contains_key(&chunk) {
            return chunk..chunk;
        }
        let units = self.units.iter().skip(chunk as usize);
        let first = chunk + index(units.take_while(|unit| unit.chunk != Some(chunk)).count());
        self.members_from(first, chunk)
    }
}

impl Turn<'_> {
    /// Starts an attempt of each of these items, to be carried out together.
    pub(super) fn go_together(&mut self, members: Range<u32>) -> Result<(), IllegalEvent> {
        let first = members.start;
        let chunk = (members.len() > 1).then_some(first);
        for id in members.clone() {
            let attempt = self.run.units[id as usize].attempt + 1;
            self.step_start(id, attempt, None, None, chunk)?;
        }
        if chunk.is_none() {
            return self.set_going(first);
        }
        let item = |id: u32| {
            let unit = &self.run.units[id as usize];
            WorkItem {
                step_run: id,
                attempt: unit.attempt,
                failures: unit.failures,
                step: self.run.name(id),
                inputs: self.run.inputs(id),
            }
        };
        let rule = self.run.units[first as usize].parent.map(|parent| self.run.item_rule(parent));
        let items = members.skip(1).map(item).collect();
        let chunk = Box::new(WorkChunk { items, fail_fast: rule == Some(OnItemError::Fail) });
        let mut work = Box::new(self.work(first));
        work.chunk = Some(chunk);
        self.effects.commands.push(Command::Dispatch(work));
        Ok(())
    }

    /// An attempt that carried out several items has ended.
    pub(super) fn chunk_finished(&mut self, ended: Vec<ItemEnd>) -> Result<(), IllegalEvent> {
        let current = |end: &ItemEnd| {
            let unit = self.run.units.get(end.step_run as usize)?;
            unit.chunk.filter(|_| unit.attempt == end.attempt)
        };
        self.reported = ended.iter().find_map(current);
        for ItemEnd { step_run, attempt, outcome, duration } in ended {
            self.finished(step_run, attempt, outcome, duration)?;
        }
        // What it has not come to is wanted no more where its map has failed. Otherwise it is begun anew.
        let left = self.reported.take().map(|chunk| self.run.members(chunk)).unwrap_or_default();
        if left.is_empty() { Ok(()) } else { self.go_together(left) }
    }

    /// Takes up a chunk again whose worker was lost: with the first of its items that is there.
    pub(super) fn recover_chunk(&mut self, id: u32) -> Result<(), IllegalEvent> {
        let of = |id: u32| self.run.units.get(id as usize).and_then(|unit| unit.chunk);
        match of(id) {
            Some(chunk) if id.checked_sub(1).and_then(of) != Some(chunk) => {
                let members = self.run.members_from(id, chunk);
                self.go_together(members)
            }
            _ => Ok(()),
        }
    }

    /// Stops the attempt of a step run that is under way. That of a chunk is stopped with the last of its items.
    pub(super) fn stop_attempt(&mut self, id: u32) {
        let unit = &self.run.units[id as usize];
        let (step_run, attempt) = match unit.chunk {
            None => (id, unit.attempt),
            Some(chunk) if self.reported == Some(chunk) || self.run.chunks.get(&chunk) != Some(&1) => return,
            Some(chunk) => (chunk, self.run.units[chunk as usize].attempt),
        };
        self.effects.commands.push(Command::Cancel { step_run, attempt });
    }

    /// How many items the attempt of a step run carries out.
    pub(super) fn chunk_size(&self, id: u32) -> u32 {
        let chunk = self.run.units[id as usize].chunk;
        chunk.and_then(|chunk| self.run.chunks.get(&chunk)).copied().unwrap_or(1)
    }

    /// An attempt has not ended in time, with all that it carries out.
    pub(super) fn give_up(&mut self, id: u32, failure: &Failure) -> Result<(), IllegalEvent> {
        let unit = &self.run.units[id as usize];
        let (attempt, took) = (unit.attempt, self.now.since(unit.started_at.unwrap_or(self.now)));
        self.effects.commands.push(Command::Cancel { step_run: id, attempt });
        let Some(chunk) = unit.chunk else { return self.fail(id, failure, took) };
        self.reported = Some(chunk);
        for member in self.run.members(chunk) {
            // The failure of one may have stopped the others.
            if self.run.units[member as usize].chunk == Some(chunk) {
                self.fail(member, failure, took)?;
            }
        }
        self.reported = None;
        Ok(())
    }
}
