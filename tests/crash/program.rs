//! A program of somebody who has put the library into it, with a Rust task of its own. It takes the arguments of `serve` that the
//! test kit gives.

use std::error::Error;
use std::fs::File;
use std::io::Write;
use std::path::PathBuf;

use parking_lot::Mutex;
use serde_json::json;
use taskiq_flow::broker::{Broker as _, TaskError};
use taskiq_flow::config::Sources;
use taskiq_flow::{InMemoryBroker, create_visualization_api, stop_signal};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip_while(|argument| argument != "--port").skip(1);
    let port = arguments.next().ok_or("--port PORT is missing")?;
    let pipelines: Vec<PathBuf> = arguments.skip(1).map(PathBuf::from).collect();
    let effects = std::env::var("EFFECTS")?;
    let effects = Mutex::new(File::options().append(true).open(effects)?);

    let broker = InMemoryBroker::new();
    // As the commands of the other loads, it leaves a line behind. Nearly always it is over in an instant.
    broker.registry().register("note", move |call| {
        let of = call.context;
        let line = format!("{} {} {}\n", of.run_id, of.step, of.attempt);
        let written = effects.lock().write_all(line.as_bytes());
        async move { written.map(|()| json!(1)).map_err(|error| TaskError::new(error.to_string())) }
    });
    let config = Sources::of_process().set("port", port, "--port").load()?.config;
    let api = create_visualization_api(broker, config);
    let api = pipelines.into_iter().try_fold(api, |api, path| api.load(path))?;
    tokio::runtime::Runtime::new()?.block_on(async {
        let server = api.start().await?;
        let listener = server.bind().await?;
        server.serve_on(listener, stop_signal()).await;
        Ok(())
    })
}
