//! Who is asked before a schedule starts a run.

use async_trait::async_trait;
use taskiq_flow_core::id::PipelineId;

/// Is asked before a schedule starts a run: nobody else is there to be refused.
#[async_trait]
pub trait FiringGate: Send + Sync + std::fmt::Debug + 'static {
    /// How many unfinished runs the pipeline may have, the new one counted; none: any number.
    ///
    /// # Errors
    /// Why the schedule may not start a run now. The firing is skipped, not put off.
    async fn admit(&self, pipeline: &PipelineId) -> Result<Option<usize>, String>;

    /// Takes note that a firing was skipped: the gate refused it, or too many runs were unfinished.
    fn skipped(&self, pipeline: &PipelineId, schedule: &str, reason: &str);
}
