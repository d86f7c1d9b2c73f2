//! What the runs of a store in memory share, and what is kept beside them.

use std::collections::{BTreeMap, HashMap, VecDeque};

use taskiq_flow_core::id::{PipelineId, RunId};
use taskiq_flow_core::time::Timestamp;
use uuid::Uuid;

use super::beside::{Cache, DeadLetters, Deliveries, Firings};
use super::runs::Gone;
use crate::error::{StoreError, WriteError};
use crate::records::{
    Beside, DeliveryChange, Firing, PipelineRecord, Retention, RunRecord, ScheduleRecord, SecurityRecord,
};

#[derive(Default)]
pub(super) struct Shared {
    /// The runs of idempotency keys.
    keys: HashMap<PipelineId, HashMap<String, RunId>>,
    /// How many runs follow each version.
    followers: HashMap<PipelineId, HashMap<u32, usize>>,
    ended: Ended,
    /// Until when owners hold their runs.
    pub(super) leases: HashMap<Uuid, Timestamp>,
    pipelines: BTreeMap<PipelineId, Versions>,
    pub(super) schedules: BTreeMap<String, ScheduleRecord>,
    pub(super) security: BTreeMap<(String, String), SecurityRecord>,
    pub(super) firings: Firings,
    pub(super) dead_letters: DeadLetters,
    pub(super) cache: Cache,
    pub(super) deliveries: Deliveries,
}

/// The versions of one pipeline.
#[derive(Default)]
struct Versions {
    newest: u32,
    deleted: bool,
    kept: BTreeMap<u32, PipelineRecord>,
}

/// Ended runs in the order of their ends. They come near its end and go from its beginning, so that a tree would be
/// slower.
#[derive(Default)]
struct Ended(VecDeque<(Timestamp, RunId)>);

impl Shared {
    /// The run that is meant by a creation, if there may be one. `gone` is not there any more.
    pub(super) fn existing(
        &self,
        record: &RunRecord,
        firing: Option<&Firing>,
        replays: Option<(RunId, u32)>,
        gone: Option<RunId>,
    ) -> Result<Option<RunId>, WriteError> {
        if let Some(key) = &record.idempotency_key
            && let Some(id) = self.of_key(&record.pipeline_id, key).filter(|id| gone != Some(*id))
        {
            return Ok(Some(id));
        }
        let earlier = firing.and_then(|firing| self.firings.get(&firing.schedule, firing.due));
        if let Some((earlier, id)) = earlier.and_then(|earlier| Some((earlier, earlier.run_id?))) {
            let fired = || WriteError::Fired { schedule: earlier.schedule.clone(), due: earlier.due };
            return if gone == Some(id) { Err(fired()) } else { Ok(Some(id)) };
        }
        if let Some((run_id, step_run)) = replays {
            let letter = self.dead_letters.get(run_id, step_run);
            let letter = letter.ok_or(WriteError::NoDeadLetter { run_id, step_run })?;
            return Ok(letter.replayed_by.filter(|id| gone != Some(*id)));
        }
        Ok(None)
    }

    /// Notes a run that is new.
    pub(super) fn enter(
        &mut self,
        record: &RunRecord,
        firing: Option<Box<Firing>>,
        replays: Option<(RunId, u32)>,
    ) {
        let id = record.run_id;
        if let Some(firing) = firing {
            self.firings.note(Firing { run_id: Some(id), ..*firing });
        }
        if let Some((run_id, step_run)) = replays {
            self.dead_letters.mark(run_id, step_run, id);
        }
        if let Some(key) = &record.idempotency_key {
            self.keys.entry(record.pipeline_id.clone()).or_default().insert(key.clone(), id);
        }
        self.follow(record);
    }

    /// Counts a run as a follower of its version.
    pub(super) fn follow(&mut self, record: &RunRecord) {
        if let Some(followers) = self.followers.get_mut(&record.pipeline_id) {
            *followers.entry(record.version).or_default() += 1;
        } else {
            self.followers.insert(record.pipeline_id.clone(), HashMap::from([(record.version, 1)]));
        }
    }

    /// Notes that a run has ended then; or that it has ended at another time, or not at all.
    pub(super) fn move_end(&mut self, id: RunId, before: Option<Timestamp>, after: Option<Timestamp>) {
        before.into_iter().for_each(|at| self.ended.remove(at, id));
        after.into_iter().for_each(|at| self.ended.insert(at, id));
    }

    /// Keeps what a write brought beside its run.
    pub(super) fn put_beside(&mut self, beside: Beside) {
        beside.dead_letters.into_iter().for_each(|letter| self.dead_letters.put(letter));
        beside.cache.into_iter().for_each(|entry| self.cache.put(entry));
        let deliveries = beside.deliveries.into_iter().map(DeliveryChange::Put);
        deliveries.for_each(|put| self.deliveries.change(put));
    }

    /// Takes ended runs that are not to be kept off the list, at most so many, those that ended first.
    pub(super) fn beyond(&mut self, retention: Retention, limit: usize) -> Vec<RunId> {
        let ended = &mut self.ended.0;
        let too_many = retention.keep.map_or(0, |keep| ended.len().saturating_sub(keep));
        let too_old =
            retention.ended_before.map_or(0, |before| ended.partition_point(|(at, _)| *at < before));
        let count = too_many.max(too_old).min(limit);
        ended.drain(..count).map(|(_, id)| id).collect()
    }

    /// Gives an owner a lease; those that have run out are gone with this. Who has one now.
    pub(super) fn take_lease(&mut self, owner: Uuid, now: Timestamp, until: Timestamp) -> Vec<Uuid> {
        self.leases.retain(|_, lasts_until| *lasts_until > now);
        self.leases.insert(owner, until);
        self.leases.keys().copied().collect()
    }

    /// Forgets a run that has been taken away, and was off the list of those that have ended.
    pub(super) fn forget(&mut self, gone: &Gone) {
        self.dead_letters.forget(gone.run_id);
        if let Some(key) = &gone.key
            && let Some(keys) = self.keys.get_mut(&gone.pipeline_id)
            && keys.get(key) == Some(&gone.run_id)
        {
            keys.remove(key);
            if keys.is_empty() {
                self.keys.remove(&gone.pipeline_id);
            }
        }
        self.unfollow(&gone.pipeline_id, gone.version);
    }

    /// One follower less of that version.
    pub(super) fn unfollow(&mut self, pipeline: &PipelineId, version: u32) {
        let Some(followers) = self.followers.get_mut(pipeline) else { return };
        if let Some(count) = followers.get_mut(&version) {
            *count -= 1;
            if *count > 0 {
                return;
            }
        }
        followers.remove(&version);
        if followers.is_empty() {
            self.followers.remove(pipeline);
        }
        // A version that was superseded or deleted goes with the last run that followed it.
        if let Some(versions) = self.pipelines.get_mut(pipeline)
            && (versions.deleted || version < versions.newest)
        {
            versions.kept.remove(&version);
        }
    }

    pub(super) fn of_key(&self, pipeline: &PipelineId, key: &str) -> Option<RunId> {
        self.keys.get(pipeline)?.get(key).copied()
    }

    pub(super) fn put_pipeline(&mut self, record: PipelineRecord) -> Result<(), StoreError> {
        let versions = self.pipelines.entry(record.id.clone()).or_default();
        let (version, newest) = (record.version, versions.newest);
        if version <= newest {
            return Err(StoreError::Conflict { id: record.id, version, newest });
        }
        versions.newest = version;
        versions.deleted = false;
        versions.kept.insert(version, record);
        Ok(())
    }

    pub(super) fn pipelines(&self) -> Vec<PipelineRecord> {
        let present = self.pipelines.values().filter(|versions| !versions.deleted);
        present.filter_map(|versions| versions.kept.get(&versions.newest)).cloned().collect()
    }

    pub(super) fn pipeline(&self, id: &PipelineId, version: u32) -> Option<&PipelineRecord> {
        self.pipelines.get(id)?.kept.get(&version)
    }

    pub(super) fn newest_version(&self, id: &PipelineId) -> u32 {
        self.pipelines.get(id).map_or(0, |versions| versions.newest)
    }

    /// Whether there was one.
    pub(super) fn delete_pipeline(&mut self, id: &PipelineId) -> bool {
        let Some(versions) = self.pipelines.get_mut(id).filter(|versions| !versions.deleted) else {
            return false;
        };
        versions.deleted = true;
        self.cache.drop_of(id, None);
        true
    }
}

impl Ended {
    fn insert(&mut self, at: Timestamp, id: RunId) {
        let entry = (at, id);
        let place = match self.0.back() {
            Some(last) if *last > entry => self.0.partition_point(|other| *other < entry),
            _ => self.0.len(),
        };
        self.0.insert(place, entry);
    }

    fn remove(&mut self, at: Timestamp, id: RunId) {
        if let Ok(place) = self.0.binary_search(&(at, id)) {
            self.0.remove(place);
        }
    }
}
