//! Quotas of pipelines: spent before a run is asked for.

use serde_json::{Map, Value};
use taskiq_flow_engine::{Registered, SubmitError};
use taskiq_flow_security::Admission;

use crate::problem::Problem;
use crate::state::AppState;

/// Takes one execution from the pipeline's quotas, unless the engine would refuse the run anyway: what cannot be carried
/// out costs nothing. Gives how many unfinished runs the pipeline may have with it.
pub(super) async fn spend(
    state: &AppState,
    caller: &Admission,
    registered: &Registered,
    parameters: &Map<String, Value>,
) -> Result<Option<usize>, Problem> {
    if !state.guard().has_quota(registered.id().as_str()) {
        return Ok(None);
    }
    registered.plan.check_parameters(parameters.clone()).map_err(SubmitError::Parameters)?;
    state.engine().check_runnable(registered)?;
    Ok(state.guard().spend_quota(caller, registered.id().as_str()).await?)
}

/// The answer to a run that was not accepted.
pub(super) fn refused(state: &AppState, caller: &Admission, error: SubmitError) -> Problem {
    match error {
        SubmitError::TooManyOpen { pipeline, most } => {
            state.guard().too_many_runs(caller, pipeline.as_str(), most).into()
        }
        error => error.into(),
    }
}
