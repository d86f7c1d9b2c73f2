//! `schedules`: the schedules of a server.

use std::process::ExitCode;

use reqwest::Method;
use serde_json::{Value, json};
use taskiq_flow::core::time::Timestamp;

use crate::args::{
    ScheduleArgs, SchedulesBackfillArgs, SchedulesCommand, SchedulesHistoryArgs, SchedulesListArgs,
};
use crate::commands;
use crate::output::{Failure, cell, json as print_json, line, note, table};
use crate::remote::Remote;

pub(crate) fn run(command: SchedulesCommand) -> Result<ExitCode, Failure> {
    commands::runtime()?.block_on(async {
        match command {
            SchedulesCommand::List(args) => list(args).await,
            SchedulesCommand::Show(args) => show(&args).await,
            SchedulesCommand::Pause(args) => switch(&args, "pause").await,
            SchedulesCommand::Resume(args) => switch(&args, "resume").await,
            SchedulesCommand::Trigger(args) => trigger(&args).await,
            SchedulesCommand::Backfill(args) => backfill(&args).await,
            SchedulesCommand::History(args) => history(&args).await,
        }
    })
}

async fn list(args: SchedulesListArgs) -> Result<ExitCode, Failure> {
    let remote = Remote::new(&args.remote)?;
    let pipeline = args.pipeline.as_ref().map(|id| ("pipeline_id", id.as_str()));
    let query: Vec<_> = pipeline.into_iter().collect();
    let schedules = remote.first_entries(&["schedules"], &query, "schedules", usize::MAX).await?;
    if args.json {
        print_json(&json!({ "schedules": schedules }));
        return Ok(ExitCode::SUCCESS);
    }
    let rows = schedules.iter().map(|schedule| {
        let paused = schedule["enabled"] == false;
        [
            cell(&schedule["id"]),
            cell(&schedule["pipeline_id"]),
            when(schedule),
            if paused { "paused".to_owned() } else { or_dash(&schedule["next_fire_at"]) },
            or_dash(&schedule["last_fire_at"]),
        ]
    });
    table(["SCHEDULE", "PIPELINE", "WHEN", "NEXT", "LAST"], rows);
    Ok(ExitCode::SUCCESS)
}

async fn show(args: &ScheduleArgs) -> Result<ExitCode, Failure> {
    let schedule = call(args, Method::GET, &[], None).await?;
    if args.json {
        print_json(&schedule);
        return Ok(ExitCode::SUCCESS);
    }
    line(format!("schedule    {}", cell(&schedule["id"])));
    line(format!("pipeline    {}", cell(&schedule["pipeline_id"])));
    line(format!("when        {}", when(&schedule)));
    for field in ["from", "until", "jitter", "catch_up", "overlap", "parameters", "enabled"] {
        if !schedule[field].is_null() {
            line(format!("{field:<11} {}", cell(&schedule[field])));
        }
    }
    line(format!("next        {}", or_dash(&schedule["next_fire_at"])));
    line(format!("last        {}", or_dash(&schedule["last_fire_at"])));
    Ok(ExitCode::SUCCESS)
}

async fn switch(args: &ScheduleArgs, action: &str) -> Result<ExitCode, Failure> {
    let schedule = call(args, Method::POST, &[action], None).await?;
    if args.json {
        print_json(&schedule);
    } else if schedule["enabled"] == false {
        note(format!("the schedule {} is paused", cell(&schedule["id"])));
    } else {
        note(format!(
            "the schedule {} goes on; next: {}",
            cell(&schedule["id"]),
            or_dash(&schedule["next_fire_at"])
        ));
    }
    Ok(ExitCode::SUCCESS)
}

async fn trigger(args: &ScheduleArgs) -> Result<ExitCode, Failure> {
    let accepted = call(args, Method::POST, &["trigger"], None).await?;
    if args.json {
        print_json(&accepted);
    } else {
        line(cell(&accepted["run_id"]));
    }
    Ok(ExitCode::SUCCESS)
}

async fn backfill(args: &SchedulesBackfillArgs) -> Result<ExitCode, Failure> {
    // By the clock of this machine; the server leaves out what is in the future by its own.
    let to = args.to.unwrap_or_else(Timestamp::now);
    let body = json!({ "from": args.from, "to": to, "dry_run": args.dry_run, "max": args.max });
    let answer = call(&args.schedule, Method::POST, &["backfill"], Some(&body)).await?;
    if args.schedule.json {
        print_json(&answer);
    } else {
        let times = answer["times"].as_array().into_iter().flatten();
        let row = |time: &Value| [cell(&time["fire_at"]), cell(&time["outcome"]), or_dash(&time["run_id"])];
        table(["TIME", "OUTCOME", "RUN"], times.map(row));
        if !answer["next_from"].is_null() {
            note(format!("there is more from {} on", cell(&answer["next_from"])));
        }
    }
    match answer["stopped"].as_str() {
        Some(reason) => Err(Failure::failed(format!(
            "{} runs were started, then: {}",
            cell(&answer["started"]),
            cell(&json!(reason))
        ))),
        None => Ok(ExitCode::SUCCESS),
    }
}

async fn history(args: &SchedulesHistoryArgs) -> Result<ExitCode, Failure> {
    let remote = Remote::new(&args.schedule.remote)?;
    let path = ["schedules", args.schedule.id.as_str(), "firings"];
    let most = usize::try_from(args.limit).unwrap_or(usize::MAX);
    let firings = remote.first_entries(&path, &[], "firings", most).await?;
    if args.schedule.json {
        print_json(&json!({ "firings": firings }));
        return Ok(ExitCode::SUCCESS);
    }
    let rows = firings.iter().map(|firing| {
        let mut notes: Vec<_> =
            firing["reason"].as_str().map(|reason| cell(&json!(reason))).into_iter().collect();
        if firing["backfill"] == true {
            notes.push("backfill".to_owned());
        }
        [
            cell(&firing["fire_at"]),
            cell(&firing["outcome"]),
            cell(&firing["at"]),
            or_dash(&firing["run_id"]),
            if notes.is_empty() { "-".to_owned() } else { notes.join("; ") },
        ]
    });
    table(["TIME", "OUTCOME", "AT", "RUN", "NOTE"], rows);
    Ok(ExitCode::SUCCESS)
}

async fn call(
    args: &ScheduleArgs,
    method: Method,
    what: &[&str],
    body: Option<&Value>,
) -> Result<Value, Failure> {
    let path = [&["schedules", args.id.as_str()], what].concat();
    Remote::new(&args.remote)?.call(method, &path, body).await
}

/// When a schedule fires, in one line.
fn when(schedule: &Value) -> String {
    match (&schedule["cron"], &schedule["interval"]) {
        (Value::Null, Value::Null) => format!("at {}", cell(&schedule["at"])),
        (Value::Null, interval) => format!("every {}", cell(interval)),
        (cron, _) => format!("{} {}", cell(cron), cell(&schedule["timezone"])),
    }
}

fn or_dash(value: &Value) -> String {
    if value.is_null() { "-".to_owned() } else { cell(value) }
}
