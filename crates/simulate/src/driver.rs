//! One process that drives runs: what it holds in memory, and loses with its death.

use std::collections::BTreeMap;
use std::fmt;

use futures_util::FutureExt;
use taskiq_flow_core::id::RunId;
use taskiq_flow_core::run::{Effects, Event, IllegalEvent, Input, Run};
use taskiq_flow_core::time::Timestamp;
use taskiq_flow_store::{Fence, MemoryStore, RunRecord, RunWrite, Store, StoreError, WriteError, Written};
use uuid::Uuid;

/// How runs decide.
pub trait Machine: fmt::Debug {
    /// As [`Run::handle`].
    ///
    /// # Errors
    /// As there.
    fn handle(&self, run: &mut Run, input: Input, now: Timestamp) -> Result<Effects, IllegalEvent> {
        run.handle(input, now)
    }

    /// As [`Run::recover`].
    ///
    /// # Errors
    /// As there.
    fn recover(&self, run: &mut Run, now: Timestamp) -> Result<Effects, IllegalEvent> {
        run.recover(now)
    }
}

/// The product's state machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct RealMachine;

impl Machine for RealMachine {}

/// A store that outlives the processes that write to it: what the world asks of one, which answers at once.
#[allow(clippy::missing_errors_doc, reason = "as those of the store's own methods")]
pub trait Shared: fmt::Debug {
    /// As [`Store::write`], of one write.
    fn write(&self, write: RunWrite) -> Result<Result<Written, WriteError>, StoreError>;

    /// Takes every driver for dead, so that none can write until it has claimed the run, and gives all unfinished runs
    /// to `owner`.
    fn take_over(&self, owner: Uuid, now: Timestamp) -> Result<Vec<(RunRecord, Fence)>, StoreError>;

    /// As [`Store::run`].
    fn run(&self, id: RunId) -> Result<Option<RunRecord>, StoreError>;

    /// All events of a run.
    fn events(&self, id: RunId) -> Result<Vec<Event>, StoreError>;
}

impl Shared for MemoryStore {
    fn write(&self, write: RunWrite) -> Result<Result<Written, WriteError>, StoreError> {
        let answers = at_once(Store::write(self, vec![write]))?;
        answers.into_iter().next().ok_or_else(|| unanswered("a write was not answered"))
    }

    fn take_over(&self, owner: Uuid, now: Timestamp) -> Result<Vec<(RunRecord, Fence)>, StoreError> {
        self.void_leases();
        at_once(self.claim(owner, now, Timestamp::MAX, usize::MAX))
    }

    fn run(&self, id: RunId) -> Result<Option<RunRecord>, StoreError> {
        at_once(Store::run(self, id))
    }

    fn events(&self, id: RunId) -> Result<Vec<Event>, StoreError> {
        at_once(Store::events(self, id, 0, usize::MAX))
    }
}

/// What a store in memory says: it waits for nothing.
fn at_once<T>(asked: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    asked.now_or_never().unwrap_or_else(|| Err(unanswered("a store in memory waits for something")))
}

fn unanswered(reason: &str) -> StoreError {
    StoreError::Unavailable { place: "memory:".to_owned(), reason: reason.to_owned() }
}

/// One process.
#[derive(Debug)]
pub(crate) struct Driver {
    pub(crate) owner: Uuid,
    pub(crate) runs: BTreeMap<RunId, Driven>,
    /// Whether it was taken for dead and lives on.
    pub(crate) superseded: bool,
    /// By how many milliseconds its clock is wrong.
    pub(crate) skew: i64,
}

/// A run and the fence under which it is held.
#[derive(Debug)]
pub(crate) struct Driven {
    pub(crate) run: Run,
    pub(crate) fence: Fence,
}
