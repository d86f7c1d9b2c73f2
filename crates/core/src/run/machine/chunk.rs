//! Chunks: items of a map or filter that one attempt carries out, one after another.
//!
//! Each item is a step run as any other: it has its own attempts, value and error. What it shares with the others of its chunk
//! is the worker, its report, and the room that one attempt takes. A chunk is known by the number of its first item.

use super::{Command, ItemEnd, Turn};
use crate::definition::OnItemError;
use crate::plan::index;
use crate::run::error::IllegalEvent;
use crate::run::event::Fact;
use crate::run::state::Run;
use crate::run::status::RunStatus;
use crate::run::work::{Failure, WorkChunk, WorkItem};

impl Run {
    /// Those of a chunk that are under way.
    fn members(&self, chunk: u32) -> Vec<u32> {
        self.chunks.get(&chunk).map_or_else(Vec::new, |members| members.iter().copied().collect())
    }

    /// Whether its attempt is over without having come to it, and the next one has not begun.
    pub(super) fn is_left_over(&self, id: u32) -> bool {
        self.units[id as usize].chunk.is_some_and(|chunk| self.left_over.contains(&chunk))
    }
}

impl Turn<'_> {
    /// Starts an attempt of each of these items, to be carried out together.
    pub(super) fn go_together(&mut self, members: &[u32]) -> Result<(), IllegalEvent> {
        let [first, others @ ..] = members else { return Ok(()) };
        let first = *first;
        let chunk = (!others.is_empty()).then_some(first);
        for id in members.iter().copied() {
            let attempt = self.run.units[id as usize].attempt + 1;
            self.step_start(id, attempt, None, None, chunk)?;
        }
        if chunk.is_none() {
            return self.set_going(first);
        }
        let item = |id: &u32| {
            let id = *id;
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
        let items = others.iter().map(item).collect();
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
        let Some(chunk) = self.reported.take() else { return Ok(()) };
        let left = self.run.members(chunk);
        if self.run.status == RunStatus::Paused && !left.is_empty() {
            self.run.left_over.insert(chunk);
            return Ok(());
        }
        self.go_together(&left)
    }

    /// The run goes on, and with it what chunks have left over meanwhile.
    pub(super) fn resume(&mut self) -> Result<(), IllegalEvent> {
        self.only_from(RunStatus::Paused, Fact::PipelineResume)?;
        for chunk in std::mem::take(&mut self.run.left_over) {
            let left = self.run.members(chunk);
            self.go_together(&left)?;
        }
        Ok(())
    }

    /// Takes up a chunk again whose worker was lost: with the first of its items that is there.
    pub(super) fn recover_chunk(&mut self, id: u32) -> Result<(), IllegalEvent> {
        let members = self.run.units[id as usize].chunk.map(|chunk| self.run.members(chunk));
        match members {
            Some(members) if members.first() == Some(&id) => self.go_together(&members),
            _ => Ok(()),
        }
    }

    /// Stops the attempt of a step run that is under way. That of a chunk is stopped with the last of its items.
    pub(super) fn stop_attempt(&mut self, id: u32) {
        let unit = &self.run.units[id as usize];
        let (step_run, attempt) = match unit.chunk {
            None => (id, unit.attempt),
            Some(_) if self.run.is_left_over(id) => return,
            Some(chunk)
                if self.reported == Some(chunk)
                    || self.run.chunks.get(&chunk).is_none_or(|members| members.len() != 1) =>
            {
                return;
            }
            Some(chunk) => (chunk, self.run.units[chunk as usize].attempt),
        };
        self.effects.commands.push(Command::Cancel { step_run, attempt });
    }

    /// How many items the attempt of a step run carries out.
    pub(super) fn chunk_size(&self, id: u32) -> u32 {
        let chunk = self.run.units[id as usize].chunk;
        chunk.and_then(|chunk| self.run.chunks.get(&chunk)).map_or(1, |members| index(members.len()))
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
