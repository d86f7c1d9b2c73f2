//! What has happened and is not yet in the chain: a bounded list between those who tell and the one who writes.

use std::time::Duration;

use jiff::Timestamp;
use parking_lot::{Condvar, Mutex};

use super::entry::AuditEntry;

/// Bounds of what waits. A writer that keeps up never sees them: they are a second's worth of a fast server.
const MAX_ENTRIES: usize = 32_768;
const MAX_BYTES: usize = 32 * 1024 * 1024;
/// With so many waiting the writer is woken at once.
const HURRY: usize = 2_048;
/// How long the writer lets entries gather: one wake-up for all of them, instead of one for each.
const GATHER: Duration = Duration::from_millis(2);

/// An entry and when it happened.
#[derive(Debug)]
pub(crate) struct Stamped {
    pub(crate) entry: AuditEntry,
    pub(crate) time: Timestamp,
}

/// What the writer takes at once.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    pub(crate) entries: Vec<Stamped>,
    /// The ticket of the last entry.
    pub(crate) last: u64,
    /// Entries that found no room since the batch before.
    pub(crate) lost: u64,
}

/// What became of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pushed {
    /// It waits, under this ticket; tickets are numbered in the order in which they are given, from 1.
    Ticket(u64),
    /// There is no room.
    Full,
    /// The log is closed.
    Closed,
}

#[derive(Debug, Default)]
pub(crate) struct Intake {
    state: Mutex<State>,
    arrived: Condvar,
    settled: Condvar,
}

#[derive(Debug, Default)]
struct State {
    entries: Vec<Stamped>,
    bytes: usize,
    lost: u64,
    /// The last ticket given.
    last: u64,
    /// The last ticket whose entry is in the chain, or refused.
    settled: u64,
    /// The writer waits until something comes.
    parked: bool,
    /// Somebody waits for the writer.
    hurry: bool,
    closed: bool,
}

impl Intake {
    /// Takes an entry and stamps it; stamps never run backwards against tickets unless the clock does.
    pub(crate) fn push(&self, entry: AuditEntry) -> Pushed {
        let weight = entry.weight();
        let mut state = self.state.lock();
        if state.closed {
            return Pushed::Closed;
        }
        if state.entries.len() >= MAX_ENTRIES || state.bytes + weight > MAX_BYTES {
            return Pushed::Full;
        }
        state.bytes += weight;
        state.last += 1;
        let ticket = state.last;
        state.entries.push(Stamped { entry, time: Timestamp::now() });
        let wake = std::mem::take(&mut state.parked) || state.entries.len() == HURRY;
        drop(state);
        if wake {
            self.arrived.notify_one();
        }
        Pushed::Ticket(ticket)
    }

    /// Counts an entry that found no room: the writer is to say so.
    pub(crate) fn count_lost(&self) {
        let mut state = self.state.lock();
        state.lost += 1;
        let wake = std::mem::take(&mut state.parked);
        drop(state);
        if wake {
            self.arrived.notify_one();
        }
    }

    /// All that waits, without waiting. `reuse` is an empty list whose memory goes on being used.
    pub(crate) fn take(&self, reuse: Vec<Stamped>) -> Batch {
        self.state.lock().take(reuse)
    }

    /// Waits until there is something, and a moment longer; `None` once the intake is closed and empty.
    pub(crate) fn wait(&self, reuse: Vec<Stamped>) -> Option<Batch> {
        let mut state = self.state.lock();
        while state.entries.is_empty() && state.lost == 0 {
            if state.closed {
                return None;
            }
            state.parked = true;
            self.arrived.wait(&mut state);
        }
        state.parked = false;
        if !state.closed && !state.hurry && state.entries.len() < HURRY {
            _ = self.arrived.wait_for(&mut state, GATHER);
        }
        Some(state.take(reuse))
    }

    /// Says that all entries up to this ticket have been dealt with.
    pub(crate) fn settle(&self, ticket: u64) {
        let mut state = self.state.lock();
        state.settled = state.settled.max(ticket);
        let waited_for = std::mem::take(&mut state.hurry);
        drop(state);
        if waited_for {
            self.settled.notify_all();
        }
    }

    /// Waits until all that was pushed before has been dealt with.
    pub(crate) fn flush(&self) {
        let mut state = self.state.lock();
        let target = state.last;
        while state.settled < target {
            state.hurry = true;
            self.arrived.notify_one();
            self.settled.wait(&mut state);
        }
    }

    /// The number of tickets given so far.
    #[cfg(test)]
    pub(crate) fn pushed(&self) -> u64 {
        self.state.lock().last
    }

    /// Takes nothing more.
    pub(crate) fn close(&self) {
        self.state.lock().closed = true;
        self.arrived.notify_one();
    }
}

impl State {
    fn take(&mut self, reuse: Vec<Stamped>) -> Batch {
        self.bytes = 0;
        Batch {
            entries: std::mem::replace(&mut self.entries, reuse),
            last: self.last,
            lost: std::mem::take(&mut self.lost),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::event::{AuditEvent, Outcome};
    use super::*;

    fn entry(detail: String) -> AuditEntry {
        AuditEntry::new(AuditEvent::PipelineRead, Outcome::Success).detail(detail)
    }

    #[test]
    fn it_is_bounded_by_number_and_by_bytes() {
        let intake = Intake::default();
        for n in 1..=MAX_ENTRIES as u64 {
            assert_eq!(intake.push(entry(String::new())), Pushed::Ticket(n));
        }
        assert_eq!(intake.push(entry(String::new())), Pushed::Full);
        intake.count_lost();
        let batch = intake.take(Vec::new());
        assert_eq!((batch.entries.len(), batch.lost, batch.last), (MAX_ENTRIES, 1, MAX_ENTRIES as u64));

        let mut taken = 0;
        while let Pushed::Ticket(_) = intake.push(entry("x".repeat(1 << 20))) {
            taken += 1;
            assert!(taken <= 32);
        }
        assert_eq!(taken, 31);
        intake.close();
        assert_eq!(intake.push(entry(String::new())), Pushed::Closed);
        assert_eq!(intake.wait(Vec::new()).map(|batch| batch.entries.len()), Some(31));
        assert!(intake.wait(Vec::new()).is_none());
    }

    #[test]
    fn stamps_are_in_the_order_of_tickets() {
        let intake = Intake::default();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..2_000).for_each(|_| _ = intake.push(entry(String::new()))));
            }
        });
        let batch = intake.take(Vec::new());
        assert_eq!(batch.entries.len(), 8_000);
        assert!(batch.entries.is_sorted_by_key(|stamped| stamped.time));
    }
}
