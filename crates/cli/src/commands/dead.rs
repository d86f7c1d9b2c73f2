//! `dead`: the steps of a server that were given up.

use std::process::ExitCode;

use reqwest::Method;
use serde_json::{Value, json};

use crate::args::{DeadCommand, DeadLetterArgs, DeadListArgs};
use crate::commands;
use crate::output::{Failure, cell, json as print_json, line, note, table};
use crate::remote::Remote;

pub(crate) fn run(command: DeadCommand) -> Result<ExitCode, Failure> {
    commands::runtime()?.block_on(async {
        match command {
            DeadCommand::List(args) => list(args).await,
            DeadCommand::Replay(args) => replay(args).await,
            DeadCommand::Drop(args) => drop(args).await,
        }
    })
}

async fn list(args: DeadListArgs) -> Result<ExitCode, Failure> {
    let remote = Remote::new(&args.remote)?;
    let pipeline = args.pipeline.as_ref().map(|id| ("pipeline_id", id.as_str()));
    let open = (!args.all).then_some(("replayed", "false"));
    let query: Vec<_> = pipeline.into_iter().chain(open).collect();
    let most = usize::try_from(args.limit).unwrap_or(usize::MAX);
    let letters = remote.first_entries(&["dead-letters"], &query, "dead_letters", most).await?;
    if args.json {
        print_json(&json!({ "dead_letters": letters }));
        return Ok(ExitCode::SUCCESS);
    }
    let text = |value: &Value| if value.is_null() { "-".to_owned() } else { cell(value) };
    let rows = letters.iter().map(|letter| {
        ["run_id", "step_run", "pipeline_id", "step", "at", "replayed_by", "error"]
            .map(|name| text(&letter[name]))
    });
    table(["RUN", "STEP_RUN", "PIPELINE", "STEP", "SINCE", "REPLAYED BY", "ERROR"], rows);
    Ok(ExitCode::SUCCESS)
}

async fn replay(args: DeadLetterArgs) -> Result<ExitCode, Failure> {
    let (run, step_run) = (args.run.to_string(), args.step_run.to_string());
    let path = ["dead-letters", &run, &step_run, "replay"];
    let accepted = Remote::new(&args.remote)?.call(Method::POST, &path, None).await?;
    line(cell(&accepted["run_id"]));
    Ok(ExitCode::SUCCESS)
}

async fn drop(args: DeadLetterArgs) -> Result<ExitCode, Failure> {
    let (run, step_run) = (args.run.to_string(), args.step_run.to_string());
    Remote::new(&args.remote)?.call(Method::DELETE, &["dead-letters", &run, &step_run], None).await?;
    note(format!("the dead letter of step run {step_run} of run {run} is gone"));
    Ok(ExitCode::SUCCESS)
}
