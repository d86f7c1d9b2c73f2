//! `completions`: for shells.

use std::process::ExitCode;

use clap::CommandFactory;

use crate::args::{Cli, CompletionsArgs};
use crate::output::{Failure, text};

pub(crate) fn run(args: &CompletionsArgs) -> Result<ExitCode, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "taskiq-flow", &mut script);
    text(&String::from_utf8_lossy(&script));
    Ok(ExitCode::SUCCESS)
}
