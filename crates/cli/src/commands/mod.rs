//! One file for each command.

pub(crate) mod acl;
pub(crate) mod audit;
pub(crate) mod cache;
pub(crate) mod check;
pub(crate) mod completions;
pub(crate) mod dag;
pub(crate) mod dead;
pub(crate) mod demo;
pub(crate) mod key;
mod outcome;
mod parameters;
mod progress;
pub(crate) mod run;
pub(crate) mod runs;
pub(crate) mod schedules;
pub(crate) mod security;
pub(crate) mod selftest;
pub(crate) mod serve;
pub(crate) mod simulate;
pub(crate) mod store;
pub(crate) mod token;
pub(crate) mod trigger;
pub(crate) mod webhooks;

use std::path::Path;
use std::time::Duration;

use taskiq_flow::config::{ConfigError, Loaded, Sources};
use taskiq_flow::core::definition::Pipeline;
use taskiq_flow::core::time::{Timestamp, parse_duration};
use taskiq_flow::{LoadError, load_files};

use crate::output::{Failure, colour, note};

/// Reads the configuration and prints what the operator should know about it.
pub(crate) fn configuration(sources: &Sources) -> Result<Loaded, Failure> {
    let loaded = sources.load().map_err(|error| config_failure(&error))?;
    for warning in &loaded.warnings {
        note(format!("warning: {}", warning.message));
    }
    Ok(loaded)
}

/// The sources of a command: the process's own, and the file it was told to read.
pub(crate) fn sources(file: Option<&Path>) -> Sources {
    match file {
        Some(file) => Sources::of_process().file(file),
        None => Sources::of_process(),
    }
}

pub(crate) fn config_failure(error: &ConfigError) -> Failure {
    Failure::wrong(error.render(colour()))
}

/// Loads pipelines, or says what is wrong with them.
pub(crate) fn pipelines<P: AsRef<Path>>(
    paths: impl IntoIterator<Item = P>,
) -> Result<Vec<Pipeline>, Failure> {
    load_files(paths).map_err(|error| load_failure(&error))
}

/// The pipeline that a file defines; the one of that id, where it defines several.
pub(crate) fn one_pipeline(file: &Path, id: Option<&str>) -> Result<Pipeline, Failure> {
    let mut pipelines = pipelines([file])?;
    let ids = pipelines.iter().map(|pipeline| pipeline.id.to_string()).collect::<Vec<_>>().join(", ");
    if let Some(id) = id {
        pipelines.retain(|pipeline| pipeline.id.as_str() == id);
    }
    let how = match pipelines.len() {
        1 => return Ok(pipelines.remove(0)),
        0 => "name",
        _ => "choose",
    };
    Err(Failure::wrong(format!("{}: defines {ids}; {how} one of them with --id", file.display())))
}

pub(crate) fn load_failure(error: &LoadError) -> Failure {
    match error {
        LoadError::Definition(diagnostics) => Failure::wrong(diagnostics.render(colour())),
        other => Failure::wrong(other),
    }
}

/// A time that an option gives.
pub(crate) fn time(option: &str, text: &str) -> Result<Timestamp, Failure> {
    let wrong =
        |_| Failure::wrong(format!("{option}: `{text}` is no time; write one such as 2027-01-31T00:00:00Z"));
    text.parse().map_err(wrong)
}

/// A time that an option gives, or says how long ago it is.
pub(crate) fn moment(option: &str, text: &str) -> Result<Timestamp, Failure> {
    if let Ok(ago) = parse_duration(text) {
        return Ok(Timestamp::now().minus(ago));
    }
    text.parse().map_err(|_| {
        let samples = "2027-01-31T00:00:00Z, or how long ago that is, such as 90m";
        Failure::wrong(format!("{option}: `{text}` is no time; write one such as {samples}"))
    })
}

/// A duration that an option gives.
pub(crate) fn duration(option: &str, text: &str) -> Result<Duration, Failure> {
    parse_duration(text).map_err(|error| Failure::wrong(format!("{option}: {error}")))
}

/// Starts the asynchronous runtime.
pub(crate) fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(Failure::failed)
}
