//! What `run`, `check`, `dag` and `simulate` can be asked for: they need pipeline files and no server.

use std::num::NonZeroU32;
use std::path::PathBuf;

use clap::builder::PossibleValuesParser;
use clap::{Args, ValueEnum};
use taskiq_flow_simulate::Faults;

#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// Pipeline file, or the id of a pipeline in the folder of --pipelines
    #[arg(value_name = "FILE|ID")]
    pub(crate) pipeline: String,
    /// Parameter; the value is read as JSON unless the pipeline declares a string
    #[arg(short = 'p', long = "param", value_name = "NAME=VALUE")]
    pub(crate) params: Vec<String>,
    /// JSON file with parameters, or - for standard input
    #[arg(long, value_name = "FILE")]
    pub(crate) input: Option<PathBuf>,
    /// Signal for a `wait` task, sent as soon as the run starts; the value is JSON
    #[arg(long = "signal", value_name = "NAME=VALUE")]
    pub(crate) signals: Vec<String>,
    /// Folder with the pipelines that an id, or a `pipeline:` task, names [default: that of FILE, else ./pipelines]
    #[arg(long, value_name = "DIR")]
    pub(crate) pipelines: Option<PathBuf>,
    /// Print the whole run with its steps, not its result alone
    #[arg(long)]
    pub(crate) json: bool,
    /// Print nothing but the result
    #[arg(short, long)]
    pub(crate) quiet: bool,
}

#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// Configuration and pipeline files, or folders of pipeline files
    #[arg(value_name = "FILE", required = true)]
    pub(crate) files: Vec<PathBuf>,
    /// Print what was found as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct DagArgs {
    /// Pipeline file
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// How to draw it
    #[arg(long, value_enum, default_value_t = DagFormat::Ascii)]
    pub(crate) format: DagFormat,
    /// Say instead what a run takes with so many workers, what could be later, and what to speed up first: a table, or with
    /// --format json an object
    #[arg(long, value_name = "WORKERS")]
    pub(crate) what_if: Option<NonZeroU32>,
    /// With --what-if: what the tasks take, in milliseconds: a JSON object {task: number or list of numbers}, or what
    /// GET /pipelines/{id}/what-if of a server answers [default: every task takes one round]
    #[arg(long, value_name = "FILE", requires = "what_if")]
    pub(crate) durations: Option<PathBuf>,
    /// Which pipeline, where the file defines several
    #[arg(long, value_name = "ID")]
    pub(crate) id: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct SimulateArgs {
    /// Pipeline file
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// Which pipeline, where the file defines several
    #[arg(long, value_name = "ID")]
    pub(crate) id: Option<String>,
    /// Where the made-up world begins; the same seed makes the same world [default: another one each time]
    #[arg(long, value_name = "N")]
    pub(crate) seed: Option<u64>,
    /// How many runs, each with the next seed
    #[arg(long, value_name = "K", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub(crate) runs: u32,
    /// What does not go wrong
    #[arg(long, value_name = "FAULT", value_delimiter = ',', value_parser = PossibleValuesParser::new(Faults::NAMES))]
    pub(crate) without: Vec<String>,
    /// Print all that happens in the world of the first seed
    #[arg(long, conflicts_with = "json")]
    pub(crate) trace: bool,
    /// Print the report as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum DagFormat {
    Ascii,
    Json,
    Dot,
    Mermaid,
    Svg,
    Cytoscape,
}
