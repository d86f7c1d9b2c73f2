//! Inputs for the benchmarks, made by rule so that every run measures the same; clients, and what the system says of servers.

pub mod asking;
pub mod process;
pub mod swarm;

use std::fmt::Write;

/// A pipeline file in YAML with `tasks` tasks in layers of 20; each task needs three of the layer before.
///
/// ```
/// use taskiq_flow_core::{document::Format, load::load_text};
/// let text = taskiq_flow_bench::layered_yaml(50);
/// assert_eq!(load_text("bench.yaml", &text, Format::Yaml).unwrap()[0].tasks.len(), 50);
/// ```
pub fn layered_yaml(tasks: usize) -> String {
    const WIDTH: usize = 20;
    let mut text = String::from("id: layered\ninputs:\n  seed: { type: integer }\ntasks:\n");
    for place in 0..tasks {
        let (layer, column) = (place / WIDTH, place % WIDTH);
        let needs: Vec<String> = match layer {
            0 => vec!["seed".to_owned()],
            _ => [0, 7, 13]
                .iter()
                .map(|step| format!("o{}", (layer - 1) * WIDTH + (column + step) % WIDTH))
                .collect(),
        };
        let sum = needs.join(" + ");
        // A String takes whatever is written to it.
        let _ = write!(
            text,
            "  - name: task-{place}\n    expression: \"{sum}\"\n    inputs: [{}]\n    output: o{place}\n    timeout: 30s\n    \
             retry: {{ max_attempts: 3, delay: 1s }}\n",
            needs.join(", ")
        );
    }
    text
}

/// A pipeline file in YAML with `tasks` tasks, each of which needs an input that is nowhere.
///
/// ```
/// use taskiq_flow_core::{document::Format, load::load_text};
/// let text = taskiq_flow_bench::mistaken_yaml(50);
/// assert_eq!(load_text("bench.yaml", &text, Format::Yaml).unwrap_err().iter().count(), 50);
/// ```
pub fn mistaken_yaml(tasks: usize) -> String {
    let mut text = String::from("id: mistaken\ninputs: {}\ntasks:\n");
    for place in 0..tasks {
        // A String takes whatever is written to it.
        let _ = writeln!(text, "  - {{ name: task-{place}, expression: o{place}, inputs: [o{place}] }}");
    }
    text
}
