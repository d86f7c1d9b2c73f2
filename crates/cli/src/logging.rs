//! The program's log, on standard error.

use taskiq_flow::TaskiqFlowConfig;
use taskiq_flow::config::LogFormat;
use tracing::Level;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::prelude::*;

use crate::output::{Failure, colour};

/// Audit records have files and formats of their own; here they would only stand twice.
const AUDIT: &str = taskiq_flow::security::audit::LOGGER;

/// What the targets of the product's own crates begin with.
const OWN: &str = "taskiq_flow";

/// Starts logging as the configuration says.
pub(crate) fn start(config: &TaskiqFlowConfig) -> Result<(), Failure> {
    let level = EnvFilter::try_new(&config.log_level)
        .map_err(|error| Failure::wrong(format!("log_level: `{}`: {error}", config.log_level)))?;
    let registry = tracing_subscriber::registry().with(level);
    let layer = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(colour());
    // Below `info` libraries tell what passes through them, keys and parameters included.
    let others = filter_fn(|metadata| {
        metadata.target() != AUDIT && (*metadata.level() <= Level::INFO || metadata.target().starts_with(OWN))
    });
    let started = match config.log_format {
        LogFormat::Json => registry.with(layer.json().flatten_event(true).with_filter(others)).try_init(),
        LogFormat::Text => registry.with(layer.compact().with_target(false).with_filter(others)).try_init(),
    };
    started.map_err(Failure::failed)
}
