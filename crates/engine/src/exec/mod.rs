//! Executors: how each kind of task is carried out. A new kind has its file here and its line in
//! [`Executors::execute`].

mod address;
mod command;
mod http;
pub(crate) mod printed;

use std::sync::Arc;

use serde_json::Value;
use taskiq_flow_broker::{CallFuture, TaskCall, TaskContext, TaskError, TaskRegistry};
use taskiq_flow_core::definition::TaskKind;
use taskiq_flow_core::expr::{Expr, Inputs};
use taskiq_flow_core::run::{Failure, Fold, Outcome, Work};
use tokio_util::task::TaskTracker;

use crate::options::EngineOptions;

/// The code of a call of a Rust task that the program does not have.
pub(crate) const UNKNOWN_TASK: &str = "unknown_task";

/// What carrying out an attempt has come to.
#[derive(Debug)]
pub(crate) struct Execution {
    pub(crate) outcome: Outcome,
    /// What it printed beside its value.
    pub(crate) log: Option<String>,
}

/// Carries out attempts of every kind.
#[derive(Debug)]
pub(crate) struct Executors {
    registry: TaskRegistry,
    http: http::HttpExecutor,
    command: command::CommandExecutor,
    max_log_bytes: usize,
}

/// What an expression comes to. It needs nothing and does nothing, so that it can be carried out anywhere.
pub(crate) fn evaluated(expr: &Expr, inputs: &Inputs) -> Outcome {
    match expr.evaluate(inputs) {
        Ok(value) => Outcome::Completed(Arc::new(value)),
        Err(error) => Outcome::Failed(Failure::permanent(error.to_string()).code("expression")),
    }
}

/// What is said of an attempt that panicked.
pub(crate) fn panicked() -> Failure {
    Failure::error("the task panicked").code("panic")
}

impl Execution {
    pub(crate) fn completed(value: Value) -> Self {
        Self { outcome: Outcome::Completed(Arc::new(value)), log: None }
    }

    pub(crate) fn failed(failure: Failure) -> Self {
        Self { outcome: Outcome::Failed(failure), log: None }
    }
}

impl From<Result<Value, Failure>> for Execution {
    fn from(result: Result<Value, Failure>) -> Self {
        match result {
            Ok(value) => Self::completed(value),
            Err(failure) => Self::failed(failure),
        }
    }
}

impl Executors {
    pub(crate) fn new(options: &EngineOptions, registry: TaskRegistry) -> Result<Self, String> {
        Ok(Self {
            registry,
            http: http::HttpExecutor::new(options.max_output_bytes)?,
            command: command::CommandExecutor::new(options.max_output_bytes, options.max_log_bytes),
            max_log_bytes: options.max_log_bytes,
        })
    }

    /// Lets whoever shuts down wait for processes that are being stopped.
    pub(crate) fn tracked_by(mut self, tasks: TaskTracker) -> Self {
        self.command.track(tasks);
        self
    }

    /// Carries out an attempt. Dropping the future stops it. What needs the inputs for itself takes them.
    pub(crate) async fn execute(&self, work: &mut Work) -> Execution {
        match work.fold.take() {
            Some(fold) => self.fold(work, *fold).await,
            None => self.execute_one(work).await,
        }
    }

    /// Goes through several items, each with what the one before has come to.
    async fn fold(&self, work: &mut Work, fold: Fold) -> Execution {
        let given = std::mem::take(&mut work.inputs);
        let mut value = given.get(&fold.accumulator).cloned().unwrap_or_default();
        let mut logs = String::new();
        for (place, item) in fold.items.into_iter().enumerate() {
            work.inputs = given.clone();
            work.inputs.insert(Arc::clone(&fold.item), item);
            work.inputs.insert(Arc::clone(&fold.accumulator), value);
            for (name, constant) in work.plan_body.constants() {
                work.inputs.insert(Arc::clone(name), Arc::clone(constant));
            }
            let Execution { outcome, log } = self.execute_one(work).await;
            logs.push_str(&log.unwrap_or_default());
            // As of one attempt, which it is: the last of it.
            let over = logs.len().saturating_sub(self.max_log_bytes);
            logs.drain(..logs.ceil_char_boundary(over));
            match outcome {
                Outcome::Completed(made) => value = made,
                Outcome::Failed(failure) => {
                    let message = format!("item {place} of the chunk: {}", failure.message);
                    let outcome = Outcome::Failed(Failure { message, ..failure });
                    return Execution { outcome, log: Some(logs) };
                }
            }
            // Items that wait for nothing are not to keep others from their turn.
            tokio::task::consume_budget().await;
        }
        Execution { outcome: Outcome::Completed(value), log: Some(logs) }
    }

    async fn execute_one(&self, work: &mut Work) -> Execution {
        let plan_body = Arc::clone(&work.plan_body);
        match &plan_body.body().kind {
            TaskKind::Expression(expr) => Execution { outcome: evaluated(expr, &work.inputs), log: None },
            TaskKind::Command(spec) => self.command.execute(spec, work).await,
            TaskKind::Http(spec) => self.http.execute(spec, work).await.into(),
            TaskKind::Task(name) => match self.call(name, work) {
                Ok(called) => called.await.into(),
                Err(failure) => Execution::failed(failure),
            },
            other => {
                let message = format!("a `{}` task cannot be carried out by a worker here", other.name());
                Execution::failed(Failure::permanent(message))
            }
        }
    }

    /// Calls a Rust task with the inputs of an attempt.
    pub(crate) fn call(&self, name: &str, work: &mut Work) -> Result<CallFuture, Failure> {
        let context = TaskContext {
            pipeline_id: work.pipeline_id.clone(),
            run_id: work.run_id,
            step: Arc::clone(&work.step),
            attempt: work.attempt,
            task_id: work.task_id(),
        };
        let called = self.registry.call(name, TaskCall { inputs: std::mem::take(&mut work.inputs), context });
        called.ok_or_else(|| {
            let message = format!("no Rust task `{name}` is registered in this program");
            Failure::permanent(message).code(UNKNOWN_TASK)
        })
    }
}

impl From<Result<Value, TaskError>> for Execution {
    fn from(called: Result<Value, TaskError>) -> Self {
        let called = called.map_err(|error| {
            let TaskError { message, retryable, code } = error;
            let failure = if retryable { Failure::error(message) } else { Failure::permanent(message) };
            match code {
                Some(code) => failure.code(code),
                None => failure,
            }
        });
        called.into()
    }
}
