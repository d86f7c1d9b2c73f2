//! Forecasts of runs and pipelines.

use std::num::NonZeroU32;

use taskiq_flow_security::Permit;
use taskiq_flow_store::RunRecord;

use super::{pipelines, runs};
use crate::model::{EstimateDocument, WhatIfDocument};
use crate::problem::Problem;
use crate::state::AppState;

/// When a run will have ended.
pub(crate) async fn estimate(
    state: &AppState,
    permit: &Permit,
    record: &RunRecord,
) -> Result<EstimateDocument, Problem> {
    runs::check(permit, record)?;
    Ok(state.engine().estimate(record.run_id).await?.into())
}

/// What a run of the pipeline that the permit is for takes with so many workers.
pub(crate) async fn what_if(
    state: &AppState,
    permit: &Permit,
    workers: Option<NonZeroU32>,
) -> Result<WhatIfDocument, Problem> {
    let registered = pipelines::of_permit(state, permit)?;
    let found = state.engine().what_if(&registered, workers).await?;
    Ok(WhatIfDocument::new(registered.id().clone(), found))
}
