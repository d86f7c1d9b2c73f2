//! The promises, and what sees whether they are kept: it knows each run by its log and its commands alone.
//!
//! | promise | seen by |
//! |---|---|
//! | a run that was accepted is there | [`Violation::Lost`] |
//! | the log has no gap, and nothing follows the end of a run | [`Violation::Log`] |
//! | a step completes once, and is not carried out again once that is durable | [`Violation::Twice`] |
//! | a step run has at most one live attempt, the one its log says | [`Violation::Attempts`] |
//! | no more attempts at once than `max_parallel` of the pipeline, or of a map, says | [`Violation::Room`] |
//! | an attempt that is over, or a driver that was superseded, changes nothing | [`Violation::Fence`] |
//! | the log alone makes the state | [`Violation::Replay`] |
//! | whatever happens, a run takes it | [`Violation::Refused`] |
//! | a run with nothing under way has ended, is paused, or waits for a signal | [`Violation::Stuck`] |

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use taskiq_flow_core::definition::TaskKind;
use taskiq_flow_core::id::RunId;
use taskiq_flow_core::plan::Plan;
use taskiq_flow_core::run::{Event, Fact, Work};

/// A promise that was not kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Violation {
    /// A run that was accepted is not there, or nobody drives it.
    Lost(String),
    /// A gap in a log, or something after the end of a run.
    Log(String),
    /// A step completed twice, or was carried out again after its end was durable.
    Twice(String),
    /// Two live attempts of a step run, or one that its log does not have.
    Attempts(String),
    /// More attempts at once than allowed.
    Room(String),
    /// Something that was superseded changed a run.
    Fence(String),
    /// The log comes to another state than the run had.
    Replay(String),
    /// A run refused what happened to it.
    Refused(String),
    /// A run that cannot go on.
    Stuck(String),
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (promise, what) = match self {
            Self::Lost(what) => ("a run was lost", what),
            Self::Log(what) => ("the log is broken", what),
            Self::Twice(what) => ("something was done twice", what),
            Self::Attempts(what) => ("attempts are not as the log has them", what),
            Self::Room(what) => ("too many attempts at once", what),
            Self::Fence(what) => ("what was superseded changed a run", what),
            Self::Replay(what) => ("the log does not make the state", what),
            Self::Refused(what) => ("a run refused what happened to it", what),
            Self::Stuck(what) => ("a run is stuck", what),
        };
        write!(f, "{promise}: {what}")
    }
}

/// One run as its log and its commands show it.
#[derive(Debug)]
pub(crate) struct Witness {
    run_id: RunId,
    plan: Arc<Plan>,
    last_seq: u64,
    ended: bool,
    completed: BTreeSet<u32>,
    /// Step runs that their log has as running and that have no items: the attempt, and the place of their step.
    running: BTreeMap<u32, (u32, u32)>,
    /// Of each map, filter and reduce that bounds its items, by its name: those that are under way, each with what it is
    /// carried out in: the first item of its chunk, or itself.
    inside: BTreeMap<String, BTreeMap<u32, u32>>,
    /// Attempts that have been handed out and have neither reported nor been stopped; whether they take room.
    live: BTreeMap<u32, (u32, bool)>,
    /// The step runs and attempts that one attempt carries out, by the first of them.
    together: BTreeMap<(u32, u32), Vec<(u32, u32)>>,
    /// Of each step: how often it was carried out, its items included.
    pub(crate) attempts: Vec<u32>,
}

impl Witness {
    pub(crate) fn new(run_id: RunId, plan: Arc<Plan>) -> Self {
        let attempts = vec![0; plan.steps().len()];
        Self {
            run_id,
            plan,
            last_seq: 0,
            ended: false,
            completed: BTreeSet::new(),
            running: BTreeMap::new(),
            inside: BTreeMap::new(),
            live: BTreeMap::new(),
            together: BTreeMap::new(),
            attempts,
        }
    }

    /// Sees events that have become durable.
    pub(crate) fn durable(&mut self, events: &[Event]) -> Result<(), Violation> {
        for event in events {
            let name = event.fact.type_name();
            if event.seq != self.last_seq + 1 {
                let what = format!("{name} {} of run {} follows {}", event.seq, self.run_id, self.last_seq);
                return Err(Violation::Log(what));
            }
            if self.ended {
                return Err(Violation::Log(format!(
                    "{name} {} of run {} comes after its end",
                    event.seq, self.run_id
                )));
            }
            self.last_seq = event.seq;
            self.ended = event.fact.ends_run();
            self.follow(&event.fact)?;
        }
        self.within_maps()
    }

    /// No map has more under way than it says. An attempt is over within one write with what comes of it.
    fn within_maps(&self) -> Result<(), Violation> {
        for (map, items) in &self.inside {
            let attempts = items.values().collect::<BTreeSet<_>>().len();
            let most = self.width_of(map);
            if attempts > most {
                let what = format!("{attempts} of `{map}` of run {} with max_parallel: {most}", self.run_id);
                return Err(Violation::Room(what));
            }
        }
        Ok(())
    }

    /// How many items of a step run may be under way at once, by its name.
    fn width_of(&self, map: &str) -> usize {
        let steps = self.plan.steps().iter();
        let fits = steps.filter_map(|step| Some((step, map.strip_prefix(&*step.name)?)));
        let body = fits.max_by_key(|(step, _)| step.name.len()).map(|(step, rest)| (&step.task.body, rest));
        // Members of a group that have names are not followed.
        let Some((mut body, rest)) = body.filter(|(_, rest)| !rest.contains('.')) else { return usize::MAX };
        // Every place in the name, such as that of `t3[1][0]`, is one level further in.
        for place in rest.split('[').skip(1) {
            let inner = body.kind.inner();
            let place = place.trim_end_matches(']').parse().unwrap_or(0);
            match inner.get(if matches!(body.kind, TaskKind::Group(_)) { place } else { 0 }) {
                Some(next) => body = next,
                None => return usize::MAX,
            }
        }
        match &body.kind {
            TaskKind::Map(spec) | TaskKind::Filter(spec) => {
                spec.max_parallel.map_or(usize::MAX, |most| most.get() as usize)
            }
            TaskKind::Reduce(_) => 1,
            _ => usize::MAX,
        }
    }

    fn follow(&mut self, fact: &Fact) -> Result<(), Violation> {
        let Some(step) = fact.step() else { return Ok(()) };
        let id = step.step_run;
        let map = step.step.strip_suffix(']').and_then(|name| Some(name.rsplit_once('[')?.0));
        if let Some(map) = map.filter(|map| self.width_of(map) < usize::MAX) {
            let inside = self.inside.entry(map.to_owned()).or_default();
            match fact {
                Fact::StepStart { chunk, .. } => drop(inside.insert(id, chunk.unwrap_or(id))),
                _ => drop(inside.remove(&id)),
            }
            if inside.is_empty() {
                self.inside.remove(map);
            }
        }
        match fact {
            Fact::StepStart { attempt, items: None, .. } => {
                self.running.insert(id, (*attempt, step.step_index));
            }
            Fact::StepComplete { .. } => {
                self.running.remove(&id);
                if !self.completed.insert(id) {
                    return Err(Violation::Twice(format!(
                        "`{}` of run {} completed twice",
                        step.step, self.run_id
                    )));
                }
            }
            Fact::StepError { .. } | Fact::StepSkip { .. } | Fact::StepCancel { .. } => {
                self.running.remove(&id);
            }
            _ => {}
        }
        Ok(())
    }

    /// Sees an attempt that is handed out, with all that it carries out.
    pub(crate) fn dispatched(&mut self, work: &Work) -> Result<(), Violation> {
        let members: Vec<(u32, u32)> = work.members().collect();
        for (id, attempt) in &members {
            self.handed_out(*id, *attempt, work)?;
        }
        let takes_room = !matches!(work.body().kind, TaskKind::Pipeline(_));
        for (id, attempt) in &members {
            // Together they take the room of one.
            self.live.insert(*id, (*attempt, takes_room && *id == work.step_run));
        }
        self.together.insert((work.step_run, work.attempt), members);
        let most = self.plan.pipeline().max_parallel.map_or(usize::MAX, |most| most.get() as usize);
        let taken = self.live.values().filter(|(_, takes_room)| *takes_room).count();
        if taken > most {
            let what = format!("{taken} attempts of run {} with max_parallel: {most}", self.run_id);
            return Err(Violation::Room(what));
        }
        Ok(())
    }

    fn handed_out(&mut self, id: u32, attempt: u32, work: &Work) -> Result<(), Violation> {
        let (step, run) = (&work.step, self.run_id);
        if self.completed.contains(&id) {
            let what = format!("`{step}` ({id}) of run {run} is carried out again, and its end is durable");
            return Err(Violation::Twice(what));
        }
        let logged = self.running.get(&id);
        if logged.is_none_or(|(known, _)| *known != attempt) {
            let what = format!(
                "attempt {attempt} of `{step}` ({id}) of run {run} is handed out, and its log has {logged:?}"
            );
            return Err(Violation::Attempts(what));
        }
        if let Some((other, _)) = self.live.get(&id) {
            let what = format!("attempts {other} and {attempt} of `{step}` ({id}) of run {run} at once");
            return Err(Violation::Attempts(what));
        }
        if let Some((_, place)) = logged
            && let Some(count) = self.attempts.get_mut(*place as usize)
        {
            *count += 1;
        }
        Ok(())
    }

    /// Sees a kept value looked for, which is no use once the step has begun.
    pub(crate) fn looked_for(&self, work: &Work) -> Result<(), Violation> {
        let id = work.step_run;
        if self.running.contains_key(&id) || self.completed.contains(&id) {
            let what =
                format!("a value of `{}` of run {} is looked for, and it has begun", work.step, self.run_id);
            return Err(Violation::Attempts(what));
        }
        Ok(())
    }

    /// Whether this is a live attempt.
    pub(crate) fn is_live(&self, step_run: u32, attempt: u32) -> bool {
        self.live.get(&step_run).is_some_and(|(live, _)| *live == attempt)
    }

    /// Sees an attempt report, or stop, with all that it carries out.
    pub(crate) fn over(&mut self, step_run: u32, attempt: u32) {
        for (id, attempt) in self.together.remove(&(step_run, attempt)).unwrap_or_default() {
            if self.is_live(id, attempt) {
                self.live.remove(&id);
            }
        }
    }

    /// Sees the driver die, and with it all it has handed out.
    pub(crate) fn crashed(&mut self) {
        self.live.clear();
        self.together.clear();
    }

    pub(crate) fn has_live(&self) -> bool {
        !self.live.is_empty()
    }

    pub(crate) fn last_seq(&self) -> u64 {
        self.last_seq
    }

    /// The live attempts, and the step runs that wait, must be those that the log has as running; the steps that wait,
    /// by their places.
    pub(crate) fn waiting(&self) -> Result<Vec<u32>, Violation> {
        if let Some(id) = self.live.keys().find(|id| !self.running.contains_key(id)) {
            let what =
                format!("step run {id} of run {} is under way, and its log does not have it", self.run_id);
            return Err(Violation::Attempts(what));
        }
        let waits = self.running.iter().filter(|(id, _)| !self.live.contains_key(id));
        Ok(waits.map(|(_, (_, place))| *place).collect())
    }
}
