//! What an engine is told at its start.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use taskiq_flow_core::definition::Amount;

use crate::gate::FiringGate;
use crate::hooks::BeforeStart;
use crate::resources::this_machine;
use crate::webhooks::Webhook;

/// How an engine runs. The defaults suit a server on a machine of its own.
#[derive(Debug, Clone)]
pub struct EngineOptions {
    /// Runs under way at once; further ones wait as `queued`. Runs that a step of another run waits for are not
    /// counted: if they were, the two could wait for each other.
    pub max_concurrent_runs: usize,
    /// Runs waiting to start; beyond this a request is refused. A pipeline that has as many of them as there are places
    /// left is refused, too: alone it can fill half, and others always find room.
    pub max_queued_runs: usize,
    /// Schedules of one pipeline, those of its definition included; beyond this a further one is refused. Those of
    /// definitions that the program brings are not.
    pub max_schedules: usize,
    /// How much there is of what tasks say that they take (`resources:`). A task that takes something else, or more,
    /// cannot run here. By default `cpu` and `memory` are what this machine has.
    pub resources: BTreeMap<Arc<str>, Amount>,
    /// Attempts under way at once in this process.
    pub max_concurrent_attempts: usize,
    /// Rust tasks that usually take no longer are called by the driver of their run itself, where attempts do not leave
    /// the process: to hand them to another thread would take longer (some 20 µs on most machines). One that blocks its
    /// thread all the same holds up all runs of that driver. Zero: none are.
    pub instant: Duration,
    /// Drivers of runs; each run has one.
    pub shards: usize,
    /// Events of one pipeline that a watcher may lag behind before it is told that it missed some.
    pub watcher_backlog: usize,
    /// Where other processes use the store too: how long they wait for a word of this one until they take its runs over. A
    /// third of it is the time between two words.
    pub lease: Duration,
    /// Runs that ended longer ago are removed; none: they are kept.
    pub retention: Option<Duration>,
    /// Of the runs that have ended so many are kept, those that ended last; none: any number. There may be a tenth more
    /// for a moment, and up to 100 more where that is little.
    pub retention_runs: Option<usize>,
    /// Values of tasks with `cache` that are kept; beyond this the oldest are removed. There may be a tenth more for a
    /// moment, and up to 100 more where that is little.
    pub max_cached_values: usize,
    /// Bytes of those values as JSON, in the same way; there may be a MiB more where a tenth is little.
    pub max_cached_bytes: u64,
    /// How long a shutdown waits for attempts under way. What is cut off is made again after the next start.
    pub drain: Duration,
    /// Bytes an attempt may print as its value, and bytes of an HTTP answer.
    pub max_output_bytes: usize,
    /// Bytes kept of what an attempt prints beside its value; the last ones.
    pub max_log_bytes: usize,
    /// Whether schedules fire. A one-off run of a pipeline file does not want them.
    pub schedules: bool,
    /// Who is asked before a schedule starts a run; none: nobody.
    pub firing_gate: Option<Arc<dyn FiringGate>>,
    /// Who is told of events over HTTP. None: nobody, and what pipelines say about it (`on_event`) has no effect.
    pub webhooks: Option<Vec<Webhook>>,
    /// What is done before anything starts.
    pub before_start: BeforeStart,
}

impl Default for EngineOptions {
    fn default() -> Self {
        Self {
            max_concurrent_runs: 1024,
            max_queued_runs: 10_000,
            max_schedules: 100,
            resources: this_machine(),
            max_concurrent_attempts: 256,
            instant: Duration::from_micros(10),
            shards: std::thread::available_parallelism().map_or(1, usize::from),
            watcher_backlog: 4096,
            lease: Duration::from_secs(30),
            retention: Some(Duration::from_secs(30 * 86_400)),
            retention_runs: None,
            max_cached_values: 100_000,
            max_cached_bytes: 1 << 30,
            drain: Duration::from_secs(3),
            max_output_bytes: 16 << 20,
            max_log_bytes: 64 << 10,
            schedules: true,
            firing_gate: None,
            webhooks: None,
            before_start: BeforeStart::default(),
        }
    }
}
