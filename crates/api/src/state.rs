//! What every handler shares.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use taskiq_flow_engine::Engine;
use taskiq_flow_security::Administration;
use taskiq_flow_security::guard::Guard;
use tokio::sync::{Mutex, MutexGuard, OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use crate::meters::Meters;
use crate::options::ApiOptions;

/// The engine, the administration with its guard, and the options behind a router. Clones are the same.
#[derive(Debug, Clone)]
pub struct AppState(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    engine: Engine,
    administration: Administration,
    options: ApiOptions,
    description: fn() -> &'static Value,
    meters: Meters,
    streams: Arc<Semaphore>,
    closing: CancellationToken,
    /// Held while the configuration is read and put in force: what was read first must not be put in force last.
    reloading: Mutex<()>,
}

impl AppState {
    /// Of options that have been checked, and of where the OpenAPI document is found.
    pub(crate) fn of(
        engine: Engine,
        administration: Administration,
        options: ApiOptions,
        description: fn() -> &'static Value,
    ) -> Self {
        let streams = Arc::new(Semaphore::new(options.websocket_max_connections.min(Semaphore::MAX_PERMITS)));
        let closing = CancellationToken::new();
        let (meters, reloading) = (Meters::new(), Mutex::default());
        Self(Arc::new(Inner {
            engine,
            administration,
            options,
            description,
            meters,
            streams,
            closing,
            reloading,
        }))
    }

    /// The engine.
    pub fn engine(&self) -> &Engine {
        &self.0.engine
    }

    /// The guard.
    pub fn guard(&self) -> &Guard {
        self.0.administration.guard()
    }

    /// What changes keys and access lists.
    pub fn administration(&self) -> &Administration {
        &self.0.administration
    }

    /// The options.
    pub fn options(&self) -> &ApiOptions {
        &self.0.options
    }

    /// The OpenAPI document.
    pub(crate) fn description(&self) -> &'static Value {
        (self.0.description)()
    }

    /// What counts answers.
    pub(crate) fn meters(&self) -> &Meters {
        &self.0.meters
    }

    /// Tells WebSockets and event streams to close, and waits for them, at most `deadline`. No new one is accepted.
    /// Part of a shutdown, before or while [`crate::serve()`] drains.
    pub async fn close_streams(&self, deadline: Duration) {
        self.0.closing.cancel();
        let all = u32::try_from(self.0.options.websocket_max_connections).unwrap_or(u32::MAX);
        // The only errors are the deadline and a closed semaphore: nothing is left to wait for either way.
        let _ = tokio::time::timeout(deadline, self.0.streams.acquire_many(all)).await;
        self.0.streams.close();
    }

    /// The turn of whoever reads the configuration again.
    pub(crate) async fn reloading(&self) -> MutexGuard<'_, ()> {
        self.0.reloading.lock().await
    }

    /// Cancelled when streams are to close.
    pub(crate) fn closing(&self) -> &CancellationToken {
        &self.0.closing
    }

    /// Room for one more WebSocket or event stream; none when as many as may be are open.
    pub(crate) fn open_stream(&self) -> Option<StreamSlot> {
        if self.0.closing.is_cancelled() {
            return None;
        }
        let permit = Arc::clone(&self.0.streams).try_acquire_owned().ok()?;
        metrics::gauge!("taskiq_flow_open_streams").increment(1.0);
        Some(StreamSlot { _permit: permit })
    }
}

/// The room of one open stream, given back when it is dropped.
#[derive(Debug)]
pub(crate) struct StreamSlot {
    _permit: OwnedSemaphorePermit,
}

impl Drop for StreamSlot {
    fn drop(&mut self) {
        metrics::gauge!("taskiq_flow_open_streams").decrement(1.0);
    }
}
