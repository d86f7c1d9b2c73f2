//! How far the first file is written: told by the one who writes it, waited for by the one who signs checkpoints.

use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::chain::Checkpoint;

#[derive(Debug, Default)]
pub(crate) struct Progress {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    /// The last record that is in the file.
    written: Option<Checkpoint>,
    /// The waiter wants to know when this number is written.
    wake_at: u64,
    /// Another file has taken the place of the one before.
    moved: bool,
    closed: bool,
}

/// Why the waiter goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wake {
    /// So much is written that it is time.
    Due(Checkpoint),
    /// Another file has taken the place of the one before: what is left in that one is to be read now.
    Moved(Option<Checkpoint>),
    /// Nothing more is written.
    Closed(Option<Checkpoint>),
}

impl Default for State {
    fn default() -> Self {
        Self { written: None, wake_at: u64::MAX, moved: false, closed: false }
    }
}

impl Progress {
    /// Says that everything up to this record is in the file.
    pub(crate) fn wrote(&self, at: Checkpoint) {
        let mut state = self.state.lock();
        state.written = Some(at);
        if at.seq >= state.wake_at {
            state.wake_at = u64::MAX;
            drop(state);
            self.changed.notify_one();
        }
    }

    /// Says that another file has taken the place of the one before.
    pub(crate) fn moved(&self) {
        self.state.lock().moved = true;
        self.changed.notify_one();
    }

    /// Says that nothing more is written.
    pub(crate) fn close(&self) {
        self.state.lock().closed = true;
        self.changed.notify_one();
    }

    /// Waits until something was written after `seen` and either `from` has come or `records` are new.
    pub(crate) fn wait(&self, seen: u64, from: Instant, records: u64) -> Wake {
        let mut state = self.state.lock();
        loop {
            if std::mem::take(&mut state.moved) {
                return Wake::Moved(state.written);
            }
            if state.closed {
                return Wake::Closed(state.written);
            }
            match state.written.filter(|at| at.seq > seen) {
                None => {
                    state.wake_at = seen.saturating_add(1);
                    self.changed.wait(&mut state);
                }
                Some(at) if at.seq - seen >= records || from <= Instant::now() => return Wake::Due(at),
                Some(_) => {
                    state.wake_at = seen.saturating_add(records);
                    _ = self.changed.wait_until(&mut state, from);
                }
            }
        }
    }

    /// Waits so long, or until nothing more is written.
    pub(crate) fn rest(&self, pause: Duration) {
        let mut state = self.state.lock();
        let until = Instant::now() + pause;
        while !state.closed && !self.changed.wait_until(&mut state, until).timed_out() {}
    }
}
