//! What `schedules` can be asked for: it speaks to a server.

use clap::{Args, Subcommand};
use taskiq_flow::core::id::PipelineId;
use taskiq_flow::core::time::Timestamp;

use super::RemoteArgs;

#[derive(Debug, Subcommand)]
pub(crate) enum SchedulesCommand {
    /// List schedules, by id
    List(SchedulesListArgs),
    /// Show a schedule
    Show(ScheduleArgs),
    /// Keep a schedule from firing
    Pause(ScheduleArgs),
    /// Let a schedule fire again, from now on
    Resume(ScheduleArgs),
    /// Start a run of a schedule now, beside its own times: prints the id of the run
    Trigger(ScheduleArgs),
    /// Start the runs of times that have passed and have had none
    Backfill(SchedulesBackfillArgs),
    /// Show what came of the times of a schedule, the last first
    History(SchedulesHistoryArgs),
}

#[derive(Debug, Args)]
pub(crate) struct SchedulesListArgs {
    /// Only schedules of this pipeline
    #[arg(long, value_name = "ID")]
    pub(crate) pipeline: Option<PipelineId>,
    #[command(flatten)]
    pub(crate) remote: RemoteArgs,
    /// Print the list as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ScheduleArgs {
    /// The schedule
    #[arg(value_name = "ID")]
    pub(crate) id: String,
    #[command(flatten)]
    pub(crate) remote: RemoteArgs,
    /// Print the server's answer as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct SchedulesBackfillArgs {
    #[command(flatten)]
    pub(crate) schedule: ScheduleArgs,
    /// The first time that counts, such as 2026-01-31T00:00:00Z
    #[arg(long, value_name = "TIME")]
    pub(crate) from: Timestamp,
    /// The last time that counts [default: now]
    #[arg(long, value_name = "TIME")]
    pub(crate) to: Option<Timestamp>,
    /// Only say which times there are
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// At most so many times, the first ones
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) max: u32,
}

#[derive(Debug, Args)]
pub(crate) struct SchedulesHistoryArgs {
    #[command(flatten)]
    pub(crate) schedule: ScheduleArgs,
    /// At most so many times
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) limit: u32,
}
