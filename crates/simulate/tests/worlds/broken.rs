//! Stores and machines that break a promise on purpose.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use taskiq_flow_core::id::RunId;
use taskiq_flow_core::run::{Command, Effects, Event, IllegalEvent, Input, Run};
use taskiq_flow_core::time::Timestamp;
use taskiq_flow_simulate::{Machine, Shared};
use taskiq_flow_store::{Fence, MemoryStore, RunRecord, RunWrite, StoreError, WriteError, Written};
use uuid::Uuid;

/// A store that changes what it is told to write.
#[derive(Debug)]
pub(crate) struct Wrong {
    inner: MemoryStore,
    held: Mutex<HashMap<RunId, Fence>>,
    change: fn(&HashMap<RunId, Fence>, &mut RunWrite),
}

/// Lets anybody write to a run, whoever holds it.
pub(crate) fn unfenced() -> Arc<Wrong> {
    wrong(|held, write| {
        if let RunWrite::Append(append) = write
            && let Some(fence) = held.get(&append.run_id)
        {
            append.fence = *fence;
        }
    })
}

/// Does not write every ninth event of a run when it is the last of several.
pub(crate) fn forgetful() -> Arc<Wrong> {
    wrong(|_, write| {
        if let RunWrite::Append(append) = write
            && append.events.len() > 1
            && append.events.last().is_some_and(|event| event.seq % 9 == 0)
        {
            Arc::make_mut(&mut append.events).pop();
        }
    })
}

fn wrong(change: fn(&HashMap<RunId, Fence>, &mut RunWrite)) -> Arc<Wrong> {
    Arc::new(Wrong { inner: MemoryStore::new(), held: Mutex::default(), change })
}

impl Shared for Wrong {
    fn write(&self, mut write: RunWrite) -> Result<Result<Written, WriteError>, StoreError> {
        (self.change)(&self.held.lock(), &mut write);
        Shared::write(&self.inner, write)
    }

    fn take_over(&self, owner: Uuid, now: Timestamp) -> Result<Vec<(RunRecord, Fence)>, StoreError> {
        let taken = self.inner.take_over(owner, now)?;
        self.held.lock().extend(taken.iter().map(|(record, fence)| (record.run_id, *fence)));
        Ok(taken)
    }

    fn run(&self, id: RunId) -> Result<Option<RunRecord>, StoreError> {
        Shared::run(&self.inner, id)
    }

    fn events(&self, id: RunId) -> Result<Vec<Event>, StoreError> {
        Shared::events(&self.inner, id)
    }
}

/// Takes the report of an attempt that is over for one of the attempt under way.
#[derive(Debug)]
pub(crate) struct Credulous;

impl Machine for Credulous {
    fn handle(&self, run: &mut Run, input: Input, now: Timestamp) -> Result<Effects, IllegalEvent> {
        let input = match input {
            Input::Finished { step_run, outcome, duration, .. } => {
                let steps = run.view().steps;
                let attempt = steps.get(step_run as usize).map_or(1, |step| step.state.attempt);
                Input::Finished { step_run, attempt, outcome, duration }
            }
            input => input,
        };
        run.handle(input, now)
    }
}

/// Sets no timers again after a crash.
#[derive(Debug)]
pub(crate) struct Timeless;

impl Machine for Timeless {
    fn recover(&self, run: &mut Run, now: Timestamp) -> Result<Effects, IllegalEvent> {
        let mut effects = run.recover(now)?;
        effects
            .commands
            .retain(|command| !matches!(command, Command::Timer { .. } | Command::RunTimer { .. }));
        Ok(effects)
    }
}

/// Hands the first attempt of every fifth step run out twice.
#[derive(Debug)]
pub(crate) struct Generous;

impl Machine for Generous {
    fn handle(&self, run: &mut Run, input: Input, now: Timestamp) -> Result<Effects, IllegalEvent> {
        let mut effects = run.handle(input, now)?;
        let again = effects
            .commands
            .iter()
            .find(|command| matches!(command, Command::Dispatch(work) if work.step_run % 5 == 1));
        effects.commands.extend(again.cloned().into_iter().collect::<Vec<_>>());
        Ok(effects)
    }
}
