//! What the program prints: data on standard output, everything else on standard error.

use std::fmt::Display;
use std::io::{IsTerminal, Write};
use std::process::ExitCode;

use serde_json::Value;

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
