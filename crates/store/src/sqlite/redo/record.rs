//! The writes of a record as bytes.

use taskiq_flow_core::id::RunId;
use taskiq_flow_core::time::Timestamp;
use uuid::Uuid;

use super::super::codec::{More, NewRun, Outline, Prepared, status_code, status_of};
use super::super::fault::Fault;
use super::super::log::LogRow;
use crate::codec::{Broken, Reader, Writer};
use crate::records::Fence;
use crate::rules::Span;

const CREATE: u8 = 0;
const APPEND: u8 = 1;

/// Writes as bytes behind those in `bytes`. Whether they could be: what is kept beside runs has no place in a record.
pub(super) fn encode<'a>(bytes: &mut Vec<u8>, mut writes: impl Iterator<Item = &'a Prepared>) -> bool {
    let mut writer = Writer::new(std::mem::take(bytes), usize::MAX);
    let all = writes.all(|write| match write {
        Prepared::Create(run) => create(&mut writer, run),
        Prepared::Append(more) => append(&mut writer, more),
    });
    *bytes = writer.bytes;
    all
}

fn create(writer: &mut Writer, run: &NewRun) -> bool {
    let NewRun {
        run_id,
        pipeline,
        version,
        key,
        created_at,
        outline,
        trigger,
        inputs,
        fence,
        firing,
        replays,
    } = run;
    if key.is_some() || firing.is_some() || replays.is_some() {
        return false;
    }
    writer.bytes.push(CREATE);
    writer.bytes.extend(run_id.as_bytes());
    write_fence(writer, *fence);
    writer.text(pipeline.as_str().as_bytes());
    writer.number(u64::from(*version));
    writer.signed(created_at.as_millis());
    write_outline(writer, outline);
    writer.text(trigger);
    writer.text(inputs);
    true
}

fn append(writer: &mut Writer, more: &More) -> bool {
    let More { run_id, fence, span, events, logs, outline, durations, beside } = more;
    if beside.is_some() {
        return false;
    }
    writer.bytes.push(APPEND);
    writer.bytes.extend(run_id.as_bytes());
    write_fence(writer, *fence);
    write_outline(writer, outline);
    // Of a write that was accepted the events follow each other.
    option(writer, *span, |writer, span| {
        writer.number(span.after);
        writer.number(span.last - span.after);
    });
    writer.number(events.len() as u64);
    for row in events {
        writer.number(row.last);
        writer.text(&row.body);
    }
    writer.number(logs.len() as u64);
    logs.iter().for_each(|body| writer.text(body));
    writer.number(durations.len() as u64);
    for (task, millis) in durations {
        writer.text(task.as_bytes());
        writer.number(*millis);
    }
    true
}

fn write_fence(writer: &mut Writer, fence: Fence) {
    writer.bytes.extend(fence.owner.as_bytes());
    writer.number(fence.token);
}

fn write_outline(writer: &mut Writer, outline: &Outline) {
    let Outline { status, started_at, finished_at, error, result } = outline;
    writer.signed(status_code(*status));
    for time in [started_at, finished_at] {
        option(writer, *time, |writer, time| writer.signed(time.as_millis()));
    }
    for json in [error, result] {
        option(writer, json.as_ref(), |writer, json| writer.text(json));
    }
}

fn option<T>(writer: &mut Writer, value: Option<T>, write: impl FnOnce(&mut Writer, T)) {
    writer.bytes.push(u8::from(value.is_some()));
    if let Some(value) = value {
        write(writer, value);
    }
}

/// The writes of a record.
pub(super) fn decode(bytes: &[u8]) -> Result<Vec<Prepared>, Fault> {
    let what = || "the redo log".to_owned();
    let mut reader = Reader { rest: bytes, what: &what };
    let mut writes = Vec::new();
    while !reader.rest.is_empty() {
        writes.push(write(&mut reader).map_err(|broken| broken.told(&what))?);
    }
    Ok(writes)
}

fn write(reader: &mut Reader<'_>) -> Result<Prepared, Broken> {
    let kind = reader.byte()?;
    let (run_id, fence) = (RunId::from_bytes(id(reader)?), read_fence(reader)?);
    match kind {
        CREATE => Ok(Prepared::Create(NewRun {
            run_id,
            fence,
            pipeline: reader.name()?.parse().map_err(|_| Broken::CUT_OFF)?,
            version: reader.small()?,
            key: None,
            created_at: Timestamp::from_millis(reader.signed()?),
            outline: read_outline(reader)?,
            trigger: reader.text()?.to_vec(),
            inputs: reader.text()?.to_vec(),
            firing: None,
            replays: None,
        })),
        APPEND => Ok(Prepared::Append(More {
            run_id,
            fence,
            outline: read_outline(reader)?,
            span: read_option(reader, |reader| {
                let after = reader.number()?;
                let last = after.checked_add(reader.number()?).ok_or(Broken::CUT_OFF)?;
                Ok(Span { after, last, broken_after: None })
            })?,
            events: list(reader, |reader| {
                Ok(LogRow { last: reader.number()?, body: reader.text()?.to_vec() })
            })?,
            logs: list(reader, |reader| Ok(reader.text()?.to_vec()))?,
            durations: list(reader, |reader| Ok((reader.name()?, reader.number()?)))?,
            beside: None,
        })),
        _ => Err(Broken::CUT_OFF),
    }
}

fn id(reader: &mut Reader<'_>) -> Result<[u8; 16], Broken> {
    let (id, rest) = reader.rest.split_first_chunk().ok_or(Broken::CUT_OFF)?;
    reader.rest = rest;
    Ok(*id)
}

fn read_fence(reader: &mut Reader<'_>) -> Result<Fence, Broken> {
    Ok(Fence { owner: Uuid::from_bytes(id(reader)?), token: reader.number()? })
}

fn read_outline(reader: &mut Reader<'_>) -> Result<Outline, Broken> {
    let status = status_of(reader.signed()?).map_err(|_| Broken::CUT_OFF)?;
    let mut time = || read_option(reader, |reader| Ok(Timestamp::from_millis(reader.signed()?)));
    let (started_at, finished_at) = (time()?, time()?);
    let mut json = || read_option(reader, |reader| Ok(reader.text()?.to_vec()));
    let (error, result) = (json()?, json()?);
    Ok(Outline { status, started_at, finished_at, error, result })
}

fn read_option<T>(
    reader: &mut Reader<'_>,
    read: impl FnOnce(&mut Reader<'_>) -> Result<T, Broken>,
) -> Result<Option<T>, Broken> {
    match reader.byte()? {
        0 => Ok(None),
        1 => read(reader).map(Some),
        _ => Err(Broken::CUT_OFF),
    }
}

fn list<T>(
    reader: &mut Reader<'_>,
    mut read: impl FnMut(&mut Reader<'_>) -> Result<T, Broken>,
) -> Result<Vec<T>, Broken> {
    let count = reader.number()?;
    // Each takes a byte at the least, so that a count that is damaged makes no room.
    let mut list = Vec::with_capacity(usize::try_from(count).unwrap_or(0).min(reader.rest.len()));
    for _ in 0..count {
        list.push(read(reader)?);
    }
    Ok(list)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;
    use taskiq_flow_core::run::RunStatus;

    use super::*;
    use crate::conformance::{append, ending, every_fact, record};
    use crate::records::{RunSummary, RunWrite};

    fn writes() -> Vec<Prepared> {
        let fence = Fence { owner: Uuid::now_v7(), token: u64::MAX };
        let mut odd = record("p", i64::MIN);
        odd.version = u32::MAX;
        let id = odd.run_id;
        let mut full = append(id, fence, []);
        full.events = every_fact().into();
        full.durations = vec![("é[]".into(), 0), ("a".into(), u64::MAX)];
        let mut end = ending(id, fence, u64::MAX, RunStatus::Completed);
        end.summary = RunSummary {
            started_at: Some(Timestamp::from_millis(-1)),
            finished_at: Some(Timestamp::MAX),
            result: Some(Arc::new(json!(null))),
            ..end.summary
        };
        let writes = [
            RunWrite::Create { run: Box::new(odd), owner: fence.owner, firing: None, replays: None },
            RunWrite::Append(Box::new(append(id, fence, []))),
            RunWrite::Append(Box::new(full)),
            RunWrite::Append(Box::new(end)),
        ];
        writes.into_iter().map(|write| Prepared::new(write).unwrap().unwrap()).collect()
    }

    fn encoded(writes: &[Prepared]) -> Vec<u8> {
        let mut bytes = Vec::new();
        assert!(encode(&mut bytes, writes.iter()));
        bytes
    }

    #[test]
    fn every_write_is_read_back() {
        let bytes = encoded(&writes());
        let read = decode(&bytes).unwrap();
        assert_eq!(read.len(), 4);
        // All that was written is written again of what was read.
        assert_eq!(encoded(&read), bytes);
        let Prepared::Append(more) = &read[2] else { panic!("the third is an addition") };
        assert_eq!((more.durations.len(), more.span), (2, Span::of(&every_fact())));
    }

    #[test]
    fn what_a_record_does_not_hold_is_not_left_out() {
        let fence = Fence { owner: Uuid::now_v7(), token: 1 };
        let mut run = record("p", 0);
        let letters = append(run.run_id, fence, []);
        run.idempotency_key = Some("k".to_owned());
        let keyed = RunWrite::Create { run: Box::new(run), owner: fence.owner, firing: None, replays: None };
        let replay = RunWrite::Create {
            run: Box::new(record("p", 0)),
            owner: fence.owner,
            firing: None,
            replays: Some((letters.run_id, 1)),
        };
        for write in [keyed, replay] {
            let write = Prepared::new(write).unwrap().unwrap();
            assert!(!encode(&mut Vec::new(), [&write].into_iter()));
        }
    }

    #[test]
    fn damage_is_told_and_never_a_panic() {
        let whole = encoded(&writes());
        for end in 0..whole.len() {
            let _ = decode(&whole[..end]);
        }
        for place in 0..whole.len() {
            for flipped in [1, 0x80, 0xff] {
                let mut bytes = whole.clone();
                bytes[place] ^= flipped;
                let _ = decode(&bytes);
            }
        }
        assert!(decode(&whole[..whole.len() - 1]).is_err());
        assert!(decode(&[9]).is_err());
    }
}
