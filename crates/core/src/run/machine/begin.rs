//! Starting: which step runs start, in which order, and what each asks for.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::{Command, Turn, millis};
use crate::definition::{TaskKind, WaitFor};
use crate::plan::{Wire, index};
use crate::run::error::IllegalEvent;
use crate::run::event::{CacheOutcome, Fact};
use crate::run::status::RunStatus;
use crate::run::work::{Failure, Work};

/// The most items of maps, filters, reductions and groups in one run. Each is a step run with a state of its own, and
/// a short list that is mapped over within itself makes very many.
const MAX_ITEMS: usize = 100_000;

impl Turn<'_> {
    /// Starts what can start, and ends the run when nothing is left.
    pub(super) fn advance(&mut self) -> Result<(), IllegalEvent> {
        let most = self.run.plan.pipeline().max_parallel.map_or(u32::MAX, |n| n.get());
        loop {
            self.start_what_can(most)?;
            let live = matches!(self.run.status, RunStatus::Running | RunStatus::Paused);
            let undoing = self.run.undo.as_ref().is_some_and(|undo| undo.done < undo.count);
            if !live || self.run.open_steps > 0 || undoing {
                return Ok(());
            }
            self.end_run()?;
        }
    }

    fn start_what_can(&mut self, most: u32) -> Result<(), IllegalEvent> {
        while self.run.status == RunStatus::Running {
            let free = self.run.ready_free.front();
            let room = self.run.occupied.saturating_add(self.run.looking) < most;
            match free.or_else(|| self.run.ready_work.front().filter(|_| room)) {
                Some(id) => self.begin(id)?,
                None => break,
            }
        }
        Ok(())
    }

    pub(super) fn begin(&mut self, id: u32) -> Result<(), IllegalEvent> {
        if self.run.units[id as usize].parent.is_none()
            && self.run.units[id as usize].attempt == 0
            && !self.run.is_undo(id)
            && let Some(decided) = self.reason_against(id)
        {
            let step = self.run.step_ref(id);
            return match decided {
                Ok(reason) => self.record(Fact::StepSkip { step, reason: reason.into() }),
                Err(failure) => self.fail(id, &failure, Duration::ZERO),
            };
        }
        if self.run.traits(id).is_composite {
            return self.begin_composite(id);
        }
        if self.look_up(id) {
            return Ok(());
        }
        self.go(id, self.run.units[id as usize].attempt + 1, None, None)
    }

    fn begin_composite(&mut self, id: u32) -> Result<(), IllegalEvent> {
        let kind = &self.run.body(id).kind;
        let items = match kind {
            // It has started, and stands in line for its items.
            TaskKind::Map(_) | TaskKind::Filter(_) if self.run.units[id as usize].items.is_some() => {
                let members = self.run.next_chunk(id);
                return self.go_together(&members);
            }
            TaskKind::Group(members) => index(members.len()),
            _ => match self.run.list_of(id).as_deref() {
                Some(Value::Array(list)) => index(list.len()).div_ceil(self.run.fold_of(id)),
                other => {
                    let failure = not_a_list(kind, other);
                    return self.fail(id, &failure, Duration::ZERO);
                }
            },
        };
        if !self.has_room_for(items) {
            let message = format!(
                "{items} items are too many: one run may have {MAX_ITEMS}, those of all its steps together; split \
                 the list over several runs"
            );
            return self.fail(id, &Failure::permanent(message).code("input"), Duration::ZERO);
        }
        self.go(id, self.run.units[id as usize].attempt + 1, Some(items), None)
    }

    /// Starts an attempt, or the items of a composite.
    pub(super) fn go(
        &mut self,
        id: u32,
        attempt: u32,
        items: Option<u32>,
        cache: Option<CacheOutcome>,
    ) -> Result<(), IllegalEvent> {
        self.step_start(id, attempt, items, cache, None)?;
        if attempt == 1 {
            self.set_step_timer(id);
        }
        match items {
            Some(_) => self.complete_composites(Some(id)),
            None => self.set_going(id),
        }
    }

    pub(super) fn step_start(
        &mut self,
        id: u32,
        attempt: u32,
        items: Option<u32>,
        cache: Option<CacheOutcome>,
        chunk: Option<u32>,
    ) -> Result<(), IllegalEvent> {
        let max_attempts = self.run.traits(id).max_attempts;
        let queued = self.run.units[id as usize].queued_at.unwrap_or(self.now);
        let wait_ms = if attempt == 1 { millis(self.now.since(queued)) } else { 0 };
        let step = self.run.step_ref(id);
        self.record(Fact::StepStart { step, attempt, max_attempts, wait_ms, items, cache, chunk })
    }

    /// Whether so many more items stay within what one run may have. Items of items count too.
    pub(super) fn has_room_for(&self, items: u32) -> bool {
        let most = self.run.plan.steps().len().saturating_add(MAX_ITEMS);
        self.run.units.len().saturating_add(items as usize) <= most
    }

    /// Why a step is not to run: a reason to skip it, or a failure of its condition.
    pub(super) fn reason_against(&self, id: u32) -> Option<Result<String, Failure>> {
        if self.run.without_value == 0 && !self.run.traits(id).is_conditional {
            // The steps that it needs have ended, or it would not be its turn.
            return None;
        }
        let step = &self.run.plan.steps()[id as usize];
        for wire in step.wires.iter().filter(|wire| !wire.optional) {
            if let Some(source) = wire.source.step()
                && !self.run.units[source as usize].status.has_value()
            {
                return Some(Ok(self.needs(source)));
            }
        }
        let before = step.after.iter().find(|before| !self.run.units[**before as usize].status.has_value());
        if let Some(before) = before {
            return Some(Ok(self.needs(*before)));
        }
        if step.task.needs_any
            && let [first, rest @ ..] = &*step.wires
        {
            let missing = |wire: &Wire| {
                let source = wire.source.step();
                source.is_some_and(|source| !self.run.units[source as usize].status.has_value())
            };
            if missing(first) && rest.iter().all(missing) {
                let sources = step.wires.iter().filter_map(|wire| wire.source.step());
                let needs: Vec<_> = sources.map(|source| self.needs(source)).collect();
                return Some(Ok(needs.join("; ")));
            }
        }
        let when = step.task.when.as_ref()?;
        match when.is_true(&self.run.inputs(id)) {
            Ok(true) => None,
            Ok(false) => Some(Ok(format!("`when: {}` is not true", when.source()))),
            Err(error) => Some(Err(
                Failure::permanent(format!("`when: {}`: {error}", when.source())).code("expression")
            )),
        }
    }

    pub(super) fn needs(&self, source: u32) -> String {
        let status = self.run.units[source as usize].status;
        format!("needs `{}`, which is {status}", self.run.name(source))
    }

    /// The attempt at hand of a step run.
    pub(super) fn work(&self, id: u32) -> Work {
        let unit = &self.run.units[id as usize];
        Work {
            pipeline_id: self.run.plan.pipeline().id.clone(),
            run_id: self.run.id,
            step_run: id,
            attempt: unit.attempt,
            failures: unit.failures,
            step: self.run.name(id),
            plan_body: Arc::clone(self.run.plan_body(id)),
            inputs: self.run.inputs(id),
            chunk: None,
            fold: self.run.fold(id),
        }
    }

    /// Sets a started step run going: work is dispatched, a wait waits.
    pub(super) fn set_going(&mut self, id: u32) -> Result<(), IllegalEvent> {
        let wait = match self.run.traits(id).is_wait {
            true => self.run.body(id).kind.wait(),
            false => None,
        };
        let Some(wait) = wait else {
            let work = Box::new(self.work(id));
            self.effects.commands.push(Command::Dispatch(work));
            return Ok(());
        };
        let attempt = self.run.units[id as usize].attempt;
        let since = self.run.units[id as usize].started_at.unwrap_or(self.now);
        if let WaitFor::Signal(name) = &wait.until
            && let Some(value) = self.signal(name)
        {
            return self.complete(id, value, self.now.since(since));
        }
        if let Some(limit) = self.run.wait_limit(id) {
            self.set_timer(id, attempt, since.plus(limit));
        }
        Ok(())
    }
}

fn not_a_list(kind: &TaskKind, value: Option<&Value>) -> Failure {
    let over = match kind {
        TaskKind::Map(spec) | TaskKind::Filter(spec) => spec.over.as_str(),
        TaskKind::Reduce(spec) => spec.over.as_str(),
        _ => "value",
    };
    let found = match value {
        None | Some(Value::Null) => "null",
        Some(Value::Bool(_)) => "a boolean",
        Some(Value::Number(_)) => "a number",
        Some(Value::String(_)) => "a string",
        Some(Value::Array(_)) => "a list",
        Some(Value::Object(_)) => "an object",
    };
    Failure::permanent(format!("`{over}` must be a list for `{}`, and is {found}", kind.name())).code("input")
}
