//! Watching a run of an engine in this process.

use std::collections::HashMap;
use std::time::Duration;

use taskiq_flow::core::id::RunId;
use taskiq_flow::core::run::{EventView, Fact};
use taskiq_flow::engine::{Engine, Missed, Watcher};
use tokio::task::JoinHandle;

use crate::commands::progress::Progress;

/// Shows the progress of a run until it ends.
pub(super) struct Watching(Option<JoinHandle<()>>);

/// The signals that steps wait for and nobody has sent, by the name of the step.
pub(super) type Awaited = HashMap<String, String>;

impl Watching {
    pub(super) async fn start(
        engine: &Engine,
        run_id: RunId,
        watcher: Watcher,
        awaited: Awaited,
        quiet: bool,
    ) -> Self {
        if quiet {
            return Self(None);
        }
        let steps = engine.run(run_id).await.map_or(0, |view| u64::from(view.total_steps));
        Self(Some(tokio::spawn(show(Progress::new(steps, false), run_id, watcher, awaited))))
    }

    pub(super) async fn finish(self) {
        if let Some(task) = self.0 {
            // It ends with the run's last event; a second is plenty to print what is left.
            let _ = tokio::time::timeout(Duration::from_secs(1), task).await;
        }
    }
}

async fn show(mut progress: Progress, run_id: RunId, mut watcher: Watcher, awaited: Awaited) {
    loop {
        match watcher.recv().await {
            Ok(event) if event.run_id == Some(run_id) => {
                progress.tell(&event.event.fact, hint(&event, &awaited).as_deref());
                if event.event.fact.ends_run() {
                    break;
                }
            }
            Ok(_) | Err(Missed::Events(_)) => {}
            Err(Missed::All) => break,
        }
    }
    progress.finish();
}

fn hint(event: &EventView, awaited: &Awaited) -> Option<String> {
    let Fact::StepStart { step, .. } = &event.event.fact else { return None };
    let signal = awaited.get(&*step.step)?;
    Some(format!("waits for signal `{signal}`; give it with --signal {signal}=JSON, or stop with Ctrl-C"))
}
