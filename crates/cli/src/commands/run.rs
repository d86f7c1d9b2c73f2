//! `run`: one pipeline here and now.

mod watching;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value, json};
use taskiq_flow::broker::InMemoryBroker;
use taskiq_flow::core::definition::Pipeline;
use taskiq_flow::core::id::PipelineId;
use taskiq_flow::core::run::RunView;
use taskiq_flow::engine::{Engine, EngineOptions, Submission, SubmitError, SystemClock};
use taskiq_flow::store::{MemoryStore, Trigger};

use self::watching::{Awaited, Watching};
use crate::args::RunArgs;
use crate::commands::outcome::conclude;
use crate::commands::parameters::{named_json, parameters};
use crate::commands::serve::DEFAULT_PIPELINES;
use crate::output::{Failure, note};
use crate::{commands, logging};

pub(crate) fn run(args: RunArgs) -> Result<ExitCode, Failure> {
    let (pipelines, id) = find(&args)?;
    let pipeline = pipelines.iter().find(|pipeline| pipeline.id == id);
    let pipeline = pipeline.ok_or_else(|| Failure::wrong(format!("there is no pipeline `{id}`")))?;
    let schema = pipeline.inputs.to_json_schema();
    let parameters = parameters(args.input.as_deref(), &args.params, &schema)?;
    let signals =
        args.signals.iter().map(|signal| named_json("--signal", signal)).collect::<Result<Vec<_>, _>>()?;
    let awaited = pipeline.tasks.iter().filter_map(|task| {
        let signal = task.body.kind.awaited_signal()?.to_owned();
        Some((task.name.clone(), signal))
    });
    let awaited: Awaited =
        awaited.filter(|(_, signal)| signals.iter().all(|(given, _)| given != signal)).collect();
    // The server's configuration does not matter here, but its log level does.
    let mut config = commands::sources(None).load().map_err(|error| commands::config_failure(&error))?.config;
    if args.quiet || config.log_level == "info" {
        config.log_level = "warn".to_owned();
    }
    logging::start(&config)?;
    commands::runtime()?.block_on(async {
        let engine = start(pipelines).await?;
        let ended = carry_out(&engine, id, parameters, signals, awaited, args.quiet).await;
        engine.shutdown().await;
        Ok(conclude(&json!(ended?), args.json))
    })
}

/// The pipelines that are needed, and the id of the one that is wanted.
fn find(args: &RunArgs) -> Result<(Vec<Pipeline>, PipelineId), Failure> {
    let path = Path::new(&args.pipeline);
    if !path.is_file() {
        let folder = args.pipelines.clone().unwrap_or_else(|| PathBuf::from(DEFAULT_PIPELINES));
        let id: PipelineId = args.pipeline.parse().map_err(|_| missing(args, &folder))?;
        if !folder.is_dir() {
            return Err(missing(args, &folder));
        }
        let pipelines = commands::pipelines([&folder])?;
        if pipelines.iter().all(|pipeline| pipeline.id != id) {
            return Err(missing(args, &folder));
        }
        return Ok((pipelines, id));
    }
    let mut pipelines = commands::pipelines([path])?;
    let id = match pipelines.as_slice() {
        [only] => only.id.clone(),
        several => {
            let ids = several.iter().map(|pipeline| pipeline.id.to_string()).collect::<Vec<_>>().join(", ");
            let file = path.display();
            return Err(Failure::wrong(format!(
                "{file} defines {ids}; run one of them by its id, with --pipelines {file}"
            )));
        }
    };
    // A task may name a pipeline that stands in a file beside this one.
    let needs_others = pipelines.iter().any(|pipeline| !called(pipeline).is_empty());
    let folder =
        args.pipelines.clone().or_else(|| path.parent().map(Path::to_owned)).filter(|_| needs_others);
    if let Some(folder) = folder {
        let folder = if folder.as_os_str().is_empty() { PathBuf::from(".") } else { folder };
        let others = commands::pipelines([&folder])?;
        pipelines.extend(others.into_iter().filter(|other| other.id != id));
    }
    Ok((pipelines, id))
}

/// The pipelines that a pipeline's tasks run.
fn called(pipeline: &Pipeline) -> Vec<&PipelineId> {
    let mut bodies: Vec<_> = pipeline.tasks.iter().map(|task| &task.body).collect();
    let mut called = Vec::new();
    while let Some(body) = bodies.pop() {
        bodies.extend(body.kind.inner());
        if let taskiq_flow::core::definition::TaskKind::Pipeline(id) = &body.kind {
            called.push(id);
        }
    }
    called
}

fn missing(args: &RunArgs, folder: &Path) -> Failure {
    let name = &args.pipeline;
    Failure::wrong(format!(
        "`{name}` is no file, and no pipeline of that id is in `{}`; name a pipeline file, or the folder with --pipelines",
        folder.display()
    ))
}

async fn start(pipelines: Vec<Pipeline>) -> Result<Engine, Failure> {
    let options = EngineOptions { schedules: false, retention: None, ..EngineOptions::default() };
    let (store, broker) = (Arc::new(MemoryStore::new()), Arc::new(InMemoryBroker::new()));
    Engine::start(store, broker, Arc::new(SystemClock), options, pipelines).await.map_err(Failure::wrong)
}

async fn carry_out(
    engine: &Engine,
    id: PipelineId,
    parameters: Map<String, Value>,
    signals: Vec<(String, Value)>,
    awaited: Awaited,
    quiet: bool,
) -> Result<RunView, Failure> {
    let watcher = engine.watch(id.clone());
    let trigger = Trigger::Request { principal: "command line".to_owned() };
    let submission =
        Submission { pipeline_id: id, parameters, idempotency_key: None, priority: None, trigger };
    let run_id = engine.submit(submission).await.map_err(refused)?.run_id;
    for (name, value) in signals {
        engine.signal(run_id, &name, value, None).await.map_err(Failure::wrong)?;
    }
    let watching = Watching::start(engine, run_id, watcher, awaited, quiet).await;
    let ended = tokio::select! {
        ended = engine.wait(run_id, Duration::MAX) => ended,
        _ = tokio::signal::ctrl_c() => {
            note("stopping the run");
            engine.cancel(run_id, "stopped on the command line").await.map_err(Failure::failed)?;
            engine.wait(run_id, Duration::from_secs(5)).await
        }
    };
    watching.finish().await;
    ended.map_err(Failure::failed)?.ok_or_else(|| Failure::failed("the run did not end"))
}

fn refused(error: SubmitError) -> Failure {
    match error {
        SubmitError::Parameters(errors) => {
            let lines = errors.iter().map(|error| format!("\n  {}: {}", error.field, error.message));
            Failure::wrong(format!("the parameters do not fit:{}", lines.collect::<String>()))
        }
        other => Failure::wrong(other),
    }
}
