//! What the API is told at its start.

use std::path::PathBuf;
use std::sync::Arc;

use taskiq_flow_core::definition::Priority;

use crate::metrics::Metrics;
use crate::source::SettingsSource;

/// How the API behaves. The defaults are those of the configuration file.
#[derive(Debug, Clone)]
pub struct ApiOptions {
    /// The largest request body, in bytes; a larger one is answered 413.
    pub max_body_bytes: usize,
    /// The most WebSockets and event streams open at once; a further one is answered 503.
    pub websocket_max_connections: usize,
    /// Danger: whether pipelines with `command` tasks, which start processes on this machine, may be registered over
    /// the API. Whoever holds an admin key can then run any program here.
    pub allow_remote_commands: bool,
    /// Where measurements are taken from; none: there is no metrics endpoint.
    pub metrics: Option<Metrics>,
    /// The path of the metrics endpoint.
    pub metrics_path: String,
    /// The directory that copies of the store are put in; none: none are made over the API.
    pub backup_dir: Option<PathBuf>,
    /// Files that the directory may hold; a further copy is answered 409, unless it takes the place of one.
    pub max_backups: usize,
    /// The highest priority that a definition or a run may be given over the API.
    pub max_priority: Priority,
    /// Where the configuration is read again from; none: it cannot be.
    pub settings_source: Option<Arc<dyn SettingsSource>>,
}

impl Default for ApiOptions {
    fn default() -> Self {
        Self {
            max_body_bytes: 1 << 20,
            websocket_max_connections: 1000,
            allow_remote_commands: false,
            metrics: None,
            metrics_path: DEFAULT_METRICS_PATH.to_owned(),
            backup_dir: None,
            max_backups: 400,
            max_priority: Priority::MAX,
            settings_source: None,
        }
    }
}

/// Options that do not fit together.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OptionsError {
    /// The path of the metrics endpoint is none, or has another use.
    #[error("metrics_path: `{0}` cannot be used; write a path of its own such as `{DEFAULT_METRICS_PATH}`")]
    MetricsPath(String),
}

/// Where the metrics endpoint is unless configured otherwise.
pub(crate) const DEFAULT_METRICS_PATH: &str = "/metrics";

impl ApiOptions {
    /// Checks what the types do not.
    pub(crate) fn check(&self, taken: impl Fn(&str) -> bool) -> Result<(), OptionsError> {
        let path = &self.metrics_path;
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '-' | '_' | '.');
        let usable = path.len() > 1
            && path.starts_with('/')
            && path.chars().all(plain)
            && !path.ends_with('/')
            && !path.contains("//")
            && !["/api/", "/ui/", "/ws/"].iter().any(|reserved| path.starts_with(reserved));
        if usable && (path == DEFAULT_METRICS_PATH || !taken(path)) {
            Ok(())
        } else {
            Err(OptionsError::MetricsPath(path.clone()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_metrics_path_is_a_path_of_its_own() {
        let check = |path: &str| {
            let options = ApiOptions { metrics_path: path.to_owned(), ..ApiOptions::default() };
            options.check(|taken| taken == "/pipelines").is_ok()
        };
        for good in ["/metrics", "/internal/metrics", "/m.txt"] {
            assert!(check(good), "{good}");
        }
        for bad in
            ["", "/", "metrics", "/pipelines", "/a/{id}", "/a b", "/m/", "//m", "/api/m", "/ui/m", "/*"]
        {
            assert!(!check(bad), "{bad}");
        }
    }
}
