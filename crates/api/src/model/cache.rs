//! The values that tasks with `cache` have kept.

use serde::Serialize;
use taskiq_flow_core::id::PipelineId;
use taskiq_flow_store::CacheStats;
use utoipa::ToSchema;

/// What the tasks of a pipeline have kept.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Cache)]
pub(crate) struct CacheDocument {
    #[schema(value_type = String)]
    pub(crate) pipeline_id: PipelineId,
    /// The tasks that have kept something, by name.
    pub(crate) tasks: Vec<TaskCacheDocument>,
}

/// What one task has kept.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = TaskCache)]
pub(crate) struct TaskCacheDocument {
    /// The name of the task.
    pub(crate) task: String,
    /// How many values; those that are no good any more are counted until they are removed, within the hour.
    pub(crate) entries: u64,
    /// Bytes of their JSON.
    pub(crate) bytes: u64,
}

/// What was forgotten.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct CacheRemoval {
    /// How many values.
    pub(crate) removed: u64,
}

impl CacheDocument {
    pub(crate) fn new(pipeline_id: &PipelineId, stats: Vec<CacheStats>) -> Self {
        let task = |CacheStats { task, entries, bytes }| TaskCacheDocument { task, entries, bytes };
        Self { pipeline_id: pipeline_id.clone(), tasks: stats.into_iter().map(task).collect() }
    }
}
