//! Tasks written in Rust.
//!
//! ```
//! use taskiq_flow::broker::InMemoryBroker;
//! use taskiq_flow::task;
//! use taskiq_flow::task::TaskDef;
//!
//! /// Splits a text into words.
//! #[task(output = "words", retries = 2, timeout = "10s")]
//! async fn split(text: String) -> Vec<String> {
//!     text.split_whitespace().map(str::to_owned).collect()
//! }
//!
//! let broker = InMemoryBroker::new();
//! split.register(taskiq_flow::broker::Broker::registry(&broker));
//!
//! let info = split.info();
//! assert_eq!((info.name(), info.inputs()[0].name(), info.outputs()), ("split", "text", &["words"][..]));
//!
//! // The function itself can be called, and tested, as any other.
//! # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
//! assert_eq!(split::call("a b".to_owned()).await, ["a", "b"]);
//! # });
//! ```
//!
//! Rules: a task is given its inputs by the names of its parameters, and inputs it has no parameter for are left
//! aside. In the chained style, where a step is given one value under the name `value`, the first parameter takes it
//! whatever its name. An input that is missing or does not fit the parameter's type fails the task for good; the
//! message names the input and the type, never the value.
//!
//! A function that is not `async` runs on a thread made for work that blocks. Its attempt can time out or be
//! cancelled, but the thread goes on until the function returns.
//!
//! A value that serde cannot read is a mistake that the compiler finds:
//!
//! ```compile_fail,E0277
//! struct Order;
//! #[taskiq_flow::task]
//! async fn ship(order: Order) -> u32 {
//!     1
//! }
//! ```
//!
//! and so are a value that serde cannot write, and an error without a text:
//!
//! ```compile_fail,E0308
//! struct Parcel;
//! #[taskiq_flow::task]
//! async fn ship() -> Parcel {
//!     Parcel
//! }
//! ```
//!
//! ```compile_fail,E0308
//! #[derive(Debug)]
//! struct Lost;
//! #[taskiq_flow::task]
//! async fn ship() -> Result<u32, Lost> {
//!     Err(Lost)
//! }
//! ```

mod info;
#[doc(hidden)]
pub mod support;

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use serde_json::Value;
pub use taskiq_flow_broker::{TaskCall, TaskContext, TaskError, TaskRegistry};
pub use taskiq_flow_macros::task;

pub use self::info::{InputInfo, TaskInfo};

/// What an invoked task does.
pub type TaskFuture = Pin<Box<dyn Future<Output = Result<Value, TaskError>> + Send>>;

/// A task written in Rust: what `#[task]` makes of a function.
pub trait TaskDef: fmt::Debug + Send + Sync + 'static {
    /// What pipelines have to know about it.
    fn info(&self) -> &'static TaskInfo;

    /// Carries out one attempt.
    fn invoke(&self, call: TaskCall) -> TaskFuture;

    /// The task that undoes it, when its run fails after it was completed: it is given this one's inputs and, as `result`,
    /// its value.
    fn compensation(&self) -> Option<Arc<dyn TaskDef>> {
        None
    }

    /// Makes the task known under its name; one of the same name is replaced.
    fn register(self, registry: &TaskRegistry)
    where
        Self: Sized,
    {
        register(Arc::new(self), registry);
    }
}

/// As [`TaskDef::register`], for a task behind a pointer.
pub fn register(task: Arc<dyn TaskDef>, registry: &TaskRegistry) {
    // What undoes it is known with it, and not what would undo that: nothing undoes what undoes.
    let undo = task.compensation();
    for task in std::iter::once(task).chain(undo) {
        registry.register(task.info().name(), move |call| task.invoke(call));
    }
}
