//! Runs that have ended, each in one piece of memory.
//!
//! An ended run as it was while it was driven is some fifty pieces of a few words. Thousands of those are seldom at hand
//! in the processor's caches: to put them away and to let them go again took longer than to carry out the run. Packed, it
//! is one piece of a sixth of the size.

use std::sync::Arc;

use serde_json::{Map, Value};
use taskiq_flow_core::definition::Priority;
use taskiq_flow_core::id::{PipelineId, RunId};
use taskiq_flow_core::run::{Event, RunStatus};
use taskiq_flow_core::time::Timestamp;
use uuid::Uuid;

use super::runs::Loose;
use super::statistics::Counted;
use crate::codec::{Broken, Reader, Unreadable, Unwritable, Writer};
use crate::records::{Fence, RunRecord, RunRow, RunSummary, StepLog};

/// A run that packed is larger stays as it is: its values are shared with who reads them.
const LARGEST: usize = 16 << 10;

/// A run that has ended.
pub(super) struct Packed {
    pub(super) pipeline_id: PipelineId,
    bytes: Box<[u8]>,
}

/// What is written before all else, and can be read without the rest.
pub(super) struct Head {
    pub(super) status: RunStatus,
    pub(super) version: u32,
    created_at: Timestamp,
    pub(super) started_at: Option<Timestamp>,
    pub(super) finished_at: Option<Timestamp>,
    pub(super) key: Option<String>,
}

/// Which parts there are.
mod has {
    pub(super) const KEY: u64 = 1;
    pub(super) const STARTED: u64 = 1 << 1;
    pub(super) const FINISHED: u64 = 1 << 2;
    pub(super) const PARAMETERS: u64 = 1 << 3;
    pub(super) const PRIORITY: u64 = 1 << 4;
    pub(super) const REUSE: u64 = 1 << 5;
    pub(super) const ERROR: u64 = 1 << 6;
    pub(super) const RESULT: u64 = 1 << 7;
    pub(super) const LOGS: u64 = 1 << 8;
}

impl Packed {
    /// A run packed; none when it is better left as it is. What `scratch` had is lost.
    pub(super) fn of(loose: &Loose, scratch: &mut Vec<u8>) -> Option<Self> {
        scratch.clear();
        let mut writer = Writer::new(std::mem::take(scratch), LARGEST);
        let whole = write(&mut writer, loose).is_ok_and(|whole| whole && writer.bytes.len() <= LARGEST);
        *scratch = writer.bytes;
        whole
            .then(|| Self { pipeline_id: loose.record.pipeline_id.clone(), bytes: scratch.as_slice().into() })
    }

    pub(super) fn head(&self, id: RunId) -> Result<Head, Unreadable> {
        self.read(id, |reader| Ok(Head::read(reader)?.1))
    }

    pub(super) fn counted(&self, id: RunId) -> Result<Counted, Unreadable> {
        let Head { status, started_at, finished_at, .. } = self.head(id)?;
        Ok(Counted::of(id, status, started_at, finished_at))
    }

    /// The run as a list shows it.
    pub(super) fn row(&self, id: RunId) -> Result<RunRow, Unreadable> {
        self.read(id, |reader| {
            let (parts, head) = Head::read(reader)?;
            let trigger = reader.json()?;
            [has::PARAMETERS, has::PRIORITY, has::REUSE]
                .into_iter()
                .filter(|part| parts & part != 0)
                .try_for_each(|_| reader.text().map(|_| ()))?;
            let error = if parts & has::ERROR == 0 { None } else { Some(reader.json()?) };
            Ok(RunRow {
                run_id: id,
                pipeline_id: self.pipeline_id.clone(),
                version: head.version,
                trigger,
                created_at: head.created_at,
                status: head.status,
                started_at: head.started_at,
                finished_at: head.finished_at,
                error,
            })
        })
    }

    pub(super) fn record(&self, id: RunId) -> Result<RunRecord, Unreadable> {
        self.read(id, |reader| Ok(self.before_events(id, reader)?.0))
    }

    pub(super) fn logs(&self, id: RunId) -> Result<Vec<StepLog>, Unreadable> {
        self.read(id, |reader| Ok(self.before_events(id, reader)?.2))
    }

    pub(super) fn events(&self, id: RunId, after_seq: u64, limit: usize) -> Result<Vec<Event>, Unreadable> {
        self.read(id, |reader| {
            self.before_events(id, reader)?;
            events_of(reader, after_seq, limit)
        })
    }

    /// The run as it was.
    pub(super) fn unpacked(&self, id: RunId) -> Result<Loose, Unreadable> {
        self.read(id, |reader| {
            let (record, fence, logs) = self.before_events(id, reader)?;
            let events = vec![events_of(reader, 0, usize::MAX)?.into()];
            Ok(Loose { record: Box::new(record), fence, held: true, events, logs })
        })
    }

    fn before_events(
        &self,
        id: RunId,
        reader: &mut Reader<'_>,
    ) -> Result<(RunRecord, Fence, Vec<StepLog>), Broken> {
        let (parts, head) = Head::read(reader)?;
        let Head { status, version, created_at, started_at, finished_at, key } = head;
        let trigger = reader.json()?;
        let has = |part| parts & part != 0;
        let parameters: Map<String, Value> = if has(has::PARAMETERS) { reader.json()? } else { Map::new() };
        let priority: Option<Priority> = if has(has::PRIORITY) { Some(reader.json()?) } else { None };
        let reuse: Vec<(u32, Arc<Value>)> = if has(has::REUSE) { reader.json()? } else { Vec::new() };
        let error = if has(has::ERROR) { Some(reader.json()?) } else { None };
        let result = if has(has::RESULT) { Some(Arc::new(reader.json::<Value>()?)) } else { None };
        let owner = Uuid::from_slice(reader.text()?).map_err(|_| Broken::CUT_OFF)?;
        let fence = Fence { owner, token: reader.number()? };
        let last_seq = reader.number()?;
        let logs = if has(has::LOGS) { reader.json()? } else { Vec::new() };
        let summary = RunSummary { status, started_at, finished_at, error, result };
        let (parameters, pipeline_id) = (Arc::new(parameters), self.pipeline_id.clone());
        let record = RunRecord {
            run_id: id,
            pipeline_id,
            version,
            parameters,
            idempotency_key: key,
            priority,
            trigger,
            reuse,
            created_at,
            summary,
            last_seq,
        };
        Ok((record, fence, logs))
    }

    fn read<T>(
        &self,
        id: RunId,
        read: impl FnOnce(&mut Reader<'_>) -> Result<T, Broken>,
    ) -> Result<T, Unreadable> {
        let what = || format!("run {id}");
        read(&mut Reader { rest: &self.bytes, what: &what }).map_err(|broken| broken.told(&what))
    }
}

impl Head {
    /// Which parts there are, and the first ones.
    fn read(reader: &mut Reader<'_>) -> Result<(u64, Self), Broken> {
        let parts = reader.number()?;
        let status = RunStatus::ALL.get(usize::from(reader.byte()?)).ok_or(Broken::CUT_OFF)?;
        let version = reader.small()?;
        let created_at = time(reader)?;
        let mut time_if = |part| if parts & part == 0 { Ok(None) } else { time(reader).map(Some) };
        let (started_at, finished_at) = (time_if(has::STARTED)?, time_if(has::FINISHED)?);
        let key = if parts & has::KEY == 0 { None } else { Some(reader.name()?.as_ref().to_owned()) };
        Ok((parts, Self { status: *status, version, created_at, started_at, finished_at, key }))
    }
}

/// Whether all of it was written.
fn write(writer: &mut Writer, loose: &Loose) -> Result<bool, Unwritable> {
    let Loose { record, fence, held: _, events, logs } = loose;
    let RunRecord {
        run_id: _,
        pipeline_id: _,
        version,
        parameters,
        idempotency_key,
        priority,
        trigger,
        reuse,
        created_at,
        summary: RunSummary { status, started_at, finished_at, error, result },
        last_seq,
    } = &**record;
    let parts = [
        (has::KEY, idempotency_key.is_some()),
        (has::STARTED, started_at.is_some()),
        (has::FINISHED, finished_at.is_some()),
        (has::PARAMETERS, !parameters.is_empty()),
        (has::PRIORITY, priority.is_some()),
        (has::REUSE, !reuse.is_empty()),
        (has::ERROR, error.is_some()),
        (has::RESULT, result.is_some()),
        (has::LOGS, !logs.is_empty()),
    ];
    let has = |part| parts.contains(&(part, true));
    writer.number(parts.iter().filter(|(_, there)| *there).map(|(part, _)| part).sum());
    let place = RunStatus::ALL.iter().position(|other| other == status);
    writer.bytes.push(place.and_then(|place| u8::try_from(place).ok()).unwrap_or(u8::MAX));
    writer.number((*version).into());
    for time in [Some(created_at), started_at.as_ref(), finished_at.as_ref()].into_iter().flatten() {
        writer.signed(time.as_millis());
    }
    if let Some(key) = idempotency_key {
        writer.text(key.as_bytes());
    }
    writer.json(trigger)?;
    if has(has::PARAMETERS) {
        writer.json(&**parameters)?;
    }
    if let Some(priority) = priority {
        writer.json(priority)?;
    }
    if has(has::REUSE) {
        writer.json(reuse)?;
    }
    if let Some(error) = error {
        writer.json(error)?;
    }
    if let Some(result) = result {
        writer.json(&**result)?;
    }
    writer.text(fence.owner.as_bytes());
    writer.number(fence.token);
    writer.number(*last_seq);
    if has(has::LOGS) {
        writer.json(logs)?;
    }
    let count = events.iter().map(|written| written.len()).sum::<usize>();
    let written = writer.events(events.iter().flat_map(|written| written.iter()), usize::MAX, LARGEST)?;
    Ok(written == count)
}

/// The events, of which there may be none.
fn events_of(reader: &mut Reader<'_>, after_seq: u64, limit: usize) -> Result<Vec<Event>, Broken> {
    let mut events = Vec::new();
    if !reader.rest.is_empty() {
        reader.events(after_seq, limit, &mut events)?;
    }
    Ok(events)
}

fn time(reader: &mut Reader<'_>) -> Result<Timestamp, Broken> {
    reader.signed().map(Timestamp::from_millis)
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use taskiq_flow_core::run::RunError;

    use super::*;
    use crate::conformance::{every_fact, record};

    fn loose(values: &Value) -> Loose {
        let mut run = record("p", 3);
        run.idempotency_key = Some("k\u{e9}".into());
        run.parameters = Arc::new(json!({"a": values, "": [0.1]}).as_object().cloned().unwrap_or_default());
        run.priority = serde_json::from_value(json!("high")).ok();
        run.reuse = vec![(2, Arc::new(values.clone()))];
        run.summary = RunSummary {
            status: RunStatus::TimedOut,
            started_at: Some(Timestamp::from_millis(7)),
            finished_at: Some(Timestamp::MAX),
            error: Some(RunError {
                step: Some("s".into()),
                attempt: Some(3),
                message: "no".into(),
                timed_out: true,
                not_undone: vec!["u".into()],
            }),
            result: Some(Arc::new(Value::Null)),
        };
        let events = every_fact();
        run.last_seq = events.len() as u64;
        let (first, second) = events.split_at(2);
        let log =
            StepLog { step_run: 1, step: "s".into(), attempt: 2, at: run.created_at, text: "said".into() };
        Loose {
            record: Box::new(run),
            fence: Fence { owner: Uuid::now_v7(), token: u64::MAX },
            held: true,
            events: [first, second].map(|events| Arc::new(events.to_vec())).into(),
            logs: vec![log],
        }
    }

    fn json_of(value: &impl serde::Serialize) -> Value {
        serde_json::to_value(value).unwrap()
    }

    #[test]
    fn a_run_is_the_same_packed() {
        let mut full = loose(&json!({"x": [1, null, "\u{0}"]}));
        let mut bare = loose(&json!(1));
        bare.record.idempotency_key = None;
        bare.record.parameters = Arc::default();
        (bare.record.priority, bare.record.reuse) = (None, Vec::new());
        bare.record.summary = RunSummary {
            status: RunStatus::Cancelled,
            started_at: None,
            finished_at: None,
            error: None,
            result: None,
        };
        (bare.events, bare.logs, bare.record.last_seq) = (Vec::new(), Vec::new(), 0);
        let mut scratch = vec![1; 9];
        for loose in [&mut full, &mut bare] {
            let id = loose.record.run_id;
            let packed = Packed::of(loose, &mut scratch).unwrap();
            assert_eq!(json_of(&packed.record(id).unwrap()), json_of(&loose.record));
            assert_eq!(packed.row(id).unwrap(), RunRow::from(&*loose.record));
            assert_eq!(packed.logs(id).unwrap(), loose.logs);
            let head = packed.head(id).unwrap();
            assert_eq!(
                (head.status, head.version, &head.key),
                (loose.record.summary.status, loose.record.version, &loose.record.idempotency_key)
            );
            let events: Vec<Event> =
                loose.events.iter().flat_map(|written| written.iter().cloned()).collect();
            for (after, limit) in [(0, usize::MAX), (3, 2), (events.len() as u64, 9), (1, 0)] {
                let wanted: Vec<&Event> = events.iter().skip(after as usize).take(limit).collect();
                assert_eq!(json_of(&packed.events(id, after, limit).unwrap()), json_of(&wanted));
            }
            let unpacked = packed.unpacked(id).unwrap();
            assert_eq!(unpacked.fence, loose.fence);
            let again = Packed::of(&unpacked, &mut scratch).unwrap();
            assert_eq!(again.bytes, packed.bytes);
            for end in 0..packed.bytes.len() {
                // Cut anywhere, it is read up to there or refused, and nothing else.
                let cut =
                    Packed { pipeline_id: packed.pipeline_id.clone(), bytes: packed.bytes[..end].into() };
                let _ = (cut.record(id), cut.row(id), cut.events(id, 0, 99));
            }
        }
    }

    #[test]
    fn large_and_deep_runs_stay_as_they_are() {
        let mut scratch = Vec::new();
        assert!(Packed::of(&loose(&json!("x".repeat(LARGEST))), &mut scratch).is_none());
        let deep = (0..200).fold(json!(1), |inner, _| json!([inner]));
        assert!(Packed::of(&loose(&deep), &mut scratch).is_some());
        let deeper = (0..300).fold(json!(1), |inner, _| json!([inner]));
        assert!(Packed::of(&loose(&deeper), &mut scratch).is_none(), "it could not be read back");
        let mut many = loose(&json!(1));
        many.events = (0..5000).map(|_| every_fact().into()).collect();
        assert!(Packed::of(&many, &mut scratch).is_none());
        assert!(scratch.capacity() < 4 * LARGEST);
    }
}
