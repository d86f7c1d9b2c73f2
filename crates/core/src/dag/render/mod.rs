//! Drawings of a graph. Each file is one format and does its own escaping.

mod ascii;
mod cytoscape;
mod dot;
mod json;
mod layout;
mod mermaid;
mod place;
mod svg;
mod text;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde_json::Value;

use super::Dag;

/// A way to write a graph down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DagFormat {
    /// `{nodes, edges, levels}`, as the API gives it.
    Json,
    /// The elements of the Cytoscape.js library.
    Cytoscape,
    /// The language of Graphviz.
    Dot,
    /// A Mermaid flowchart.
    Mermaid,
    /// Box drawing characters, for a terminal.
    Ascii,
    /// A picture, light or dark as its viewer prefers.
    Svg,
}

/// A graph written down.
#[derive(Debug, Clone, PartialEq)]
pub enum Rendered {
    /// JSON and Cytoscape: a document without spaces or line breaks.
    Json(String),
    /// Every other format.
    Text(String),
}

/// A text that names no format.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a format of a graph; one of json, cytoscape, dot, mermaid, ascii, svg")]
pub struct UnknownFormat;

impl DagFormat {
    /// Every format.
    pub const ALL: [Self; 6] =
        [Self::Json, Self::Cytoscape, Self::Dot, Self::Mermaid, Self::Ascii, Self::Svg];

    /// The name in addresses, options and JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Cytoscape => "cytoscape",
            Self::Dot => "dot",
            Self::Mermaid => "mermaid",
            Self::Ascii => "ascii",
            Self::Svg => "svg",
        }
    }

    /// The media type, without parameters, as registered with IANA. Every format is UTF-8.
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Json | Self::Cytoscape => "application/json",
            Self::Dot => "text/vnd.graphviz",
            Self::Mermaid => "application/vnd.mermaid",
            Self::Ascii => "text/plain",
            Self::Svg => "image/svg+xml",
        }
    }
}

impl fmt::Display for DagFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for DagFormat {
    type Err = UnknownFormat;

    fn from_str(text: &str) -> Result<Self, UnknownFormat> {
        Self::ALL.into_iter().find(|format| format.as_str() == text).ok_or(UnknownFormat)
    }
}

impl Rendered {
    /// The drawing as text that ends in a line break; JSON is indented.
    pub fn into_text(self) -> String {
        match self {
            Self::Json(json) => match serde_json::from_str::<Value>(&json) {
                Ok(value) => format!("{value:#}\n"),
                Err(_) => json,
            },
            Self::Text(text) => text,
        }
    }
}

impl Dag {
    /// Draws the graph. `states` are the states of the nodes, by index; where it is shorter, they have none.
    pub fn render(&self, format: DagFormat, states: &[Option<&str>]) -> Rendered {
        let states = States(states);
        match format {
            DagFormat::Json => Rendered::Json(json::draw(self, states)),
            DagFormat::Cytoscape => Rendered::Json(cytoscape::draw(self, states)),
            DagFormat::Dot => Rendered::Text(dot::draw(self, states)),
            DagFormat::Mermaid => Rendered::Text(mermaid::draw(self, states)),
            DagFormat::Ascii => Rendered::Text(ascii::draw(self, states)),
            DagFormat::Svg => Rendered::Text(svg::draw(self, states)),
        }
    }
}

/// The states of the nodes.
#[derive(Debug, Clone, Copy)]
struct States<'a>(&'a [Option<&'a str>]);

impl<'a> States<'a> {
    fn of(self, node: u32) -> Option<&'a str> {
        self.0.get(node as usize).copied().flatten()
    }

    fn look(self, node: u32) -> Option<&'static Look> {
        let state = self.of(node)?;
        LOOKS.iter().find(|look| look.state == state)
    }
}

/// The colours of a state: fill and line, for light and for dark surroundings.
#[derive(Debug)]
struct Look {
    state: &'static str,
    light: [&'static str; 2],
    dark: [&'static str; 2],
}

const fn look(state: &'static str, light: [&'static str; 2], dark: [&'static str; 2]) -> Look {
    Look { state, light, dark }
}

/// Labels and the small text under them keep the contrasts of WCAG 2.2 (1.4.6 and 1.4.3): 7 : 1 and 4.5 : 1.
const LOOKS: [Look; 10] = [
    look("pending", ["#ffffff", "#94a3b8"], ["#1e293b", "#64748b"]),
    look("queued", ["#eef2ff", "#6366f1"], ["#272a5a", "#818cf8"]),
    look("running", ["#e0f2fe", "#0284c7"], ["#0b3a57", "#38bdf8"]),
    look("retrying", ["#fef3c7", "#d97706"], ["#4a2f0c", "#fbbf24"]),
    look("completed", ["#dcfce7", "#16a34a"], ["#0f3d26", "#4ade80"]),
    look("failed", ["#fee2e2", "#dc2626"], ["#551c1c", "#f87171"]),
    look("skipped", ["#f1f5f9", "#cbd5e1"], ["#172033", "#475569"]),
    look("cancelled", ["#f3f4f6", "#6b7280"], ["#272c36", "#9ca3af"]),
    look("timed_out", ["#ffedd5", "#ea580c"], ["#54290e", "#fb923c"]),
    look("cached", ["#ccfbf1", "#0d9488"], ["#0c403c", "#2dd4bf"]),
];

/// What goes from one node to another, by both: several edges between two nodes are one line in a drawing.
fn lines(dag: &Dag) -> BTreeMap<(u32, u32), Vec<&str>> {
    let mut lines: BTreeMap<(u32, u32), Vec<&str>> = BTreeMap::new();
    for edge in dag.edges() {
        lines.entry((edge.source, edge.target)).or_default().push(&edge.data);
    }
    for names in lines.values_mut() {
        names.sort_unstable();
        names.dedup();
    }
    lines
}
