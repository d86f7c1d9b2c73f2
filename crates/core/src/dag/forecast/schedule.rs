//! A run played through on a number of workers, with durations that are given.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::num::NonZeroU32;

use super::super::Dag;
use super::super::adjacency::index;

/// What a node does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Job {
    /// Takes so many milliseconds, and a worker if `occupies`. If `running` it has started already, and that is what is
    /// left of it.
    One {
        /// How long.
        millis: u64,
        /// Whether it takes a worker.
        occupies: bool,
        /// Whether it has started.
        running: bool,
    },
    /// Ends with the last of its items.
    Items {
        /// What is left of each that has started, in milliseconds.
        running: Vec<u64>,
        /// How long each of the others takes, in the order in which they start.
        waiting: Vec<u64>,
        /// How many may be under way at once; none: any number.
        at_once: Option<NonZeroU32>,
        /// Whether an item takes a worker.
        occupies: bool,
    },
    /// It has ended.
    Ended,
}

/// What came of playing a run through. Times are milliseconds from its start, by node.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Schedule {
    /// When everything has ended.
    pub makespan_ms: u64,
    /// When each node starts.
    pub start_ms: Vec<u64>,
    /// When each node ends.
    pub finish_ms: Vec<u64>,
    /// How much later each node could start without making the whole longer, if every worker does the same in the same
    /// order. Of a node with items: the least of theirs.
    pub slack_ms: Vec<u64>,
}

impl Job {
    /// The milliseconds that it and its items take together.
    pub fn work_ms(&self) -> u64 {
        match self {
            Self::One { millis, .. } => *millis,
            Self::Items { running, waiting, .. } => running.iter().chain(waiting).sum(),
            Self::Ended => 0,
        }
    }

    /// The same job, in no time.
    pub(super) fn without_time(&self) -> Self {
        let mut job = self.clone();
        match &mut job {
            Self::One { millis, .. } => *millis = 0,
            Self::Items { running, waiting, .. } => {
                running.iter_mut().chain(waiting).for_each(|item| *item = 0)
            }
            Self::Ended => {}
        }
        job
    }
}

impl Dag {
    /// Plays a run through: a node is in line once all it needs has ended, and starts when it is the first in line that
    /// there is a worker for, as in the run state machine. What takes no worker starts at once. `jobs` go by node, and a
    /// missing one takes no time; `workers`: how many there are, none: any number.
    ///
    /// The slack is that of the critical sequence method (Wiest, "Some Properties of Schedules for Large Projects with
    /// Limited Resources", 1964): a backward pass over the edges and over the order of each worker's work.
    pub fn schedule(&self, jobs: &[Job], workers: Option<NonZeroU32>) -> Schedule {
        let mut machine = Machine::new(self, workers);
        machine.trace = Some(Trace::default());
        let makespan_ms = machine.play(jobs);
        let nodes = self.nodes().len();
        let slack_ms = machine.slack(makespan_ms);
        let nodes = &machine.units[..nodes];
        Schedule {
            makespan_ms,
            start_ms: nodes.iter().map(|unit| unit.start).collect(),
            finish_ms: nodes.iter().map(|unit| unit.finish).collect(),
            slack_ms,
        }
    }
}

const NONE: u32 = u32::MAX;

/// Plays runs of one graph through. Nodes and items are units: nodes first, then the items of each.
pub(super) struct Machine<'a> {
    dag: &'a Dag,
    workers: usize,
    units: Vec<Unit>,
    /// Of a node with items: which are to come.
    items: Vec<Items>,
    line: VecDeque<u32>,
    /// Those in line that take no worker.
    free_line: VecDeque<u32>,
    occupied: usize,
    /// What is under way, by its end and then by when it started.
    under_way: BinaryHeap<Reverse<(u64, u32, u32)>>,
    started: u32,
    now: u64,
    trace: Option<Trace>,
}

#[derive(Debug, Clone, Copy)]
struct Unit {
    /// The node of an item; [`NONE`] of a node.
    parent: u32,
    /// How many of the nodes that a node needs have not ended.
    needs: u32,
    millis: u64,
    occupies: bool,
    begun: bool,
    start: u64,
    finish: u64,
}

#[derive(Debug, Clone, Copy, Default)]
struct Items {
    /// How many have not ended.
    open: u32,
    /// The next to be put in line, and the one behind the last.
    next: u32,
    end: u32,
    /// How many may be under way at once.
    at_once: u32,
}

/// What the backward pass needs.
#[derive(Debug, Default)]
struct Trace {
    /// Units as they started.
    order: Vec<u32>,
    /// How many workers have had something to do.
    used: usize,
    /// What each of them that is idle did last; in front the one that is idle for longest.
    idle: VecDeque<u32>,
    /// By unit: what its worker does next, and the item that takes its place.
    on_worker: Vec<u32>,
    in_place: Vec<u32>,
}

impl<'a> Machine<'a> {
    pub(super) fn new(dag: &'a Dag, workers: Option<NonZeroU32>) -> Self {
        Self {
            dag,
            workers: workers.map_or(usize::MAX, |workers| workers.get() as usize),
            units: Vec::new(),
            items: Vec::new(),
            line: VecDeque::new(),
            free_line: VecDeque::new(),
            occupied: 0,
            under_way: BinaryHeap::new(),
            started: 0,
            now: 0,
            trace: None,
        }
    }

    /// Plays one run through; gives when everything has ended.
    pub(super) fn play(&mut self, jobs: &[Job]) -> u64 {
        let nodes = self.lay_out(jobs);
        // What is under way holds its worker before anything else starts.
        for (node, job) in (0..nodes).zip(jobs) {
            match job {
                Job::One { running: true, .. } => self.begin(node),
                Job::Items { running, .. } if !running.is_empty() => {
                    self.mark_begun(node);
                    let first = self.items[node as usize].next;
                    self.items[node as usize].next += index(running.len());
                    (first..first + index(running.len())).for_each(|item| self.begin(item));
                }
                Job::Ended => {
                    self.units[node as usize].begun = true;
                    for dependent in self.dag.successors(node) {
                        self.units[*dependent as usize].needs -= 1;
                    }
                }
                _ => {}
            }
        }
        for node in 0..nodes {
            let unit = self.units[node as usize];
            if unit.needs == 0 && !unit.begun {
                self.queue(node);
            } else if unit.begun {
                self.fill_places(node);
            }
        }
        self.advance();
        while let Some(Reverse((at, _, unit))) = self.under_way.pop() {
            self.now = at;
            self.end(unit);
            self.advance();
        }
        self.now
    }

    /// Clears what the last run left; gives the number of nodes.
    fn lay_out(&mut self, jobs: &[Job]) -> u32 {
        let nodes = index(self.dag.nodes().len());
        let unit = |parent, needs, millis, occupies| Unit {
            parent,
            needs,
            millis,
            occupies,
            begun: false,
            start: 0,
            finish: 0,
        };
        self.units.clear();
        self.units.extend((0..nodes).map(|node| {
            let needs = index(self.dag.predecessors(node).len());
            match jobs.get(node as usize) {
                Some(Job::One { millis, occupies, .. }) => unit(NONE, needs, *millis, *occupies),
                _ => unit(NONE, needs, 0, false),
            }
        }));
        self.items.clear();
        self.items.resize(nodes as usize, Items::default());
        for (node, job) in (0..nodes).zip(jobs) {
            let Job::Items { running, waiting, at_once, occupies } = job else { continue };
            let next = index(self.units.len());
            self.units.extend(running.iter().chain(waiting).map(|millis| unit(node, 0, *millis, *occupies)));
            let end = index(self.units.len());
            let at_once = at_once.map_or(u32::MAX, NonZeroU32::get);
            self.items[node as usize] = Items { open: end - next, next, end, at_once };
        }
        self.line.clear();
        self.free_line.clear();
        self.under_way.clear();
        (self.occupied, self.started, self.now) = (0, 0, 0);
        if let Some(trace) = &mut self.trace {
            *trace = Trace::default();
            trace.on_worker.resize(self.units.len(), NONE);
            trace.in_place.resize(self.units.len(), NONE);
        }
        nodes
    }

    /// Starts what can start.
    fn advance(&mut self) {
        loop {
            let room = self.occupied < self.workers;
            let next = self.free_line.pop_front();
            let Some(unit) = next.or_else(|| if room { self.line.pop_front() } else { None }) else { return };
            if self.items.get(unit as usize).is_some_and(|items| items.open > 0) {
                self.mark_begun(unit);
                self.fill_places(unit);
            } else {
                self.begin(unit);
            }
        }
    }

    /// Starts a unit that is no node with items.
    fn begin(&mut self, unit: u32) {
        self.mark_begun(unit);
        let Unit { occupies, millis, .. } = self.units[unit as usize];
        if occupies {
            self.occupied += 1;
            if let Some(trace) = &mut self.trace {
                if trace.used < self.workers {
                    trace.used += 1;
                } else if let Some(before) = trace.idle.pop_front() {
                    trace.on_worker[before as usize] = unit;
                }
            }
        }
        self.under_way.push(Reverse((self.now.saturating_add(millis), self.started, unit)));
    }

    fn mark_begun(&mut self, unit: u32) {
        self.started += 1;
        self.units[unit as usize].begun = true;
        self.units[unit as usize].start = self.now;
        if let Some(trace) = &mut self.trace {
            trace.order.push(unit);
        }
    }

    fn queue(&mut self, unit: u32) {
        let line = if self.units[unit as usize].occupies { &mut self.line } else { &mut self.free_line };
        line.push_back(unit);
    }

    /// Puts as many items of a node in line as may be under way at once.
    fn fill_places(&mut self, node: u32) {
        let Items { open, next, end, at_once } = self.items[node as usize];
        let under_way = open - (end - next);
        for _ in 0..at_once.saturating_sub(under_way).min(end - next) {
            self.queue_next_item(node);
        }
    }

    /// Puts the next item of a node in line, and gives it.
    fn queue_next_item(&mut self, node: u32) -> Option<u32> {
        let items = &mut self.items[node as usize];
        let item = (items.next < items.end).then_some(items.next)?;
        items.next += 1;
        self.queue(item);
        Some(item)
    }

    /// Ends what was under way, and puts in line what that lets go.
    fn end(&mut self, unit: u32) {
        let Unit { parent, occupies, .. } = self.units[unit as usize];
        self.units[unit as usize].finish = self.now;
        if occupies {
            self.occupied -= 1;
            if let Some(trace) = &mut self.trace {
                trace.idle.push_back(unit);
            }
        }
        let mut node = unit;
        if parent != NONE {
            node = parent;
            let next = self.queue_next_item(parent);
            if let (Some(next), Some(trace)) = (next, &mut self.trace) {
                trace.in_place[unit as usize] = next;
            }
            self.items[parent as usize].open -= 1;
            if self.items[parent as usize].open > 0 {
                return;
            }
            self.units[parent as usize].finish = self.now;
        }
        for &dependent in self.dag.successors(node) {
            let unit = &mut self.units[dependent as usize];
            unit.needs -= 1;
            if unit.needs == 0 && !unit.begun {
                self.queue(dependent);
            }
        }
    }

    /// The slack of each node in the run that was played last.
    fn slack(&self, makespan: u64) -> Vec<u64> {
        let nodes = self.items.len();
        let mut slack = vec![0; nodes];
        let Some(trace) = &self.trace else { return slack };
        // When each unit may start and end at the latest; an end that is not known yet is the largest number.
        let mut late_start = vec![u64::MAX; self.units.len()];
        let mut late_finish = vec![u64::MAX; nodes];
        for &unit in trace.order.iter().rev() {
            let Unit { parent, start, finish, .. } = self.units[unit as usize];
            let node = if parent == NONE { unit } else { parent };
            if late_finish[node as usize] == u64::MAX {
                let after = self.dag.successors(node).iter().map(|next| late_start[*next as usize]);
                late_finish[node as usize] = after.min().unwrap_or(makespan).min(makespan);
            }
            let mut latest = late_finish[node as usize];
            for next in [trace.on_worker[unit as usize], trace.in_place[unit as usize]] {
                latest = late_start.get(next as usize).map_or(latest, |start| latest.min(*start));
            }
            if parent == NONE {
                // The items of a node have all been seen by now, and it starts with the first of them.
                let own = latest.saturating_sub(finish - start);
                let own = if self.items[unit as usize].end > 0 {
                    late_start[unit as usize].min(latest)
                } else {
                    own
                };
                late_start[unit as usize] = own;
                slack[unit as usize] = own.saturating_sub(start);
            } else {
                let own = latest.saturating_sub(finish - start);
                late_start[unit as usize] = own;
                // A node with items may be late by as much as the item that may be late by least.
                let by = self.units[parent as usize].start.saturating_add(own.saturating_sub(start));
                late_start[parent as usize] = late_start[parent as usize].min(by);
            }
        }
        slack
    }
}
