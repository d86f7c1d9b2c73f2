//! A picture: levels from left to right, lines that pass nodes by, colours for light and dark surroundings.
//!
//! It has no script, no event handler, no link and no reference out of itself. Colours are given twice, as
//! attributes and as a style sheet that knows the dark scheme, so that it stays readable under a content security
//! policy that forbids styles.

use std::fmt::Write as _;

use super::layout::Layout;
use super::place::place;
use super::text::{ems, fit_ems, xml};
use super::{Dag, LOOKS, States, lines};
use crate::dag::DagNode;
use crate::dag::adjacency::index;

const MARGIN: f64 = 16.0;
const HEIGHT: f64 = 46.0;
const NODE_GAP: f64 = 18.0;
const WAYPOINT_GAP: f64 = 14.0;
const WIDTHS: [f64; 2] = [104.0, 240.0];
const PADDING: f64 = 15.0;
const LABEL_SIZE: f64 = 13.0;
const KIND_SIZE: f64 = 11.0;
/// Regular text is this much narrower than bold text of its size.
const REGULAR: f64 = 0.9;
/// The gap between two levels grows with the steepness of the lines in it, within these bounds.
const LEVEL_GAPS: [f64; 2] = [56.0, 220.0];

pub(super) fn draw(dag: &Dag, states: States<'_>) -> String {
    let levels: Vec<u32> = (0..index(dag.nodes().len())).filter_map(|node| dag.level_of(node)).collect();
    let layout = Layout::new(&levels, |node| dag.successors(node));
    let picture = Picture::new(dag, states, layout);
    let mut out = String::new();
    picture.head(&mut out);
    picture.lines(&mut out);
    picture.boxes(&mut out);
    out.push_str("</svg>\n");
    out
}

struct Picture<'a> {
    dag: &'a Dag,
    states: States<'a>,
    layout: Layout,
    /// Left and right side of each level.
    columns: Vec<[f64; 2]>,
    /// Middle of each vertex, from the top.
    middles: Vec<f64>,
    width: f64,
    height: f64,
}

impl<'a> Picture<'a> {
    fn new(dag: &'a Dag, states: States<'a>, layout: Layout) -> Self {
        let size = |vertex: u32| if layout.is_waypoint(vertex) { 0.0 } else { HEIGHT };
        let spacing = |a: u32, b: u32| {
            let apart = layout.is_waypoint(a) && layout.is_waypoint(b);
            f64::midpoint(size(a), size(b)) + if apart { WAYPOINT_GAP } else { NODE_GAP }
        };
        let mut middles = place(&layout, &spacing);
        let all = || 0..index(layout.vertices.len());
        let top = all().map(|v| middles[v as usize] - size(v) / 2.0).fold(f64::INFINITY, f64::min);
        let top = if top.is_finite() { top } else { 0.0 };
        for middle in &mut middles {
            *middle += MARGIN - top;
        }
        let bottom = all().map(|v| middles[v as usize] + size(v) / 2.0).fold(MARGIN, f64::max);
        let mut columns = Vec::with_capacity(layout.rows.len());
        let mut left = MARGIN;
        for row in &layout.rows {
            let nodes = row.iter().filter(|vertex| !layout.is_waypoint(**vertex));
            let right = left + nodes.map(|node| box_width(dag, states, *node)).fold(WIDTHS[0], f64::max);
            columns.push([left, right]);
            let steepest = row.iter().flat_map(|upper| {
                let below = layout.vertices[*upper as usize].down.iter();
                let middles = &middles;
                below.map(move |lower| (middles[*lower as usize] - middles[*upper as usize]).abs())
            });
            left = right + (steepest.fold(0.0, f64::max) * 0.2).clamp(LEVEL_GAPS[0], LEVEL_GAPS[1]);
        }
        let width = columns.last().map_or(MARGIN, |column| column[1]) + MARGIN;
        Self { dag, states, columns, middles, width, height: bottom + MARGIN, layout }
    }

    fn head(&self, out: &mut String) {
        let (width, height) = (num(self.width), num(self.height));
        let (tasks, edges) = (self.dag.nodes().len(), self.dag.edges().len());
        let _ = writeln!(
            out,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"tf-dag\" viewBox=\"0 0 {width} {height}\" \
             width=\"{width}\" height=\"{height}\" role=\"group\" font-family=\"system-ui, -apple-system, \
             'Segoe UI', Roboto, 'Noto Sans', Helvetica, Arial, sans-serif\">"
        );
        let (task, edge) = (plural(tasks, "task"), plural(edges, "connection"));
        let _ = writeln!(out, "<title>Graph of {tasks} {task}, {edges} {edge}</title>");
        self.style(out);
        out.push_str(
            "<defs><marker id=\"tf-arrow\" viewBox=\"0 0 8 8\" refX=\"7\" refY=\"4\" markerWidth=\"7\" \
             markerHeight=\"7\" orient=\"auto\"><path class=\"tf-tip\" d=\"M0 .5 8 4 0 7.5Z\" \
             fill=\"#64748b\"/></marker></defs>\n",
        );
    }

    fn style(&self, out: &mut String) {
        out.push_str(
            "<style>.tf-dag{color-scheme:light dark}.tf-dag .tf-line:hover{stroke:#0284c7}.tf-dag .tf-skipped,.tf-dag .tf-cancelled\
             {stroke-dasharray:4 3}@media (prefers-color-scheme:dark){.tf-dag .tf-lines{stroke:#64748b}\
             .tf-dag .tf-label{fill:#f1f5f9}.tf-dag .tf-kind{fill:#a9b6c8}.tf-dag .tf-box{fill:#1e293b;\
             stroke:#64748b}",
        );
        let used =
            |state: &str| (0..index(self.dag.nodes().len())).any(|node| self.states.of(node) == Some(state));
        for look in LOOKS.iter().filter(|look| used(look.state)) {
            let [fill, stroke] = look.dark;
            let _ = write!(out, ".tf-dag .tf-{}{{fill:{fill};stroke:{stroke}}}", look.state);
            let _ = write!(out, ".tf-dag .tf-bar-{}{{fill:{stroke}}}", look.state);
        }
        out.push_str("}</style>\n");
    }

    fn lines(&self, out: &mut String) {
        out.push_str("<g class=\"tf-lines\" fill=\"none\" stroke=\"#94a3b8\" stroke-width=\"1.5\">\n");
        for source in 0..index(self.dag.nodes().len()) {
            let mut path = String::new();
            let mut before = source;
            for waypoint in self.layout.stem(source) {
                self.piece(&mut path, before, waypoint);
                let [_, right] = self.column(waypoint);
                let _ = write!(path, "H{}", num(right));
                before = waypoint;
            }
            if !path.is_empty() {
                let _ = writeln!(out, "<path d=\"{path}\"/>");
            }
        }
        for ((source, target), data) in lines(self.dag) {
            let [source_name, target_name] =
                [source, target].map(|node| self.dag.nodes()[node as usize].label.as_str());
            let mut path = String::new();
            self.piece(&mut path, self.layout.branch(source, target).unwrap_or(source), target);
            let _ = writeln!(
                out,
                "<path class=\"tf-line\" d=\"{path}\" marker-end=\"url(#tf-arrow)\"><title>{} → {}: {}</title></path>",
                xml(source_name),
                xml(target_name),
                xml(&data.join(", "))
            );
        }
        out.push_str("</g>\n");
    }

    /// A curve from the right side of one vertex to the left side of another, level at both ends.
    fn piece(&self, path: &mut String, from: u32, to: u32) {
        let (x, end) = (self.column(from)[1], self.column(to)[0]);
        let (y, level) = (self.middles[from as usize], self.middles[to as usize]);
        let _ = write!(path, "M{} {}", num(x), num(y));
        if (y - level).abs() < 0.5 {
            let _ = write!(path, "H{}", num(end));
        } else {
            let (handle, end) = (num(f64::midpoint(x, end)), num(end));
            let _ = write!(path, "C{handle} {} {handle} {} {end} {}", num(y), num(level), num(level));
        }
    }

    fn boxes(&self, out: &mut String) {
        for (place, node) in (0..index(self.dag.nodes().len())).zip(self.dag.nodes()) {
            let [left, right] = self.column(place);
            let width = right - left;
            let top = self.middles[place as usize] - HEIGHT / 2.0;
            let (look, state) = (self.states.look(place), self.states.of(place));
            let [fill, stroke] = look.map_or(["#ffffff", "#94a3b8"], |look| look.light);
            let class = look.map_or_else(String::new, |look| format!(" tf-{}", look.state));
            let under = under(&node.kind, state);
            // The column was made for this text, so only what is clearly too long is cut.
            let room = width - 2.0 * PADDING + 1.0;
            let _ = writeln!(
                out,
                "<g class=\"tf-node\" role=\"img\" transform=\"translate({} {})\"><title>{}{}{}</title>\
                 <rect class=\"tf-box{class}\" width=\"{}\" height=\"{HEIGHT}\" rx=\"8\" fill=\"{fill}\" \
                 stroke=\"{stroke}\"/>",
                num(left),
                num(top),
                xml(&node.label),
                if under.is_empty() { "" } else { " · " },
                xml(&under),
                num(width),
            );
            if let Some(look) = look {
                let _ = writeln!(
                    out,
                    "<rect class=\"tf-bar-{}\" x=\"5\" y=\"9\" width=\"3\" height=\"{}\" rx=\"1.5\" fill=\"{stroke}\"/>",
                    look.state,
                    HEIGHT - 18.0
                );
            }
            let baseline = if under.is_empty() { 28 } else { 20 };
            let _ = writeln!(
                out,
                "<text class=\"tf-label\" x=\"{PADDING}\" y=\"{baseline}\" font-size=\"{LABEL_SIZE}\" \
                 font-weight=\"600\" fill=\"#0f172a\">{}</text>",
                xml(&fit_ems(&node.label, room / LABEL_SIZE))
            );
            if !under.is_empty() {
                let _ = writeln!(
                    out,
                    "<text class=\"tf-kind\" x=\"{PADDING}\" y=\"36\" font-size=\"{KIND_SIZE}\" \
                     fill=\"#52607a\">{}</text>",
                    xml(&fit_ems(&under, room / (KIND_SIZE * REGULAR)))
                );
            }
            out.push_str("</g>\n");
        }
    }

    fn column(&self, vertex: u32) -> [f64; 2] {
        self.columns[self.layout.vertices[vertex as usize].row as usize]
    }
}

/// The small line under the label.
fn under(kind: &str, state: Option<&str>) -> String {
    let parts = [kind, state.unwrap_or("")];
    parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" · ")
}

fn box_width(dag: &Dag, states: States<'_>, node: u32) -> f64 {
    let DagNode { label, kind, .. } = &dag.nodes()[node as usize];
    let text = (ems(label) * LABEL_SIZE).max(ems(&under(kind, states.of(node))) * KIND_SIZE * REGULAR);
    (text + 2.0 * PADDING).ceil().clamp(WIDTHS[0], WIDTHS[1])
}

fn plural(count: usize, word: &str) -> String {
    if count == 1 { word.to_owned() } else { format!("{word}s") }
}

/// One decimal at most.
fn num(value: f64) -> String {
    let text = format!("{value:.1}");
    text.strip_suffix(".0").map_or(text.clone(), str::to_owned)
}
