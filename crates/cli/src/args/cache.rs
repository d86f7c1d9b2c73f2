//! What `cache` can be asked for.

use clap::{Args, Subcommand};
use taskiq_flow::core::id::PipelineId;

use super::RemoteArgs;

#[derive(Debug, Subcommand)]
pub(crate) enum CacheCommand {
    /// Show how many values the tasks of a pipeline have kept
    Show(CacheShowArgs),
    /// Forget them, so that they are made anew
    Clear(CacheClearArgs),
}

#[derive(Debug, Args)]
pub(crate) struct CacheShowArgs {
    /// The pipeline
    #[arg(value_name = "PIPELINE")]
    pub(crate) pipeline: PipelineId,
    #[command(flatten)]
    pub(crate) remote: RemoteArgs,
    /// Print the table as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct CacheClearArgs {
    /// The pipeline
    #[arg(value_name = "PIPELINE")]
    pub(crate) pipeline: PipelineId,
    /// Only those of this task
    #[arg(long, value_name = "NAME")]
    pub(crate) task: Option<String>,
    #[command(flatten)]
    pub(crate) remote: RemoteArgs,
}
