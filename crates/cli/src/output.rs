//! What the program prints: data on standard output, everything else on standard error.

use std::fmt::Display;
use std::io::{IsTerminal, Write};
use std::process::ExitCode;

use serde_json::Value;
use taskiq_flow::security::audit::escape_controls;

/// Done, and not well: a run failed, or a verification found something.
pub(crate) const FAILED: u8 = 1;
/// What was asked for is not possible: usage, configuration or definition.
pub(crate) const WRONG: u8 = 2;

/// Why the program ends without having done what it was asked.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) code: ExitCode,
    pub(crate) message: String,
}

impl Failure {
    /// Something failed while it was done.
    pub(crate) fn failed(message: impl Display) -> Self {
        Self { code: ExitCode::from(FAILED), message: message.to_string() }
    }

    /// What was asked for is not possible.
    pub(crate) fn wrong(message: impl Display) -> Self {
        Self { code: ExitCode::from(WRONG), message: message.to_string() }
    }
}

/// Prints a line of data. A reader that has gone is no error: `taskiq-flow … | head` is fine.
pub(crate) fn line(text: impl Display) {
    let _ = writeln!(std::io::stdout().lock(), "{text}");
}

/// Prints text that ends its lines itself.
pub(crate) fn text(text: &str) {
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
}

/// Prints a value for people and programs alike: indented on a terminal, one line elsewhere.
pub(crate) fn json(value: &Value) {
    if std::io::stdout().is_terminal() { line(format!("{value:#}")) } else { line(value) }
}

/// Prints a line that is no data.
pub(crate) fn note(text: impl Display) {
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

/// Prints why the program ends. Messages that were rendered with their place begin with `error` themselves.
pub(crate) fn error(message: &str) {
    if message.starts_with("error") { note(message) } else { note(format!("error: {message}")) }
}

/// Whether messages may be coloured.
pub(crate) fn colour() -> bool {
    std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none()
}

/// Prints rows in columns. The last column may be of any width.
pub(crate) fn table<const N: usize>(heads: [&str; N], rows: impl Iterator<Item = [String; N]>) {
    let rows: Vec<[String; N]> = std::iter::once(heads.map(str::to_owned)).chain(rows).collect();
    let mut widths = [0; N];
    for row in &rows {
        for (width, text) in widths.iter_mut().zip(row) {
            *width = (*width).max(text.chars().count());
        }
    }
    for row in &rows {
        let cells: Vec<String> =
            row.iter().zip(widths).map(|(text, width)| format!("{text:<width$}")).collect();
        line(cells.join("  ").trim_end());
    }
}

/// A value of an answer as a cell of a table: lists with commas, nothing as `-`, and nothing that moves the cursor.
pub(crate) fn cell(value: &Value) -> String {
    let text = match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Array(list) => list.iter().map(cell).collect::<Vec<_>>().join(","),
        other => other.to_string(),
    };
    if text.is_empty() { "-".to_owned() } else { escape_controls(&text).into_owned() }
}
