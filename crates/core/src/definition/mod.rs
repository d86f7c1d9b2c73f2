//! What users define: pipelines and their tasks, as plain data.
//!
//! A definition that exists is well-formed: it was built by the [loader](crate::load) or by the builder, and both
//! end in [`Plan::new`](crate::plan::Plan::new), which checks the wiring.

mod cache;
mod concurrency;
mod error_rule;
mod kind;
mod pipeline;
mod resources;
mod retry;
mod schedule;
mod schema;
mod task;

pub use cache::Cache;
pub use concurrency::{Concurrency, OnFull, Priority, PriorityError};
pub use error_rule::{BadErrorRule, ErrorRule};
pub use kind::{
    Argument, Body, Chunk, CommandSpec, GroupMember, HttpMethod, HttpResponse, HttpSpec, MapSpec,
    OnItemError, ReduceSpec, TaskKind, TaskiqSpec, WaitFor, WaitSpec,
};
pub use pipeline::{OnError, Pipeline, Style};
pub use resources::{Amount, BadAmount, CPU, MEMORY, Resources};
pub use retry::RetryPolicy;
pub use schedule::{CatchUp, Overlap, ScheduleRules, ScheduleSpec, Timing};
pub use schema::{FieldError, InputSchema, SchemaError};
pub use task::{Compensation, Input, Task};
