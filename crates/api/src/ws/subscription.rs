//! What a socket is subscribed to, and which events that makes its own.

use std::collections::{BTreeSet, HashMap};

use taskiq_flow_core::id::{PipelineId, RunId};
use taskiq_flow_core::run::EventView;
use taskiq_flow_engine::Watched;

/// The most subscriptions of one socket.
const MOST: usize = 256;

/// Pipelines that a subscription is to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Scope {
    /// All that the caller may read.
    All,
    /// One.
    Pipeline(PipelineId),
}

/// One subscription.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Subscription {
    pub(super) scope: Scope,
    pub(super) run_id: Option<RunId>,
}

/// All of a socket.
#[derive(Debug, Default)]
pub(super) struct Subscriptions {
    list: BTreeSet<Subscription>,
    /// Of runs that are subscribed to by themselves: the number of the last event that was sent or is not wanted.
    sent: HashMap<RunId, u64>,
}

impl Scope {
    pub(super) fn as_str(&self) -> &str {
        match self {
            Scope::All => "*",
            Scope::Pipeline(id) => id.as_str(),
        }
    }

    fn has(&self, pipeline: &PipelineId) -> bool {
        match self {
            Scope::All => true,
            Scope::Pipeline(id) => id == pipeline,
        }
    }
}

impl Subscriptions {
    /// Whether there is room for one more.
    pub(super) fn has_room(&self) -> bool {
        self.list.len() < MOST
    }

    /// Adds one.
    pub(super) fn add(&mut self, subscription: Subscription) {
        self.list.insert(subscription);
    }

    /// From now on the events of a run that is subscribed to by itself count as sent up to this number.
    pub(super) fn sent_up_to(&mut self, run_id: RunId, seq: u64) {
        self.sent.insert(run_id, seq);
    }

    /// Whether all events of the pipeline are wanted, not only those of some runs.
    pub(super) fn whole(&self, pipeline: &PipelineId) -> bool {
        self.list.iter().any(|subscription| subscription.run_id.is_none() && subscription.scope.has(pipeline))
    }

    /// Whether what was missed of the pipeline's events can be read from the store: only runs of it are wanted, and
    /// it is known what was sent of each.
    pub(super) fn can_catch_up(&self, pipeline: &PipelineId) -> bool {
        let of_it = self.list.iter().filter(|subscription| subscription.scope.has(pipeline));
        of_it
            .map(|subscription| subscription.run_id)
            .all(|run| run.is_some_and(|run| self.sent.contains_key(&run)))
    }

    /// The pipelines whose events are to be looked at.
    pub(super) fn watched(&self) -> Watched {
        let pipelines = self.list.iter().map(|subscription| match &subscription.scope {
            Scope::All => None,
            Scope::Pipeline(id) => Some(id.clone()),
        });
        pipelines.collect::<Option<_>>().map_or(Watched::All, Watched::Pipelines)
    }

    /// Removes one; whether it was there.
    pub(super) fn remove(&mut self, subscription: &Subscription) -> bool {
        let removed = self.list.remove(subscription);
        if let Some(run_id) = subscription.run_id
            && !self.list.iter().any(|other| other.run_id == Some(run_id))
        {
            self.sent.remove(&run_id);
        }
        removed
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Subscription> {
        self.list.iter()
    }

    /// The runs that are subscribed to by themselves, and the number of the last event sent.
    pub(super) fn runs(&self) -> Vec<(RunId, u64)> {
        self.sent.iter().map(|(run_id, seq)| (*run_id, *seq)).collect()
    }

    /// Whether the event is to be sent. It then counts as sent.
    pub(super) fn take(&mut self, event: &EventView) -> bool {
        let wanted = self.list.iter().any(|subscription| {
            let pipeline = subscription.scope.has(&event.pipeline_id);
            pipeline && subscription.run_id.is_none_or(|run_id| event.run_id == Some(run_id))
        });
        let Some(run_id) = event.run_id else { return wanted };
        match self.sent.get_mut(&run_id) {
            Some(sent) if event.event.seq <= *sent => false,
            Some(sent) => {
                *sent = event.event.seq;
                wanted
            }
            None => wanted,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use taskiq_flow_core::run::{Event, Fact};
    use taskiq_flow_core::time::Timestamp;

    fn event(pipeline: &str, run_id: RunId, seq: u64) -> EventView {
        let event = Event { seq, timestamp: Timestamp::from_millis(0), fact: Fact::PipelinePause };
        EventView::of_run(pipeline.parse().unwrap(), run_id, event)
    }

    fn id(pipeline: &str) -> PipelineId {
        pipeline.parse().unwrap()
    }

    fn to(pipeline: &str, run_id: Option<RunId>) -> Subscription {
        let scope = match pipeline {
            "*" => Scope::All,
            id => Scope::Pipeline(id.parse().unwrap()),
        };
        Subscription { scope, run_id }
    }

    #[test]
    fn a_subscription_takes_what_it_names() {
        let (one, two) = (RunId::new(), RunId::new());
        let mut subscriptions = Subscriptions::default();
        assert!(!subscriptions.take(&event("a", one, 1)));
        subscriptions.add(to("a", None));
        assert!(subscriptions.take(&event("a", one, 2)) && subscriptions.take(&event("a", two, 1)));
        assert!(!subscriptions.take(&event("b", one, 3)));
        assert_eq!(subscriptions.watched(), Watched::Pipelines([id("a")].into()));
        subscriptions.add(to("*", None));
        assert_eq!(subscriptions.watched(), Watched::All);
        assert!(subscriptions.take(&event("b", one, 4)));
        assert!(subscriptions.remove(&to("*", None)) && !subscriptions.remove(&to("*", None)));
        assert!(!subscriptions.take(&event("b", one, 5)));
    }

    #[test]
    fn what_a_replay_sent_is_not_sent_again_by_any_subscription() {
        let run = RunId::new();
        let mut subscriptions = Subscriptions::default();
        subscriptions.add(to("a", None));
        subscriptions.add(to("a", Some(run)));
        subscriptions.sent_up_to(run, 3);
        assert!(!subscriptions.take(&event("a", run, 2)) && !subscriptions.take(&event("a", run, 3)));
        assert!(subscriptions.take(&event("a", run, 4)));
        assert!(!subscriptions.take(&event("a", run, 4)));
        assert_eq!(subscriptions.runs(), [(run, 4)]);
        assert!(!subscriptions.can_catch_up(&id("a")) && subscriptions.can_catch_up(&id("b")));
        subscriptions.remove(&to("a", None));
        assert!(subscriptions.can_catch_up(&id("a")));
        subscriptions.add(to("a", Some(RunId::new())));
        assert!(!subscriptions.can_catch_up(&id("a")), "nobody knows what was sent of that run");
        subscriptions.remove(&to("a", Some(run)));
        assert!(subscriptions.runs().is_empty());
    }
}
