//! The writes of a batch. What each does to its run it does by itself; what they do to what all runs share they do together,
//! so that drivers seldom meet there.

use std::sync::Arc;

use taskiq_flow_core::id::{PipelineId, RunId};
use taskiq_flow_core::time::Timestamp;
use uuid::Uuid;

use super::MemoryStore;
use super::runs::{Gone, Rest};
use crate::error::WriteError;
use crate::records::{Append, Firing, Retention, RunRecord, RunWrite, Written};
use crate::rules::keep_duration;

/// How long tasks took, by their names.
type Measured = Vec<(Arc<str>, u64)>;

/// What the appends of a batch have come to, until it is entered in what all runs share: nobody is told of them before.
#[derive(Default)]
struct Tail {
    /// The runs that have ended, and when.
    ended: Vec<(Timestamp, RunId)>,
    durations: Vec<(PipelineId, Measured)>,
}

impl MemoryStore {
    pub(super) fn write_all(&self, writes: Vec<RunWrite>) -> Vec<Result<Written, WriteError>> {
        self.follow_all(&writes);
        let mut tail = Tail::default();
        let write = |write| match write {
            RunWrite::Create { run, owner, firing: None, replays: None } if run.idempotency_key.is_none() => {
                self.create_counted(run, owner)
            }
            RunWrite::Create { run, owner, firing, replays } => self.create(run, owner, firing, replays),
            RunWrite::Append(append) => self.append(*append, &mut tail).map(|()| Written::Appended),
        };
        let answers = writes.into_iter().map(write).collect();
        self.enter(tail);
        answers
    }

    /// Counts the new runs that are no others' repetitions as followers of their versions. Before they are there: a version
    /// that nobody follows may go.
    fn follow_all(&self, writes: &[RunWrite]) {
        let mut shared = None;
        for write in writes {
            if let RunWrite::Create { run, firing: None, replays: None, .. } = write
                && run.idempotency_key.is_none()
            {
                shared.get_or_insert_with(|| self.shared.lock()).follow(run);
            }
        }
    }

    /// A new run that was counted as a follower of its version.
    fn create_counted(&self, record: Box<RunRecord>, owner: Uuid) -> Result<Written, WriteError> {
        let mut part = self.part(record.run_id);
        if part.get(record.run_id).is_none() {
            return Ok(Written::Created(part.create(record, owner)));
        }
        drop(part);
        self.shared.lock().unfollow(&record.pipeline_id, record.version);
        self.create(record, owner, None, None)
    }

    fn create(
        &self,
        record: Box<RunRecord>,
        owner: Uuid,
        firing: Option<Box<Firing>>,
        replays: Option<(RunId, u32)>,
    ) -> Result<Written, WriteError> {
        let mut gone = None;
        loop {
            let mut part = self.part(record.run_id);
            let mut shared = self.shared.lock();
            let existing = shared.existing(&record, firing.as_deref(), replays, gone)?;
            let existing = existing.or_else(|| part.get(record.run_id).map(|_| record.run_id));
            let Some(id) = existing else {
                shared.enter(&record, firing, replays);
                return Ok(Written::Created(part.create(record, owner)));
            };
            drop((shared, part));
            match self.record(id).map_err(|_| WriteError::NotFound { run_id: id })? {
                Some(there) => return Ok(Written::Exists(Box::new(there))),
                // It went between two looks. Its key is about to; firings and dead letters still name it.
                None => gone = Some(id),
            }
        }
    }

    fn append(&self, mut append: Append, tail: &mut Tail) -> Result<(), WriteError> {
        let (id, durations) = (append.run_id, std::mem::take(&mut append.durations));
        let mut part = self.part(id);
        let Rest { ended, beside } = part.append(append)?;
        if !durations.is_empty()
            && let Some(kept) = part.get(id)
        {
            tail.durations.push((kept.pipeline_id().clone(), durations));
        }
        match ended {
            (None, Some(at)) => tail.ended.push((at, id)),
            (None, None) => {}
            // It is on the list of those that have ended, or this batch is about to put it there. Nobody but its driver writes to
            // it, and nobody takes it away while the lock of its part is held.
            (before, after) if before != after => {
                tail.ended.retain(|(_, ended)| *ended != id);
                self.shared.lock().move_end(id, before, after);
            }
            _ => {}
        }
        if !beside.is_empty() {
            self.shared.lock().put_beside(beside);
        }
        Ok(())
    }

    fn enter(&self, tail: Tail) {
        let Tail { ended, durations } = tail;
        if !ended.is_empty() {
            let mut shared = self.shared.lock();
            ended.into_iter().for_each(|(at, id)| shared.move_end(id, None, Some(at)));
            let beyond = shared.beyond(Retention { keep: Some(self.kept), ended_before: None }, usize::MAX);
            drop(shared);
            self.remove_all(beyond);
        }
        if durations.is_empty() {
            return;
        }
        let mut of_all = self.durations.lock();
        for (pipeline, measured) in durations {
            let of_pipeline = of_all.entry(pipeline).or_default();
            of_pipeline.reserve(measured.len().saturating_sub(of_pipeline.len()));
            for (task, millis) in measured {
                keep_duration(of_pipeline.entry(task).or_default(), millis);
            }
        }
    }

    /// Takes runs that are on no list any more out of everything. How many there were.
    pub(super) fn remove_all(&self, ids: Vec<RunId>) -> usize {
        let gone: Vec<Gone> = ids.into_iter().filter_map(|id| self.part(id).remove(id)).collect();
        if !gone.is_empty() {
            let mut shared = self.shared.lock();
            gone.iter().for_each(|gone| shared.forget(gone));
        }
        gone.len()
    }
}

#[cfg(test)]
mod tests {
    use taskiq_flow_core::run::RunStatus;

    use super::*;
    use crate::Store;
    use crate::conformance::{definition, ending, record};
    use crate::records::{Fence, RunFilter};

    fn create(run: &RunRecord, owner: Uuid) -> RunWrite {
        RunWrite::Create { run: Box::new(run.clone()), owner, firing: None, replays: None }
    }

    fn end(run: &RunRecord, owner: Uuid, seq: u64, at: i64) -> RunWrite {
        let mut end = ending(run.run_id, Fence { owner, token: 1 }, seq, RunStatus::Failed);
        end.summary.finished_at = Some(Timestamp::from_millis(at));
        RunWrite::Append(Box::new(end))
    }

    async fn kept(store: &MemoryStore) -> usize {
        store.runs(RunFilter { limit: 100, ..RunFilter::default() }).await.unwrap().len()
    }

    #[tokio::test]
    async fn a_run_that_ends_twice_in_one_batch_takes_the_room_of_one() {
        let (store, owner) = (MemoryStore::with_room(2), Uuid::now_v7());
        let (first, second) = (record("p", 0), record("p", 0));
        let batch = vec![
            create(&first, owner),
            create(&second, owner),
            end(&first, owner, 1, 5),
            end(&first, owner, 2, 6),
            end(&second, owner, 1, 7),
        ];
        assert!(store.write(batch).await.unwrap().iter().all(Result::is_ok));
        assert_eq!(kept(&store).await, 2);
        let third = record("p", 0);
        store.write(vec![create(&third, owner), end(&third, owner, 1, 8)]).await.unwrap();
        assert_eq!(kept(&store).await, 2);
        assert!(store.run(first.run_id).await.unwrap().is_none(), "it ended first");
    }

    #[tokio::test]
    async fn a_version_stays_as_long_as_the_runs_that_are_there_follow_it() {
        let (store, owner) = (MemoryStore::with_room(1), Uuid::now_v7());
        store.put_pipeline(definition("p", 1)).await.unwrap();
        let run = record("p", 0);
        // Asked for twice, as by a driver that was not told of the first answer: it counts once.
        let answers = store.write(vec![create(&run, owner), create(&run, owner)]).await.unwrap();
        assert!(matches!(&answers[..], [Ok(Written::Created(_)), Ok(Written::Exists(_))]), "{answers:?}");
        store.put_pipeline(definition("p", 2)).await.unwrap();
        let id = run.pipeline_id.clone();
        assert!(store.pipeline(&id, 1).await.unwrap().is_some());
        let mut next = record("p", 0);
        next.version = 2;
        let batch = vec![end(&run, owner, 1, 5), create(&next, owner), end(&next, owner, 1, 6)];
        store.write(batch).await.unwrap();
        assert!(store.run(run.run_id).await.unwrap().is_none(), "there is room for one");
        assert!(store.pipeline(&id, 1).await.unwrap().is_none(), "nobody follows it any more");
        assert!(store.pipeline(&id, 2).await.unwrap().is_some());
    }

    #[tokio::test]
    async fn the_key_of_a_run_that_is_on_its_way_out_is_free() {
        let (store, owner) = (MemoryStore::new(), Uuid::now_v7());
        let mut run = record("p", 0);
        run.idempotency_key = Some("k".into());
        store.write(vec![create(&run, owner), end(&run, owner, 1, 5)]).await.unwrap();
        // As between the two steps of a removal.
        let gone = store.part(run.run_id).remove(run.run_id).unwrap();
        let mut next = record("p", 0);
        next.idempotency_key = Some("k".into());
        let answers = store.write(vec![create(&next, owner)]).await.unwrap();
        assert!(matches!(&answers[..], [Ok(Written::Created(_))]), "{answers:?}");
        store.shared.lock().forget(&gone);
        let of_key = store.run_by_key(&next.pipeline_id, "k").await.unwrap();
        assert_eq!(of_key.map(|run| run.run_id), Some(next.run_id));
    }
}
