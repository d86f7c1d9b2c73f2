//! Callbacks of the program that the engine is in: told of events, each at its own pace.
//!
//! Each hook has a watcher and a task of its own. What it does delays neither the engine nor another hook, and a panic in
//! it ends nothing but that call. What must reach somebody whatever happens is a matter for webhooks, whose events are
//! kept until they are taken.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::FutureExt;
use parking_lot::Mutex;
use taskiq_flow_core::run::EventView;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::filter::EventFilter;
use crate::handle::Engine;
use crate::hub::{Missed, Watcher};

/// Events that a hook takes at once.
const BATCH: usize = 256;

/// A callback that is told of events. Dropping this leaves it in place.
#[derive(Debug, Clone)]
pub struct Hook {
    stop: CancellationToken,
    tally: Arc<Tally>,
}

/// What is done with the engine before it starts anything, such as setting hooks that are to see everything.
#[derive(Clone, Default)]
pub struct BeforeStart(Arc<Mutex<Vec<Preparation>>>);

type Preparation = Box<dyn FnOnce(&Engine) + Send>;

#[derive(Debug, Default)]
struct Tally {
    told: AtomicU64,
    panics: AtomicU64,
    gaps: AtomicU64,
}

/// The hooks of an engine.
#[derive(Debug)]
pub(crate) struct Hooks {
    tasks: TaskTracker,
    closing: CancellationToken,
    runtime: Handle,
}

/// Takes the events of one hook.
struct Listener {
    watcher: Watcher,
    filter: EventFilter,
    stop: CancellationToken,
    closing: CancellationToken,
    tally: Arc<Tally>,
}

impl Hook {
    /// Stops it: no further call begins. One that is under way ends by itself.
    pub fn stop(&self) {
        self.stop.cancel();
    }

    /// How many events it was told of.
    pub fn told(&self) -> u64 {
        self.tally.told.load(Ordering::Relaxed)
    }

    /// How many of its calls panicked.
    pub fn panics(&self) -> u64 {
        self.tally.panics.load(Ordering::Relaxed)
    }

    /// How often it was so far behind that events were left out
    /// ([`EngineOptions::watcher_backlog`](crate::EngineOptions::watcher_backlog)). [`Engine::events`] reads those of a run.
    pub fn gaps(&self) -> u64 {
        self.tally.gaps.load(Ordering::Relaxed)
    }
}

impl Engine {
    /// Calls back for each event that passes the filter, from now on, one after another and in order within a pipeline.
    /// The events are durable. The callback may block: it has a thread while it is called.
    ///
    /// ```
    /// # use std::sync::Arc;
    /// # use taskiq_flow_engine::{Engine, EngineOptions, EventFilter, SystemClock};
    /// # tokio::runtime::Runtime::new().unwrap().block_on(async {
    /// # let store = Arc::new(taskiq_flow_store::MemoryStore::new());
    /// # let broker = Arc::new(taskiq_flow_broker::InMemoryBroker::new());
    /// let engine = Engine::start(store, broker, Arc::new(SystemClock), EngineOptions::default(), Vec::new()).await?;
    /// let failures = EventFilter::all().types(["PipelineErrorEvent"])?;
    /// let hook = engine.on(failures, |event| println!("a run of {} has failed", event.pipeline_id));
    /// // As long as it is wanted.
    /// hook.stop();
    /// # engine.shutdown().await;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # }).unwrap();
    /// ```
    pub fn on(&self, filter: EventFilter, mut callback: impl FnMut(&EventView) + Send + 'static) -> Hook {
        self.listen(filter, async move |mut listener| {
            while let Some(events) = listener.next().await {
                let (stop, tally) = (listener.stop.clone(), Arc::clone(&listener.tally));
                let called = tokio::task::spawn_blocking(move || {
                    for event in &events {
                        if stop.is_cancelled() {
                            break;
                        }
                        let called = std::panic::catch_unwind(AssertUnwindSafe(|| callback(event)));
                        tally.count(called.is_ok(), event);
                    }
                    callback
                });
                match called.await {
                    Ok(back) => callback = back,
                    // The runtime is shutting down.
                    Err(_) => return,
                }
            }
        })
    }

    /// As [`Engine::on`], with a callback that is awaited. It must not block its thread.
    ///
    /// ```
    /// # use std::sync::Arc;
    /// # use taskiq_flow_engine::{Engine, EngineOptions, EventFilter, SystemClock};
    /// # tokio::runtime::Runtime::new().unwrap().block_on(async {
    /// # let store = Arc::new(taskiq_flow_store::MemoryStore::new());
    /// # let broker = Arc::new(taskiq_flow_broker::InMemoryBroker::new());
    /// # let engine = Engine::start(store, broker, Arc::new(SystemClock), EngineOptions::default(), Vec::new()).await?;
    /// let (told, _news) = tokio::sync::mpsc::channel(16);
    /// engine.on_async(EventFilter::all().pipelines(["audio_*"])?, move |event| {
    ///     let told = told.clone();
    ///     async move { _ = told.send(event).await }
    /// });
    /// # engine.shutdown().await;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # }).unwrap();
    /// ```
    pub fn on_async<F>(
        &self,
        filter: EventFilter,
        mut callback: impl FnMut(Arc<EventView>) -> F + Send + 'static,
    ) -> Hook
    where
        F: Future<Output = ()> + Send,
    {
        self.listen(filter, async move |mut listener| {
            while let Some(events) = listener.next().await {
                for event in events {
                    if listener.stop.is_cancelled() {
                        return;
                    }
                    let call = AssertUnwindSafe(async { callback(Arc::clone(&event)).await });
                    let called = call.catch_unwind().await;
                    listener.tally.count(called.is_ok(), &event);
                }
            }
        })
    }

    fn listen<F>(&self, filter: EventFilter, listen: impl FnOnce(Listener) -> F) -> Hook
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let hooks = &self.0.hooks;
        let hook = Hook { stop: CancellationToken::new(), tally: Arc::default() };
        let listener = Listener {
            watcher: self.watch(filter.watched()),
            filter,
            stop: hook.stop.clone(),
            closing: hooks.closing.clone(),
            tally: Arc::clone(&hook.tally),
        };
        hooks.tasks.spawn_on(listen(listener), &hooks.runtime);
        hook
    }
}

impl Hooks {
    /// Those of an engine on the runtime at hand.
    pub(crate) fn new() -> Self {
        Self { tasks: TaskTracker::new(), closing: CancellationToken::new(), runtime: Handle::current() }
    }

    /// Lets hooks take what has happened, for at most `limit`.
    pub(crate) async fn close(&self, limit: Duration) {
        self.closing.cancel();
        self.tasks.close();
        if tokio::time::timeout(limit, self.tasks.wait()).await.is_err() {
            tracing::warn!("a hook has not ended in time; what it was not told of it will not be");
        }
    }
}

impl Listener {
    /// The next events that pass, at least one; none: there are no more.
    async fn next(&mut self) -> Option<Vec<Arc<EventView>>> {
        let mut events = Vec::new();
        while events.is_empty() {
            let mut item = match self.watcher.try_recv() {
                Some(item) => item,
                None => tokio::select! {
                    biased;
                    () = self.stop.cancelled() => return None,
                    item = self.watcher.recv() => item,
                    () = self.closing.cancelled() => return None,
                },
            };
            loop {
                match item {
                    Ok(event) if self.filter.passes(&event) => events.push(event),
                    Ok(_) => {}
                    Err(Missed::Events(pipeline)) => self.tally.missed(&pipeline),
                    Err(Missed::All) => return Some(events).filter(|events| !events.is_empty()),
                }
                if events.len() >= BATCH {
                    break;
                }
                match self.watcher.try_recv() {
                    Some(next) => item = next,
                    None => break,
                }
            }
        }
        Some(events)
    }
}

impl Tally {
    fn count(&self, returned: bool, event: &EventView) {
        self.told.fetch_add(1, Ordering::Relaxed);
        if !returned {
            self.panics.fetch_add(1, Ordering::Relaxed);
            metrics::counter!("taskiq_flow_hook_panics_total").increment(1);
            let (pipeline_id, kind) = (&event.pipeline_id, event.event.fact.type_name());
            tracing::error!(%pipeline_id, event = kind, "a hook panicked");
        }
    }

    fn missed(&self, pipeline: &taskiq_flow_core::id::PipelineId) {
        self.gaps.fetch_add(1, Ordering::Relaxed);
        metrics::counter!("taskiq_flow_hook_gaps_total").increment(1);
        tracing::warn!(pipeline_id = %pipeline, "a hook was too slow and has missed events of this pipeline");
    }
}

impl BeforeStart {
    /// Adds something to be done.
    pub fn add(&self, preparation: impl FnOnce(&Engine) + Send + 'static) {
        self.0.lock().push(Box::new(preparation));
    }

    pub(crate) fn carry_out(&self, engine: &Engine) {
        let preparations = std::mem::take(&mut *self.0.lock());
        preparations.into_iter().for_each(|prepare| prepare(engine));
    }
}

impl std::fmt::Debug for BeforeStart {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("BeforeStart").field(&self.0.lock().len()).finish()
    }
}
