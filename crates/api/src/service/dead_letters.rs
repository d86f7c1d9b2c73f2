//! Steps that were given up.

use taskiq_flow_core::id::PipelineId;
use taskiq_flow_engine::ControlError;
use taskiq_flow_security::{Admission, Permit};
use taskiq_flow_store::{DeadLetterFilter, RunRecord};

use super::quota;
use super::runs::{check, readable};
use crate::model::{Accepted, DeadLetterList};
use crate::problem::Problem;
use crate::state::AppState;

/// Dead letters of pipelines that the holder of the permit may read. `filter.pipelines` is theirs to narrow, never to
/// widen.
pub(crate) async fn list(
    state: &AppState,
    permit: &Permit,
    pipeline: Option<PipelineId>,
    mut filter: DeadLetterFilter,
) -> Result<DeadLetterList, Problem> {
    filter.pipelines = readable(state, permit, pipeline);
    let page = state.engine().dead_letters(filter).await?;
    let executes = |pipeline: &PipelineId| state.guard().may_execute(permit.principal(), pipeline.as_str());
    Ok(DeadLetterList::new(page, executes))
}

/// Does the step of a dead letter again.
pub(crate) async fn replay(
    state: &AppState,
    caller: &Admission,
    permit: &Permit,
    record: &RunRecord,
    step_run: u32,
) -> Result<Accepted, Problem> {
    check(permit, record)?;
    let status = state.engine().record(record.run_id).await?.summary.status;
    let most = match state.engine().pipeline(&record.pipeline_id) {
        // What the engine refuses to replay costs nothing.
        Some(registered) if status.is_terminal() => {
            quota::spend(state, caller, &registered, &record.parameters).await?
        }
        _ => None,
    };
    let replayed =
        state.engine().replay_dead_letter(record.run_id, step_run, permit.principal().id(), most).await;
    let submitted = replayed.map_err(|error| match error {
        ControlError::Submit(error) => quota::refused(state, caller, error),
        error => error.into(),
    })?;
    Ok(Accepted::new(submitted.run_id, record.pipeline_id.clone(), submitted.status))
}

/// Deletes a dead letter.
pub(crate) async fn drop(
    state: &AppState,
    permit: &Permit,
    record: &RunRecord,
    step_run: u32,
) -> Result<(), Problem> {
    check(permit, record)?;
    Ok(state.engine().drop_dead_letter(record.run_id, step_run).await?)
}
