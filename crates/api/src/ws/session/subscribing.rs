//! Subscribing and unsubscribing: what may be read, and from which event on.

use taskiq_flow_core::id::PipelineId;
use taskiq_flow_security::audit::{AuditEvent, Outcome};
use taskiq_flow_security::guard::Note;
use taskiq_flow_security::{Permission, Resource};

use super::super::message::{ServerMessage, Subscribed, Target};
use super::super::subscription::{Scope, Subscription};
use super::{End, POLICY, Session, Step, error};
use crate::gate::on_run;
use crate::problem::Problem;

impl Session {
    pub(super) async fn subscribe(&mut self, target: Target) -> Step {
        if !self.subscriptions.has_room() {
            return self.say(&error("too-many-subscriptions", "A socket may have 256 subscriptions."));
        }
        if target.after_seq.is_some() && target.run_id.is_none() {
            return self.say(&error("invalid-message", "after_seq needs run_id: numbers are a run's own"));
        }
        let subscription = match self.resolve(&target).await {
            Ok(resolved) => resolved,
            Err(problem) if problem.status() == http::StatusCode::FORBIDDEN => {
                let named = target.pipeline_id.as_deref();
                let (run_id, outcome) = (target.run_id.as_deref(), Some(Outcome::Denied));
                let note = Note { pipeline_id: named, run_id, outcome, ..Note::default() };
                self.note(AuditEvent::WebsocketDenied, note)?;
                self.say(&error(problem.code(), problem.detail()))?;
                return Err(End::Close(POLICY, "not allowed"));
            }
            Err(problem) => return self.say(&error(problem.code(), problem.detail())),
        };
        let run_id = subscription.run_id.map(|run_id| run_id.to_string());
        let pipeline_id = subscription.scope.as_str().to_owned();
        let note = Note { pipeline_id: Some(&pipeline_id), run_id: run_id.as_deref(), ..Note::default() };
        self.note(AuditEvent::WebsocketSubscribe, note)?;
        let after_seq = target.after_seq;
        let subscribed =
            ServerMessage::Subscribed(Subscribed { pipeline_id: &pipeline_id, run_id, after_seq });
        let Some(run_id) = subscription.run_id else {
            self.add(subscription);
            return self.say(&subscribed);
        };
        let on_its_way = match &subscription.scope {
            Scope::Pipeline(pipeline) => self.subscriptions.whole(pipeline),
            Scope::All => true,
        };
        self.add(subscription);
        match after_seq {
            Some(after) => self.subscriptions.sent_up_to(run_id, after),
            // What waits to be sent of it was asked for too.
            None if on_its_way => {}
            // Read once it is watched: nothing can come between.
            None => match self.state.engine().record(run_id).await {
                Ok(record) => self.subscriptions.sent_up_to(run_id, record.last_seq),
                Err(failure) => {
                    let problem = Problem::from(failure);
                    return self.say(&error(problem.code(), problem.detail()));
                }
            },
        }
        self.say(&subscribed)?;
        if after_seq.is_some() { self.catch_up().await } else { Ok(()) }
    }

    fn add(&mut self, subscription: Subscription) {
        self.subscriptions.add(subscription);
        self.watcher.change(self.subscriptions.watched());
    }

    /// What a target names, if the caller may read it. Not by a shared borrow: a socket cannot be shared by threads.
    async fn resolve(&mut self, target: &Target) -> Result<Subscription, Problem> {
        let guard = self.state.guard();
        let scope = match target.pipeline_id.as_deref() {
            Some("*") => {
                let _permit = guard.authorize(&self.caller, Permission::Read, Resource::AnyPipeline)?;
                Some(Scope::All)
            }
            Some(id) => {
                let _permit = guard.authorize(&self.caller, Permission::Read, Resource::Pipeline(id))?;
                let id = id.parse::<PipelineId>().map_err(|_| unknown_pipeline())?;
                if self.state.engine().pipeline(&id).is_none() {
                    return Err(unknown_pipeline());
                }
                Some(Scope::Pipeline(id))
            }
            None => None,
        };
        let Some(run_id) = target.run_id.as_deref() else {
            let scope = scope.ok_or_else(|| Problem::bad_request("Name pipeline_id, run_id or both."))?;
            return Ok(Subscription { scope, run_id: None });
        };
        let (_permit, record) = on_run(&self.state, &self.caller, Permission::Read, run_id).await?;
        let own = Scope::Pipeline(record.pipeline_id.clone());
        match scope {
            Some(Scope::Pipeline(id)) if id != record.pipeline_id => {
                Err(Problem::not_found("This pipeline has no such run."))
            }
            _ => Ok(Subscription { scope: own, run_id: Some(record.run_id) }),
        }
    }

    pub(super) fn unsubscribe(&mut self, target: Target) -> Step {
        let run_id = match target.run_id.as_deref().map(str::parse) {
            None => None,
            Some(Ok(run_id)) => Some(run_id),
            Some(Err(_)) => return self.say(&error("not-found", "There is no such subscription.")),
        };
        // A run's subscription may be named by the run alone.
        let named = |subscription: &&Subscription| {
            subscription.run_id == run_id
                && match target.pipeline_id.as_deref() {
                    Some(id) => id == subscription.scope.as_str() || (id == "*" && run_id.is_some()),
                    None => run_id.is_some(),
                }
        };
        let Some(subscription) = self.subscriptions.iter().find(named).cloned() else {
            return self.say(&error("not-found", "There is no such subscription."));
        };
        self.subscriptions.remove(&subscription);
        self.watcher.change(self.subscriptions.watched());
        let run_id = subscription.run_id.map(|run_id| run_id.to_string());
        let pipeline_id = subscription.scope.as_str();
        self.say(&ServerMessage::Unsubscribed(Subscribed { pipeline_id, run_id, after_seq: None }))
    }
}

fn unknown_pipeline() -> Problem {
    Problem::not_found("There is no such pipeline.")
}
