//! Ending: what a value or a failure of a step run means for its composite and for the run.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value};

use super::{Turn, millis};
use crate::definition::{OnError, OnItemError, Style, TaskKind};
use crate::plan::Source;
use crate::run::error::IllegalEvent;
use crate::run::event::Fact;
use crate::run::status::StepStatus;
use crate::run::work::{Failure, FailureKind};

impl Turn<'_> {
    /// A task with several outputs must return an object that has them all.
    pub(super) fn missing_output(&self, id: u32, value: &Value) -> Option<Failure> {
        if !self.run.has_parts(id) {
            return None;
        }
        let missing = self.run.task(id).outputs.iter().find(|output| value.get(output.as_str()).is_none())?;
        let message = format!("its value has no `{missing}`: it must be an object with every output");
        Some(Failure::permanent(message).code("output"))
    }

    pub(super) fn complete(
        &mut self,
        id: u32,
        value: Arc<Value>,
        duration: Duration,
    ) -> Result<(), IllegalEvent> {
        let attempt = self.run.units[id as usize].attempt;
        let step = self.run.step_ref(id);
        let duration_ms = millis(duration);
        self.record(Fact::StepComplete { step, attempt, duration_ms, result: value, cached: false })?;
        self.complete_composites(self.run.units[id as usize].parent)
    }

    /// Completes a composite whose items are all done, and then the one around it.
    pub(super) fn complete_composites(&mut self, mut composite: Option<u32>) -> Result<(), IllegalEvent> {
        while let Some(id) = composite {
            let unit = &self.run.units[id as usize];
            let done = unit.items.as_ref().is_some_and(|items| items.done == items.count);
            if !done || unit.status != StepStatus::Running {
                break;
            }
            let (attempt, parent) = (unit.attempt, unit.parent);
            let duration_ms = millis(self.now.since(unit.started_at.unwrap_or(self.now)));
            let result = Arc::new(self.assemble(id));
            if let Some(failure) = self.missing_output(id, &result) {
                return self.fail(id, &failure, Duration::from_millis(duration_ms));
            }
            let step = self.run.step_ref(id);
            self.record(Fact::StepComplete { step, attempt, duration_ms, result, cached: false })?;
            composite = parent;
        }
        Ok(())
    }

    /// The value of a composite out of those of its items.
    pub(super) fn assemble(&self, id: u32) -> Value {
        let Some(items) = &self.run.units[id as usize].items else { return Value::Null };
        let units = &self.run.units[items.first as usize..(items.first + items.count) as usize];
        let values = units.iter().map(|unit| unit.value.as_deref().cloned().unwrap_or_default());
        match &self.run.body(id).kind {
            TaskKind::Filter(_) => {
                let keep = units.iter().map(|unit| unit.value.as_deref().is_some_and(is_true));
                let list = items.list.as_array().map(Vec::as_slice).unwrap_or_default();
                list.iter().zip(keep).filter(|(_, keep)| *keep).map(|(item, _)| item.clone()).collect()
            }
            TaskKind::Reduce(_) => items.accumulator.as_deref().cloned().unwrap_or_default(),
            TaskKind::Group(members) if members.iter().any(|member| member.name.is_some()) => {
                let names = members.iter().map(|member| member.name.clone().unwrap_or_default());
                Value::Object(names.zip(values).collect::<Map<_, _>>())
            }
            TaskKind::Map(spec) if spec.on_item_error == OnItemError::Skip => {
                units.iter().filter_map(|unit| unit.value.as_deref().cloned()).collect()
            }
            _ => Value::Array(values.collect()),
        }
    }

    pub(super) fn fail(
        &mut self,
        id: u32,
        failure: &Failure,
        duration: Duration,
    ) -> Result<(), IllegalEvent> {
        let unit = &self.run.units[id as usize];
        let attempt = unit.attempt.max(1);
        let retry = self.run.plan_body(id).retry().clone();
        let max_attempts = retry.max_attempts.get();
        let composite = unit.items.is_some();
        let error: Arc<str> = failure.message.as_str().into();
        let wait = retry.wait_after(unit.failures + 1, self.random(id, attempt));
        let began = unit.first_started_at.unwrap_or(self.now);
        let last = retry.max_time.map(|most| began.plus(most)).into_iter().chain(self.end_of_step(id)).min();
        let in_time = last.is_none_or(|last| self.now.plus(wait) <= last);
        let permanent = failure.kind == FailureKind::Permanent;
        // What failed before an attempt was made, such as `when`, would fail the same way again.
        let attempted = unit.status == StepStatus::Running && !composite;
        let will_retry = attempted
            && unit.failures + 1 < max_attempts
            && in_time
            && retry.repeats(failure.code_or_error(), &failure.message, permanent);
        self.record(Fact::StepError {
            step: self.run.step_ref(id),
            attempt,
            max_attempts,
            duration_ms: millis(duration),
            error: Arc::clone(&error),
            timed_out: failure.kind == FailureKind::Timeout,
            will_retry,
            code: failure.code.clone(),
        })?;
        if will_retry {
            let (attempt, wait_ms) = (attempt + 1, millis(wait));
            let step = self.run.step_ref(id);
            self.record(Fact::StepRetry { step, attempt, max_attempts, wait_ms, error })?;
            let at = self.now.plus(Duration::from_millis(wait_ms));
            self.set_timer(id, attempt, at);
            return Ok(());
        }
        match self.run.units[id as usize].parent {
            Some(parent) if self.run.item_rule(parent) != OnItemError::Fail => {
                self.complete_composites(Some(parent))
            }
            Some(parent) => {
                self.stop_items(parent, "an item before it failed")?;
                let message = format!("{}: {}", self.run.name(id), failure.message);
                let duration = self.now.since(self.run.units[parent as usize].started_at.unwrap_or(self.now));
                self.fail(parent, &Failure { message, ..failure.clone() }, duration)
            }
            None if self.run.is_undo(id) => Ok(()),
            None => {
                let rule = self.run.task(id).on_error.unwrap_or(self.run.plan.pipeline().on_error);
                match rule {
                    OnError::Fail => self.stop_after(id),
                    OnError::Continue => Ok(()),
                    OnError::DeadLetter => {
                        let step = self.run.step_ref(id);
                        let error = failure.message.as_str().into();
                        self.record(Fact::StepDeadLetter { step, attempt, error })
                    }
                }
            }
        }
    }

    /// A number in `[0, 1)` that is the same whenever this run is replayed.
    pub(super) fn random(&self, id: u32, attempt: u32) -> f64 {
        let mut seed = [0; 8];
        seed.copy_from_slice(&self.run.id.as_bytes()[8..]);
        let seed = u64::from_le_bytes(seed) ^ (u64::from(id) << 32 | u64::from(attempt));
        (crate::random::spread(seed) >> 11) as f64 / (1u64 << 53) as f64
    }

    pub(super) fn end_run(&mut self) -> Result<(), IllegalEvent> {
        if self.run.undo.is_some() {
            return self.end_undone();
        }
        if let Some(error) = self.run.error.clone() {
            return self.end_with(error);
        }
        let duration_ms = self.age();
        let plan = Arc::clone(&self.run.plan);
        let value = |source: &Source| self.run.value_from(source).as_deref().cloned().unwrap_or_default();
        let result = match plan.pipeline().style {
            Style::Chained => plan.outputs().first().map(|(_, source)| value(source)).unwrap_or_default(),
            Style::Dataflow => {
                let fields = plan.outputs().iter();
                Value::Object(fields.map(|(name, source)| (name.to_string(), value(source))).collect())
            }
        };
        self.record(Fact::PipelineComplete { result: Arc::new(result), duration_ms })
    }
}

/// Truth as expressions have it: false, null, 0 and what is empty are not true.
fn is_true(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(truth) => *truth,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(list) => !list.is_empty(),
        Value::Object(map) => !map.is_empty(),
    }
}
