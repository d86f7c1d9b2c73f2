//! The events of a run: the number of the first one and the time that the others count from, and then the events one
//! after another: a byte that says what follows, the time since the one before, and the fields. What has no form of its own,
//! or a field that its form does not know, is written as JSON, so that a new fact needs nothing here.

use std::sync::Arc;

use taskiq_flow_core::plan::StepNames;
use taskiq_flow_core::run::{Event, Fact, StepRef};
use taskiq_flow_core::time::Timestamp;

use super::bytes::{Broken, Reader, Unwritable, Writer};

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

impl Writer {
    /// Events that follow each other, until there are `most` or these are as many bytes as `full`. How many were written.
    pub(crate) fn events<'e>(
        &mut self,
        events: impl IntoIterator<Item = &'e Event>,
        most: usize,
        full: usize,
    ) -> Result<usize, Unwritable> {
        let mut events = events.into_iter().take(most).peekable();
        let Some(first) = events.peek() else { return Ok(0) };
        let mut before = first.timestamp;
        self.number(first.seq);
        self.number(u64::try_from(before.as_millis()).unwrap_or(0));
        let mut count = 0;
        for event in events {
            if self.bytes.len() >= full {
                break;
            }
            self.event(event, before)?;
            before = event.timestamp;
            count += 1;
        }
        Ok(count)
    }

    /// An event, behind one of the time `before`.
    fn event(&mut self, event: &Event, before: Timestamp) -> Result<(), Unwritable> {
        let place = self.bytes.len();
        self.bytes.push(tag::JSON);
        self.signed(event.timestamp.as_millis().wrapping_sub(before.as_millis()));
        // Fields are named one by one, so that one that is added is not forgotten here.
        let tag = match &event.fact {
            Fact::PipelineStart { task_count } => {
                self.number((*task_count).into());
                tag::PIPELINE_START
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
                if items.is_some() { tag::COMPOSITE_START } else { tag::STEP_START }
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
                tag::CHUNK_START
            }
            Fact::StepComplete { step, attempt, duration_ms, result, cached } => {
                self.step(step);
                self.number((*attempt).into());
                self.number(*duration_ms);
                self.json(result)?;
                if *cached { tag::STEP_CACHED } else { tag::STEP_COMPLETE }
            }
            Fact::PipelineComplete { result, duration_ms } => {
                self.number(*duration_ms);
                self.json(result)?;
                tag::PIPELINE_COMPLETE
            }
            other => {
                self.json(other)?;
                tag::JSON
            }
        };
        self.bytes[place] = tag;
        Ok(())
    }

    fn step(&mut self, step: &StepRef) {
        let StepRef { step_run, step_index, names } = step;
        let StepNames { step, task_name } = &**names;
        let has_own_name = step != task_name;
        self.number((u64::from(*step_run) << 1) | u64::from(has_own_name));
        self.number((*step_index).into());
        self.text(task_name.as_bytes());
        if has_own_name {
            self.text(step.as_bytes());
        }
    }
}

impl Reader<'_> {
    /// Reads what [`Writer::events`] wrote, to the end: the events with a number above `after_seq`, until there are
    /// `limit` of them.
    pub(crate) fn events(
        &mut self,
        after_seq: u64,
        limit: usize,
        events: &mut Vec<Event>,
    ) -> Result<(), Broken> {
        let mut seq = self.number()?;
        let mut millis = i64::try_from(self.number()?).map_err(|_| Broken::CUT_OFF)?;
        while !self.rest.is_empty() && events.len() < limit {
            let tag = self.byte()?;
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
            tag::JSON => self.json()?,
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
                result: self.json()?,
                cached: tag == tag::STEP_CACHED,
            },
            tag::PIPELINE_COMPLETE => {
                let duration_ms = self.number()?;
                Fact::PipelineComplete { result: self.json()?, duration_ms }
            }
            _ => return Err(Broken::CUT_OFF),
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
            _ => return Err(Broken::CUT_OFF),
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
        let step_run = u32::try_from(first >> 1).map_err(|_| Broken::CUT_OFF)?;
        let step_index = self.small()?;
        let task_name = self.name()?;
        let step = if first & 1 == 1 { self.name()? } else { Arc::clone(&task_name) };
        Ok(StepRef::new(step_run, step_index, step, task_name))
    }
}
