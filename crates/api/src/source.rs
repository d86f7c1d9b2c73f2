//! Where the configuration of a running server is read again from.

use std::fmt;

use taskiq_flow_security::settings::Settings;

use crate::problem::FieldProblem;

/// Where the configuration comes from.
pub trait SettingsSource: fmt::Debug + Send + Sync {
    /// Reads and checks the whole configuration. It may wait for files.
    ///
    /// # Errors
    /// What is wrong with it, and the fix. No secret.
    fn read(&self) -> Result<FreshSettings, Vec<FieldProblem>>;
}

/// A configuration that has been read and checked.
#[derive(Debug)]
pub struct FreshSettings {
    /// What is put in force.
    pub settings: Settings,
    /// The names of other fields that differ from what the server runs with, and wait for a restart.
    pub pending: Vec<String>,
}
