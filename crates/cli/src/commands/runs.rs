//! `runs`: the runs of a server.

pub(crate) mod watch;

use std::process::ExitCode;
use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use taskiq_flow::core::time::{Timestamp, format_duration};

use self::watch::Output;
use crate::args::{
    RunsCancelArgs, RunsCommand, RunsControlArgs, RunsForkArgs, RunsListArgs, RunsShowArgs, RunsSignalArgs,
    RunsStatsArgs, RunsWatchArgs, TimesArgs,
};
use crate::commands;
use crate::commands::outcome::conclude;
use crate::commands::parameters::parameters;
use crate::commands::trigger;
use crate::output::{Failure, cell, json as print_json, line, note, table};
use crate::remote::Remote;

pub(crate) fn run(command: RunsCommand) -> Result<ExitCode, Failure> {
    commands::runtime()?.block_on(async {
        match command {
            RunsCommand::List(args) => list(args).await,
            RunsCommand::Stats(args) => stats(args).await,
            RunsCommand::Show(args) => show(args).await,
            RunsCommand::Watch(args) => watch(args).await,
            RunsCommand::Cancel(RunsCancelArgs { reason, control }) => {
                let body = reason.map(|reason| json!({ "reason": reason }));
                control_run(&control, &["cancel"], body.as_ref(), "is cancelled").await
            }
            RunsCommand::Pause(args) => control_run(&args, &["pause"], None, "is paused").await,
            RunsCommand::Resume(args) => control_run(&args, &["resume"], None, "goes on").await,
            RunsCommand::Retry(args) => retry(&args).await,
            RunsCommand::Fork(args) => fork(args).await,
            RunsCommand::Signal(RunsSignalArgs { control, name, value }) => {
                let value: Value = serde_json::from_str(&value).map_err(|error| {
                    let help = "a text is written with its quotes, such as '\"yes\"'";
                    Failure::wrong(format!("the value of signal {name} is no JSON: {error}; {help}"))
                })?;
                control_run(&control, &["signals", &name], Some(&value), &format!("has the signal {name}"))
                    .await
            }
        }
    })
}

async fn list(args: RunsListArgs) -> Result<ExitCode, Failure> {
    let remote = Remote::new(&args.remote)?;
    let pipeline = args.pipeline.as_ref().map(|id| ("pipeline_id", id.as_str()));
    let status = args.status.as_deref().map(|status| ("status", status));
    let times = times(&args.times)?;
    let times = times.iter().map(|(name, time)| (*name, time.as_str()));
    let query: Vec<_> = pipeline.into_iter().chain(status).chain(times).collect();
    let most = usize::try_from(args.limit).unwrap_or(usize::MAX);
    let runs = remote.first_entries(&["runs"], &query, "runs", most).await?;
    if args.json {
        print_json(&json!({ "runs": runs }));
        return Ok(ExitCode::SUCCESS);
    }
    let rows = runs.iter().map(|run| {
        let error = match &run["error"] {
            Value::Null => "-".to_owned(),
            error => what_failed(error),
        };
        [
            cell(&run["run_id"]),
            cell(&run["pipeline_id"]),
            cell(&run["status"]),
            cell(&run["created_at"]),
            took(run),
            cell(&run["trigger"]["kind"]),
            error,
        ]
    });
    table(["RUN", "PIPELINE", "STATUS", "CREATED", "TOOK", "BY", "ERROR"], rows);
    Ok(ExitCode::SUCCESS)
}

/// The options that bound when runs were asked for, as a query has them.
fn times(args: &TimesArgs) -> Result<Vec<(&'static str, String)>, Failure> {
    let mut times = Vec::new();
    for (name, option, text) in [("since", "--since", &args.since), ("until", "--until", &args.until)] {
        if let Some(text) = text {
            times.push((name, commands::moment(option, text)?.to_string()));
        }
    }
    Ok(times)
}

async fn stats(args: RunsStatsArgs) -> Result<ExitCode, Failure> {
    let remote = Remote::new(&args.remote)?;
    let times = times(&args.times)?;
    let query: Vec<_> = times.iter().map(|(name, time)| (*name, time.as_str())).collect();
    let path = ["pipelines", args.pipeline.as_str(), "statistics"];
    let found = remote.send(Method::GET, &path, &query, None).await?.accepted()?;
    if args.json {
        print_json(&found);
        return Ok(ExitCode::SUCCESS);
    }
    if found["complete"] == false {
        note(format!(
            "there are more runs than are counted: these are those since {}",
            cell(&found["since"])
        ));
    }
    line(format!("runs       {}", cell(&found["runs"])));
    for (status, count) in found["by_status"].as_object().into_iter().flatten() {
        line(format!("{:<10} {}", cell(&json!(status)), cell(count)));
    }
    if let Some(rate) = found["success_rate"].as_f64() {
        line(format!("success    {:.1} %", rate * 100.0));
    }
    for (name, label) in [("mean", "mean"), ("p50", "median"), ("p95", "95 of 100"), ("max", "longest")] {
        if let Some(millis) = found["duration_ms"][name].as_f64() {
            let took = format_duration(Duration::from_millis(millis.round() as u64));
            line(format!("{label:<10} {took}"));
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn show(args: RunsShowArgs) -> Result<ExitCode, Failure> {
    let id = args.id.to_string();
    let remote = Remote::new(&args.remote)?;
    let run = remote.call(Method::GET, &["runs", &id], None).await?;
    if args.json {
        print_json(&run);
        return Ok(ExitCode::SUCCESS);
    }
    let estimate = match run["status"].as_str() {
        Some("queued" | "running" | "paused") => {
            remote.call(Method::GET, &["runs", &id, "estimate"], None).await?
        }
        _ => Value::Null,
    };
    line(format!("run       {}", cell(&run["run_id"])));
    line(format!("pipeline  {}", cell(&run["pipeline_id"])));
    line(format!("status    {}", cell(&run["status"])));
    line(format!("steps     {} of {} ended", cell(&run["steps_completed"]), cell(&run["total_steps"])));
    for (field, label) in [("created_at", "created"), ("started_at", "started"), ("finished_at", "finished")]
    {
        if !run[field].is_null() {
            line(format!("{label:<9} {}", cell(&run[field])));
        }
    }
    if !run["started_at"].is_null() {
        line(format!("took      {}", took(&run)));
    }
    if !estimate["finish_at"].is_null() {
        line(format!("ends      {}", ending(&estimate)));
    } else if let Some(overdue) = estimate["overdue"].as_array().filter(|overdue| !overdue.is_empty()) {
        let names: Vec<_> = overdue.iter().map(cell).collect();
        line(format!(
            "ends      nobody can say: a signal is waited for, and longer than ever is {}",
            names.join(", ")
        ));
    }
    if !run["error"].is_null() {
        line(format!("error     {}", what_failed(&run["error"])));
    }
    for (field, label) in [("result", "result"), ("outputs", "outputs")] {
        if !run[field].is_null() {
            line(format!("{label:<9} {}", cell(&run[field])));
        }
    }
    line("");
    let steps = run["steps"].as_array().into_iter().flatten();
    table(["STEP", "KIND", "STATUS", "ATTEMPT", "TOOK", "NOTE"], steps.map(step_row));
    Ok(ExitCode::SUCCESS)
}

fn step_row(step: &Value) -> [String; 6] {
    let took = step["duration_ms"].as_u64().map(|millis| format_duration(Duration::from_millis(millis)));
    let mut notes: Vec<String> = Vec::new();
    if let Some(signal) = step["waits_for"].as_str() {
        notes.push(format!("waits for signal {}", cell(&json!(signal))));
    }
    if let Some(counts) = step["item_counts"].as_object() {
        let open = ["pending", "queued", "running", "retrying"];
        let all: u64 = counts.values().filter_map(Value::as_u64).sum();
        let left: u64 = open.iter().filter_map(|status| counts.get(*status)?.as_u64()).sum();
        notes.push(format!("{} of {all} items ended", all.saturating_sub(left)));
    }
    notes.extend(["error", "reason"].into_iter().filter_map(|field| step[field].as_str()).map(first_line));
    let attempt = step["attempt"].as_u64().filter(|attempt| *attempt > 0);
    [
        cell(&step["id"]),
        cell(&step["kind"]),
        cell(&step["status"]),
        attempt.map_or_else(|| "-".to_owned(), |attempt| attempt.to_string()),
        took.unwrap_or_else(|| "-".to_owned()),
        if notes.is_empty() { "-".to_owned() } else { notes.join("; ") },
    ]
}

async fn watch(args: RunsWatchArgs) -> Result<ExitCode, Failure> {
    let remote = Remote::new(&args.remote)?;
    let id = args.id.to_string();
    let view = remote.call(Method::GET, &["runs", &id], None).await?;
    let output = match (args.json, args.quiet) {
        (true, _) => Output::Events,
        (false, true) => Output::Nothing,
        (false, false) => Output::Progress,
    };
    let ended = watch::follow(&remote, &id, view, output).await?;
    // The last event has told the result already.
    let told = if args.json { json!({ "status": ended["status"], "error": ended["error"] }) } else { ended };
    Ok(match args.json && told["status"] == "completed" {
        true => ExitCode::SUCCESS,
        false => conclude(&told, false),
    })
}

async fn retry(args: &RunsControlArgs) -> Result<ExitCode, Failure> {
    new_run(&Remote::new(&args.remote)?, args, "retry", None).await
}

async fn fork(args: RunsForkArgs) -> Result<ExitCode, Failure> {
    let RunsForkArgs { control, from, params } = args;
    let remote = Remote::new(&control.remote)?;
    let schema = match params.is_empty() {
        true => Value::Null,
        false => {
            let run = remote.call(Method::GET, &["runs", &control.id.to_string()], None).await?;
            trigger::schema(&remote, run["pipeline_id"].as_str().unwrap_or_default()).await?
        }
    };
    let body = json!({ "from": from, "parameters": parameters(None, &params, &schema)? });
    new_run(&remote, &control, "fork", Some(&body)).await
}

/// Starts another run in the wake of one.
async fn new_run(
    remote: &Remote,
    args: &RunsControlArgs,
    how: &str,
    body: Option<&Value>,
) -> Result<ExitCode, Failure> {
    let id = args.id.to_string();
    let accepted = remote.call(Method::POST, &["runs", &id, how], body).await?;
    if args.json {
        print_json(&accepted);
    } else {
        line(cell(&accepted["run_id"]));
    }
    Ok(ExitCode::SUCCESS)
}

/// Asks for something to be done to a run, and says that it was.
async fn control_run(
    args: &RunsControlArgs,
    what: &[&str],
    body: Option<&Value>,
    done: &str,
) -> Result<ExitCode, Failure> {
    let id = args.id.to_string();
    let path = [&["runs", id.as_str()], what].concat();
    let answer = Remote::new(&args.remote)?.call(Method::POST, &path, body).await?;
    if args.json {
        print_json(&answer);
    } else {
        note(format!("the run {id} {done}"));
    }
    Ok(ExitCode::SUCCESS)
}

/// How long a run took, or has taken so far.
fn took(run: &Value) -> String {
    let time = |field: &str| run[field].as_str().and_then(|text| text.parse::<Timestamp>().ok());
    let Some(started) = time("started_at") else { return "-".to_owned() };
    match time("finished_at") {
        Some(finished) => format_duration(finished.since(started)),
        // By this machine's clock, to the second.
        None => format!(
            "{} so far",
            format_duration(Duration::from_secs(Timestamp::now().since(started).as_secs()))
        ),
    }
}

/// When a run will have ended, as far as earlier runs tell.
fn ending(estimate: &Value) -> String {
    let band = match (&estimate["low"], &estimate["high"]) {
        (Value::Null, _) | (_, Value::Null) => String::new(),
        (low, high) => format!(", most likely {} to {}", cell(low), cell(high)),
    };
    let unmeasured = estimate["unmeasured"].as_array().filter(|steps| !steps.is_empty());
    let later = unmeasured.map(|steps| {
        format!("; later by what {} take", steps.iter().map(cell).collect::<Vec<_>>().join(", "))
    });
    format!("about {}{band}{}", cell(&estimate["finish_at"]), later.unwrap_or_default())
}

fn what_failed(error: &Value) -> String {
    let message = first_line(error["message"].as_str().unwrap_or_default());
    match &error["step"] {
        Value::Null => message,
        step => format!("{}: {message}", cell(step)),
    }
}

/// The first line of what a step said; the rest is in its events.
fn first_line(text: &str) -> String {
    let mut lines = text.lines();
    let first = cell(&json!(lines.next().unwrap_or_default()));
    if lines.next().is_some() { format!("{first} …") } else { first }
}
