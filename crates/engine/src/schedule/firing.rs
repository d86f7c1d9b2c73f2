//! Firing: at its time, once, and only if the gate agrees.

use std::sync::{Arc, Weak};
use std::time::Duration;

use taskiq_flow_core::calendar::Due;
use taskiq_flow_core::definition::Overlap;
use taskiq_flow_core::id::RunId;
use taskiq_flow_core::time::Timestamp;
use taskiq_flow_store::{Firing, FiringFilter, FiringOutcome, ScheduleRecord, StoreError, Trigger};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::book::LastRun;
use crate::ending::ended;
use crate::error::{ControlError, StartError, SubmitError};
use crate::failpoint;
use crate::handle::{Engine, Inner};
use crate::submission::Submission;

/// First and longest pause before a firing is tried again for which there was no room, or no answer of the store.
const TRY_AGAIN: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(5));

/// Firings that are looked through at once for the last run.
const LOOK_THROUGH: usize = 100;

/// Longest sleep, so that a clock that is set does no lasting harm.
const LONGEST_SLEEP: Duration = Duration::from_secs(3600);

/// Takes up the stored schedules and starts firing.
pub(crate) async fn spawn(engine: &Engine) -> Result<(), StartError> {
    for record in engine.0.store.schedules().await? {
        let mut book = engine.0.scheduler.book.lock();
        if engine.pipeline(&record.pipeline_id).is_some() && book.get(&record.id).is_none() {
            let id = record.id.clone();
            if let Err(error) = book.put(record) {
                tracing::error!(schedule = %id, %error, "a stored schedule cannot be followed; it does not fire");
            }
        }
    }
    let (weak, stop) = (Arc::downgrade(&engine.0), engine.0.stop.clone());
    let stopped = engine.0.scheduler.stopped.clone();
    engine.0.tasks.spawn(async move {
        loop {
            let Some(engine) = weak.upgrade().map(Engine) else { return };
            if stopped.is_cancelled() {
                return;
            }
            let now = engine.0.clock.now();
            let due = engine.0.scheduler.book.lock().take_due(now);
            for id in due {
                engine.0.tasks.spawn(Turn::new(&engine, id).run());
            }
            let next = engine.0.scheduler.book.lock().next_start();
            let sleep = next.map_or(LONGEST_SLEEP, |start| start.since(now).min(LONGEST_SLEEP));
            let changed = Arc::clone(&engine.0.scheduler.changed);
            // A handle held while asleep would keep an engine alive that everybody else has let go.
            drop(engine);
            tokio::select! {
                () = changed.notified() => {}
                () = tokio::time::sleep(sleep) => {}
                () = stop.cancelled() => return,
                () = stopped.cancelled() => return,
            }
        }
    });
    Ok(())
}

/// A schedule that fires, until none of its times is left that has come. Dropped, it may fire again.
struct Turn {
    engine: Weak<Inner>,
    id: String,
    /// A time that could not be carried out at once.
    in_hand: Option<InHand>,
    edited: watch::Receiver<()>,
    stop: CancellationToken,
    stopped: CancellationToken,
}

/// A time that the gate has let through and that waits.
struct InHand {
    due: Timestamp,
    /// What the gate said, so that it is not asked, and the firing not counted, again.
    most: Option<usize>,
    /// The run before has been told to make way for it: it is carried out however long that takes.
    promised: bool,
}

/// Whether the run before keeps the next one from starting.
enum Way {
    /// It does not.
    Clear,
    /// That run has not ended.
    Barred(RunId),
    /// The time has had its run already.
    Done,
}

/// What is to be done next about a schedule that fires.
enum Next {
    /// Look for the next of its times that has come.
    Time,
    /// Try again after a pause.
    Again,
    /// Wait until that run has ended.
    After(RunId),
    /// None of its times is left that has come.
    Rest,
}

impl Turn {
    fn new(engine: &Engine, id: String) -> Self {
        let Inner { stop, scheduler, .. } = &*engine.0;
        Self {
            engine: Arc::downgrade(&engine.0),
            id,
            in_hand: None,
            edited: scheduler.edited.subscribe(),
            stop: stop.clone(),
            stopped: scheduler.stopped.clone(),
        }
    }

    async fn run(mut self) {
        let mut pause = TRY_AGAIN.0;
        while !self.stop.is_cancelled() && !self.stopped.is_cancelled() {
            self.edited.mark_unchanged();
            let Some(engine) = self.engine.upgrade().map(Engine) else { return };
            let next = engine.fire_next(&self.id, &mut self.in_hand).await;
            drop(engine);
            match next {
                Next::Time => pause = TRY_AGAIN.0,
                Next::Again => {
                    self.unless_stopped(tokio::time::sleep(pause)).await;
                    pause = (pause * 2).min(TRY_AGAIN.1);
                }
                Next::After(run_id) => {
                    let (engine, mut edited) = (self.engine.clone(), self.edited.clone());
                    let waited = async {
                        tokio::select! {
                            view = ended(engine, run_id) => view.is_ok(),
                            edit = edited.changed() => edit.is_ok(),
                        }
                    };
                    // An end that cannot be waited for, say because the store is away, is looked for again.
                    if self.unless_stopped(waited).await == Some(false) {
                        self.unless_stopped(tokio::time::sleep(TRY_AGAIN.0)).await;
                    }
                }
                Next::Rest => return,
            }
        }
    }

    async fn unless_stopped<T>(&self, future: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            value = future => Some(value),
            () = self.stop.cancelled() => None,
            () = self.stopped.cancelled() => None,
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some(engine) = self.engine.upgrade() {
            engine.scheduler.book.lock().release(&self.id);
            engine.scheduler.changed.notify_one();
        }
    }
}

impl Engine {
    /// Does the next thing about a schedule whose time has come.
    async fn fire_next(&self, id: &str, in_hand: &mut Option<InHand>) -> Next {
        let now = self.0.clock.now();
        let Some((record, due)) = self.0.scheduler.book.lock().due(id, now) else { return Next::Rest };
        let promised = in_hand.as_ref().filter(|time| time.promised).map(|time| time.due);
        match due {
            Due { fire: None, .. } if promised.is_some() && promised == record.next_fire_at => {
                self.fire(&record, promised.unwrap_or(now), in_hand).await
            }
            Due { left_out: Some((first, last)), .. } => {
                self.leave_out(&record, first, last).await;
                Next::Time
            }
            Due { fire: Some(due), .. } => self.fire(&record, due, in_hand).await,
            Due { .. } => Next::Rest,
        }
    }

    async fn leave_out(&self, record: &ScheduleRecord, first: Timestamp, last: Timestamp) {
        let reason = match first == last {
            true => format!("its time {first} had passed"),
            false => format!("its times from {first} to {last} had passed"),
        };
        tracing::warn!(schedule = %record.id, reason, "schedule left out what it could not start in time");
        self.tell_skip(record, &reason);
        self.note_firing(record, last, FiringOutcome::Missed, &reason).await;
        self.settle(record, last, None).await;
    }

    async fn fire(&self, record: &ScheduleRecord, due: Timestamp, in_hand: &mut Option<InHand>) -> Next {
        let before = match self.way(record, due).await {
            Ok(Way::Clear) => None,
            Ok(Way::Done) => {
                self.settle(record, due, Some(due)).await;
                return Next::Time;
            }
            Ok(Way::Barred(run_id)) if record.rules.overlap == Overlap::CancelPrevious => Some(run_id),
            Ok(Way::Barred(run_id)) if record.rules.overlap == Overlap::Queue => return Next::After(run_id),
            Ok(Way::Barred(run_id)) => {
                let reason = format!("its run before, {run_id}, has not ended");
                tracing::info!(schedule = %record.id, %due, reason, "schedule skipped a firing");
                self.tell_skip(record, &reason);
                self.note_firing(record, due, FiringOutcome::Skipped, &reason).await;
                self.settle(record, due, None).await;
                return Next::Time;
            }
            Err(error) => {
                tracing::warn!(schedule = %record.id, %due, %error, "schedule cannot see to its run before; trying again");
                return Next::Again;
            }
        };
        let most = match self.ask_gate(record, due, in_hand).await {
            Ok(most) => most,
            Err(reason) => {
                self.skip_firing(record, due, &reason).await;
                self.settle(record, due, None).await;
                return Next::Time;
            }
        };
        let submission = submission_of(record, due);
        let mut submitted = Ok(());
        if let Some(run_id) = before {
            // Not before the new run is known to be possible: the one before would be lost for nothing.
            submitted = self.check_submission(&submission, most);
            if submitted.is_ok() {
                *in_hand = Some(InHand { due, most, promised: true });
                match self.has_made_way(record, run_id).await {
                    Ok(true) => {}
                    Ok(false) => return Next::After(run_id),
                    Err(error) => {
                        tracing::warn!(schedule = %record.id, %due, %error, "schedule cannot cancel its run before; trying again");
                        return Next::Again;
                    }
                }
            }
        }
        let submitted = match submitted {
            Ok(()) => self.submit_firing(submission, self.started_for(record, due), most).await,
            Err(error) => Err(error),
        };
        let mut fired = Some(due);
        match submitted {
            Ok(submitted) => {
                tracing::info!(schedule = %record.id, run_id = %submitted.run_id, %due, "schedule fired");
                self.0.scheduler.book.lock().set_last_run(&record.id, Some((due, submitted.run_id)));
            }
            // A crash came between the run and the note of it.
            Err(SubmitError::Fired { .. }) => {}
            // It is made up for after the next start.
            Err(SubmitError::ShuttingDown) => return Next::Again,
            Err(error) if may_pass(&error) => {
                tracing::warn!(schedule = %record.id, %due, %error, "schedule cannot start its run now; trying again");
                return Next::Again;
            }
            Err(error @ SubmitError::TooManyOpen { .. }) => {
                self.skip_firing(record, due, &error.to_string()).await;
                fired = None;
            }
            Err(error) => {
                let reason = error.to_string();
                tracing::error!(schedule = %record.id, %due, reason, "schedule could not start its run");
                self.tell_skip(record, &reason);
                self.note_firing(record, due, FiringOutcome::Failed, &reason).await;
                fired = None;
            }
        }
        failpoint::pass("firing-before-note");
        self.settle(record, due, fired).await;
        failpoint::pass("firing-after-note");
        Next::Time
    }

    /// Whether the run before keeps this one from starting.
    async fn way(&self, record: &ScheduleRecord, due: Timestamp) -> Result<Way, StoreError> {
        if record.rules.overlap == Overlap::Allow {
            return Ok(Way::Clear);
        }
        let Some((time, run_id)) = self.last_run_of(record).await? else { return Ok(Way::Clear) };
        if time == due {
            // A crash came between the run and the note of it.
            return Ok(Way::Done);
        }
        let run = self.0.store.run(run_id).await?;
        let ended = run.is_none_or(|run| run.summary.status.is_terminal());
        Ok(if ended { Way::Clear } else { Way::Barred(run_id) })
    }

    /// Cancels the run before; whether it has ended. One that undoes its steps goes on with that.
    async fn has_made_way(&self, record: &ScheduleRecord, run_id: RunId) -> Result<bool, StoreError> {
        let reason = format!("the next time of schedule `{}` has come", record.id);
        match self.supersede(run_id, &reason).await {
            // It may have ended meanwhile.
            Ok(()) | Err(ControlError::Illegal { .. } | ControlError::UnknownRun(_)) => {}
            Err(ControlError::Store(error)) => return Err(error),
            Err(_) => return Err(StoreError::Closed),
        }
        let run = self.0.store.run(run_id).await?;
        Ok(run.is_none_or(|run| run.summary.status.is_terminal()))
    }

    /// The run that a schedule started last, at one of its times or because somebody asked.
    async fn last_run_of(&self, record: &ScheduleRecord) -> Result<LastRun, StoreError> {
        if let Some(last) = self.0.scheduler.book.lock().last_run(&record.id) {
            return Ok(last);
        }
        let mut filter = FiringFilter {
            schedule: Some(record.id.clone()),
            limit: LOOK_THROUGH,
            ..FiringFilter::default()
        };
        let last = loop {
            let firings = self.0.store.firings(filter.clone()).await?;
            let mut runs = firings.iter().filter(|firing| !firing.backfill);
            if let Some(last) = runs.find_map(|firing| Some((firing.due, firing.run_id?))) {
                break Some(last);
            }
            match firings.last() {
                Some(firing) if firings.len() == LOOK_THROUGH => filter.before = Some(firing.place),
                // So many times were made up for afterwards that the last one of its own is not kept any more.
                _ => break self.run_of_last_time(record).await?,
            }
        };
        self.0.scheduler.book.lock().set_last_run(&record.id, last);
        Ok(last)
    }

    async fn run_of_last_time(&self, record: &ScheduleRecord) -> Result<LastRun, StoreError> {
        let Some(time) = record.last_fire_at else { return Ok(None) };
        let run = self.0.store.run_by_key(&record.pipeline_id, &key_of(&record.id, time)).await?;
        Ok(run.map(|run| (time, run.run_id)))
    }

    /// How many unfinished runs there may be with the one that the firing starts.
    async fn ask_gate(
        &self,
        record: &ScheduleRecord,
        due: Timestamp,
        in_hand: &mut Option<InHand>,
    ) -> Result<Option<usize>, String> {
        if let Some(InHand { most, .. }) = in_hand.as_ref().filter(|time| time.due == due) {
            return Ok(*most);
        }
        let most = match &self.0.options.firing_gate {
            Some(gate) => gate.admit(&record.pipeline_id).await?,
            None => None,
        };
        *in_hand = Some(InHand { due, most, promised: false });
        Ok(most)
    }

    async fn skip_firing(&self, record: &ScheduleRecord, due: Timestamp, reason: &str) {
        tracing::warn!(schedule = %record.id, reason, "schedule skipped a firing");
        if let Some(gate) = &self.0.options.firing_gate {
            gate.skipped(&record.pipeline_id, &record.id, reason);
        }
        self.tell_skip(record, reason);
        self.note_firing(record, due, FiringOutcome::Skipped, reason).await;
    }

    fn tell_skip(&self, record: &ScheduleRecord, reason: &str) {
        let reason = format!("schedule `{}` did not start a run: {reason}", record.id);
        self.0.hub.publish_skip(record.pipeline_id.clone(), self.0.clock.now(), &reason);
    }

    /// A firing that starts a run, to be kept with it.
    pub(super) fn started_for(&self, record: &ScheduleRecord, due: Timestamp) -> Firing {
        Firing {
            place: 0,
            schedule: record.id.clone(),
            due,
            at: self.0.clock.now(),
            outcome: FiringOutcome::Started,
            run_id: None,
            reason: None,
            backfill: false,
        }
    }

    /// Keeps that a time started no run, and why.
    async fn note_firing(
        &self,
        record: &ScheduleRecord,
        due: Timestamp,
        outcome: FiringOutcome,
        reason: &str,
    ) {
        let reason = Some(reason.to_owned());
        let firing = Firing { outcome, reason, ..self.started_for(record, due) };
        if let Err(error) = self.0.store.note_firing(firing).await {
            tracing::error!(schedule = %record.id, %due, %error, "the history of the schedule lacks a time that started no run");
        }
    }

    /// Notes, at the schedule as it is now, that its times up to `upto` are dealt with: it may have been changed or
    /// removed since they came. `fired`: at which of them it fired.
    async fn settle(&self, seen: &ScheduleRecord, upto: Timestamp, fired: Option<Timestamp>) {
        let _changing = self.0.scheduler.changing.lock().await;
        let (mut record, calendar) = {
            let book = self.0.scheduler.book.lock();
            let Some(record) = book.get(&seen.id).filter(|record| record.created_at == seen.created_at)
            else {
                return;
            };
            let Some(calendar) = book.calendar(&seen.id) else { return };
            (record.clone(), calendar)
        };
        record.last_fire_at = fired.or(record.last_fire_at);
        if record.next_fire_at.is_some_and(|next| next <= upto) {
            record.next_fire_at = calendar.after(upto);
        }
        if let Err(error) = self.0.store.put_schedule(record.clone()).await {
            tracing::error!(schedule = %record.id, %error, "how far the schedule is could not be noted; it is found out at the next start");
        }
        // Its times are those of before, which were possible.
        let _ = self.0.scheduler.book.lock().put(record);
    }
}

/// What asks for the run of a time.
pub(super) fn submission_of(record: &ScheduleRecord, due: Timestamp) -> Submission {
    Submission {
        pipeline_id: record.pipeline_id.clone(),
        parameters: record.parameters.clone(),
        // The firing that is kept with the run makes it the only one as long as the firing is kept; the key does so as
        // long as the run is.
        idempotency_key: Some(key_of(&record.id, due)),
        priority: None,
        trigger: Trigger::Schedule { id: record.id.clone(), fire_at: due },
    }
}

/// Under which the run of a time is kept.
pub(super) fn key_of(schedule: &str, time: Timestamp) -> String {
    format!("schedule:{schedule}:{time}")
}

/// Whether the same request may be accepted later with nothing changed but the load or the store.
fn may_pass(error: &SubmitError) -> bool {
    match error {
        SubmitError::Busy => true,
        SubmitError::Store(error) => error.may_pass(),
        _ => false,
    }
}
