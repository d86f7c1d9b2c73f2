//! When a run will have ended, and what would make it end sooner.
//!
//! What is known of a step are durations of earlier runs ([`Cost`]). A run is played through in the way the run state
//! machine starts steps ([`Dag::schedule`]): that is list scheduling (Graham, "Bounds on Multiprocessing Timing
//! Anomalies", 1969), with the line in which steps became ready as the list. Played many times with durations drawn from
//! the samples it gives a distribution of the end (Monte Carlo simulation of a stochastic network: van Slyke, "Monte
//! Carlo Methods and the PERT Problem", 1963), of which [`Forecast`] keeps the median and the band that four of five
//! draws fell into. Steps are drawn independently of each other, and nothing else is taken to use the workers.

mod random;
mod schedule;
mod vital;

use std::num::NonZeroU32;

pub use schedule::{Job, Schedule};

use self::random::Random;
use self::schedule::Machine;
use super::Dag;

/// More steps and items than this, by the median or on average, are forecast by medians alone: one draw of them takes some 10 ms.
pub const MOST_DRAWN: usize = 20_000;
/// How many steps and items all draws together start, and between which bounds the number of draws is chosen for it.
const DRAWN_IN_ALL: usize = 1_000_000;
const DRAWS: [usize; 2] = [50, 200];
/// Where draws end however many are wanted: lists may come out longer than on average, and whoever knows the seed can make
/// them.
const DRAWN_AT_MOST: usize = 2 * DRAWN_IN_ALL;
/// Items of all steps together: as many as one run may have. Each step's own number is learned from another run, perhaps of
/// another version, so that together they may be any number.
pub(super) const MOST_ITEMS: usize = 100_000;
/// What draws begin with, always, so that the same question has the same answer.
const SEED: u64 = 0x7461_736b_6971;
/// How many steps and items are started at most to find what to speed up, and how many steps are looked at for it.
const TRIED_IN_ALL: usize = 1_000_000;
const MOST_TRIED: usize = 50;

/// What a step took in earlier runs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cost {
    /// How long it took each time, in milliseconds, in any order; empty: it was never measured, and counts 0.
    pub samples: Vec<u64>,
    /// Whether it takes a worker. What waits for time, people, other runs or its own items takes none.
    pub occupies: bool,
    /// For a step with items of which there are measurements: what they took. The step then ends with its last item,
    /// and its own samples do not count.
    pub items: Option<ItemCost>,
}

/// What the items of a step took in earlier runs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ItemCost {
    /// How long single items took, in milliseconds.
    pub samples: Vec<u64>,
    /// How many items there were.
    pub counts: Vec<u64>,
    /// How many may be under way at once; none: as many as there are workers.
    pub at_once: Option<NonZeroU32>,
    /// Whether an item takes a worker.
    pub occupies: bool,
}

/// How far a step of a run has got.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Stage {
    /// It has not started.
    #[default]
    Waiting,
    /// It has been under way for so many milliseconds.
    Running(u64),
    /// It has items: for how long each that has started and not ended is under way, in milliseconds, and how many are
    /// to start.
    Items(Vec<u64>, u32),
    /// It has ended, in whatever way, and takes nothing any more.
    Ended,
}

/// When a run will have ended, counted from now in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Forecast {
    /// Half of the draws took at most so long; by medians alone, what the run takes when every step takes its median.
    pub median_ms: u64,
    /// A tenth of the draws took less than the first, a tenth more than the second; none by medians alone.
    pub band_ms: Option<(u64, u64)>,
    /// How often the run was drawn; 0: by medians alone.
    pub draws: usize,
}

impl Cost {
    /// Of a step that takes a worker and took so long in earlier runs.
    pub fn of_work(samples: Vec<u64>) -> Self {
        Self { samples, occupies: true, items: None }
    }

    /// Whether anything is known of it.
    pub fn is_measured(&self) -> bool {
        !self.samples.is_empty() || self.items.as_ref().is_some_and(ItemCost::is_measured)
    }

    /// Puts the samples in order, which [`Drawer`] needs.
    fn sort(&mut self) {
        self.samples.sort_unstable();
        if let Some(items) = &mut self.items {
            items.samples.sort_unstable();
            items.counts.sort_unstable();
        }
    }

    /// Its items, where there are measurements of them: what it takes then comes of these.
    pub fn measured_items(&self) -> Option<&ItemCost> {
        self.items.as_ref().filter(|items| items.is_measured())
    }
}

impl ItemCost {
    fn is_measured(&self) -> bool {
        !self.samples.is_empty() && !self.counts.is_empty()
    }
}

/// The median of durations: the upper one of two in the middle; 0 of none.
pub fn median(mut samples: Vec<u64>) -> u64 {
    samples.sort_unstable();
    Drawer::Median.choose(&samples)
}

impl Dag {
    /// When a run will have ended. `costs` and `stages` go by node; a missing cost counts 0, a missing stage is
    /// [`Stage::Waiting`]. `workers`: how many attempts may be under way at once; none: any number.
    pub fn forecast(&self, costs: &[Cost], stages: &[Stage], workers: Option<NonZeroU32>) -> Forecast {
        let mut costs = costs.to_vec();
        costs.iter_mut().for_each(Cost::sort);
        let jobs = |drawer: &mut Drawer| jobs(self.nodes().len(), &costs, stages, drawer);
        let typical = jobs(&mut Drawer::Median);
        let size = size(&typical).max(mean_size(&costs, stages));
        let mut machine = Machine::new(self, workers);
        if size > MOST_DRAWN {
            return Forecast { median_ms: machine.play(&typical), band_ms: None, draws: 0 };
        }
        let draws = (DRAWN_IN_ALL / size.max(1)).clamp(DRAWS[0], DRAWS[1]);
        let mut drawer = Drawer::Random(Random::new(SEED));
        let ends = ends_of(draws, DRAWN_AT_MOST, || {
            let jobs = jobs(&mut drawer);
            (self::size(&jobs), machine.play(&jobs))
        });
        let quantile = |tenths: usize| ends[(ends.len() - 1) * tenths / 10];
        Forecast { median_ms: quantile(5), band_ms: Some((quantile(1), quantile(9))), draws: ends.len() }
    }

    /// What each node is taken to do when every duration is the median of its samples.
    pub fn typical_jobs(&self, costs: &[Cost], stages: &[Stage]) -> Vec<Job> {
        let mut costs = costs.to_vec();
        costs.iter_mut().for_each(Cost::sort);
        jobs(self.nodes().len(), &costs, stages, &mut Drawer::Median)
    }

    /// By how many milliseconds the whole would be shorter if a node took no time, with so many workers: nodes that gain
    /// something, the largest gain first. Only the longest nodes are tried, at most 50, fewer in a graph of more than
    /// 20,000.
    pub fn speed_up_with(&self, jobs: &[Job], workers: Option<NonZeroU32>) -> Vec<(u32, u64)> {
        let mut machine = Machine::new(self, workers);
        let whole = machine.play(jobs);
        let mut longest: Vec<(u32, u64)> = (0..).zip(jobs.iter().map(Job::work_ms)).collect();
        longest.retain(|(_, work)| *work > 0);
        longest.sort_by_key(|(node, work)| (std::cmp::Reverse(*work), *node));
        longest.truncate((TRIED_IN_ALL / size(jobs).max(1)).clamp(1, MOST_TRIED));
        let mut jobs = jobs.to_vec();
        let mut gains = Vec::new();
        for (node, _) in longest {
            let free = jobs[node as usize].without_time();
            let job = std::mem::replace(&mut jobs[node as usize], free);
            gains.push((node, whole.saturating_sub(machine.play(&jobs))));
            jobs[node as usize] = job;
        }
        ranked(gains)
    }
}

/// The ends of so many draws, in order; of fewer, but of one at least, once they have started `most` steps and items. A
/// draw gives how many it has started, and its end.
pub(super) fn ends_of(draws: usize, most: usize, mut draw: impl FnMut() -> (usize, u64)) -> Vec<u64> {
    let (mut ends, mut started) = (Vec::with_capacity(draws), 0_usize);
    while ends.is_empty() || (ends.len() < draws && started < most) {
        let (size, end) = draw();
        started = started.saturating_add(size);
        ends.push(end);
    }
    ends.sort_unstable();
    ends
}

/// Those that gain something, the largest gain first, in the order of the definition among equals.
fn ranked(mut gains: Vec<(u32, u64)>) -> Vec<(u32, u64)> {
    gains.retain(|(_, gain)| *gain > 0);
    gains.sort_by_key(|(node, gain)| (std::cmp::Reverse(*gain), *node));
    gains
}

/// Steps and items.
fn size(jobs: &[Job]) -> usize {
    let items = |job: &Job| if let Job::Items { waiting, .. } = job { waiting.len() } else { 0 };
    jobs.len() + jobs.iter().map(items).sum::<usize>()
}

/// Steps and items that a draw starts on average: a few long lists among many short ones do not show in the median.
fn mean_size(costs: &[Cost], stages: &[Stage]) -> usize {
    let items =
        costs.iter().enumerate().map(|(node, cost)| match (stages.get(node), cost.measured_items()) {
            (None | Some(Stage::Waiting), Some(items)) => {
                let sum = items.counts.iter().fold(0_u64, |sum, count| sum.saturating_add(*count));
                usize::try_from(sum.div_ceil(items.counts.len().max(1) as u64)).unwrap_or(usize::MAX)
            }
            _ => 0,
        });
    items.fold(costs.len(), usize::saturating_add)
}

/// How durations are chosen out of samples.
enum Drawer {
    Median,
    Random(Random),
}

impl Drawer {
    /// One of samples that are in order; 0 of none.
    fn choose(&mut self, sorted: &[u64]) -> u64 {
        let place = match self {
            Self::Median => sorted.len() / 2,
            Self::Random(random) => random.below(sorted.len()),
        };
        sorted.get(place).copied().unwrap_or(0)
    }

    /// How much longer something takes that is under way for so long: by the samples that took longer. Where none did, it
    /// is taken to end now.
    fn left(&mut self, sorted: &[u64], for_ms: u64) -> u64 {
        let longer = &sorted[sorted.partition_point(|sample| *sample <= for_ms)..];
        self.choose(longer).saturating_sub(for_ms)
    }
}

fn jobs(count: usize, costs: &[Cost], stages: &[Stage], drawer: &mut Drawer) -> Vec<Job> {
    let unknown = Cost::default();
    let mut room = MOST_ITEMS;
    let job = |node: usize| {
        let cost = costs.get(node).unwrap_or(&unknown);
        job(cost, stages.get(node).unwrap_or(&Stage::Waiting), drawer, &mut room)
    };
    (0..count).map(job).collect()
}

/// `room`: how many items there may still be.
fn job(cost: &Cost, stage: &Stage, drawer: &mut Drawer, room: &mut usize) -> Job {
    let mut take = |count: u64| {
        let taken = usize::try_from(count).unwrap_or(usize::MAX).min(*room);
        *room -= taken;
        taken
    };
    match (stage, cost.measured_items()) {
        (Stage::Ended, _) => Job::Ended,
        (Stage::Waiting, Some(items)) => {
            let count = take(drawer.choose(&items.counts));
            let waiting = (0..count).map(|_| drawer.choose(&items.samples)).collect();
            Job::Items { running: Vec::new(), waiting, at_once: items.at_once, occupies: items.occupies }
        }
        (Stage::Waiting, None) => {
            Job::One { millis: drawer.choose(&cost.samples), occupies: cost.occupies, running: false }
        }
        (Stage::Items(running, waiting), Some(items)) => {
            let (under_way, to_come) = (take(running.len() as u64), take(u64::from(*waiting)));
            let left = |for_ms: &u64| drawer.left(&items.samples, *for_ms);
            let running = running.iter().take(under_way).map(left).collect();
            let waiting = (0..to_come).map(|_| drawer.choose(&items.samples)).collect();
            Job::Items { running, waiting, at_once: items.at_once, occupies: items.occupies }
        }
        (Stage::Items(running, _), None) => {
            let for_ms = running.iter().copied().max().unwrap_or(0);
            Job::One { millis: drawer.left(&cost.samples, for_ms), occupies: false, running: true }
        }
        (Stage::Running(for_ms), items) => {
            // Items that there are not yet: the step has just started.
            let millis = match items {
                Some(_) if cost.samples.is_empty() => 0,
                _ => drawer.left(&cost.samples, *for_ms),
            };
            Job::One { millis, occupies: cost.occupies, running: true }
        }
    }
}
