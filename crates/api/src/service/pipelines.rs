//! Reading and registering pipelines.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use serde_json::Value;
use taskiq_flow_core::dag::{DagFormat, Rendered};
use taskiq_flow_core::definition::{Body, Pipeline, Priority, Task, TaskKind};
use taskiq_flow_core::id::{PipelineId, RunId};
use taskiq_flow_core::load::load_json;
use taskiq_flow_core::run::StepStatus;
use taskiq_flow_engine::{ControlError, Registered, named_gains};
use taskiq_flow_security::guard::Guard;
use taskiq_flow_security::{Admission, Permission, Permit, Principal, Resource};
use taskiq_flow_store::{Origin, RunRecord};

use crate::model::{CriticalPathDocument, ParallelGroups, PipelineList, PipelineRow, Registration};
use crate::problem::{FieldProblem, Problem};
use crate::state::AppState;

/// Which page of a list.
#[derive(Debug, Clone)]
pub(crate) struct Page {
    pub(crate) limit: usize,
    pub(crate) cursor: Option<String>,
}

/// The pipeline that a permit is for.
pub(crate) fn of_permit(state: &AppState, permit: &Permit) -> Result<Arc<Registered>, Problem> {
    let id = id_of(permit)?;
    state.engine().pipeline(&id).ok_or_else(|| Problem::not_found(format!("There is no pipeline `{id}`.")))
}

/// The pipelines that the holder of a permit for a list may read.
pub(crate) fn readable(state: &AppState, permit: &Permit) -> Vec<Arc<Registered>> {
    let mut all = state.engine().pipelines();
    let guard = state.guard();
    all.retain(|registered| may_read(guard, permit.principal(), registered.id()));
    all
}

pub(crate) fn may_read(guard: &Guard, principal: &Principal, pipeline: &PipelineId) -> bool {
    guard.may_read(principal, pipeline.as_str())
}

/// A page of the pipelines that the holder of the permit may read, by id.
pub(crate) async fn list(state: &AppState, permit: &Permit, page: Page) -> Result<PipelineList, Problem> {
    let mut pipelines = readable(state, permit);
    if let Some(cursor) = &page.cursor {
        pipelines.retain(|registered| registered.id().as_str() > cursor.as_str());
    }
    let more = pipelines.len() > page.limit;
    pipelines.truncate(page.limit);
    let ids: Vec<PipelineId> = pipelines.iter().map(|registered| registered.id().clone()).collect();
    let last_runs = state.engine().last_runs(&ids).await?;
    let last_runs: HashMap<_, _> = last_runs.iter().map(|run| (&run.pipeline_id, run)).collect();
    let row =
        |registered: &Arc<Registered>| PipelineRow::new(registered, last_runs.get(registered.id()).copied());
    Ok(PipelineList {
        pipelines: pipelines.iter().map(row).collect(),
        next_cursor: ids.last().filter(|_| more).map(ToString::to_string),
    })
}

/// Draws the graph with the states of a run: of this one, or else of the newest.
pub(crate) async fn draw(
    state: &AppState,
    permit: &Permit,
    run_id: Option<RunId>,
    format: DagFormat,
) -> Result<Rendered, Problem> {
    let registered = of_permit(state, permit)?;
    let engine = state.engine();
    let (plan, run_id) = match run_id {
        Some(run_id) => {
            let unknown = || Problem::not_found("This pipeline has no such run.");
            let record = record(state, run_id).await?.ok_or_else(unknown)?;
            if record.pipeline_id != *registered.id() {
                return Err(unknown());
            }
            (engine.plan_of(&record).await?, Some(run_id))
        }
        None => {
            let last = engine.last_runs(std::slice::from_ref(registered.id())).await?;
            (Arc::clone(&registered.plan), last.first().map(|run| run.run_id))
        }
    };
    let run = match run_id {
        Some(run_id) => Some(engine.run(run_id).await?),
        None => None,
    };
    let states: HashMap<&str, StepStatus> =
        run.iter().flat_map(|run| &run.steps).map(|step| (step.id.as_ref(), step.state.status)).collect();
    let dag = plan.dag();
    let states: Vec<Option<&str>> =
        dag.nodes().iter().map(|node| states.get(node.id.as_str()).map(|status| status.as_str())).collect();
    Ok(dag.render(format, &states))
}

/// The record of a run, if there is one.
async fn record(state: &AppState, run_id: RunId) -> Result<Option<RunRecord>, Problem> {
    match state.engine().record(run_id).await {
        Ok(record) => Ok(Some(record)),
        Err(ControlError::UnknownRun(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// The longest path, by edges or by the medians of measured durations.
pub(crate) async fn critical_path(
    state: &AppState,
    permit: &Permit,
    by_duration: bool,
) -> Result<CriticalPathDocument, Problem> {
    let registered = of_permit(state, permit)?;
    let dag = registered.plan.dag();
    let weights = match by_duration {
        true => {
            let medians = state.engine().median_durations(registered.id()).await?;
            let medians: HashMap<String, u64> = medians.into_iter().collect();
            let weight = |id: &str| medians.get(id).copied().unwrap_or(0);
            Some(dag.nodes().iter().map(|node| weight(&node.id)).collect::<Vec<_>>())
        }
        false => None,
    };
    let found = dag.critical_path(weights.as_deref());
    let gains = weights.map(|weights| dag.speed_up(&weights)).unwrap_or_default();
    let names = |nodes: &[u32]| -> Vec<String> {
        nodes.iter().filter_map(|node| Some(dag.nodes().get(*node as usize)?.id.clone())).collect()
    };
    let slack = dag.nodes().iter().zip(&found.slack).map(|(node, slack)| (node.id.clone(), *slack)).collect();
    let (slack_ms, slack_edges) =
        if by_duration { (slack, Default::default()) } else { (Default::default(), slack) };
    Ok(CriticalPathDocument {
        pipeline_id: registered.id().clone(),
        length: found.path.len(),
        critical_path: names(&found.path),
        weight: found.weight.as_str(),
        duration_ms: found.duration_ms,
        slack_ms,
        slack_edges,
        speed_up: named_gains(dag, gains).into_iter().map(Into::into).collect(),
    })
}

/// What can run at once.
pub(crate) fn parallel_groups(state: &AppState, permit: &Permit) -> Result<ParallelGroups, Problem> {
    let registered = of_permit(state, permit)?;
    let dag = registered.plan.dag();
    let groups: Vec<Vec<String>> = dag
        .parallel_groups()
        .into_iter()
        .map(|group| group.into_iter().map(str::to_owned).collect())
        .collect();
    Ok(ParallelGroups {
        pipeline_id: registered.id().clone(),
        group_count: groups.len(),
        parallel_groups: groups,
    })
}

/// Registers a definition under the id that the permit is for; `new_only`: only where there is none yet.
pub(crate) async fn register(
    state: &AppState,
    caller: &Admission,
    permit: &Permit,
    definition: Value,
    new_only: bool,
) -> Result<Registration, Problem> {
    let id = id_of_new(permit)?;
    let pipeline = read_definition(&id, definition)?;
    check_priority(state, pipeline.priority)?;
    // A definition runs other pipelines for whoever starts it and hands on their results: its author must be allowed
    // to do both.
    for inner in inner_pipelines(&pipeline) {
        for permission in [Permission::Execute, Permission::Read] {
            let _permit = state.guard().authorize(caller, permission, Resource::Pipeline(inner.as_str()))?;
        }
    }
    if !state.options().allow_remote_commands
        && let Some(task) = command_in(&pipeline)
    {
        let detail = format!(
            "Task `{task}` is a `command`, which starts a process on the server; those are not accepted over the API."
        );
        let (status, title) = (http::StatusCode::FORBIDDEN, "Commands are not accepted");
        return Err(Problem::new(status, "remote-command", title, detail));
    }
    let (registered, changed) = match new_only {
        true => (state.engine().create(pipeline, Origin::Api).await?, true),
        false => state.engine().register(pipeline, Origin::Api).await?,
    };
    Ok(Registration { id, version: registered.version, changed })
}

/// Whoever administers one pipeline is not to put its runs before those of others beyond what the server allows.
pub(super) fn check_priority(state: &AppState, priority: Priority) -> Result<(), Problem> {
    let most = state.options().max_priority;
    match priority <= most {
        true => Ok(()),
        false => Err(Problem::invalid_field(
            "priority",
            format!("expected at most {}, the server's `max_priority`", most.get()),
        )),
    }
}

/// Removes the pipeline that the permit is for.
pub(crate) async fn unregister(state: &AppState, permit: &Permit) -> Result<(), Problem> {
    Ok(state.engine().unregister(&id_of(permit)?).await?)
}

/// The id that a permit is for. What is no id names nothing.
fn id_of(permit: &Permit) -> Result<PipelineId, Problem> {
    let text = permit.pipeline().unwrap_or_default();
    text.parse().map_err(|_| Problem::not_found("There is no such pipeline."))
}

fn id_of_new(permit: &Permit) -> Result<PipelineId, Problem> {
    let text = permit.pipeline().unwrap_or_default();
    text.parse().map_err(|error| Problem::invalid_field("id", format!("{error}")))
}

fn read_definition(id: &PipelineId, mut definition: Value) -> Result<Pipeline, Problem> {
    let Value::Object(fields) = &mut definition else {
        return Err(Problem::invalid_field("", "expected one pipeline, an object"));
    };
    match fields.get("id") {
        None => {
            fields.shift_insert(0, "id".to_owned(), Value::String(id.to_string()));
        }
        Some(Value::String(given)) if given == id.as_str() => {}
        Some(_) => {
            let message = format!("must be `{id}`, as in the path; it may be left out");
            return Err(Problem::invalid(vec![FieldProblem::new("id", message)]));
        }
    }
    let pipelines = load_json(definition)?;
    let mut pipelines = pipelines.into_iter();
    match (pipelines.next(), pipelines.next()) {
        (Some(pipeline), None) => Ok(pipeline),
        _ => Err(Problem::invalid_field("", "expected one pipeline")),
    }
}

/// The first task with a command in it, however deep.
fn command_in(pipeline: &Pipeline) -> Option<&str> {
    let is_command = |body: &Body| matches!(body.kind, TaskKind::Command(_));
    let mut tasks = pipeline.tasks.iter();
    tasks.find(|task| bodies(task).into_iter().any(is_command)).map(|task| task.name.as_str())
}

/// The pipelines that tasks run, however deep.
fn inner_pipelines(pipeline: &Pipeline) -> BTreeSet<&PipelineId> {
    let bodies = pipeline.tasks.iter().flat_map(|task| bodies(task));
    bodies
        .filter_map(|body| match &body.kind {
            TaskKind::Pipeline(id) => Some(id),
            _ => None,
        })
        .collect()
}

/// The bodies of a task, that of what undoes it too, and all within them.
fn bodies(task: &Task) -> Vec<&Body> {
    let mut found: Vec<&Body> = task.bodies().collect();
    let mut next = 0;
    while let Some(body) = found.get(next) {
        next += 1;
        found.extend(body.kind.inner());
    }
    found
}
