//! What a store of many finished runs costs: a start on it, and lists of its runs with every filter, the first page and
//! deep ones, statistics. Prints one line for each figure. Run: `cargo bench -p taskiq-flow-bench --bench store`; `RUNS` sets how many
//! runs there are.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a measurement that cannot go on has failed")]

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Map, json};
use taskiq_flow_core::id::{PipelineId, RunId};
use taskiq_flow_core::run::{Event, Fact, RunError, RunStatus, StepRef};
use taskiq_flow_core::time::Timestamp;
use taskiq_flow_store::{
    Append, Beside, Durability, Fence, Retention, RunFilter, RunRecord, RunSummary, RunWrite, SqliteOptions,
    SqliteStore, Store, Trigger,
};
use uuid::Uuid;

/// The allocator of the program.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Pipelines that the runs are of. The first one has half of them, and none of those failed; the last one has one run in
/// a thousand.
const PIPELINES: usize = 50;
/// Runs written together.
const BATCH: usize = 256;
/// Runs of a page, and lists of one kind that are timed.
const PAGE: usize = 50;
const LISTS: usize = 200;

fn main() {
    let runs = std::env::var("RUNS").ok().and_then(|text| text.parse().ok()).unwrap_or(1_000_000);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("runs.db");
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let begun = Instant::now();
        let ids = fill(&path, runs).await;
        let took = begun.elapsed();
        let bytes = std::fs::metadata(&path).unwrap().len();
        println!(
            "{runs} runs written in {took:.1?}, {:.0}/s; {} bytes a run",
            runs as f64 / took.as_secs_f64(),
            bytes / runs as u64
        );
        let begun = Instant::now();
        let store = SqliteStore::open(SqliteOptions::new(&path)).unwrap();
        let unfinished = store.claim(Uuid::now_v7(), Timestamp::now(), Timestamp::MAX, 256).await.unwrap();
        println!("start: {:.1?}, {} unfinished runs taken up", begun.elapsed(), unfinished.len());
        lists(&store, &ids).await;
        let begun = Instant::now();
        let found = store.statistics(&pipeline(0), None, None, 100_000).await.unwrap();
        println!("statistics of {} runs: {:.1?}", found.durations.len(), begun.elapsed());
        let begun = Instant::now();
        let before = Timestamp::from_millis(i64::MAX);
        let pruned = store.prune(Retention::before(before), 10_000).await.unwrap();
        println!("{pruned} runs removed in {:.1?}", begun.elapsed());
        store.close().await;
    });
}

/// The pipeline and the end of a run, by rule.
fn kind(number: usize) -> (usize, RunStatus) {
    let pipeline = match number {
        _ if number.is_multiple_of(1000) => PIPELINES - 1,
        _ if number.is_multiple_of(2) => 0,
        _ => 1 + number / 2 % (PIPELINES - 2),
    };
    let status = match number / 2 % 100 {
        _ if pipeline == 0 => RunStatus::Completed,
        0..96 => RunStatus::Completed,
        96..98 => RunStatus::Failed,
        98 => RunStatus::Cancelled,
        _ => RunStatus::TimedOut,
    };
    (pipeline, status)
}

fn pipeline(number: usize) -> PipelineId {
    format!("pipeline-{number}").parse().unwrap()
}

/// Writes so many finished runs of three steps. Their ids, oldest first.
async fn fill(path: &Path, runs: usize) -> Vec<RunId> {
    let options = SqliteOptions { durability: Durability::Relaxed, ..SqliteOptions::new(path) };
    let store = SqliteStore::open(options).unwrap();
    let owner = Uuid::now_v7();
    let mut ids = Vec::with_capacity(runs);
    let mut number = 0;
    while number < runs {
        let mut writes = Vec::with_capacity(2 * BATCH);
        for _ in 0..BATCH.min(runs - number) {
            let (pipeline_number, status) = kind(number);
            let run = record(pipeline(pipeline_number), number);
            ids.push(run.run_id);
            let end = Append {
                run_id: run.run_id,
                fence: Fence { owner, token: 1 },
                events: events(number).into(),
                logs: Vec::new(),
                summary: ended(status, number),
                durations: Vec::new(),
                beside: Beside::default(),
            };
            writes.push(RunWrite::Create { run: Box::new(run), owner, firing: None, replays: None });
            writes.push(RunWrite::Append(Box::new(end)));
            number += 1;
        }
        assert!(store.write(writes).await.unwrap().iter().all(Result::is_ok));
    }
    store.close().await;
    ids
}

fn record(pipeline_id: PipelineId, number: usize) -> RunRecord {
    let parameters = Map::from_iter([("order".to_owned(), json!(number))]);
    let trigger = Trigger::Request { principal: "bench".to_owned() };
    RunRecord::queued(RunId::new(), pipeline_id, 1, parameters, trigger, Timestamp::now())
}

fn ended(status: RunStatus, number: usize) -> RunSummary {
    let now = Some(Timestamp::now());
    let failure = || RunError {
        step: Some("b".into()),
        attempt: Some(1),
        message: "exit code 3".into(),
        timed_out: false,
        not_undone: Vec::new(),
    };
    RunSummary {
        status,
        started_at: now,
        finished_at: now,
        error: (status != RunStatus::Completed).then(failure),
        result: (status == RunStatus::Completed).then(|| Arc::new(json!({"c": number}))),
    }
}

fn events(number: usize) -> Vec<Event> {
    let step = |place: u32| {
        let name: Arc<str> = ["a", "b", "c"][place as usize].into();
        StepRef::new(place, place, Arc::clone(&name), name)
    };
    let mut facts = vec![Fact::PipelineStart { task_count: 3 }];
    for place in 0..3 {
        facts.push(Fact::StepStart {
            step: step(place),
            attempt: 1,
            max_attempts: 1,
            wait_ms: 0,
            items: None,
            cache: None,
            chunk: None,
        });
        let result = Arc::new(json!(number));
        facts.push(Fact::StepComplete {
            step: step(place),
            attempt: 1,
            duration_ms: 1,
            result,
            cached: false,
        });
    }
    facts.push(Fact::PipelineComplete { result: Arc::new(json!({"c": number})), duration_ms: 3 });
    let now = Timestamp::now();
    facts.into_iter().zip(1..).map(|(fact, seq)| Event { seq, timestamp: now, fact }).collect()
}

async fn lists(store: &SqliteStore, ids: &[RunId]) {
    let part = |numerator: usize| ids[ids.len() / 100 * numerator];
    let (all, half, rare) = (None, Some(pipeline(0)), Some(pipeline(PIPELINES - 1)));
    let some: Vec<PipelineId> = (0..PIPELINES).map(pipeline).collect();
    let (first, last) = (time_of(ids[0]), time_of(ids[ids.len() - 1]));
    let middle = |percent: u32| first.plus(last.since(first) * percent / 100);
    let statuses = [
        None,
        Some(RunStatus::Completed),
        Some(RunStatus::Failed),
        Some(RunStatus::TimedOut),
        Some(RunStatus::Running),
    ];
    for (name, pipeline) in [("all pipelines", all), ("half of all runs", half), ("a thousandth", rare)] {
        for status in statuses {
            for (page, before) in
                [("first page", None), ("half down", Some(part(50))), ("at the end", Some(part(1)))]
            {
                let pipelines = pipeline.clone().map(|id| vec![id]);
                let filter = RunFilter { pipelines, status, before, limit: PAGE, ..RunFilter::default() };
                let status = status.map_or("any state".to_owned(), |status: RunStatus| status.to_string());
                timed(store, &format!("{name}, {status}, {page}"), filter).await;
            }
        }
    }
    for status in [None, Some(RunStatus::Failed)] {
        let (since, until) = (Some(middle(40)), Some(middle(41)));
        let filter = RunFilter { status, since, until, limit: PAGE, ..RunFilter::default() };
        timed(store, &format!("a hundredth of the time, {status:?}"), filter.clone()).await;
        let filter = RunFilter { pipelines: Some(some.clone()), ..filter };
        timed(store, &format!("a hundredth of the time, {status:?}, {PIPELINES} pipelines"), filter).await;
    }
    let begun = Instant::now();
    let newest = store.last_runs(&some).await.unwrap();
    println!("the newest run of each of {} pipelines: {:.2?}", newest.len(), begun.elapsed());
}

fn time_of(id: RunId) -> Timestamp {
    let mut millis = [0; 8];
    millis[2..].copy_from_slice(&id.as_bytes()[..6]);
    Timestamp::from_millis(i64::from_be_bytes(millis))
}

async fn timed(store: &SqliteStore, name: &str, filter: RunFilter) {
    let (mut took, mut found) = (Vec::with_capacity(LISTS), 0);
    for _ in 0..LISTS {
        let begun = Instant::now();
        found = store.runs(filter.clone()).await.unwrap().len();
        took.push(begun.elapsed());
    }
    took.sort_unstable();
    let longest: Duration = took[LISTS - 1];
    println!("list, {name}: {found} runs, p50 {:.2?}, longest {longest:.2?}", took[LISTS / 2]);
}
