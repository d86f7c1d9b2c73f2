//! What runs cost the engine: three steps in a row, Rust tasks or expressions (W1), a map over 100 items and a join (W2), layered graphs (W3); in
//! memory and in a file whose every commit waits for the disk. Beside them stands what the disk, SQLite and tokio do alone, in the
//! same run. Prints one line for each figure. Run: `cargo bench -p taskiq-flow-bench --bench engine`; `SECONDS` sets how long a
//! figure is measured. Each workload has a process of its own, in which what it is compared with is measured too. Words after
//! `--` say which are measured, in one process: those whose name has one of them, such as `-- 'W1 memory' W2`.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a measurement that cannot go on has failed")]

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rusqlite::Connection;
use serde_json::{Map, Value, json};
use taskiq_flow_broker::{Broker, InMemoryBroker, TaskError};
use taskiq_flow_core::load::load_json;
use taskiq_flow_core::run::RunStatus;
use taskiq_flow_engine::{Engine, EngineOptions, Missed, Submission, SystemClock};
use taskiq_flow_store::{MemoryStore, SqliteOptions, SqliteStore, Store, Trigger};

/// The allocator of the program.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Turns in which runs and the disk alone are measured.
const TURNS: u32 = 10;
/// Tasks of a wave where tokio is measured alone.
const WAVE: u32 = 1000;
/// Runs in flight where throughput is measured.
const IN_FLIGHT: usize = 100;
/// Tasks of a layer of W3, and what each needs of the layer before.
const WIDTH: usize = 100;
const FAN_IN: [usize; 3] = [0, 7, 31];
/// Runs of each graph.
const LAYERED_RUNS: usize = 11;
/// Runs of one transaction where SQLite is measured alone; rows and bytes of such a run, as the engine writes them.
const BATCH: usize = 64;
const EVENTS: i64 = 8;
const RUN_BYTES: usize = 600;
const EVENT_BYTES: usize = 160;

/// Sizes of the layered graphs.
const LAYERED: [usize; 5] = [10, 100, 1_000, 10_000, 100_000];

fn main() {
    let seconds = std::env::var("SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(3.0);
    let long = Duration::from_secs_f64(seconds);
    let words: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    if words.is_empty() {
        return each_by_itself();
    }
    let wanted = |name: &str| words.iter().any(|word| name.contains(word.as_str()));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        println!(
            "tokio alone, tasks spawned and joined in waves of {WAVE}: {:.0} tasks/s",
            tokio_alone(long).await
        );
        for tasks in LAYERED {
            if wanted(&format!("W3 memory: {tasks} tasks")) {
                layers(tasks, long).await;
            }
        }
        for name in ["memory", "strict"] {
            let (steps, map) = (format!("W1 {name}"), format!("W2 {name}"));
            if !wanted(&steps) && !wanted(&map) {
                continue;
            }
            let folder = tempfile::tempdir().unwrap();
            // The last of all: what it has written goes to the disk for a while after it.
            let durable = (name == "strict").then(|| Durable::measured(folder.path(), long));
            let store: Arc<dyn Store> = match &durable {
                None => Arc::new(MemoryStore::new()),
                Some(_) => {
                    Arc::new(SqliteStore::open(SqliteOptions::new(folder.path().join("runs.db"))).unwrap())
                }
            };
            let engine = engine(store).await;
            if wanted(&map) {
                println!(
                    "{map}: map of 100 and join p50 {:?}",
                    median(latencies(&engine, "map", long).await)
                );
            }
            if wanted(&steps) {
                for (pipeline, what) in [("three", "Rust tasks"), ("sums", "expressions")] {
                    three_steps(&engine, pipeline, &format!("{steps}, {what}"), long, durable.as_ref()).await;
                }
            }
            engine.shutdown().await;
        }
    });
}

/// Measures every workload in a process of its own, as its peers were measured: what others have left in memory, in the
/// processor's caches and to be written to the disk would be measured with it.
fn each_by_itself() {
    let in_memory = ["W1 memory", "W2 memory"].map(str::to_owned);
    let layered = LAYERED.iter().map(|tasks| format!("W3 memory: {tasks} tasks"));
    let durable = ["W2 strict", "W1 strict"].map(str::to_owned);
    for workload in in_memory.into_iter().chain(layered).chain(durable) {
        println!("# {workload}");
        let done = Command::new(std::env::current_exe().unwrap()).arg(&workload).status().unwrap();
        assert!(done.success(), "{workload}: {done}");
    }
}

/// What the disk and SQLite do by themselves.
struct Durable {
    disk: Disk,
    /// Runs a second that SQLite keeps.
    runs: f64,
}

impl Durable {
    fn measured(folder: &Path, long: Duration) -> Self {
        let disk = Disk::new(&folder.join("sync"));
        println!("fdatasync of 4 KiB: p50 {:?}", median(disk.syncs(500)));
        let runs = sqlite_alone(&folder.join("alone.db"), long);
        println!("SQLite alone, {BATCH} runs a transaction, strict: {runs:.0} runs/s");
        Self { disk, runs }
    }
}

async fn three_steps(
    engine: &Engine,
    pipeline: &'static str,
    name: &str,
    long: Duration,
    durable: Option<&Durable>,
) {
    match durable {
        None => println!("{name}: one at a time p50 {:?}", median(latencies(engine, pipeline, long).await)),
        Some(Durable { disk, .. }) => {
            let (latency, sync) = beside_syncs(engine, pipeline, long, disk).await;
            let syncs = latency.as_secs_f64() / sync.as_secs_f64();
            println!("{name}: one at a time p50 {latency:?} = {syncs:.1} fdatasyncs of {sync:?}");
        }
    }
    let tasks = tokio_alone(long / TURNS).await;
    let rate = throughput(engine, pipeline, long).await;
    let of_tokio = 100.0 * rate / tasks;
    let of_sqlite =
        durable.map(|Durable { runs, .. }| format!("{:.0} % of SQLite alone, ", 100.0 * rate / runs));
    println!(
        "{name}: {IN_FLIGHT} in flight {rate:.0} runs/s = {}{of_tokio:.1} % of the tasks of tokio alone",
        of_sqlite.unwrap_or_default()
    );
}

async fn layers(tasks: usize, long: Duration) {
    let engine = engine(Arc::new(MemoryStore::new())).await;
    let rate = tokio_alone(long / TURNS).await;
    let times = layered(&engine, tasks).await;
    let (first, took) = (times[0], median(times));
    let each = |took: Duration| took / u32::try_from(tasks).unwrap();
    let alone = took.as_secs_f64() * rate / tasks as f64;
    println!(
        "W3 memory: {tasks} tasks p50 {took:?} = {:?} a task = {alone:.1} tasks of tokio alone; the first run {:?} a task",
        each(took),
        each(first)
    );
    engine.shutdown().await;
}

/// One block of 4 KiB of a file that has its length already.
struct Disk(File);

impl Disk {
    fn new(path: &Path) -> Self {
        let file = File::create(path).unwrap();
        file.write_all_at(&[1; 4096], 0).unwrap();
        file.sync_all().unwrap();
        Self(OpenOptions::new().write(true).open(path).unwrap())
    }

    /// How long the block takes to the disk, so many times: from the call that writes it to the end of `fdatasync`.
    fn syncs(&self, times: u16) -> Vec<Duration> {
        let once = |n: u16| {
            let begun = Instant::now();
            self.0.write_all_at(&[n.to_le_bytes()[0]; 4096], 0).unwrap();
            self.0.sync_data().unwrap();
            begun.elapsed()
        };
        (0..times).map(once).collect()
    }
}

/// Runs per second that SQLite keeps by itself: rows of the engine's size, its indexes left out.
fn sqlite_alone(path: &Path, long: Duration) -> f64 {
    let mut connection = Connection::open(path).unwrap();
    connection.pragma_update(None, "journal_mode", "WAL").unwrap();
    connection.pragma_update(None, "synchronous", "FULL").unwrap();
    connection
        .execute_batch(
            "CREATE TABLE runs (id INTEGER PRIMARY KEY, body BLOB);
             CREATE TABLE events (run INTEGER, seq INTEGER, body BLOB, PRIMARY KEY (run, seq)) WITHOUT ROWID;",
        )
        .unwrap();
    let (run, event) = (vec![b'r'; RUN_BYTES], vec![b'e'; EVENT_BYTES]);
    let (begun, mut kept) = (Instant::now(), 0_i64);
    while begun.elapsed() < long {
        let transaction = connection.transaction().unwrap();
        for _ in 0..BATCH {
            transaction
                .prepare_cached("INSERT INTO runs VALUES (?, ?)")
                .unwrap()
                .execute((kept, &run))
                .unwrap();
            let mut insert = transaction.prepare_cached("INSERT INTO events VALUES (?, ?, ?)").unwrap();
            for seq in 0..EVENTS {
                insert.execute((kept, seq, &event)).unwrap();
            }
            kept += 1;
        }
        transaction.commit().unwrap();
    }
    kept as f64 / begun.elapsed().as_secs_f64()
}

async fn engine(store: Arc<dyn Store>) -> Engine {
    let broker = InMemoryBroker::new();
    broker.registry().register("nothing", |_| async { Ok::<_, TaskError>(Value::Null) });
    broker.registry().register("add", |call| async move {
        let sum = call.inputs.iter().filter_map(|(_, value)| value.as_i64()).fold(1, i64::wrapping_add);
        Ok::<_, TaskError>(json!(sum))
    });
    let definitions = json!([
        {"id": "three", "tasks": [
            {"name": "a", "task": "nothing"},
            {"name": "b", "task": "nothing", "inputs": ["a"]},
            {"name": "c", "task": "nothing", "inputs": ["b"]},
        ]},
        {"id": "sums", "tasks": [
            {"name": "a", "expression": "1"},
            {"name": "b", "expression": "a + 1", "inputs": ["a"]},
            {"name": "c", "expression": "b + 1", "inputs": ["b"]},
        ]},
        {"id": "map", "inputs": {"xs": {"type": "array"}}, "tasks": [
            {"name": "ys", "inputs": ["xs"], "map": {"over": "xs", "as": "x", "task": "add"}},
            {"name": "sum", "inputs": ["ys"], "expression": "ys | sum"},
        ]},
    ]);
    let pipelines = load_json(definitions).unwrap_or_else(|errors| panic!("{errors}"));
    let options = EngineOptions { schedules: false, ..EngineOptions::default() };
    Engine::start(store, Arc::new(broker), Arc::new(SystemClock), options, pipelines).await.unwrap()
}

/// One run from the request to its end.
async fn run(engine: &Engine, pipeline: &str) {
    let mut parameters = Map::new();
    if pipeline == "map" {
        parameters.insert("xs".to_owned(), (0..100).collect());
    }
    let submission = Submission {
        pipeline_id: pipeline.parse().unwrap(),
        parameters,
        idempotency_key: None,
        priority: None,
        trigger: Trigger::Request { principal: "bench".into() },
    };
    let (_, mut ending) = engine.submit_to_end(submission, None).await.unwrap();
    let view = ending.wait(Duration::from_secs(60)).await.unwrap().unwrap();
    assert_eq!(view.status, RunStatus::Completed, "{:?}", view.error);
}

/// Tasks that do nothing, spawned and joined in waves, a second: the pace of this machine, and the most that an engine
/// on tokio could do if all that it did were to spawn its tasks.
async fn tokio_alone(long: Duration) -> f64 {
    let waves = tokio::spawn(async move {
        let (begun, mut tasks) = (Instant::now(), 0_u32);
        while begun.elapsed() < long {
            let wave: Vec<_> = (0..WAVE).map(|_| tokio::spawn(async {})).collect();
            for task in wave {
                task.await.unwrap();
            }
            tasks += WAVE;
        }
        f64::from(tasks) / begun.elapsed().as_secs_f64()
    });
    waves.await.unwrap()
}

/// The medians of runs one after the other and of the disk alone, in turns: a shared machine changes its pace from one second to the
/// next.
async fn beside_syncs(
    engine: &Engine,
    pipeline: &'static str,
    long: Duration,
    disk: &Disk,
) -> (Duration, Duration) {
    let (mut runs, mut syncs) = (Vec::new(), Vec::new());
    for _ in 0..TURNS {
        runs.extend(latencies(engine, pipeline, long / TURNS).await);
        syncs.extend(disk.syncs(100));
    }
    (median(runs), median(syncs))
}

/// What runs one after the other take. Who asks is a task of the runtime, as a connection of the server is.
async fn latencies(engine: &Engine, pipeline: &'static str, long: Duration) -> Vec<Duration> {
    let engine = engine.clone();
    let asking = tokio::spawn(async move {
        let (begun, mut took) = (Instant::now(), Vec::new());
        while begun.elapsed() < long {
            let begun = Instant::now();
            run(&engine, pipeline).await;
            took.push(begun.elapsed());
        }
        took
    });
    asking.await.unwrap()
}

async fn throughput(engine: &Engine, pipeline: &'static str, long: Duration) -> f64 {
    let begun = Instant::now();
    let mut clients = tokio::task::JoinSet::new();
    for _ in 0..IN_FLIGHT {
        let engine = engine.clone();
        clients.spawn(async move {
            let mut runs = 0_u32;
            while begun.elapsed() < long {
                run(&engine, pipeline).await;
                runs += 1;
            }
            runs
        });
    }
    let runs: u32 = clients.join_all().await.into_iter().sum();
    f64::from(runs) / begun.elapsed().as_secs_f64()
}

/// The times of runs of a layered graph one after the other, with somebody who watches their events. The first is of tasks of which
/// nothing is known yet, in memory that was never used.
async fn layered(engine: &Engine, tasks: usize) -> Vec<Duration> {
    let task = |place: usize| {
        let (layer, column, width) = (place / WIDTH, place % WIDTH, WIDTH.min(tasks));
        let mut needs: Vec<_> = match layer {
            0 => Vec::new(),
            _ => FAN_IN
                .iter()
                .map(|step| format!("t{}", (layer - 1) * WIDTH + (column + step) % width))
                .collect(),
        };
        needs.dedup();
        json!({"name": format!("t{place}"), "task": "add", "inputs": needs})
    };
    let definition = json!({"id": "layered", "tasks": (0..tasks).map(task).collect::<Vec<_>>()});
    for pipeline in load_json(definition).unwrap_or_else(|errors| panic!("{errors}")) {
        engine.register(pipeline, taskiq_flow_store::Origin::Program).await.unwrap();
    }
    let id: taskiq_flow_core::id::PipelineId = "layered".parse().unwrap();
    let mut watcher = engine.watch(id);
    let watching = tokio::spawn(async move { while !matches!(watcher.recv().await, Err(Missed::All)) {} });
    let mut times = Vec::new();
    for _ in 0..LAYERED_RUNS {
        let begun = Instant::now();
        run(engine, "layered").await;
        times.push(begun.elapsed());
    }
    watching.abort();
    times
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}
