//! Boxes from above to below, joined by lines.

use std::collections::{BTreeMap, HashMap};

use super::super::layout::Layout;
use super::super::place::{packed, place};
use super::super::text::{columns, fit, shown};
use super::canvas::Canvas;
use super::channel::{Net, Route, route, span};
use super::{Dag, States, WIDTH};
use crate::dag::adjacency::index;

/// Larger graphs are listed: nobody follows lines over a dozen screens.
const MOST_BOXES: usize = 200;
const MOST_CROSSINGS: usize = 48;
/// Tasks that are alike share a box from this number on.
const FEWEST_TWINS: usize = 3;
const LONGEST_NAME: usize = 28;
const GAP: usize = 2;

/// Each node for itself.
pub(super) fn each(dag: &Dag) -> Vec<Vec<u32>> {
    (0..index(dag.nodes().len())).map(|node| vec![node]).collect()
}

/// Nodes with the same predecessors and the same successors together. Lines between two such groups join each of
/// the one with each of the other.
pub(super) fn twins(dag: &Dag) -> Vec<Vec<u32>> {
    let mut alike: HashMap<(&[u32], &[u32]), Vec<u32>> = HashMap::new();
    for node in 0..index(dag.nodes().len()) {
        alike.entry((dag.predecessors(node), dag.successors(node))).or_default().push(node);
    }
    let (large, small): (Vec<_>, Vec<_>) = alike.into_values().partition(|nodes| nodes.len() >= FEWEST_TWINS);
    let mut groups: Vec<Vec<u32>> = small.into_iter().flatten().map(|node| vec![node]).chain(large).collect();
    groups.sort_unstable();
    groups
}

/// None if it would be too wide or could not be followed.
pub(super) fn draw(dag: &Dag, states: States<'_>, groups: Vec<Vec<u32>>) -> Option<String> {
    if groups.len() > MOST_BOXES {
        return None;
    }
    let mut group_of = vec![0_u32; dag.nodes().len()];
    for (group, nodes) in (0..).zip(&groups) {
        for node in nodes {
            group_of[*node as usize] = group;
        }
    }
    let levels: Vec<u32> = groups.iter().filter_map(|nodes| dag.level_of(*nodes.first()?)).collect();
    let successors: Vec<Vec<u32>> = groups
        .iter()
        .map(|nodes| {
            let after = nodes.first().map_or(&[][..], |node| dag.successors(*node));
            let mut after: Vec<u32> = after.iter().map(|node| group_of[*node as usize]).collect();
            after.sort_unstable();
            after.dedup();
            after
        })
        .collect();
    let layout = Layout::new(&levels, |group| &successors[group as usize]);
    if !layout.unrouted.is_empty() {
        return None;
    }
    let nets: Vec<Vec<Net>> = (0..layout.rows.len()).map(|row| Net::below(&layout, row)).collect();
    let contents: Vec<Vec<String>> = groups.iter().map(|nodes| content(dag, states, nodes)).collect();
    let widths = widths(&layout, &nets, &contents);
    let spacing = |a: u32, b: u32| distance(&layout, &widths, a, b) as f64;
    [place, packed].into_iter().find_map(|place| {
        let centres = whole(&layout, &widths, &place(&layout, &spacing))?;
        Sheet { layout: &layout, nets: &nets, contents: &contents, widths: &widths, centres }.draw()
    })
}

/// The lines inside a box.
fn content(dag: &Dag, states: States<'_>, nodes: &[u32]) -> Vec<String> {
    let label = |node: u32| {
        let label = shown(&dag.nodes()[node as usize].label).into_owned();
        fit(&label, LONGEST_NAME).into_owned()
    };
    let state = |node: u32| states.of(node).map(|state| fit(&shown(state), 12).into_owned());
    if let [node] = nodes {
        return [Some(label(*node)), state(*node)].into_iter().flatten().collect();
    }
    let entry = |node: &u32| match state(*node) {
        Some(state) => format!("{} · {state}", label(*node)),
        None => label(*node),
    };
    let entries: Vec<String> = nodes.iter().map(entry).collect();
    let width = entries.iter().map(|entry| columns(entry)).max().unwrap_or(0);
    let room = WIDTH - 5;
    let most = ((room + GAP) / (width + GAP)).max(1);
    let rows = entries.len().div_ceil(most);
    let per_row = entries.len().div_ceil(rows);
    let line = |entries: &[String]| {
        let padded = entries.iter().map(|entry| padded(entry, width));
        padded.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    let heading = format!("{} tasks:", nodes.len());
    [heading].into_iter().chain(entries.chunks(per_row).map(line)).collect()
}

fn padded(text: &str, width: usize) -> String {
    format!("{text}{}", " ".repeat(width.saturating_sub(columns(text))))
}

/// The widths of all vertices, wide enough for a column for each net that enters.
fn widths(layout: &Layout, nets: &[Vec<Net>], contents: &[Vec<String>]) -> Vec<usize> {
    let mut entries: BTreeMap<u32, usize> = BTreeMap::new();
    for target in nets.iter().flatten().flat_map(|net| &net.targets) {
        *entries.entry(*target).or_default() += 1;
    }
    (0..index(layout.vertices.len()))
        .map(|vertex| match contents.get(vertex as usize) {
            None => 1,
            Some(lines) => {
                let text = lines.iter().map(|line| columns(line)).max().unwrap_or(0) + 4;
                text.max(2 * entries.get(&vertex).copied().unwrap_or(1) + 1).max(5)
            }
        })
        .collect()
}

fn distance(layout: &Layout, widths: &[usize], a: u32, b: u32) -> usize {
    let lines = layout.is_waypoint(a) && layout.is_waypoint(b);
    right_of(widths[a as usize]) + left_of(widths[b as usize]) + if lines { 2 } else { GAP + 1 }
}

/// The columns of a box left of its middle one.
fn left_of(width: usize) -> usize {
    (width - 1) / 2
}

/// The columns of a box right of its middle one.
fn right_of(width: usize) -> usize {
    width / 2
}

/// The centres as columns; none if that is too wide.
fn whole(layout: &Layout, widths: &[usize], centres: &[f64]) -> Option<Vec<usize>> {
    let left = |vertex: u32| centres[vertex as usize] - left_of(widths[vertex as usize]) as f64;
    let first = layout.rows.iter().flatten().map(|vertex| left(*vertex)).fold(f64::INFINITY, f64::min);
    let mut columns = vec![0; centres.len()];
    for row in &layout.rows {
        let mut before: Option<u32> = None;
        for &vertex in row {
            let least = match before {
                Some(before) => columns[before as usize] + distance(layout, widths, before, vertex),
                None => left_of(widths[vertex as usize]),
            };
            // Not negative, as `first` is the least left side.
            let wanted = (centres[vertex as usize] - first).round() as usize;
            columns[vertex as usize] = wanted.max(least);
            if columns[vertex as usize] + right_of(widths[vertex as usize]) >= WIDTH {
                return None;
            }
            before = Some(vertex);
        }
    }
    Some(columns)
}

struct Sheet<'a> {
    layout: &'a Layout,
    nets: &'a [Vec<Net>],
    contents: &'a [Vec<String>],
    widths: &'a [usize],
    centres: Vec<usize>,
}

impl Sheet<'_> {
    fn draw(&self) -> Option<String> {
        let routed: Vec<(Vec<Route>, usize)> =
            self.nets.iter().map(|nets| route(nets, &self.centres)).collect::<Option<_>>()?;
        let heights: Vec<usize> = self.layout.rows.iter().map(|row| self.height(row)).collect();
        let gaps = routed.iter().map(|(routes, tracks)| if routes.is_empty() { 0 } else { tracks + 1 });
        let total = heights.iter().copied().chain(gaps).sum();
        let mut canvas = Canvas::new(WIDTH, total);
        let mut top = 0;
        let mut owner = 0;
        for (row, (routes, tracks)) in routed.iter().enumerate() {
            let bottom = top + heights[row];
            for vertex in &self.layout.rows[row] {
                self.draw_vertex(&mut canvas, *vertex, top, bottom);
            }
            for (net, route) in self.nets[row].iter().zip(routes) {
                owner += 1;
                let arrows = bottom + tracks;
                self.draw_route(&mut canvas, owner, net, route, bottom, arrows);
            }
            top = bottom + if routes.is_empty() { 0 } else { tracks + 1 };
        }
        (canvas.crossings() <= MOST_CROSSINGS).then(|| canvas.into_text())
    }

    fn height(&self, row: &[u32]) -> usize {
        row.iter().filter_map(|vertex| self.contents.get(*vertex as usize)).map(Vec::len).max().unwrap_or(0)
            + 2
    }

    /// A box, or the line of a waypoint. Owners of lines count from 1, so 0 is free for lines beside short boxes.
    fn draw_vertex(&self, canvas: &mut Canvas, vertex: u32, top: usize, bottom: usize) {
        let centre = self.centres[vertex as usize];
        let Some(lines) = self.contents.get(vertex as usize) else {
            canvas.vertical(0, centre, top..=bottom - 1);
            return;
        };
        let width = self.widths[vertex as usize];
        let (left, inner) = (centre - left_of(width), width - 2);
        canvas.text(left, top, format!("┌{}┐", "─".repeat(inner)));
        for (row, line) in (top + 1..).zip(lines) {
            canvas.text(left, row, format!("│ {} │", padded(line, inner - 2)));
        }
        let goes_on = !self.layout.vertices[vertex as usize].down.is_empty();
        let middle = if goes_on { '┬' } else { '─' };
        let [before, after] = [left_of(width), right_of(width)].map(|side| "─".repeat(side - 1));
        let end = top + lines.len() + 1;
        canvas.text(left, end, format!("└{before}{middle}{after}┘"));
        if goes_on && end + 1 < bottom {
            canvas.vertical(0, centre, end + 1..=bottom - 1);
        }
    }

    fn draw_route(
        &self,
        canvas: &mut Canvas,
        owner: usize,
        net: &Net,
        route: &Route,
        top: usize,
        arrows: usize,
    ) {
        let track = route.track.map(|track| top + track);
        for exit in &route.exits {
            match track {
                Some(track) => {
                    if track > top {
                        canvas.vertical(owner, *exit, top..=track - 1);
                    }
                    canvas.arrive(owner, *exit, track);
                }
                None => canvas.vertical(owner, *exit, top..=arrows),
            }
        }
        if let Some(track) = track {
            let (from, to) = span(route);
            canvas.horizontal(owner, from, to, track);
            for entry in &route.entries {
                canvas.leave(owner, *entry, track);
                canvas.vertical(owner, *entry, track + 1..=arrows);
            }
        }
        for (target, entry) in net.targets.iter().zip(&route.entries) {
            if !self.layout.is_waypoint(*target) {
                canvas.text(*entry, arrows, "▼".to_owned());
            }
        }
    }
}
