//! Rust tasks in a pipeline of both worlds: finds the largest files of a folder, in this process, without a server.
//!
//! ```sh
//! cargo run -p taskiq-flow --example folder_report -- crates
//! ```

#![allow(clippy::print_stdout, reason = "an example shows what it found")]

use std::error::Error;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::json;
use taskiq_flow::broker::Broker;
use taskiq_flow::engine::{Engine, EngineOptions, Submission, SystemClock};
use taskiq_flow::pipeline::{Pipeline, expr};
use taskiq_flow::store::{MemoryStore, Trigger};
use taskiq_flow::{InMemoryBroker, task};

/// A file and its size in bytes.
#[derive(Debug, Serialize, Deserialize)]
struct Entry {
    path: PathBuf,
    bytes: u64,
}

/// Walks a folder. It is not `async`: it runs where blocking does no harm.
#[task(output = "entries", timeout = "1m")]
fn walk(folder: PathBuf) -> Result<Vec<Entry>, std::io::Error> {
    let (mut folders, mut entries) = (vec![folder], Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder)? {
            let entry = entry?;
            let metadata = entry.metadata()?;
            if metadata.is_dir() {
                folders.push(entry.path());
            } else {
                entries.push(Entry { path: entry.path(), bytes: metadata.len() });
            }
        }
    }
    Ok(entries)
}

/// The largest, largest first.
#[task(output = "largest")]
async fn largest(mut entries: Vec<Entry>, top: usize) -> Vec<Entry> {
    entries.sort_by_key(|entry| std::cmp::Reverse(entry.bytes));
    entries.truncate(top);
    entries
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let folder = std::env::args().nth(1).unwrap_or_else(|| ".".to_owned());
    let broker = InMemoryBroker::new();
    let pipeline = Pipeline::dataflow("folder-report")
        .input("folder", "string")
        .input("top", json!({ "type": "integer", "default": 5 }))
        .task(walk)
        .task(largest)
        .task(expr("total", "entries | map(attribute='bytes') | sum").inputs(["entries"]))
        .build_with(broker.registry())?;
    let pipeline_id = pipeline.id.clone();

    let (store, clock) = (Arc::new(MemoryStore::new()), Arc::new(SystemClock));
    let engine =
        Engine::start(store, Arc::new(broker), clock, EngineOptions::default(), vec![pipeline]).await?;
    let parameters = [("folder".to_owned(), json!(folder))].into_iter().collect();
    let trigger = Trigger::Request { principal: "example".to_owned() };
    let run = engine
        .submit(Submission { pipeline_id, parameters, idempotency_key: None, priority: None, trigger })
        .await?;
    let Some(view) = engine.wait(run.run_id, Duration::from_secs(60)).await? else {
        return Err("the folder takes more than a minute to walk".into());
    };
    match (view.result, view.error) {
        (Some(result), _) => println!("{result:#}"),
        (None, error) => println!("{}: {error:?}", view.status),
    }
    engine.shutdown().await;
    Ok(())
}
