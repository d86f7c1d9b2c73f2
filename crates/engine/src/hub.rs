//! Tells watchers what happened.
//!
//! Each watcher has a mailbox of its own with a bound for each pipeline, and only what it watches comes into it. So a
//! burst of one pipeline's events costs nobody an event of another pipeline.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::{Arc, Weak};

use parking_lot::{Mutex, RwLock};
use taskiq_flow_core::id::{PipelineId, RunId};
use taskiq_flow_core::run::{Event, EventView, Fact, SharedEvent};
use taskiq_flow_core::time::Timestamp;
use tokio::sync::Notify;

/// Passes every event of every run, in order within a pipeline, to whoever watches it. Events are durable before they
/// come here. A watcher that falls too far behind is told so, and delays nobody.
#[derive(Debug, Clone)]
pub struct EventHub(Arc<Registry>);

/// Which pipelines a watcher watches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Watched {
    /// All, also those that are registered later.
    All,
    /// These.
    Pipelines(BTreeSet<PipelineId>),
}

/// Why there is no next event.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Missed {
    /// More events of this pipeline came than may wait; those that waited are gone. Later ones follow.
    #[error("events of pipeline `{0}` came faster than they were taken")]
    Events(PipelineId),
    /// The engine is gone; nothing follows.
    #[error("the engine has stopped")]
    All,
}

/// One watcher. Dropped, it is forgotten.
#[derive(Debug)]
pub struct Watcher {
    hub: Weak<Registry>,
    mailbox: Arc<Mailbox>,
    watched: Watched,
}

#[derive(Debug)]
struct Registry {
    backlog: usize,
    watchers: RwLock<Watchers>,
}

#[derive(Debug, Default)]
struct Watchers {
    of_all: Vec<Arc<Mailbox>>,
    of_one: HashMap<PipelineId, Vec<Arc<Mailbox>>>,
}

#[derive(Debug, Default)]
struct Mailbox {
    waiting: Mutex<Waiting>,
    news: Notify,
}

/// What a watcher has not taken yet.
#[derive(Debug, Default)]
struct Waiting {
    items: VecDeque<Item>,
    /// How many events of each pipeline wait; those of which none waits are not listed.
    counts: HashMap<PipelineId, usize>,
    /// The hub is gone.
    closed: bool,
}

#[derive(Debug)]
enum Item {
    Event(Arc<EventView>),
    Missed(PipelineId),
}

impl EventHub {
    /// A hub whose watchers may lag `backlog` events of one pipeline behind.
    pub fn new(backlog: usize) -> Self {
        Self(Arc::new(Registry { backlog: backlog.max(1), watchers: RwLock::default() }))
    }

    /// Watches from now on.
    pub fn watch(&self, watched: Watched) -> Watcher {
        let mailbox = Arc::default();
        self.0.watchers.write().enter(&mailbox, &watched);
        Watcher { hub: Arc::downgrade(&self.0), mailbox, watched }
    }

    /// Tells of an event of a pipeline itself.
    pub(crate) fn publish(&self, event: EventView) {
        let watchers = self.0.watchers.read();
        let pipeline_id = event.pipeline_id.clone();
        watchers.tell(&pipeline_id, self.0.backlog, || std::iter::once(event));
    }

    /// Tells of what a run has decided together. Nothing is made of it where nobody watches.
    pub(crate) fn publish_run(&self, pipeline_id: &PipelineId, run_id: RunId, events: &Arc<Vec<Event>>) {
        if events.is_empty() {
            return;
        }
        let watchers = self.0.watchers.read();
        watchers.tell(pipeline_id, self.0.backlog, || {
            let events = SharedEvent::each_of(events);
            events.map(|event| EventView::of_run(pipeline_id.clone(), run_id, event))
        });
    }

    /// Tells that a pipeline was to be run and was not. There is no run that the event could be in the log of.
    pub(crate) fn publish_skip(&self, pipeline_id: PipelineId, timestamp: Timestamp, reason: &str) {
        let event = Event { seq: 0, timestamp, fact: Fact::PipelineSkip { reason: reason.into() } };
        self.publish(EventView::of_pipeline(pipeline_id, event));
    }
}

impl Watcher {
    /// The next event. Dropping the future loses nothing.
    ///
    /// # Errors
    /// [`Missed`]: after [`Missed::Events`] it can be asked again.
    pub async fn recv(&mut self) -> Result<Arc<EventView>, Missed> {
        loop {
            if let Some(item) = self.mailbox.take() {
                return item;
            }
            self.mailbox.news.notified().await;
        }
    }

    /// The next event, if one is there. None: it would have to be waited for.
    ///
    /// # Errors
    /// As [`Watcher::recv`].
    pub fn try_recv(&mut self) -> Option<Result<Arc<EventView>, Missed>> {
        self.mailbox.take()
    }

    /// What [`Watcher::recv`] would give, without waiting: as much as there is now, at most so many.
    pub fn take_waiting(&mut self, most: usize) -> Vec<Result<Arc<EventView>, Missed>> {
        let mut waiting = self.mailbox.waiting.lock();
        let taken = waiting.items.len().min(most);
        if taken == waiting.items.len() {
            waiting.counts.clear();
            return waiting.items.drain(..).map(Item::told).collect();
        }
        (0..taken).filter_map(|_| waiting.take()).collect()
    }

    /// Watches other pipelines from now on. Events that wait stay.
    pub fn change(&mut self, watched: Watched) {
        if watched == self.watched {
            return;
        }
        if let Some(hub) = self.hub.upgrade() {
            let mut watchers = hub.watchers.write();
            watchers.leave(&self.mailbox, &self.watched);
            watchers.enter(&self.mailbox, &watched);
        }
        self.watched = watched;
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        if let Some(hub) = self.hub.upgrade() {
            hub.watchers.write().leave(&self.mailbox, &self.watched);
        }
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let watchers = self.watchers.get_mut();
        for mailbox in watchers.of_all.iter().chain(watchers.of_one.values().flatten()) {
            mailbox.waiting.lock().closed = true;
            mailbox.news.notify_one();
        }
    }
}

impl From<PipelineId> for Watched {
    fn from(pipeline: PipelineId) -> Self {
        Self::Pipelines(BTreeSet::from([pipeline]))
    }
}

impl Watchers {
    /// Puts events of a pipeline into the mailboxes of those who watch it, if there are any.
    fn tell<I>(&self, pipeline_id: &PipelineId, backlog: usize, events: impl FnOnce() -> I)
    where
        I: Iterator<Item = EventView>,
    {
        let of_one = self.of_one.get(pipeline_id).map_or(&[][..], Vec::as_slice);
        let first = self.of_all.first().or(of_one.first());
        let Some(first) = first else { return };
        if self.of_all.len() + of_one.len() == 1 {
            return first.put(pipeline_id, events().map(Arc::new), backlog);
        }
        let events: Vec<_> = events().map(Arc::new).collect();
        for mailbox in self.of_all.iter().chain(of_one) {
            mailbox.put(pipeline_id, events.iter().map(Arc::clone), backlog);
        }
    }

    fn enter(&mut self, mailbox: &Arc<Mailbox>, watched: &Watched) {
        match watched {
            Watched::All => self.of_all.push(Arc::clone(mailbox)),
            Watched::Pipelines(pipelines) => {
                for pipeline in pipelines {
                    self.of_one.entry(pipeline.clone()).or_default().push(Arc::clone(mailbox));
                }
            }
        }
    }

    fn leave(&mut self, mailbox: &Arc<Mailbox>, watched: &Watched) {
        let others = |other: &Arc<Mailbox>| !Arc::ptr_eq(other, mailbox);
        match watched {
            Watched::All => self.of_all.retain(others),
            Watched::Pipelines(pipelines) => {
                for pipeline in pipelines {
                    let Some(mailboxes) = self.of_one.get_mut(pipeline) else { continue };
                    mailboxes.retain(others);
                    if mailboxes.is_empty() {
                        self.of_one.remove(pipeline);
                    }
                }
            }
        }
    }
}

impl Mailbox {
    /// Takes events of one pipeline in; there is at least one.
    fn put(&self, own: &PipelineId, events: impl Iterator<Item = Arc<EventView>>, backlog: usize) {
        let mut waiting = self.waiting.lock();
        let Waiting { items, counts, .. } = &mut *waiting;
        if !counts.contains_key(own) {
            counts.insert(own.clone(), 0);
        }
        if let Some(count) = counts.get_mut(own) {
            for event in events {
                if *count >= backlog {
                    items.retain(|item| item.pipeline() != own);
                    items.push_back(Item::Missed(own.clone()));
                    *count = 0;
                }
                *count += 1;
                items.push_back(Item::Event(event));
            }
        }
        drop(waiting);
        self.news.notify_one();
    }

    fn take(&self) -> Option<Result<Arc<EventView>, Missed>> {
        self.waiting.lock().take()
    }
}

impl Waiting {
    fn take(&mut self) -> Option<Result<Arc<EventView>, Missed>> {
        let Some(item) = self.items.pop_front() else { return self.closed.then_some(Err(Missed::All)) };
        if let Item::Event(event) = &item
            && let Some(count) = self.counts.get_mut(&event.pipeline_id)
        {
            *count -= 1;
            if *count == 0 {
                self.counts.remove(&event.pipeline_id);
            }
        }
        Some(item.told())
    }
}

impl Item {
    fn told(self) -> Result<Arc<EventView>, Missed> {
        match self {
            Self::Event(event) => Ok(event),
            Self::Missed(pipeline) => Err(Missed::Events(pipeline)),
        }
    }

    fn pipeline(&self) -> &PipelineId {
        match self {
            Self::Event(event) => &event.pipeline_id,
            Self::Missed(pipeline) => pipeline,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(pipeline: &str) -> PipelineId {
        pipeline.parse().unwrap()
    }

    fn tell(hub: &EventHub, pipeline: &str, seq: u64) {
        let event = Event { seq, timestamp: Timestamp::from_millis(0), fact: Fact::PipelinePause };
        hub.publish(EventView::of_run(id(pipeline), RunId::new(), event));
    }

    /// What waits: pipeline and number; 0 where events were missed.
    fn waiting(watcher: &mut Watcher) -> Vec<(String, u64)> {
        std::iter::from_fn(|| Some(watcher.take_waiting(3)).filter(|some| !some.is_empty()))
            .flatten()
            .map(|item| match item {
                Ok(event) => (event.pipeline_id.to_string(), event.event.seq),
                Err(Missed::Events(pipeline)) => (pipeline.to_string(), 0),
                Err(Missed::All) => panic!("closed"),
            })
            .collect()
    }

    fn told(pipeline: &str, seqs: impl IntoIterator<Item = u64>) -> Vec<(String, u64)> {
        seqs.into_iter().map(|seq| (pipeline.to_owned(), seq)).collect()
    }

    #[test]
    fn a_burst_of_one_pipeline_costs_nobody_an_event_of_another() {
        let hub = EventHub::new(4);
        let (mut quiet, mut loud) = (hub.watch(id("quiet").into()), hub.watch(id("loud").into()));
        let mut all = hub.watch(Watched::All);
        tell(&hub, "quiet", 1);
        for seq in 1..=1_000_000 {
            tell(&hub, "loud", seq);
        }
        tell(&hub, "quiet", 2);
        assert_eq!(waiting(&mut quiet), told("quiet", [1, 2]));
        let heard = waiting(&mut all);
        let of = |name: &str| heard.iter().filter(|(from, _)| from == name).cloned().collect::<Vec<_>>();
        assert_eq!(of("quiet"), told("quiet", [1, 2]));
        assert_eq!(of("loud"), told("loud", [0, 999_997, 999_998, 999_999, 1_000_000]));
        assert_eq!(waiting(&mut loud), told("loud", [0, 999_997, 999_998, 999_999, 1_000_000]));
        // Once it has caught up, nothing more is missed.
        tell(&hub, "loud", 7);
        assert_eq!(waiting(&mut loud), told("loud", [7]));
    }

    #[test]
    fn a_backlog_that_is_just_full_misses_nothing() {
        let hub = EventHub::new(4);
        let mut watcher = hub.watch(id("a").into());
        for seq in 1..=4 {
            tell(&hub, "a", seq);
        }
        assert_eq!(waiting(&mut watcher), told("a", 1..=4));
    }

    #[test]
    fn a_watcher_may_change_what_it_watches_and_is_forgotten_when_it_goes() {
        let hub = EventHub::new(4);
        let mut watcher = hub.watch(Watched::Pipelines(BTreeSet::new()));
        tell(&hub, "a", 1);
        watcher.change(id("a").into());
        tell(&hub, "a", 2);
        watcher.change(Watched::All);
        tell(&hub, "b", 1);
        watcher.change(Watched::Pipelines([id("a"), id("b")].into()));
        tell(&hub, "b", 2);
        watcher.change(id("b").into());
        tell(&hub, "a", 3);
        assert_eq!(waiting(&mut watcher), [told("a", [2]), told("b", [1, 2])].concat());
        drop(watcher);
        let watchers = hub.0.watchers.read();
        assert!(watchers.of_all.is_empty() && watchers.of_one.is_empty());
    }

    #[tokio::test]
    async fn who_waits_is_woken_by_an_event_and_by_the_end() {
        let hub = EventHub::new(4);
        let mut watcher = hub.watch(id("a").into());
        let waiting = tokio::spawn(async move {
            let first = watcher.recv().await.map(|event| event.event.seq);
            (first, watcher.recv().await.map(|event| event.event.seq))
        });
        tokio::task::yield_now().await;
        tell(&hub, "a", 1);
        tokio::task::yield_now().await;
        drop(hub);
        assert_eq!(waiting.await.unwrap(), (Ok(1), Err(Missed::All)));
    }
}
