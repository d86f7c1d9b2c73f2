//! Registering pipelines, and whether they can be carried out here.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use taskiq_flow_core::definition::{Pipeline, TaskKind};
use taskiq_flow_core::id::PipelineId;
use taskiq_flow_core::plan::Plan;
use taskiq_flow_core::run::{Event, EventView, Fact};
use taskiq_flow_store::Origin;

use crate::catalog::{Registered, Registration};
use crate::error::{RegisterError, SubmitError};
use crate::handle::Engine;

/// How deep pipelines may run each other.
const MAX_NESTING: usize = 32;

impl Engine {
    /// Registers a pipeline, or a new version of it. The same definition again changes nothing. The flag says
    /// whether this is a new version.
    ///
    /// # Errors
    /// [`RegisterError`]; nothing has changed then, unless the store failed half-way: the same call again then completes it.
    pub async fn register(
        &self,
        pipeline: Pipeline,
        origin: Origin,
    ) -> Result<(Arc<Registered>, bool), RegisterError> {
        let _registering = self.0.catalog.registering.lock().await;
        self.register_alone(pipeline, origin).await
    }

    /// Registers a pipeline under an id that is free.
    ///
    /// # Errors
    /// [`RegisterError::Exists`] when it is not.
    pub async fn create(&self, pipeline: Pipeline, origin: Origin) -> Result<Arc<Registered>, RegisterError> {
        let _registering = self.0.catalog.registering.lock().await;
        if self.pipeline(&pipeline.id).is_some() {
            return Err(RegisterError::Exists(pipeline.id.clone()));
        }
        Ok(self.register_alone(pipeline, origin).await?.0)
    }

    /// Removes a pipeline that was registered over the API, with its schedules. Its runs stay.
    ///
    /// # Errors
    /// [`RegisterError::Unknown`], [`RegisterError::ReadOnly`].
    pub async fn unregister(&self, id: &PipelineId) -> Result<(), RegisterError> {
        let _registering = self.0.catalog.registering.lock().await;
        self.0.catalog.remove(self.0.store.as_ref(), id).await?;
        self.drop_schedules_of(id).await?;
        Ok(())
    }

    /// The caller holds `registering`.
    async fn register_alone(
        &self,
        pipeline: Pipeline,
        origin: Origin,
    ) -> Result<(Arc<Registered>, bool), RegisterError> {
        if origin == Origin::Api
            && let Some(current) = self.pipeline(&pipeline.id)
            && current.origin == Origin::Program
        {
            return Err(RegisterError::ReadOnly(pipeline.id.clone()));
        }
        let plan = Arc::new(Plan::new(Arc::new(pipeline)).map_err(RegisterError::Wiring)?);
        crate::schedule::check_specs(&plan, self.0.clock.now())?;
        self.0.outbox.check(plan.pipeline())?;
        if origin == Origin::Api {
            self.check_schedule_ids(plan.pipeline())?;
            self.check_own_schedules(plan.pipeline())?;
        }
        let inner = &self.0;
        let registration =
            inner.catalog.register(inner.store.as_ref(), plan, origin, inner.clock.now()).await?;
        let Registration { registered, before, earlier, new } = registration;
        let earlier = earlier.as_ref().map(|(plan, until)| (&**plan.pipeline(), *until));
        let before = before.as_deref().map(|before| &**before.pipeline());
        self.adopt_schedules(&registered, before, earlier).await?;
        if new {
            self.publish_definition(&registered);
        }
        Ok((registered, new))
    }

    fn publish_definition(&self, registered: &Registered) {
        let dag = registered.plan.dag();
        let fact = Fact::DagUpdated {
            version: registered.version,
            node_count: u32::try_from(dag.nodes().len()).unwrap_or(u32::MAX),
            edge_count: u32::try_from(dag.edges().len()).unwrap_or(u32::MAX),
        };
        let event = Event { seq: u64::from(registered.version), timestamp: self.0.clock.now(), fact };
        let pipeline_id = registered.id().clone();
        self.0.hub.publish(EventView::of_pipeline(pipeline_id, event));
    }

    /// Whether every task of a pipeline can be carried out here.
    ///
    /// # Errors
    /// [`SubmitError::NotRunnable`] names the task and says what is missing.
    pub fn check_runnable(&self, registered: &Registered) -> Result<(), SubmitError> {
        // Read before the look, so that what changes meanwhile has it looked at again.
        let state = self.0.catalog.state(self.0.broker.registry());
        if registered.runnable_in.load(Ordering::Relaxed) != state {
            self.check_runnable_within(registered, &mut Vec::new(), &mut HashSet::new())?;
            registered.runnable_in.store(state, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Each pipeline is looked at once, however many tasks run it: else a few that run each other several times would
    /// keep this busy for ever.
    fn check_runnable_within(
        &self,
        registered: &Registered,
        callers: &mut Vec<PipelineId>,
        sound: &mut HashSet<PipelineId>,
    ) -> Result<(), SubmitError> {
        callers.push(registered.id().clone());
        for step in registered.plan.steps() {
            if let Some(lacking) = self.0.machine.lacks(&step.task.resources) {
                return Err(cannot_run(registered, &step.name, &lacking));
            }
            let mut bodies: Vec<_> = step.task.bodies().collect();
            while let Some(body) = bodies.pop() {
                bodies.extend(body.kind.inner());
                let missing = match &body.kind {
                    TaskKind::Pipeline(id) if sound.contains(id) => None,
                    TaskKind::Pipeline(id) => match self.pipeline(id) {
                        Some(_) if callers.contains(id) => {
                            let path: Vec<_> = callers.iter().chain([id]).map(ToString::to_string).collect();
                            Some(format!("the pipelines call each other in a circle: {}", path.join(" -> ")))
                        }
                        Some(_) if callers.len() > MAX_NESTING => {
                            Some(format!("more than {MAX_NESTING} pipelines are nested in each other"))
                        }
                        Some(inner) => {
                            self.check_runnable_within(&inner, callers, sound)?;
                            None
                        }
                        None => Some(format!("there is no pipeline `{id}`")),
                    },
                    kind => self.missing_for(kind),
                };
                if let Some(missing) = missing {
                    return Err(cannot_run(registered, &step.name, &missing));
                }
            }
        }
        callers.pop();
        sound.insert(registered.id().clone());
        Ok(())
    }

    /// What is missing for a task of this kind.
    fn missing_for(&self, kind: &TaskKind) -> Option<String> {
        let broker = &self.0.broker;
        match kind {
            TaskKind::Taskiq(spec) if !broker.reaches_taskiq() => Some(format!(
                "`{}` is run by Python taskiq workers, and the broker in use (`broker_url`) does not reach any",
                spec.task
            )),
            TaskKind::Task(name) if !broker.registry().contains(name) => {
                Some(format!("no Rust task `{name}` is registered in this program"))
            }
            _ => None,
        }
    }
}

fn cannot_run(registered: &Registered, task: &str, why: &str) -> SubmitError {
    let pipeline = registered.id();
    SubmitError::NotRunnable(format!("task `{task}` of pipeline `{pipeline}` cannot run here: {why}"))
}
