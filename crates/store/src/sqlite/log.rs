//! How the log of a run is stored: rows of many events each, in a form of their own that is small and quick to cut.
//!
//! The first byte of a row says its form. A row of an earlier program is a JSON array, which begins with `[`. Form 1 goes
//! on with the number of the first event and the time that the others count from, and then has the events one after
//! another: a byte that says what follows, the time since the one before, and the fields. Numbers have 7 bits a byte, the
//! lowest first; texts and JSON values have their length before them. What has no form of its own, or a field that
//! its form does not know, is stored as JSON, so that a new fact needs nothing here.

use std::sync::Arc;

use serde_json::Value;
use taskiq_flow_core::id::RunId;
use taskiq_flow_core::run::{Event, Fact, StepRef};
use taskiq_flow_core::time::Timestamp;

use super::codec::{self, from_json, to_json};
use super::fault::Fault;
use crate::error::WriteError;

/// Most events of a row: a reader that wants one of them reads no more than these.
const ROW_EVENTS: usize = 256;
/// Bytes after which a row is full.
const ROW_BYTES: usize = 1 << 20;

/// The form that is written, and the first byte of a row in it.
const FORM: u8 = 1;
/// The first byte of a row of an earlier program.
const JSON_ARRAY: u8 = b'[';

/// What follows in a row.
mod tag {
    /// A fact as JSON.
    pub(super) const JSON: u8 = 0;
    pub(super) const PIPELINE_START: u8 = 1;
    pub(super) const STEP_START: u8 = 2;
    /// The start of a step that has items.
    pub(super) const COMPOSITE_START: u8 = 3;
    pub(super) const STEP_COMPLETE: u8 = 4;
    /// The end of a step whose value is an earlier one.
    pub(super) const STEP_CACHED: u8 = 5;
    pub(super) const PIPELINE_COMPLETE: u8 = 6;
    /// The start of an item that is carried out together with others.
    pub(super) const CHUNK_START: u8 = 7;
}

/// A row of the log.
pub(super) struct LogRow {
    /// The number of its last event.
    pub(super) last: u64,
    pub(super) body: Vec<u8>,
}

/// The rows for events that follow each other.
pub(super) fn rows(run_id: RunId, events: &[Event]) -> Result<Result<Vec<LogRow>, WriteError>, Fault> {
    let mut rows = Vec::with_capacity(events.len().div_ceil(ROW_EVENTS));
    let mut rest = events;
    while let Some(first) = rest.first() {
        let mut row = Writer { bytes: vec![FORM], before: first.timestamp };
        row.number(first.seq);
        row.number(u64::try_from(first.timestamp.as_millis()).unwrap_or(0));
        let mut count = 0;
        while count < ROW_EVENTS
            && row.bytes.len() < ROW_BYTES
            && let Some(event) = rest.get(count)
        {
            if let Err(error) = row.event(run_id, event)? {
                return Ok(Err(error));
            }
            count += 1;
        }
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
            reader.events(after_seq, limit, events).map_err(|Broken(fault)| {
                fault.unwrap_or_else(|| Fault::Corrupt(format!("{} is cut off", what())))
            })
        }
        Some((form, _)) => {
            Err(Fault::Corrupt(format!("{} is in form {form}, which this program does not know", what())))
        }
        None => Err(Fault::Corrupt(format!("{} has an empty row", what()))),
    }
}

struct Writer {
    bytes: Vec<u8>,
    /// The time of the event before.
    before: Timestamp,
}

impl Writer {
    /// The inner error refuses a value that could not be read back.
    fn event(&mut self, run_id: RunId, event: &Event) -> Result<Result<(), WriteError>, Fault> {
        let place = self.bytes.len();
        self.bytes.push(tag::JSON);
        self.signed(event.timestamp.as_millis().wrapping_sub(self.before.as_millis()));
        self.before = event.timestamp;
        // Fields are named one by one, so that one that is added is not forgotten here.
        let (tag, value) = match &event.fact {
            Fact::PipelineStart { task_count } => {
                self.number((*task_count).into());
                (tag::PIPELINE_START, None)
            }
            // What follows a search for a kept value is rare enough for JSON.
            Fact::StepStart { step, attempt, max_attempts, wait_ms, items, cache: None, chunk: None } => {
                self.step(step);
                self.number((*attempt).into());
                self.number((*max_attempts).into());
                self.number(*wait_ms);
                if let Some(items) = items {
                    self.number((*items).into());
                }
                (if items.is_some() { tag::COMPOSITE_START } else { tag::STEP_START }, None)
            }
            Fact::StepStart {
                step,
                attempt,
                max_attempts,
                wait_ms,
                items: None,
                cache: None,
                chunk: Some(chunk),
            } => {
                self.step(step);
                self.number((*attempt).into());
                self.number((*max_attempts).into());
                self.number(*wait_ms);
                self.number((*chunk).into());
                (tag::CHUNK_START, None)
            }
            Fact::StepComplete { step, attempt, duration_ms, result, cached } => {
                self.step(step);
                self.number((*attempt).into());
                self.number(*duration_ms);
                (if *cached { tag::STEP_CACHED } else { tag::STEP_COMPLETE }, Some(to_json(result)?))
            }
            Fact::PipelineComplete { result, duration_ms } => {
                self.number(*duration_ms);
                (tag::PIPELINE_COMPLETE, Some(to_json(result)?))
            }
            other => (tag::JSON, Some(to_json(other)?)),
        };
        self.bytes[place] = tag;
        if let Some(json) = value {
            if let Err(error) = codec::check_size(run_id, &json) {
                return Ok(Err(error));
            }
            self.text(&json);
        }
        Ok(Ok(()))
    }

    fn step(&mut self, step: &StepRef) {
        let StepRef { step_run, step_index, step, task_name } = step;
        let has_own_name = step != task_name;
        self.number((u64::from(*step_run) << 1) | u64::from(has_own_name));
        self.number((*step_index).into());
        self.text(task_name.as_bytes());
        if has_own_name {
            self.text(step.as_bytes());
        }
    }

    fn number(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.bytes.push(number as u8 | 0x80);
            number >>= 7;
        }
        self.bytes.push(number as u8);
    }

    /// A number that is mostly small, on either side of 0.
    fn signed(&mut self, number: i64) {
        self.number(((number << 1) ^ (number >> 63)) as u64);
    }

    fn text(&mut self, text: &[u8]) {
        self.number(text.len() as u64);
        self.bytes.extend_from_slice(text);
    }
}

struct Reader<'a> {
    rest: &'a [u8],
    what: &'a dyn Fn() -> String,
}

/// Why a row cannot be read; none: it ends where it should not, or holds a number where none can be.
struct Broken(Option<Fault>);

impl From<Fault> for Broken {
    fn from(fault: Fault) -> Self {
        Self(Some(fault))
    }
}

impl<'a> Reader<'a> {
    fn events(&mut self, after_seq: u64, limit: usize, events: &mut Vec<Event>) -> Result<(), Broken> {
        let mut seq = self.number()?;
        let mut millis = i64::try_from(self.number()?).map_err(|_| Broken(None))?;
        while !self.rest.is_empty() && events.len() < limit {
            let (&tag, rest) = self.rest.split_first().ok_or(Broken(None))?;
            self.rest = rest;
            millis = millis.wrapping_add(self.signed()?);
            if seq > after_seq {
                let fact = self.fact(tag)?;
                events.push(Event { seq, timestamp: Timestamp::from_millis(millis), fact });
            } else {
                self.skip(tag)?;
            }
            seq = seq.wrapping_add(1);
        }
        Ok(())
    }

    fn fact(&mut self, tag: u8) -> Result<Fact, Broken> {
        Ok(match tag {
            tag::JSON => from_json(self.text()?, self.what)?,
            tag::PIPELINE_START => Fact::PipelineStart { task_count: self.small()? },
            tag::STEP_START | tag::COMPOSITE_START | tag::CHUNK_START => Fact::StepStart {
                step: self.step()?,
                attempt: self.small()?,
                max_attempts: self.small()?,
                wait_ms: self.number()?,
                items: if tag == tag::COMPOSITE_START { Some(self.small()?) } else { None },
                cache: None,
                chunk: if tag == tag::CHUNK_START { Some(self.small()?) } else { None },
            },
            tag::STEP_COMPLETE | tag::STEP_CACHED => Fact::StepComplete {
                step: self.step()?,
                attempt: self.small()?,
                duration_ms: self.number()?,
                result: self.value()?,
                cached: tag == tag::STEP_CACHED,
            },
            tag::PIPELINE_COMPLETE => {
                let duration_ms = self.number()?;
                Fact::PipelineComplete { result: self.value()?, duration_ms }
            }
            _ => return Err(Broken(None)),
        })
    }

    /// Passes over what [`Self::fact`] would read.
    fn skip(&mut self, tag: u8) -> Result<(), Broken> {
        let numbers = match tag {
            tag::JSON => 0,
            tag::PIPELINE_START | tag::PIPELINE_COMPLETE => 1,
            tag::STEP_START => 3,
            tag::COMPOSITE_START | tag::CHUNK_START => 4,
            tag::STEP_COMPLETE | tag::STEP_CACHED => 2,
            _ => return Err(Broken(None)),
        };
        let of_step = matches!(
            tag,
            tag::STEP_START | tag::COMPOSITE_START | tag::CHUNK_START | tag::STEP_COMPLETE | tag::STEP_CACHED
        );
        if of_step {
            let has_own_name = self.number()? & 1 == 1;
            self.number()?;
            self.text()?;
            if has_own_name {
                self.text()?;
            }
        }
        for _ in 0..numbers {
            self.number()?;
        }
        if matches!(tag, tag::JSON | tag::STEP_COMPLETE | tag::STEP_CACHED | tag::PIPELINE_COMPLETE) {
            self.text()?;
        }
        Ok(())
    }

    fn step(&mut self) -> Result<StepRef, Broken> {
        let first = self.number()?;
        let step_run = u32::try_from(first >> 1).map_err(|_| Broken(None))?;
        let step_index = self.small()?;
        let task_name = self.name()?;
        let step = if first & 1 == 1 { self.name()? } else { Arc::clone(&task_name) };
        Ok(StepRef { step_run, step_index, step, task_name })
    }

    fn name(&mut self) -> Result<Arc<str>, Broken> {
        std::str::from_utf8(self.text()?).map(Arc::from).map_err(|_| Broken(None))
    }

    fn value(&mut self) -> Result<Arc<Value>, Broken> {
        Ok(from_json(self.text()?, self.what)?)
    }

    fn small(&mut self) -> Result<u32, Broken> {
        u32::try_from(self.number()?).map_err(|_| Broken(None))
    }

    fn number(&mut self) -> Result<u64, Broken> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let (&byte, rest) = self.rest.split_first().ok_or(Broken(None))?;
            self.rest = rest;
            // The tenth byte has room for the highest bit alone.
            if shift == 63 && byte > 1 {
                break;
            }
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(number);
            }
        }
        Err(Broken(None))
    }

    fn signed(&mut self) -> Result<i64, Broken> {
        let number = self.number()?;
        Ok((number >> 1) as i64 ^ -((number & 1) as i64))
    }

    fn text(&mut self) -> Result<&'a [u8], Broken> {
        let length = usize::try_from(self.number()?).map_err(|_| Broken(None))?;
        let (text, rest) = self.rest.split_at_checked(length).ok_or(Broken(None))?;
        self.rest = rest;
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use taskiq_flow_core::run::CacheOutcome;

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
        let step = |step_run, step: &str, task: &str| StepRef {
            step_run,
            step_index: u32::MAX - step_run,
            step: step.into(),
            task_name: task.into(),
        };
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
            let step = StepRef { step_run: 1, step_index: 1, step: "a".into(), task_name: "a".into() };
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
            try_read(&[FORM, 1, 0, tag::JSON, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1], 0)
                .is_err()
        );
    }
}
