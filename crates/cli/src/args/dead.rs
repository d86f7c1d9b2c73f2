//! What `dead` can be asked for.

use clap::{Args, Subcommand};
use taskiq_flow::core::id::{PipelineId, RunId};

use super::RemoteArgs;

#[derive(Debug, Subcommand)]
pub(crate) enum DeadCommand {
    /// List steps that were given up, newest first
    List(DeadListArgs),
    /// Start a new run that does the step again and what needs it: prints its id
    Replay(DeadLetterArgs),
    /// Delete the entry; the run stays as it is
    Drop(DeadLetterArgs),
}

#[derive(Debug, Args)]
pub(crate) struct DeadListArgs {
    /// Only of this pipeline
    #[arg(long, value_name = "ID")]
    pub(crate) pipeline: Option<PipelineId>,
    /// Those that were replayed, too
    #[arg(long)]
    pub(crate) all: bool,
    /// At most so many
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) limit: u32,
    #[command(flatten)]
    pub(crate) remote: RemoteArgs,
    /// Print the list as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct DeadLetterArgs {
    /// The run
    #[arg(value_name = "RUN")]
    pub(crate) run: RunId,
    /// The number of the step run, as `dead list` shows it
    #[arg(value_name = "STEP_RUN")]
    pub(crate) step_run: u32,
    #[command(flatten)]
    pub(crate) remote: RemoteArgs,
}
