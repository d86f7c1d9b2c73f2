//! The tasks a process knows by name.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use serde_json::Value;
use taskiq_flow_core::expr::Inputs;
use taskiq_flow_core::id::{PipelineId, RunId};
use taskiq_flow_core::pace::Pace;
use taskiq_flow_core::run::TaskId;

/// A task as the registry holds it.
type Callable = Arc<dyn Fn(TaskCall) -> CallFuture + Send + Sync>;
/// A call under way. Dropping it stops it.
pub type CallFuture = Pin<Box<dyn Future<Output = Result<Value, TaskError>> + Send>>;

/// The Rust tasks of a process, by name. Clones share one table.
#[derive(Clone, Default)]
pub struct TaskRegistry(Arc<Table>);

#[derive(Default)]
struct Table {
    /// Looked into for each call, by all processors at once, and seldom changed.
    tasks: ArcSwap<BTreeMap<Arc<str>, Known>>,
    /// How often it has changed.
    changes: AtomicU64,
}

#[derive(Clone)]
struct Known {
    call: Callable,
    pace: Arc<Pace>,
}

/// One call of a registered task.
#[derive(Debug, Clone)]
pub struct TaskCall {
    /// The values of its inputs.
    pub inputs: Inputs,
    /// Which attempt of which run this is.
    pub context: TaskContext,
}

/// Which attempt of which run a task is called for.
#[derive(Debug, Clone)]
pub struct TaskContext {
    /// The pipeline.
    pub pipeline_id: PipelineId,
    /// The run.
    pub run_id: RunId,
    /// The step run.
    pub step: Arc<str>,
    /// The attempt, from 1.
    pub attempt: u32,
    /// Unique to the attempt: what to give a service that knows idempotency keys.
    pub task_id: TaskId,
}

/// Why a task failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct TaskError {
    /// For people; never a secret.
    pub message: String,
    /// Whether another attempt may succeed.
    pub retryable: bool,
    /// What rules such as `retry_on` tell it by; none: `error`.
    pub code: Option<String>,
}

impl TaskRegistry {
    /// Makes a task known. One of the same name is replaced.
    pub fn register<F, Fut>(&self, name: impl Into<String>, task: F)
    where
        F: Fn(TaskCall) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Value, TaskError>> + Send + 'static,
    {
        let known = Known { call: Arc::new(move |call| Box::pin(task(call))), pace: Arc::default() };
        let name: Arc<str> = name.into().into();
        self.0.tasks.rcu(|tasks| {
            let mut tasks = BTreeMap::clone(tasks);
            tasks.insert(Arc::clone(&name), known.clone());
            tasks
        });
        self.0.changes.fetch_add(1, Ordering::Release);
    }

    /// How often a task was made known so far: as long as it is the same, so are the tasks.
    pub fn changes(&self) -> u64 {
        self.0.changes.load(Ordering::Acquire)
    }

    /// Whether a task of that name is known.
    pub fn contains(&self, name: &str) -> bool {
        self.0.tasks.load().contains_key(name)
    }

    /// The names of all tasks, sorted.
    pub fn names(&self) -> Vec<String> {
        self.0.tasks.load().keys().map(|name| name.to_string()).collect()
    }

    /// Notes how long a call took of a task in a step that it was not known of. A hint, see [`Pace`].
    pub fn note(&self, name: &str, took: Duration) {
        if let Some(task) = self.0.tasks.load().get(name) {
            task.pace.note(took, 0);
        }
    }

    /// Whether calls of a task usually take no longer than that; none: nothing is known.
    pub fn is_within(&self, name: &str, limit: Duration) -> Option<bool> {
        self.0.tasks.load().get(name).and_then(|task| task.pace.is_within(limit, 0))
    }

    /// The edition of the tasks, by which [`Pace`] tells them apart: another one when one of them was made known anew.
    pub fn edition(&self) -> u32 {
        self.changes() as u32
    }

    /// Calls a task; none when there is none of that name.
    pub fn call(&self, name: &str, call: TaskCall) -> Option<CallFuture> {
        self.0.tasks.load().get(name).map(|task| (task.call)(call))
    }
}

impl fmt::Debug for TaskRegistry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.names()).finish()
    }
}

impl TaskError {
    /// A failure that may be transient: another attempt may succeed.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), retryable: true, code: None }
    }

    /// A permanent failure: no further attempt would succeed.
    pub fn permanent(message: impl Into<String>) -> Self {
        Self { message: message.into(), retryable: false, code: None }
    }

    /// The same, with a code of your own such as `rate_limited`, which `retry_on` and `not_on` may name.
    #[must_use]
    pub fn code(self, code: impl Into<String>) -> Self {
        Self { code: Some(code.into()), ..self }
    }
}
