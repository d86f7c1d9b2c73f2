//! The `#[task]` attribute of TaskIQ-Flow: a Rust function becomes a task that pipelines name.
//!
//! It is used through the library crate, as `taskiq_flow::task`; what it makes is described there.

mod duration;
mod expand;
mod options;
mod signature;
#[cfg(test)]
mod tests;

use proc_macro::TokenStream;

/// Makes a task of a function: its parameters become the task's inputs, by their names and types, and what it returns
/// becomes the task's output.
///
/// The function may be `async` or not; one that is not runs on a thread of its own and may block. What stands in its
/// place afterwards is a type of the same name that implements `TaskDef`; the function itself is its associated
/// function `call`.
///
/// - A parameter of type `Option<T>` is an optional input: `None` where it is missing or null.
/// - A parameter of type `TaskContext` is given the context of the attempt.
/// - Any other parameter is read from JSON, by serde. A value that does not fit fails the task for good.
/// - The function returns a value that serde can write, or a `Result` of one. An error that converts into `TaskError`
///   says itself whether another attempt may help; of any other the text is kept, and another attempt is made if the
///   task has one left.
///
/// Options, all of them optional:
///
/// | option | meaning |
/// |---|---|
/// | `name = "..."` | the task's name; else that of the function |
/// | `output = "..."` | the name of what it makes; else the task's name |
/// | `outputs = ["...", "..."]` | several names: it returns a tuple, or something that is written as an object with these keys |
/// | `retries = 3` | so many attempts more when one fails |
/// | `delay = "1s"`, `backoff = 2.0`, `max_delay = "60s"`, `jitter = true` | the wait before another attempt |
/// | `timeout = "30s"` | the longest an attempt may take |
/// | `cache = "1h"`, `cache_version = "2"` | values are kept so long for later runs with the same inputs; another version makes those that were kept count no longer |
/// | `compensate = undo_it` | the task that undoes it, when a run fails after it was completed: it sees the inputs and, as `result`, the value. Inside a map and the like, and as an `otherwise`, the builder refuses such a task, since nothing is undone there |
/// | `on_error = "continue"` | what does not need this task's output goes on when it has failed; or `"fail"` |
#[proc_macro_attribute]
pub fn task(options: TokenStream, function: TokenStream) -> TokenStream {
    expand::task(options.into(), function.into()).unwrap_or_else(|error| error.into_compile_error()).into()
}
