//! Following a run of a server by its events.

use std::collections::HashSet;
use std::time::Duration;

use reqwest::Method;
use serde_json::Value;
use taskiq_flow::core::run::Fact;

use crate::commands::progress::Progress;
use crate::output::{Failure, cell, line};
use crate::remote::{Remote, StreamEnd};

/// How soon a lost connection is made again: the first wait, and the longest.
const WAITS: [Duration; 2] = [Duration::from_millis(500), Duration::from_secs(15)];
/// How often in a row it is tried in vain: about five minutes.
const TRIES: u32 = 25;

/// What is told while the run is followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Output {
    /// How it gets on, on standard error.
    Progress,
    /// Every event, as a line of JSON on standard output.
    Events,
    Nothing,
}

/// The run as it is now; none: the caller may not read it.
pub(crate) async fn may_read(remote: &Remote, run_id: &str) -> Result<Option<Value>, Failure> {
    let answer = remote.send(Method::GET, &["runs", run_id], &[], None).await?;
    if answer.status == 403 {
        return Ok(None);
    }
    answer.accepted().map(Some)
}

/// Follows a run, whose state was `view`, until it has ended; gives its last state. A lost connection is made again, and
/// goes on behind the last event that came.
pub(crate) async fn follow(
    remote: &Remote,
    run_id: &str,
    view: Value,
    output: Output,
) -> Result<Value, Failure> {
    let steps = view["total_steps"].as_u64().unwrap_or_default();
    let progress = Progress::new(steps, output != Output::Progress);
    let mut teller = Teller { remote, run_id, output, progress, waits: waiting_steps(&view) };
    let followed = teller.follow_events().await;
    teller.progress.finish();
    followed?;
    remote.call(Method::GET, &["runs", run_id], None).await
}

/// Tells the events of one run.
struct Teller<'a> {
    remote: &'a Remote,
    run_id: &'a str,
    output: Output,
    progress: Progress,
    /// The steps that wait for somebody once they start.
    waits: HashSet<String>,
}

impl Teller<'_> {
    async fn follow_events(&mut self) -> Result<(), Failure> {
        let path = ["runs", self.run_id, "events"];
        let (mut last, mut tries, mut wait) = (None::<String>, 0, WAITS[0]);
        loop {
            let failure = match self.remote.stream(&path, last.as_deref()).await {
                Ok(mut stream) => {
                    while let Some(message) = stream.next().await {
                        (tries, wait) = (0, WAITS[0]);
                        if !message.id.is_empty() {
                            last = Some(message.id);
                        }
                        if self.tell(&message.data).await {
                            return Ok(());
                        }
                    }
                    Failure::failed("the connection broke off")
                }
                Err(StreamEnd::Over) => return Ok(()),
                Err(StreamEnd::Refused(failure)) => return Err(failure),
                Err(StreamEnd::Lost(failure)) => failure,
            };
            if tries == 0 && self.output != Output::Nothing {
                self.progress.note(&format!("{}; trying again", failure.message));
            }
            tries += 1;
            if tries >= TRIES {
                let Failure { code, message } = failure;
                let message = format!(
                    "{message}\n  the run may go on: follow it again with `runs watch {}`",
                    self.run_id
                );
                return Err(Failure { code, message });
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(WAITS[1]);
        }
    }

    /// Tells one event; gives whether it was the last.
    async fn tell(&mut self, data: &str) -> bool {
        if self.output == Output::Events {
            line(data);
        }
        // A newer server may have events that are not known here.
        let Ok(fact) = serde_json::from_str::<Fact>(data) else { return false };
        let hint = match &fact {
            Fact::StepStart { step, .. } if self.waits.contains(&*step.step) => {
                self.awaited(&step.step).await
            }
            _ => None,
        };
        self.progress.tell(&fact, hint.as_deref());
        fact.ends_run()
    }

    /// What a step that waits waits for.
    async fn awaited(&self, step: &str) -> Option<String> {
        let view = self.remote.call(Method::GET, &["runs", self.run_id], None).await.ok()?;
        let mut steps = view["steps"].as_array()?.iter();
        let signal = cell(steps.find(|row| row["id"] == step)?.get("waits_for")?);
        Some(format!("waits for signal `{signal}`; send it with `runs signal {} {signal} JSON`", self.run_id))
    }
}

fn waiting_steps(view: &Value) -> HashSet<String> {
    let steps = view["steps"].as_array().into_iter().flatten();
    let waits = steps.filter(|step| step["kind"] == "wait");
    waits.filter_map(|step| step["id"].as_str().map(str::to_owned)).collect()
}
