//! Who asks for runs, and how they come to be.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::Map;
use taskiq_flow_core::id::RunId;
use taskiq_flow_core::plan::Plan;
use taskiq_flow_core::run::Run;
use taskiq_flow_store::{Fence, RunRecord, RunWrite, Trigger, Written};

use super::{Known, What, World};
use crate::checks::{Violation, Witness};
use crate::driver::Driven;
use crate::values::{Lists, awaited};

impl World<'_> {
    /// Somebody wants a run, and what goes with it.
    pub(super) fn ask_for(&mut self, place: usize, plan: Arc<Plan>, lists: Arc<Lists>) {
        let mut id = [0; 16];
        id[..8].copy_from_slice(&(place as u64).to_be_bytes());
        id[8..].copy_from_slice(&self.random.next().to_le_bytes());
        let run_id = RunId::from_bytes(id);
        let witness = Witness::new(run_id, Arc::clone(&plan));
        let faults = self.scenario.faults;
        let names: BTreeSet<String> =
            plan.pipeline().tasks.iter().flat_map(|task| awaited(&task.body)).map(str::to_owned).collect();
        let asked = self.now + self.soon();
        self.expect(asked, None, place, What::Submit);
        let mut silent = BTreeSet::new();
        for name in names {
            if faults.silence && self.random.permille(250) {
                silent.insert(name);
            } else {
                let due = asked + self.soon();
                self.expect(due, None, place, What::Signal(name.into()));
            }
        }
        if faults.operators {
            if self.random.permille(200) {
                let due = asked + self.soon();
                self.expect(due, None, place, What::Pause);
                let due = due + self.soon();
                self.expect(due, None, place, What::Resume);
            }
            if self.random.permille(80) {
                let due = asked + self.soon();
                self.expect(due, None, place, What::Cancel);
            }
            if self.random.permille(100) {
                let due = asked + self.soon();
                self.expect(due, None, place, What::Signal("nobody waits for this".into()));
            }
        }
        self.by_id.insert(run_id, place);
        self.known.push(Known {
            run_id,
            plan,
            lists,
            accepted: false,
            witness,
            silent,
            stuck: BTreeSet::new(),
        });
    }

    pub(super) fn submit(&mut self, place: usize) -> Result<(), Violation> {
        let at = self.drivers.len() - 1;
        let (run_id, plan) = (self.known[place].run_id, Arc::clone(&self.known[place].plan));
        let lists = Arc::clone(&self.known[place].lists);
        let parameters: Map<_, _> = (plan.parameters().iter())
            .map(|name| (name.clone(), lists.parameter(name, &mut self.random)))
            .collect();
        self.note(|_| format!("run {place} of `{}` is asked for", plan.pipeline().id));
        let (id, trigger) =
            (plan.pipeline().id.clone(), Trigger::Request { principal: "simulation".to_owned() });
        let record = RunRecord::queued(run_id, id, 1, parameters, trigger, self.clock(at));
        let record = RunRecord { idempotency_key: Some(format!("run {place}")), ..record };
        if self.dies("before it has written the new run") {
            // Whoever asked is told nothing, and asks again.
            let due = self.now + self.soon();
            self.expect(due, None, place, What::Submit);
            return Ok(());
        }
        let owner = self.drivers[at].owner;
        let answer = self.write(RunWrite::Create {
            run: Box::new(record.clone()),
            owner,
            firing: None,
            replays: None,
        })?;
        let known = &mut self.known[place];
        let was_accepted = std::mem::replace(&mut known.accepted, true);
        match answer {
            Ok(Written::Created(fence)) if !was_accepted => {
                if self.dies("after it has written the new run") {
                    let due = self.now + self.soon();
                    self.expect(due, None, place, What::Submit);
                    return Ok(());
                }
                self.drive(at, &record, fence);
                Ok(())
            }
            Ok(Written::Exists(existing)) if was_accepted && existing.run_id == run_id => Ok(()),
            other => Err(Violation::Lost(format!("run {place} was asked for, and the store says {other:?}"))),
        }
    }

    fn drive(&mut self, at: usize, record: &RunRecord, fence: Fence) {
        let plan = Arc::clone(&self.known[self.by_id[&record.run_id]].plan);
        let run = Run::new(plan, record.run_id, &record.parameters, record.created_at);
        self.drivers[at].runs.insert(record.run_id, Driven { run, fence });
    }
}
