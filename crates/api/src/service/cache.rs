//! The values that tasks with `cache` have kept.

use taskiq_flow_security::Permit;

use super::pipelines::of_permit;
use crate::model::{CacheDocument, CacheRemoval};
use crate::problem::Problem;
use crate::state::AppState;

/// How much the tasks of the pipeline have kept.
pub(crate) async fn show(state: &AppState, permit: &Permit) -> Result<CacheDocument, Problem> {
    let registered = of_permit(state, permit)?;
    let stats = state.engine().cache_stats(registered.id()).await?;
    Ok(CacheDocument::new(registered.id(), stats))
}

/// Forgets what the pipeline, or one of its tasks, has kept.
pub(crate) async fn clear(
    state: &AppState,
    permit: &Permit,
    task: Option<&str>,
) -> Result<CacheRemoval, Problem> {
    let registered = of_permit(state, permit)?;
    Ok(CacheRemoval { removed: state.engine().drop_cached(registered.id(), task).await? })
}
