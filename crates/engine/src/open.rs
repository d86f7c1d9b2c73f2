//! How many runs of each pipeline are unfinished in this process.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use taskiq_flow_core::id::PipelineId;

/// Counts unfinished runs by pipeline. Runs that a step of another run waits for are not counted: refusing one would
/// fail a run that was accepted.
#[derive(Debug, Clone, Default)]
pub(crate) struct OpenRuns(Arc<Mutex<HashMap<PipelineId, usize>>>);

/// One of them. Dropped, it is no longer counted.
#[derive(Debug)]
pub(crate) struct OpenRun {
    all: OpenRuns,
    pipeline: PipelineId,
}

impl OpenRuns {
    /// How many are open.
    pub(crate) fn count(&self, pipeline: &PipelineId) -> usize {
        self.0.lock().get(pipeline).copied().unwrap_or_default()
    }

    /// Counts one more, unless as many as may be are open; none: they are.
    pub(crate) fn enter(&self, pipeline: &PipelineId, most: Option<usize>) -> Option<OpenRun> {
        let mut counts = self.0.lock();
        let open = counts.get(pipeline).copied().unwrap_or_default();
        if most.is_some_and(|most| open >= most) {
            return None;
        }
        counts.insert(pipeline.clone(), open + 1);
        Some(OpenRun { all: self.clone(), pipeline: pipeline.clone() })
    }
}

impl Drop for OpenRun {
    fn drop(&mut self) {
        let mut counts = self.all.0.lock();
        if let Some(open) = counts.get_mut(&self.pipeline) {
            *open -= 1;
            if *open == 0 {
                counts.remove(&self.pipeline);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_by_pipeline_and_forgets_what_has_ended() {
        let open = OpenRuns::default();
        let (a, b): (PipelineId, PipelineId) = ("a".parse().unwrap(), "b".parse().unwrap());
        let one = open.enter(&a, Some(2)).unwrap();
        let two = open.enter(&a, Some(2)).unwrap();
        assert!(open.enter(&a, Some(2)).is_none() && open.enter(&b, Some(1)).is_some());
        let three = open.enter(&a, None).unwrap();
        assert_eq!((open.count(&a), open.count(&b)), (3, 0));
        drop(one);
        assert!(open.enter(&a, Some(2)).is_none(), "two are open");
        drop((two, three));
        assert!(open.0.lock().is_empty());
    }
}
