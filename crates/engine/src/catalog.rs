//! The pipelines that are registered, each with its plan.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use parking_lot::{Mutex, RwLock};
use serde_json::Value;
use taskiq_flow_broker::TaskRegistry;
use taskiq_flow_core::definition::TaskKind;
use taskiq_flow_core::id::PipelineId;
use taskiq_flow_core::load;
use taskiq_flow_core::plan::Plan;
use taskiq_flow_core::time::Timestamp;
use taskiq_flow_store::{Origin, PipelineRecord, Store, StoreError};

use crate::error::RegisterError;

/// A registered pipeline.
#[derive(Debug)]
pub struct Registered {
    /// Its plan.
    pub plan: Arc<Plan>,
    /// Its version, from 1.
    pub version: u32,
    /// Where it came from.
    pub origin: Origin,
    /// When this version was registered.
    pub created_at: Timestamp,
    /// The state of pipelines and tasks in which it was last found runnable; 0: none. See [`Catalog::state`].
    pub(crate) runnable_in: AtomicU64,
    copies: Copies,
}

/// Copies of a plan, one for each shard. All that a run says of its steps shares the names in its plan, and two
/// processors that count by turns who holds a name are slower than one.
#[derive(Debug, Default)]
struct Copies {
    /// Whether the plan is small enough for them.
    is_small: bool,
    /// Runs that were asked for, up to [`MANY_RUNS`].
    runs: AtomicU32,
    plans: OnceLock<Box<[OnceLock<Arc<Plan>>]>>,
}

/// Runs after which a pipeline's plan is copied for each shard that drives them, and the most bodies and bytes of such a
/// one: others would cost more memory than they save time.
const MANY_RUNS: u32 = 1000;
const SMALL: (usize, usize) = (64, 16 << 10);

/// All registered pipelines.
#[derive(Debug, Default)]
pub(crate) struct Catalog {
    current: RwLock<BTreeMap<PipelineId, Arc<Registered>>>,
    /// How often `current` has changed.
    changes: AtomicU64,
    /// Plans of earlier versions that unfinished runs follow or that were looked at.
    earlier: Mutex<HashMap<(PipelineId, u32), Arc<Plan>>>,
    /// Held by whoever registers or removes: versions follow one another.
    pub(crate) registering: tokio::sync::Mutex<()>,
}

/// What came of registering a pipeline.
#[derive(Debug)]
pub(crate) struct Registration {
    pub(crate) registered: Arc<Registered>,
    /// The version before; of an unchanged definition, itself. None: there was none that can still be read.
    pub(crate) before: Option<Arc<Plan>>,
    /// The version before that, and when the one behind it was registered: registering may have broken off there.
    pub(crate) earlier: Option<(Arc<Plan>, Timestamp)>,
    /// Whether it is a new version.
    pub(crate) new: bool,
}

/// Earlier plans are dropped and made anew when there are more than this.
const MAX_EARLIER: usize = 256;

impl Catalog {
    pub(crate) fn get(&self, id: &PipelineId) -> Option<Arc<Registered>> {
        self.current.read().get(id).cloned()
    }

    pub(crate) fn all(&self) -> Vec<Arc<Registered>> {
        self.current.read().values().cloned().collect()
    }

    /// Takes up what was registered over the API before.
    pub(crate) async fn load(&self, store: &dyn Store) -> Result<(), StoreError> {
        for record in store.pipelines().await? {
            if record.origin != Origin::Api {
                continue;
            }
            match plan_of(&record) {
                Ok(plan) => self.put(&record, plan),
                Err(reason) => {
                    tracing::error!(pipeline_id = %record.id, reason, "a stored pipeline cannot be loaded; it is left out");
                }
            }
        }
        Ok(())
    }

    /// Registers a pipeline; the same definition again keeps its version. The caller holds `registering`.
    pub(crate) async fn register(
        &self,
        store: &dyn Store,
        plan: Arc<Plan>,
        origin: Origin,
        now: Timestamp,
    ) -> Result<Registration, RegisterError> {
        let id = plan.pipeline().id.clone();
        let source = Arc::new(plan.pipeline().source.clone());
        let version = store.pipeline_version(&id).await?;
        let last = if version > 0 { store.pipeline(&id, version).await? } else { None };
        let earlier = match &last {
            Some(last) if version > 1 => {
                let record = store.pipeline(&id, version - 1).await?;
                let record = record.filter(|record| record.source.get("schedule").is_some());
                record.and_then(|record| Some((plan_of(&record).ok()?, last.created_at)))
            }
            _ => None,
        };
        if let Some(last) = &last
            && last.source == source
            && last.origin == origin
            && (origin == Origin::Program || self.get(&id).is_some())
        {
            self.put(last, Arc::clone(&plan));
            return Ok(Registration {
                registered: self.expect(&id)?,
                before: Some(plan),
                earlier,
                new: false,
            });
        }
        let before = last.and_then(|last| plan_of(&last).ok());
        let record = PipelineRecord { id: id.clone(), version: version + 1, source, origin, created_at: now };
        store.put_pipeline(record.clone()).await?;
        self.put(&record, plan);
        Ok(Registration { registered: self.expect(&id)?, before, earlier, new: true })
    }

    pub(crate) async fn remove(&self, store: &dyn Store, id: &PipelineId) -> Result<(), RegisterError> {
        let registered = self.expect(id)?;
        if registered.origin == Origin::Program {
            return Err(RegisterError::ReadOnly(id.clone()));
        }
        store.delete_pipeline(id).await?;
        self.current.write().remove(id);
        self.changes.fetch_add(1, Ordering::Release);
        Ok(())
    }

    /// A number that grows whenever a pipeline is registered or removed, or a task made known.
    pub(crate) fn state(&self, tasks: &TaskRegistry) -> u64 {
        1 + self.changes.load(Ordering::Acquire) + tasks.changes()
    }

    /// The plan of a version. `Err` says why it cannot be had.
    pub(crate) async fn plan(
        &self,
        store: &dyn Store,
        id: &PipelineId,
        version: u32,
    ) -> Result<Result<Arc<Plan>, String>, StoreError> {
        if let Some(current) = self.get(id).filter(|current| current.version == version) {
            return Ok(Ok(Arc::clone(&current.plan)));
        }
        let key = (id.clone(), version);
        if let Some(plan) = self.earlier.lock().get(&key) {
            return Ok(Ok(Arc::clone(plan)));
        }
        let Some(record) = store.pipeline(id, version).await? else {
            return Ok(Err(format!("version {version} of pipeline `{id}` is not in the store")));
        };
        let plan = plan_of(&record);
        if let Ok(plan) = &plan {
            let mut earlier = self.earlier.lock();
            if earlier.len() >= MAX_EARLIER {
                earlier.clear();
            }
            earlier.insert(key, Arc::clone(plan));
        }
        Ok(plan)
    }

    fn put(&self, record: &PipelineRecord, plan: Arc<Plan>) {
        let registered = Registered {
            copies: Copies::of(&plan),
            plan,
            version: record.version,
            origin: record.origin,
            created_at: record.created_at,
            runnable_in: AtomicU64::new(0),
        };
        self.current.write().insert(record.id.clone(), Arc::new(registered));
        self.changes.fetch_add(1, Ordering::Release);
    }

    fn expect(&self, id: &PipelineId) -> Result<Arc<Registered>, RegisterError> {
        self.get(id).ok_or_else(|| RegisterError::Unknown(id.clone()))
    }
}

impl Copies {
    /// None yet.
    fn of(plan: &Plan) -> Self {
        let source = serde_json::to_vec(&plan.pipeline().source).map_or(usize::MAX, |source| source.len());
        Self { is_small: plan.bodies().len() <= SMALL.0 && source <= SMALL.1, ..Self::default() }
    }
}

impl Registered {
    /// The id.
    pub fn id(&self) -> &PipelineId {
        &self.plan.pipeline().id
    }

    /// The plan for a run that this one of so many shards is to drive.
    pub(crate) fn plan_for(&self, shard: usize, shards: usize) -> Arc<Plan> {
        let Copies { is_small, runs, plans } = &self.copies;
        if !is_small || shards < 2 {
            return Arc::clone(&self.plan);
        }
        if runs.load(Ordering::Relaxed) < MANY_RUNS {
            runs.fetch_add(1, Ordering::Relaxed);
            return Arc::clone(&self.plan);
        }
        let plans = plans.get_or_init(|| (0..shards).map(|_| OnceLock::new()).collect());
        let copy = || load_plan(&self.plan.pipeline().source).unwrap_or_else(|_| Arc::clone(&self.plan));
        plans.get(shard).map_or_else(|| Arc::clone(&self.plan), |plan| Arc::clone(plan.get_or_init(copy)))
    }

    /// Whether a task of it, however deep, is of a kind.
    pub fn has_kind(&self, test: impl Fn(&TaskKind) -> bool) -> bool {
        any_kind(&self.plan, &test)
    }
}

/// Whether a task of a plan, however deep, is of a kind.
pub(crate) fn any_kind(plan: &Plan, test: &impl Fn(&TaskKind) -> bool) -> bool {
    let mut bodies: Vec<_> = plan.steps().iter().flat_map(|step| step.task.bodies()).collect();
    while let Some(body) = bodies.pop() {
        if test(&body.kind) {
            return true;
        }
        bodies.extend(body.kind.inner());
    }
    false
}

fn plan_of(record: &PipelineRecord) -> Result<Arc<Plan>, String> {
    load_plan(&record.source)
}

fn load_plan(source: &Value) -> Result<Arc<Plan>, String> {
    let pipelines = load::load_json(Value::clone(source)).map_err(|errors| errors.to_string())?;
    let pipeline = pipelines.into_iter().next().ok_or_else(|| "its definition is empty".to_owned())?;
    let plan = Plan::new(Arc::new(pipeline));
    plan.map(Arc::new).map_err(|errors| errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn registered(tasks: usize) -> Registered {
        let tasks: Vec<_> =
            (0..tasks).map(|place| json!({"name": format!("t{place}"), "expression": "1"})).collect();
        let plan = load_plan(&json!({"id": "p", "tasks": tasks})).unwrap();
        Registered {
            copies: Copies::of(&plan),
            plan,
            version: 1,
            origin: Origin::Program,
            created_at: Timestamp::from_millis(0),
            runnable_in: AtomicU64::new(0),
        }
    }

    #[test]
    fn shards_that_drive_many_runs_have_plans_of_their_own() {
        let pipeline = registered(2);
        for _ in 0..MANY_RUNS {
            assert!(Arc::ptr_eq(&pipeline.plan_for(0, 2), &pipeline.plan));
        }
        let (first, second) = (pipeline.plan_for(0, 2), pipeline.plan_for(1, 2));
        assert!(Arc::ptr_eq(&first, &pipeline.plan_for(0, 2)), "it is made once");
        for copy in [&first, &second] {
            assert!(!Arc::ptr_eq(copy, &pipeline.plan));
            assert_eq!(copy.pipeline().source, pipeline.plan.pipeline().source);
        }
        let (name, other) = (&first.steps()[0].name, &second.steps()[0].name);
        assert!(name == other && !Arc::ptr_eq(name, other), "names are what is counted");
        let (alone, large) = (registered(2), registered(SMALL.0 + 1));
        for _ in 0..=MANY_RUNS {
            assert!(Arc::ptr_eq(&alone.plan_for(0, 1), &alone.plan));
            assert!(Arc::ptr_eq(&large.plan_for(0, 2), &large.plan));
        }
    }
}
