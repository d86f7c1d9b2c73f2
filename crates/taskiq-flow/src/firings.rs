//! Has schedules ask the guard before they start runs.

use async_trait::async_trait;
use taskiq_flow_core::id::PipelineId;
use taskiq_flow_engine::FiringGate;
use taskiq_flow_security::Guard;

/// Spends the quotas of pipelines for schedules, and records what was skipped.
#[derive(Debug)]
pub(crate) struct GuardedFirings(pub(crate) Guard);

#[async_trait]
impl FiringGate for GuardedFirings {
    async fn admit(&self, pipeline: &PipelineId) -> Result<Option<usize>, String> {
        self.0.spend_firing(pipeline.as_str()).await
    }

    fn skipped(&self, pipeline: &PipelineId, schedule: &str, reason: &str) {
        self.0.note_skipped_firing(pipeline.as_str(), schedule, reason);
    }
}
