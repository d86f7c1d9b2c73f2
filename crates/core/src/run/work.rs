//! Work: one attempt that is to be carried out, and what came of it.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::event::TaskId;
use crate::definition::{Body, Resources, Task};
use crate::expr::Inputs;
use crate::id::{PipelineId, RunId};
use crate::plan::PlanBody;

/// The code of an attempt that took too long.
const TIMEOUT: &str = "timeout";

/// One attempt of a step run, with all it needs.
#[derive(Debug, Clone)]
pub struct Work {
    /// The pipeline.
    pub pipeline_id: PipelineId,
    /// The run.
    pub run_id: RunId,
    /// The number of the step run within its run.
    pub step_run: u32,
    /// The attempt, from 1. A completion that names an older attempt is ignored.
    pub attempt: u32,
    /// How many attempts have failed before. A recovered attempt has the count of the one that was lost.
    pub failures: u32,
    /// The name of the step run.
    pub step: Arc<str>,
    /// The body at hand, and its task.
    pub plan_body: Arc<PlanBody>,
    /// The values of the inputs.
    pub inputs: Inputs,
    /// Further items of the same map or filter that the same attempt carries out after this one.
    pub chunk: Option<Box<WorkChunk>>,
    /// Of a reduce that takes several items at once: those items.
    pub fold: Option<Box<Fold>>,
}

/// Items that one attempt carries out, one after another.
#[derive(Debug, Clone)]
pub struct WorkChunk {
    /// Those that are to come.
    pub items: VecDeque<WorkItem>,
    /// Whether the first one that fails for good ends it: its map fails, so that nobody wants the others.
    pub fail_fast: bool,
}

/// One of them.
#[derive(Debug, Clone)]
pub struct WorkItem {
    /// The number of the step run within its run.
    pub step_run: u32,
    /// The attempt.
    pub attempt: u32,
    /// How many attempts have failed before.
    pub failures: u32,
    /// The name of the step run.
    pub step: Arc<str>,
    /// The values of the inputs.
    pub inputs: Inputs,
}

/// Items that are gone through one after another, each with what the one before has come to. Shown without them.
#[derive(Clone)]
pub struct Fold {
    /// The name of the input that is the item.
    pub item: Arc<str>,
    /// The name of the input that is what the items before have come to.
    pub accumulator: Arc<str>,
    /// The items, in order.
    pub items: Vec<Arc<Value>>,
}

/// What came of an attempt.
#[derive(Debug, Clone)]
pub enum Outcome {
    /// Its value.
    Completed(Arc<Value>),
    /// It failed.
    Failed(Failure),
}

/// Why an attempt failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// For people; never a secret.
    pub message: String,
    /// What sort of failure it is.
    pub kind: FailureKind,
    /// What programs tell it by, such as `exit:3` or `http:503`; the guide lists them. None: `error`.
    pub code: Option<Arc<str>>,
}

/// What sort of failure it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureKind {
    /// The task failed; another attempt may succeed.
    Error,
    /// The attempt took too long.
    Timeout,
    /// Every further attempt would fail the same way.
    Permanent,
}

impl Work {
    /// Goes on with the next item of the chunk, if there is one that is wanted: `failed` says how the one at hand failed, if
    /// it has.
    pub fn next_item(&mut self, failed: Option<&Failure>) -> bool {
        let over = failed.is_some_and(|failure| self.fails_for_good(failure));
        let Some(chunk) = &mut self.chunk else { return false };
        if over && chunk.fail_fast {
            return false;
        }
        let Some(WorkItem { step_run, attempt, failures, step, inputs }) = chunk.items.pop_front() else {
            return false;
        };
        (self.step_run, self.attempt, self.failures) = (step_run, attempt, failures);
        (self.step, self.inputs) = (step, inputs);
        true
    }

    /// What the kept value depends on, by its task's `cache.key`; none: on the inputs.
    ///
    /// # Errors
    /// The failure of the step run where that has no value. It would be the same with every further attempt.
    pub fn cache_key(&self) -> Result<Option<Value>, Failure> {
        let Some(key) = self.plan_body.cache().and_then(|cache| cache.key.as_ref()) else { return Ok(None) };
        key.evaluate(&self.inputs).map(Some).map_err(|error| {
            Failure::permanent(format!("`cache.key: {}`: {error}", key.source())).code("expression")
        })
    }

    /// Whether no other attempt is made after such a failure, as far as can be told here.
    fn fails_for_good(&self, failure: &Failure) -> bool {
        let (retry, permanent) = (self.plan_body.retry(), failure.kind == FailureKind::Permanent);
        self.failures + 1 >= retry.max_attempts.get()
            || !retry.repeats(failure.code_or_error(), &failure.message, permanent)
    }

    /// The step runs and attempts that it carries out: the one at hand, and those of the chunk that are to come.
    pub fn members(&self) -> impl Iterator<Item = (u32, u32)> {
        let chunk = self.chunk.iter().flat_map(|chunk| &chunk.items);
        let rest = chunk.map(|item| (item.step_run, item.attempt));
        std::iter::once((self.step_run, self.attempt)).chain(rest)
    }

    /// What is to be done.
    pub fn body(&self) -> &Body {
        self.plan_body.body()
    }

    /// The task it is an attempt of.
    pub fn task(&self) -> &Arc<Task> {
        self.plan_body.task()
    }

    /// Identifies the attempt to the outside world, such as a broker or a called service.
    pub fn task_id(&self) -> TaskId {
        TaskId { run_id: self.run_id, step_run: self.step_run, attempt: self.attempt }
    }

    /// What the attempt takes of the machine.
    pub fn resources(&self) -> &Resources {
        &self.task().resources
    }

    /// The longest the attempt may take.
    pub fn timeout(&self) -> Option<Duration> {
        self.plan_body.timeout()
    }
}

impl fmt::Debug for Fold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { item, accumulator, items } = self;
        let mut shown = f.debug_struct("Fold");
        shown.field("item", item).field("accumulator", accumulator).field("items", &items.len()).finish()
    }
}

impl Failure {
    /// A failure that may be transient: another attempt may succeed.
    pub fn error(message: impl Into<String>) -> Self {
        Self { message: message.into(), kind: FailureKind::Error, code: None }
    }

    /// A permanent failure: no further attempt would succeed.
    pub fn permanent(message: impl Into<String>) -> Self {
        Self { message: message.into(), kind: FailureKind::Permanent, code: None }
    }

    /// An attempt that took too long.
    pub fn timeout(message: impl Into<String>) -> Self {
        Self { message: message.into(), kind: FailureKind::Timeout, code: None }.code(TIMEOUT)
    }

    /// The same, with a code.
    #[must_use]
    pub fn code(self, code: impl Into<Arc<str>>) -> Self {
        Self { code: Some(code.into()), ..self }
    }

    /// The code that rules about errors see.
    pub fn code_or_error(&self) -> &str {
        self.code.as_deref().unwrap_or("error")
    }
}
