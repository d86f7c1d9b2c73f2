//! `trigger`: starts a run on a server.

use std::process::ExitCode;

use reqwest::Method;
use serde_json::{Map, Value, json};
use taskiq_flow::core::id::RunId;

use crate::args::TriggerArgs;
use crate::commands;
use crate::commands::outcome::conclude;
use crate::commands::parameters::parameters;
use crate::commands::runs::watch::{self, Output};
use crate::output::{Failure, cell, json as print_json, line, note};
use crate::remote::{Answer, Remote};

/// For how long the server is asked to hold an answer back, in seconds: less than an answer may take.
const HOLD: u32 = 30;

pub(crate) fn run(args: TriggerArgs) -> Result<ExitCode, Failure> {
    commands::runtime()?.block_on(trigger(args))
}

async fn trigger(args: TriggerArgs) -> Result<ExitCode, Failure> {
    let remote = Remote::new(&args.remote)?;
    let schema = match args.params.is_empty() {
        true => Value::Null,
        false => schema(&remote, args.pipeline.as_str()).await?,
    };
    let start = Start {
        remote: &remote,
        pipeline: args.pipeline.as_str(),
        parameters: parameters(args.input.as_deref(), &args.params, &schema)?,
        // To wait is to ask again, which must not start another run.
        key: args.idempotency_key.or_else(|| args.wait.then(|| format!("cli-{}", RunId::new()))),
    };
    let answer = start.ask(None).await?;
    let replayed = answer.headers.contains_key("idempotency-replayed");
    let accepted = answer.accepted()?;
    let run_id = accepted["run_id"].as_str().unwrap_or_default();
    if replayed {
        note(format!(
            "this key has started the run {} before; no other was started",
            cell(&accepted["run_id"])
        ));
    }
    if !args.wait {
        if args.json {
            print_json(&accepted);
        } else {
            line(cell(&accepted["run_id"]));
        }
        return Ok(ExitCode::SUCCESS);
    }
    if !args.quiet {
        note(format!("run {}", cell(&accepted["run_id"])));
    }
    match watch::may_read(&remote, run_id).await? {
        Some(view) => {
            let output = if args.quiet { Output::Nothing } else { Output::Progress };
            let ended = watch::follow(&remote, run_id, view, output).await?;
            Ok(conclude(&ended, args.json))
        }
        None => start.wait(args.json).await,
    }
}

/// The schema of the pipeline's parameters; null when the caller may start it and not read it.
pub(crate) async fn schema(remote: &Remote, pipeline: &str) -> Result<Value, Failure> {
    let answer = remote.send(Method::GET, &["pipelines", pipeline], &[], None).await?;
    if answer.status == 403 {
        return Ok(Value::Null);
    }
    Ok(answer.accepted()?["inputs"].take())
}

/// What a run is started with.
struct Start<'a> {
    remote: &'a Remote,
    pipeline: &'a str,
    parameters: Map<String, Value>,
    key: Option<String>,
}

impl Start<'_> {
    /// Starts the run, or finds the one that was started with the same key; the answer is held back until it has ended,
    /// at most so many seconds.
    async fn ask(&self, hold: Option<u32>) -> Result<Answer, Failure> {
        let mut body = json!({ "parameters": self.parameters });
        if let Some(seconds) = hold {
            body["wait"] = json!(true);
            body["timeout"] = json!(seconds);
        }
        let path = ["pipelines", self.pipeline, "execute"];
        let mut request = self.remote.request(Method::POST, &path, &[]).json(&body);
        if let Some(key) = &self.key {
            request = request.header("idempotency-key", key);
        }
        self.remote.answer(request).await
    }

    /// Waits for the end of a run that the caller may start and not look at: by asking for the same run again. What it came
    /// to is told, its result is not.
    async fn wait(&self, whole: bool) -> Result<ExitCode, Failure> {
        loop {
            let answer = self.ask(Some(HOLD)).await?;
            let ended = answer.status == 200;
            let view = answer.accepted()?;
            if ended {
                return Ok(conclude(&view, whole));
            }
        }
    }
}
