//! Kept values of tasks: under which key they are found again, and who makes one that others wait for.
//!
//! The keys are digests, so that the store knows nothing of what a value was made from. Whoever asks first looks into the
//! store, and makes the value if it is not there; those who ask for the same meanwhile, of whatever run, wait for it. They
//! wait for one attempt only, which is under way: where it fails, each goes on by itself, and where it is stopped, or does
//! not begin, the next one takes its place. So nobody waits for what may not come.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fmt;
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use taskiq_flow_core::id::{PipelineId, RunId};
use taskiq_flow_core::plan::Plan;
use taskiq_flow_core::run::Work;
use taskiq_flow_core::time::Timestamp;
use taskiq_flow_store::{CacheStats, Store, StoreError};

use crate::handle::Engine;

/// The longest value that is kept, in bytes of its JSON.
pub(crate) const MAX_BYTES: usize = 1 << 20;

/// What is digested first: another way to digest gets another one, so that the keys of both never meet.
const FORM: &str = "taskiq-flow cache 2";

/// What a task says that does not change what it makes, or is digested by itself.
const BESIDE: &[&str] = &[
    "name",
    "description",
    "after",
    "keep",
    "when",
    "timeout",
    "total_timeout",
    "retry",
    "resources",
    "on_error",
];

/// A step run of some run.
pub(crate) type StepRun = (RunId, u32);

/// The key of a kept value: a digest of all that it depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Digest([u8; 32]);

/// What of the digests of a run is the same for many of its step runs.
#[derive(Debug, Default)]
pub(crate) struct Parts {
    /// By their address: values that several have, and their digests.
    values: Mutex<HashMap<usize, Part>>,
    /// By their step.
    definitions: Mutex<HashMap<u32, [u8; 32]>>,
}

/// A value, which is not kept for this alone, and its digest.
type Part = (Weak<Value>, [u8; 32]);

/// Values of one run whose digests are known at once.
const MOST_PARTS: usize = 256;

/// Values that are being made, for all shards.
#[derive(Debug, Clone, Default)]
pub(crate) struct Flights(Arc<Mutex<HashMap<Digest, Flight>>>);

/// Who makes a value, and who waits for it. Nobody waits where nobody makes it.
#[derive(Debug, Default)]
struct Flight {
    makers: HashSet<StepRun>,
    /// The oldest run first.
    followers: BTreeSet<StepRun>,
}

/// A value that is to be looked for.
#[derive(Debug)]
pub(crate) struct Wanted {
    pub(crate) who: StepRun,
    pub(crate) digest: Digest,
    pub(crate) pipeline_id: PipelineId,
    pub(crate) task: Arc<str>,
    /// How old it may be, as the definition has it now.
    pub(crate) ttl: Option<Duration>,
}

/// What has come of looking for a value.
#[derive(Debug)]
pub(crate) struct Looked {
    pub(crate) who: StepRun,
    pub(crate) found: Found,
}

/// What was found. Shown without its value.
#[derive(Clone)]
pub(crate) enum Found {
    /// A value that was kept.
    Kept(Arc<Value>),
    /// The value that another step run has just made.
    Made(Arc<Value>),
    /// Nothing: the step is to be carried out.
    Nothing,
}

impl Engine {
    /// How much is kept of each task of a pipeline, by name.
    ///
    /// # Errors
    /// Failures of the store.
    pub async fn cache_stats(&self, pipeline: &PipelineId) -> Result<Vec<CacheStats>, StoreError> {
        self.0.store.cache_stats(pipeline).await
    }

    /// Forgets the kept values of a pipeline, or of one of its tasks. How many there were. A value that is being made now
    /// is kept all the same.
    ///
    /// # Errors
    /// Failures of the store.
    pub async fn drop_cached(&self, pipeline: &PipelineId, task: Option<&str>) -> Result<u64, StoreError> {
        self.0.store.drop_cached(pipeline, task).await
    }
}

impl Digest {
    /// What the value of `work` depends on: the pipeline, the task and what it does, and `key`, or where there is none the
    /// inputs. `parts` are those of its run.
    pub(crate) fn of(plan: &Plan, work: &Work, key: Option<&Value>, parts: &Parts) -> Self {
        let mut digest = Sha256::new();
        text(&mut digest, FORM);
        text(&mut digest, work.pipeline_id.as_str());
        text(&mut digest, &work.task().name);
        length(&mut digest, work.plan_body.path().len());
        work.plan_body.path().iter().for_each(|place| digest.update(place.to_be_bytes()));
        digest.update(parts.definition(plan, work.plan_body.step_index()));
        match key {
            Some(key) => {
                digest.update([1]);
                value(&mut digest, key);
            }
            None => {
                let mut inputs: Vec<_> = work.inputs.iter().collect();
                inputs.sort_unstable_by_key(|(name, _)| *name);
                digest.update([0]);
                length(&mut digest, inputs.len());
                for (name, input) in inputs {
                    text(&mut digest, name);
                    digest.update(parts.value(input));
                }
            }
        }
        Self(digest.finalize().into())
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl Parts {
    /// The digest of a value. One that others hold too, such as an input of a whole map, is digested once for all of them.
    fn value(&self, value: &Arc<Value>) -> [u8; 32] {
        if Arc::strong_count(value) == 1 {
            return digest_of(value);
        }
        // As long as it is known here, no other value gets its address.
        let address = Arc::as_ptr(value) as usize;
        if let Some((_, digest)) = self.values.lock().get(&address) {
            return *digest;
        }
        let digest = digest_of(value);
        let mut values = self.values.lock();
        if values.len() >= MOST_PARTS {
            values.clear();
        }
        values.insert(address, (Arc::downgrade(value), digest));
        digest
    }

    /// The digest of the definition of a step's task.
    fn definition(&self, plan: &Plan, step: u32) -> [u8; 32] {
        let known = self.definitions.lock().get(&step).copied();
        known.unwrap_or_else(|| {
            let mut digest = Sha256::new();
            definition(&mut digest, plan.source_of(step));
            *self.definitions.lock().entry(step).or_insert(digest.finalize().into())
        })
    }
}

fn digest_of(json: &Value) -> [u8; 32] {
    let mut digest = Sha256::new();
    value(&mut digest, json);
    digest.finalize().into()
}

/// The part of a task's definition that its value depends on. How long values are good is none of it.
fn definition(digest: &mut Sha256, source: Option<&Value>) {
    let Some(Value::Object(fields)) = source else {
        return value(digest, &Value::Null);
    };
    let mut fields: Vec<_> = fields.iter().filter(|(name, _)| !BESIDE.contains(&name.as_str())).collect();
    fields.sort_unstable_by_key(|(name, _)| *name);
    for (name, field) in fields {
        text(digest, name);
        match field {
            Value::Object(cache) if name == "cache" => {
                let lasting = cache.iter().filter(|(name, _)| *name != "ttl");
                value(digest, &Value::Object(lasting.map(|(k, v)| (k.clone(), v.clone())).collect()));
            }
            field => value(digest, field),
        }
    }
}

/// A value in a form in which no two values look alike: its sort, its length, and what is in it. The order of names is no
/// part of an object.
fn value(digest: &mut Sha256, json: &Value) {
    match json {
        Value::Null => digest.update(b"n"),
        Value::Bool(false) => digest.update(b"f"),
        Value::Bool(true) => digest.update(b"t"),
        Value::Number(number) => {
            digest.update(b"d");
            text(digest, &number.to_string());
        }
        Value::String(string) => {
            digest.update(b"s");
            text(digest, string);
        }
        Value::Array(list) => {
            digest.update(b"l");
            length(digest, list.len());
            list.iter().for_each(|item| value(digest, item));
        }
        Value::Object(map) => {
            digest.update(b"o");
            length(digest, map.len());
            let mut fields: Vec<_> = map.iter().collect();
            fields.sort_unstable_by_key(|(name, _)| *name);
            for (name, field) in fields {
                text(digest, name);
                value(digest, field);
            }
        }
    }
}

fn text(digest: &mut Sha256, text: &str) {
    length(digest, text.len());
    digest.update(text);
}

fn length(digest: &mut Sha256, length: usize) {
    digest.update((length as u64).to_be_bytes());
}

/// Bytes of a value as JSON; none: it is too long to be kept.
pub(crate) fn length_of(value: &Value) -> Option<usize> {
    /// Counts, and gives up where it is too much.
    struct Room(usize);
    impl std::io::Write for Room {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0 = self.0.checked_sub(bytes.len()).ok_or(std::io::ErrorKind::FileTooLarge)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let mut room = Room(MAX_BYTES);
    serde_json::to_writer(&mut room, value).is_ok().then(|| MAX_BYTES - room.0)
}

impl fmt::Debug for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kept(_) => "Kept",
            Self::Made(_) => "Made",
            Self::Nothing => "Nothing",
        })
    }
}

impl Flights {
    /// Somebody wants a value. Whether it is to look for it, and make it; else it is told when another has.
    ///
    /// Whoever makes it never waits, however far, for the run of one that waits for it: a step that runs another pipeline
    /// has none of its own pipeline below it, since pipelines cannot run each other in a circle, and keys are of one
    /// pipeline.
    pub(crate) fn ask(&self, digest: Digest, who: StepRun) -> bool {
        let mut flights = self.0.lock();
        let flight = flights.entry(digest).or_default();
        if flight.makers.iter().any(|maker| *maker != who) {
            flight.followers.insert(who);
            return false;
        }
        flight.makers.insert(who);
        true
    }

    /// Somebody makes a value now.
    pub(crate) fn lead(&self, digest: Digest, who: StepRun) {
        self.0.lock().entry(digest).or_default().makers.insert(who);
    }

    /// A maker has come to an end, good or bad. Who waited, and is to be told.
    pub(crate) fn settle(&self, digest: &Digest, who: StepRun) -> BTreeSet<StepRun> {
        let mut flights = self.0.lock();
        let Some(flight) = flights.get_mut(digest) else { return BTreeSet::new() };
        flight.makers.remove(&who);
        let followers = std::mem::take(&mut flight.followers);
        if flight.makers.is_empty() {
            flights.remove(digest);
        }
        followers
    }

    /// Somebody makes a value, or waits for it, no more. Who is to make it instead: of those who wait, where nobody else
    /// makes it.
    pub(crate) fn leave(&self, digest: &Digest, who: StepRun) -> Option<StepRun> {
        let mut flights = self.0.lock();
        let flight = flights.get_mut(digest)?;
        flight.makers.remove(&who);
        flight.followers.remove(&who);
        if !flight.makers.is_empty() {
            return None;
        }
        let next = flight.followers.pop_first();
        match next {
            Some(next) => drop(flight.makers.insert(next)),
            None => drop(flights.remove(digest)),
        }
        next
    }
}

impl Wanted {
    /// Looks into the store. A value that cannot be had is as good as none: it is made again.
    pub(crate) async fn look(&self, store: &dyn Store, now: Timestamp) -> Option<Arc<Value>> {
        let entry = match store.cached(self.digest.as_bytes(), now).await {
            Ok(entry) => entry?,
            Err(error) => {
                tracing::warn!(pipeline_id = %self.pipeline_id, task = %self.task, %error, "no kept value can be read; the task is carried out");
                return None;
            }
        };
        // The digest says so already. That no pipeline sees the values of another is not to hang on that alone.
        let own = entry.pipeline_id == self.pipeline_id && entry.task == self.task;
        let good = self.ttl.is_none_or(|ttl| entry.created_at.plus(ttl) > now);
        (own && good).then_some(entry.value)
    }
}

#[cfg(test)]
mod tests;
