//! How the log of a run is stored: rows of many events each, in a form of their own that is small and quick to cut.
//!
//! The first byte of a row says its form. A row of an earlier program is a JSON array, which begins with `[`. Form 1 goes
//! on with the events as [`Writer::events`] writes them.

use taskiq_flow_core::id::RunId;
use taskiq_flow_core::run::Event;

use super::codec::{self, from_json};
use super::fault::Fault;
use crate::codec::{MAX_BYTES, Reader, Unwritable, Writer};
use crate::error::WriteError;

/// Most events of a row: a reader that wants one of them reads no more than these.
const ROW_EVENTS: usize = 256;
/// Bytes after which a row is full.
const ROW_BYTES: usize = 1 << 20;
/// Bytes of a row that are made ready for its first events, and for each.
const AT_FIRST: (usize, usize) = (16, 48);

/// The form that is written, and the first byte of a row in it.
const FORM: u8 = 1;
/// The first byte of a row of an earlier program.
const JSON_ARRAY: u8 = b'[';

/// A row of the log.
pub(super) struct LogRow {
    /// The number of its last event.
    pub(super) last: u64,
    pub(super) body: Vec<u8>,
}

/// The rows for events that follow each other. The inner error refuses a value that could not be read back.
pub(super) fn rows(run_id: RunId, events: &[Event]) -> Result<Result<Vec<LogRow>, WriteError>, Fault> {
    let mut rows = Vec::with_capacity(events.len().div_ceil(ROW_EVENTS));
    let mut rest = events;
    while !rest.is_empty() {
        let mut bytes = Vec::with_capacity(AT_FIRST.0 + rest.len().min(ROW_EVENTS) * AT_FIRST.1);
        bytes.push(FORM);
        let mut row = Writer::new(bytes, MAX_BYTES);
        let count = match row.events(rest, ROW_EVENTS, ROW_BYTES) {
            Ok(count) => count,
            Err(Unwritable::TooLarge(unit, limit)) => {
                return Ok(Err(WriteError::TooLarge { run_id, unit, limit }));
            }
            Err(Unwritable::Json(error)) => return Err(Fault::Json(error)),
        };
        let (written, left) = rest.split_at(count);
        rest = left;
        if let Err(error) = codec::check_bytes(run_id, &row.bytes) {
            return Ok(Err(error));
        }
        rows.extend(written.last().map(|event| LogRow { last: event.seq, body: row.bytes }));
    }
    Ok(Ok(rows))
}

/// Adds the events of a row with a number above `after_seq` to `events`, until there are `limit`.
pub(super) fn read(
    run_id: RunId,
    row: &[u8],
    after_seq: u64,
    limit: usize,
    events: &mut Vec<Event>,
) -> Result<(), Fault> {
    let what = || format!("the log of run {run_id}");
    match row.split_first() {
        Some((&JSON_ARRAY, _)) => {
            let all: Vec<Event> = from_json(row, &what)?;
            let wanted = all.into_iter().filter(|event| event.seq > after_seq);
            events.extend(wanted.take(limit.saturating_sub(events.len())));
            Ok(())
        }
        Some((&FORM, rest)) => {
            let mut reader = Reader { rest, what: &what };
            reader.events(after_seq, limit, events).map_err(|broken| broken.told(&what).into())
        }
        Some((form, _)) => {
            Err(Fault::Corrupt(format!("{} is in form {form}, which this program does not know", what())))
        }
        None => Err(Fault::Corrupt(format!("{} has an empty row", what()))),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::{Value, json};
    use taskiq_flow_core::run::{CacheOutcome, Fact, StepRef};
    use taskiq_flow_core::time::Timestamp;

    use super::codec::to_json;
    use super::*;
    use crate::conformance::every_fact;

    fn written(events: &[Event]) -> Vec<LogRow> {
        rows(RunId::new(), events).unwrap().unwrap()
    }

    fn read_all(rows: &[LogRow], after_seq: u64, limit: usize) -> Vec<Event> {
        let mut events = Vec::new();
        rows.iter().for_each(|row| read(RunId::new(), &row.body, after_seq, limit, &mut events).unwrap());
        events
    }

    fn assert_same(left: &[Event], right: &[Event]) {
        assert_eq!(serde_json::to_value(left).unwrap(), serde_json::to_value(right).unwrap());
    }

    /// Facts at the ends of their fields, with times that go back.
    fn odd() -> Vec<Event> {
        let step = |step_run, step: &str, task: &str| StepRef::new(step_run, u32::MAX - step_run, step, task);
        let mut facts: Vec<Fact> = every_fact().into_iter().map(|event| event.fact).collect();
        for number in [0, 1, 127, 128, 16_384, u32::MAX] {
            facts.push(Fact::PipelineStart { task_count: number });
            facts.push(Fact::StepStart {
                step: step(number, "é[3]", "é"),
                attempt: number,
                max_attempts: u32::MAX - number,
                wait_ms: u64::MAX - u64::from(number),
                items: (number != 1).then_some(number),
                cache: (number == 127).then_some(CacheOutcome::Miss),
                chunk: (number == 1 || number == 128).then_some(u32::MAX - number),
            });
            facts.push(Fact::StepComplete {
                step: step(number, "", ""),
                attempt: number,
                duration_ms: u64::from(number) << 31,
                result: Arc::new(json!({"a": [0.1, null, "\u{0}"]})),
                cached: number == 1,
            });
        }
        let times = [5, 4, 1_760_000_000_000, 0, 253_402_207_200_000];
        facts
            .into_iter()
            .zip(1..)
            .map(|(fact, seq)| Event {
                seq,
                timestamp: Timestamp::from_millis(times[seq as usize % 5]),
                fact,
            })
            .collect()
    }

    #[test]
    fn every_fact_is_read_back() {
        let events = odd();
        let rows = written(&events);
        assert_eq!(rows.len(), 1);
        assert_same(&read_all(&rows, 0, 1000), &events);
        for after in 0..=events.len() {
            for limit in [0, 1, 3] {
                let expected = &events[after..(after + limit).min(events.len())];
                assert_same(&read_all(&rows, after as u64, limit), expected);
            }
        }
    }

    #[test]
    fn rows_have_so_many_events_and_bytes() {
        let event = |seq, result: Value| {
            let step = StepRef::new(1, 1, "a", "a");
            let fact = Fact::StepComplete {
                step,
                attempt: 1,
                duration_ms: 1,
                result: Arc::new(result),
                cached: false,
            };
            Event { seq, timestamp: Timestamp::from_millis(7), fact }
        };
        let many: Vec<Event> = (10..1010).map(|seq| event(seq, json!(seq))).collect();
        let rows = written(&many);
        assert_eq!(rows.iter().map(|row| row.last).collect::<Vec<_>>(), [265, 521, 777, 1009]);
        assert_same(&read_all(&rows, 500, 300), &many[491..791]);
        let large: Vec<Event> = (1..=5).map(|seq| event(seq, json!("x".repeat(ROW_BYTES * 2 / 3)))).collect();
        let rows = written(&large);
        assert_eq!(rows.iter().map(|row| row.last).collect::<Vec<_>>(), [2, 4, 5]);
        assert_same(&read_all(&rows, 0, 9), &large);
        assert!(written(&[]).is_empty());
    }

    #[test]
    fn rows_of_earlier_programs_are_read() {
        let events = odd();
        let row = LogRow { last: events.len() as u64, body: to_json(&events).unwrap() };
        assert_same(&read_all(&[row], 3, 5), &events[3..8]);
    }

    /// Damage is told, and never a panic or an endless read.
    #[test]
    fn damaged_rows_are_refused() {
        let events = every_fact();
        let whole = written(&events).remove(0).body;
        let id = RunId::new();
        let try_read = |row: &[u8], after| read(id, row, after, usize::MAX, &mut Vec::new());
        for end in 0..whole.len() {
            for after in [0, u64::MAX] {
                if let Err(fault) = try_read(&whole[..end], after) {
                    let Fault::Corrupt(what) = fault else { panic!("{fault:?}") };
                    assert!(what.contains(&id.to_string()), "{what}");
                }
            }
        }
        for place in 0..whole.len() {
            for flipped in [1, 0x80] {
                let mut row = whole.clone();
                row[place] ^= flipped;
                let _ = (try_read(&row, 0), try_read(&row, u64::MAX));
            }
        }
        let unknown = try_read(&[2, 1, 1], 0).unwrap_err();
        assert!(matches!(&unknown, Fault::Corrupt(what) if what.contains("form 2")), "{unknown:?}");
        assert!(try_read(&[FORM, 1, 0, 99, 0], 0).is_err(), "an unknown tag");
        assert!(
            try_read(&[FORM, 1, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1], 0)
                .is_err()
        );
    }
}
