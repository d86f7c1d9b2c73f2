//! What a caller asks for, and what it gets.

use serde_json::{Map, Value};
use taskiq_flow_core::definition::Priority;
use taskiq_flow_core::id::{PipelineId, RunId};
use taskiq_flow_core::run::RunStatus;
use taskiq_flow_store::Trigger;

/// A request for a run.
#[derive(Debug, Clone)]
pub struct Submission {
    /// The pipeline.
    pub pipeline_id: PipelineId,
    /// Its parameters.
    pub parameters: Map<String, Value>,
    /// The same key on the same pipeline gets the same run.
    pub idempotency_key: Option<String>,
    /// How urgent it is; none: as its pipeline says.
    pub priority: Option<Priority>,
    /// What asks for it.
    pub trigger: Trigger,
}

/// An accepted run. It is in the store.
#[derive(Debug, Clone)]
pub struct Submitted {
    /// The run.
    pub run_id: RunId,
    /// Its state: queued, or for an earlier run of the same idempotency key whatever that has come to.
    pub status: RunStatus,
    /// Whether this request made it.
    pub created: bool,
}
