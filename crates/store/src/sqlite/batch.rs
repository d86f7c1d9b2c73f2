//! What is done within one transaction.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rusqlite::{Connection, params};
use taskiq_flow_core::id::{PipelineId, RunId};
use taskiq_flow_core::time::Timestamp;
use uuid::Uuid;

use super::beside::Earlier;
use super::codec::{self, More, NewRun, Outline, Prepared, natural};
use super::fault::Fault;
use super::lookup;
use super::places::{self, MOST_BEFORE_END, MOST_EVENTS, place};
use super::recent::Counts;
use crate::error::{StoreError, WriteError};
use crate::records::{Fence, PipelineRecord, Written};
use crate::rules::{check_fence, follow, keep_duration};

/// Most heads of runs that are remembered; some 200 bytes each.
const MAX_HEADS: usize = 65_536;
/// Most pipelines whose durations are remembered.
const MAX_MEASURED: usize = 1024;
/// And so many tasks of theirs: each has up to a kilobyte of durations. One pipeline alone is kept however many it has.
const MAX_MEASURED_TASKS: usize = 100_000;
/// Runs of a pipeline after which their durations are written, and the time after which those of any run are.
const MEASURED_TOGETHER: u32 = 16;
const MEASURED_AFTER: Duration = Duration::from_secs(1);

/// What [`load_head`] wants of a run, out of one of the two tables.
macro_rules! head {
    ($table:literal, $number:literal) => {
        concat!(
            "SELECT pipeline, owner, token, status, started_at, finished_at, outcome, error, result, \
             length(trigger), ",
            $number,
            " FROM ",
            $table,
            " WHERE id = ?1"
        )
    };
}

const RECENT_HEAD: &str = head!("recent_runs", "number");
const HEAD: &str = head!("runs", "(SELECT number FROM run_numbers WHERE run = ?1)");

/// What the writer remembers from one transaction to the next, so that it need not read it again. The file has no other
/// writer. After a failure it is forgotten.
#[derive(Default)]
pub(super) struct Memory {
    pub(super) heads: HashMap<RunId, Head>,
    /// Of the rows of runs; none: to be counted.
    pub(super) recent: Option<Counts>,
    /// The number that was given to a run last; none: to be looked up.
    pub(super) last_number: Option<i64>,
    /// The greatest id of a run, or a greater one; none: to be looked up.
    greatest: Option<RunId>,
    measured: HashMap<PipelineId, OfPipeline>,
}

/// What must be known of a run to add to it.
pub(super) struct Head {
    pub(super) pipeline: PipelineId,
    pub(super) fence: Option<Fence>,
    /// Which leads to its log.
    pub(super) number: i64,
    last_seq: u64,
    pub(super) outline: Outline,
    /// Bytes of what asked for it, as they are stored.
    pub(super) trigger: u64,
    /// Whether its row is in `recent_runs`.
    pub(super) is_recent: bool,
    /// Whether it has ended as its row has it.
    pub(super) had_ended: bool,
    pub(super) change: Change,
}

/// What its row lacks.
pub(super) enum Change {
    None,
    Changed,
    New(Box<Start>),
}

/// The columns of a row that never change.
pub(super) struct Start {
    pub(super) version: u32,
    pub(super) key: Option<String>,
    pub(super) created_at: Timestamp,
    pub(super) trigger: Vec<u8>,
}

/// What was measured of a pipeline. It is written now and then: for one run in many it would cost more than the run.
#[derive(Default)]
struct OfPipeline {
    tasks: HashMap<Arc<str>, Measured>,
    /// Runs since it was written.
    runs: u32,
    /// When it was written.
    written: Option<Instant>,
}

#[derive(Default)]
struct Measured {
    kept: VecDeque<u64>,
    changed: bool,
}

impl OfPipeline {
    fn is_due(&self) -> bool {
        self.runs >= MEASURED_TOGETHER
            || self.written.is_none_or(|written| written.elapsed() >= MEASURED_AFTER)
    }
}

/// What is put off until a transaction is committed.
#[derive(Default)]
pub(super) struct Pending {
    /// Runs whose rows have changed.
    pub(super) touched: Vec<RunId>,
    /// Idempotency keys of new runs among them.
    new_keys: HashSet<(PipelineId, String)>,
    /// Pipelines of which something was measured.
    measured: BTreeSet<PipelineId>,
}

/// A transaction under way. Rows of runs are written once, by [`Batch::flush`], however many writes are about them.
pub(super) struct Batch<'a> {
    pub(super) connection: &'a Connection,
    pub(super) memory: &'a mut Memory,
    pub(super) pending: &'a mut Pending,
    /// Whether it is committed by a thread that others want back: what can be put off is, if it takes long.
    pub(super) in_passing: bool,
}

impl Memory {
    pub(super) fn forget(&mut self) {
        *self = Self::default();
    }

    /// Keeps it within bounds; to be called when all has been written.
    pub(super) fn trim(&mut self) {
        if self.heads.len() > MAX_HEADS {
            self.heads.clear();
        }
        if self.holds_too_much() {
            self.measured.clear();
        }
    }

    /// Whether what was measured is to be written and let go of.
    fn holds_too_much(&self) -> bool {
        let tasks = || self.measured.values().map(|of_pipeline| of_pipeline.tasks.len()).sum::<usize>();
        self.measured.len() > MAX_MEASURED || self.measured.len() > 1 && tasks() > MAX_MEASURED_TASKS
    }
}

impl<'a> Batch<'a> {
    pub(super) fn new(
        connection: &'a Connection,
        memory: &'a mut Memory,
        pending: &'a mut Pending,
        in_passing: bool,
    ) -> Self {
        Self { connection, memory, pending, in_passing }
    }

    pub(super) fn write(
        &mut self,
        writes: &[Result<Prepared, WriteError>],
    ) -> Result<Vec<Result<Written, WriteError>>, Fault> {
        let mut answers = Vec::with_capacity(writes.len());
        for write in writes {
            answers.push(match write {
                Ok(Prepared::Create(run)) => self.create(run)?,
                Ok(Prepared::Append(more)) => self.append(more)?,
                Err(error) => Err(error.clone()),
            });
        }
        Ok(answers)
    }

    fn create(&mut self, run: &NewRun) -> Result<Result<Written, WriteError>, Fault> {
        let id = run.run_id;
        if let Some(key) = &run.key {
            let new = self.pending.new_keys.contains(&(run.pipeline.clone(), key.clone()));
            if new {
                self.flush()?;
            }
            if let Some(found) = lookup::run_of_key(self.connection, &run.pipeline, key)? {
                return self.existing(found).map(Ok);
            }
        }
        if let Some(firing) = &run.firing
            && let Earlier::Ran(earlier) = self.earlier_firing(&firing.schedule, firing.due)?
        {
            if self.knows(earlier)? {
                return self.existing(earlier).map(Ok);
            }
            return Ok(Err(WriteError::Fired { schedule: firing.schedule.clone(), due: firing.due }));
        }
        if let Some((run_id, step_run)) = run.replays {
            match self.replayed_by(run_id, step_run)? {
                None => return Ok(Err(WriteError::NoDeadLetter { run_id, step_run })),
                Some(Some(earlier)) if self.knows(earlier)? => return self.existing(earlier).map(Ok),
                Some(_) => {}
            }
        }
        if !self.is_greatest(id)? && self.knows(id)? {
            return self.existing(id).map(Ok);
        }
        let number = self.begin_log(&run.inputs)?;
        if let Some(key) = &run.key {
            self.pending.new_keys.insert((run.pipeline.clone(), key.clone()));
        }
        if let Some(firing) = &run.firing {
            self.note_firing(firing, Some(id))?;
        }
        if let Some((run_id, step_run)) = run.replays {
            self.mark_replayed(run_id, step_run, id)?;
        }
        let start = Start {
            version: run.version,
            key: run.key.clone(),
            created_at: run.created_at,
            trigger: run.trigger.clone(),
        };
        let head = Head {
            pipeline: run.pipeline.clone(),
            fence: Some(run.fence),
            number,
            last_seq: 0,
            outline: run.outline.clone(),
            trigger: run.trigger.len() as u64,
            is_recent: true,
            had_ended: false,
            change: Change::New(Box::new(start)),
        };
        self.memory.heads.insert(id, head);
        self.pending.touched.push(id);
        Ok(Ok(Written::Created(run.fence)))
    }

    /// Whether no run has an id as great, so that it need not be looked for: ids are made in the order of time.
    fn is_greatest(&mut self, id: RunId) -> Result<bool, Fault> {
        let before = match self.memory.greatest {
            Some(before) => Some(before),
            None => {
                let mut greatest: Option<[u8; 16]> = None;
                for sql in ["SELECT max(id) FROM runs", "SELECT max(id) FROM recent_runs"] {
                    let found = self.connection.prepare_cached(sql)?.query_row([], |row| row.get(0))?;
                    greatest = greatest.max(found);
                }
                greatest.map(RunId::from_bytes)
            }
        };
        self.memory.greatest = before.max(Some(id));
        Ok(before.is_none_or(|before| id > before))
    }

    /// Whether the run is there.
    fn knows(&self, id: RunId) -> Result<bool, Fault> {
        Ok(self.memory.heads.contains_key(&id) || places::number_of(self.connection, id)?.is_some())
    }

    fn existing(&mut self, id: RunId) -> Result<Written, Fault> {
        self.flush()?;
        let record = lookup::record(self.connection, id)?;
        let record = record.ok_or_else(|| Fault::Corrupt(format!("the run {id} is there in part only")))?;
        Ok(Written::Exists(Box::new(record)))
    }

    fn append(&mut self, more: &More) -> Result<Result<Written, WriteError>, Fault> {
        let run_id = more.run_id;
        if !self.memory.heads.contains_key(&run_id)
            && let Some(head) = load_head(self.connection, run_id)?
        {
            if head.outline.status.is_terminal() {
                // It is let go of again: its row may move before it is wanted the next time.
                self.pending.touched.push(run_id);
            }
            self.memory.heads.insert(run_id, head);
        }
        let Some(head) = self.memory.heads.get_mut(&run_id) else {
            return Ok(Err(WriteError::NotFound { run_id }));
        };
        let held = head.fence.ok_or(WriteError::Fenced { run_id });
        let checked = held
            .and_then(|held| check_fence(run_id, held, more.fence))
            .and_then(|()| follow(run_id, head.last_seq, more.span));
        let most = if more.outline.status.is_terminal() { MOST_EVENTS } else { MOST_BEFORE_END };
        let last_seq = match checked {
            Ok(last_seq) if more.span.is_some() && last_seq > most => {
                let limit = most as usize;
                return Ok(Err(WriteError::TooLarge { run_id, unit: "events", limit }));
            }
            Ok(last_seq) => last_seq,
            Err(error) => return Ok(Err(error)),
        };
        if !more.events.is_empty() {
            let mut insert =
                self.connection.prepare_cached("INSERT INTO run_log (place, body) VALUES (?1, ?2)")?;
            for row in &more.events {
                insert.execute(params![place(head.number, row.last), row.body])?;
            }
        }
        for body in &more.logs {
            let mut insert =
                self.connection.prepare_cached("INSERT INTO logs (run, body) VALUES (?1, ?2)")?;
            insert.execute(params![run_id.as_bytes(), body])?;
        }
        head.last_seq = last_seq;
        if head.outline != more.outline {
            head.outline = more.outline.clone();
            if matches!(head.change, Change::None) {
                head.change = Change::Changed;
                self.pending.touched.push(run_id);
            }
        }
        let pipeline = head.pipeline.clone();
        if let Some(beside) = &more.beside {
            self.keep_beside(run_id, &pipeline, beside)?;
        }
        if !more.durations.is_empty() {
            self.measure(pipeline, &more.durations)?;
        }
        Ok(Ok(Written::Appended))
    }

    fn measure(&mut self, pipeline: PipelineId, durations: &[(Arc<str>, u64)]) -> Result<(), Fault> {
        if !self.memory.measured.contains_key(&pipeline) {
            let measured = lookup::durations(self.connection, &pipeline)?;
            let measured =
                measured.into_iter().map(|(task, kept)| (task.into(), Measured { kept, changed: false }));
            let of_pipeline = OfPipeline { tasks: measured.collect(), ..OfPipeline::default() };
            self.memory.measured.insert(pipeline.clone(), of_pipeline);
        }
        let of_pipeline = self.memory.measured.entry(pipeline.clone()).or_default();
        of_pipeline.runs += 1;
        for (task, millis) in durations {
            if !of_pipeline.tasks.contains_key(task) {
                of_pipeline.tasks.insert(Arc::clone(task), Measured::default());
            }
            if let Some(measured) = of_pipeline.tasks.get_mut(task) {
                keep_duration(&mut measured.kept, *millis);
                measured.changed = true;
            }
        }
        self.pending.measured.insert(pipeline);
        Ok(())
    }

    /// Writes what has been put off. After this the tables say all there is of runs.
    pub(super) fn flush(&mut self) -> Result<(), Fault> {
        self.write_rows()?;
        self.pending.new_keys.clear();
        self.flush_durations()
    }

    fn flush_durations(&mut self) -> Result<(), Fault> {
        if self.memory.holds_too_much() {
            return self.write_all_durations();
        }
        for pipeline in std::mem::take(&mut self.pending.measured) {
            if self.memory.measured.get(&pipeline).is_some_and(OfPipeline::is_due) {
                self.write_durations(&pipeline)?;
            }
        }
        Ok(())
    }

    /// Writes what was measured of all pipelines and not written yet.
    pub(super) fn write_all_durations(&mut self) -> Result<(), Fault> {
        let pipelines: Vec<PipelineId> = self.memory.measured.keys().cloned().collect();
        pipelines.iter().try_for_each(|pipeline| self.write_durations(pipeline))
    }

    fn write_durations(&mut self, pipeline: &PipelineId) -> Result<(), Fault> {
        let Some(of_pipeline) = self.memory.measured.get_mut(pipeline) else { return Ok(()) };
        let mut put = self.connection.prepare_cached(
            "INSERT INTO durations (pipeline, task, millis) VALUES (?1, ?2, ?3)
             ON CONFLICT (pipeline, task) DO UPDATE SET millis = excluded.millis",
        )?;
        for (task, measured) in of_pipeline.tasks.iter_mut().filter(|(_, measured)| measured.changed) {
            put.execute(params![pipeline.as_str(), task, codec::durations_to_blob(&measured.kept)])?;
            measured.changed = false;
        }
        (of_pipeline.runs, of_pipeline.written) = (0, Some(Instant::now()));
        Ok(())
    }

    /// The durations of each task of a pipeline, by name.
    pub(super) fn durations(&mut self, pipeline: &PipelineId) -> Result<Vec<(String, VecDeque<u64>)>, Fault> {
        self.write_durations(pipeline)?;
        lookup::durations(self.connection, pipeline)
    }

    /// Has the head of a run read anew when it is wanted; to be called when all has been written.
    pub(super) fn forget_head(&mut self, id: RunId) {
        self.memory.heads.remove(&id);
    }

    /// As [`Self::forget_head`], of all runs.
    pub(super) fn forget_heads(&mut self) {
        self.memory.heads.clear();
    }

    pub(super) fn put_pipeline(
        &mut self,
        record: &PipelineRecord,
        source: &[u8],
    ) -> Result<Result<(), StoreError>, Fault> {
        let newest = lookup::newest_version(self.connection, &record.id)?;
        if record.version <= newest {
            let (id, version) = (record.id.clone(), record.version);
            return Ok(Err(StoreError::Conflict { id, version, newest }));
        }
        let mut put = self.connection.prepare_cached(
            "INSERT INTO pipelines (id, newest, deleted) VALUES (?1, ?2, 0)
             ON CONFLICT (id) DO UPDATE SET newest = excluded.newest, deleted = 0",
        )?;
        put.execute(params![record.id.as_str(), record.version])?;
        let mut put = self.connection.prepare_cached(
            "INSERT INTO definitions (pipeline, version, origin, created_at, source) VALUES (?1, ?2, ?3, ?4, ?5)",
        )?;
        let (origin, created_at) = (codec::origin_code(record.origin), record.created_at.as_millis());
        put.execute(params![record.id.as_str(), record.version, origin, created_at, source])?;
        Ok(Ok(()))
    }

    pub(super) fn delete_pipeline(&mut self, id: &PipelineId) -> Result<bool, Fault> {
        self.flush()?;
        let mut delete = self
            .connection
            .prepare_cached("UPDATE pipelines SET deleted = 1 WHERE id = ?1 AND deleted = 0")?;
        let there = delete.execute([id.as_str()])? > 0;
        if there {
            self.connection
                .prepare_cached("DELETE FROM durations WHERE pipeline = ?1")?
                .execute([id.as_str()])?;
            self.memory.measured.remove(id);
            self.drop_last_cached(id)?;
        }
        Ok(there)
    }
}

fn load_head(connection: &Connection, id: RunId) -> Result<Option<Head>, Fault> {
    for (is_recent, sql) in [(true, RECENT_HEAD), (false, HEAD)] {
        let mut select = connection.prepare_cached(sql)?;
        let mut rows = select.query([id.as_bytes()])?;
        let Some(row) = rows.next()? else { continue };
        let owner: Option<[u8; 16]> = row.get(1)?;
        let token = natural(row.get(2)?);
        let number: Option<i64> = row.get(10)?;
        let number =
            number.ok_or_else(|| Fault::Corrupt(format!("run {id} has no number that leads to its log")))?;
        let outline = Outline::read(row, 3)?;
        return Ok(Some(Head {
            pipeline: codec::pipeline_id(row, 0)?,
            fence: owner.map(|owner| Fence { owner: Uuid::from_bytes(owner), token }),
            number,
            last_seq: places::last_event(connection, number)?,
            had_ended: outline.status.is_terminal(),
            outline,
            trigger: row.get::<_, Option<i64>>(9)?.map_or(0, natural),
            is_recent,
            change: Change::None,
        }));
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_measured_is_bounded_in_pipelines_and_in_tasks() {
        let mut memory = Memory::default();
        let mut measure = |pipeline: &str, tasks: usize| {
            let tasks = (0..tasks).map(|task| (task.to_string().into(), Measured::default()));
            let of_pipeline = OfPipeline { tasks: tasks.collect(), ..OfPipeline::default() };
            memory.measured.insert(pipeline.parse().unwrap(), of_pipeline);
            memory.holds_too_much()
        };
        assert!(!measure("large", MAX_MEASURED_TASKS + 1), "it alone is needed again at once");
        assert!(measure("small", 1));
        assert!(!measure("large", 10));
        assert!((0..MAX_MEASURED).any(|place| measure(&format!("p{place}"), 1)));
    }
}
