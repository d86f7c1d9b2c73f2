//! `cache`: the values that the tasks of a server have kept.

use std::process::ExitCode;

use reqwest::Method;

use crate::args::{CacheClearArgs, CacheCommand, CacheShowArgs};
use crate::commands;
use crate::output::{Failure, cell, json as print_json, note, table};
use crate::remote::Remote;

pub(crate) fn run(command: CacheCommand) -> Result<ExitCode, Failure> {
    commands::runtime()?.block_on(async {
        match command {
            CacheCommand::Show(args) => show(args).await,
            CacheCommand::Clear(args) => clear(args).await,
        }
    })
}

async fn show(args: CacheShowArgs) -> Result<ExitCode, Failure> {
    let path = ["pipelines", args.pipeline.as_str(), "cache"];
    let shown = Remote::new(&args.remote)?.call(Method::GET, &path, None).await?;
    if args.json {
        print_json(&shown);
        return Ok(ExitCode::SUCCESS);
    }
    let tasks = shown["tasks"].as_array().into_iter().flatten();
    let rows = tasks.map(|task| ["task", "entries", "bytes"].map(|name| cell(&task[name])));
    table(["TASK", "VALUES", "BYTES"], rows);
    Ok(ExitCode::SUCCESS)
}

async fn clear(args: CacheClearArgs) -> Result<ExitCode, Failure> {
    let path = ["pipelines", args.pipeline.as_str(), "cache"];
    let query: Vec<_> = args.task.as_deref().map(|task| ("task", task)).into_iter().collect();
    let answer = Remote::new(&args.remote)?.send(Method::DELETE, &path, &query, None).await?.accepted()?;
    note(format!("{} kept values of `{}` are gone", cell(&answer["removed"]), args.pipeline));
    Ok(ExitCode::SUCCESS)
}
