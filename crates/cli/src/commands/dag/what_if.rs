//! `dag --what-if`: what a run takes with a number of workers.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use serde_json::{Map, Value, json};
use taskiq_flow::core::dag::Cost;
use taskiq_flow::core::forecast::{costs, count_of_items, of_items};
use taskiq_flow::core::plan::Plan;
use taskiq_flow::core::time::format_duration;
use taskiq_flow::engine::{WhatIf, what_if};

use crate::args::DagFormat;
use crate::output::{Failure, json as print_json, line, note, table};

pub(crate) fn run(
    plan: &Plan,
    workers: NonZeroU32,
    durations: Option<&Path>,
    format: DagFormat,
) -> Result<ExitCode, Failure> {
    let costs: Vec<Cost> = match durations {
        Some(file) => costs(plan, &read(file, plan)?),
        // Nobody has measured anything: in rounds, each of which does a task on every worker.
        None => plan.steps().iter().map(|_| Cost::of_work(vec![1])).collect(),
    };
    let found = what_if(plan.dag(), &costs, workers);
    match (format, durations) {
        (DagFormat::Json, _) => {
            let mut document = json!(found);
            document["pipeline_id"] = json!(plan.pipeline().id);
            document["unit"] = json!(if durations.is_some() { "ms" } else { "rounds" });
            print_json(&document);
        }
        (_, Some(_)) => show(plan, &found, |millis| format_duration(Duration::from_millis(millis))),
        (_, None) => show(plan, &found, |rounds| rounds.to_string()),
    }
    if !found.unmeasured.is_empty() {
        note(format!("nothing is known of {}: they count nothing", found.unmeasured.join(", ")));
    }
    Ok(ExitCode::SUCCESS)
}

fn show(plan: &Plan, found: &WhatIf, amount: impl Fn(u64) -> String) {
    let workers = if found.workers == 1 { "worker" } else { "workers" };
    line(format!(
        "{} with {} {workers}; {} of work, {} along the critical path",
        amount(found.duration_ms),
        found.workers,
        amount(found.work_ms),
        amount(found.critical_path_ms)
    ));
    let gain = |task: &str| found.speed_up.iter().find(|gain| gain.task == task).map(|gain| gain.gain_ms);
    let mut rows: Vec<_> = plan.steps().iter().map(|step| (&*step.name, gain(&step.name))).collect();
    // What to speed up first stands first; the sort keeps the definition's order among equals.
    rows.sort_by_key(|(_, gain)| std::cmp::Reverse(*gain));
    let rows = rows.into_iter().map(|(task, gain)| {
        let of =
            |values: &std::collections::BTreeMap<String, u64>| values.get(task).map(|value| amount(*value));
        let dash = || "-".to_owned();
        [
            task.to_owned(),
            of(&found.durations_ms).unwrap_or_else(dash),
            of(&found.slack_ms).unwrap_or_else(dash),
            gain.map_or_else(dash, &amount),
        ]
    });
    table(["TASK", "TAKES", "SLACK", "SAVES IF FREE"], rows);
}

/// What tasks take, from a file: `{task: milliseconds}`, or the answer of a server, which knows their items too.
fn read(file: &Path, plan: &Plan) -> Result<HashMap<String, Vec<u64>>, Failure> {
    let place = file.display();
    let wrong = |what: String| Failure::wrong(format!("--durations {place}: {what}"));
    let text = std::fs::read_to_string(file).map_err(|error| wrong(error.to_string()))?;
    let mut document: Map<String, Value> = serde_json::from_str(&text)
        .map_err(|error| wrong(format!("a JSON object {{task: milliseconds}} is expected: {error}")))?;
    let (tasks, items) = match document.remove("durations_ms") {
        Some(Value::Object(tasks)) => (tasks, document.remove("items")),
        Some(one) => (std::iter::once(("durations_ms".to_owned(), one)).chain(document).collect(), None),
        None => (document, None),
    };
    let known = |task: &str| match plan.steps().iter().any(|step| *step.name == *task) {
        true => Ok(()),
        false => Err(wrong(format!("the pipeline has no task `{task}`"))),
    };
    let mut durations = HashMap::new();
    for (task, value) in tasks {
        known(&task)?;
        let list = match &value {
            Value::Array(list) => list.iter().map(Value::as_u64).collect(),
            one => one.as_u64().map(|one| vec![one]),
        };
        let list: Vec<u64> = list
            .ok_or_else(|| wrong(format!("`{task}`: whole milliseconds, or a list of them, are expected")))?;
        durations.insert(task, list);
    }
    for (task, value) in items.iter().filter_map(Value::as_object).flatten() {
        known(task)?;
        for (name, field) in [(of_items(task), "duration_ms"), (count_of_items(task), "count")] {
            let number = value[field].as_u64().ok_or_else(|| {
                wrong(format!("`items`, `{task}`: a whole number is expected as `{field}`"))
            })?;
            durations.insert(name, vec![number]);
        }
    }
    Ok(durations)
}
