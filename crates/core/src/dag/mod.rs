//! The graph of a pipeline: what can run when, what holds the rest up, and how it is drawn.
//!
//! ```
//! use taskiq_flow_core::dag::{Dag, DagEdge, DagFormat, DagNode};
//!
//! let nodes = ["load", "count", "rank", "report"].map(|name| DagNode::new(name, "expression"));
//! let edges = [(0, 1, "lines"), (0, 2, "lines"), (1, 3, "total"), (2, 3, "ranked")]
//!     .map(|(source, target, data)| DagEdge { source, target, data: data.to_owned() });
//! let dag = Dag::new(nodes.into(), edges.into())?;
//! assert_eq!(dag.parallel_groups(), [vec!["load"], vec!["count", "rank"], vec!["report"]]);
//! assert_eq!(dag.critical_path(None).path, [0, 1, 3]);
//!
//! let drawing = dag.render(DagFormat::Ascii, &[]).into_text();
//! assert!(drawing.contains("│ report │"));
//! # Ok::<(), taskiq_flow_core::dag::DagError>(())
//! ```
//!
//! - A node is named by its index, which is its place in the definition; ids are for people and for JSON.
//! - Building and analysing takes time in proportion to nodes and edges (the topological order a logarithm more),
//!   and nothing recurses: a chain of 100,000 nodes is as safe as one of ten.
//! - Ids and labels may hold anything. Every drawing escapes them for its own format.

mod adjacency;
mod analysis;
mod cycle;
mod forecast;
mod graph;
mod render;

#[cfg(test)]
mod tests;

pub use analysis::{CriticalPath, Weight};
pub use cycle::{CycleError, find_cycle};
pub use forecast::{Cost, Forecast, ItemCost, Job, MOST_DRAWN, Schedule, Stage, median};
pub use graph::{Dag, DagEdge, DagError, DagNode};
pub use render::{DagFormat, Rendered, UnknownFormat};
