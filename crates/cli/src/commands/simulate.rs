//! `simulate`: what would become of a pipeline.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Duration;

use serde_json::json;
use taskiq_flow::core::definition::Pipeline;
use taskiq_flow::core::time::{Timestamp, format_duration};
use taskiq_flow_simulate::{ErrorReport, Faults, Parts, Report, Scenario, shrink, simulate, trace};

use crate::args::SimulateArgs;
use crate::commands;
use crate::output::{FAILED, Failure, json as print_json, line, note, table};

/// How many different errors are told; there may be one for each step.
const ERRORS: usize = 10;

pub(crate) fn run(args: &SimulateArgs) -> Result<ExitCode, Failure> {
    let pipeline = commands::one_pipeline(&args.file, args.id.as_deref())?;
    let id = pipeline.id.clone();
    let mut scenario = Scenario::of(pipeline);
    for name in &args.without {
        if let Some(fault) = scenario.faults.named(name) {
            *fault = false;
        }
    }
    let first = args.seed.unwrap_or_else(another_seed);
    if args.trace {
        trace(first, &scenario, Parts::real()).trace.iter().for_each(line);
    }
    let mut report = Report::default();
    for seed in (first..=u64::MAX).take(usize::try_from(args.runs).unwrap_or(usize::MAX)) {
        report.add(&simulate(seed, &scenario));
    }
    report.finish();
    if args.json {
        print_json(
            &json!({"pipeline_id": id, "seed": first, "faults": scenario.faults.names(), "report": report}),
        );
    } else if !args.trace || !report.violations.is_empty() {
        tell(&report, &scenario, first);
    }
    Ok(if report.violations.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(FAILED) })
}

/// A seed that nobody chose. It is printed, so that the worlds can be made again.
fn another_seed() -> u64 {
    u64::try_from(Timestamp::now().as_millis()).unwrap_or(0)
}

fn tell(report: &Report, scenario: &Scenario, first: u64) {
    let counted = |statuses: &BTreeMap<&str, u32>| {
        let all = statuses.iter().map(|(status, count)| format!("{count} {status}"));
        all.collect::<Vec<_>>().join(", ")
    };
    for Pipeline { id, tasks, .. } in scenario.pipelines.iter().map(|pipeline| &**pipeline) {
        let inner = tasks.iter().filter(|task| task.body.kind.name() == "pipeline").map(|task| &*task.name);
        let inner: Vec<_> = inner.collect();
        line(format!("pipeline `{id}`, {} runs from seed {first}", report.runs));
        if !inner.is_empty() {
            line(format!("played as one task each, whatever they run: {}", inner.join(", ")));
        }
    }
    line(format!("runs: {}; {} restarts after a crash", counted(&report.statuses), report.crashes));
    let [shortest, median, longest] =
        report.took_ms.map(|millis| format_duration(Duration::from_millis(millis)));
    line(format!("took: {shortest} to {longest}, median {median}\n"));
    let rows = report.steps.iter().map(|step| {
        let attempts = format!("{:.2}", step.attempts as f64 / f64::from(report.runs.max(1)));
        [step.step.clone(), attempts, step.most_attempts.to_string(), counted(&step.statuses)]
    });
    table(["STEP", "ATTEMPTS A RUN", "MOST", "ENDED"], rows);
    if !report.errors.is_empty() {
        line("\nfirst errors of failed runs:");
        for ErrorReport { error, runs, seed } in report.errors.iter().take(ERRORS) {
            line(format!("  {runs} x {error} (such as seed {seed})"));
        }
        if let Some(more) = report.errors.len().checked_sub(ERRORS).filter(|more| *more > 0) {
            line(format!("  and {more} others"));
        }
    }
    for stuck in &report.stuck {
        line(format!(
            "\n`{}` waited for the signal `{}` with nothing else to do in {} runs, such as that of seed {}: without the signal such a run never ends, unless the wait has a `timeout:` or the pipeline has one",
            stuck.step, stuck.signal, stuck.runs, stuck.seed
        ));
    }
    if report.violations.is_empty() {
        line("\nevery promise was kept: no run lost, nothing completed twice, nothing stuck");
    }
    for (seed, violation) in report.violations.iter().take(1) {
        let smallest = shrink(*seed, scenario, Parts::real);
        trace(*seed, &smallest, Parts::real()).trace.iter().for_each(note);
        let without: Vec<_> =
            Faults::NAMES.into_iter().filter(|name| !smallest.faults.names().contains(name)).collect();
        note(format!("error: seed {seed}: {violation}"));
        note(format!(
            "{} of {} runs broke a promise. This is a mistake of the engine, not of your pipeline; report it with the file and\n  simulate FILE --trace --runs 1 --seed {seed} --without {}",
            report.violations.len(),
            report.runs,
            without.join(",")
        ));
    }
}
