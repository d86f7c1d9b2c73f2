//! What is kept beside runs, in memory.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Bound;
use std::sync::Arc;

use taskiq_flow_core::id::{PipelineId, RunId};
use taskiq_flow_core::time::Timestamp;
use uuid::Uuid;

use crate::records::{
    CacheEntry, CacheRoom, CacheStats, DeadLetter, DeadLetterFilter, Delivery, DeliveryChange,
    DeliveryFilter, DeliveryStats, Firing, FiringFilter,
};
use crate::rules::{KEPT_DEAD, KEPT_DEAD_BYTES, KEPT_FIRINGS};

/// Firings, by place.
#[derive(Default)]
pub(super) struct Firings {
    noted: BTreeMap<u64, Firing>,
    by_schedule: HashMap<String, OfSchedule>,
    last_place: u64,
}

#[derive(Default)]
struct OfSchedule {
    places: BTreeSet<u64>,
    by_due: HashMap<Timestamp, u64>,
}

impl Firings {
    /// The firing of that schedule and time.
    pub(super) fn get(&self, schedule: &str, due: Timestamp) -> Option<&Firing> {
        self.by_schedule.get(schedule)?.by_due.get(&due).and_then(|place| self.noted.get(place))
    }

    /// Notes a firing in place of that of the same schedule and time.
    pub(super) fn note(&mut self, mut firing: Firing) {
        self.last_place += 1;
        firing.place = self.last_place;
        let of_schedule = self.by_schedule.entry(firing.schedule.clone()).or_default();
        if let Some(earlier) = of_schedule.by_due.insert(firing.due, firing.place) {
            of_schedule.places.remove(&earlier);
            self.noted.remove(&earlier);
        }
        of_schedule.places.insert(firing.place);
        self.noted.insert(firing.place, firing);
        while of_schedule.places.len() > KEPT_FIRINGS {
            let gone = of_schedule.places.pop_first().and_then(|place| self.noted.remove(&place));
            gone.map(|gone| of_schedule.by_due.remove(&gone.due));
        }
    }

    pub(super) fn list(&self, filter: &FiringFilter) -> Vec<Firing> {
        let passes = |firing: &&Firing| {
            filter.since.is_none_or(|since| firing.due >= since)
                && filter.until.is_none_or(|until| firing.due < until)
        };
        let before = filter.before.unwrap_or(u64::MAX);
        let limit = filter.limit;
        match &filter.schedule {
            None => self
                .noted
                .range(..before)
                .rev()
                .map(|(_, firing)| firing)
                .filter(passes)
                .take(limit)
                .cloned()
                .collect(),
            Some(schedule) => {
                let places = self.by_schedule.get(schedule).into_iter();
                let places = places.flat_map(|of_schedule| of_schedule.places.range(..before).rev());
                places.filter_map(|place| self.noted.get(place)).filter(passes).take(limit).cloned().collect()
            }
        }
    }

    pub(super) fn forget(&mut self, schedule: &str) {
        for place in self.by_schedule.remove(schedule).unwrap_or_default().places {
            self.noted.remove(&place);
        }
    }
}

/// Dead letters, by place.
#[derive(Default)]
pub(super) struct DeadLetters {
    kept: BTreeMap<u64, DeadLetter>,
    places: BTreeMap<(RunId, u32), u64>,
    last_place: u64,
}

impl DeadLetters {
    pub(super) fn put(&mut self, mut letter: DeadLetter) {
        self.last_place += 1;
        letter.place = self.last_place;
        letter.replayed_by = None;
        if let Some(earlier) = self.places.insert((letter.run_id, letter.step_run), letter.place) {
            self.kept.remove(&earlier);
        }
        self.kept.insert(letter.place, letter);
    }

    pub(super) fn get(&self, run: RunId, step_run: u32) -> Option<&DeadLetter> {
        self.places.get(&(run, step_run)).and_then(|place| self.kept.get(place))
    }

    /// Marks a letter as replayed.
    pub(super) fn mark(&mut self, run: RunId, step_run: u32, by: RunId) {
        if let Some(letter) = self.places.get(&(run, step_run)).and_then(|place| self.kept.get_mut(place)) {
            letter.replayed_by = Some(by);
        }
    }

    pub(super) fn list(&self, filter: &DeadLetterFilter) -> Vec<DeadLetter> {
        let passes = |letter: &&DeadLetter| {
            filter.pipelines.as_ref().is_none_or(|pipelines| pipelines.contains(&letter.pipeline_id))
                && filter.replayed.is_none_or(|replayed| replayed == letter.replayed_by.is_some())
        };
        let newest = self.kept.range(..filter.before.unwrap_or(u64::MAX)).rev().map(|(_, letter)| letter);
        newest.filter(passes).take(filter.limit).cloned().collect()
    }

    pub(super) fn remove(&mut self, run: RunId, step_run: u32) -> bool {
        self.places.remove(&(run, step_run)).is_some_and(|place| self.kept.remove(&place).is_some())
    }

    /// Removes those of a run that goes.
    pub(super) fn forget(&mut self, run: RunId) {
        let step_runs: Vec<u32> =
            self.places.range((run, 0)..=(run, u32::MAX)).map(|((_, step_run), _)| *step_run).collect();
        for step_run in step_runs {
            self.remove(run, step_run);
        }
    }
}

/// Cached values, by key.
#[derive(Default)]
pub(super) struct Cache {
    by_key: HashMap<Vec<u8>, (u64, CacheEntry)>,
    by_age: BTreeMap<u64, Vec<u8>>,
    /// Of all values together.
    bytes: u64,
    last_place: u64,
}

impl Cache {
    pub(super) fn put(&mut self, entry: CacheEntry) {
        self.last_place += 1;
        let key = entry.key.clone();
        self.bytes += entry.bytes;
        if let Some((place, earlier)) = self.by_key.insert(key.clone(), (self.last_place, entry)) {
            self.by_age.remove(&place);
            self.bytes -= earlier.bytes;
        }
        self.by_age.insert(self.last_place, key);
    }

    pub(super) fn get(&self, key: &[u8], now: Timestamp) -> Option<CacheEntry> {
        let (_, entry) = self.by_key.get(key)?;
        (!has_expired(entry, now)).then(|| entry.clone())
    }

    pub(super) fn drop_of(&mut self, pipeline: &PipelineId, task: Option<&str>) -> u64 {
        self.drop_where(|entry| {
            entry.pipeline_id == *pipeline && task.is_none_or(|task| *entry.task == *task)
        })
    }

    pub(super) fn prune(&mut self, now: Timestamp, keep: CacheRoom) -> u64 {
        let mut gone = self.drop_where(|entry| has_expired(entry, now));
        while (self.by_age.len() > keep.values || self.bytes > keep.bytes)
            && let Some((_, key)) = self.by_age.pop_first()
        {
            self.bytes -= self.by_key.remove(&key).map_or(0, |(_, entry)| entry.bytes);
            gone += 1;
        }
        gone
    }

    pub(super) fn stats(&self, pipeline: &PipelineId) -> Vec<CacheStats> {
        let mut tasks: BTreeMap<Arc<str>, (u64, u64)> = BTreeMap::new();
        for (_, entry) in self.by_key.values().filter(|(_, entry)| entry.pipeline_id == *pipeline) {
            let (entries, bytes) = tasks.entry(Arc::clone(&entry.task)).or_default();
            *entries += 1;
            *bytes += entry.bytes;
        }
        tasks
            .into_iter()
            .map(|(task, (entries, bytes))| CacheStats { task: task.to_string(), entries, bytes })
            .collect()
    }

    fn drop_where(&mut self, goes: impl Fn(&CacheEntry) -> bool) -> u64 {
        let before = self.by_key.len();
        let (by_age, bytes) = (&mut self.by_age, &mut self.bytes);
        self.by_key.retain(|_, (place, entry)| {
            let goes = goes(entry);
            if goes {
                by_age.remove(place);
                *bytes -= entry.bytes;
            }
            !goes
        });
        (before - self.by_key.len()) as u64
    }
}

fn has_expired(entry: &CacheEntry, now: Timestamp) -> bool {
    entry.expires_at.is_some_and(|at| at <= now)
}

/// Deliveries of each hook, by id.
#[derive(Default)]
pub(super) struct Deliveries {
    by_id: HashMap<Uuid, Kept>,
    by_hook: BTreeMap<String, OfHook>,
}

struct Kept {
    delivery: Delivery,
    bytes: u64,
}

#[derive(Default)]
struct OfHook {
    /// Those that wait, the next one first.
    waiting: BTreeSet<(Timestamp, Uuid)>,
    /// Those that were given up, oldest first.
    dead: BTreeSet<Uuid>,
    dead_bytes: u64,
    of: BTreeMap<String, OfPipeline>,
}

/// What of a hook's tells of one pipeline.
#[derive(Default)]
struct OfPipeline {
    waiting: u64,
    waiting_bytes: u64,
    dead: BTreeSet<Uuid>,
    dead_bytes: u64,
}

impl OfHook {
    /// The delivery that goes, where there is too much that was given up.
    fn beyond(&self) -> Option<Uuid> {
        let pipelines = || self.of.values().rev();
        let most = if self.dead.len() > KEPT_DEAD {
            pipelines().max_by_key(|of| of.dead.len())
        } else if self.dead_bytes > KEPT_DEAD_BYTES {
            pipelines().max_by_key(|of| of.dead_bytes)
        } else {
            None
        };
        most?.dead.first().copied()
    }
}

impl Deliveries {
    pub(super) fn change(&mut self, change: DeliveryChange) {
        match change {
            DeliveryChange::Done(id) => self.remove(id),
            DeliveryChange::Put(delivery) => {
                self.remove(delivery.id);
                let (id, bytes) = (delivery.id, delivery.bytes());
                let of_hook = self.by_hook.entry(delivery.hook.clone()).or_default();
                let of_pipeline = of_hook.of.entry(delivery.pipeline().to_owned()).or_default();
                if delivery.dead {
                    of_hook.dead.insert(id);
                    of_hook.dead_bytes += bytes;
                    of_pipeline.dead.insert(id);
                    of_pipeline.dead_bytes += bytes;
                } else {
                    of_hook.waiting.insert((delivery.next_at, id));
                    of_pipeline.waiting += 1;
                    of_pipeline.waiting_bytes += bytes;
                }
                let hook = delivery.hook.clone();
                self.by_id.insert(id, Kept { delivery, bytes });
                while let Some(oldest) = self.by_hook.get(&hook).and_then(OfHook::beyond) {
                    self.remove(oldest);
                }
            }
        }
    }

    fn remove(&mut self, id: Uuid) {
        let Some(Kept { delivery: gone, bytes }) = self.by_id.remove(&id) else { return };
        let Some(of_hook) = self.by_hook.get_mut(&gone.hook) else { return };
        let Some(of_pipeline) = of_hook.of.get_mut(gone.pipeline()) else { return };
        if gone.dead {
            of_hook.dead.remove(&id);
            of_hook.dead_bytes -= bytes;
            of_pipeline.dead.remove(&id);
            of_pipeline.dead_bytes -= bytes;
        } else {
            of_hook.waiting.remove(&(gone.next_at, id));
            of_pipeline.waiting -= 1;
            of_pipeline.waiting_bytes -= bytes;
        }
        if of_pipeline.waiting == 0 && of_pipeline.dead.is_empty() {
            of_hook.of.remove(gone.pipeline());
        }
        if of_hook.of.is_empty() {
            self.by_hook.remove(&gone.hook);
        }
    }

    pub(super) fn list(&self, filter: &DeliveryFilter) -> Vec<Delivery> {
        let wanted = |(hook, _): &(&String, &OfHook)| filter.hook.as_ref().is_none_or(|name| name == *hook);
        let hooks = || self.by_hook.iter().filter(wanted).map(|(_, of_hook)| of_hook);
        let limit = filter.limit;
        let ids: Vec<Uuid> = if filter.dead {
            let older = |of_hook: &OfHook| {
                let before = filter.before.map_or(Bound::Unbounded, Bound::Excluded);
                of_hook.dead.range((Bound::Unbounded, before)).rev().take(limit).copied().collect::<Vec<_>>()
            };
            let mut ids: Vec<_> = hooks().flat_map(older).collect();
            ids.sort_unstable_by(|one, other| other.cmp(one));
            ids
        } else {
            let next = |of_hook: &OfHook| {
                let after = filter.after.map_or(Bound::Unbounded, Bound::Excluded);
                of_hook.waiting.range((after, Bound::Unbounded)).take(limit).copied().collect::<Vec<_>>()
            };
            let mut places: Vec<_> = hooks().flat_map(next).collect();
            places.sort_unstable();
            places.into_iter().map(|(_, id)| id).collect()
        };
        ids.iter().take(limit).filter_map(|id| Some(self.by_id.get(id)?.delivery.clone())).collect()
    }

    pub(super) fn stats(&self) -> Vec<DeliveryStats> {
        let of_hook = |(hook, of_hook): (&String, &OfHook)| {
            let stats = of_hook.of.iter().map(|(pipeline, of)| DeliveryStats {
                hook: hook.clone(),
                pipeline: pipeline.clone(),
                waiting: of.waiting,
                waiting_bytes: of.waiting_bytes,
                dead: of.dead.len() as u64,
            });
            stats.collect::<Vec<_>>()
        };
        self.by_hook.iter().flat_map(of_hook).collect()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// All runs share the lock under which it is asked.
    #[test]
    fn how_much_is_cached_is_added_up_and_not_measured_anew() {
        let mut cache = Cache::default();
        let entry = |key: u8, bytes| CacheEntry {
            key: vec![key],
            pipeline_id: "p".parse().unwrap(),
            task: "t".into(),
            value: Arc::new(json!("a value")),
            bytes,
            created_at: Timestamp::from_millis(0),
            expires_at: None,
        };
        [(1, 10), (2, 20), (1, 300)].into_iter().for_each(|(key, bytes)| cache.put(entry(key, bytes)));
        let expected = [CacheStats { task: "t".to_owned(), entries: 2, bytes: 320 }];
        assert_eq!(cache.stats(&"p".parse().unwrap()), expected);
    }
}
