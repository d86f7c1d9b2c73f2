//! One run of a pipeline as a pure state machine.
//!
//! [`Run::handle`] takes an [`Input`] and the time and gives back [`Effects`]: events, which are the facts that
//! were decided and have already been applied, and commands, which ask something of the world. The state is the
//! sum of its events: [`Run::replay`] rebuilds it. Whoever drives a run must make the events durable before it
//! carries out the commands.

mod error;
mod event;
mod items;
mod line;
mod lookup;
mod machine;
mod reuse;
mod room;
mod state;
mod status;
mod undo;
mod view;
mod work;

pub use error::{IllegalEvent, RunError};
pub use event::{CacheOutcome, Event, EventView, Fact, SharedEvent, StepRef, TaskId};
pub use items::{ItemDetail, ItemFilter, ItemPage};
pub use machine::{Command, Effects, Input, ItemEnd, MAX_WAITING_SIGNALS};
pub use state::Run;
pub use status::{RunStatus, StepStatus};
pub use view::{ItemView, RunView, SHOWN_ITEMS, StepView, took};
pub use work::{Failure, FailureKind, Fold, Outcome, Work, WorkChunk, WorkItem};

#[cfg(test)]
mod tests;
