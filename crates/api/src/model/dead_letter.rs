//! Steps that were given up.

use std::sync::Arc;

use serde::Serialize;
use serde_json::Value;
use taskiq_flow_core::id::{PipelineId, RunId};
use taskiq_flow_core::time::Timestamp;
use taskiq_flow_engine::DeadLetterPage;
use taskiq_flow_store::DeadLetter;
use utoipa::ToSchema;

/// A page of dead letters.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DeadLetterList {
    /// Newest first.
    pub(crate) dead_letters: Vec<DeadLetterDocument>,
    /// What to ask for the next page with; null: this was the last.
    pub(crate) next_cursor: Option<String>,
}

/// A step that was given up after its last attempt.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = DeadLetter)]
pub(crate) struct DeadLetterDocument {
    #[schema(value_type = String, format = Uuid)]
    pub(crate) run_id: RunId,
    pub(crate) step_run: u32,
    #[schema(value_type = String)]
    pub(crate) pipeline_id: PipelineId,
    /// The name of the step.
    #[schema(value_type = String)]
    pub(crate) step: Arc<str>,
    /// The last attempt.
    pub(crate) attempt: u32,
    #[schema(value_type = String)]
    pub(crate) error: Arc<str>,
    /// What it was given, by name. Only for callers who may start the pipeline: runs show no parameters either.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Object, required = false)]
    pub(crate) inputs: Option<Arc<Value>>,
    #[schema(value_type = String, format = DateTime)]
    pub(crate) at: Timestamp,
    /// The run that does it again.
    #[schema(value_type = Option<String>, format = Uuid)]
    pub(crate) replayed_by: Option<RunId>,
}

impl DeadLetterDocument {
    fn new(letter: DeadLetter, shows_inputs: bool) -> Self {
        let DeadLetter {
            run_id, step_run, pipeline_id, step, attempt, error, inputs, at, replayed_by, ..
        } = letter;
        let inputs = shows_inputs.then_some(inputs);
        Self { run_id, step_run, pipeline_id, step, attempt, error, inputs, at, replayed_by }
    }
}

impl DeadLetterList {
    /// The page as it is shown to somebody who may see the inputs of steps of the pipelines of which `shows_inputs` is true.
    pub(crate) fn new(page: DeadLetterPage, shows_inputs: impl Fn(&PipelineId) -> bool) -> Self {
        let shown = |letter: DeadLetter| {
            let shows_inputs = shows_inputs(&letter.pipeline_id);
            DeadLetterDocument::new(letter, shows_inputs)
        };
        Self {
            dead_letters: page.letters.into_iter().map(shown).collect(),
            next_cursor: page.next.map(|place| place.to_string()),
        }
    }
}
