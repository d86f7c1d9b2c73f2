//! The lines between two rows of boxes.
//!
//! Sources with the same targets form a net: one horizontal track, joined to each source above and each target
//! below. A target of several nets gives each its own column, so lines that touch always belong together and lines
//! that do not only ever cross.

use std::collections::BTreeMap;

use super::super::layout::Layout;

/// More tracks than this between two rows cannot be followed by eye.
const MOST_TRACKS: usize = 8;

/// Sources that share all their targets in the next row.
#[derive(Debug)]
pub(super) struct Net {
    pub(super) sources: Vec<u32>,
    pub(super) targets: Vec<u32>,
}

/// Where the lines of one net run.
#[derive(Debug)]
pub(super) struct Route {
    /// The columns in which it comes from the sources.
    pub(super) exits: Vec<usize>,
    /// The columns in which it goes to the targets, in their order.
    pub(super) entries: Vec<usize>,
    /// The track, counted from above; none where it goes straight down.
    pub(super) track: Option<usize>,
}

impl Net {
    /// The nets below a row, from left to right.
    pub(super) fn below(layout: &Layout, row: usize) -> Vec<Self> {
        let mut place: BTreeMap<&[u32], usize> = BTreeMap::new();
        let mut nets: Vec<Self> = Vec::new();
        for &source in &layout.rows[row] {
            let targets = layout.vertices[source as usize].down.as_slice();
            if targets.is_empty() {
                continue;
            }
            let net = *place.entry(targets).or_insert(nets.len());
            if net == nets.len() {
                nets.push(Self { sources: Vec::new(), targets: targets.to_vec() });
            }
            nets[net].sources.push(source);
        }
        nets
    }
}

/// Routes the nets of one channel: where they run, and how many tracks there are. None if some would have to run
/// over each other, or if there would be too many tracks.
pub(super) fn route(nets: &[Net], centres: &[usize]) -> Option<(Vec<Route>, usize)> {
    let mut entering: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
    for (net, Net { targets, .. }) in nets.iter().enumerate() {
        for target in targets {
            entering.entry(*target).or_default().push(net);
        }
    }
    for among in entering.values_mut() {
        among.sort_by_key(|net| middle(&nets[*net].sources, centres));
    }
    let entry = |net: usize, target: u32| {
        let among = &entering[&target];
        let place = among.iter().position(|other| *other == net).unwrap_or(0);
        centres[target as usize] + 2 * place + 1 - among.len()
    };
    let mut routes: Vec<Route> = nets
        .iter()
        .enumerate()
        .map(|(number, net)| Route {
            exits: net.sources.iter().map(|source| centres[*source as usize]).collect(),
            entries: net.targets.iter().map(|target| entry(number, *target)).collect(),
            track: None,
        })
        .collect();
    let tracks = assign_tracks(&mut routes)?;
    Some((routes, tracks))
}

/// Twice the mean column, so that it stays whole enough to compare.
fn middle(sources: &[u32], centres: &[usize]) -> usize {
    2 * sources.iter().map(|source| centres[*source as usize]).sum::<usize>() / sources.len().max(1)
}

/// Gives each net that does not go straight down the highest track that is free over its whole length, below every
/// net that leaves a source in a column in which this one enters a target.
fn assign_tracks(routes: &mut [Route]) -> Option<usize> {
    let mut waiting: Vec<usize> = (0..routes.len()).filter(|net| !is_straight(&routes[*net])).collect();
    let mut tracks: Vec<Vec<(usize, usize)>> = Vec::new();
    while !waiting.is_empty() {
        let blocked = |net: usize| {
            waiting.iter().any(|other| *other != net && must_be_above(&routes[*other], &routes[net]))
        };
        let at = waiting.iter().position(|net| !blocked(*net))?;
        let net = waiting.remove(at);
        let above = routes.iter().filter(|other| must_be_above(other, &routes[net]));
        let first = above.filter_map(|other| other.track).max().map_or(0, |track| track + 1);
        let (from, to) = span(&routes[net]);
        let free =
            |track: &Vec<(usize, usize)>| track.iter().all(|(start, end)| end + 1 < from || to + 1 < *start);
        let track = (first..).find(|track| tracks.get(*track).is_none_or(free))?;
        if track >= MOST_TRACKS {
            return None;
        }
        tracks.resize(tracks.len().max(track + 1), Vec::new());
        tracks[track].push((from, to));
        routes[net].track = Some(track);
    }
    Some(tracks.len())
}

fn is_straight(route: &Route) -> bool {
    route.exits.len() == 1 && route.exits == route.entries
}

fn must_be_above(upper: &Route, lower: &Route) -> bool {
    !std::ptr::eq(upper, lower) && lower.entries.iter().any(|column| upper.exits.contains(column))
}

/// The first and the last column.
pub(super) fn span(route: &Route) -> (usize, usize) {
    let columns = || route.exits.iter().chain(&route.entries).copied();
    (columns().min().unwrap_or(0), columns().max().unwrap_or(0))
}
