//! `completions`: for shells.

use std::process::ExitCode;

use clap::CommandFactory;

use crate::args::{Cli, CompletionsArgs};
use crate::output::{Failure, text};

pub(crate) fn run(args: &CompletionsArgs) -> Result<ExitCode, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "taskiq-flow", &mut script);
    let script = String::from_utf8_lossy(&script);
    // clap_complete 4.6 spells a hyphen in the program's name in two ways, so that nothing below the first word is
    // completed in bash (clap-rs/clap#6421).
    text(&script.replace("taskiq__subcmd__flow", "taskiq__flow"));
    Ok(ExitCode::SUCCESS)
}
