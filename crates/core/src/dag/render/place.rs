//! Where the vertices of a row stand: near their neighbours, in order, and far enough apart.

use super::layout::{Layout, mean};

/// A waypoint pulls this much harder than a node, so that long lines become straight.
const WAYPOINT_WEIGHT: f64 = 3.0;

const SWEEPS: usize = 12;

/// The centres of all vertices along their rows. `spacing` is the least distance of the centres of two vertices that
/// stand side by side.
///
/// Row by row, up and down in turn, each vertex is pulled to the mean of its neighbours; keeping order and distances
/// with the least squared error is isotonic regression once the distances are taken off, and the pool adjacent
/// violators algorithm does that in linear time (Ayer and others, 1955).
pub(super) fn place(layout: &Layout, spacing: &dyn Fn(u32, u32) -> f64) -> Vec<f64> {
    let mut centres = packed(layout, spacing);
    for sweep in 0..SWEEPS {
        let pull = match sweep {
            sweep if sweep + 2 >= SWEEPS => Pull::Both,
            sweep if sweep % 2 == 0 => Pull::Upper,
            _ => Pull::Lower,
        };
        for step in 0..layout.rows.len() {
            let row = if pull == Pull::Lower { layout.rows.len() - 1 - step } else { step };
            settle(layout, row, pull, spacing, &mut centres);
        }
    }
    straighten(layout, spacing, &mut centres);
    centres
}

/// The centres when every row is as short as it can be, and all rows have one middle.
pub(super) fn packed(layout: &Layout, spacing: &dyn Fn(u32, u32) -> f64) -> Vec<f64> {
    let mut centres = vec![0.0; layout.vertices.len()];
    for row in &layout.rows {
        let offsets = offsets(row, spacing);
        let middle = offsets.last().copied().unwrap_or(0.0) / 2.0;
        for (vertex, offset) in row.iter().zip(offsets) {
            centres[*vertex as usize] = offset - middle;
        }
    }
    centres
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Pull {
    Upper,
    Lower,
    Both,
}

fn settle(layout: &Layout, row: usize, pull: Pull, spacing: &dyn Fn(u32, u32) -> f64, centres: &mut [f64]) {
    let row = &layout.rows[row];
    let offsets = offsets(row, spacing);
    // Runs of vertices that stand as close as they may: the weighted sum of their wishes, the weight, the length.
    let mut runs: Vec<(f64, f64, usize)> = Vec::with_capacity(row.len());
    for (vertex, offset) in row.iter().zip(&offsets) {
        let (wish, weight) = wish(layout, *vertex, pull, centres);
        let mut run = ((wish - offset) * weight, weight, 1);
        while let Some(before) = runs.last()
            && before.0 / before.1 > run.0 / run.1
        {
            run = (before.0 + run.0, before.1 + run.1, before.2 + run.2);
            runs.pop();
        }
        runs.push(run);
    }
    let starts = runs.into_iter().flat_map(|(sum, weight, length)| std::iter::repeat_n(sum / weight, length));
    for ((vertex, offset), start) in row.iter().zip(&offsets).zip(starts) {
        centres[*vertex as usize] = start + offset;
    }
}

fn wish(layout: &Layout, vertex: u32, pull: Pull, centres: &[f64]) -> (f64, f64) {
    let own = &layout.vertices[vertex as usize];
    let upper = own.up.iter().filter(|_| pull != Pull::Lower);
    let lower = own.down.iter().filter(|_| pull != Pull::Upper);
    let near = || upper.clone().chain(lower.clone());
    let Some(middle) = mean(near().map(|neighbour| centres[*neighbour as usize])) else {
        // Nothing pulls: stay, and give way to all that is pulled.
        return (centres[vertex as usize], 0.01);
    };
    let straight = layout.is_waypoint(vertex) && near().any(|neighbour| layout.is_waypoint(*neighbour));
    (middle, if straight { WAYPOINT_WEIGHT } else { 1.0 })
}

/// Puts what follows one another without branching, and the waypoints of a stem, on one line where there is room.
fn straighten(layout: &Layout, spacing: &dyn Fn(u32, u32) -> f64, centres: &mut [f64]) {
    let mut beside = vec![(None, None); centres.len()];
    for row in &layout.rows {
        for (place, vertex) in row.iter().enumerate() {
            let before = place.checked_sub(1).map(|place| row[place]);
            beside[*vertex as usize] = (before, row.get(place + 1).copied());
        }
    }
    for first in layout.rows.iter().flatten().filter(|vertex| before_in_run(layout, **vertex).is_none()) {
        let run = || std::iter::successors(Some(*first), |vertex| after_in_run(layout, *vertex));
        let mut room = (f64::NEG_INFINITY, f64::INFINITY);
        for vertex in run() {
            let (before, after) = beside[vertex as usize];
            let least = before.map(|before| centres[before as usize] + spacing(before, vertex));
            let most = after.map(|after| centres[after as usize] - spacing(vertex, after));
            room = (room.0.max(least.unwrap_or(room.0)), room.1.min(most.unwrap_or(room.1)));
        }
        if room.0 <= room.1
            && let Some(line) = mean(run().map(|vertex| centres[vertex as usize]))
        {
            for vertex in run() {
                centres[vertex as usize] = line.clamp(room.0, room.1);
            }
        }
    }
}

fn before_in_run(layout: &Layout, vertex: u32) -> Option<u32> {
    let [before] = layout.vertices[vertex as usize].up[..] else { return None };
    let stem = layout.is_waypoint(before) && layout.is_waypoint(vertex);
    (stem || layout.vertices[before as usize].down.len() == 1).then_some(before)
}

fn after_in_run(layout: &Layout, vertex: u32) -> Option<u32> {
    let down = &layout.vertices[vertex as usize].down;
    let mut candidates = down.iter().copied().filter(|after| down.len() == 1 || layout.is_waypoint(*after));
    candidates.find(|after| before_in_run(layout, *after) == Some(vertex))
}

/// The distance of each vertex from the first of its row when all stand as close as they may.
fn offsets(row: &[u32], spacing: &dyn Fn(u32, u32) -> f64) -> Vec<f64> {
    let mut offset = 0.0;
    let mut before = None;
    row.iter()
        .map(|vertex| {
            offset += before.map_or(0.0, |before| spacing(before, *vertex));
            before = Some(*vertex);
            offset
        })
        .collect()
}
