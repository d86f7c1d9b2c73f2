//! What `runs` and `trigger` can be asked for: they speak to a server.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use taskiq_flow::core::id::{PipelineId, RunId};
use taskiq_flow::core::run::RunStatus;

use super::RemoteArgs;

#[derive(Debug, Subcommand)]
pub(crate) enum RunsCommand {
    /// List runs, newest first
    List(RunsListArgs),
    /// Say how runs of a pipeline ended, and how long they took
    Stats(RunsStatsArgs),
    /// Show a run with its steps
    Show(RunsShowArgs),
    /// Follow a run to its end, whose outcome the exit code tells; a lost connection is made again
    Watch(RunsWatchArgs),
    /// Stop a run for good
    Cancel(RunsCancelArgs),
    /// Keep a run from starting anything new
    Pause(RunsControlArgs),
    /// Let a paused run go on
    Resume(RunsControlArgs),
    /// Run again what a failed, cancelled or timed out run did not finish: prints the id of the new run
    Retry(RunsControlArgs),
    /// Start a new run that takes over what a run that has ended had made, except from a step on, or for changed parameters:
    /// prints its id
    Fork(RunsForkArgs),
    /// Send a signal to a run, which may be waiting for it
    Signal(RunsSignalArgs),
}

#[derive(Debug, Args)]
pub(crate) struct RunsListArgs {
    /// Only runs of this pipeline
    #[arg(long, value_name = "ID")]
    pub(crate) pipeline: Option<PipelineId>,
    /// Only runs in this state
    #[arg(long, value_name = "STATE", value_parser = RunStatus::ALL.map(RunStatus::as_str))]
    pub(crate) status: Option<String>,
    #[command(flatten)]
    pub(crate) times: TimesArgs,
    /// At most so many
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) limit: u32,
    #[command(flatten)]
    pub(crate) remote: RemoteArgs,
    /// Print the list as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// When runs were asked for.
#[derive(Debug, Args)]
pub(crate) struct TimesArgs {
    /// Only those that were asked for since then: a time, or how long ago that is, such as 1h
    #[arg(long, value_name = "TIME")]
    pub(crate) since: Option<String>,
    /// Only those that were asked for before then: a time, or how long ago that is
    #[arg(long, value_name = "TIME")]
    pub(crate) until: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct RunsStatsArgs {
    /// The pipeline
    #[arg(value_name = "PIPELINE")]
    pub(crate) pipeline: PipelineId,
    #[command(flatten)]
    pub(crate) times: TimesArgs,
    #[command(flatten)]
    pub(crate) remote: RemoteArgs,
    /// Print the server's answer as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct RunsShowArgs {
    /// The run
    #[arg(value_name = "ID")]
    pub(crate) id: RunId,
    #[command(flatten)]
    pub(crate) remote: RemoteArgs,
    /// Print the server's answer as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct RunsWatchArgs {
    /// The run
    #[arg(value_name = "ID")]
    pub(crate) id: RunId,
    #[command(flatten)]
    pub(crate) remote: RemoteArgs,
    /// Print every event as one line of JSON, instead of progress and the result
    #[arg(long)]
    pub(crate) json: bool,
    /// Print nothing but the result
    #[arg(short, long, conflicts_with = "json")]
    pub(crate) quiet: bool,
}

#[derive(Debug, Args)]
pub(crate) struct RunsCancelArgs {
    /// Why, for those who look at the run later
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: Option<String>,
    #[command(flatten)]
    pub(crate) control: RunsControlArgs,
}

#[derive(Debug, Args)]
pub(crate) struct RunsControlArgs {
    /// The run
    #[arg(value_name = "ID")]
    pub(crate) id: RunId,
    #[command(flatten)]
    pub(crate) remote: RemoteArgs,
    /// Print the server's answer as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct RunsForkArgs {
    #[command(flatten)]
    pub(crate) control: RunsControlArgs,
    /// The step from which on all is done again; unless given, what did not come to an end is
    #[arg(long, value_name = "STEP")]
    pub(crate) from: Option<String>,
    /// Parameter with another value; it is read as JSON unless the pipeline declares a string
    #[arg(short = 'p', long = "param", value_name = "NAME=VALUE")]
    pub(crate) params: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct RunsSignalArgs {
    #[command(flatten)]
    pub(crate) control: RunsControlArgs,
    /// The signal
    #[arg(value_name = "NAME")]
    pub(crate) name: String,
    /// Its value
    #[arg(value_name = "JSON", default_value = "null", allow_hyphen_values = true)]
    pub(crate) value: String,
}

#[derive(Debug, Args)]
pub(crate) struct TriggerArgs {
    /// Pipeline
    #[arg(value_name = "PIPELINE")]
    pub(crate) pipeline: PipelineId,
    /// Parameter; the value is read as JSON unless the pipeline declares a string
    #[arg(short = 'p', long = "param", value_name = "NAME=VALUE")]
    pub(crate) params: Vec<String>,
    /// JSON file with parameters, or - for standard input
    #[arg(long, value_name = "FILE")]
    pub(crate) input: Option<PathBuf>,
    /// Follow the run to its end, print its result as JSON, and tell its outcome by the exit code. Ctrl-C ends the
    /// following, not the run
    #[arg(long)]
    pub(crate) wait: bool,
    /// The same key on the same pipeline starts one run, however often it is sent
    #[arg(long, value_name = "KEY")]
    pub(crate) idempotency_key: Option<String>,
    #[command(flatten)]
    pub(crate) remote: RemoteArgs,
    /// Print the server's answer as JSON; with --wait the whole run
    #[arg(long)]
    pub(crate) json: bool,
    /// Print nothing but the run's id or, with --wait, its result
    #[arg(short, long)]
    pub(crate) quiet: bool,
}
