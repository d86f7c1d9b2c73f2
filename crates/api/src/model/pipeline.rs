//! Pipelines, their graphs and what was found out about them.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Map, Value, json};
use taskiq_flow_core::definition::{Pipeline, Style};
use taskiq_flow_core::id::{PipelineId, RunId};
use taskiq_flow_core::plan::{Plan, Source};
use taskiq_flow_core::time::{Timestamp, format_duration};
use taskiq_flow_engine::{Registered, RunSummaryView};
use taskiq_flow_store::Origin;
use utoipa::ToSchema;

use super::SpeedUpDocument;

/// A page of pipelines.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PipelineList {
    /// By id.
    pub(crate) pipelines: Vec<PipelineRow>,
    /// What to ask for the next page with; null: this was the last.
    pub(crate) next_cursor: Option<String>,
}

/// A pipeline in a list.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PipelineRow {
    #[schema(value_type = String)]
    pub(crate) id: PipelineId,
    pub(crate) description: Option<String>,
    /// Grows by one with each change.
    pub(crate) version: u32,
    pub(crate) task_count: usize,
    pub(crate) node_count: usize,
    pub(crate) edge_count: usize,
    /// Whether there is a graph to draw.
    pub(crate) has_dag: bool,
    /// The newest run; null: never run.
    pub(crate) last_run: Option<LastRun>,
}

/// The newest run of a pipeline.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct LastRun {
    #[schema(value_type = String, format = Uuid)]
    pub(crate) run_id: RunId,
    pub(crate) status: &'static str,
    #[schema(value_type = String, format = DateTime)]
    pub(crate) created_at: Timestamp,
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(crate) started_at: Option<Timestamp>,
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(crate) finished_at: Option<Timestamp>,
}

/// A pipeline with its definition.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Pipeline)]
pub(crate) struct PipelineDocument {
    #[schema(value_type = String)]
    pub(crate) id: PipelineId,
    pub(crate) description: Option<String>,
    pub(crate) version: u32,
    /// `program`: from the server's own files. `api`: registered over this API.
    pub(crate) origin: &'static str,
    #[schema(value_type = String, format = DateTime)]
    pub(crate) created_at: Timestamp,
    #[serde(flatten)]
    pub(crate) summary: DefinitionDocument,
    /// The definition as its author wrote it.
    #[schema(value_type = Object)]
    pub(crate) definition: Value,
}

/// What a definition says.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Definition)]
pub(crate) struct DefinitionDocument {
    /// `dataflow` or `chained`.
    pub(crate) style: &'static str,
    /// `fail` or `continue`.
    pub(crate) on_error: &'static str,
    pub(crate) max_parallel: Option<u32>,
    /// The longest a run may take, such as `5m`.
    pub(crate) timeout: Option<String>,
    /// The parameters of a run, as the JSON Schema of an object.
    #[schema(value_type = Object)]
    pub(crate) inputs: Value,
    /// The names that make up the result.
    pub(crate) outputs: Vec<String>,
    pub(crate) tasks: Vec<TaskDocument>,
}

/// A task of a pipeline.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Task)]
pub(crate) struct TaskDocument {
    pub(crate) name: String,
    pub(crate) kind: &'static str,
    pub(crate) description: Option<String>,
    pub(crate) inputs: Vec<String>,
    pub(crate) outputs: Vec<String>,
}

/// What came of a registration.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Registration {
    #[schema(value_type = String)]
    pub(crate) id: PipelineId,
    pub(crate) version: u32,
    /// Whether this is a version that was not there before.
    pub(crate) changed: bool,
}

/// The longest path through a graph.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = CriticalPath)]
pub(crate) struct CriticalPathDocument {
    #[schema(value_type = String)]
    pub(crate) pipeline_id: PipelineId,
    /// The tasks on it, in order.
    pub(crate) critical_path: Vec<String>,
    /// The number of tasks on it.
    pub(crate) length: usize,
    /// What it is the longest by: `edges` or `duration`.
    pub(crate) weight: &'static str,
    /// The sum of the measured durations on it; null when edges were counted.
    pub(crate) duration_ms: Option<u64>,
    /// By task: how much later it could start without making the whole longer. Empty when edges were counted.
    pub(crate) slack_ms: BTreeMap<String, u64>,
    /// The same in edges, when edges were counted.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) slack_edges: BTreeMap<String, u64>,
    /// What to speed up first, with nothing but the edges to hold a task up. Empty when edges were counted.
    pub(crate) speed_up: Vec<SpeedUpDocument>,
}

/// What can run at once.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ParallelGroups {
    #[schema(value_type = String)]
    pub(crate) pipeline_id: PipelineId,
    /// The tasks of each level of the graph.
    pub(crate) parallel_groups: Vec<Vec<String>>,
    pub(crate) group_count: usize,
}

impl PipelineRow {
    pub(crate) fn new(registered: &Registered, last_run: Option<&RunSummaryView>) -> Self {
        let plan = &registered.plan;
        let wires = plan.steps().iter().flat_map(|step| &step.wires);
        let count = plan.steps().len();
        Self {
            id: registered.id().clone(),
            description: plan.pipeline().description.clone(),
            version: registered.version,
            task_count: count,
            node_count: count,
            edge_count: wires.filter(|wire| wire.source.step().is_some()).count(),
            has_dag: count > 0,
            last_run: last_run.map(|run| LastRun {
                run_id: run.run_id,
                status: run.status.as_str(),
                created_at: run.created_at,
                started_at: run.started_at,
                finished_at: run.finished_at,
            }),
        }
    }
}

impl PipelineDocument {
    pub(crate) fn new(registered: &Registered) -> Self {
        let pipeline = registered.plan.pipeline();
        Self {
            id: pipeline.id.clone(),
            description: pipeline.description.clone(),
            version: registered.version,
            origin: match registered.origin {
                Origin::Program => "program",
                Origin::Api => "api",
            },
            created_at: registered.created_at,
            summary: DefinitionDocument::new(&registered.plan, pipeline),
            definition: pipeline.source.clone(),
        }
    }
}

impl DefinitionDocument {
    fn new(plan: &Plan, pipeline: &Pipeline) -> Self {
        let tasks = pipeline.tasks.iter().map(|task| TaskDocument {
            name: task.name.clone(),
            kind: task.body.kind.name(),
            description: task.description.clone(),
            inputs: task.inputs.iter().map(|input| input.source.clone()).collect(),
            outputs: task.outputs.clone(),
        });
        Self {
            style: match pipeline.style {
                Style::Dataflow => "dataflow",
                Style::Chained => "chained",
            },
            on_error: pipeline.on_error.as_str(),
            max_parallel: pipeline.max_parallel.map(Into::into),
            timeout: pipeline.timeout.map(format_duration),
            inputs: inputs_schema(plan),
            outputs: plan.outputs().iter().map(|(name, _)| name.to_string()).collect(),
            tasks: tasks.collect(),
        }
    }
}

/// The schema of a run's parameters; where none are declared, the names that tasks need and any value for each.
fn inputs_schema(plan: &Plan) -> Value {
    if plan.pipeline().inputs.declared() {
        return plan.pipeline().inputs.to_json_schema();
    }
    let properties: Map<String, Value> =
        plan.parameters().iter().map(|name| (name.clone(), json!({}))).collect();
    let wires = plan.steps().iter().flat_map(|step| &step.wires).filter(|wire| !wire.optional);
    let needed: Vec<&str> = wires
        .filter_map(|wire| match &wire.source {
            Source::Parameter { name, .. } => Some(name.as_ref()),
            Source::Output { .. } | Source::ItemErrors { .. } => None,
        })
        .collect();
    let required: Vec<_> = plan.parameters().iter().filter(|name| needed.contains(&name.as_str())).collect();
    json!({"type": "object", "properties": properties, "required": required, "additionalProperties": false})
}
