//! What callers ask of a running engine: runs, and control of them.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use taskiq_flow_core::definition::TaskKind;
use taskiq_flow_core::id::{PipelineId, RunId};
use taskiq_flow_core::run::{Input, ItemFilter, ItemPage, RunView};
use taskiq_flow_store::{Firing, RunRecord, StoreError, Trigger};
use tokio::sync::oneshot;

use crate::admission::Limit;
use crate::catalog::{Registered, any_kind};
use crate::ending::Ending;
use crate::error::{ControlError, SubmitError};
use crate::handle::Engine;
use crate::hub::{Watched, Watcher};
use crate::inbox::{Message, NewRun, Occasion, Waiter};
use crate::submission::{Submission, Submitted};

/// What a new run has beside what was asked for.
#[derive(Debug, Default)]
pub(crate) struct Beside {
    /// Values of steps, by index, that need not be made again.
    pub(crate) reuse: Vec<(u32, Arc<Value>)>,
    /// The dead letter, by run and step run, that it replays.
    pub(crate) replays: Option<(RunId, u32)>,
    /// The time of a schedule that starts it.
    pub(crate) firing: Option<Box<Firing>>,
    /// Who is told of its end.
    pub(crate) waiter: Option<Waiter>,
}

impl Engine {
    /// Asks for a run. After return the run is in the store and will be carried out, come what may.
    ///
    /// # Errors
    /// [`SubmitError`]; nothing has been started then.
    pub async fn submit(&self, submission: Submission) -> Result<Submitted, SubmitError> {
        self.submit_within(submission, None).await
    }

    /// As [`Engine::submit`], unless as many runs of the pipeline are unfinished as `most` allows, this one counted.
    /// Runs that steps of other runs started are not counted.
    ///
    /// # Errors
    /// [`SubmitError`]; nothing has been started then.
    pub async fn submit_within(
        &self,
        submission: Submission,
        most: Option<usize>,
    ) -> Result<Submitted, SubmitError> {
        self.submit_with(submission, most, Beside::default()).await
    }

    /// As [`Engine::submit_within`], for who wants to know how it ends: the end is told by who drives the run, however
    /// soon it comes. [`Engine::wait`] has to read the log of a run that has ended when it is asked.
    ///
    /// # Errors
    /// [`SubmitError`]; nothing has been started then.
    pub async fn submit_to_end(
        &self,
        submission: Submission,
        most: Option<usize>,
    ) -> Result<(Submitted, Ending), SubmitError> {
        let (told, end) = oneshot::channel();
        let beside = Beside { waiter: Some(told), ..Beside::default() };
        let submitted = self.submit_with(submission, most, beside).await?;
        let ending = Ending::new(Arc::downgrade(&self.0), submitted.run_id, Some(end));
        Ok((submitted, ending))
    }

    /// The end of a run that was asked for before.
    pub fn ending(&self, run_id: RunId) -> Ending {
        Ending::new(Arc::downgrade(&self.0), run_id, None)
    }

    /// The run of an earlier request with that idempotency key: asking for it again starts nothing.
    ///
    /// # Errors
    /// Failures of the store.
    pub async fn submitted(
        &self,
        pipeline: &PipelineId,
        idempotency_key: &str,
    ) -> Result<Option<Submitted>, StoreError> {
        let found = self.0.store.run_by_key(pipeline, idempotency_key).await?;
        Ok(found.map(|run| Submitted { run_id: run.run_id, status: run.summary.status, created: false }))
    }

    /// As [`Engine::submit_within`], for a time of a schedule, which has one run whatever happens: the firing is kept
    /// with the run, or neither is.
    pub(crate) async fn submit_firing(
        &self,
        submission: Submission,
        firing: Firing,
        most: Option<usize>,
    ) -> Result<Submitted, SubmitError> {
        let beside = Beside { firing: Some(Box::new(firing)), ..Beside::default() };
        self.submit_with(submission, most, beside).await
    }

    pub(crate) async fn submit_with(
        &self,
        submission: Submission,
        most: Option<usize>,
        beside: Beside,
    ) -> Result<Submitted, SubmitError> {
        let unknown = || SubmitError::UnknownPipeline(submission.pipeline_id.clone());
        let registered = self.pipeline(&submission.pipeline_id).ok_or_else(unknown)?;
        self.submit_to(&registered, submission, most, beside).await
    }

    /// What would stand against a run if one of the unfinished ones of its pipeline had ended, as far as that can be known
    /// before it is asked for.
    pub(crate) fn check_submission(
        &self,
        submission: &Submission,
        most: Option<usize>,
    ) -> Result<(), SubmitError> {
        let pipeline = &submission.pipeline_id;
        let registered =
            self.pipeline(pipeline).ok_or_else(|| SubmitError::UnknownPipeline(pipeline.clone()))?;
        let parameters = registered.plan.check_parameters(submission.parameters.clone());
        let parameters = parameters.map_err(SubmitError::Parameters)?;
        Limit::of(&registered.plan, &parameters).map_err(|error| SubmitError::Parameters(vec![error]))?;
        self.check_runnable(&registered)?;
        match most.filter(|most| self.0.open.count(pipeline) > *most) {
            Some(most) => Err(SubmitError::TooManyOpen { pipeline: pipeline.clone(), most }),
            None => Ok(()),
        }
    }

    /// As [`Engine::submit_with`], of that version of the pipeline.
    pub(crate) async fn submit_to(
        &self,
        registered: &Registered,
        submission: Submission,
        most: Option<usize>,
        beside: Beside,
    ) -> Result<Submitted, SubmitError> {
        let Submission { pipeline_id, parameters, idempotency_key, priority, trigger } = submission;
        let Beside { reuse, replays, firing, waiter } = beside;
        let parameters = registered.plan.check_parameters(parameters).map_err(SubmitError::Parameters)?;
        let limits =
            Limit::of(&registered.plan, &parameters).map_err(|error| SubmitError::Parameters(vec![error]))?;
        self.check_runnable(registered)?;
        let open = match (&trigger, most) {
            (Trigger::Step { .. }, _) => None,
            (_, most) => Some(self.0.open.enter(&pipeline_id, most).ok_or_else(|| {
                SubmitError::TooManyOpen { pipeline: pipeline_id.clone(), most: most.unwrap_or_default() }
            })?),
        };
        let (run_id, version, now) = (self.0.shards.new_run(), registered.version, self.0.clock.now());
        let plan = self.0.shards.plan_for(run_id, registered);
        let record = RunRecord::queued(run_id, pipeline_id, version, parameters, trigger, now);
        let record = RunRecord { idempotency_key, priority, reuse, ..record };
        let (reply, answer) = oneshot::channel();
        let occasion = Occasion { firing, replays };
        let new = NewRun { record, occasion, open, limits, plan, waiter, reply };
        self.send(run_id, Message::Submit(Box::new(new))).await.map_err(|()| SubmitError::ShuttingDown)?;
        answer.await.map_err(|_| SubmitError::ShuttingDown)?
    }

    /// Waits for a run to end, at most `timeout`. None: it has not ended by then.
    ///
    /// # Errors
    /// [`ControlError::UnknownRun`] and failures of the store.
    pub async fn wait(&self, run_id: RunId, timeout: Duration) -> Result<Option<RunView>, ControlError> {
        self.ending(run_id).wait(timeout).await
    }

    /// A run as it is now.
    ///
    /// # Errors
    /// [`ControlError::UnknownRun`] and failures of the store.
    pub async fn run(&self, run_id: RunId) -> Result<RunView, ControlError> {
        let (reply, answer) = oneshot::channel();
        self.send(run_id, Message::View { run_id, reply }).await.map_err(|()| ControlError::ShuttingDown)?;
        match answer.await {
            Ok(Some(view)) => Ok(*view),
            Ok(None) => Ok(self.replay(run_id).await?.view()),
            Err(_) => Err(ControlError::ShuttingDown),
        }
    }

    /// A page of the items of a step, which may itself be an item such as `rows[3]`.
    ///
    /// # Errors
    /// [`ControlError::UnknownRun`], [`ControlError::UnknownStep`] and failures of the store.
    pub async fn items(
        &self,
        run_id: RunId,
        step: &str,
        filter: ItemFilter,
    ) -> Result<ItemPage, ControlError> {
        let (reply, answer) = oneshot::channel();
        let message = Message::Items { run_id, step: step.to_owned(), filter, reply };
        self.send(run_id, message).await.map_err(|()| ControlError::ShuttingDown)?;
        let page = match answer.await.map_err(|_| ControlError::ShuttingDown)? {
            Some(page) => page,
            None => self.replay(run_id).await?.items(step, filter),
        };
        page.ok_or_else(|| ControlError::UnknownStep(step.to_owned()))
    }

    /// The stored record of a run: its pipeline, parameters, trigger and summary.
    ///
    /// # Errors
    /// [`ControlError::UnknownRun`] and failures of the store.
    pub async fn record(&self, run_id: RunId) -> Result<RunRecord, ControlError> {
        self.0.store.run(run_id).await?.ok_or(ControlError::UnknownRun(run_id))
    }

    /// Stops a run. After return it is cancelled, or undoes its steps first (`compensate_on_cancel`; asking again stops
    /// that), and its attempts have been told to stop.
    ///
    /// # Errors
    /// [`ControlError::Illegal`] when it has ended already.
    pub async fn cancel(&self, run_id: RunId, reason: &str) -> Result<(), ControlError> {
        self.input(run_id, Input::Cancel { reason: reason.into() }, "be cancelled").await
    }

    /// As [`Engine::cancel`], for a run whose place another takes: one that undoes its steps is left to that.
    pub(crate) async fn supersede(&self, run_id: RunId, reason: &str) -> Result<(), ControlError> {
        self.input(run_id, Input::Supersede { reason: reason.into() }, "make way").await
    }

    /// Keeps a run from starting anything new. What is under way goes on.
    ///
    /// # Errors
    /// [`ControlError::Illegal`] when it is not running.
    pub async fn pause(&self, run_id: RunId) -> Result<(), ControlError> {
        self.input(run_id, Input::Pause, "be paused").await
    }

    /// Lets a paused run go on.
    ///
    /// # Errors
    /// [`ControlError::Illegal`] when it is not paused.
    pub async fn resume(&self, run_id: RunId) -> Result<(), ControlError> {
        self.input(run_id, Input::Resume, "be resumed").await
    }

    /// Sends a signal, in the name of the principal `by`. A step that waits for it takes it; one that comes to wait later takes it then.
    ///
    /// # Errors
    /// [`ControlError::UnknownSignal`] when no step of the pipeline waits for that name,
    /// [`ControlError::TooManySignals`] when as many as may be wait for their steps, [`ControlError::Illegal`] when the run has ended.
    pub async fn signal(
        &self,
        run_id: RunId,
        name: &str,
        value: Value,
        by: Option<&str>,
    ) -> Result<(), ControlError> {
        let record = self.record(run_id).await?;
        let plan = self.plan_of(&record).await?;
        let waits = |kind: &TaskKind| kind.awaited_signal() == Some(name);
        if !any_kind(&plan, &waits) {
            return Err(ControlError::UnknownSignal(name.to_owned()));
        }
        let input = Input::Signal { name: name.into(), value: Arc::new(value), by: by.map(Into::into) };
        self.input(run_id, input, "take a signal").await
    }

    /// The pipeline of that id.
    pub fn pipeline(&self, id: &PipelineId) -> Option<Arc<Registered>> {
        self.0.catalog.get(id)
    }

    /// All pipelines, by id.
    pub fn pipelines(&self) -> Vec<Arc<Registered>> {
        self.0.catalog.all()
    }

    /// Watches the events of pipelines from now on.
    pub fn watch(&self, watched: impl Into<Watched>) -> Watcher {
        self.0.hub.watch(watched.into())
    }

    /// Whether the engine can take work: the store answers, all its drivers of runs are there and none is held up by a Rust
    /// task that blocks its thread, and it is not shutting down.
    ///
    /// # Errors
    /// What stands against it.
    pub async fn ready(&self) -> Result<(), String> {
        if self.0.stop.is_cancelled() {
            return Err("shutting down".to_owned());
        }
        if let Some(lost) = self.0.shards.lost() {
            let count = self.0.options.shards.max(1);
            return Err(format!(
                "driver {lost} of {count} has failed: its runs stand still until the next start"
            ));
        }
        if let Some((driver, held)) = self.0.shards.held.too_long() {
            let count = self.0.options.shards.max(1);
            return Err(format!(
                "driver {driver} of {count} has been held up for {} s by a Rust task that does not let go of its thread: its \
                 runs stand still until it does; have what blocks run in `tokio::task::spawn_blocking`",
                held.as_secs()
            ));
        }
        self.0.store.check().await.map_err(|error| error.to_string())
    }

    /// Attempts under way in this process.
    pub fn attempts_under_way(&self) -> usize {
        self.0.inflight.len()
    }

    pub(crate) async fn send(&self, run_id: RunId, message: Message) -> Result<(), ()> {
        self.0.shards.send(run_id, message).await
    }

    async fn input(&self, run_id: RunId, input: Input, action: &'static str) -> Result<(), ControlError> {
        let (reply, answer) = oneshot::channel();
        let message = Message::Control { run_id, input, action, reply };
        self.send(run_id, message).await.map_err(|()| ControlError::ShuttingDown)?;
        match answer.await {
            Ok(Some(answer)) => answer,
            Ok(None) => {
                let status = self.record(run_id).await?.summary.status;
                Err(ControlError::Illegal { status, action })
            }
            Err(_) => Err(ControlError::ShuttingDown),
        }
    }
}
