//! Why a configuration is refused.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::Serialize;
use taskiq_flow_core::diagnostic::{Diagnostic, SourceText};

use super::mistake::Mistake;

/// Where the value of a field came from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Origin {
    /// Nobody said anything.
    Default,
    /// A configuration file.
    File(PathBuf),
    /// An environment variable, by name.
    Environment(String),
    /// A flag of the command line, as it is written there.
    Flag(String),
    /// The program itself, by the builder.
    Program,
}

/// Why a configuration is refused: one message that names the source, the field, what was expected and what was found.
/// A secret is never part of it.
///
/// As text, for a file:
///
/// ```text
/// error: `port` must be a whole number from 0 to 65535, found text "eighty"
///  --> taskiq-flow.toml:3:8
///   |
/// 3 | port = "eighty"
///   |        ^^^^^^^^
/// ```
///
/// and for anything else:
///
/// ```text
/// error: `port` must be a whole number from 0 to 65535, found text "eighty"
/// --> environment variable TASKIQ_FLOW_PORT
/// ```
#[derive(Debug, Clone)]
pub struct ConfigError {
    diagnostic: Box<Diagnostic>,
    field: Option<String>,
    origin: Origin,
}

impl ConfigError {
    /// The field at fault; none: the source as a whole.
    pub fn field(&self) -> Option<&str> {
        self.field.as_deref()
    }

    /// The source.
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// What is wrong, on one line and without the place.
    pub fn message(&self) -> &str {
        self.diagnostic.message()
    }

    /// The mistake and its place.
    pub fn diagnostic(&self) -> &Diagnostic {
        &self.diagnostic
    }

    /// The whole message, perhaps with the colours of a terminal.
    pub fn render(&self, colour: bool) -> String {
        self.diagnostic.render(colour)
    }

    pub(super) fn of_diagnostic(diagnostic: Diagnostic, field: Option<&str>, origin: Origin) -> Self {
        Self { diagnostic: Box::new(diagnostic), field: field.map(str::to_owned), origin }
    }

    /// A mistake in a source that has no text of its own.
    pub(super) fn of_mistake(mistake: Mistake, field: &str, origin: Origin) -> Self {
        let mut diagnostic = Diagnostic::new(SourceText::named(origin.to_string()), mistake.message(field));
        if let Some(help) = mistake.help {
            diagnostic = diagnostic.help(help);
        }
        Self::of_diagnostic(diagnostic, Some(field), origin)
    }

    /// The file itself is at fault.
    pub(super) fn of_file(path: &Path, message: impl Into<String>, help: Option<&str>) -> Self {
        let origin = Origin::File(path.to_owned());
        let mut diagnostic = Diagnostic::new(SourceText::named(origin.to_string()), message);
        if let Some(help) = help {
            diagnostic = diagnostic.help(help);
        }
        Self::of_diagnostic(diagnostic, None, origin)
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.diagnostic, f)
    }
}

impl std::error::Error for ConfigError {}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Environment(name) => write!(f, "environment variable {name}"),
            Self::Flag(flag) => f.write_str(flag),
            Self::Program => f.write_str("TaskiqFlowConfig"),
        }
    }
}
