//! Rules that hold for every store.

use std::collections::VecDeque;

use taskiq_flow_core::id::RunId;
use taskiq_flow_core::run::Event;
use taskiq_flow_core::time::Timestamp;

use crate::error::WriteError;
use crate::records::{Fence, RunFilter};

/// How many durations are kept of each task of each pipeline: ten times what a median over the last runs needs to be
/// steady, and no more than a kilobyte.
pub(crate) const KEPT_DURATIONS: usize = 100;

/// How many firings are kept of each schedule.
pub(crate) const KEPT_FIRINGS: usize = 1000;

/// How many deliveries that were given up are kept of each hook, and how many bytes of them. Where there are more, the
/// oldest goes of the pipeline that has most of what is too much, so that one drives out its own.
pub(crate) const KEPT_DEAD: usize = 1000;
pub(crate) const KEPT_DEAD_BYTES: u64 = 64 << 20;

/// The token of a run's first fence.
pub(crate) const FIRST_TOKEN: u64 = 1;

/// The ids that a filter lets through: from the first one on, up to the second one and without it. A run's id begins with
/// the time at which it was asked for.
pub(crate) fn id_range(filter: &RunFilter) -> (RunId, Option<RunId>) {
    let first_at = |time: Timestamp| {
        let millis = u64::try_from(time.as_millis()).unwrap_or(0);
        let mut bytes = [0; 16];
        bytes[..6].copy_from_slice(&millis.to_be_bytes()[2..]);
        RunId::from_bytes(bytes)
    };
    let until = filter.until.map(first_at);
    let end = [filter.before, until].into_iter().flatten().min();
    (filter.since.map_or(RunId::from_bytes([0; 16]), first_at), end)
}

/// When the run of that id was asked for.
pub(crate) fn asked_at(id: RunId) -> Timestamp {
    let mut millis = [0; 8];
    millis[2..].copy_from_slice(&id.as_bytes()[..6]);
    Timestamp::from_millis(i64::from_be_bytes(millis))
}

/// The place of new events in the log of their run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span {
    /// The number of the event before the first one.
    pub(crate) after: u64,
    /// The number of the last one; the same as `after` when there are none.
    pub(crate) last: u64,
    /// The number after which the first event belongs that does not follow the one before it.
    pub(crate) broken_after: Option<u64>,
}

impl Span {
    /// The span of some events; none when there are no events.
    pub(crate) fn of(events: &[Event]) -> Option<Self> {
        let first = events.first()?;
        let after = first.seq.checked_sub(1);
        let mut last = first.seq;
        let mut broken_after = after.is_none().then_some(0);
        for event in &events[1..] {
            if broken_after.is_none() && last.checked_add(1) != Some(event.seq) {
                broken_after = Some(event.seq.saturating_sub(1));
            }
            last = event.seq;
        }
        Some(Self { after: after.unwrap_or(0), last, broken_after })
    }
}

/// The number of the last event once the span has been added to a log that ends with `last_seq`.
pub(crate) fn follow(run_id: RunId, last_seq: u64, span: Option<Span>) -> Result<u64, WriteError> {
    let Some(span) = span else { return Ok(last_seq) };
    if span.after != last_seq {
        return Err(WriteError::Gap { run_id, expected: span.after, found: last_seq });
    }
    match span.broken_after {
        Some(expected) => Err(WriteError::Gap { run_id, expected, found: last_seq }),
        None => Ok(span.last),
    }
}

/// Whether `fence` is the one under which the run is held.
pub(crate) fn check_fence(run_id: RunId, held: Fence, fence: Fence) -> Result<(), WriteError> {
    if held == fence { Ok(()) } else { Err(WriteError::Fenced { run_id }) }
}

/// Adds a duration and lets go of the oldest beyond [`KEPT_DURATIONS`].
pub(crate) fn keep_duration(kept: &mut VecDeque<u64>, millis: u64) {
    while kept.len() >= KEPT_DURATIONS {
        kept.pop_front();
    }
    kept.push_back(millis);
}

/// The newest `count` durations, oldest of them first.
pub(crate) fn newest_durations(kept: &VecDeque<u64>, count: usize) -> Vec<u64> {
    kept.iter().skip(kept.len().saturating_sub(count)).copied().collect()
}

#[cfg(test)]
mod tests {
    use taskiq_flow_core::run::Fact;

    use super::*;

    fn span(seqs: &[u64]) -> Option<Span> {
        let event =
            |&seq: &u64| Event { seq, timestamp: Timestamp::from_millis(0), fact: Fact::PipelinePause };
        Span::of(&seqs.iter().map(event).collect::<Vec<_>>())
    }

    #[test]
    fn events_follow_the_log_and_each_other() {
        let id = RunId::new();
        let gap = |expected, found| Err(WriteError::Gap { run_id: id, expected, found });
        assert_eq!(follow(id, 7, span(&[])), Ok(7));
        assert_eq!(follow(id, 0, span(&[1, 2, 3])), Ok(3));
        assert_eq!(follow(id, 3, span(&[4])), Ok(4));
        assert_eq!(follow(id, 3, span(&[5, 6])), gap(4, 3));
        assert_eq!(follow(id, 3, span(&[3])), gap(2, 3));
        assert_eq!(follow(id, 3, span(&[4, 6])), gap(5, 3));
        assert_eq!(follow(id, 3, span(&[4, 4])), gap(3, 3));
        assert_eq!(follow(id, 0, span(&[0])), gap(0, 0));
        assert_eq!(follow(id, u64::MAX - 1, span(&[u64::MAX, 0])), gap(0, u64::MAX - 1));
    }

    #[test]
    fn an_id_says_when_its_run_was_asked_for() {
        let before = Timestamp::now();
        let at = asked_at(RunId::new());
        assert!(before <= at && at <= Timestamp::now(), "{before} {at}");
    }

    #[test]
    fn durations_are_bounded() {
        let mut kept = VecDeque::new();
        (0..250).for_each(|millis| keep_duration(&mut kept, millis));
        assert_eq!(kept.len(), KEPT_DURATIONS);
        assert_eq!(newest_durations(&kept, 2), [248, 249]);
        assert_eq!(newest_durations(&kept, 1000).len(), KEPT_DURATIONS);
    }
}
