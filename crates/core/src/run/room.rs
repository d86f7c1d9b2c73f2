//! Who may start: the lines of those that are ready, and the room that attempts take.
//!
//! The items of a map with chunks stand in a line of their own, in the order of the list. Their map stands in the line of all in
//! their stead, once, while it has the room for another chunk: what is to be repeated comes one by one, and so it goes
//! together again, and takes no more room than the map allows.

use std::collections::BTreeSet;

use super::line::Line;
use super::state::Run;
use super::status::StepStatus;
use crate::definition::{MapSpec, TaskKind};

/// What a map knows of its chunks.
#[derive(Debug, Clone)]
pub(super) struct Chunks {
    /// The most items that one attempt carries out.
    size: u32,
    /// The most attempts that may be under way at once.
    most: u32,
    /// How many are: a chunk is one.
    pub(super) live: u32,
    /// The items that are ready to start.
    pub(super) ready: BTreeSet<u32>,
}

impl Run {
    /// What is to be known of the chunks of a composite that starts, if it has any.
    pub(super) fn chunks_of(&self, composite: u32) -> Option<Box<Chunks>> {
        let plan_body = self.plan_body(composite);
        let (TaskKind::Map(MapSpec { chunk, max_parallel, .. })
        | TaskKind::Filter(MapSpec { chunk, max_parallel, .. })) = &plan_body.body().kind
        else {
            return None;
        };
        let one_attempt = self.plan.traits().get(plan_body.inner.start as usize)?.needs_room;
        chunk.filter(|_| one_attempt).map(|_| {
            let most = max_parallel.map_or(u32::MAX, |most| most.get());
            Box::new(Chunks { size: self.chunk_of(composite), most, live: 0, ready: BTreeSet::new() })
        })
    }

    /// The items that a map begins next, together.
    pub(super) fn next_chunk(&self, composite: u32) -> Vec<u32> {
        let items = self.units[composite as usize].items.as_ref();
        let chunks = items.and_then(|items| items.chunks.as_ref());
        chunks
            .map_or_else(Vec::new, |chunks| chunks.ready.iter().copied().take(chunks.size as usize).collect())
    }

    /// Puts a step run in line to start.
    pub(super) fn ready(&mut self, id: u32) {
        self.unqueue(id);
        let place = match self.map_of(id) {
            Some((parent, chunks)) => {
                chunks.ready.insert(id);
                self.line_up(parent);
                0
            }
            None => self.line_of(id).push(id),
        };
        self.units[id as usize].in_line = Some(place);
    }

    /// Neither stands in line nor looks for a kept value any more.
    pub(super) fn unqueue(&mut self, id: u32) {
        if std::mem::take(&mut self.units[id as usize].looking) {
            self.looking = self.looking.saturating_sub(1);
        }
        let Some(place) = self.units[id as usize].in_line.take() else { return };
        match self.map_of(id) {
            Some((parent, chunks)) => {
                chunks.ready.remove(&id);
                self.line_up(parent);
            }
            None => self.line_of(id).remove(place),
        }
    }

    /// Leaves the line, with the room to start, while a kept value is looked for.
    pub(super) fn look(&mut self, id: u32) {
        self.unqueue(id);
        self.units[id as usize].looking = true;
        self.looking += 1;
    }

    fn line_of(&mut self, id: u32) -> &mut Line {
        // One with items has started: it stands in line for them.
        let works = self.needs_room(id) || self.units[id as usize].items.is_some();
        if works { &mut self.ready_work } else { &mut self.ready_free }
    }

    /// The map that has its items in chunks, of one of them.
    fn map_of(&mut self, id: u32) -> Option<(u32, &mut Chunks)> {
        let parent = self.units[id as usize].parent?;
        let chunks = self.units[parent as usize].items.as_deref_mut()?.chunks.as_deref_mut()?;
        Some((parent, chunks))
    }

    /// Has a map stand in line for its items exactly while it may begin another chunk.
    fn line_up(&mut self, map: u32) {
        let unit = &mut self.units[map as usize];
        let chunks = unit.items.as_ref().and_then(|items| items.chunks.as_ref());
        let may = chunks.is_some_and(|chunks| chunks.live < chunks.most && !chunks.ready.is_empty());
        match (unit.in_line, may) {
            (None, true) => unit.in_line = Some(self.ready_work.push(map)),
            (Some(place), false) => {
                unit.in_line = None;
                self.ready_work.remove(place);
            }
            _ => {}
        }
    }

    /// A step run begins an attempt.
    pub(super) fn take_room(&mut self, id: u32, chunk: Option<u32>) {
        if !self.needs_room(id) {
            return;
        }
        self.units[id as usize].chunk = chunk;
        if let Some(chunk) = chunk {
            let members = self.chunks.entry(chunk).or_default();
            members.insert(id);
            if members.len() > 1 {
                return;
            }
        }
        self.occupied += 1;
        if let Some((map, chunks)) = self.map_of(id) {
            chunks.live += 1;
            self.line_up(map);
        }
    }

    /// The attempt of a step run is over.
    pub(super) fn give_room_back(&mut self, id: u32) {
        if !self.needs_room(id) {
            return;
        }
        if let Some(chunk) = self.units[id as usize].chunk.take()
            && let Some(members) = self.chunks.get_mut(&chunk)
        {
            members.remove(&id);
            if !members.is_empty() {
                return;
            }
            self.chunks.remove(&chunk);
        }
        self.occupied = self.occupied.saturating_sub(1);
        if let Some((map, chunks)) = self.map_of(id) {
            chunks.live = chunks.live.saturating_sub(1);
            self.line_up(map);
        }
    }

    /// A step run stops running.
    pub(super) fn vacate(&mut self, id: u32) {
        if self.units[id as usize].status != StepStatus::Running {
            return;
        }
        self.give_room_back(id);
        if !self.traits(id).is_wait {
            return;
        }
        let body = self.plan.bodies()[self.units[id as usize].body as usize].body();
        if let Some(name) = body.kind.awaited_signal()
            && let Some(waiting) = self.awaited.get_mut(name)
        {
            waiting.remove(&id);
            if waiting.is_empty() {
                self.awaited.remove(name);
            }
        }
    }
}

#[cfg(test)]
impl super::state::Items {
    /// The items that stand in the line of their map.
    pub(super) fn in_line(&self) -> impl Iterator<Item = u32> {
        self.chunks.iter().flat_map(|chunks| chunks.ready.iter().copied())
    }
}
