//! Holding on to runs in a store that other processes use too.
//!
//! A lease says until when this process is taken to be alive. It is renewed at a third of its length, and each time runs of
//! processes that are not heard of any more are taken over. Once it may have run out, whatever this process drives may be
//! another's: it lets go of all of it, stops its attempts, and begins anew as another owner. A store of one process alone is
//! never asked: nothing is done while nothing happens.

use std::sync::{Arc, Weak};
use std::time::Duration;

use taskiq_flow_core::time::Timestamp;
use tokio::time::Instant;
use uuid::Uuid;

use crate::handle::{Engine, Inner};
use crate::recovery::Left;

/// Into how many parts a lease is cut: after one it is renewed; where that fails, again after a part of a part.
const PARTS: u32 = 3;

/// Keeps the lease of an engine, if its store asks for that. To be called when unfinished runs have been taken up.
pub(crate) fn spawn(engine: &Engine, begun: Instant) {
    if !engine.0.store.is_shared() {
        return;
    }
    let (stop, lease) = (engine.0.stop.clone(), engine.0.options.lease);
    let weak = Arc::downgrade(&engine.0);
    let mut keeper = Keeper { engine: weak, lease, lasts_until: Some(begun + lease), left: Vec::new() };
    engine.0.tasks.spawn(async move {
        let mut pause = lease / PARTS;
        loop {
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = stop.cancelled() => return,
            }
            let kept = tokio::select! {
                kept = keeper.keep() => kept,
                () = stop.cancelled() => return,
            };
            pause = if kept { lease / PARTS } else { lease / PARTS / PARTS };
        }
    });
}

impl Engine {
    /// Until when this process is taken to be alive, if it says so now.
    pub(crate) fn lease_until(&self, now: Timestamp) -> Timestamp {
        if self.0.store.is_shared() { now.plus(self.0.options.lease) } else { Timestamp::MAX }
    }

    /// Has others take over what is left without waiting for the end of the lease.
    pub(crate) async fn give_up_lease(&self) {
        if self.0.store.is_shared()
            && let Err(error) = self.0.store.renew(self.0.shards.owner(), self.0.clock.now()).await
        {
            tracing::warn!(%error, "the lease could not be given up; others wait for its end");
        }
    }
}

struct Keeper {
    engine: Weak<Inner>,
    lease: Duration,
    /// At least until then nobody else takes over what this process drives; none: it has no lease.
    lasts_until: Option<Instant>,
    /// Runs that are to be taken up still.
    left: Vec<Left>,
}

impl Keeper {
    /// Whether the lease was renewed, or had anew.
    async fn keep(&mut self) -> bool {
        let Some(engine) = self.engine.upgrade().map(Engine) else { return true };
        let Some(lasts_until) = self.lasts_until else { return self.take_over(&engine).await };
        // Attempts are to have stopped when others begin them.
        let last_moment = lasts_until.checked_sub(self.lease / PARTS / PARTS).unwrap_or(lasts_until);
        let until = engine.lease_until(engine.0.clock.now());
        let renewing = engine.0.store.renew(engine.0.shards.owner(), until);
        match tokio::time::timeout_at(last_moment, renewing).await {
            Ok(Ok(true)) => return self.take_over(&engine).await,
            Ok(Ok(false)) => {
                tracing::error!("this process was not heard of, and others may have taken over its runs");
            }
            Ok(Err(error)) if Instant::now() < last_moment => {
                tracing::warn!(%error, "the lease on runs could not be renewed");
                return false;
            }
            Ok(Err(error)) => {
                tracing::error!(%error, "the lease on runs could not be renewed before its end")
            }
            Err(_) => tracing::error!("the store did not answer before the end of the lease on runs"),
        }
        self.begin_anew(&engine).await
    }

    /// Lets go of all runs, and takes up as another owner what nobody holds.
    async fn begin_anew(&mut self, engine: &Engine) -> bool {
        self.lasts_until = None;
        self.left.clear();
        // At once: a shard that waits for the store lets go of its runs when it answers.
        engine.0.inflight.lose_all();
        engine.0.shards.abandon(Uuid::now_v7()).await;
        self.take_over(engine).await
    }

    /// Takes up what nobody holds, which has the lease last anew. Whether it does, and nothing is left to be taken up.
    async fn take_over(&mut self, engine: &Engine) -> bool {
        match engine.recover(&mut self.left).await {
            Ok(begun) => {
                self.lasts_until = Some(begun + self.lease);
                self.left.is_empty()
            }
            Err(error) => {
                tracing::warn!(%error, "runs that nobody drives could not be taken up");
                false
            }
        }
    }
}
